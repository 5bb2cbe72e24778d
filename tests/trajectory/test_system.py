import dataclasses
import json

import mdtraj as md
import numpy as np
import pytest

from mdvae.trajectory import System, bead_topology, read

from .conftest import make_peptide, peptide


def odd_trajectory(rng):
    """Chains with names, segments, numbers that jump, an unknown element, bond orders, a charge."""
    topology = md.Topology()
    first, second = topology.add_chain("X"), topology.add_chain()
    residue = topology.add_residue("LIG", first, resSeq=7, segment_id="SEG1")
    a = topology.add_atom("C1", md.element.carbon, residue, serial=12)
    b = topology.add_atom("O1", md.element.oxygen, residue, serial=40, formal_charge=-1)
    other = topology.add_residue("ION", second, resSeq=-2)
    topology.add_atom("M", md.element.virtual, other)
    topology.add_bond(a, b, type=md.core.topology.Double, order=2)
    return md.Trajectory(rng.normal(size=(5, 3, 3)).astype(np.float32), topology)


SOURCES = {
    "odd": (odd_trajectory, {}),
    "peptide": (make_peptide, {"select": "name CA CB"}),
    "array": (lambda rng: rng.normal(size=(5, 4, 2)), {"length_unit": "angstrom", "atom_indices": [3, 1, 0]}),
}


@pytest.mark.parametrize("name", SOURCES)
def test_json_round_trip(name, rng):
    make, options = SOURCES[name]
    system = read(make(rng), alignment="none", **options).system
    plain = json.loads(json.dumps(system.to_dict()))
    again = System.from_dict(plain)
    assert again.to_dict() == system.to_dict()
    assert again.topology == system.topology
    for a, b in zip(again.topology.atoms, system.topology.atoms, strict=True):
        assert (a.name, a.element, a.serial, a.formal_charge) == (
            b.name,
            b.element,
            b.serial,
            b.formal_charge,
        )
        assert (a.residue.resSeq, a.residue.segment_id) == (b.residue.resSeq, b.residue.segment_id)
    assert [c.chain_id for c in again.topology.chains] == [c.chain_id for c in system.topology.chains]
    assert [(b.type, b.order) for b in again.topology.bonds] == [(b.type, b.order) for b in system.topology.bonds]
    np.testing.assert_array_equal(again.masses, system.masses)
    np.testing.assert_array_equal(again.bonds, system.bonds)
    for field in ("dim", "length_unit", "n_atoms_in_file", "select", "unit", "n_atoms"):
        assert getattr(again, field) == getattr(system, field)
    if system.molecules is None:
        assert again.molecules is None
    else:
        for field in dataclasses.fields(system.molecules):
            np.testing.assert_array_equal(getattr(again.molecules, field.name), getattr(system.molecules, field.name))


@pytest.mark.parametrize("key", ["topology", "masses", "atom_indices", "molecules"])
def test_missing_pieces_are_said(key, rng):
    plain = read(make_peptide(rng), alignment="none").system.to_dict()
    del plain[key]
    with pytest.raises(ValueError, match=f"description of the system is damaged.*{key}"):
        System.from_dict(plain)


def test_pieces_that_do_not_fit_are_said(rng):
    plain = read(make_peptide(rng), alignment="none").system.to_dict()
    plain["masses"].pop()
    with pytest.raises(ValueError, match="15 atoms, 14 masses, 15 indices"):
        System.from_dict(plain)


def test_atoms_are_ascending_whatever_the_order_given(rng):
    positions = rng.normal(size=(5, 4, 2))
    system = read(positions, atom_indices=[3, 0, 1], alignment="none").system
    assert system.atom_indices.tolist() == [0, 1, 3]
    assert (system.n_atoms_in_file, system.n_atoms) == (4, 3)


def test_beads():
    topology = bead_topology(3)
    assert [str(atom) for atom in topology.atoms] == ["BEA1-B1", "BEA2-B2", "BEA3-B3"]
    assert (topology.n_chains, topology.n_residues, topology.n_bonds) == (1, 3, 2)


class TestLinks:
    @staticmethod
    def links(topology, select="all"):
        rng = np.random.default_rng(0)
        frames = rng.normal(size=(3, topology.n_atoms, 3)).astype(np.float32)
        return read(md.Trajectory(frames, topology), select=select, alignment="none").system.links.tolist()

    @staticmethod
    def two_chains(n_residues=3):
        topology = peptide(n_residues, topology=peptide(n_residues))
        topology.create_standard_bonds()
        return topology

    def test_whole_molecules_have_their_bonds(self):
        topology = self.two_chains()
        assert topology.n_bonds == 2 * (3 * 4 + 2)
        bonds = [[bond[0].index, bond[1].index] for bond in topology.bonds]
        assert self.links(topology) == bonds

    def test_no_bonds_leave_neighbors_in_the_sequence(self):
        assert self.links(self.two_chains(), "name CA") == [[0, 1], [1, 2], [3, 4], [4, 5]]
        assert self.links(peptide(2)) == [[i, i + 1] for i in range(9)]

    def test_residues_in_pieces_are_linked(self):
        links = self.links(self.two_chains(), "name CA or name CB")
        bonds, between = links[:6], links[6:]
        assert bonds == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]
        assert between == [[0, 2], [2, 4], [6, 8], [8, 10]]

    def test_pieces_within_a_residue_are_linked(self):
        # N and CA are bonded, O stands alone.
        assert self.links(self.two_chains(2), "name N CA O")[4:] == [
            [0, 2], [2, 3], [3, 5], [6, 8], [8, 9], [9, 11],
        ]  # fmt: skip

    def test_a_missing_residue_is_bridged(self):
        links = self.links(self.two_chains(), "backbone and (resSeq 1 or resSeq 3)")
        assert links[-2:] == [[0, 4], [8, 12]]

    def test_bonds_between_chains_do_not_stand_in_for_links(self):
        topology = peptide(2, topology=peptide(2)).subset([1, 6, 11, 16])
        atoms = list(topology.atoms)
        topology.add_bond(atoms[0], atoms[3])
        assert self.links(topology) == [[0, 3], [0, 1], [2, 3]]
