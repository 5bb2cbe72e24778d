"""Errors of averages over frames that resemble their neighbors in time: blocks, drawn anew."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

# More blocks than this need memory, and tell no error any better.
_MOST_BLOCKS = 500

Series = Sequence[Float[np.ndarray, "_ n_columns"]]


def statistical_inefficiency(series: Series) -> float:
    """Frames that say as much as one independent frame does: 1 + 2 times the sum of the autocorrelation.

    Of the column in which it is largest. The sum ends where that of two neighboring lags is negative for the first
    time, and no such pair counts more than the one before: Geyer's initial monotone sequence
    (doi:10.1214/ss/1177011137).

    Parameters
    ----------
    series : sequence of (n_i, n_columns)
        Uninterrupted runs in time order, less the mean of all of them.

    Returns
    -------
    float
        At least 1; 1 for columns that are zero.
    """
    longest = max(len(x) for x in series)
    products, n_pairs = np.zeros((longest, series[0].shape[1])), np.zeros(longest)
    for x in series:
        spectrum = np.fft.rfft(x, 2 * len(x), axis=0)
        products[: len(x)] += np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[: len(x)]
        n_pairs[: len(x)] += np.arange(len(x), 0, -1)
    covariance = products / n_pairs[:, None]
    varying = covariance[:, covariance[0] > 0]
    if not varying.size:
        return 1.0
    return max(1.0, *(_summed(column / column[0]) for column in varying.T))


def _summed(correlation: Float[np.ndarray, " n_lags"]) -> float:
    pairs = np.append(correlation, np.zeros(len(correlation) % 2)).reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    positive = pairs[: negative[0]] if len(negative) else pairs
    return 2.0 * float(np.minimum.accumulate(positive).sum()) - 1.0


def block_length_for(n_frames: int, inefficiency: float) -> int:
    """Length of blocks at which bias and noise of an error are in balance (doi:10.1103/PhysRevE.83.066706).

    Parameters
    ----------
    n_frames : int
    inefficiency : float
        See `statistical_inefficiency`.
    """
    return max(int(np.ceil((2.0 * n_frames * inefficiency**2) ** (1 / 3))), -(-n_frames // _MOST_BLOCKS))


def cut(lengths: Sequence[int], block_length: int) -> Int[np.ndarray, " n_frames"]:
    """Label each frame with its block: about so long, and none across the border of a run.

    Parameters
    ----------
    lengths : sequence of int
        Of uninterrupted runs.
    block_length : int

    Returns
    -------
    (n_frames,)
        Ascending from 0.
    """
    labels, n_blocks = [], 0
    for length in lengths:
        n_parts = min(length, max(1, round(length / block_length)))
        labels.append(n_blocks + np.arange(length) * n_parts // max(length, 1))
        n_blocks += n_parts
    return np.concatenate(labels)


def drawn_anew(
    sums: Float[np.ndarray, "n_blocks ..."], n_draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "n_draws ..."]:
    """Sums over as many blocks as there are, drawn with replacement, again and again.

    Parameters
    ----------
    sums : (n_blocks, ...)
    n_draws : int
    rng : Generator

    Returns
    -------
    (n_draws, ...)
    """
    n_blocks = len(sums)
    weights = rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=n_draws).astype(np.float64)
    return (weights @ sums.reshape(n_blocks, -1)).reshape(n_draws, *sums.shape[1:])
