"""Blocks of time: how long frames remember one another, and where to cut runs into pieces that do not."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

# Of a sample the most blocks, by its length; and the fewest, even where these still remember one another.
_BLOCKS, _FEWEST = 20, 4
# More runs than this share blocks, so that sums over blocks need little memory.
_MOST_BLOCKS = 200
# A block lasts so many times as long as frames are correlated: the means of neighboring ones then hardly are.
_LONG = 2
# A column that spreads less than this, relative to its size, is rounding.
_ROUNDED = 1e-6

Series = Sequence[Float[np.ndarray, "_ n_columns"]]


def statistical_inefficiency(series: Series) -> float:
    """How many frames it takes for one that is independent, of the column that takes most.

    g = 1 + 2 sum over t of (1 - t / n) C(t), up to where the autocorrelation C first falls below zero
    (doi:10.1021/ct0502864). C is that about the mean of all runs: runs that stay in different places remember where
    they are from beginning to end.

    Parameters
    ----------
    series : sequence of (n_i, n_columns)
        Uninterrupted runs, in time order.

    Returns
    -------
    float
        From 1, for frames that have nothing to do with one another, to the number of frames in all, for frames of which
        all of one run are the same.
    """
    n_frames = sum(map(len, series))
    if n_frames < 2:
        return 1.0
    mean = np.sum([x.sum(axis=0, dtype=np.float64) for x in series], axis=0) / n_frames
    longest = max(map(len, series))
    products, pairs = np.zeros((longest, len(mean))), np.zeros(longest)
    for x in series:
        products[: len(x)] += _products(x - mean)
        pairs[: len(x)] += np.arange(len(x), 0, -1)
    size = np.sqrt(np.sum([(x**2).sum(axis=0, dtype=np.float64) for x in series], axis=0) / n_frames)
    varies = np.sqrt(products[0] / n_frames) > _ROUNDED * size
    if not varies.any():
        return 1.0
    correlation = products[:, varies] / pairs[:, None] / (products[0, varies] / n_frames)
    positive = np.cumprod(correlation > 0, axis=0)
    # Of one run of n frames the share of all pairs that are t apart is 1 - t / n.
    summed = (correlation * positive * pairs[:, None] / n_frames)[1:].sum(axis=0)
    return float(np.clip(1 + 2 * summed.max(), 1.0, n_frames))


def _products(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Sums of products of frames so many apart, by the Fourier transform."""
    size = 2 ** int(np.ceil(np.log2(2 * len(x))))
    transformed = np.fft.rfft(x, size, axis=0)
    return np.fft.irfft(np.abs(transformed) ** 2, size, axis=0)[: len(x)]


def block_labels(run: Int[np.ndarray, " n_frames"], memory: float = 1.0) -> Int[np.ndarray, " n_frames"]:
    """Which block of time each frame is in, none across a border of runs.

    About 20 in all, fewer where frames remember one another for longer: a block lasts at least twice as long as that,
    or a whole run. Of more than 200 runs neighbors share a block. There are at least four where there are as many
    frames.

    Parameters
    ----------
    run : (n_frames,)
        Which uninterrupted run each frame is of, ascending.
    memory : float
        Frames for one that is independent: see `statistical_inefficiency`.

    Returns
    -------
    (n_frames,)
        From 0, ascending.
    """
    lengths = np.unique(run, return_counts=True)[1]
    if len(lengths) > _MOST_BLOCKS:
        return np.repeat(np.arange(len(lengths)) * _MOST_BLOCKS // len(lengths), lengths)
    n_frames = len(run)
    n_blocks = int(np.clip(n_frames / (_LONG * memory), min(_FEWEST, n_frames), _BLOCKS)) if n_frames else 0
    labels, first = np.zeros(n_frames, np.int64), 0
    for length in lengths.tolist():
        n_parts = min(length, max(1, round(n_blocks * length / n_frames)))
        before = labels[first - 1] + 1 if first else 0
        labels[first : first + length] = before + np.arange(length) * n_parts // length
        first += length
    return labels
