"""A model of internal coordinates, from reading to saving: two molecules, one of them chiral."""

import mdtraj as md
import numpy as np
import pytest

import mdvae
from mdvae._chunks import map_rows
from mdvae.latent.generation import decode_coordinates
from mdvae.model import build
from mdvae.representations import Internal

# Nanometers; atom 1 is bonded to 0, 2, 3 and 4 at the corners of a tetrahedron, and 4 to 5. Atoms 6 to 8 are apart.
STRUCTURE = np.array(
    [[1, 1, 1], [0, 0, 0], [-1, -1, 1], [-1, 1, -1], [1, -1, -1], [2, -1, -1.5], [3, 1, 0], [4, 1, 0.3], [4.5, 2, 0.0]]
) * 0.1  # fmt: skip
BONDS = [(0, 1), (1, 2), (1, 3), (1, 4), (4, 5), (6, 7), (7, 8)]
N_FRAMES = 200


@pytest.fixture(scope="module")
def molecules():
    """Atom 5 and its neighbors turn freely about the bond from 1 to 4; all else trembles."""
    rng, topology = np.random.default_rng(0), md.Topology()
    for atoms in (range(6), range(3)):
        residue = topology.add_residue("MOL", topology.add_chain())
        for i in atoms:
            topology.add_atom(f"C{i}", md.element.carbon, residue)
    for i, j in BONDS:
        topology.add_bond(topology.atom(i), topology.atom(j))
    frames = STRUCTURE + 0.004 * rng.normal(size=(N_FRAMES, *STRUCTURE.shape))
    axis = (STRUCTURE[4] - STRUCTURE[1]) / np.linalg.norm(STRUCTURE[4] - STRUCTURE[1])
    for frame, angle in zip(frames, rng.uniform(-np.pi, np.pi, size=N_FRAMES), strict=True):
        arm = frame[5] - STRUCTURE[4]
        along = axis * (arm @ axis)
        frame[5] = STRUCTURE[4] + along + np.cos(angle) * (arm - along) + np.sin(angle) * np.cross(axis, arm)
    return md.Trajectory(frames.astype(np.float32), topology)


@pytest.fixture(scope="module")
def model(molecules):
    frames = mdvae.read(molecules)
    model = build(frames, representation="internal", latent_dim=2, hidden=(32,), seed=0)
    return mdvae.train(model, frames, epochs=40, learning_rate=3e-3, seed=0, progress=False)


def handedness(coordinates):
    """Sign of the volume that the neighbors of atom 1 span."""
    a, b, c = (coordinates[:, i] - coordinates[:, 1] for i in (0, 2, 3))
    return np.sign(np.sum(np.cross(a, b) * c, axis=1))


def test_what_is_decoded_is_in_the_models_pose_and_not_mirrored(model, molecules):
    decoded = decode_coordinates(model, mdvae.encode(model, molecules))
    frames = mdvae.read(molecules).coordinates
    np.testing.assert_array_equal(handedness(decoded), handedness(frames))
    # In its place already: aligned once more it stays there.
    np.testing.assert_allclose(map_rows(model.alignment, decoded), decoded, atol=1e-5)
    # In another pose it would be as far from the frame as a random turn takes it: by about its size.
    deviation, size = (np.sqrt((x**2).sum(axis=2).mean()) for x in (decoded - frames, frames))
    assert deviation < 0.2 * size


def test_the_pose_of_the_source_does_not_matter(model, molecules):
    turned = molecules[:20].slice(range(20))
    turned.xyz = turned.xyz[..., [1, 2, 0]] + np.float32(7)
    np.testing.assert_allclose(mdvae.encode(model, turned), mdvae.encode(model, molecules[:20]), atol=1e-3)


def test_samples_of_the_likelihood_keep_bonds_and_handedness(model, molecules):
    new = mdvae.generate(model, 300, noise=True, restore=False, seed=1).xyz
    bonds = np.array(BONDS)
    lengths, expected = (np.linalg.norm(x[:, bonds[:, 0]] - x[:, bonds[:, 1]], axis=2) for x in (new, molecules.xyz))
    np.testing.assert_allclose(lengths.mean(axis=0), expected.mean(axis=0), atol=2e-3)
    np.testing.assert_allclose(lengths.std(axis=0), expected.std(axis=0), rtol=0.4)
    assert (handedness(new) == handedness(molecules.xyz)[0]).mean() > 0.99


def test_widths_and_concentrations_are_learned(model):
    likelihood = model.vae.likelihood
    assert np.all(np.asarray(likelihood.linear.log_width) != 0)
    assert np.all(np.asarray(likelihood.angular.log_width) != 0)


def test_saved_and_loaded_bit_for_bit(model, molecules, tmp_path):
    mdvae.save(model, tmp_path / "m.mdvae")
    again = mdvae.load(tmp_path / "m.mdvae")
    assert isinstance(again.representation, Internal)
    assert again.spec == model.spec
    assert again.representation.references.dtype == model.representation.references.dtype
    np.testing.assert_array_equal(again.representation.references, model.representation.references)
    z = mdvae.encode(model, molecules)
    np.testing.assert_array_equal(mdvae.encode(again, molecules), z)
    np.testing.assert_array_equal(decode_coordinates(again, z), decode_coordinates(model, z))


def test_it_says_what_it_is_made_of(model):
    # 9 atoms: 8 distances, 7 angles, 6 dihedral angles
    assert "features    Internal, 27 numbers a frame" in str(model)


def test_in_the_plane_from_source_to_model(chain):
    options = {"representation": "internal", "length_unit": "reduced", "hidden": (8,), "epochs": 2, "progress": False}
    model = mdvae.fit(chain, **options)
    assert model.representation.n_features == model.spec.n_features == 13
    decoded = decode_coordinates(model, mdvae.encode(model, chain))
    assert decoded.shape == chain.shape
    assert np.isfinite(decoded).all()


def test_three_atoms(rng):
    source = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.1, 0.1, 0]]) + 0.01 * rng.normal(size=(50, 3, 3))
    model = mdvae.build(mdvae.read(source), representation="internal", latent_dim=1, hidden=(4,))
    # 2 distances and 1 angle: nothing goes round
    assert model.representation.n_features == 3
    assert decode_coordinates(model, mdvae.encode(model, source)).shape == source.shape
