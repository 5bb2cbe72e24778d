"""Which atoms a model is about: their masses, bonds and names, their axes and their length unit."""

from dataclasses import dataclass
from typing import Any, Literal

import mdtraj as md
import numpy as np
from jaxtyping import Float, Int

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
        """Bonds; where there are none (Cα models), neighbors in the sequence of each chain."""
        bonds = self.bonds
        if len(bonds):
            return bonds
        chains = np.array([atom.residue.chain.index for atom in self.topology.atoms])
        first = np.flatnonzero(chains[:-1] == chains[1:])
        return np.stack([first, first + 1], axis=1)

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
