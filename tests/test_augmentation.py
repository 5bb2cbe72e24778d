"""Augmented frames keep what the physics keeps; what would make other molecules of them is refused."""

import os
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import mdtraj as md
import numpy as np
import pytest

import mdvae
from mdvae.alignment import Unaligned, fit_alignment, pose
from mdvae.augmentation import (
    Mirror,
    Noise,
    Reversal,
    Rotation,
    Several,
    augmentation,
    check_augmentation,
    chiral_centers,
)
from mdvae.local_geometry import find_links, fit_local_geometry, signed_volumes
from mdvae.trajectory import Frames, Report, system_of_file
from mdvae.validity import check

DATA = Path(os.environ.get("MDVAE_DATA", Path(__file__).parents[1].parent / "shared/data"))


def posed(coordinates, name="superposition"):
    """Frames in the pose of an alignment, and that."""
    coordinates = np.array(coordinates, np.float32)
    alignment = fit_alignment(name, coordinates, np.ones(coordinates.shape[1]))
    pose(alignment, coordinates)
    return coordinates, alignment


def augmented(change, frames, key):
    keys = jax.random.split(key, len(frames))
    return np.asarray(eqx.filter_jit(eqx.filter_vmap(change))(jnp.asarray(frames), keys))


def distance_matrices(frames):
    return np.linalg.norm(frames[:, :, None] - frames[:, None], axis=-1)


def asked(words, frames):
    """What the door makes of words for frames."""
    system = frames.system
    geometry = fit_local_geometry(
        frames.coordinates, find_links(frames.coordinates, system.links, system.bonds), system.masses
    )
    return augmentation(words, system, frames.alignment, geometry)


def centers(frames):
    system = frames.system
    links = find_links(frames.coordinates, system.links, system.bonds)
    return chiral_centers(system, fit_local_geometry(frames.coordinates, links, system.masses))


def frames_of(trajectory):
    """Frames that are only centered."""
    system = system_of_file(trajectory.topology, np.arange(trajectory.n_atoms))
    alignment = Unaligned(jnp.asarray(system.masses))
    coordinates = np.array(trajectory.xyz)
    pose(alignment, coordinates)
    n = len(coordinates)
    return Frames(coordinates, (n,), None, system, alignment, Report(n, system.n_atoms, 1))


def topology_of(symbols, bonds, residue="MOL"):
    topology = md.Topology()
    of_atoms = topology.add_residue(residue, topology.add_chain(), resSeq=1)
    atoms = [
        topology.add_atom(f"{symbol}{i}", md.element.get_by_symbol(symbol), of_atoms)
        for i, symbol in enumerate(symbols)
    ]
    for i, j in bonds:
        topology.add_bond(atoms[i], atoms[j])
    return topology


def molecule(symbols, bonds, shape, *, noise=0.003, inverting=False, n_frames=200):
    """Frames of a molecule that shakes around a shape (n_atoms, 3) in nm, and may turn inside out."""
    rng = np.random.default_rng(0)
    x = np.asarray(shape) + noise * rng.normal(size=(n_frames, len(symbols), 3))
    if inverting:
        x[::2, :, 2] *= -1
    return frames_of(md.Trajectory(x.astype(np.float32), topology_of(symbols, bonds)))


STAR = [(0, 1), (0, 2), (0, 3), (0, 4)]
TETRAHEDRON = 0.15 / np.sqrt(3) * np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
PYRAMID = np.array([[0, 0, 0.05], [0.14, 0, 0], [-0.07, 0.12, 0], [-0.07, -0.12, 0]])
PLANE = PYRAMID * [1, 1, 0]
CHIRAL = {
    "four different neighbors": (["C", "H", "F", "Cl", "Br"], STAR, TETRAHEDRON),
    "three, the hydrogen left out": (["C", "F", "Cl", "Br"], STAR[:3], PYRAMID),
}
# A center, a carbon with an oxygen, another without.
LONGER = ["C", "F", "C", "C", "O"], [(0, 1), (0, 2), (0, 3), (3, 4)], [*PYRAMID, [-0.17, -0.22, 0.05]]
CHIRAL["neighbors that differ one bond later"] = LONGER
ACHIRAL = {
    "two equal neighbors": (["C", "H", "F", "F", "Br"], STAR, TETRAHEDRON),
    "two equal branches": (
        ["C", "F", "C", "C", "O", "O"],
        [(0, 1), (0, 2), (0, 3), (2, 4), (3, 5)],
        [*PYRAMID, [-0.17, 0.22, 0.05], [-0.17, -0.22, 0.05]],
    ),
    "a ring": (["C", "F", "C", "C"], [(0, 1), (0, 2), (0, 3), (2, 3)], PYRAMID),
    "methane": (["C", "H", "H", "H", "H"], STAR, TETRAHEDRON),
    "planar": (["C", "F", "Cl", "Br"], STAR[:3], PLANE),
}


