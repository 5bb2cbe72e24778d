import os
from pathlib import Path

import mdtraj as md
import numpy as np
import pytest

DATA = Path(os.environ.get("MDVAE_DATA", Path(__file__).parents[2].parent / "shared/data"))
BACKBONE = ("N", "CA", "C", "O", "CB")


def peptide(n_residues=3, chain=None, topology=None):
    """A peptide's topology: names that every format knows, bonds by mdtraj's templates."""
    topology = md.Topology() if topology is None else topology
    chain = topology.add_chain() if chain is None else chain
    for i in range(n_residues):
        residue = topology.add_residue("ALA", chain, resSeq=i + 1)
        for name in BACKBONE:
            topology.add_atom(name, md.element.get_by_symbol(name[0]), residue, serial=topology.n_atoms + 1)
    return topology


def strand(rng, n_residues=3):
    """Positions of a stretched peptide in nm, every bond near 0.15."""
    alpha = np.array([[0, 0, 0], [0.12, 0.08, 0], [0.24, 0, 0], [0.26, -0.12, 0], [0.12, 0.16, 0.12]])
    shift = np.array([0.36, 0.05, 0])
    return np.concatenate([alpha + i * shift for i in range(n_residues)]) + rng.normal(0, 0.003, (5 * n_residues, 3))


def make_peptide(rng, n_frames=11, n_residues=3, cell=None, time=None):
    topology = peptide(n_residues)
    topology.create_standard_bonds()
    xyz = np.stack([strand(rng, n_residues) for _ in range(n_frames)]).astype(np.float32) + np.float32(1.0)
    trajectory = md.Trajectory(xyz, topology, time=2.0 * np.arange(n_frames) if time is None else time)
    if cell is not None:
        trajectory.unitcell_vectors = np.repeat(np.asarray(cell, np.float32)[None], n_frames, axis=0)
    return trajectory


def wrap(trajectory, cell, rng):
    """Move each frame anywhere and put every atom on its own into the cell."""
    xyz = trajectory.xyz.astype(np.float64) + rng.uniform(-3, 3, (trajectory.n_frames, 1, 3))
    fractions = xyz @ np.linalg.inv(cell)
    wrapped = (fractions - np.floor(fractions)) @ cell
    split = md.Trajectory(wrapped.astype(np.float32), trajectory.topology, time=trajectory.time)
    split.unitcell_vectors = np.repeat(np.asarray(cell, np.float32)[None], trajectory.n_frames, axis=0)
    return split


@pytest.fixture
def trajectory(rng):
    return make_peptide(rng)


@pytest.fixture
def top(trajectory, tmp_path):
    path = tmp_path / "top.pdb"
    trajectory[0].save(str(path))
    return path
