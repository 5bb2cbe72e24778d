"""What a representation is."""

import abc

import equinox as eqx

from mdvae._types import Features, Frame


class AbstractRepresentation(eqx.Module):
    """A map from an aligned frame to the vector that networks see, and, unless it only encodes, back."""

    @property
    @abc.abstractmethod
    def n_features(self) -> int:
        """Length of the vector."""

    @property
    @abc.abstractmethod
    def n_linear(self) -> int:
        """How many of them, the first ones, are plain numbers; the others are cosines, then sines, of angles."""

    @property
    @abc.abstractmethod
    def keeps_pose(self) -> bool:
        """Whether the vector says where a frame stands and how it is turned; if not, no frame need be aligned."""

    @property
    @abc.abstractmethod
    def invertible(self) -> bool:
        """Whether there is a way back: to the frame itself, or up to a proper rotation and a shift."""

    @abc.abstractmethod
    def to_features(self, frame: Frame) -> Features:
        """Vector (n_features,) of an aligned frame (n_atoms, dim)."""

    @abc.abstractmethod
    def to_coordinates(self, features: Features) -> Frame:
        """Frame (n_atoms, dim) of a vector (n_features,).

        Raises
        ------
        ValueError
            Where there is no way back.
        """