# -- the changes


@pytest.mark.parametrize("dim", [2, 3])
def test_rotations_are_proper_and_as_wide_as_they_say(key, dim):
    """Of unit vectors as a frame the rotated ones are the rotation matrix itself."""
    matrices = np.swapaxes(augmented(Rotation(5), np.tile(np.eye(dim, dtype=np.float32), (4000, 1, 1)), key), 1, 2)
    products = np.einsum("nij,nkj->nik", matrices, matrices)
    np.testing.assert_allclose(products, np.tile(np.eye(dim), (4000, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-5)
    # The angles about the axes, from the antisymmetric part, which is sin(angle) / angle of them.
    vectors = (matrices - np.swapaxes(matrices, 1, 2))[:, *np.tril_indices(dim, -1)] / 2
    np.testing.assert_allclose(np.rad2deg(vectors.std(axis=0)), 5, rtol=0.05)
    np.testing.assert_allclose(np.rad2deg(vectors.mean(axis=0)), 0, atol=0.3)


def test_large_rotations_are_proper_and_no_rotation_is_exactly_none(key, rng):
    frames = rng.normal(size=(100, 7, 3)).astype(np.float32)
    turned = augmented(Rotation(500.0), frames, key)
    np.testing.assert_allclose(distance_matrices(turned), distance_matrices(frames), atol=1e-5)
    assert np.abs(turned - frames).max() > 1
    np.testing.assert_array_equal(augmented(Rotation(0.0), frames, key), frames)


def test_noise_is_as_wide_as_it_says_and_independent(key):
    noise = augmented(Noise(0.02), np.ones((5000, 3, 2), np.float32), key).reshape(5000, 6) - 1
    np.testing.assert_allclose(np.cov(noise.T), 0.02**2 * np.eye(6), atol=4e-5)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=2e-3)


@pytest.mark.parametrize("name", ["superposition", "principal", "none"])
def test_mirror_images_keep_distances_and_the_pose_and_turn_chirality(chiral, key, name):
    frames, alignment = posed(chiral[0], name)
    images = augmented(Mirror(alignment), frames, key)
    flipped = np.any(images != frames, axis=(1, 2))
    assert 110 < flipped.sum() < 190  # half of 300, and four standard deviations
    np.testing.assert_allclose(distance_matrices(images), distance_matrices(frames), atol=1e-6)
    np.testing.assert_allclose(jax.vmap(alignment)(images), images, atol=1e-5)
    volumes, before = (signed_volumes(x, np.array([[2, 1, 3, 5]]))[:, 0] for x in (images, frames))
    np.testing.assert_allclose(volumes, np.where(flipped, -before, before), rtol=1e-3)


def test_the_mirror_image_of_the_mirror_image_is_the_frame(chiral):
    frames, alignment = posed(chiral[0])
    key = next(key for key in jax.random.split(jax.random.key(0), 20) if jax.random.bernoulli(key))
    mirror = jax.vmap(lambda frame: Mirror(alignment)(frame, key))
    assert np.abs(mirror(frames) - frames).max() > 0.05
    np.testing.assert_allclose(mirror(mirror(frames)), frames, atol=1e-5)


@pytest.mark.parametrize("name", ["superposition", "principal"])
def test_reversed_chains_keep_the_pose_and_read_backwards(chain, key, name):
    frames, alignment = posed(chain, name)
    images = augmented(Reversal(alignment), frames, key)
    flipped = np.any(images != frames, axis=(1, 2))
    assert 110 < flipped.sum() < 190
    expected = np.where(flipped[:, None, None], distance_matrices(frames[:, ::-1]), distance_matrices(frames))
    np.testing.assert_allclose(distance_matrices(images), expected, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(alignment)(images), images, atol=1e-4)


def test_mirror_images_in_the_plane_turn_the_other_way(chain, key):
    frames, alignment = posed(chain)
    images = augmented(Mirror(alignment), frames, key)

    def turns(x):
        a, b = x[:, 1] - x[:, 0], x[:, 2] - x[:, 1]
        return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]

    flipped = np.any(images != frames, axis=(1, 2))
    np.testing.assert_allclose(turns(images), np.where(flipped, -turns(frames), turns(frames)), atol=1e-5)


def test_several_come_one_after_the_other_with_keys_of_their_own(key):
    frame, first, second = jnp.ones((4, 3)), *jax.random.split(key)
    expected = Rotation(90.0)(Noise(1.0)(frame, first), second)
    np.testing.assert_array_equal(Several((Noise(1.0), Rotation(90.0)))(frame, key), expected)


