"""Small models of every kind that leaves, of a toy; their atoms are some of a file's."""

import dataclasses
from itertools import pairwise

import mdtraj as md
import numpy as np
import pytest

import mdvae
from mdvae.local_geometry import fit_local_geometry
from mdvae.model import remember

# What an engine knows beside the model's atoms.
N_ATOMS = 9
ATOMS = (1, 2, 3, 5, 6, 7, 8)
CHOSEN = ("torsion 0 1 2 3", "contact 1 6", "distance 5 0", "torsion 3 4 5 6", "contact 0 4")
KINDS = {
    "superposed, silu": {},
    "superposed, plain tanh": {"activation": "tanh", "residual": False},
    "internal, gelu": {"representation": "internal", "activation": "gelu"},
    "chosen, softplus": {"representation": "chosen", "features": CHOSEN, "activation": "softplus"},
    "distances, no hidden layer": {"representation": "distances", "hidden": ()},
    "superposed, tanh": {"activation": "tanh"},
    "centered, silu": {"alignment": "none"},
}


def remembering(frames, **options):
    """A model that knows its frames as a trained one does; training would say no more about exports."""
    model = mdvae.build(frames, **{"hidden": (8, 8, 8)} | options)
    geometry = fit_local_geometry(frames.coordinates, frames.system.links, frames.system.masses)
    return dataclasses.replace(model, data=remember(frames, geometry))


@pytest.fixture(scope="session")
def heteroalkane():
    """Trajectory of a chain of carbon, nitrogen and oxygen: masses that are not all the same."""
    topology = md.Topology()
    residue = topology.add_residue("HET", topology.add_chain(), resSeq=1)
    atoms = [topology.add_atom(f"{s}{i}", md.element.get_by_symbol(s), residue) for i, s in enumerate("CCNOCCNCO")]
    for pair in pairwise(atoms):
        topology.add_bond(*pair)
    return md.Trajectory(mdvae.toys.alkane(300, n_carbons=N_ATOMS, seed=0), topology)


@pytest.fixture(scope="session")
def make(heteroalkane):
    """Function of a kind and a center: its model, made once."""
    made = {}

    def model(kind, center="mass"):
        options = dict(KINDS[kind])
        key = kind, center
        if key not in made:
            reading = {"alignment": options.pop("alignment", "superposition"), "center": center}
            made[key] = remembering(mdvae.read(heteroalkane, atom_indices=ATOMS, **reading), **options)
        return made[key]

    return model


@pytest.fixture(scope="session")
def unseen(heteroalkane):
    """Frames of all atoms, in nm and float64, that no training has seen; standing somewhere."""
    return mdvae.toys.alkane(5, n_carbons=N_ATOMS, seed=1).astype(float) + np.array([3.0, -2.0, 5.0])
