"""How slow the latent coordinates are, beside TICA and PCA of the same features.

All of it is linear algebra of moments: of pairs of frames `lag` apart, the sums of their products. Moments of blocks
of time add up, so that folds and resamples cost no second pass over the frames. Lagged pairs never cross the border of
a trajectory.
"""

import dataclasses
import itertools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import block_diag
from scipy.special import ndtr, stdtrit

from mdvae._blocks import drawn_anew
from mdvae._types import Number, Whole

# Each trajectory has a length of its own, all have the same columns.
Latents = Sequence[Float[np.ndarray, "_ latent_dim"]]
Series = Sequence[Float[np.ndarray, "_ n_columns"]]
# Sums of products of (1, before, after) over pairs of frames, for each block of time.
Moments = Float[np.ndarray, "*blocks n_moments n_moments"]

_METHODS = ("latent", "TICA", "PCA")
_FOLDS = 5
# Blocks of time that are drawn anew, and that the folds are made of.
_BLOCKS = 20
# A block of a fold is at least so many lags long where it can be: of every block one lag's worth of pairs is lost.
_LONG = 5
# More trajectories than this share blocks, so that the moments need little memory.
_MOST_BLOCKS = 200
_RESAMPLES = 500
# Pairs that are looked at for each lag; of more, evenly spaced ones, which neighbors in time resemble.
_PAIRS = 200_000
# Pairs that each coordinate needs: fewer are fitted, not estimated.
_ENOUGH = 10
# Directions whose variance is below this share of the largest count as constant, all columns having the same spread.
_RANK = 1e-6
# A column that spreads less than this, relative to the widest one, is rounding.
_ROUNDED = 1e-6
# Autocorrelation from which frames are in time order, and how many of its standard errors that must be.
_ORDERED, _SIGNIFICANT = 0.05, 4
# A step is a jump if it is that many times the median step, and that share of the spread.
_OUT_OF_PROPORTION, _FAR = 10, 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class Kinetics:
    """Of frames in time order; times in `unit`.

    Parameters
    ----------
    unit : str
        "ps", or "frames" where the source holds no times.
    frame_time : float
        Time between frames in `unit`; 1 for frames.
    lags : (n_lags,)
        In frames.
    autocorrelation : (n_lags, latent_dim)
        Of each latent coordinate.
    methods : tuple of str
        "latent", "TICA", "PCA".
    timescales, low, high : (n_methods, n_lags, n_timescales)
        Implied timescales, slowest first, and their central 95 % by a bootstrap over blocks; NaN where there is none,
        0 at the low end where the eigenvalue may be 0, and infinite at the high end where it may be 1.
    lagtime : int
        Of the scores, in frames.
    fold_scores : (n_methods, n_folds)
        VAMP-2 score of each fold, which nothing was fitted to.
    latent_jumps : int
        Steps of the latent trajectory that are out of proportion.
    alignment_jumps : int
        Those among them that the alignment made.
    """

    unit: str
    frame_time: float
    lags: Int[np.ndarray, " n_lags"]
    autocorrelation: Float[np.ndarray, "n_lags latent_dim"]
    methods: tuple[str, ...]
    timescales: Float[np.ndarray, "n_methods n_lags n_timescales"]
    low: Float[np.ndarray, "n_methods n_lags n_timescales"]
    high: Float[np.ndarray, "n_methods n_lags n_timescales"]
    lagtime: int
    fold_scores: Float[np.ndarray, "n_methods n_folds"]
    latent_jumps: int
    alignment_jumps: int

    @property
    def scores(self) -> Float[np.ndarray, " n_methods"]:
        """VAMP-2 score of each method, mean over folds."""
        return self.fold_scores.mean(axis=1)

    @property
    def errors(self) -> Float[np.ndarray, " n_methods"]:
        """Standard errors of the scores."""
        return _standard_error(self.fold_scores)

    @property
    def beyond(self) -> tuple[Float[np.ndarray, " n_methods"], Float[np.ndarray, " n_methods"]]:
        """How much each method scores above the latent coordinates, and half the width of its central 95 %.

        Fold by fold, since folds differ from one another by more than methods do; by Student's distribution of so few.
        Folds share what TICA and PCA are fitted to, which the interval does not know.
        """
        apart = self.fold_scores - self.fold_scores[:1]
        return apart.mean(axis=1), stdtrit(apart.shape[1] - 1, 0.975) * _standard_error(apart)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        more, half = self.beyond
        found = dataclasses.asdict(self) | {"scores": self.scores, "errors": self.errors}
        found |= {"beyond_latent": more, "beyond_latent_half_width": half}
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found.items()}