# -- the words


def test_words_make_their_parts_in_an_order_of_their_own(frames, key):
    words = ["noise=0.005", "rotation=5", "mirror", "reversal"]
    change = asked(words, frames)
    assert isinstance(change, Several)
    assert [type(part) for part in change.parts] == [Mirror, Reversal, Rotation, Noise]
    assert [change.parts[2].angle, change.parts[3].width] == [5.0, 0.005]
    other = asked(words[::-1], frames)
    np.testing.assert_array_equal(augmented(change, frames.coordinates, key), augmented(other, frames.coordinates, key))


def test_one_word_makes_one_part_and_none_nothing(frames):
    assert isinstance(asked(["rotation=2.5"], frames), Rotation)
    assert asked([], frames) is None


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["miror"], "'miror' is not known; expected any of 'mirror'"),
        (["mirror", "mirror=chiral"], "'mirror' twice"),
        (["noise=1", "noise=2"], "'noise' twice"),
        (["mirror=5"], "'mirror=5' is not known"),
        (["reversal="], "'reversal=' is not known"),
        (["rotation"], "'rotation' needs a finite number above 0"),
        (["rotation=0"], "'rotation=0' needs a finite number above 0"),
        (["noise=-1"], "'noise=-1' needs a finite number above 0"),
        (["noise=wide"], "'noise=wide' needs a finite number above 0"),
        (["noise=nan"], "'noise=nan' needs"),
        (["noise=inf"], "'noise=inf' needs"),
        ([""], "'' is not known"),
    ],
)
def test_bad_words_are_refused_before_there_is_a_system(words, match):
    with pytest.raises(ValueError, match=match):
        check_augmentation(words)


def test_one_string_is_not_a_list_of_words():
    with pytest.raises(TypeError, match="must be a list of words"):
        check_augmentation("mirror")


# -- chirality


@pytest.mark.parametrize("name", CHIRAL)
def test_chiral_molecules_have_no_mirror_image(name, key):
    frames = molecule(*CHIRAL[name])
    assert centers(frames) == ["MOL1-C0"]
    with pytest.raises(ValueError, match="molecules that do not exist: MOL1-C0 is a chiral center; leave it out"):
        asked(["mirror"], frames)
    volumes = signed_volumes(augmented(asked(["mirror=chiral"], frames), frames.coordinates, key), np.arange(4)[None])
    assert 0 < np.sum(volumes > 0) < 200


@pytest.mark.parametrize("name", ACHIRAL)
def test_mirror_images_of_achiral_molecules_are_the_molecule(name, key):
    """Also in the numbers of its equal atoms: nothing about the images is unlike the data."""
    frames = molecule(*ACHIRAL[name])
    system = frames.system
    assert centers(frames) == []
    change = asked(["mirror"], frames)
    images = augmented(change, frames.coordinates, key)
    assert 60 < np.any(images != frames.coordinates, axis=(1, 2)).sum() < 140
    assert check(fit_local_geometry(frames.coordinates, system.bonds, system.masses), images).valid.all()
    np.testing.assert_allclose(jax.vmap(frames.alignment)(images), images, atol=1e-5)


def test_a_center_that_inverts_is_not_chiral():
    assert centers(molecule(["N", "F", "Cl", "Br"], STAR[:3], PYRAMID, inverting=True)) == []


def test_double_bonds_tell_equal_atoms_apart():
    """Two carbons in a row each, hydrogens left out; of one pair the bond is a double one."""
    symbols, bonds = ["C", "O", "C", "C", "C", "C"], [(0, 1), (0, 2), (0, 3), (2, 4), (3, 5)]
    single, double = np.array([-0.1, 0.1, 0.05]), np.array([-0.088, -0.088, 0.044])
    frames = molecule(symbols, bonds, [*PYRAMID, PYRAMID[2] + single, PYRAMID[3] + double])
    with pytest.raises(ValueError, match="MOL1-C0 is a chiral center"):
        asked(["mirror"], frames)


def test_hexane_is_not_chiral(hexane, tmp_path):
    (tmp_path / "hexane.pdb").write_text(mdvae.toys.alkane_pdb(6, hexane[0][0]))
    for frames in (mdvae.read(hexane[0]), mdvae.read(hexane[0], top=tmp_path / "hexane.pdb")):
        assert centers(frames) == []
        assert isinstance(asked(["mirror"], frames), Mirror)


def test_a_chain_in_the_plane_is_not_chiral(frames):
    assert centers(frames) == []
    assert isinstance(asked(["mirror"], frames), Mirror)


