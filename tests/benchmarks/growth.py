"""growth: milliseconds, median of three turns, as frames, atoms or latent dimensions become three and nine times as
many, and the power of them that fits best (the slope of the logarithms; what takes as long at any size lowers it). From
22 atoms, two latent dimensions, and the number of frames that each first line names. Reading is of XTC files, training
`train`, ensemble `train_ensemble` of two models; networks, batches and epochs as in size M of `training`. What does not
know latent dimensions has no line.
"""

import dataclasses
import functools
import tempfile
from pathlib import Path

import jax.numpy as jnp
import mdtraj as md
import numpy as np
from sizes import SIZES
from synthetic import carbons, helices, written
from timing import in_turns
from training import posed, settings

import mdvae
from mdvae.alignment import Superposition, pose
from mdvae.latent.encoding import encode_posed

FACTORS = (1, 3, 9)
BASE = {"frames": None, "atoms": 22, "latent_dim": 2}
N_TURNS = 3


def repeated(xyz, n_frames):
    """The same frames again and again, until there are so many."""
    return np.resize(xyz, (n_frames, *xyz.shape[1:]))


def of_posing(frames, atoms, latent_dim):
    xyz = repeated(helices(5000, atoms), frames)
    superposition = Superposition(jnp.ones(atoms), jnp.asarray(xyz[0] - xyz[0].mean(axis=0)))
    return lambda: pose(superposition, xyz)


def of_reading(folder, frames, atoms, latent_dim):
    path, top = (Path(folder) / f"{frames}-{atoms}.{ending}" for ending in ("xtc", "pdb"))
    xyz = helices(min(frames, 5000), atoms)
    md.Trajectory(xyz[:1], carbons(atoms)).save_pdb(str(top))
    written(path, xyz, frames)
    return lambda: mdvae.read(path, top=top, periodic=False, center="geometry")


def sized(frames, atoms, latent_dim):
    return dataclasses.replace(SIZES["M"], n_samples=frames, n_features=3 * atoms, latent_dim=latent_dim)


def built(size, frames, seed=0):
    spec = {"latent_dim": size.latent_dim, "hidden": size.hidden, "residual": False}
    return mdvae.build(frames, seed=seed, **spec)


def of_training(n_models, frames, atoms, latent_dim):
    size = sized(frames, atoms, latent_dim)
    read = posed(size)
    models = [built(size, read, seed) for seed in range(n_models)]
    return lambda: mdvae.train_ensemble(models, read, **settings(size, 0))


def of_encoding(frames, atoms, latent_dim):
    size = sized(frames, atoms, latent_dim)
    few = posed(dataclasses.replace(size, n_samples=1000))
    model = built(size, few)
    xyz = repeated(few.coordinates, frames)
    return lambda: encode_posed(model, xyz)


def power(seconds):
    return np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0]


def growth():
    print(f"{'':32}" + "".join(f"{f'x {factor}':>9}" for factor in FACTORS) + f"{'power':>8}")
    with tempfile.TemporaryDirectory() as folder:
        # Each with the frames that it starts from: as many as take some milliseconds.
        verbs = {
            "posing": (of_posing, 100_000),
            "reading": (functools.partial(of_reading, folder), 20_000),
            "encoding": (of_encoding, 100_000),
            "training": (functools.partial(of_training, 1), 12_800),
            # Two models compile nothing that one has not.
            "ensemble": (functools.partial(of_training, 2), 12_800),
        }
        for verb, (prepare, n_frames) in verbs.items():
            for axis in BASE if verb not in ("posing", "reading") else ("frames", "atoms"):
                print(row(verb, prepare, BASE | {"frames": n_frames}, axis), flush=True)


def row(verb, prepare, base, axis):
    jobs = {factor: prepare(**base | {axis: factor * base[axis]}) for factor in FACTORS}
    seconds, _ = in_turns(jobs, N_TURNS)
    return (
        f"{f'{verb}, {axis} from {base[axis]}':32}"
        + "".join(f"{1000 * seconds[factor]:9.1f}" for factor in FACTORS)
        + f"{power(seconds):8.2f}"
    )
