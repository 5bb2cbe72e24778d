import mdtraj as md
import numpy as np
import pytest

from mdvae.trajectory import stream, system_of_file
from mdvae.trajectory.periodic import Wholeness, find_molecules, make_whole
from mdvae.trajectory.topologies import bond_indices

from .conftest import DATA, make_peptide, peptide, strand, wrap

CELLS = {
    "cubic": np.diag([2.0, 2.0, 2.0]),
    "brick": np.diag([1.6, 2.5, 3.0]),
    "dodecahedron": 2.2 * np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0.5**0.5]]),
    "octahedron": 2.4 * np.array([[1, 0, 0], [1 / 3, 8**0.5 / 3, 0], [-1 / 3, 2**0.5 / 3, 6**0.5 / 3]]),
    "skewed": np.array([[2.0, 0, 0], [0.9, 1.9, 0], [-0.8, 0.9, 2.1]]),
}


def molecules_of(topology, atoms=None):
    atoms = np.arange(topology.n_atoms) if atoms is None else np.asarray(atoms)
    return find_molecules(topology.n_atoms, bond_indices(topology), atoms)


def whole(trajectory, atoms=None):
    molecules = molecules_of(trajectory.topology, atoms)
    positions, found = trajectory.xyz[:, molecules.atom_indices].copy(), Wholeness()
    make_whole(positions, trajectory.unitcell_vectors, molecules, found)
    return positions[:, molecules.selected], found


def inner(xyz):
    """Distances between all atoms: what a whole molecule keeps wherever it is."""
    xyz = xyz.astype(np.float64)
    return np.linalg.norm(xyz[:, :, None] - xyz[:, None], axis=3)


@pytest.mark.parametrize("name", CELLS)
def test_molecule_wrapped_atom_by_atom_comes_back(name, rng):
    known = make_peptide(rng, n_frames=200)
    split = wrap(known, CELLS[name], rng)
    assert np.abs(inner(split.xyz) - inner(known.xyz)).max() > 1
    positions, found = whole(split)
    np.testing.assert_allclose(inner(positions), inner(known.xyz), atol=2e-6)
    # Each atom was moved by whole cells only.
    cells = (positions.astype(np.float64) - split.xyz) @ np.linalg.inv(CELLS[name])
    np.testing.assert_allclose(cells, np.rint(cells), atol=1e-5)
    assert 50 < found.n_made_whole <= 200
    assert found.n_broken == 0


def test_whole_frames_are_left_bit_for_bit(rng):
    known = make_peptide(rng, n_frames=40, cell=CELLS["skewed"])
    mixed = known.xyz.copy()
    mixed[::2] = wrap(known, CELLS["skewed"], rng).xyz[::2]
    split = md.Trajectory(mixed, known.topology)
    split.unitcell_vectors = known.unitcell_vectors
    positions, found = whole(split)
    np.testing.assert_array_equal(positions[1::2], known.xyz[1::2])
    assert found.n_made_whole <= 20


@pytest.mark.parametrize("atoms", [[0, 14], [1, 6, 11], [0, 3], [3, 4, 8], [13]])
def test_selected_atoms_come_back_through_those_that_link_them(rng, atoms):
    known = make_peptide(rng, n_frames=50)
    positions, _ = whole(wrap(known, CELLS["dodecahedron"], rng), atoms)
    np.testing.assert_allclose(inner(positions), inner(known.xyz[:, atoms]), atol=2e-6)


def test_only_linking_atoms_are_read(rng):
    topology = make_peptide(rng).topology
    assert molecules_of(topology, [1, 6]).atom_indices.tolist() == [1, 2, 5, 6]
    assert molecules_of(topology, [3]).atom_indices.tolist() == [3]


def test_ring_is_closed_without_being_broken(rng):
    topology = md.Topology()
    residue = topology.add_residue("BNZ", topology.add_chain())
    atoms = [topology.add_atom(f"C{i}", md.element.carbon, residue) for i in range(6)]
    for i in range(6):
        topology.add_bond(atoms[i], atoms[(i + 1) % 6])
    angle = np.arange(6) * np.pi / 3
    ring = 0.14 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    known = md.Trajectory(np.repeat(ring[None], 30, axis=0).astype(np.float32), topology)
    positions, found = whole(wrap(known, CELLS["brick"], rng))
    np.testing.assert_allclose(inner(positions), inner(known.xyz), atol=2e-6)
    assert len(molecules_of(topology).others) == 1
    assert found.n_broken == 0


def test_molecule_bonded_to_its_own_image_is_reported():
    topology = md.Topology()
    residue = topology.add_residue("NET", topology.add_chain())
    atoms = [topology.add_atom(f"C{i}", md.element.carbon, residue) for i in range(10)]
    for i in range(10):
        topology.add_bond(atoms[i], atoms[(i + 1) % 10])
    xyz = np.zeros((3, 10, 3), np.float32)
    xyz[:, :, 0] = 0.15 * np.arange(10)
    endless = md.Trajectory(xyz, topology)
    endless.unitcell_vectors = np.repeat(np.diag([1.5, 2.0, 2.0])[None], 3, axis=0)
    assert whole(endless)[1].n_broken == 3


