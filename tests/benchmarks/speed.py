"""How fast, beside others who do the same: timed in turns in one run, medians, as ratios.

    python tests/benchmarks/speed.py posing reading

posing: frames in memory, float32, superposed in place on one reference, centered on the geometric center; and laid
along their own principal axes, which none of the others does. In multiples of the time that it takes to copy the array
once. mdtraj is `Trajectory.superpose`, MDAnalysis `AlignTraj(in_memory=True)`, on a hundredth of the frames (its time
is in proportion to them). Largest difference: of atoms, from what NumPy's singular value decomposition gives in float64
for a thousand of the frames.

reading: a file of about 1 GB (decoded) to an array of superposed frames. mdvae is `read`, with what it reports of jumps
and gaps; mdtraj is `load`, then `Trajectory.superpose`. Both superpose on the mean structure that `read` has found, and
neither makes molecules whole. Floor: decoding alone, by mdtraj's file objects, a chunk at a time, nothing kept. In
seconds. Largest difference: between the two results. Peak: memory of a process of its own that reads and does nothing
else; in brackets what of it is more than the result and what the process holds once it has read a single frame.

Peers are in `peers.txt`; one that is not installed leaves a dash.
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import mdtraj as md
import numpy as np

import mdvae
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
    topology = carbons(len(reference))
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


READ = """
import json, resource, sys
import mdtraj, mdvae

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

path, top, select = sys.argv[1:]
options = {"top": top, "select": select or None, "periodic": False, "center": "geometry"}
mdvae.read(mdtraj.load_frame(path, 0, top=top), **options | {"top": None})
before = peak()
frames = mdvae.read(path, **options)
print(json.dumps([peak(), before, frames.coordinates.nbytes / 2**20]))
"""


def peak_of_reading(path, top, select=""):
    done = subprocess.run([sys.executable, "-c", READ, path, top, select], check=True, capture_output=True, text=True)
    # Chatter of mdtraj's DCD reader comes first.
    peak, before, result = json.loads(done.stdout.splitlines()[-1])
    return f"{peak:8.0f} MB ({peak - before - result:.0f})"


def carbons(n_atoms):
    topology = md.Topology()
    chain = topology.add_chain()
    for _ in range(n_atoms):
        topology.add_atom("C", md.element.carbon, topology.add_residue("GLY", chain))
    return topology


def written(path, frames, n_frames):
    """The same frames again and again, until there are so many."""
    factor = 10 if path.suffix == ".dcd" else 1
    with md.open(str(path), "w") as file:
        for first in range(0, n_frames, len(frames)):
            file.write(factor * frames[: n_frames - first])


def decoded(path, n_atoms):
    with md.open(str(path)) as file:
        while len(file.read(n_frames=max(1, 2**23 // (12 * n_atoms)))[0]):
            pass


def reading():
    print(
        f"{'':22}{'floor':>8}{'mdvae':>8}{'mdtraj':>8}{'ratio':>7}   largest difference/nm, peak, of 1 % of the atoms"
    )
    for n_atoms in (214, 3341):
        n_frames = 10**9 // (12 * n_atoms)
        frames, structure = tumbling(min(n_frames, 5000), n_atoms)
        with tempfile.TemporaryDirectory() as folder:
            top = str(Path(folder) / "top.pdb")
            md.Trajectory(structure[None], carbons(n_atoms)).save_pdb(top)
            for ending in ("xtc", "dcd"):
                path = Path(folder) / f"run.{ending}"
                written(path, frames, n_frames)
                print(read_by_all(path, top, n_frames, n_atoms), flush=True)
                path.unlink()


def read_by_all(path, top, n_frames, n_atoms):
    results = {}

    def ours():
        results.pop("mdvae", None)
        results["mdvae"] = mdvae.read(path, top=top, periodic=False, center="geometry")

    def theirs():
        results.pop("mdtraj", None)
        target = md.Trajectory(np.asarray(results["mdvae"].alignment.reference)[None], md.load_topology(top))
        results["mdtraj"] = md.load(str(path), top=top).superpose(target)

    seconds, _ = in_turns({"mdvae": ours, "mdtraj": theirs, "floor": lambda: decoded(path, n_atoms)})
    every = max(1, n_frames // 1000)
    apart = np.abs(results["mdvae"].coordinates[::every] - results["mdtraj"].xyz[::every]).max()
    few = f"index < {max(4, n_atoms // 100)}"
    return (
        f"{path.suffix[1:]} ({n_frames:6d}, {n_atoms:4d})  "
        + "".join(f"{seconds[name]:8.2f}" for name in ("floor", "mdvae", "mdtraj"))
        + f"{seconds['mdtraj'] / seconds['mdvae']:7.1f}   {apart:.1e}"
        + f"{peak_of_reading(path, top)}{peak_of_reading(path, top, few)}"
    )


SECTIONS = {"posing": posing, "reading": reading}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="+", choices=SECTIONS)
    chosen = parser.parse_args().sections
    print(f"{platform.machine()}, {os.cpu_count()} cores; jax {jax.__version__} on {jax.default_backend()}")
    for name in chosen:
        SECTIONS[name]()


if __name__ == "__main__":
    main()
