"""Where the atoms of a model are among those of a host, and how they become the whole frame that it takes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdvae.model import Model
from mdvae.trajectory import Molecules, Wholeness, find_molecules, make_whole

Atoms = Sequence[int] | Int[np.ndarray, " n_atoms"]
Cell = Float[np.ndarray, "3 3"]
# Of an atom, in atomic mass units: less than an isotope apart.
_SAME_MASS = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class Placement:
    """The atoms that a model needs from a host.

    Attributes
    ----------
    atoms : (n_needed,)
        Their indices in the host: the model's own, and in a periodic box those that link them.
    molecules : Molecules, optional
        What makes them whole in a periodic box; without it they are taken as they are.
    """

    atoms: Int[np.ndarray, " n_needed"]
    molecules: Molecules | None = None

    @property
    def own(self) -> Int[np.ndarray, " n_atoms"]:
        """Indices in the host of the model's atoms."""
        return self.atoms if self.molecules is None else self.atoms[self.molecules.selected]

    def frame(
        self, positions: Float[np.ndarray, "n_needed 3"], cell: Cell | None = None
    ) -> Float[np.ndarray, "n_atoms 3"]:
        """The model's atoms, made whole if there is a cell.

        Parameters
        ----------
        positions : (n_needed, 3), float64, nm
        cell : (3, 3), nm, optional
            Vectors in rows.

        Raises
        ------
        ValueError
            If the molecule cannot be made whole in this cell.
        """
        if self.molecules is None:
            return positions
        if cell is None:
            return positions[self.molecules.selected]
        # In whole cells, since what makes files whole rounds to their single precision.
        work, found = positions.astype(np.float32)[None], Wholeness()
        make_whole(work, cell[None], self.molecules, found)
        if found.n_broken or found.n_dummy or found.n_split_without_bonds:
            raise ValueError(
                "the molecule cannot be made whole in its periodic box: it touches its own image, or has no bonds to "
                "go along; use a larger box, or a model of a file with bonds"
            )
        images = np.rint((work[0] - positions) @ np.linalg.inv(cell))
        return (positions + images @ cell)[self.molecules.selected]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        molecules = None if self.molecules is None else self.molecules.to_dict()
        return {"atoms": self.atoms.tolist(), "molecules": molecules}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Placement":
        """Placement back from plain data."""
        molecules = plain["molecules"]
        atoms = np.asarray(plain["atoms"], np.int64)
        return cls(atoms, None if molecules is None else Molecules.from_dict(molecules))

    def scatter(self, gradient: Float[np.ndarray, "*latent n_atoms 3"]) -> Float[np.ndarray, "*latent n_needed 3"]:
        """What belongs to the model's atoms, with zeros for the others."""
        if self.molecules is None:
            return gradient
        full = np.zeros((*gradient.shape[:-2], len(self.atoms), 3))
        full[..., self.molecules.selected, :] = gradient
        return full


def checked_atoms(atoms: Atoms, n_atoms: int) -> Int[np.ndarray, " n_atoms"]:
    """Indices that a user gives for the atoms of a model.

    Raises
    ------
    ValueError
        If they are not as many different whole numbers, from 0.
    """
    own = np.asarray(atoms)
    whole = own.shape == (n_atoms,) and own.dtype.kind in "iu"
    if not whole or len(np.unique(own)) != n_atoms or own.min() < 0:
        raise ValueError(
            f"atoms= must be {n_atoms} different numbers from 0, one for each atom of the model, got {atoms}"
        )
    return own.astype(np.int64)


def place(
    model: Model,
    masses: Float[np.ndarray, " n_in_host"],
    *,
    atoms: Atoms | None = None,
    periodic: bool = False,
) -> Placement:
    """Find the atoms of a model in a host.

    Parameters
    ----------
    model : Model
    masses : (n_in_host,), atomic mass units
        Of all atoms of the host.
    atoms : (n_atoms,), optional
        Indices in the host of the model's atoms, in their order; those that they had in the model's file if left out,
        and then the masses have to fit.
    periodic : bool
        Whether the host has a periodic box.

    Returns
    -------
    Placement

    Raises
    ------
    ValueError
        If the model is not of a molecule in space, in nm, or its atoms are not those of the host.
    """
    system = model.system
    if system.dim != 3 or system.unit != "nm":
        raise ValueError(f"expected a model in 3-D with lengths in nm, got {system.dim}-D, {system.unit}: no engine")
    own = system.atom_indices if atoms is None else checked_atoms(atoms, system.n_atoms)
    if own.max() >= len(masses):
        raise ValueError(
            f"the model is about atoms up to number {own.max()} (counted from 0), but there are {len(masses)}: "
            "give atoms=, the places of the model's atoms"
        )
    if atoms is None:
        _check_masses(model, masses)
    if not periodic:
        return Placement(own)
    if atoms is None and system.molecules is not None:
        return Placement(system.molecules.atom_indices, system.molecules)
    # Only what links the model's own atoms is known.
    return Placement(own, find_molecules(len(own), system.links, np.arange(len(own))))


def _check_masses(model: Model, masses: Float[np.ndarray, " n_in_host"]) -> None:
    """Other masses are other atoms: a selection counts from another file, or the order is another."""
    theirs, ours = masses[model.system.atom_indices], model.system.masses
    # Beads and atoms of unknown elements have a mass of 1 that says nothing.
    known = ours != 1
    different = np.flatnonzero(known & (np.abs(theirs - ours) > _SAME_MASS))
    if len(different):
        first = different[0]
        raise ValueError(
            f"{len(different)} of {len(ours)} atoms have other masses than the model's, the first of them number "
            f"{model.system.atom_indices[first]} (counted from 0): expected {ours[first]:.3f}, got "
            f"{theirs[first]:.3f}. If they are the right ones all the same, say so by atoms="
        )
