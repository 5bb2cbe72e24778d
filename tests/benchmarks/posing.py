"""posing: frames in memory, float32, superposed in place on one reference, centered on the geometric center; and laid
along their own principal axes, which none of the others does; both by the compiled pass of the extra `fast`, where that
is installed, and `by JAX`, superposed without it. In multiples of the time that it takes to copy the array once, by one
thread; the others take as many as they can. mdtraj is `Trajectory.superpose`, MDAnalysis `AlignTraj(in_memory=True)`,
on a hundredth of the frames (its time is in proportion to them). Largest difference: of atoms, from what NumPy's
singular value decomposition gives in float64 for a thousand of the frames.
"""

import importlib.util
import unittest.mock
import warnings

import jax.numpy as jnp
import mdtraj as md
import numpy as np
from synthetic import carbons, tumbling
from timing import in_turns, ratio

from mdvae.alignment import PrincipalAxes, Superposition, pose

SHAPES = ((100_000, 22), (50_000, 214), (10_000, 3341))


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


def posed_by_jax(alignment, frames):
    """As where Numba is not installed."""
    with unittest.mock.patch("mdvae.alignment._numba_posing", return_value=None):
        pose(alignment, frames)


def posing():
    names = f"{'mdvae':>10}{'principal':>10}{'by JAX':>10}{'mdtraj':>10}{'MDAnalysis':>11}"
    print(f"{'':18}{'copy/ms':>10}{names}   largest difference/nm")
    for n_frames, n_atoms in SHAPES:
        frames, reference = tumbling(n_frames, n_atoms)
        expected = superposed_by_numpy(frames[:1000], reference)
        weights, few = jnp.ones(n_atoms), n_frames // 100
        ours, others, principal, by_jax, copied = (frames.copy() for _ in range(5))
        superposition, axes = (kind(weights, jnp.asarray(reference)) for kind in (Superposition, PrincipalAxes))
        theirs, result = of_mdtraj(others, reference)
        jobs = {
            "copy": lambda copied=copied, frames=frames: np.copyto(copied, frames),
            "mdvae": lambda one=superposition, ours=ours: pose(one, ours),
            "principal": lambda one=axes, ours=principal: pose(one, ours),
            "by JAX": lambda one=superposition, ours=by_jax: posed_by_jax(one, ours),
            "mdtraj": theirs,
            "MDAnalysis": of_mdanalysis(frames[:few], reference),
        }
        seconds, _ = in_turns(jobs)
        columns = [ratio(seconds, name, "copy") for name in ("mdvae", "principal", "by JAX", "mdtraj")]
        columns.append(" " + ratio(seconds, "MDAnalysis", "copy", n_frames / few))
        # Posed over and over, as all of them are here, what was rounded adds up: once is what is compared.
        once = frames[:1000].copy()
        pose(superposition, once)
        apart = ", ".join(f"{np.abs(xyz - expected).max():.1e}" for xyz in (once, result()[:1000]))
        print(
            f"({n_frames:6d}, {n_atoms:4d}) {1000 * seconds['copy']:12.1f}" + "".join(columns) + f"   {apart}",
            flush=True,
        )
