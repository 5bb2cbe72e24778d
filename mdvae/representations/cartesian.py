"""Positions themselves, atom after atom; they mean something only in a common pose."""

import equinox as eqx

from mdvae._types import Features, Frame
from mdvae.representations.base import AbstractRepresentation


class Cartesian(AbstractRepresentation):
    """Coordinates of all atoms in one row, in nm (or reduced units).

    Parameters
    ----------
    n_atoms, dim : int
    """

    n_atoms: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(self, n_atoms: int, dim: int) -> None:
        self.n_atoms, self.dim = n_atoms, dim

    @property
    def n_features(self) -> int:
        """Atoms times dimensions."""
        return self.n_atoms * self.dim

    @property
    def n_linear(self) -> int:
        """All of them."""
        return self.n_features

    @property
    def keeps_pose(self) -> bool:
        """Positions say where a frame stands."""
        return True

    @property
    def invertible(self) -> bool:
        """They are the frame."""
        return True

    def to_features(self, frame: Frame) -> Features:
        """Rows of the frame, one after another."""
        return frame.reshape(-1)

    def to_coordinates(self, features: Features) -> Frame:
        """The vector cut into rows."""
        return features.reshape(self.n_atoms, self.dim)