class _Piece(NamedTuple):
    """Frames from `first` to before `last` of one trajectory."""

    trajectory: int
    first: int
    last: int


_Blocks = Sequence[Sequence[_Piece]]


def kinetics(
    latents: Latents,
    features: Series,
    *,
    lagtime: Whole | None = None,
    frame_time: Number = 1.0,
    unit: str = "frames",
    latent_jumps: int = 0,
    alignment_jumps: int = 0,
    seed: Whole = 0,
) -> Kinetics | None:
    """Measure how slow latent coordinates are, and TICA and PCA coordinates, as many, of the features.

    **Timescales** are those of the reversible (symmetrized) estimator in the span of the coordinates,
    t = -lag / ln(eigenvalue) (doi:10.1063/1.4811489). TICA (fitted at `lagtime`) and PCA have seen these frames, so
    that TICA flatters itself where frames are few; in the scores it does not. Error bars are those of the slow
    coordinates as they were found: some 20 blocks of time (whole trajectories, where there are 20 or more) are drawn
    anew, and the ends widened as so few blocks need it (doi:10.1080/00031305.2015.1089789). They are too narrow for
    processes that last about as long as a block, and do not show that equal eigenvalues are estimated as unequal.

    **Scores** are VAMP-2 scores (doi:10.1007/s00332-019-09567-y): the squared singular values of the whitened lagged
    covariance, summed, and 1 for the constant function; at most ``latent_dim + 1``. Blocks of time are dealt out to
    five folds, no pair crosses the border of a block, TICA and PCA are fitted on four folds, and all three methods are
    scored on the fifth. Short folds score all three too high, by about the square of ``latent_dim`` over the number of
    independent pairs.

    Of more than 200 000 pairs at a lag evenly spaced ones are taken; of fewer, all.

    Parameters
    ----------
    latents : sequence of (n_i, latent_dim)
        One for each trajectory, in time order (`in_time_order`).
    features : sequence of (n_i, n_features)
        Of the same frames, posed; best their leading principal components, at most some 64.
    lagtime : int, optional
        Of scores and TICA, in frames. If left out, the largest of 1, 2, 5, 10, ... that is at most 1 % of the longest
        trajectory: a hundred independent steps for a process that is as slow.
    frame_time : float
        Time between frames, in `unit`.
    unit : str
        "ps", or "frames".
    latent_jumps, alignment_jumps : int
        See `latent_jumps`.
    seed : int
        Of the resampling.

    Returns
    -------
    Kinetics or None
        None where a fold has fewer than ten pairs for each latent coordinate, with `lagtime` left out.

    Raises
    ------
    ValueError
        For arrays that do not belong together, for numbers that are not finite, and for a `lagtime` that leaves too few
        pairs.
    """
    _check(latents, features, frame_time)
    lengths = [len(z) for z in latents]
    latent_dim = latents[0].shape[1]
    lag = default_lagtime(lengths) if lagtime is None else operator.index(lagtime)
    if not _enough(lengths, lag, latent_dim):
        if lagtime is None:
            return None
        raise ValueError(_too_few(lengths, lag, latent_dim))
    lags = _lags(lengths, lag, latent_dim)
    spans = [latents, *_fitted(features, lag, latent_dim)]
    found = np.stack([_implied_timescales(span, lags, seed) for span in spans], axis=1)
    timescales, low, high = float(frame_time) * found
    return Kinetics(
        unit=unit,
        frame_time=float(frame_time),
        lags=np.array(lags),
        autocorrelation=_autocorrelation(latents, lags),
        methods=_METHODS,
        timescales=timescales,
        low=low,
        high=high,
        lagtime=lag,
        fold_scores=_cross_validated(latents, features, lag),
        latent_jumps=latent_jumps,
        alignment_jumps=alignment_jumps,
    )


