"""Free-energy surfaces over latent coordinates, with errors, minima, barriers and populations of states."""

import dataclasses
import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mdvae._blocks import block_length_for, cut, drawn_anew, statistical_inefficiency
from mdvae._files import write_numbers
from mdvae._types import Number, Whole
from mdvae.latent.landscape import Landscape, find_landscape
from mdvae.trajectory import GAS_CONSTANT, frame_weights, is_bias

# Bins along each axis: as many as let few frames fall into each, within limits.
_FEWEST_BINS, _MOST_BINS = 10, 100
_DRAWS = 500
# A minimum is deeper than so many errors of its depth.
_DEEP = 3.0

Points = Float[np.ndarray, "n_frames n_dims"]
Mask = Bool[np.ndarray, " n_frames"]
Edges = tuple[Float[np.ndarray, " _"], ...]  # each of its own length


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number and its standard error, NaN where there are too few blocks of time to tell."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ± {self.error:.2f}"


@dataclasses.dataclass(frozen=True)
class Well:
    """A local minimum.

    Parameters
    ----------
    position : tuple of float
        Center of its bin.
    free_energy : Estimate
        kJ/mol.
    """

    position: tuple[float, ...]
    free_energy: Estimate


@dataclasses.dataclass(frozen=True)
class Barrier:
    """The highest point on the lowest way between two minima.

    Parameters
    ----------
    wells : tuple of int
        Between which of the minima, the deeper one first.
    position : tuple of float
        Center of the bin.
    height, back : Estimate
        From the first of them and from the second, kJ/mol.
    """

    wells: tuple[int, int]
    position: tuple[float, ...]
    height: Estimate
    back: Estimate


@dataclasses.dataclass(frozen=True, eq=False)
class States:
    """How much of the time is spent in regions.

    Parameters
    ----------
    names : tuple of str
    populations : (n_states,)
        Shares of all frames.
    covariance : (n_states, n_states)
        Of the logarithms of populations; NaN where there are too few blocks of time to tell.
    shares : (n_states, ...)
        Of what each bin holds, how much is in the state; NaN where it holds nothing.
    """

    names: tuple[str, ...]
    populations: Float[np.ndarray, " n_states"]
    covariance: Float[np.ndarray, "n_states n_states"]
    shares: Float[np.ndarray, "n_states ..."]

    def population(self, name: str) -> Estimate:
        """Share of all frames in a state."""
        i = self._index(name)
        return Estimate(float(self.populations[i]), float(self.populations[i] * np.sqrt(self.covariance[i, i])))

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"there is no state {name!r}; expected one of {', '.join(self.names)}")
        return self.names.index(name)


