"""Blocks of time: how long frames remember one another, where to cut runs, and blocks drawn anew."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from mdvae._types import Number

# More blocks than this need memory, and tell no error any better.
_MOST_BLOCKS = 500
# For distances between samples: the most blocks by length, the most if runs are many, and the fewest, even where these
# still remember one another. A block lasts so many times as long as memory: means of neighbors are then nearly free.
_BY_LENGTH, _BY_RUN, _FEWEST, _LONG = 20, 200, 4, 2

Series = Sequence[Float[np.ndarray, "_ n_columns"]]


def statistical_inefficiency(series: Series) -> float:
    """Frames that say as much as one independent frame does: 1 + 2 times the sum of the autocorrelation.

    Of the column in which it is largest. A lag counts by its share of all pairs, which of one run of n frames is
    1 - t / n (doi:10.1021/ct0502864): runs that stay in different places say one thing each. The sum ends where that of
    two neighboring lags is negative for the first time, and no such pair counts more than the one before: Geyer's
    initial monotone sequence (doi:10.1214/ss/1177011137).

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
    varying = products[:, products[0] > 0]
    if not varying.size:
        return 1.0
    # Mean products times shares of all pairs.
    weighted = varying / n_pairs[0]
    return max(1.0, *(_summed(column / column[0]) for column in weighted.T))


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


def block_labels(run: Int[np.ndarray, " n_frames"], memory: float = 1.0) -> Int[np.ndarray, " n_frames"]:
    """Which block of time each frame is in, for distances between samples.

    About 20 in all, fewer where frames remember one another for longer: a block lasts at least twice as long as that,
    or a whole run. Of more than 200 runs neighbors share a block. There are at least four where there are as many
    frames.

    Parameters
    ----------
    run : (n_frames,)
        Which uninterrupted run each frame is of, ascending.
    memory : float
        See `statistical_inefficiency`.

    Returns
    -------
    (n_frames,)
        Ascending from 0.
    """
    lengths, n_frames = np.unique(run, return_counts=True)[1], len(run)
    if len(lengths) > _BY_RUN:
        return np.repeat(np.arange(len(lengths)) * _BY_RUN // len(lengths), lengths)
    n_blocks = np.clip(n_frames / (_LONG * memory), min(_FEWEST, n_frames), _BY_LENGTH)
    return cut(lengths.tolist(), n_frames / n_blocks)


def cut(lengths: Sequence[int], block_length: Number) -> Int[np.ndarray, " n_frames"]:
    """Label each frame with its block: about so long, and none across the border of a run.

    Parameters
    ----------
    lengths : sequence of int
        Of uninterrupted runs.
    block_length : int or float

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
) -> Iterator[Float[np.ndarray, "..."]]:
    """Sums over as many blocks as there are, drawn with replacement, again and again.

    Parameters
    ----------
    sums : (n_blocks, ...)
    n_draws : int
    rng : Generator

    Yields
    ------
    (...)
        One after another: together they may be large.
    """
    n_blocks = len(sums)
    weights = rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=n_draws).astype(np.float64)
    flat = sums.reshape(n_blocks, -1)
    for row in weights:
        yield (row @ flat).reshape(sums.shape[1:])