def complex_of_two(rng, n_frames=60):
    topology = peptide(2)
    topology = peptide(3, topology=topology)
    topology.create_standard_bonds()
    xyz = [np.concatenate([strand(rng, 2), strand(rng, 3) + np.array([0, 0, 0.4])]) for _ in range(n_frames)]
    return md.Trajectory(np.stack(xyz).astype(np.float32), topology)


@pytest.mark.parametrize("name", ["cubic", "dodecahedron"])
def test_complex_stays_together(name, rng):
    known = complex_of_two(rng)
    positions, found = whole(wrap(known, 1.4 * CELLS[name], rng))
    np.testing.assert_allclose(inner(positions), inner(known.xyz), atol=4e-6)
    assert found.n_made_whole > 20


def test_chains_joined_by_a_false_bond_are_two_pieces(rng):
    """One chain in the topology, 1.3 nm apart in truth: a bond that no image makes short."""
    topology = peptide(4)
    topology.create_standard_bonds()
    assert (7, 10) in {tuple(sorted(pair)) for pair in bond_indices(topology).tolist()}
    xyz = [np.concatenate([strand(rng, 2), strand(rng, 2) + np.array([0, 0, 1.3])]) for _ in range(40)]
    known = md.Trajectory(np.stack(xyz).astype(np.float32), topology)
    cell = np.diag([3.0, 3.0, 3.0])
    positions, found = whole(wrap(known, cell, rng))
    np.testing.assert_allclose(inner(positions), inner(known.xyz), atol=4e-6)
    stays = md.Trajectory(known.xyz, topology)
    stays.unitcell_vectors = np.repeat(cell[None], 40, axis=0)
    positions, found = whole(stays)
    np.testing.assert_array_equal(positions, known.xyz)
    assert found.n_made_whole == 0


def test_stale_box_changes_nothing(rng):
    """Fitted molecules keep the box of the simulation, which no longer fits them."""
    known = make_peptide(rng, cell=CELLS["dodecahedron"])
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    known.xyz = (known.xyz - 5).astype(np.float32) @ turn.astype(np.float32)
    positions, found = whole(known)
    np.testing.assert_array_equal(positions, known.xyz)
    assert found.n_made_whole == found.n_broken == 0


@pytest.mark.parametrize(
    ("cell", "n_dummy"),
    [(np.zeros((3, 3)), 0), (0.1 * np.eye(3), 11), (0.5 * np.eye(3), 11), (np.diag([2.0, 2.0, 0.0]), 11)],
)
def test_dummy_box_is_ignored(rng, cell, n_dummy):
    known = make_peptide(rng)
    molecules, found = molecules_of(known.topology), Wholeness()
    positions = known.xyz.copy()
    make_whole(positions, np.repeat(cell[None], 11, axis=0), molecules, found)
    np.testing.assert_array_equal(positions, known.xyz)
    assert (found.n_dummy, found.n_made_whole) == (n_dummy, 0)


def bare(rng, cell, wrapped):
    known = make_peptide(rng, n_frames=30, cell=cell)
    known = wrap(known, cell, rng) if wrapped else known
    known.topology._bonds = []
    return known


def test_split_without_bonds_is_noticed(rng):
    _, found = whole(bare(rng, CELLS["brick"], wrapped=True))
    assert found.n_split_without_bonds > 5
    assert found.n_made_whole == 0


@pytest.mark.parametrize("cell", [CELLS["brick"], 0.1 * np.eye(3), 8 * np.eye(3)])
def test_whole_without_bonds_is_no_reason_to_warn(rng, cell):
    assert whole(bare(rng, cell, wrapped=False))[1].n_split_without_bonds == 0


def test_split_without_box_is_noticed(rng):
    known = make_peptide(rng, n_frames=50)
    split = wrap(known, CELLS["cubic"], rng)
    split.unitcell_vectors = None
    assert whole(split)[1].n_split_without_box > 3
    assert whole(known)[1].n_split_without_box == 0


def test_stream_does_not_depend_on_the_chunk(rng):
    split = wrap(complex_of_two(rng), 1.4 * CELLS["dodecahedron"], rng)
    system = system_of_file(split.topology, np.arange(25))
    one = [np.concatenate([c.coordinates for c in stream(split, system=system, chunk=n)]) for n in (1, 7, 100)]
    np.testing.assert_array_equal(one[0], one[1])
    np.testing.assert_array_equal(one[0], one[2])


@pytest.mark.skipif(not DATA.exists(), reason="the shared data are not here")
@pytest.mark.parametrize("select", ["protein", "protein and name CA"])
def test_adenylate_kinase_in_water(select):
    from mdvae.trajectory import read

    folder = DATA / "adk_pbc"
    frames = read(folder / "adk_oplsaa.xtc", top=folder / "adk_oplsaa.gro.gz", select=select, alignment="none")
    assert frames.report.n_made_whole == 10
    x = frames.coordinates.astype(np.float64)
    if select == "protein":
        bonds = frames.system.bonds
        assert np.linalg.norm(x[:, bonds[:, 0]] - x[:, bonds[:, 1]], axis=2).max() < 0.25
        x = x - x.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(np.sqrt((x**2).sum(2).mean(1)).mean(), 1.96, atol=0.01)
    else:
        assert np.linalg.norm(np.diff(x, axis=1), axis=2).max() < 0.41
