"""Distances, angles and torsions are mdtraj's, and the right atoms are measured."""

import dataclasses
import itertools

import mdtraj as md
import numpy as np
import pytest

from mdvae.evaluation.quantities import Quantities, torsions
from mdvae.local_geometry import find_links, fit_local_geometry
from mdvae.trajectory import alpha_carbons, atom_names, find_backbone
from mdvae.trajectory.system import system_of_array


@pytest.fixture(scope="module")
def quantities(knows_peptide):
    return Quantities.of(knows_peptide.system, knows_peptide.data.geometry)


@pytest.fixture(scope="module")
def measuring():
    """Function of frames: their quantities, and the topology."""

    def of(frames, unit="nm"):
        n_atoms, dim = frames.shape[1:]
        system = system_of_array(n_atoms, np.arange(n_atoms), dim, unit)
        geometry = fit_local_geometry(frames, find_links(frames, system.links, system.bonds), system.masses)
        return Quantities.of(system, geometry), system.topology

    return of


@pytest.fixture(scope="module")
def shaken(runs):
    """Far from physical: every torsion and angle has any value."""
    frames = runs[0].xyz[:50] + 0.1 * np.random.default_rng(0).normal(size=runs[0].xyz[:50].shape)
    return md.Trajectory(frames.astype(np.float32), runs[0].topology)


def atoms_of(quantities, topology, family):
    """Indices from names."""
    labels = {name: i for i, name in enumerate(atom_names(topology))}
    return np.array(
        [[labels[part] for part in one.name.split("–")] for one in quantities.names[quantities.families[family]]]
    )


def test_lengths_agree_with_mdtraj(quantities, shaken):
    found = quantities.measured(shaken.xyz)
    for family in ("distance", "bond", "end to end"):
        pairs = atoms_of(quantities, shaken.topology, family)
        expected = md.compute_distances(shaken, pairs)
        np.testing.assert_allclose(found[:, quantities.families[family]], expected, atol=1e-5)


def test_angles_and_torsions_agree_with_mdtraj(quantities, shaken):
    found = quantities.measured(shaken.xyz)
    triples, quadruples = (atoms_of(quantities, shaken.topology, family) for family in ("angle", "torsion"))
    expected = np.degrees(md.compute_angles(shaken, triples))
    np.testing.assert_allclose(found[:, quantities.families["angle"]], expected, atol=0.02)
    apart = found[:, quantities.families["torsion"]] - np.degrees(md.compute_dihedrals(shaken, quadruples))
    np.testing.assert_allclose((apart + 180) % 360 - 180, 0, atol=0.02)


def test_radius_of_gyration_by_hand_and_by_mdtraj(quantities, knows_peptide, shaken):
    masses = np.array([atom.element.mass for atom in shaken.topology.atoms])
    x = shaken.xyz - np.average(shaken.xyz, axis=1, weights=masses)[:, None]
    expected = np.sqrt(np.average((x**2).sum(axis=2), axis=1, weights=masses))
    column = quantities.families["radius of gyration"]
    np.testing.assert_allclose(quantities.measured(shaken.xyz)[:, column][:, 0], expected, rtol=1e-5)
    # mdtraj measures from the center of geometry, whatever the masses: comparable where all are equal.
    alike = dataclasses.replace(knows_peptide.system, masses=np.ones(15, np.float32))
    found = Quantities.of(alike, knows_peptide.data.geometry).measured(shaken.xyz)[:, column][:, 0]
    np.testing.assert_allclose(found, md.compute_rg(shaken), rtol=1e-5)
    assert np.abs(found - expected).max() > 1e-3


def test_backbone_torsions_agree_with_mdtraj(quantities, shaken):
    backbone = quantities.backbone
    assert backbone.residues == ("ALA2", "ALA3")
    for rows, compute in ((backbone.phi, md.compute_phi), (backbone.psi, md.compute_psi)):
        indices, expected = compute(shaken)
        np.testing.assert_array_equal(rows, indices)
        apart = torsions(shaken.xyz, rows) - np.degrees(expected)
        np.testing.assert_allclose((apart + 180) % 360 - 180, 0, atol=0.02)
    np.testing.assert_array_equal(backbone.omega, md.compute_omega(shaken)[0])


