"""Scores of a latent space: whether factors have dimensions of their own, and how much dimensions share."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy import special

from mdvae._types import Whole

Table = Float[np.ndarray, "n_rows n_columns"]

# Numbers in one chunk of a table of samples against posteriors: 8 MB in double precision.
_CHUNK = 2**20


@dataclasses.dataclass(frozen=True, eq=False)
class MutualInformationGap:
    """How far ahead of all others the most informative latent dimension of each factor is.

    Parameters
    ----------
    score : float
        Mean of ``gaps``: 1 if every factor is in one dimension, and there alone; 0 if none is.
    gaps : (n_factors,)
        Difference of the two largest mutual informations of a factor, over the factor's entropy.
    information : (n_factors, latent_dim)
        Mutual informations of factors and latent dimensions, in nats.
    """

    score: float
    gaps: Float[np.ndarray, " n_factors"]
    information: Float[np.ndarray, "n_factors latent_dim"]


@dataclasses.dataclass(frozen=True)
class TotalCorrelation:
    """What latent dimensions share, as estimated from samples.

    Parameters
    ----------
    value : float
        In nats; at least 0, up to the error.
    error : float
        Standard error of ``value``, from the samples, in nats.
    """

    value: float
    error: float


def mutual_information_gap(z: ArrayLike, factors: ArrayLike, *, n_bins: Whole = 20) -> MutualInformationGap:
    """Mutual information gap (Chen et al., doi:10.48550/arXiv.1802.04942, section 4.1), from histograms.

    Factors and latent dimensions are cut into bins that hold equal numbers of points. What is found then depends on
    their order alone: not on the scale of a dimension, nor on a few points far out, which would crowd all others into
    few bins of equal width. Equal values share a bin, and up to ``n_bins``
    different ones have one each, so that factors may also be classes.

    Independent variables, too, share ``(n_bins - 1)² / (2 n)`` nats in the histogram of n points: for 20 bins, 0.18 for
    1000 points and 0.018 for 10 000. In the gap this cancels in part.

    Parameters
    ----------
    z : (n, latent_dim)
        At least two dimensions. One sample of the posterior of each point, as in the paper: what noise hides is not
        told. Means leave the noise out, but in a dimension that the decoder does not use they still move a little, in
        an order that a histogram sees.
    factors : (n, n_factors)
        The factors of variation behind the same points.
    n_bins : int
        Of each factor and each dimension, from 2 to n.

    Returns
    -------
    MutualInformationGap

    Raises
    ------
    ValueError
        For other shapes, for numbers that are not finite, and for a factor that does not vary.
    """
    z, factors = _table("z", z), _table("factors", factors)
    if len(z) != len(factors):
        raise ValueError(
            f"expected one row of factors a latent point, got {len(factors)} for {len(z)}; give all of both"
        )
    if z.shape[1] < 2:
        raise ValueError("expected at least 2 latent dimensions, got 1; a gap is between two")
    if not 2 <= n_bins <= len(z):
        raise ValueError(f"expected n_bins from 2 to the number of points, {len(z)}, got {n_bins}")
    n_bins = int(n_bins)
    z_bins, factor_bins = _bins(z, n_bins), _bins(factors, n_bins)
    entropies = np.array([_information(one, one, n_bins) for one in factor_bins])
    if not entropies.all():
        raise ValueError(f"factor {np.argmin(entropies)} has no two different bins of values; leave it out")
    information = np.array([[_information(factor, one, n_bins) for one in z_bins] for factor in factor_bins])
    second, first = np.sort(information, axis=1)[:, -2:].T
    gaps = (first - second) / entropies
    return MutualInformationGap(score=float(gaps.mean()), gaps=gaps, information=information)


def total_correlation(
    mean: ArrayLike, log_std: ArrayLike, *, n_samples: Whole = 2000, seed: Whole = 0
) -> TotalCorrelation:
    """Total correlation ``KL(q(z) || prod_d q(z_d))`` of the aggregate of diagonal normal posteriors, in nats.

    The aggregate q is the mixture of the n posteriors in equal shares (doi:10.48550/arXiv.1802.04942, section 3).
    Samples of it are judged by all n posteriors, not by those of a minibatch: the estimate has no bias, at a cost of
    ``n n_samples latent_dim``.

    It is that of these n posteriors, which for few or narrow ones is not that of the distribution they came from:
    posteriors that do not overlap in any dimension have ``(latent_dim - 1) log n``, whatever their arrangement, and no
    others have more. Use as many as it takes for the value to settle.

    Parameters
    ----------
    mean : (n, latent_dim)
    log_std : (n, latent_dim)
        Natural logarithm of the standard deviations.
    n_samples : int
        At least 2.
    seed : int

    Returns
    -------
    TotalCorrelation

    Raises
    ------
    ValueError
        For other shapes, for numbers that are not finite, and for fewer than 2 samples.
    """
    mean, log_std = _table("mean", mean), _table("log_std", log_std)
    if mean.shape != log_std.shape:
        raise ValueError(f"expected mean and log_std of one shape, got {mean.shape} and {log_std.shape}")
    if n_samples < 2:
        raise ValueError(f"expected at least 2 samples, for an error, got {n_samples}")
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(mean), size=n_samples)
    samples = mean[chosen] + np.exp(log_std[chosen]) * rng.normal(size=(n_samples, mean.shape[1]))
    chunks = np.array_split(samples, math.ceil(n_samples * len(mean) / _CHUNK))
    ratios = np.concatenate([_log_ratio(chunk, mean, log_std) for chunk in chunks])
    return TotalCorrelation(float(ratios.mean()), float(ratios.std(ddof=1) / math.sqrt(n_samples)))


def _table(name: str, values: ArrayLike) -> Table:
    """In double precision."""
    table = np.asarray(values, np.float64)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"expected {name} of shape (n, columns), neither of them 0, got {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError(f"expected finite numbers in {name}, got NaN or infinity; leave such rows out")
    return table


def _bins(table: Table, n_bins: int) -> Int[np.ndarray, "n_columns n_rows"]:
    """Index of the bin of each number among those of its column: the same after any increasing change of the column."""
    return np.array([_bins_of_column(column, n_bins) for column in table.T])


def _bins_of_column(column: Float[np.ndarray, " n_rows"], n_bins: int) -> Int[np.ndarray, " n_rows"]:
    values, index = np.unique(column, return_inverse=True)
    # A class keeps its bin, however rare it is.
    if len(values) <= n_bins:
        return index
    return np.searchsorted(np.quantile(column, np.arange(1, n_bins) / n_bins), column)


def _information(first: Int[np.ndarray, " n"], second: Int[np.ndarray, " n"], n_bins: int) -> float:
    """Mutual information of two sequences of bins, in nats; with itself, the entropy."""
    joint = np.bincount(first * n_bins + second, minlength=n_bins**2).reshape(n_bins, n_bins) / len(first)
    return float(special.rel_entr(joint, np.outer(joint.sum(axis=1), joint.sum(axis=0))).sum())


def _log_ratio(
    samples: Float[np.ndarray, "n_samples latent_dim"],
    mean: Float[np.ndarray, "n latent_dim"],
    log_std: Float[np.ndarray, "n latent_dim"],
) -> Float[np.ndarray, " n_samples"]:
    """Logarithm of ``q(z) / prod_d q(z_d)`` at samples of z."""
    n, latent_dim = mean.shape
    joint, factorized = np.zeros((len(samples), n)), np.zeros(len(samples))
    for z, m, s in zip(samples.T, mean.T, log_std.T, strict=True):
        # Without the normal's constant, which both sides have once for each dimension.
        log_density = -0.5 * ((z[:, None] - m) * np.exp(-s)) ** 2 - s
        joint += log_density
        factorized += np.asarray(special.logsumexp(log_density, axis=1))
    return np.asarray(special.logsumexp(joint, axis=1)) - factorized + (latent_dim - 1) * math.log(n)
