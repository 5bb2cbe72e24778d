"""Frames that nobody simulated: what they are of does not matter to how long something takes."""

import mdtraj as md
import numpy as np


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


def helices(n_frames, n_atoms, seed=0):
    """Frames of a helix with bonds of 0.15 nm that winds and sways along two hidden coordinates; nm, float32."""
    rng = np.random.default_rng(seed)
    place = np.linspace(0, 1, n_atoms)
    frames = np.empty((n_frames, n_atoms, 3), np.float32)
    for first in range(0, n_frames, 1000):
        block = frames[first : first + 1000]
        wind, sway = rng.normal(size=(2, len(block), 1))
        around = 1.2 * np.arange(n_atoms) + np.pi * np.tanh(wind) * place
        down = 1 + 0.3 * np.sin(sway + 2 * np.pi * place)
        bonds = [np.cos(around) * np.sin(down), np.sin(around) * np.sin(down), np.cos(down)]
        block[:] = np.cumsum(0.15 * np.stack(bonds, axis=-1), axis=1) + rng.normal(scale=0.005, size=block.shape)
    return frames


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
