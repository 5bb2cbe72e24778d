"""Torsions of a topology that have names, and short names of its atoms."""

from collections.abc import Sequence
from dataclasses import dataclass

import mdtraj as md
import numpy as np
from jaxtyping import Int
from mdtraj.geometry import dihedral
from mdtraj.geometry.dihedral import indices_omega, indices_phi, indices_psi

from mdvae.feature_words import TORSIONS, Feature, parse

Fours = Int[np.ndarray, "_ 4"]


@dataclass(frozen=True, eq=False)
class Backbone:
    """Which atoms the backbone torsions of a peptide are made of.

    Attributes
    ----------
    residues : tuple of str
        Those that have both torsions, such as "ALA2".
    phi, psi : (n_residues, 4)
        Atoms of the two torsions of each.
    omega : (n_bonds, 4)
        Atoms of the torsions about peptide bonds, CA-C-N-CA.
    """

    residues: tuple[str, ...]
    phi: Fours
    psi: Fours
    omega: Fours


def find_backbone(topology: md.Topology) -> Backbone:
    """Backbone torsions whose atoms are all there, by the names of the atoms.

    Parameters
    ----------
    topology : md.Topology

    Returns
    -------
    Backbone
        Empty where there is no peptide, or too few of its atoms.
    """
    phi, psi, omega = (_fours(find(topology)) for find in (indices_phi, indices_psi, indices_omega))
    # The second atom of φ and the first of ψ are the residue's nitrogen.
    _, first, second = np.intersect1d(phi[:, 1], psi[:, 0], return_indices=True)
    phi, psi = phi[first], psi[second]
    residues = tuple(str(topology.atom(int(nitrogen)).residue) for nitrogen in phi[:, 1])
    return Backbone(residues, phi, psi, omega)


def _fours(found: np.ndarray) -> Fours:
    return np.asarray(found, np.int64).reshape(-1, 4)


def explicit_features(topology: md.Topology, features: Sequence[str]) -> tuple[str, ...]:
    """Features in words, with the atoms of every torsion that only had a name.

    Parameters
    ----------
    topology : md.Topology
        Of the selected atoms.
    features : sequence of str
        As `Spec` takes them.

    Returns
    -------
    tuple of str
        In their order; "phi" gives one torsion for every residue that has it.

    Raises
    ------
    ValueError
        For a torsion that none of these atoms have.
    """
    found = []
    for feature in map(parse, features):
        found += [feature] if feature.explicit else _named_torsions(topology, feature)
    return tuple(map(str, found))


def _named_torsions(topology: md.Topology, feature: Feature) -> list[Feature]:
    rows = _fours(_FIND[feature.kind](topology))
    # The second atom of each of them belongs to the residue whose torsion it is.
    residues = [str(topology.atom(int(row[1])).residue) for row in rows]
    if not residues:
        raise ValueError(
            f"none of the {topology.n_atoms} selected atoms make the torsion {feature.kind!r}: select all atoms that "
            "it is about, of a topology that names them, or name the torsion by its atoms, such as 'torsion 4 6 8 14'"
        )
    if feature.residue is not None and feature.residue not in residues:
        raise ValueError(f"there is no torsion {str(feature)!r}; expected one of {', '.join(dict.fromkeys(residues))}")
    chosen = rows if feature.residue is None else rows[np.array(residues) == feature.residue]
    return [Feature("torsion", tuple(row)) for row in chosen.tolist()]


_FIND = {name: getattr(dihedral, f"indices_{name}") for name in TORSIONS}


def atom_names(topology: md.Topology) -> tuple[str, ...]:
    """Short names that tell atoms apart: "B3" where names alone do, else "GLU3-CA".

    Parameters
    ----------
    topology : md.Topology
    """
    names = [atom.name for atom in topology.atoms]
    return tuple(names) if len(set(names)) == len(names) else tuple(str(atom) for atom in topology.atoms)


def alpha_carbons(topology: md.Topology) -> Int[np.ndarray, " n_found"]:
    """Indices of the atoms named CA, other than calcium.

    Parameters
    ----------
    topology : md.Topology
    """
    return np.array([a.index for a in topology.atoms if a.name == "CA" and a.residue.name != "CA"], np.int64)