def traces(residues, atoms, rng):
    """Frames of one atom a residue that move at random."""
    topology = md.Topology()
    chain = topology.add_chain()
    for number, (residue, atom) in enumerate(zip(residues, atoms, strict=True), start=1):
        topology.add_atom(atom, md.element.carbon, topology.add_residue(residue, chain, resSeq=number))
    x = np.cumsum(rng.normal(size=(50, len(residues), 3)), axis=1)
    return frames_of(md.Trajectory(x.astype(np.float32), topology))


def test_traces_of_amino_acids_and_nucleotides_are_chiral(rng):
    assert centers(traces(["ACE", "ALA", "GLY", "SER"], ["CH3", "CA", "CA", "CB"], rng)) == ["ALA2-CA", "SER4"]
    assert centers(traces(["DA", "C", "DG"], ["P", "C1'", "P"], rng)) == ["DA1", "C2-C1'", "DG3"]
    assert centers(traces(["GLY", "GLY", "GLY"], ["CA"] * 3, rng)) == []


def test_up_to_three_centers_are_named(rng):
    for n, text in {3: "ALA1-CA, ALA2-CA and ALA3-CA are", 5: r"ALA1-CA, ALA2-CA, ALA3-CA \(and 2 more\) are"}.items():
        with pytest.raises(ValueError, match=f"{text} chiral centers; leave it out, or say 'mirror=chiral'"):
            asked(["mirror"], traces(["ALA"] * n, ["CA"] * n, rng))


@pytest.mark.skipif(not DATA.exists(), reason=f"no trajectories at {DATA}; set MDVAE_DATA")
@pytest.mark.parametrize(("files", "center"), [("ala2/trajectory-0.dcd", "ALA2-CA"), ("glu7/glu7.xtc", "GLU1-CA")])
@pytest.mark.parametrize("select", ["symbol != H", "all"])
def test_real_peptides_are_chiral(files, center, select):
    top = next((DATA / files).parent.glob("*.pdb"))
    trajectory = md.load(DATA / files, top=top, stride=20)
    frames = frames_of(trajectory.atom_slice(trajectory.topology.select(select)))
    n_residues = 1 if "ala2" in files else 7
    assert centers(frames) == [f"{'ALA2' if n_residues == 1 else f'GLU{i + 1}'}-CA" for i in range(n_residues)]
    with pytest.raises(ValueError, match=center):
        asked(["mirror"], frames)


# -- reversed chains


def test_symmetric_chains_can_be_reversed(frames, hexane):
    assert isinstance(asked(["reversal"], frames), Reversal)
    assert isinstance(asked(["reversal"], mdvae.read(hexane[0])), Reversal)


LINE = [[0, 0, 0], [0.1, 0.1, 0], [0.2, 0, 0], [0.3, 0.1, 0]]
ONE_WAY = {
    "MOL1-C0 and MOL1-O3 differ in their mass": (["C", "C", "C", "O"], [(0, 1), (1, 2), (2, 3)], LINE),
    "MOL1-C0 and MOL1-C3 differ in their bonds": (["C"] * 4, [(0, 1), (0, 2), (2, 3)], LINE),
}


@pytest.mark.parametrize("message", ONE_WAY)
def test_other_chains_cannot(message):
    with pytest.raises(ValueError, match=f"reads the same from both ends: {message}; leave it out"):
        asked(["reversal"], molecule(*ONE_WAY[message]))


def test_chains_of_residues_have_a_direction(rng):
    with pytest.raises(ValueError, match="GLY1 is part of a chain that has a direction"):
        asked(["reversal"], traces(["GLY"] * 4, ["CA"] * 4, rng))


@pytest.mark.parametrize("handed", [True, False])
def test_reversal_keeps_the_handedness_of_centers(handed, rng):
    """Two pyramids on one bond: a half turn makes one of the other, or a reflection does."""
    one = [[-0.02, 0.14, 0], [-0.02, -0.07, 0.12], [-0.02, -0.07, -0.12], [0.03, 0, 0]]
    other = np.array(one[::-1]) * ([-1, 1, -1] if not handed else [-1, 1, 1]) + [0.2, 0, 0]
    bonds = [(0, 3), (1, 3), (2, 3), (3, 4), (4, 5), (4, 6), (4, 7)]
    frames = molecule(["H", "H", "H", "C", "C", "H", "H", "H"], bonds, [*one, *other])
    if handed:
        with pytest.raises(ValueError, match="MOL1-C3 and MOL1-C4 differ in their handedness"):
            asked(["reversal"], frames)
    else:
        assert isinstance(asked(["reversal"], frames), Reversal)
