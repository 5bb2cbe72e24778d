"""Distances, angles and dihedral angles: what a molecule is, wherever it stands and however it is turned."""

import jax.numpy as jnp
from jaxtyping import Array, Int

from mdvae._types import Features, Frame
from mdvae.geometry import (
    angles,
    atoms_from_dihedrals,
    atoms_from_turns,
    dihedrals,
    distances,
    safe_arctan2,
    turns,
)
from mdvae.representations.base import AbstractRepresentation


class Internal(AbstractRepresentation):
    """Internal coordinates along a tree, angles that go round as cosine and sine.

    In space the features are distances (n_atoms - 1, in nm), angles (n_atoms - 2, in radians), cosines and then sines
    of dihedral angles (n_atoms - 3 each); in the plane they are distances, cosines and then sines of signed turns
    (n_atoms - 2 each).

    Parameters
    ----------
    references : (n_atoms, dim + 1)
        What every atom is measured against, from `tree.references`.
    """

    references: Int[Array, "n_atoms n_references"]

    def __init__(self, references: Int[Array, "n_atoms n_references"]) -> None:
        if len(references) < 2:
            raise ValueError(f"internal coordinates need at least 2 atoms, got {len(references)}; use Cartesian ones")
        self.references = references

    @property
    def n_features(self) -> int:
        """Distances and angles, and two for every angle that goes round."""
        return self.n_linear + 2 * self._n_circular

    @property
    def n_linear(self) -> int:
        """Distances, and in space angles: they lie on a line."""
        n_atoms, n_references = self.references.shape
        return n_atoms - 1 if n_references == 3 else 2 * n_atoms - 3

    @property
    def keeps_pose(self) -> bool:
        """Where a frame stands and how it is turned is lost."""
        return False

    @property
    def invertible(self) -> bool:
        """Atoms can be placed again, one after another."""
        return True

    def to_features(self, frame: Frame) -> Features:
        """Vector (n_features,) of a frame in any pose."""
        rows = self.references
        lengths = distances(frame, rows[1:, :2])
        if rows.shape[1] == 3:
            linear, circular = [lengths], turns(frame, rows[2:])
        else:
            linear, circular = [lengths, angles(frame, rows[2:, :3])], dihedrals(frame, rows[3:])
        return jnp.concatenate([*linear, jnp.cos(circular), jnp.sin(circular)])

    def to_coordinates(self, features: Features) -> Frame:
        """Frame (n_atoms, dim) in some pose, never a mirror image; cosine and sine need not be normalized."""
        n_lengths, n_linear, n = len(self.references) - 1, self.n_linear, self._n_circular
        circular = safe_arctan2(features[n_linear + n :], features[n_linear : n_linear + n])
        if self.references.shape[1] == 3:
            return atoms_from_turns(features[:n_lengths], circular, self.references)
        return atoms_from_dihedrals(features[:n_lengths], features[n_lengths:n_linear], circular, self.references)

    @property
    def _n_circular(self) -> int:
        n_atoms, n_references = self.references.shape
        return max(0, n_atoms - n_references + 1)
