"""Conformations where the data are thin: in cells of latent space, or values of an observable, with few frames or none.

A cell is thin if it holds few frames and belongs to the region that was sampled: it holds a frame, or touches a cell
that does, or lies between cells that hold many (in their convex hull). The rest of the plane is empty because nothing
is there to be seen; a thin cell is empty because the simulation passed through quickly, or stopped at its border.

What is generated for such cells is a proposal: a structure with the local geometry of the data that the model itself
finds in a thin cell. Whether the molecule would be there, and how often, only a simulation from there on can tell.
"""

import dataclasses
import operator
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from jaxtyping import Array, Bool, Float, Int
from scipy.spatial import ConvexHull, KDTree

from mdvae._chunks import map_rows
from mdvae._keys import key_for
from mdvae._types import Frame, Key, Latent, Scalar, Whole
from mdvae.geometry import safe_norm
from mdvae.latent.encoding import encode_chunks, encode_posed
from mdvae.latent.generation import Drawn, decode_coordinates, draw_until, sample_prior
from mdvae.model import Coordinate, Decoder, Model, check_decodes
from mdvae.trajectory import Conformations, to_trajectory

Coordinates = Float[np.ndarray, "n_frames n_atoms dim"]
Observable = Callable[[Frame], Scalar]
Points = Float[np.ndarray, "n_frames latent_dim"]
Values = Float[np.ndarray, "n_frames n_axes"]
Targets = Float[np.ndarray, "n_targets n_axes"]
Cells = Int[np.ndarray, "n_frames n_axes"]
Edges = tuple[Float[np.ndarray, " n_edges"], ...]
# Posed frames of the data with their latent points.
Chunks = Iterator[tuple[Coordinates, Points]]
# Where structures lie along the axes; and latent points that may lead to where one would have them.
Measure = Callable[[Coordinates], Values]
Propose = Callable[[Targets, np.random.Generator, Key], Points]

