"""How far two samples are from each other, beside how far samples of one and the same origin are.

Whatever is compared is made of sums over frames: counts in bins, moments, contacts. Of each block of time there is one
such sum, so that drawing blocks anew is adding them up with other weights.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdvae._blocks import drawn_anew

# How often blocks of time are drawn anew.
DRAWS = 200
# Frames that a function is summed over at a time.
_TOGETHER = 100
# Of the distribution by chance.
_CENTRAL = (0.025, 0.975)

Sums = Float[np.ndarray, "..."]
Weights = Float[np.ndarray, " n_frames"]
# From the sums of two samples to the distance of each of n quantities.
Metric = Callable[[Sums, Sums], Float[np.ndarray, " n"]]


@dataclasses.dataclass(frozen=True)
class Distance:
    """How far what a model generates is from held-out frames, beside how far the training frames are from these.

    Parameters
    ----------
    value : float
        Generated against held-out.
    floor : float
        Training against held-out: what a generator that drew from the training data would have.
    low, high : float
        Central 95 % around the floor: how it scatters where held-out blocks of time are drawn anew. Drawing them adds
        their noise once more, which a distance never loses again; so only the scatter is taken from it.
    blocks : float
        Of the held-out frames themselves, one half of their blocks against the other: what 97.5 % of such halves stay
        below, scaled to samples of the whole size; 0 where there are no blocks to divide.
    """

    value: float
    floor: float
    low: float
    high: float
    blocks: float

    @property
    def noise(self) -> float:
        """What the simulation itself may differ by: the larger of `high` and `blocks`."""
        return max(self.high, self.blocks)

    @property
    def at_floor(self) -> bool:
        """Whether the generated structures are as near as frames of the simulation may be."""
        return self.value <= self.noise

    @property
    def times_noise(self) -> float:
        """Value over noise; infinite where there is no noise at all, and 0 where there is no value either."""
        if self.noise > 0:
            return self.value / self.noise
        return float("inf") if self.value > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return dataclasses.asdict(self) | {"at_floor": self.at_floor}


@dataclasses.dataclass(frozen=True, eq=False)
class Floor:
    """Distances by chance alone, of each of n quantities.

    Parameters
    ----------
    point : (n,)
        Training against held-out.
    draws : (n_draws, n)
        The same with the held-out blocks drawn anew.
    halves : (n_halves, n)
        One half of the held-out blocks against the other, scaled to samples of the whole size.
    """

    point: Float[np.ndarray, " n"]
    draws: Float[np.ndarray, "n_draws n"]
    halves: Float[np.ndarray, "n_halves n"]

    def beside(self, values: Float[np.ndarray, " n"]) -> list[Distance]:
        """Each of these distances beside its floor.

        Parameters
        ----------
        values : (n,)
            Generated against held-out.
        """
        columns = np.arange(len(values))
        return [_distance(values[i], self.point[i], self.draws[:, i], self.halves[:, i]) for i in columns]

    def mean_beside(self, values: Float[np.ndarray, " n"]) -> Distance:
        """The mean of these distances beside the floor of the mean.

        Parameters
        ----------
        values : (n,)
        """
        return _distance(values.mean(), self.point.mean(), self.draws.mean(axis=1), self.halves.mean(axis=1))


def _distance(value: Any, point: Any, draws: Float[np.ndarray, " n"], halves: Float[np.ndarray, " m"]) -> Distance:
    low, high = np.maximum(point + np.quantile(draws, _CENTRAL) - np.mean(draws), 0.0)
    blocks = float(np.quantile(halves, _CENTRAL[1])) if len(halves) else 0.0
    return Distance(float(value), float(point), float(low), float(high), blocks)


def find_floor(held_out: Sums, training: Sums, metric: Metric, seed: int = 0, *, squared: bool = False) -> Floor:
    """Distances between samples of the simulation.

    Parameters
    ----------
    held_out : (n_blocks, ...)
        Sums over the frames of each block.
    training : (...)
        The same sums over all training frames.
    metric : callable
    seed : int
    squared : bool
        Whether the metric goes with the square of a deviation, as divergences do.

    Returns
    -------
    Floor
    """
    n_blocks, rng = len(held_out), np.random.default_rng(seed)
    point = metric(training, held_out.sum(axis=0))
    draws = [metric(training, weighted) for weighted in drawn_anew(held_out, DRAWS, rng)]
    halves = []
    for _ in range(DRAWS if n_blocks > 1 else 0):
        order = rng.permutation(n_blocks)
        one, other = (held_out[rows].sum(axis=0) for rows in np.array_split(order, 2))
        # Halves have twice the variance of the whole.
        halves.append(metric(one, other) / (2.0 if squared else np.sqrt(2.0)))
    return Floor(point, np.array(draws), np.array(halves).reshape(-1, len(point)))


def summed(
    function: Callable[[np.ndarray], np.ndarray],
    frames: Float[np.ndarray, "n_frames ..."],
    labels: Int[np.ndarray, " n_frames"] | None = None,
    weights: Weights | None = None,
) -> Sums:
    """Sums of a function over the frames of each block, a few frames at a time.

    Parameters
    ----------
    function : callable
        Of frames (n, ...) to numbers (n, ...).
    frames : (n_frames, ...)
    labels : (n_frames,), ascending from 0, optional
        One block if left out.
    weights : (n_frames,), optional

    Returns
    -------
    (n_blocks, ...), float64
    """
    labels = np.zeros(len(frames), np.int64) if labels is None else labels
    borders = np.searchsorted(labels, np.arange(labels[-1] + 2))
    found = []
    for first, last in itertools.pairwise(borders.tolist()):
        parts = (slice(k, min(k + _TOGETHER, last)) for k in range(first, last, _TOGETHER))
        found.append(sum(_sum(function(frames[part]), None if weights is None else weights[part]) for part in parts))
    return np.array(found)


def _sum(values: np.ndarray, weights: Weights | None) -> np.ndarray:
    return values.sum(axis=0, dtype=np.float64) if weights is None else np.tensordot(weights, values, 1)


def counts(
    values: Float[np.ndarray, "n_frames n"],
    edges: Float[np.ndarray, "n n_edges"],
    labels: Int[np.ndarray, " n_frames"] | None = None,
    weights: Weights | None = None,
) -> Float[np.ndarray, "n_blocks n n_bins"]:
    """Histograms of each quantity in each block; the first and the last bin hold what is outside of the edges.

    Parameters
    ----------
    values : (n_frames, n)
    edges : (n, n_edges)
        Evenly spaced for each quantity.
    labels : (n_frames,), optional
        One block if left out.
    weights : (n_frames,), optional

    Returns
    -------
    (n_blocks, n, n_edges + 1)
    """
    labels = np.zeros(len(values), np.int64) if labels is None else labels
    n_blocks, n_bins = int(labels[-1]) + 1, edges.shape[1] + 1
    found = np.zeros((n_blocks, values.shape[1], n_bins))
    for i, (column, grid) in enumerate(zip(values.T, edges, strict=True)):
        bins = np.searchsorted(grid, column, side="right")
        # The last edge belongs to the last bin.
        bins[column == grid[-1]] -= 1
        found[:, i] = np.bincount(labels * n_bins + bins, weights, n_blocks * n_bins).reshape(n_blocks, n_bins)
    return found


def jensen_shannon(a: Float[np.ndarray, "n n_bins"], b: Float[np.ndarray, "n n_bins"]) -> Float[np.ndarray, " n"]:
    """Jensen-Shannon divergence of counts in bins, bits (doi:10.1109/18.61115).

    Parameters
    ----------
    a, b : (n, n_bins)
    """
    p, q = a / a.sum(axis=-1, keepdims=True), b / b.sum(axis=-1, keepdims=True)
    middle = np.where(p + q > 0, (p + q) / 2, 1.0)
    return np.maximum((_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2, 0.0)


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.where(p > 0, p * np.log2(np.where(p > 0, p, 1.0) / q), 0.0).sum(axis=-1)


def wasserstein_of_counts(
    width: Float[np.ndarray, " n"], circular: bool
) -> Callable[[Float[np.ndarray, "n n_bins"], Float[np.ndarray, "n n_bins"]], Float[np.ndarray, " n"]]:
    """Wasserstein-1 distance of counts in bins of a width, on a line or on a circle.

    Parameters
    ----------
    width : (n,)
    circular : bool
    """

    def metric(a: Float[np.ndarray, "n n_bins"], b: Float[np.ndarray, "n n_bins"]) -> Float[np.ndarray, " n"]:
        p, q = a / a.sum(axis=-1, keepdims=True), b / b.sum(axis=-1, keepdims=True)
        # There is no outside of a circle.
        apart = np.cumsum((p - q)[..., 1:-1] if circular else p - q, axis=-1)
        if circular:
            # What may flow all around: the median makes the rest the smallest (doi:10.1007/s10851-011-0284-0).
            apart = apart - np.median(apart, axis=-1, keepdims=True)
        return width * np.abs(apart).sum(axis=-1)

    return metric


def wasserstein(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " m"],
    period: float | None = None,
    weights: Float[np.ndarray, " m"] | None = None,
) -> float:
    """Wasserstein-1 distance of two samples, on a line or on a circle.

    Parameters
    ----------
    a : (n,)
    b : (m,)
    period : float, optional
        Of the circle.
    weights : (m,), optional
        Of the second sample.

    Returns
    -------
    float
        In the unit of the samples.
    """
    values = np.concatenate([a, b]).astype(np.float64)
    order = np.argsort(values, kind="stable")
    shares = np.full(len(b), 1 / len(b)) if weights is None else weights / weights.sum()
    steps = np.concatenate([np.full(len(a), 1 / len(a)), -shares])[order]
    ordered, apart = values[order], np.cumsum(steps)
    if period is None:
        return float(np.sum(np.abs(apart[:-1]) * np.diff(ordered)))
    gaps = np.diff(np.append(ordered, ordered[0] + period))
    return float(np.sum(np.abs(apart - _weighted_median(apart, gaps)) * gaps))


def _weighted_median(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])
