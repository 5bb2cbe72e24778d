"""A small peptide with a known process behind it, and models that know its frames, with and without training."""

import dataclasses

import mdtraj as md
import numpy as np
import pytest
from scipy.signal import lfilter

import mdvae
from mdvae.alignment import pose
from mdvae.local_geometry import find_links, fit_local_geometry
from mdvae.model import remember

# ACE-ALA-ALA-NME without hydrogens: residue and name, the three atoms that place it, bond, angle, and torsion, which
# is a number of degrees, or a sum of one and "phi1" and so on.
_ATOMS = (
    ("ACE", "CH3", None, None, None, None),
    ("ACE", "C", None, 0.152, None, None),
    ("ACE", "O", (1, 0), 0.123, 121, None),
    ("ALA1", "N", (2, 0, 1), 0.134, 117, 180),
    ("ALA1", "CA", (0, 1, 3), 0.146, 122, "omega0"),
    ("ALA1", "C", (1, 3, 4), 0.152, 111, "phi1"),
    ("ALA1", "CB", (5, 3, 4), 0.153, 110, 122),
    ("ALA1", "O", (3, 4, 5), 0.123, 120, "psi1+180"),
    ("ALA2", "N", (3, 4, 5), 0.134, 117, "psi1"),
    ("ALA2", "CA", (4, 5, 8), 0.146, 122, "omega1"),
    ("ALA2", "C", (5, 8, 9), 0.152, 111, "phi2"),
    ("ALA2", "CB", (10, 8, 9), 0.153, 110, 122),
    ("ALA2", "O", (8, 9, 10), 0.123, 120, "psi2+180"),
    ("NME", "N", (8, 9, 10), 0.134, 117, "psi2"),
    ("NME", "C", (9, 10, 13), 0.146, 122, "omega2"),
)
_BONDS = (
    (0, 1), (1, 2), (1, 3), (3, 4), (4, 5), (4, 6), (5, 7), (5, 8), (8, 9), (9, 10), (9, 11), (10, 12), (10, 13),
    (13, 14),
)  # fmt: skip
# Degrees: alpha and beta.
_STATES = {"phi": (-65, -120), "psi": (-40, 130)}


def _placed(a, b, c, length, angle, torsion):
    """The atom bonded to c, at an angle with b and a torsion with a; all arrays over frames, degrees."""
    angle, torsion = np.deg2rad(angle), np.deg2rad(torsion)
    z = c - b
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    y = np.cross(b - a, z)
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    steps = -np.cos(angle), np.sin(angle) * np.cos(torsion), np.sin(angle) * np.sin(torsion)
    return c + length[:, None] * sum(s[:, None] * axis for s, axis in zip(steps, (z, np.cross(y, z), y), strict=True))


def _correlated(n_frames, rng, memory=0.8):
    """Stationary, of unit variance."""
    noise = rng.normal(size=n_frames)
    noise[1:] *= np.sqrt(1 - memory**2)
    return lfilter([1.0], [1.0, -memory], noise)


def _simulate(n_frames, seed, *, p_alpha=0.5, stay=0.97, **fixed):
    """Frames (n_frames, 15, 3), nm, in order of time: each residue jumps between two states, everything shakes.

    A torsion such as ``phi1`` may be fixed at a number of degrees.
    """
    rng = np.random.default_rng(seed)

    def shaking(mean, spread):
        return mean + spread * _correlated(n_frames, rng)

    torsions = {f"omega{i}": shaking(180, 5) for i in range(3)}
    for i in (1, 2):
        # A jump chooses its state with the probabilities that it stays with: a stationary chain.
        jumps = np.concatenate([[True], rng.random(n_frames - 1) > stay])
        state = (rng.random(jumps.sum()) >= p_alpha).astype(int)[np.cumsum(jumps) - 1]
        for name, values in _STATES.items():
            torsions[f"{name}{i}"] = shaking(np.array(values, float)[state], 12)
    torsions |= {name: np.full(n_frames, float(value)) for name, value in fixed.items()}
    x = np.zeros((n_frames, len(_ATOMS), 3))
    for i, (_, _, before, length, angle, torsion) in enumerate(_ATOMS):
        if length is None:
            continue
        length = shaking(length, 0.002)
        if before is None:
            x[:, i, 0] = length
            continue
        angle = shaking(angle, 2)
        if torsion is None:
            a = x[:, before[0]] + np.array([0, 0, 1.0])
            x[:, i] = _placed(a, x[:, before[1]], x[:, before[0]], length, angle, np.full(n_frames, 90.0))
            continue
        if isinstance(torsion, str):
            name, _, plus = torsion.partition("+")
            torsion = torsions[name] + float(plus or 0)
        else:
            torsion = np.full(n_frames, float(torsion))
        # Side atoms bend, and go out of the plane, a little.
        if name_of(i) in ("CB", "O"):
            torsion = torsion + shaking(0, 2)
        x[:, i] = _placed(*(x[:, k] for k in before), length, angle, torsion)
    return x.astype(np.float32)