# A map of more cells along an axis shows single frames.
_MOST_BINS = 1000
# Draws for each conformation that was asked for, and draws in any case, before it is left at what was found.
_DRAWS, _FEWEST_DRAWS = 50, 5000
# Frames near a cell, from which a draw takes the latent coordinates that the cell does not say.
_NEAR = 10
# Steps towards what a draw is for, in latent standard deviations at most so long; and a square that is no slope.
_STEPS, _STRIDE, _FLAT = 10, 0.3, 1e-20
# Draws that are led at a time.
_LED = 128
# Thin intervals of an observable that are named.
_NAMED = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Undersampled:
    """Thin cells, and valid conformations that lie in them.

    Parameters
    ----------
    axes : tuple of str
        What the cells divide: latent coordinates ("z1", "z2", counted from 1), or the observable's name.
    edges : tuple of (n_bins + 1,)
        Borders of the cells along each axis: in latent units, or in that of the observable.
    counts : (n_bins,) or (n_bins, n_bins)
        Frames of the data in each cell.
    thin : (n_bins,) or (n_bins, n_bins)
        Whether the cell holds fewer than `fewest`, and belongs to the region that was sampled.
    fewest : int
    n_asked : int
        Conformations that were asked for.
    trajectory : mdtraj.Trajectory
        (n_frames,), restored, in the order of drawing; `n_frames` is smaller than `n_asked` where the model does not
        give so many. It has ``restoration`` and ``n_drawn``.
    values : (n_frames, n_axes)
        Where each conformation lies: restored and encoded again, or its observable.
    cells : (n_frames, n_axes)
        The same as indices into `counts` and `thin`, which is true there.
    n_valid, n_drawn : int
        How many were drawn up to the last one that was needed, and how many of these were valid, in a thin cell or not.
    """

    axes: tuple[str, ...]
    edges: Edges
    counts: Int[np.ndarray, "..."]
    thin: Bool[np.ndarray, "..."]
    fewest: int
    n_asked: int
    trajectory: Conformations
    values: Values
    cells: Cells
    n_valid: int
    n_drawn: int

    @property
    def frames_in_cell(self) -> Int[np.ndarray, " n_frames"]:
        """For each conformation, the frames of the data in its cell."""
        return self.counts[tuple(self.cells.T)]

    @property
    def reached(self) -> Bool[np.ndarray, "..."]:
        """Thin cells that a conformation lies in; of the shape of `thin`."""
        reached = np.zeros_like(self.thin)
        reached[tuple(self.cells.T)] = True
        return reached

    def __str__(self) -> str:
        what, all_frames = ("bins" if len(self.axes) == 1 else "cells"), self.counts.sum()
        n_generated, n_reached = len(self.cells), self.reached.sum()
        region = f"of {self.thin.size} {what} of {', '.join(self.axes)}"
        if not self.thin.any():
            return (
                f"undersampled: none {region}, within the region that was sampled, holds fewer than {self.fewest} of "
                f"{all_frames} frames; nothing was generated"
            )
        lines = [
            f"undersampled: {self.thin.sum()} {region} hold fewer than {self.fewest} of {all_frames} frames, "
            f"{np.sum(self.thin & (self.counts == 0))} of them none",
            f"  generated    {n_generated} of {self.n_asked} conformations, in {n_reached} of these {what}",
            f"  drawn        {self.n_drawn} structures, {self.n_valid} of them valid",
        ]
        if len(self.axes) == 1:
            lines.insert(1, f"  where        {_named(_intervals(self.edges[0], self.thin))}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; without the structures."""
        arrays = {name: getattr(self, name) for name in ("counts", "thin", "values", "cells", "frames_in_cell")}
        return {
            "axes": list(self.axes),
            "edges": [edges.tolist() for edges in self.edges],
            **{name: array.tolist() for name, array in arrays.items()},
            **{name: getattr(self, name) for name in ("fewest", "n_asked", "n_valid", "n_drawn")},
        }


def undersampled(
    model: Model,
    source: Any = None,
    *,
    observable: Observable | None = None,
    n_bins: Whole = 20,
    fewest: Whole = 10,
    n_frames: Whole = 100,
    key: Key | None = None,
    seed: Whole = 0,
    **reading,
) -> Undersampled:
    """Where the data are thin, and conformations that the model has there.

    Cells divide the range of the encoded frames along the two latent coordinates that say most (one, if the others are
    dead), or the range of an observable. A cell is thin if it holds fewer than ``fewest`` frames and belongs to the
    region that was sampled: it holds a frame, touches a cell that does, or lies between cells with ``fewest`` and more.

    For latent cells, points are drawn evenly from the thin ones, with the other latent coordinates of one of the ten
    frames that are nearest in the plane, and moved until what is decoded of them encodes to there. For an observable
    they are drawn half from the prior, and half around frames whose value is near one in a thin bin, and then led to
    that value along its gradient. All are decoded and restored.
    Kept is what is valid (`mdvae.validity.check`) and really lies in a thin cell, not necessarily the one it was drawn
    for: restored and encoded again, or by its observable.

    Parameters
    ----------
    model : Model
        Trained.
    source : path, mdtraj.Trajectory, array (n_frames, n_atoms, dim), or a list of any of these, optional
        The data; the training frames that the model keeps if left out, which may be fewer than it was trained on. It is
        read in chunks; memory holds the latent points.
    observable : callable, optional
        Any JAX function of one frame (n_atoms, dim) to one number, such as those in `mdvae.observables`.
    n_bins : int
        Cells along each axis, from 2 to 1000.
    fewest : int
        Cells with fewer frames are thin.
    n_frames : int
        Conformations to generate; 0 only looks where the data are thin, which a model that only encodes can, too. It is
        left at fewer once 50 for each of these, and 5000 or more, were drawn.
    key : PRNG key, optional
        Made from ``seed`` if left out.
    seed : int
    **reading
        Of a source: as for `encode`.

    Returns
    -------
    Undersampled

    Raises
    ------
    ValueError, TypeError, OSError
        For an untrained model or one that only encodes, numbers out of their range, an observable that is none or does
        not vary, and a source that cannot be read or is another molecule.
    """
    n_bins, fewest, n_frames = (
        _at_least("n_bins", n_bins, 2, _MOST_BINS),
        _at_least("fewest", fewest, 1),
        _at_least("n_frames", n_frames, 0),
    )
    if n_frames:
        check_decodes(model, "undersampled, unless with n_frames=0,")
    if model.data is None:
        raise ValueError("undersampled needs a trained model: train it first")
    if source is None and reading:
        raise TypeError(f"{', '.join(reading)} say how to read a source: give one, or leave them out")
    key = key_for("undersampled", seed) if key is None else key
    chunks = _data(model, source, reading)
    view = _latent_plane(model, chunks) if observable is None else _marginal(model, observable, chunks)
    edges = _edges(view, n_bins)
    counts = _counts(edges, _cells(edges, view.values))
    thin = _thin(counts, fewest)
    drawn = _drawn(model, view, edges, thin, n_frames, key)
    trajectory = to_trajectory(model.system, drawn.frames, restoration=drawn.restoration)
    trajectory.n_drawn = drawn.n_drawn
    return Undersampled(
        axes=view.axes,
        edges=edges,
        counts=counts,
        thin=thin,
        fewest=fewest,
        n_asked=n_frames,
        trajectory=trajectory,
        values=drawn.values,
        cells=_cells(edges, drawn.values),
        n_valid=drawn.n_valid,
        n_drawn=drawn.n_drawn,
    )


def _at_least(name: str, value: Whole, least: int, most: int | None = None) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    number = operator.index(value)
    if number < least or (most is not None and number > most):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {limits}, got {number}")
    return number


# -- what the cells divide


def _data(model: Model, source: Any, reading: dict[str, Any]) -> Chunks:
    """Posed frames with their latent points, of the source or of the model."""
    assert model.data is not None
    if source is None:
        yield model.data.frames, encode_posed(model, model.data.frames)
        return
    for chunk, z in encode_chunks(model, source, **reading):
        yield chunk.coordinates, z


@dataclasses.dataclass(frozen=True, eq=False)
class _View:
    """Axes, the data along them, and both ways between structures and axes."""

    axes: tuple[str, ...]
    values: Values
    measure: Measure
    propose: Propose


def _latent_plane(model: Model, chunks: Chunks) -> _View:
    z = np.concatenate([z for _, z in chunks])
    shown = _most_active(model, z)

    def measure(frames):
        return map_rows(model.coordinate, frames)[:, shown]

    home = _Home(model.decoder, model.coordinate, tuple(shown), float(z.std()))

    def propose(targets, rng, _):
        """There, with what else near frames have; then moved until what is decoded of it encodes to there."""
        starts = z[_nearby(z[:, shown], targets, rng)]
        starts[:, shown] = targets
        return _led(home, starts, targets)

    return _View(tuple(f"z{i + 1}" for i in shown), z[:, shown], measure, propose)


class _Home(eqx.Module):
    """Steps to where the decoder's own structure encodes to given values of some latent coordinates.

    What is decoded encodes to nearer the middle than it came from, the more so the less the latent space says: without
    this, a model of few epochs may not get to the borders of its own data.
    """

    decoder: Decoder
    coordinate: Coordinate
    shown: tuple[int, ...] = eqx.field(static=True)
    spread: float

    def __call__(self, z: Latent, target: Float[Array, " n_axes"]) -> Latent:
        """From a latent point to another."""
        shown, longest = jnp.asarray(self.shown), _STRIDE * self.spread

        def step(_, z):
            away = target - self.coordinate.encode_posed(self.decoder(z))[shown]
            return z.at[shown].add(jnp.clip(away, -longest, longest))

        return jax.lax.fori_loop(0, _STEPS, step, z)


def _led(guide: "_Home | _Guide", starts: Points, targets: Float[np.ndarray, "n_frames ..."]) -> Points:
    # Whole blocks only, the first rows once more at the end: one shape is compiled. They are small, since a step costs
    # as much as decoding.
    rows = np.arange(-(-len(starts) // _LED) * _LED) % len(starts)
    blocks = [(jnp.asarray(starts[i]), jnp.asarray(targets[i], jnp.float32)) for i in rows.reshape(-1, _LED)]
    return np.concatenate([_compiled(guide, *block) for block in blocks])[: len(starts)]


@eqx.filter_jit
def _compiled(guide: "_Home | _Guide", starts: Array, targets: Array) -> Array:
    return jax.vmap(guide)(starts, targets)


def _most_active(model: Model, z: Points) -> list[int]:
    """The two latent coordinates that say most, in the order of their numbers; dead ones only where all are."""
    said = model.diagnostics
    activity = z.var(axis=0) if said is None else np.where(said.active, said.kl_by_dimension, -np.inf)
    two = np.argsort(-activity, kind="stable")[:2]
    return sorted(int(i) for i in two if i == two[0] or np.isfinite(activity[i]))


def _marginal(model: Model, observable: Observable, chunks: Chunks) -> _View:
    def measure(frames):
        return map_rows(observable, frames)[:, None]

    def of_data(frames):
        _check_observable(observable, frames)
        return measure(frames)

    z, values = (np.concatenate(part) for part in zip(*((z, of_data(frames)) for frames, z in chunks), strict=True))
    if not np.isfinite(values).all():
        raise ValueError(f"the observable is not finite on {np.sum(~np.isfinite(values))} of {len(values)} frames")

    guide = _Guide(model.decoder, observable, jnp.asarray(np.maximum(z.std(axis=0), 1e-6)))

    def propose(targets, rng, key):
        """Half of them from near frames with about that value, jittered; half from the prior; then led to the value."""
        jitter = z.std(axis=0) * rng.uniform(size=(len(targets), 1)) * rng.normal(size=(len(targets), z.shape[1]))
        starts = (z[_nearby(values, targets, rng)] + jitter).astype(np.float32)
        starts[1::2] = sample_prior(model, jax.random.split(key, len(targets)))[1::2]
        return _led(guide, starts, targets[:, 0])

    name = getattr(observable, "__name__", None) or getattr(getattr(observable, "func", None), "__name__", "observable")
    return _View((name,), values, measure, propose)


class _Guide(eqx.Module):
    """Newton's steps, along the gradient, to where the decoder's own structure has a given value.

    Averages of structures are less extreme than structures: without this, hardly a draw gets to the ends of a marginal.
    """

    decoder: Decoder
    observable: Observable
    spread: Latent

    def __call__(self, z: Latent, target: Scalar) -> Latent:
        """From a latent point to another; where there is no gradient, or no end to it, to itself."""

        def step(_, unit):
            value, slope = jax.value_and_grad(lambda unit: self.observable(self.decoder(unit * self.spread)))(unit)
            move = (target - value) * slope / jnp.maximum(slope @ slope, _FLAT)
            move = move * jnp.minimum(1.0, _STRIDE / safe_norm(move))
            return jnp.where(jnp.isfinite(move).all(), unit + move, unit)

        return jax.lax.fori_loop(0, _STEPS, step, z / self.spread) * self.spread


def _check_observable(observable: Observable, frames: Coordinates) -> None:
    try:
        shape = jax.eval_shape(observable, jax.ShapeDtypeStruct(frames.shape[1:], frames.dtype)).shape
    except (jax.errors.JAXTypeError, AttributeError) as error:
        raise ValueError(
            "an observable must be a JAX function of one frame to one number: write it with jax.numpy"
        ) from error
    if shape != ():
        raise ValueError(f"an observable must return one number for one frame, got an array of shape {shape}")


def _nearby(values: Values, targets: Targets, rng: np.random.Generator) -> Int[np.ndarray, " n_targets"]:
    """For each target one of the frames that are nearest to it, in shares of the range."""
    scale = np.ptp(values, axis=0)
    n_near = min(_NEAR, len(values))
    near = np.reshape(KDTree(values / scale).query(targets / scale, k=n_near)[1], (len(targets), n_near))
    return near[np.arange(len(targets)), rng.integers(n_near, size=len(targets))]


# -- cells


def _edges(view: _View, n_bins: int) -> Edges:
    low, high = view.values.min(axis=0).astype(float), view.values.max(axis=0).astype(float)
    for name, least, most in zip(view.axes, low, high, strict=True):
        if not least < most:
            raise ValueError(f"{name} is {least:.6g} for all of {len(view.values)} frames: there is nothing to divide")
    return tuple(np.linspace(least, most, n_bins + 1) for least, most in zip(low, high, strict=True))


def _cells(edges: Edges, values: Values) -> Cells:
    """Indices of cells; -1 along an axis that a value is beyond. The last cell includes its upper border."""
    cells = np.full(values.shape, -1)
    for axis, borders in enumerate(edges):
        x, last = values[:, axis].astype(float), len(borders) - 2
        inside = (x >= borders[0]) & (x <= borders[-1])
        cells[inside, axis] = np.minimum(np.searchsorted(borders, x[inside], side="right") - 1, last)
    return cells


def _counts(edges: Edges, cells: Cells) -> Int[np.ndarray, "..."]:
    counts = np.zeros([len(borders) - 1 for borders in edges], int)
    np.add.at(counts, tuple(cells.T), 1)
    return counts


def _thin(counts: Int[np.ndarray, "..."], fewest: int) -> Bool[np.ndarray, "..."]:
    """Cells with few frames that hold some, touch a cell that does, or lie between cells with many."""
    touching = scipy.ndimage.binary_dilation(counts > 0, structure=np.ones([3] * counts.ndim))
    return (counts < fewest) & (touching | _between(counts >= fewest))


def _between(full: Bool[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
    """Cells whose center is in the convex hull of the full ones."""
    if not full.any():
        return full
    cells = np.argwhere(full)
    if full.ndim == 1:
        return (np.arange(len(full)) >= cells.min()) & (np.arange(len(full)) <= cells.max())
    # Corners of a single cell already span a plane, whereas centers may lie on a line.
    corners = np.concatenate([cells + np.array(corner) for corner in ((0, 0), (0, 1), (1, 0), (1, 1))])
    hull = ConvexHull(np.unique(corners, axis=0)).equations
    centers = np.moveaxis(np.indices(full.shape), 0, -1) + 0.5
    inside = np.ones(full.shape, bool)
    for *normal, offset in hull:
        inside &= centers @ np.array(normal) + offset <= 1e-9
    return inside


# -- conformations


def _drawn(model: Model, view: _View, edges: Edges, thin: Bool[np.ndarray, "..."], n_frames: int, key: Key) -> Drawn:
    """Valid structures in thin cells."""
    targets = np.argwhere(thin)

    def draw(first, last):
        # A generator for each block: memory holds no more, and a seed still gives one result.
        part = jax.random.fold_in(key, first)
        rng = np.random.default_rng(np.asarray(jax.random.key_data(part)).ravel())
        cells = targets[rng.integers(len(targets), size=last - first)]
        return decode_coordinates(model, view.propose(_somewhere(edges, cells, rng), rng, part))

    def judge(frames):
        if not len(frames):
            return np.zeros(0, bool), np.zeros((0, len(edges)), np.float32)
        values = view.measure(frames)
        cells = _cells(edges, values)
        return (cells >= 0).all(axis=1) & thin[tuple(cells.T)], values

    most = max(_DRAWS * n_frames, _FEWEST_DRAWS)
    enough = n_frames if len(targets) else 0
    return draw_until(model, draw, enough, judge=judge, stop=lambda _, n_drawn: n_drawn >= most)


def _somewhere(edges: Edges, cells: Int[np.ndarray, "n_targets n_axes"], rng: np.random.Generator) -> Targets:
    """A point anywhere in each cell."""
    shares = rng.uniform(size=cells.shape)
    return np.stack(
        [(1 - u) * borders[i] + u * borders[i + 1] for borders, i, u in zip(edges, cells.T, shares.T, strict=True)],
        axis=1,
    )


# -- words


def _intervals(borders: Float[np.ndarray, " n_edges"], thin: Bool[np.ndarray, " n_bins"]) -> list[str]:
    """Thin bins that are next to one another, as one interval each."""
    steps = np.diff(np.concatenate([[0], thin.astype(int), [0]]))
    ends = zip(borders[steps == 1], borders[steps == -1], strict=True)
    return [f"{low:.3g} to {high:.3g}" for low, high in ends]


def _named(names: list[str]) -> str:
    more = f", and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
