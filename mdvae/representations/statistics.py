"""Where the features of many frames lie, and how far they spread."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mdvae._chunks import in_chunks
from mdvae.representations.base import AbstractRepresentation

# A constrained bond or a flat ring spreads by no more than rounding; so small a share of a length, or of a radian,
# is not worth resolving.
_SMALLEST = 1e-3


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """What networks and likelihood have to know about the size of features, in the features' units.

    Parameters
    ----------
    mean : (n_features,)
    deviation : float, or (n_features,)
        Typical deviation from the mean: what the decoder and the likelihood start with.
    unit : float, or (n_features,)
        What the encoder takes for one. Where all features were to count the same, the trembling of many stiff bonds
        and angles would drown the few that tell one conformation from another.
    """

    mean: Float[np.ndarray, " n_features"]
    deviation: float | Float[np.ndarray, " n_features"]
    unit: float | Float[np.ndarray, " n_features"]


def feature_statistics(
    representation: AbstractRepresentation, coordinates: Float[np.ndarray, "n_frames n_atoms dim"]
) -> FeatureStatistics:
    """Statistics of features of which each has a deviation of its own.

    Parameters
    ----------
    representation : AbstractRepresentation
    coordinates : (n_frames, n_atoms, dim), nm

    Returns
    -------
    FeatureStatistics
        Deviations of plain numbers are standard deviations. Cosine and sine of an angle have one and the same: the
        root of the sum of both variances, which for a narrow angle is its standard deviation in radians. Each of its
        own would be next to nothing for one of them wherever the angle is narrow, and blow up the first frame that
        leaves it. Units are equal shares of the plain numbers' means, of their deviations if larger, and of a
        radian.
    """
    total, squares = np.zeros(representation.n_features), np.zeros(representation.n_features)
    for _, features in in_chunks(representation.to_features, coordinates):
        block = features.astype(np.float64)
        total, squares = total + block.sum(axis=0), squares + (block**2).sum(axis=0)
    mean = total / len(coordinates)
    variance = np.maximum(squares / len(coordinates) - mean**2, 0)
    linear = representation.n_linear
    cosines, sines = np.split(variance[linear:], 2)
    variance[linear:] = np.tile(cosines + sines, 2)
    # A contact that is rare spreads by more than its mean, and is not to make all else look small.
    size = np.where(np.arange(len(mean)) < linear, np.maximum(np.abs(mean), np.sqrt(variance)), 1.0)
    # Two atoms that are always at one point have no distance to speak of.
    size = np.maximum(size, _SMALLEST * size.max())
    deviation = np.maximum(np.sqrt(variance), _SMALLEST * size)
    return FeatureStatistics(mean, deviation, size * np.sqrt(np.mean((deviation / size) ** 2)))
