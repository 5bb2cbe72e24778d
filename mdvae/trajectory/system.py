"""Which atoms a model is about: their masses, bonds and names, their axes and their length unit."""

from dataclasses import dataclass
from typing import Any, Literal

import mdtraj as md
import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mdvae.trajectory.periodic import Molecules, find_molecules
from mdvae.trajectory.topologies import (
    bead_topology,
    bond_indices,
    from_plain,
    masses_of,
    subset,
    to_plain,
)

LENGTH_UNITS = ("nm", "angstrom", "reduced")


@dataclass(frozen=True, eq=False)
class System:
    """Everything about the conformations that is the same in every frame.

    Attributes
    ----------
    topology : md.Topology
        Of the selected atoms.
    masses : (n_atoms,), float32, atomic mass units
        1 where the element is unknown.
    dim : int
        2 or 3.
    length_unit : {"nm", "angstrom", "reduced"}
        Of arrays that are given; inside everything is in nm, or in reduced units.
    n_atoms_in_file : int
        Atoms of one frame of the source.
    atom_indices : (n_atoms,)
        Selected atoms, counted from 0 in the source, ascending.
    select : str, optional
        The selection that chose them.
    molecules : Molecules, optional
        What makes them whole in a periodic box; None for arrays.
    """

    topology: md.Topology
    masses: Float[np.ndarray, " n_atoms"]
    dim: int
    length_unit: str
    n_atoms_in_file: int
    atom_indices: Int[np.ndarray, " n_atoms"]
    select: str | None
    molecules: Molecules | None

    @property
    def n_atoms(self) -> int:
        """Number of selected atoms."""
        return len(self.atom_indices)

    @property
    def bonds(self) -> Int[np.ndarray, "n_bonds 2"]:
        """Bonded pairs among the selected atoms."""
        return bond_indices(self.topology)

    @property
    def links(self) -> Int[np.ndarray, "n_links 2"]:
        """Bonds, and what holds together the pieces that they leave of each chain.

        Without any bonds (Cα models) these are neighbors in the sequence.
        """
        bonds = self.bonds
        return np.concatenate([bonds, _between_pieces(self.topology, bonds)])

    @property
    def unit(self) -> Literal["nm", "reduced"]:
        """Unit of lengths inside: nm, or reduced."""
        return "reduced" if self.length_unit == "reduced" else "nm"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, from which `from_dict` makes the same system."""
        return {
            "topology": to_plain(self.topology),
            "masses": [float(mass) for mass in self.masses],
            "dim": self.dim,
            "length_unit": self.length_unit,
            "n_atoms_in_file": self.n_atoms_in_file,
            "atom_indices": [int(i) for i in self.atom_indices],
            "select": self.select,
            "molecules": None if self.molecules is None else self.molecules.to_dict(),
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "System":
        """System back from plain data.

        Raises
        ------
        ValueError
            Something is missing, or does not fit together.
        """
        try:
            molecules, atoms = plain["molecules"], plain["atom_indices"]
            topology, masses = from_plain(plain["topology"]), plain["masses"]
            if not topology.n_atoms == len(masses) == len(atoms):
                raise ValueError(
                    f"the description of the system is damaged: {topology.n_atoms} atoms, "
                    f"{len(masses)} masses, {len(atoms)} indices"
                )
            return cls(
                topology=topology,
                masses=np.asarray(masses, np.float32),
                dim=int(plain["dim"]),
                length_unit=str(plain["length_unit"]),
                n_atoms_in_file=int(plain["n_atoms_in_file"]),
                atom_indices=np.asarray(atoms, np.int64),
                select=plain["select"],
                molecules=None if molecules is None else Molecules.from_dict(molecules),
            )
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"the description of the system is damaged: {error!r}") from error


def _between_pieces(topology: md.Topology, bonds: Int[np.ndarray, "n_bonds 2"]) -> Int[np.ndarray, "n_links 2"]:
    """Link the first atom of each bonded piece of a chain to what stands before it.

    There it is the first atom of the same residue and piece that is linked: Cα to Cα where Cα and Cβ are selected.
    """
    atoms = list(topology.atoms)
    chains = np.array([atom.residue.chain.index for atom in atoms], np.int64)
    residues = np.array([atom.residue.index for atom in atoms], np.int64)
    inside = bonds[chains[bonds[:, 0]] == chains[bonds[:, 1]]]
    graph = coo_array((np.ones(len(inside), np.int8), (inside[:, 0], inside[:, 1])), shape=(len(atoms), len(atoms)))
    n_pieces, piece = connected_components(graph, directed=False)
    first = np.sort(np.unique(piece, return_index=True)[1])
    first = first[(first > 0) & (chains[first] == chains[first - 1])]
    _, heads, part = np.unique(residues * n_pieces + piece, return_index=True, return_inverse=True)
    return np.stack([heads[part[first - 1]], first], axis=1)


def system_of_file(
    topology: md.Topology,
    atom_indices: Int[np.ndarray, " n_atoms"],
    select: str | None = None,
    length_unit: str = "nm",
) -> System:
    """System of some atoms of a topology.

    Parameters
    ----------
    topology : md.Topology
        Of all atoms of the file.
    atom_indices : (n_atoms,)
        The selected ones, ascending.
    select : str, optional
        The selection that chose them.
    length_unit : {"nm", "angstrom", "reduced"}

    Returns
    -------
    System
    """
    chosen = subset(topology, atom_indices)
    return System(
        topology=chosen,
        masses=masses_of(chosen)[0],
        dim=3,
        length_unit=length_unit,
        n_atoms_in_file=topology.n_atoms,
        atom_indices=atom_indices,
        select=select,
        molecules=find_molecules(topology.n_atoms, bond_indices(topology), atom_indices),
    )


def system_of_array(
    n_atoms_in_array: int, atom_indices: Int[np.ndarray, " n_atoms"], dim: int, length_unit: str = "nm"
) -> System:
    """System of nameless beads, for arrays without a topology.

    Parameters
    ----------
    n_atoms_in_array : int
    atom_indices : (n_atoms,)
        The selected ones, ascending.
    dim : int
        2 or 3.
    length_unit : {"nm", "angstrom", "reduced"}

    Returns
    -------
    System
    """
    return System(
        topology=bead_topology(len(atom_indices)),
        masses=np.ones(len(atom_indices), np.float32),
        dim=dim,
        length_unit=length_unit,
        n_atoms_in_file=n_atoms_in_array,
        atom_indices=atom_indices,
        select=None,
        molecules=None,
    )
