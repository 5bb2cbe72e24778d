"""A few distances, contacts and torsions alone: what a coordinate needs, and no way back to positions."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdvae._types import Features, Frame
from mdvae.geometry import dihedrals, distances
from mdvae.representations.base import AbstractRepresentation

Atoms = Sequence[Sequence[int]] | Int[np.ndarray | Array, "_ n_atoms"]

# Nearer than this many radii a contact is followed; beyond, it is 1e-12, and its derivatives would overflow.
_FARTHEST = 100


class Chosen(AbstractRepresentation):
    """Chosen distances, contacts and torsions of a frame in any pose; positions cannot be had back from them.

    The features are distances (n_distances, in nm), contacts (n_contacts, from 0 to 1), then cosines and then sines of
    torsions (n_torsions each). A contact of two atoms r apart is ``1 / (1 + (r / contact_radius)^6)``, one half at the
    radius (DOI 10.1103/PhysRevLett.90.238302; its fraction with twelfth powers below is the same).

    Parameters
    ----------
    distances, contacts : (n, 2), optional
        Pairs of atoms, counted from 0 among those of a frame.
    torsions : (n_torsions, 4), optional
        Atoms of dihedral angles; in space only.
    contact_radius : float
        In nm (or reduced units): 0.45 suits heavy atoms.
    """

    distances: Int[Array, "n_distances 2"]
    contacts: Int[Array, "n_contacts 2"]
    torsions: Int[Array, "n_torsions 4"]
    contact_radius: float = eqx.field(static=True)

    def __init__(
        self, distances: Atoms = (), contacts: Atoms = (), torsions: Atoms = (), contact_radius: float = 0.45
    ) -> None:
        self.distances, self.contacts = _rows(distances, 2), _rows(contacts, 2)
        self.torsions = _rows(torsions, 4)
        self.contact_radius = contact_radius
        if not self.n_features:
            raise ValueError("a representation of chosen features needs at least one distance, contact or torsion")

    @property
    def n_features(self) -> int:
        """One for every distance and contact, two for every torsion."""
        return self.n_linear + 2 * len(self.torsions)

    @property
    def n_linear(self) -> int:
        """Distances and contacts."""
        return len(self.distances) + len(self.contacts)

    @property
    def keeps_pose(self) -> bool:
        """Where a frame stands and how it is turned is lost."""
        return False

    @property
    def invertible(self) -> bool:
        """Many frames have the same few features; and mirror images have the same distances, be they all of them."""
        return False

    @property
    def words(self) -> tuple[str, ...]:
        """The features as `Spec` spells them, in their order."""
        kinds = {"distance": self.distances, "contact": self.contacts, "torsion": self.torsions}
        return tuple(" ".join(map(str, [kind, *row])) for kind, rows in kinds.items() for row in rows.tolist())

    def to_features(self, frame: Frame) -> Features:
        """Vector (n_features,) of a frame in any pose."""
        parts = [distances(frame, self.distances), _contacts(frame, self.contacts, self.contact_radius)]
        if len(self.torsions):
            angles = dihedrals(frame, self.torsions)
            parts += [jnp.cos(angles), jnp.sin(angles)]
        return jnp.concatenate(parts)

    def to_coordinates(self, features: Features) -> Frame:
        """Not to be had.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError("chosen distances, contacts and torsions have no way back to positions")


def _rows(atoms: Atoms, n_atoms: int) -> Int[Array, "n n_atoms"]:
    return jnp.asarray(np.asarray(atoms, np.int32).reshape(-1, n_atoms))


def _contacts(frame: Frame, pairs: Int[Array, "n_pairs 2"], radius: float) -> Float[Array, " n_pairs"]:
    first, second = frame[pairs.T]
    # In the square of the distance no root needs care where two atoms lie at one point.
    squares = jnp.sum((first - second) ** 2, axis=1) / radius**2
    return 1 / (1 + jnp.minimum(squares, _FARTHEST**2) ** 3)