def name_of(i):
    return _ATOMS[i][1]


@pytest.fixture(scope="session")
def simulate():
    """Function of n_frames and seed: frames of the peptide, a stationary process."""
    return _simulate


@pytest.fixture(scope="session")
def peptide():
    """Topology of the peptide."""
    topology, residues = md.Topology(), {}
    chain = topology.add_chain()
    for residue, name, *_ in _ATOMS:
        if residue not in residues:
            residues[residue] = topology.add_residue(residue[:3], chain, resSeq=len(residues) + 1)
        topology.add_atom(name, md.element.get_by_symbol(name[0]), residues[residue])
    atoms = list(topology.atoms)
    for i, j in _BONDS:
        topology.add_bond(atoms[i], atoms[j])
    return topology


@pytest.fixture(scope="session")
def runs(simulate, peptide):
    """Ten runs of the peptide that share a stationary process, as trajectories."""
    return [md.Trajectory(simulate(400, seed), peptide) for seed in range(10)]


@pytest.fixture(scope="session")
def others(simulate):
    """Ten further runs, (10, 400, 15, 3)."""
    return np.stack([simulate(400, seed) for seed in range(100, 110)])


@pytest.fixture(scope="session")
def knowing():
    """Function of a source: a model that knows its frames as if it had been trained on them, and a description."""

    def know(source, **reading):
        frames = mdvae.read(source, **reading)
        model = mdvae.build(frames, latent_dim=2, hidden=(16,), seed=0)
        links = find_links(frames.coordinates, frames.system.links, frames.system.bonds)
        geometry = fit_local_geometry(frames.coordinates, links, frames.system.masses)
        settings = {"lengths": list(frames.lengths), "validation_fraction": 0.1, "split": 2}
        return dataclasses.replace(model, data=remember(frames, geometry), settings=settings)

    return know


@pytest.fixture(scope="session")
def knows_peptide(knowing, runs):
    return knowing(runs)


@pytest.fixture(scope="session")
def posed():
    """Function of a model and frames: a copy in the model's pose."""

    def in_pose(model, frames):
        copy = np.array(frames, np.float32)
        pose(model.alignment, copy)
        return copy

    return in_pose


@pytest.fixture(scope="session")
def centered(chiral):
    """The frames of the chiral molecule with its bonds."""
    frames, links = chiral
    topology = md.Topology()
    residue = topology.add_residue("MOL", topology.add_chain())
    atoms = [topology.add_atom(f"C{i + 1}", md.element.carbon, residue) for i in range(frames.shape[1])]
    for i, j in links:
        topology.add_bond(atoms[i], atoms[j])
    return md.Trajectory(frames, topology)


@pytest.fixture(scope="session")
def training():
    """Function of a source and settings: a small model, trained briefly."""

    def train(source, **settings):
        frames = mdvae.read(source)
        model = mdvae.build(frames, latent_dim=4, hidden=(64, 64), seed=0)
        return mdvae.train(model, frames, batch_size=128, learning_rate=3e-3, seed=0, progress=False, **settings)

    return train


@pytest.fixture(scope="session")
def learned(training, runs):
    """A model of the peptide that is as good as one so small becomes."""
    return training(runs, epochs=60)
