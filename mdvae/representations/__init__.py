"""How an aligned frame becomes a vector, and back."""

from mdvae.representations.base import AbstractRepresentation
from mdvae.representations.cartesian import Cartesian

__all__ = ["AbstractRepresentation", "Cartesian"]
