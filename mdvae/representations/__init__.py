"""How an aligned frame becomes a vector, and back."""

from mdvae.representations.base import AbstractRepresentation
from mdvae.representations.cartesian import Cartesian
from mdvae.representations.chosen import Chosen
from mdvae.representations.internal import Internal
from mdvae.representations.statistics import FeatureStatistics, feature_statistics
from mdvae.representations.tree import references

__all__ = [
    "AbstractRepresentation",
    "Cartesian",
    "Chosen",
    "FeatureStatistics",
    "Internal",
    "feature_statistics",
    "references",
]