def default_lagtime(lengths: Sequence[int]) -> int:
    """Largest of 1, 2, 5, 10, ... frames that is at most 1 % of the longest trajectory; at least 1."""
    return _series(max(1, max(lengths) // 100))[-1]


def in_time_order(latents: Latents) -> bool:
    """Whether frames look as if they came in time order, trajectory by trajectory.

    They do if the autocorrelation of some coordinate from one frame to the next, about the mean of its trajectory, is
    above 0.05, and above four standard errors of that of shuffled frames, which is 1 / sqrt(number of steps). Frames
    so far apart in time that they have forgotten each other are like shuffled ones.

    Parameters
    ----------
    latents : sequence of (n_i, latent_dim)
        One for each trajectory.

    Returns
    -------
    bool
        False where no trajectory has two frames.
    """
    n_steps, products, squares = 0, 0.0, 0.0
    for z in latents:
        if len(z) < 2:
            continue
        # Less the first frame: a constant coordinate is then exactly zero, whatever its mean rounds to.
        x = z - z[0].astype(np.float64)
        x -= x.mean(axis=0)
        n_steps += len(x) - 1
        products = products + np.sum(x[1:] * x[:-1], axis=0)
        squares = squares + np.sum(x**2, axis=0)
    if n_steps == 0:
        return False
    return bool(np.any(products > max(_ORDERED, _SIGNIFICANT / np.sqrt(n_steps)) * squares))


def latent_jumps(latents: Latents, posed_jumps: Sequence[Bool[np.ndarray, " _"]]) -> tuple[int, int]:
    """Count the steps of a latent trajectory that are out of proportion, and those among them that the pose made.

    Lengths of steps are measured in units in which every coordinate has unit variance. A jump is longer than ten median
    steps and than half of the spread, the root mean square distance of all points from their mean. A molecule that
    passes from one state to another between two frames jumps as well; it is the pose's doing only where the posed
    frames jump by more than the change of shape does (`mdvae.alignment.find_jumps`).

    Parameters
    ----------
    latents : sequence of (n_i, latent_dim)
        One for each trajectory.
    posed_jumps : sequence of (n_i - 1,)
        Whether the pose jumped between a frame and the next; empty for no frames.

    Returns
    -------
    n_latent, n_alignment : int

    Raises
    ------
    ValueError
        Where `posed_jumps` are not of these trajectories.
    """
    expected, found = [max(0, len(z) - 1) for z in latents], [len(steps) for steps in posed_jumps]
    if expected != found:
        got = f"got {sum(found)} for {len(found)} trajectories"
        raise ValueError(f"posed_jumps must hold {sum(expected)} steps of {len(expected)} trajectories, {got}")
    if not sum(expected):
        return 0, 0
    spread = np.concatenate(latents).astype(np.float64).std(axis=0)
    varies = spread > _ROUNDED * spread.max()
    steps = np.concatenate([np.diff(z[:, varies], axis=0) / spread[varies] for z in latents])
    lengths = np.linalg.norm(steps, axis=1)
    jumped = lengths > max(_OUT_OF_PROPORTION * np.median(lengths), _FAR * np.sqrt(varies.sum()))
    return int(jumped.sum()), int((jumped & np.concatenate(posed_jumps)).sum())


# -- at the door


def _check(latents: Latents, features: Series, frame_time: Number) -> None:
    """Refuse what does not belong together."""
    ours, theirs = [len(z) for z in latents], [len(x) for x in features]
    if not ours or ours != theirs:
        got = f"{len(ours)} and {len(theirs)} of them, of {sum(ours)} and {sum(theirs)} frames"
        raise ValueError(f"latents and features must be of the same trajectories, got {got}")
    for name, arrays in (("latents", latents), ("features", features)):
        columns = sorted({x.shape[1] for x in arrays})
        if len(columns) > 1 or columns[0] == 0:
            raise ValueError(f"{name} of all trajectories must have the same columns, at least one, got {columns}")
        if not all(np.isfinite(x).all() for x in arrays):
            raise ValueError(f"{name} hold numbers that are not finite; leave these frames out")
    if not (np.isfinite(frame_time) and frame_time > 0):
        raise ValueError(f"frame_time must be above 0, got {frame_time}")


def _enough(lengths: Sequence[int], lag: int, latent_dim: int) -> bool:
    """Whether every fold has pairs enough."""
    if lag < 1:
        return False
    pairs = [sum(max(0, last - first - lag) for _, first, last in fold) for fold in _folds(lengths, lag)]
    return min(pairs) >= _ENOUGH * latent_dim


def _too_few(lengths: Sequence[int], lag: int, latent_dim: int) -> str:
    """Explain a `lagtime` that cannot be, and say what can."""
    if lag < 1:
        return f"lagtime must be at least 1 frame, got {lag}"
    possible = [some for some in _series(max(lengths)) if _enough(lengths, some, latent_dim)]
    advice = f"take at most {possible[-1]}" if possible else "these are too few frames for any"
    return (
        f"lagtime={lag} leaves fewer than {_ENOUGH * latent_dim} pairs in a fold of {_FOLDS} of {sum(lengths)} frames "
        f"in {len(lengths)} trajectories; {advice}"
    )


def _series(most: int) -> list[int]:
    """1, 2, 5, 10, 20, 50, ... as far as `most`."""
    return [step * 10**power for power in range(len(str(most))) for step in (1, 2, 5) if step * 10**power <= most]


def _lags(lengths: Sequence[int], lagtime: int, latent_dim: int) -> list[int]:
    """Lags as far as a tenth of the longest trajectory that have pairs enough, and that of the scores."""
    return [
        lag
        for lag in sorted({lagtime, *_series(max(1, max(lengths) // 10))})
        if sum(max(0, length - lag) for length in lengths) >= _ENOUGH * latent_dim
    ]


# -- blocks of time


def _cut(lengths: Sequence[int], n_blocks: int) -> list[_Piece]:
    """Cut trajectories into equal pieces, about as many as asked for; at least one of each trajectory."""
    total, pieces = max(1, sum(lengths)), []
    for trajectory, length in enumerate(lengths):
        n_pieces = max(1, -(-n_blocks * length // total))
        borders = [length * i // n_pieces for i in range(n_pieces + 1)]
        pieces += [_Piece(trajectory, *ends) for ends in itertools.pairwise(borders)]
    return pieces


def _resampled_blocks(lengths: Sequence[int]) -> _Blocks:
    """Blocks of time for error bars: pieces, or several that follow one another where there are very many."""
    pieces = _cut(lengths, _BLOCKS)
    together = -(-len(pieces) // _MOST_BLOCKS)
    return [pieces[i : i + together] for i in range(0, len(pieces), together)]


def _folds(lengths: Sequence[int], lag: int) -> _Blocks:
    """Deal out blocks of time, each to the fold that has the fewest pairs."""
    n_blocks = int(np.clip(sum(lengths) // (_LONG * lag), _FOLDS, _BLOCKS))
    folds: list[list[_Piece]] = [[] for _ in range(_FOLDS)]
    n_pairs = [0] * _FOLDS
    for piece in _cut(lengths, n_blocks):
        fewest = n_pairs.index(min(n_pairs))
        folds[fewest].append(piece)
        n_pairs[fewest] += max(0, piece.last - piece.first - lag)
    return folds


# -- moments and what follows from them


def _moments(series: Series, blocks: _Blocks, lag: int, *, inside: bool = False) -> Moments:
    """Sums of products of (1, before, after) over the pairs that start in each block.

    Parameters
    ----------
    series : sequence of (n_i, n_columns)
    blocks : sequence of sequences of pieces
    lag : int
        Frames from before to after.
    inside : bool
        Whether a pair must end in its own piece, not just in its own trajectory.

    Returns
    -------
    (n_blocks, 2 * n_columns + 1, 2 * n_columns + 1)
    """
    # Less some frame: a constant column is then exactly zero, and large means cancel no digits.
    origin = series[0][0].astype(np.float64) if len(series[0]) else 0.0
    starts = [[_starts(piece, len(series[piece.trajectory]), lag, inside) for piece in block] for block in blocks]
    stride = max(1, -(-sum(len(some) for block in starts for some in block) // _PAIRS))
    size = 2 * series[0].shape[1] + 1
    sums = np.zeros((len(blocks), size, size))
    for total, block, of_block in zip(sums, blocks, starts, strict=True):
        for piece, some in zip(block, of_block, strict=True):
            x = series[piece.trajectory]
            before, after = x[some.start : some.stop : stride], x[some.start + lag : some.stop + lag : stride]
            rows = np.hstack([np.ones((len(before), 1)), before - origin, after - origin])
            total += rows.T @ rows
    return sums


def _starts(piece: _Piece, length: int, lag: int, inside: bool) -> range:
    """Frames of a piece that pairs start at; `length` is that of its trajectory."""
    end = piece.last if inside else length
    return range(piece.first, max(piece.first, min(piece.last, end - lag)))


def _covariances(moments: Float[np.ndarray, "m m"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the frames before, of before with after, and of the frames after; each (n_columns, n_columns)."""
    n_columns = len(moments) // 2
    means = moments[1:, 0] / moments[0, 0]
    joint = moments[1:, 1:] / moments[0, 0] - np.outer(means, means)
    before, after = slice(None, n_columns), slice(n_columns, None)
    return joint[before, before], joint[before, after], joint[after, after]


def _reversed(moments: Moments) -> Moments:
    """Every pair taken both ways, as detailed balance would have it."""
    n_columns = moments.shape[-1] // 2
    order = np.r_[0, n_columns + 1 : 2 * n_columns + 1, 1 : n_columns + 1]
    return (moments + moments[..., order, :][..., order]) / 2


def _whitening(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """Matrix W for which W.T @ covariance @ W is one on what varies; columns for what does not are zero."""
    scale = _inverse_root(np.diag(covariance), _ROUNDED**2)
    values, vectors = np.linalg.eigh(scale[:, None] * covariance * scale)
    return scale[:, None] * vectors * _inverse_root(values, _RANK)


def _inverse_root(values: Float[np.ndarray, " d"], share: float) -> Float[np.ndarray, " d"]:
    """One over the root of values; zero for those below a share of the largest."""
    kept = values > share * values.max()
    return kept / np.sqrt(np.where(kept, values, 1.0))


def _vamp2(moments: Float[np.ndarray, "m m"]) -> float:
    """VAMP-2 score of the span of the columns and the constant; doi:10.1007/s00332-019-09567-y."""
    before, lagged, after = _covariances(moments)
    return 1.0 + float(np.sum((_whitening(before).T @ lagged @ _whitening(after)) ** 2))


def _slow(moments: Float[np.ndarray, "m m"]) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]]:
    """Eigenvalues of the reversible estimator, descending, and its coordinates in columns; doi:10.1063/1.4811489."""
    covariance, lagged, _ = _covariances(_reversed(moments))
    whitening = _whitening(covariance)
    values, vectors = np.linalg.eigh(whitening.T @ lagged @ whitening)
    return values[::-1], (whitening @ vectors)[:, ::-1]


def _along(
    moments: Float[np.ndarray, "*blocks m m"], directions: Float[np.ndarray, "d k"]
) -> Float[np.ndarray, "*blocks l l"]:
    """Moments of coordinates along directions."""
    both = block_diag(1.0, directions, directions)
    return both.T @ moments @ both


def _own(moments: Moments) -> Float[np.ndarray, "*blocks 4 d"]:
    """Of each column by itself, every pair taken both ways: sums of 1, x, x * x, and of x before times x after."""
    moments, n_columns = _reversed(moments), moments.shape[-1] // 2
    before, after = slice(1, n_columns + 1), slice(n_columns + 1, None)
    first = moments[..., 0, before]
    squares, products = (np.diagonal(moments[..., before, x], axis1=-2, axis2=-1) for x in (before, after))
    return np.stack([np.broadcast_to(moments[..., 0, :1], first.shape), first, squares, products], axis=-2)


def _correlation(own: Float[np.ndarray, "*blocks 4 d"]) -> Float[np.ndarray, "*blocks d"]:
    """Autocorrelation; NaN for what does not vary."""
    mean, square, product = np.moveaxis(own[..., 1:, :] / own[..., :1, :], -2, 0)
    variance = square - mean**2
    varies = variance > _ROUNDED**2 * square
    return np.where(varies, (product - mean**2) / np.where(varies, variance, 1.0), np.nan)


# -- the two rivals


def _tica(moments: Float[np.ndarray, "m m"], n: int) -> Float[np.ndarray, "d k"]:
    """Directions of the slowest coordinates, at most n; doi:10.1063/1.4811489."""
    return _slow(moments)[1][:, :n]


def _pca(moments: Float[np.ndarray, "m m"], n: int) -> Float[np.ndarray, "d k"]:
    """Directions of the largest variance, at most n, from moments of pairs at lag 0."""
    return np.linalg.eigh(_covariances(moments)[0])[1][:, ::-1][:, :n]


def _fitted(features: Series, lag: int, n: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """TICA and PCA coordinates of all frames, fitted to all of them."""
    whole = [_cut([len(x) for x in features], _BLOCKS)]
    directions = _tica(_moments(features, whole, lag)[0], n), _pca(_moments(features, whole, 0)[0], n)
    # Where features are fewer than latent coordinates, constants stand for the rest.
    tica, pca = (np.pad(d, ((0, 0), (0, n - d.shape[1]))) for d in directions)
    return [x @ tica for x in features], [x @ pca for x in features]


# -- results


def _cross_validated(latents: Latents, features: Series, lag: int) -> Float[np.ndarray, "n_methods n_folds"]:
    """Score all three on each fold, TICA and PCA being fitted on the others."""
    folds, n = _folds([len(z) for z in latents], lag), latents[0].shape[1]
    of_latents = _moments(latents, folds, lag, inside=True)
    pairs = _moments(features, folds, lag, inside=True)
    frames = _moments(features, folds, 0)
    scores = np.empty((len(_METHODS), _FOLDS))
    for k in range(_FOLDS):
        others = np.arange(_FOLDS) != k
        tica, pca = _tica(pairs[others].sum(axis=0), n), _pca(frames[others].sum(axis=0), n)
        held_out = of_latents[k], _along(pairs[k], tica), _along(pairs[k], pca)
        scores[:, k] = [_vamp2(moments) for moments in held_out]
    return scores


def _standard_error(values: Float[np.ndarray, "n n_folds"]) -> Float[np.ndarray, " n"]:
    return values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])


def _implied_timescales(series: Series, lags: Sequence[int], seed: Whole) -> Float[np.ndarray, "3 n_lags d"]:
    """Timescales in frames, slowest first, and the ends of their bars."""
    blocks = _resampled_blocks([len(x) for x in series])
    return np.stack([_at_lag(_moments(series, blocks, lag), lag, seed) for lag in lags], axis=1)


def _at_lag(moments: Float[np.ndarray, "n_blocks m m"], lag: int, seed: Whole) -> Float[np.ndarray, "3 d"]:
    """Timescales, and the ends of their bars."""
    values, modes = _slow(moments.sum(axis=0))
    low, high = _ends(_own(_along(moments, modes)), seed)
    times = _time(np.stack([values, low, high]), lag)
    # As an eigenvalue goes to zero, so does its time; and a resample without any transition has no end of it.
    times[1] = np.where(low <= 0, 0.0, times[1])
    times[2] = np.where(high >= 1 - _ROUNDED**2, np.inf, times[2])
    return np.where(np.isnan(times[0]), np.nan, times)


def _ends(own: Float[np.ndarray, "n_blocks 4 d"], seed: Whole) -> Float[np.ndarray, "2 d"]:
    """Ends of the central 95 % of autocorrelations, by a bootstrap over blocks; NaN for a single block.

    Of autocorrelations, not of times, which some resamples do not have. A percentile interval of n blocks is too
    narrow, as if the variance had no n - 1 and Student's distribution were normal: the expanded one, by quantiles
    farther out, makes up for both (doi:10.1080/00031305.2015.1089789).
    """
    own = own[own[:, 0, 0] > 0]
    n = len(own)
    if n < 2:
        return np.full((2, own.shape[2]), np.nan)
    # A resample without all that varies along a coordinate holds nothing that is slow.
    drawn = np.stack(list(drawn_anew(own, _RESAMPLES, np.random.default_rng(seed))))
    found = np.nan_to_num(_correlation(drawn))
    outside = ndtr(-np.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.975))
    return np.quantile(found, (outside, 1 - outside), axis=0)


def _time(values: np.ndarray, lag: int) -> np.ndarray:
    """Implied timescales; NaN where an eigenvalue has none."""
    within = (values > 0) & (values < 1)
    return np.where(within, -lag / np.log(np.where(within, values, 0.5)), np.nan)


def _autocorrelation(latents: Latents, lags: Sequence[int]) -> Float[np.ndarray, "n_lags latent_dim"]:
    """Of each coordinate, mean and variance being those of all pairs of all trajectories; NaN for a constant."""
    whole = [_cut([len(z) for z in latents], _BLOCKS)]
    return np.concatenate([_correlation(_own(_moments(latents, whole, lag))) for lag in lags])
