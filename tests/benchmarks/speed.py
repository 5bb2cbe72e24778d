"""How fast, beside others who do the same: timed in turns in one run, medians, as ratios.

    python tests/benchmarks/speed.py posing

posing: frames in memory, float32, superposed in place on one reference, centered on the geometric center; and laid
along their own principal axes, which none of the others does. In multiples of the time that it takes to copy the array
once. mdtraj is `Trajectory.superpose`, MDAnalysis `AlignTraj(in_memory=True)`, on a hundredth of the frames (its time
is in proportion to them). Largest difference: of atoms, from what NumPy's singular value decomposition gives in float64
for a thousand of the frames.

Peers are in `peers.txt`; one that is not installed leaves a dash.
"""

import argparse
import importlib.util
import os
import platform
import time
import warnings

import jax
import jax.numpy as jnp
import mdtraj as md
import numpy as np

from mdvae.alignment import PrincipalAxes, Superposition, pose

N_TURNS = 5
SHAPES = ((100_000, 22), (50_000, 214), (10_000, 3341))


def in_turns(jobs, n_turns=N_TURNS):
    """Median seconds of each job, and of its first call; jobs that are None are missing."""
    first, seconds = {}, {name: [] for name, job in jobs.items() if job is not None}
    for turn in range(n_turns + 1):
        for name in seconds:
            started = time.perf_counter()
            jobs[name]()
            took = time.perf_counter() - started
            if turn:
                seconds[name].append(took)
            else:
                first[name] = took
    return {name: float(np.median(values)) for name, values in seconds.items()}, first


def ratio(seconds, name, unit, factor=1.0):
    return f"{factor * seconds[name] / seconds[unit]:10.1f}" if name in seconds else f"{'–':>10}"


def tumbling(n_frames, n_atoms, seed=0):
    """Frames of one structure that shakes, tumbles and drifts, and the structure, centered; nm, float32."""
    rng = np.random.default_rng(seed)
    structure = np.cumsum(rng.normal(scale=0.1, size=(n_atoms, 3)), axis=0)
    structure -= structure.mean(axis=0)
    frames = np.empty((n_frames, n_atoms, 3), np.float32)
    for first in range(0, n_frames, 1000):
        block = frames[first : first + 1000]
        turns, _ = np.linalg.qr(rng.normal(size=(len(block), 3, 3)))
        turns[:, :, 0] *= np.linalg.det(turns)[:, None]
        shaken = structure + rng.normal(scale=0.05, size=block.shape)
        block[:] = shaken @ turns + rng.normal(scale=2, size=(len(block), 1, 3))
    return frames, structure.astype(np.float32)


def superposed_by_numpy(frames, reference):
    """The textbook's way, in float64."""
    centered = frames.astype(np.float64) - frames.mean(axis=1, keepdims=True, dtype=np.float64)
    u, _, vt = np.linalg.svd(np.einsum("fai,aj->fij", centered, reference.astype(np.float64)))
    u[:, :, -1] *= np.linalg.det(u @ vt)[:, None]
    return centered @ u @ vt


def of_mdtraj(frames, reference):
    topology = md.Topology()
    chain = topology.add_chain()
    for _ in range(len(reference)):
        topology.add_atom("C", md.element.carbon, topology.add_residue("X", chain))
    target = md.Trajectory(reference[None], topology)
    trajectory = md.Trajectory(frames, topology)
    return lambda: trajectory.superpose(target), lambda: trajectory.xyz


def of_mdanalysis(frames, reference):
    if importlib.util.find_spec("MDAnalysis") is None:
        return None
    import MDAnalysis
    from MDAnalysis.analysis.align import AlignTraj
    from MDAnalysis.coordinates.memory import MemoryReader

    def universe(positions):
        made = MDAnalysis.Universe.empty(len(reference), trajectory=True)
        made.load_new(np.ascontiguousarray(10 * positions), format=MemoryReader)
        return made

    mobile, target = universe(frames), universe(reference[None])

    def align():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            AlignTraj(mobile, target, in_memory=True).run()

    return align


def posing():
    print(
        f"{'':18}{'copy/ms':>10}{'mdvae':>10}{'principal':>10}{'mdtraj':>10}{'MDAnalysis':>11}   largest difference/nm"
    )
    for n_frames, n_atoms in SHAPES:
        frames, reference = tumbling(n_frames, n_atoms)
        expected = superposed_by_numpy(frames[:1000], reference)
        weights, few = jnp.ones(n_atoms), n_frames // 100
        ours, others, principal, copied = (frames.copy() for _ in range(4))
        superposition, axes = (kind(weights, jnp.asarray(reference)) for kind in (Superposition, PrincipalAxes))
        theirs, result = of_mdtraj(others, reference)
        jobs = {
            "copy": lambda copied=copied, frames=frames: np.copyto(copied, frames),
            "mdvae": lambda one=superposition, ours=ours: pose(one, ours),
            "principal": lambda one=axes, ours=principal: pose(one, ours),
            "mdtraj": theirs,
            "MDAnalysis": of_mdanalysis(frames[:few], reference),
        }
        seconds, _ = in_turns(jobs)
        columns = [ratio(seconds, name, "copy") for name in ("mdvae", "principal", "mdtraj")]
        columns.append(" " + ratio(seconds, "MDAnalysis", "copy", n_frames / few))
        # Posed over and over, as all of them are here, what was rounded adds up: once is what is compared.
        once = frames[:1000].copy()
        pose(superposition, once)
        apart = ", ".join(f"{np.abs(xyz - expected).max():.1e}" for xyz in (once, result()[:1000]))
        print(
            f"({n_frames:6d}, {n_atoms:4d}) {1000 * seconds['copy']:12.1f}" + "".join(columns) + f"   {apart}",
            flush=True,
        )


SECTIONS = {"posing": posing}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="+", choices=SECTIONS)
    chosen = parser.parse_args().sections
    print(f"{platform.machine()}, {os.cpu_count()} cores; jax {jax.__version__} on {jax.default_backend()}")
    for name in chosen:
        SECTIONS[name]()


if __name__ == "__main__":
    main()
