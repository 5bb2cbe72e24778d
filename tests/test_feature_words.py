"""Features in the user's words: what they mean, and what is said of those that mean nothing."""

import re

import mdtraj as md
import numpy as np
import pytest

from mdvae.feature_words import Feature, atoms_of, check_features, parse
from mdvae.trajectory import explicit_features

MEANT = {
    "distance 0 9": Feature("distance", (0, 9)),
    "  contact  3 12 ": Feature("contact", (3, 12)),
    "torsion 4 6 8 14": Feature("torsion", (4, 6, 8, 14)),
    "distance 0 -1": Feature("distance", (0, -1)),
    "phi": Feature("phi"),
    "chi1 GLU3": Feature("chi1", residue="GLU3"),
}


@pytest.mark.parametrize("text", MEANT)
def test_words_are_read_and_said_again(text):
    assert parse(text) == MEANT[text]
    assert str(parse(text)) == " ".join(text.split())


def test_numbers_from_the_end_are_counted_from_the_start():
    assert check_features(["distance 0 -1", "torsion -6 1 2 3"], 6, 3) == ("distance 0 5", "torsion 0 1 2 3")


def test_atoms_of_one_kind():
    features = ["distance 0 9", "phi", "contact 1 2", "distance 4 3"]
    assert atoms_of(features, "distance") == [(0, 9), (4, 3)]
    assert atoms_of(features, "torsion") == []


NOT_MEANT = {
    "no feature": ("angle 0 1 2", "'angle 0 1 2' is no feature; expected one like 'distance 0 9'"),
    "nothing": ("", "'' is no feature"),
    "too few atoms": ("distance 3", "a distance is of 2 atoms by number, such as 'distance 4 6'"),
    "too many atoms": ("contact 1 2 3", "a contact is of 2 atoms by number"),
    "names of atoms": ("torsion N CA C O", "a torsion is of 4 atoms by number, such as 'torsion 4 6 8 10'"),
    "two residues": ("phi ALA1 ALA2", "'phi ALA1 ALA2' is no feature"),
    "beyond the last atom": ("distance 0 6", "names atom 6, expected 0 to 5: count from 0 among the selected atoms"),
    "before the first atom": ("distance 0 -7", "names atom -7, expected 0 to 5"),
    "an atom twice": ("torsion 0 1 2 0", "names an atom twice; expected 4 different ones"),
    "an atom twice, from the end": ("distance 5 -1", "'distance 5 -1' names an atom twice"),
}


@pytest.mark.parametrize("case", NOT_MEANT)
def test_what_cannot_be_meant(case):
    text, words = NOT_MEANT[case]
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        check_features(["distance 0 1", text], 6, 3)
    assert "\n" not in str(caught.value)


TWICE = {
    "as it was": ["distance 0 1", "distance 0 1"],
    "the other way round": ["distance 0 1", "distance 1 0"],
    "a torsion from its end": ["torsion 0 1 2 3", "torsion 3 2 1 0"],
    "from the end": ["contact 0 5", "contact 0 -1"],
    "a word": ["phi", "phi"],
}


@pytest.mark.parametrize("case", TWICE)
def test_a_feature_twice(case):
    with pytest.raises(ValueError, match="is named twice; leave one of them out"):
        check_features(TWICE[case], 6, 3)


def test_the_same_atoms_may_be_of_two_kinds():
    both = ("distance 0 1", "contact 0 1", "torsion 0 1 2 3", "torsion 0 2 1 3")
    assert check_features(both, 6, 3) == both


def test_lists_are_needed():
    with pytest.raises(TypeError, match=r"a list of words, such as \['phi', 'distance 0 9'\], got 'phi'"):
        check_features("phi", 6, 3)
    with pytest.raises(ValueError, match="no features were chosen"):
        check_features([], 6, 3)


@pytest.mark.parametrize("text", ["torsion 0 1 2 3", "psi"])
def test_no_torsions_in_the_plane(text):
    with pytest.raises(ValueError, match="needs three dimensions, and the frames are in the plane"):
        check_features([text], 6, 2)


@pytest.fixture(scope="module")
def peptide():
    """Heavy atoms of ACE-SER-ALA-NME, without bonds: names are enough."""
    topology = md.Topology()
    chain = topology.add_chain()
    for number, (name, atoms) in enumerate(
        {"ACE": "CH3 C O", "SER": "N CA C O CB OG", "ALA": "N CA C O CB", "NME": "N C"}.items(), 1
    ):
        residue = topology.add_residue(name, chain, resSeq=number)
        for atom in atoms.split():
            topology.add_atom(atom, md.element.Element.getBySymbol(atom[0]), residue)
    return topology


def named(topology, text):
    """Names of the atoms that each explicit torsion has."""
    found = atoms_of(explicit_features(topology, [text]), "torsion")
    return [" ".join(str(topology.atom(i)) for i in row) for row in found]


def test_torsions_by_name(peptide):
    assert named(peptide, "phi") == ["ACE1-C SER2-N SER2-CA SER2-C", "SER2-C ALA3-N ALA3-CA ALA3-C"]
    assert named(peptide, "psi ALA3") == ["ALA3-N ALA3-CA ALA3-C NME4-N"]
    assert named(peptide, "omega") == ["SER2-CA SER2-C ALA3-N ALA3-CA"]
    assert named(peptide, "chi1") == ["SER2-N SER2-CA SER2-CB SER2-OG"]
    others = ("distance 0 1", "contact 2 3")
    assert explicit_features(peptide, others) == others


def test_torsions_that_are_not_there(peptide):
    with pytest.raises(ValueError, match=r"there is no torsion 'phi ALA2'; expected one of SER2, ALA3$"):
        explicit_features(peptide, ["phi ALA2"])
    alphas = peptide.subset(peptide.select("name CA"))
    with pytest.raises(ValueError, match="none of the 2 selected atoms make the torsion 'psi': select all atoms that"):
        explicit_features(alphas, ["psi"])


def test_they_are_those_of_mdtraj(peptide, rng):
    trajectory = md.Trajectory(rng.normal(size=(3, peptide.n_atoms, 3)).astype(np.float32), peptide)
    for name in ("phi", "psi", "omega", "chi1"):
        indices, _ = getattr(md, f"compute_{name}")(trajectory)
        assert atoms_of(explicit_features(peptide, [name]), "torsion") == [tuple(row) for row in indices.tolist()]
