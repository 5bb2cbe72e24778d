import dataclasses

import mdtraj as md
import numpy as np
import pytest

import mdvae
from mdvae.local_geometry import fit_local_geometry
from mdvae.model import remember


def untrained(frames, links, **options):
    """A model that keeps its frames as a trained one does."""
    model = mdvae.build(frames, latent_dim=2, hidden=(16, 16), seed=0, **options)
    geometry = fit_local_geometry(frames.coordinates, links, frames.system.masses)
    return dataclasses.replace(model, data=remember(frames, geometry))


@pytest.fixture(scope="session")
def carbons(hexane):
    """Hexane without hydrogen as a trajectory with bonds."""
    topology, (xyz, links) = md.Topology(), hexane
    residue = topology.add_residue("HEX", topology.add_chain())
    atoms = [topology.add_atom(f"C{i + 1}", md.element.carbon, residue) for i in range(6)]
    for a, b in links:
        topology.add_bond(atoms[a], atoms[b])
    return md.Trajectory(xyz, topology)


@pytest.fixture(scope="session")
def model(carbons, hexane):
    """Of all six carbons, two latent dimensions."""
    return untrained(mdvae.read(carbons), hexane[1])


@pytest.fixture(scope="session")
def sparse(carbons):
    """Of four carbons, which the two others link."""
    return untrained(mdvae.read(carbons, select="index 0 2 3 5"), np.array([[1, 2]]))


@pytest.fixture(scope="session")
def plane(frames):
    """Of the bead-spring chain in the plane, in reduced units."""
    return untrained(frames, frames.system.links)