@dataclasses.dataclass(frozen=True, eq=False)
class FreeEnergy:
    """Free energy over one or two coordinates, kJ/mol, its lowest bin 0.

    Parameters
    ----------
    temperature : float
        K.
    names : tuple of str
        Of the coordinates.
    edges : tuple of (n_bins + 1,)
        Of the bins along each coordinate.
    values : (n_bins,) or (n_bins, n_bins)
        -kT ln p, p the share of all frames in the bin; infinite where there are none.
    errors : (n_bins,) or (n_bins, n_bins)
        Standard errors of -kT ln p, the zero being a convention without an error; to first order, so that kT stands
        where all frames of a bin are of one block of time. NaN where there are no frames, and where there are too few
        blocks to tell.
    counts : (n_bins,) or (n_bins, n_bins)
        Frames, whatever they weigh.
    n_frames, n_trajectories : int
    n_outside : int
        Frames beyond the edges.
    n_effective : float
        Kish's effective number of frames, (sum of weights)² / sum of squared weights; `n_frames` without weights.
    inefficiency : float
        Frames that say as much as an independent one, of the slowest coordinate or state.
    block_length, n_blocks : int
        Of the blocks of time that were drawn anew for the errors.
    minima : tuple of Well
        The deepest first; those that are deeper than three errors of their depth.
    barriers : tuple of Barrier
        Between each two minima that bins with frames connect.
    states : States
        Those that were asked for, or one around each minimum.
    """

    temperature: float
    names: tuple[str, ...]
    edges: Edges
    values: Float[np.ndarray, "*bins"]
    errors: Float[np.ndarray, "*bins"]
    counts: Int[np.ndarray, "*bins"]
    n_frames: int
    n_trajectories: int
    n_outside: int
    n_effective: float
    inefficiency: float
    block_length: int
    n_blocks: int
    minima: tuple[Well, ...]
    barriers: tuple[Barrier, ...]
    states: States

    @property
    def kT(self) -> float:
        """Thermal energy, kJ/mol."""
        return GAS_CONSTANT * self.temperature

    @property
    def centers(self) -> Edges:
        """Centers of the bins along each coordinate."""
        return tuple((borders[1:] + borders[:-1]) / 2 for borders in self.edges)

    def difference(self, start: str, end: str) -> Estimate:
        """Free energy of one state less that of another, kJ/mol, with the error of the difference.

        Parameters
        ----------
        start, end : str
            Names of states.
        """
        i, j = self.states._index(start), self.states._index(end)
        both = self.states.covariance[np.ix_([i, j], [i, j])]
        variance = both[0, 0] + both[1, 1] - 2.0 * both[0, 1]
        value = -self.kT * np.log(self.states.populations[j] / self.states.populations[i])
        return Estimate(float(value), float(self.kT * np.sqrt(max(variance, 0.0) if np.isfinite(variance) else np.nan)))

    def __str__(self) -> str:
        return "\n".join([*self._head(), *self._table_of_minima(), *self._table_of_states()])

    def _head(self) -> Iterator[str]:
        runs = "1 trajectory" if self.n_trajectories == 1 else f"{self.n_trajectories} trajectories"
        yield f"free energy of {self.n_frames} frames of {runs} at {self.temperature:g} K (kT = {self.kT:.3f} kJ/mol)"
        if self.n_effective < 0.999 * self.n_frames:
            yield f"  by their weights they are worth {self.n_effective:.0f} equal ones"
        if self.n_outside:
            yield f"  {self.n_outside} frames lie beyond the edges of the bins"
        yield f"  statistical inefficiency {self.inefficiency:.3g} frames"
        blocks = f"{self.n_blocks} block{'s' * (self.n_blocks != 1)} of about {self.block_length} frames"
        yield f"  errors by a bootstrap over {blocks}" if self.n_blocks > 1 else f"  no errors: there is only {blocks}"

    def _table_of_minima(self) -> Iterator[str]:
        axes = "".join(f"{name[:8]:>9s}" for name in self.names)
        yield f"{'minima':16s}{axes}{'F (kJ/mol)':>18s}"
        for i, well in enumerate(self.minima):
            yield f"  {i + 1:<14d}" + _numbers(well.position) + f"{well.free_energy!s:>18s}"
        if self.barriers:
            yield f"{'barriers':16s}{axes}{'there':>18s}{'back':>18s}"
        for barrier in self.barriers:
            name, heights = " to ".join(str(i + 1) for i in barrier.wells), (barrier.height, barrier.back)
            yield f"  {name:14s}" + _numbers(barrier.position) + "".join(f"{height!s:>18s}" for height in heights)

    def _table_of_states(self) -> Iterator[str]:
        names = self.states.names
        width = max(14, *(len(name) for name in names)) + 2
        yield f"{'states':{width}s}{'population':>18s}{'ΔF (kJ/mol)':>18s}"
        for name in names:
            population, difference = self.states.population(name), self.difference(names[0], name)
            share = f"{population.value:.4f} ± {population.error:.4f}"
            beside = "0" if name == names[0] else str(difference)
            yield f"  {name:{width - 2}s}{share:>18s}{beside:>18s}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON but for infinities: None stands for what is not known."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        names = self.states.names
        states = {name: dataclasses.asdict(self.states.population(name)) for name in names}
        differences = {name: dataclasses.asdict(self.difference(names[0], name)) for name in names[1:]}
        arrays = {name: getattr(self, name).tolist() for name in ("values", "errors", "counts")}
        return {
            **plain,
            "kT": self.kT,
            "names": list(self.names),
            "edges": [borders.tolist() for borders in self.edges],
            **arrays,
            "minima": [dataclasses.asdict(well) for well in self.minima],
            "barriers": [dataclasses.asdict(barrier) for barrier in self.barriers],
            "populations": states,
            "differences": differences,
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row a bin: its center, free energy, error, frames."""
        for index in np.ndindex(*self.values.shape):
            center = {name: float(x[i]) for name, x, i in zip(self.names, self.centers, index, strict=True)}
            numbers = {"free_energy": float(self.values[index]), "error": float(self.errors[index])}
            yield {**center, **numbers, "frames": int(self.counts[index])}

    def save(self, path: str | os.PathLike) -> None:
        """Write the bins as a table where the name ends in ``.csv``, else everything as JSON.

        Parameters
        ----------
        path : path
        """
        write_numbers(path, [*self.names, "free_energy", "error", "frames"], self.rows(), self.to_dict())


_PLAIN = (
    "temperature", "n_frames", "n_trajectories", "n_outside", "n_effective", "inefficiency", "block_length", "n_blocks",
)  # fmt: skip


def _numbers(position: tuple[float, ...]) -> str:
    return "".join(f"{x:>9.3f}" for x in position)


def free_energy(
    z: Any,
    temperature: Number = 300.0,
    *,
    weights: Any = None,
    states: Any = None,
    names: Sequence[str] | None = None,
    n_bins: Whole | None = None,
    edges: Sequence[np.ndarray] | None = None,
    block_length: Whole | None = None,
    seed: Whole = 0,
) -> FreeEnergy:
    """Free-energy surface of latent points: -kT ln of their histogram, in kJ/mol.

    It means something only for frames from equilibrium, or weighted so that they stand for it; and it depends on the
    coordinate: another one of the same data has other barriers.

    Errors come from blocks of time that are drawn anew, 500 times. Blocks lie within trajectories, and are
    (2 n g²)^(1/3) frames long (doi:10.1103/PhysRevE.83.066706), g the statistical inefficiency: of the slowest
    coordinate, or of the slowest state that was asked for. No error can know of what the frames do not show, such as
    states that were not yet visited.

    Parameters
    ----------
    z : (n_frames,), (n_frames, 1 or 2), or a list of these
        Members of a list are separate trajectories, whose frames are in the order of time.
    temperature : float
        K.
    weights : (n_frames,), or a list of these, optional
        How much each frame stands for, such as exp(V / kT) of a run with the bias V; or a column of a COLVAR file with
        that bias, such as ``"COLVAR:metad.rbias"``: see `read`.
    states : dict, optional
        Regions by name: an interval ``(low, high)``, or in two dimensions one for each coordinate,
        ``((low, high), (low, high))``, None standing for an open end; a function of all points (n_frames, n_dims) to
        booleans (n_frames,); or such booleans themselves, for a list of trajectories also as a list, where something
        else than z tells states apart. If left out, one around each minimum.
    names : sequence of str, optional
        Of the coordinates; z, or z1 and z2, if left out.
    n_bins : int, optional
        Along each coordinate; if left out 2 n^(1/3) in one dimension and 2 n^(1/4) in two, from 10 to 100.
    edges : sequence of (n_bins + 1,), optional
        In place of `n_bins`, for two surfaces on one grid.
    block_length : int, optional
        Frames of a block, where more is known of how long frames remember.
    seed : int
        Of the drawing.

    Returns
    -------
    FreeEnergy

    Raises
    ------
    ValueError, TypeError
        For points and weights that are not finite or do not belong together, weights below 0, a temperature that is not
        above 0, more than two coordinates, and states that are none or hold no frame.

    Examples
    --------
    >>> z = [mdvae.encode(model, run) for run in ("a.xtc", "b.xtc")]  # doctest: +SKIP
    >>> print(mdvae.free_energy(z, 300, states={"left": (None, 0.0), "right": (0.0, None)}))  # doctest: +SKIP
    """
    runs = _runs(z)
    kT = GAS_CONSTANT * _positive("temperature", temperature)
    points, lengths = np.concatenate(runs), [len(run) for run in runs]
    if is_bias(weights):
        weights = frame_weights(weights, lengths, temperature=temperature)
    weight = _weights(weights, lengths)
    n_effective = float(weight.sum() ** 2 / (weight**2).sum())
    borders = _edges(points, n_effective, n_bins) if edges is None else _given_edges(edges, points.shape[1])
    masks = None if states is None else _masks(states, points, lengths, weight)
    inefficiency = _inefficiency(points, weight, masks, lengths)
    length = (
        block_length_for(len(points), inefficiency)
        if block_length is None
        else _at_least("block_length", block_length, 1)
    )
    blocks = _Blocks(cut(lengths, length), weight, np.random.default_rng(operator.index(seed)))
    cells, shape = _cells(points, borders), tuple(len(axis) - 1 for axis in borders)
    n_cells = int(np.prod(shape))
    if not weight[cells >= 0].any():
        raise ValueError(
            f"none of {len(points)} frames lies within the edges, or all that do weigh 0; give other edges"
        )

    grid = blocks.shares(cells, n_cells)
    with np.errstate(divide="ignore"):
        values = -kT * np.log(grid.values)
    values -= values.min()

    spread = grid.spread()

    def difference(high: int, low: int) -> Estimate:
        return Estimate(float(values[high] - values[low]), float(kT * grid.spread(high, low)))

    def deep(minimum: int, saddle: int) -> bool:
        # Where nothing leads there, it is as deep as half a frame is high, which is known as well as one frame is.
        rim, noise = (grid.values[saddle], spread[saddle]) if saddle >= 0 else (0.5 / n_effective, 1.0)
        # Bins that only one block has seen go up and down together: their errors are added as if they did not.
        return bool(np.log(grid.values[minimum] / rim) > _DEEP * np.hypot(spread[minimum], noise))

    found = find_landscape(values.reshape(shape), deep)
    errors = kT * spread
    inside = cells >= 0
    if masks is None:
        valley = np.where(inside, found.valley[cells], -1)
        masks = {str(i + 1): valley == i for i in range(len(found.minima))}
    places = np.stack([axis.ravel() for axis in np.meshgrid(*_centers(borders), indexing="ij")], axis=1)
    return FreeEnergy(
        temperature=float(temperature),
        names=_names(names, points.shape[1]),
        edges=borders,
        values=values.reshape(shape),
        errors=np.where(np.isfinite(values), errors, np.nan).reshape(shape),
        counts=np.bincount(cells[inside], minlength=n_cells).reshape(shape),
        n_frames=len(points),
        n_trajectories=len(runs),
        n_outside=int(np.sum(~inside)),
        n_effective=n_effective,
        inefficiency=inefficiency,
        block_length=int(length),
        n_blocks=blocks.n,
        minima=tuple(
            Well(tuple(places[i].tolist()), Estimate(float(values[i]), float(errors[i]))) for i in found.minima
        ),
        barriers=tuple(_barriers(found, places, difference)),
        states=_states(masks, blocks, cells, shape),
    )


# -- what was given


def _runs(z: Any) -> list[Points]:
    """Each trajectory as (n_frames, n_dims), float64."""
    given = list(z) if isinstance(z, list | tuple) else [z]
    if not given:
        raise ValueError("the list of trajectories is empty; expected at least one")
    runs = []
    for one in given:
        run = np.asarray(one)
        if run.dtype.kind not in "fiu":
            raise TypeError(f"latent points are of type {run.dtype}; expected numbers")
        run = run[:, None] if run.ndim == 1 else run
        if run.ndim != 2 or run.shape[1] == 0:
            raise ValueError(
                f"latent points have shape {run.shape}; expected (n_frames, 1 or 2), or a list of such arrays, one a "
                "trajectory"
            )
        if run.shape[1] > 2:
            raise ValueError(
                f"a free energy is of one or two coordinates, got {run.shape[1]}: choose two columns, such as z[:, :2]"
            )
        if not len(run):
            raise ValueError("a trajectory holds no latent points")
        runs.append(run.astype(np.float64))
    if len({run.shape[1] for run in runs}) > 1:
        raise ValueError("some trajectories have one coordinate and some two; expected the same for all")
    bad = sum(int(np.sum(~np.isfinite(run).all(axis=1))) for run in runs)
    if bad:
        raise ValueError(f"{bad} of {sum(map(len, runs))} latent points are NaN or infinite; leave these frames out")
    return runs


def _positive(name: str, value: Number) -> float:
    if not 0 < value < np.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value}")
    return float(value)


def _at_least(name: str, value: Whole, least: int) -> int:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return operator.index(value)


def _names(names: Sequence[str] | None, n_dims: int) -> tuple[str, ...]:
    if names is None:
        return ("z",) if n_dims == 1 else ("z1", "z2")
    if len(names) != n_dims:
        raise ValueError(f"names must be {n_dims}, one for each coordinate, got {len(names)}")
    return tuple(names)


def _joined(name: str, given: Any, lengths: list[int]) -> np.ndarray:
    """One number a frame, of an array or of a list of arrays with the same borders."""
    parts = [np.asarray(one) for one in given] if isinstance(given, list | tuple) else None
    if parts and all(part.ndim == 1 for part in parts):
        if [len(part) for part in parts] != lengths:
            raise ValueError(
                f"{name} are for {', '.join(str(len(part)) for part in parts)} frames of {len(parts)} trajectories; "
                f"expected {', '.join(map(str, lengths))}"
            )
        return np.concatenate(parts)
    joined = np.asarray(given)
    if joined.shape != (sum(lengths),):
        raise ValueError(f"{name} have shape {joined.shape}; expected one for each frame, ({sum(lengths)},)")
    return joined


def _weights(given: Any, lengths: list[int]) -> Float[np.ndarray, " n_frames"]:
    if given is None:
        return np.ones(sum(lengths))
    weights = _joined("weights", given, lengths)
    if weights.dtype.kind not in "fiu":
        raise TypeError(f"weights are of type {weights.dtype}; expected numbers")
    weights = weights.astype(np.float64)
    if not np.isfinite(weights).all():
        raise ValueError(f"{np.sum(~np.isfinite(weights))} of {len(weights)} weights are NaN or infinite")
    if (weights < 0).any():
        raise ValueError(f"{np.sum(weights < 0)} of {len(weights)} weights are below 0; expected 0 or more")
    if not weights.any():
        raise ValueError("all weights are 0: no frame stands for anything")
    return weights / weights.max()


def _edges(points: Points, n_effective: float, n_bins: Whole | None) -> Edges:
    n_dims = points.shape[1]
    if n_bins is None:
        n_bins = int(np.clip(round(2 * n_effective ** (1 / (2 + n_dims))), _FEWEST_BINS, _MOST_BINS))
    n = _at_least("n_bins", n_bins, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    for d in np.flatnonzero(low == high):
        raise ValueError(f"coordinate {d + 1} is {low[d]:.6g} in all {len(points)} frames: there is nothing to divide")
    return tuple(np.linspace(low[d], high[d], n + 1) for d in range(n_dims))


def _given_edges(edges: Sequence[np.ndarray], n_dims: int) -> Edges:
    found = tuple(np.asarray(axis, np.float64) for axis in edges)
    if len(found) != n_dims or any(axis.ndim != 1 or len(axis) < 3 or (np.diff(axis) <= 0).any() for axis in found):
        raise ValueError(
            f"edges must be {n_dims} arrays of three or more ascending numbers, one for each coordinate, such as the "
            "edges of another surface"
        )
    return found


def _masks(states: Any, points: Points, lengths: list[int], weight: Float[np.ndarray, " n_frames"]) -> dict[str, Mask]:
    """Which frames are in each state."""
    if not isinstance(states, Mapping) or not states:
        raise TypeError(f"states must be a dictionary of names and regions, got {states!r}")
    masks = {str(name): _mask(str(name), region, points, lengths) for name, region in states.items()}
    for name, mask in masks.items():
        if not mask.any():
            raise ValueError(f"state {name!r} holds none of {len(points)} frames")
        if not weight[mask].any():
            raise ValueError(f"all {mask.sum()} frames of state {name!r} weigh 0: there is no telling its free energy")
    return masks


def _mask(name: str, region: Any, points: Points, lengths: list[int]) -> Mask:
    if callable(region):
        return _booleans(name, region(points), lengths)
    box = _box(name, region, points.shape[1])
    if box is None:
        return _booleans(name, region, lengths)
    low, high = box.T
    return np.all((points >= low) & (points < high), axis=1)


def _booleans(name: str, given: Any, lengths: list[int]) -> Mask:
    mask = _joined(f"those in state {name!r}", given, lengths)
    if mask.dtype.kind != "b":
        raise TypeError(f"state {name!r} is told by {mask.dtype}; expected True or False for each frame")
    return mask


def _box(name: str, region: Any, n_dims: int) -> Float[np.ndarray, "n_dims 2"] | None:
    """Lower and upper end along each coordinate, if that is what the region is."""
    if not isinstance(region, tuple | list):
        return None
    try:
        ends = np.array(region, dtype=object).ravel()
    except ValueError:  # masks of trajectories, each of its own length
        return None
    if any(isinstance(end, bool) or not isinstance(end, float | int | np.integer | np.floating | None) for end in ends):
        return None
    if len(ends) != 2 * n_dims:
        expected = "(low, high)" if n_dims == 1 else "((low, high), (low, high))"
        raise ValueError(f"state {name!r} is {region}; expected {expected}")
    box = [(-np.inf if low is None else low, np.inf if high is None else high) for low, high in ends.reshape(n_dims, 2)]
    return np.array(box, np.float64)


# -- frames to numbers with errors


def _inefficiency(
    points: Points, weight: Float[np.ndarray, " n_frames"], masks: dict[str, np.ndarray] | None, lengths: list[int]
) -> float:
    # What rounding leaves of a state that holds all frames, or none, would count as perfect memory.
    varying = [mask for mask in (masks or {}).values() if mask.any() and not mask.all()]
    columns = np.column_stack([points, *varying]).astype(np.float64)
    # What a weighted mean scatters by are the weighted deviations from it.
    deviations = weight[:, None] * (columns - np.average(columns, axis=0, weights=weight))
    return statistical_inefficiency(np.split(deviations, np.cumsum(lengths)[:-1]))


def _centers(edges: Edges) -> Edges:
    return tuple((axis[1:] + axis[:-1]) / 2 for axis in edges)


def _cells(points: Points, edges: Edges) -> Int[np.ndarray, " n_frames"]:
    """Flat index of the bin of each frame; -1 beyond the edges. The last edge belongs to the last bin."""
    index, inside = np.zeros(len(points), np.int64), np.ones(len(points), bool)
    for x, axis in zip(points.T, edges, strict=True):
        n = len(axis) - 1
        inside &= (x >= axis[0]) & (x <= axis[-1])
        index = index * n + np.minimum(np.searchsorted(axis, x, side="right") - 1, n - 1)
    return np.where(inside, index, -1)


@dataclasses.dataclass(frozen=True, eq=False)
class _Shares:
    """Shares of all frames, and how they scatter where blocks are drawn anew, relative to themselves."""

    values: Float[np.ndarray, " n"]
    scatter: Float[np.ndarray, "n_draws n"] | None

    def spread(self, *which: int) -> Any:
        """Standard deviation of the logarithm of each share, of one, or of the ratio of two."""
        if self.scatter is None:
            return np.full(len(self.values), np.nan) if not which else np.nan
        columns = [self.scatter[:, i] for i in which]
        return (self.scatter if not columns else columns[0] - sum(columns[1:], np.zeros(1))).std(axis=0)


class _Blocks:
    """Blocks of time of weighted frames."""

    def __init__(
        self, labels: Int[np.ndarray, " n_frames"], weight: Float[np.ndarray, " n_frames"], rng: np.random.Generator
    ) -> None:
        self.labels, self.weight, self.n = labels, weight, int(labels[-1]) + 1
        self._seed = rng.integers(2**63)

    def shares(self, which: Int[np.ndarray, " n_frames"], n: int) -> _Shares:
        """Of kinds 0 to n - 1 of frames; -1 is none of them."""
        kept = which >= 0
        flat = self.labels[kept] * n + which[kept]
        sums = np.bincount(flat, self.weight[kept], minlength=self.n * n).reshape(self.n, n)
        return self._of_sums(sums)

    def shares_of(self, masks: Sequence[Mask]) -> _Shares:
        """Of kinds that may overlap."""
        return self._of_sums(
            np.stack([np.bincount(self.labels, self.weight * mask, minlength=self.n) for mask in masks], axis=1)
        )

    def _of_sums(self, sums: Float[np.ndarray, "n_blocks n"]) -> _Shares:
        everything = np.bincount(self.labels, self.weight, minlength=self.n)
        values = sums.sum(axis=0) / everything.sum()
        if self.n < 2:
            return _Shares(values, None)
        # The same blocks each time, so that what is asked for one after the other goes together.
        draws = drawn_anew(np.column_stack([sums, everything]), _DRAWS, np.random.default_rng(self._seed))
        drawn = np.stack(list(draws))
        ratio = np.where(values > 0, values, 1.0)
        relative = drawn[:, :-1] / drawn[:, -1:] / ratio
        # The variance of n blocks drawn from themselves is too small by 1 - 1 / n.
        return _Shares(values, (relative - relative.mean(axis=0)) * np.sqrt(self.n / (self.n - 1)))


def _barriers(
    found: Landscape, places: Float[np.ndarray, "n_cells n_dims"], difference: Callable[[int, int], Estimate]
) -> Iterator[Barrier]:
    for i, j in zip(*np.triu_indices(len(found.minima), 1), strict=True):
        saddle = int(found.passes[i, j])
        if saddle >= 0:
            heights = (difference(saddle, int(found.minima[k])) for k in (i, j))
            yield Barrier((int(i), int(j)), tuple(places[saddle].tolist()), *heights)


def _states(
    masks: dict[str, Mask],
    blocks: _Blocks,
    cells: Int[np.ndarray, " n_frames"],
    shape: tuple[int, ...],
) -> States:
    found = blocks.shares_of(list(masks.values()))
    n_states, inside, n_cells = len(masks), cells >= 0, int(np.prod(shape))

    def held(weight: np.ndarray) -> np.ndarray:
        return np.bincount(cells[inside], weight[inside], minlength=n_cells)

    everything = held(blocks.weight)
    parts = np.stack([held(blocks.weight * mask) for mask in masks.values()])
    shares = np.where(everything > 0, parts / np.where(everything > 0, everything, 1.0), np.nan)
    unknown = np.full((n_states, n_states), np.nan)
    covariance = unknown if found.scatter is None else found.scatter.T @ found.scatter / len(found.scatter)
    return States(tuple(masks), found.values, covariance, shares.reshape(n_states, *shape))