def test_torsions_of_nothing(shaken):
    assert torsions(shaken.xyz, np.zeros((0, 4), int)).shape == (50, 0)


def test_everything_that_the_peptide_has(quantities, peptide):
    """14 bonds; angles at every atom with neighbors: 3 at each of five branching ones, 1 at each of three others."""
    sizes = {name: columns.stop - columns.start for name, columns in quantities.families.items()}
    assert sizes["bond"] == 14
    neighbors = np.bincount([i for a, b in peptide.bonds for i in (a.index, b.index)])
    assert sizes["angle"] == (neighbors * (neighbors - 1) // 2).sum() == 18
    # One about each bond between atoms that have others.
    assert sizes["torsion"] == sum(neighbors[a.index] > 1 < neighbors[b.index] for a, b in peptide.bonds) == 7
    assert sizes["radius of gyration"] == sizes["end to end"] == 1
    graph = np.eye(15, dtype=int)
    for a, b in peptide.bonds:
        graph[a.index, b.index] = graph[b.index, a.index] = 1
    far = np.argwhere(np.triu(np.linalg.matrix_power(graph, 3) == 0))
    np.testing.assert_array_equal(atoms_of(quantities, peptide, "distance"), far)
    bonds = sorted(sorted((a.index, b.index)) for a, b in peptide.bonds)
    np.testing.assert_array_equal(atoms_of(quantities, peptide, "bond"), bonds)
    assert len({(one.family, one.name) for one in quantities.names}) == len(quantities.names) == sum(sizes.values())
    units = {one.family: one.unit for one in quantities.names}
    assert units == dict.fromkeys(("radius of gyration", "end to end", "distance", "bond"), "nm") | dict.fromkeys(
        ("angle", "torsion"), "degrees"
    )
    # From the first Cα to the last.
    assert quantities.names[quantities.families["end to end"]][0].name == "ALA2-CA–ALA3-CA"


def test_torsions_are_of_bonded_atoms(quantities, peptide):
    bonded = {frozenset((a.index, b.index)) for a, b in peptide.bonds}
    for row in atoms_of(quantities, peptide, "torsion").tolist():
        assert len(set(row)) == 4
        assert all(frozenset(pair) in bonded for pair in itertools.pairwise(row))


def test_at_most_a_hundred_of_each_family(measuring, rng):
    """A chain of 150 beads: evenly chosen ones, from the first to the last."""
    steps = rng.normal(size=(20, 150, 3))
    frames = 0.15 * np.cumsum(steps / np.linalg.norm(steps, axis=2, keepdims=True), axis=1)
    quantities, topology = measuring(frames.astype(np.float32))
    sizes = {name: columns.stop - columns.start for name, columns in quantities.families.items()}
    assert {sizes[name] for name in ("distance", "bond", "angle", "torsion")} == {100}
    assert sizes["end to end"] == sizes["radius of gyration"] == 1
    for family in ("bond", "angle", "torsion"):
        atoms = atoms_of(quantities, topology, family)
        assert atoms.min() == 0
        assert atoms.max() == 149
        assert np.ptp(np.diff(atoms[:, 0])) <= 1
    ends = atoms_of(quantities, topology, "end to end")
    np.testing.assert_array_equal(ends, [[0, 149]])
    expected = md.compute_distances(md.Trajectory(frames, topology), ends)
    np.testing.assert_allclose(quantities.measured(frames.astype(np.float32))[:, 1:2], expected, rtol=1e-5)


def test_beads_in_the_plane(measuring, chain):
    quantities, topology = measuring(chain, "reduced")
    assert list(quantities.families) == ["radius of gyration", "end to end", "distance", "bond", "angle"]
    assert {one.unit for one in quantities.names} == {"reduced", "degrees"}
    assert not quantities.backbone.residues
    # What is measured from end to end is no other distance.
    assert [one.name for one in quantities.names[quantities.families["distance"]]] == ["B1–B5", "B2–B6"]
    found = quantities.measured(chain)
    flat = md.Trajectory(np.pad(chain, ((0, 0), (0, 0), (0, 1))), topology)
    np.testing.assert_allclose(found[:, 0], md.compute_rg(flat), rtol=1e-5)
    np.testing.assert_allclose(found[:, 1], md.compute_distances(flat, [[0, 5]])[:, 0], rtol=1e-5)
    bonds = md.compute_distances(flat, [[i, i + 1] for i in range(5)])
    np.testing.assert_allclose(found[:, quantities.families["bond"]], bonds, rtol=1e-5)
    bends = np.degrees(md.compute_angles(flat, [[i, i + 1, i + 2] for i in range(4)]))
    np.testing.assert_allclose(found[:, quantities.families["angle"]], bends, atol=0.05)


@pytest.mark.parametrize("n_atoms", [1, 2, 3])
def test_few_atoms(n_atoms, measuring, rng):
    x = 0.01 * rng.normal(size=(20, n_atoms, 3))
    x[:, :, 0] += 0.15 * np.arange(n_atoms)
    x = x.astype(np.float32)
    quantities, _ = measuring(x)
    expected = ["radius of gyration", "end to end", "bond", "angle"][: (1, 3, 4)[n_atoms - 1]]
    assert list(quantities.families) == expected
    found = quantities.measured(x)
    assert found.shape == (20, len(quantities.names))
    if n_atoms == 1:
        np.testing.assert_allclose(found, 0, atol=1e-6)
    if n_atoms == 2:
        # Equal masses: half the bond.
        np.testing.assert_allclose(found[:, 0], found[:, 1] / 2, rtol=1e-5)
        np.testing.assert_array_equal(found[:, 1], found[:, 2])


# -- names


def residues(*parts):
    """Topology of residues (name, atom names), one chain."""
    topology = md.Topology()
    chain = topology.add_chain()
    for i, (name, atoms) in enumerate(parts):
        residue = topology.add_residue(name, chain, resSeq=i + 5)
        for atom in atoms:
            topology.add_atom(atom, md.element.calcium if name == "CA" else md.element.carbon, residue)
    return topology


FULL = ("N", "CA", "C", "O")


def test_phi_and_psi_are_paired_by_residue():
    """The first residue has no φ, the last no ψ, and one without Cα has neither."""
    broken = ("N", "C", "O")
    topology = residues(("GLY", FULL), ("ALA", FULL), ("SER", broken), ("LYS", FULL), ("TRP", FULL), ("PHE", FULL))
    found = find_backbone(topology)
    assert found.residues == ("ALA6", "LYS8", "TRP9")
    nitrogen = {str(atom.residue): atom.index for atom in topology.atoms if atom.name == "N"}
    for name, phi, psi in zip(found.residues, found.phi, found.psi, strict=True):
        assert [topology.atom(i).name for i in phi] == ["C", "N", "CA", "C"]
        assert [topology.atom(i).name for i in psi] == ["N", "CA", "C", "N"]
        assert phi[1] == psi[0] == nitrogen[name]
        np.testing.assert_array_equal(phi[1:], psi[:3])
    assert [[str(topology.atom(i)) for i in row[[0, -1]]] for row in found.omega] == [
        ["GLY5-CA", "ALA6-CA"], ["LYS8-CA", "TRP9-CA"], ["TRP9-CA", "PHE10-CA"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "topology", [residues(("ALA", ["CA"]), ("ALA", ["CA"]), ("ALA", ["CA"])), residues(("GLY", FULL))]
)
def test_no_backbone(topology):
    found = find_backbone(topology)
    assert found.residues == ()
    assert found.phi.shape == found.psi.shape == found.omega.shape == (0, 4)


def test_alpha_carbons_are_no_calcium():
    topology = residues(("ALA", ["N", "CA"]), ("CA", ["CA"]), ("GLY", ["CA"]))
    np.testing.assert_array_equal(alpha_carbons(topology), [1, 3])
    np.testing.assert_array_equal(alpha_carbons(residues(("CA", ["CA"]))), [])


def test_names_tell_atoms_apart(peptide, frames):
    assert atom_names(residues(("HEX", ["C1", "C2"]))) == ("C1", "C2")
    assert atom_names(residues(("ALA", ["N", "CA"]), ("GLY", ["CA"]))) == ("ALA5-N", "ALA5-CA", "GLY6-CA")
    assert len(set(atom_names(peptide))) == 15
    assert len(set(atom_names(frames.system.topology))) == 6
