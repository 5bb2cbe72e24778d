"""A frame into a standard pose: centered, then turned by a proper rotation.

An alignment is a pure function of one frame, so that a trained model is one map from positions to
latent coordinates. ``"superposition"`` turns every frame onto the mean structure, which itself lies
along its principal axes; ``"principal"`` lays every frame along its own principal axes; ``"none"``
only centers. The same weights center and turn, which makes the pose the weighted least-squares one.
"""

import abc
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from mdvae._chunks import ahead, in_chunks
from mdvae._compiled import by_numba
from mdvae._memory import forget, picked
from mdvae._types import Frame, Scalar, Weights
from mdvae.geometry import center, principal, rotate, superpose

Coordinates = Float[np.ndarray, "n_frames n_atoms dim"]

# A posed step beyond the intrinsic one by half the radius of gyration: about a turn of 30 degrees.
_JUMP = 0.5
# The mean structure is settled when an iteration moves it by less than this share of its size.
_SETTLED = 1e-4
_ITERATIONS = 20
# Points count as one point, or as lying on one line, below this share: the rounding of float32.
_DEGENERATE = 1e-5
# At least so many frames, evenly spaced, make the mean structure: it only says which way is up.
_OF_MEAN = 2000
# Numbers whose extent is looked at: hundreds of frames, unless they are large.
_OF_EXTENT = 2**21
# Numbers in a block that stays in cache.
_BLOCK = 2**18
# Lets no step pass for short that rounding has shortened.
_ROUNDED = 0.999


class AbstractAlignment(eqx.Module):
    """A frame into a standard pose."""

    weights: eqx.AbstractVar[Weights]

    @abc.abstractmethod
    def pose(self, frame: Frame) -> tuple[Frame, Scalar]:
        """Center the frame and turn it; and how well the turn is defined.

        Parameters
        ----------
        frame : (n_atoms, dim), nm

        Returns
        -------
        posed : (n_atoms, dim), nm
        gap : scalar
            From 0, not at all, to 1.
        """

    def __call__(self, frame: Frame) -> Frame:
        """Center the frame and turn it."""
        return self.pose(frame)[0]

    def gap(self, frame: Frame) -> Scalar:
        """How well the turn is defined."""
        return self.pose(frame)[1]


class Superposition(AbstractAlignment):
    """Every frame superposed on one reference structure."""

    weights: Weights
    reference: Frame

    def __init__(self, weights: Weights, reference: Frame) -> None:
        self.weights, self.reference = weights, reference

    def pose(self, frame: Frame) -> tuple[Frame, Scalar]:
        """Center the frame and superpose it on the reference."""
        return superpose(frame, self.reference, self.weights)


class PrincipalAxes(AbstractAlignment):
    """Every frame along its own principal axes; signs by the nearer of the proper flips."""

    weights: Weights
    reference: Frame

    def __init__(self, weights: Weights, reference: Frame) -> None:
        self.weights, self.reference = weights, reference

    def pose(self, frame: Frame) -> tuple[Frame, Scalar]:
        """Center the frame and lay it along its own principal axes."""
        centered = center(frame, self.weights)
        rotation, gap = principal(centered, self.weights, self.reference)
        return rotate(centered, rotation), gap


class Unaligned(AbstractAlignment):
    """Centered, not turned."""

    weights: Weights

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def pose(self, frame: Frame) -> tuple[Frame, Scalar]:
        """Center the frame; nothing is turned, so nothing is ill defined."""
        return center(frame, self.weights), jnp.ones((), frame.dtype)


ALIGNMENTS = {"superposition": Superposition, "principal": PrincipalAxes, "none": Unaligned}


def alignment_name(alignment: AbstractAlignment) -> str:
    """Name of an alignment, as `fit_alignment` takes it."""
    return next(name for name, kind in ALIGNMENTS.items() if kind is type(alignment))


def fit_alignment(name: str, coordinates: Coordinates, weights: Float[np.ndarray, " n_atoms"]) -> AbstractAlignment:
    """Alignment of the given name, its reference learned from the data.

    Parameters
    ----------
    name : {"superposition", "principal", "none"}
    coordinates : (n_frames, n_atoms, dim), float32, nm
    weights : (n_atoms,)
        Masses, or ones for the geometric center.

    Returns
    -------
    AbstractAlignment

    Raises
    ------
    ValueError
        For an unknown name, and for atoms that all lie on one point or (in space) on one line, where
        no orientation is defined.
    """
    of_atoms = jnp.asarray(weights, jnp.float32)
    if name == "none":
        return Unaligned(of_atoms)
    if name not in ("superposition", "principal"):
        raise ValueError(f"alignment={name!r} is not known; expected 'superposition', 'principal' or 'none'")
    _check_extent(coordinates, weights)
    start = _posed(Unaligned(of_atoms), coordinates[0])
    coordinates = picked(coordinates, slice(None, None, max(1, len(coordinates) // _OF_MEAN)))
    if name == "principal":
        first = _laid(start, of_atoms)
        return PrincipalAxes(of_atoms, _iterated_mean(PrincipalAxes, of_atoms, first, coordinates))
    return Superposition(of_atoms, _laid(_iterated_mean(Superposition, of_atoms, start, coordinates), of_atoms))


def _laid(frame: Frame, weights: Weights) -> Frame:
    """The frame along its own principal axes, whose signs may be any."""
    return _posed(PrincipalAxes(weights, jnp.asarray(np.zeros(frame.shape, np.float32))), frame)


def _posed(alignment: AbstractAlignment, frame: Frame | Float[np.ndarray, "n_atoms dim"]) -> Frame:
    """One frame, by what poses many: with numba nothing has to be compiled for it."""
    one = np.array(frame, np.float32)[None]
    pose(alignment, one)
    return jnp.asarray(one[0])


def pose(alignment: AbstractAlignment, coordinates: Coordinates) -> float:
    """Pose every frame, in place.

    Parameters
    ----------
    alignment : AbstractAlignment
    coordinates : (n_frames, n_atoms, dim), float32, writable, nm

    Returns
    -------
    float
        Smallest spectral gap over the frames: near 0, some frame's orientation is not defined. 1 for no frames.
    """
    is_usual = coordinates.dtype == np.float32 and coordinates.flags.carray
    pose_part = _compiled_pose(alignment, coordinates.shape[1:]) if is_usual else None
    smallest = 1.0
    if pose_part is None:
        for rows, (posed, gaps) in in_chunks(alignment.pose, coordinates):
            coordinates[rows] = posed
            # Of frames that hold what is not a number there is none.
            smallest = min(smallest, float(np.fmin.reduce(gaps, initial=1.0)))
        return smallest
    for gap in ahead(pose_part, (coordinates[rows] for rows in _parts(coordinates))):
        smallest = min(smallest, gap)
        forget(coordinates)
    return smallest


def _compiled_pose(alignment: AbstractAlignment, shape: tuple[int, ...]) -> Callable[[Coordinates], float] | None:
    """What poses frames of this shape in place; None where compiled code, which checks nothing, must not do it."""
    given = vars(alignment)
    shapes = {"weights": shape[:1], "reference": shape}
    is_known = type(alignment) in ALIGNMENTS.values() and len(shape) == 2 and shape[0] > 0 and shape[1] in (2, 3)
    if not is_known or any(np.shape(x) != shapes[name] or x.dtype != np.float32 for name, x in given.items()):
        return None
    posing = _numba_posing()
    if posing is None:
        return None
    reference = np.asarray(given.get("reference", np.zeros(shape, np.float32)))
    return posing.poser(alignment_name(alignment), np.asarray(alignment.weights), reference)


def _parts(coordinates: Coordinates) -> list[slice]:
    """Rows that one thread poses at a time."""
    size = max(1, _BLOCK // max(1, coordinates[:1].size))
    return [slice(first, first + size) for first in range(0, len(coordinates), size)]


def _numba_posing() -> ModuleType | None:
    """The compiled pass, if numba is there.

    It serves a few frames as well as many: what compiles once on a machine is no slower to fetch than JAX is to compile
    for every number of atoms, and a frame's pose does not depend on how many come with it.
    """
    return by_numba("mdvae._posing")


@dataclasses.dataclass(frozen=True)
class Jumps:
    """Steps between consecutive frames that the pose made, not the molecule."""

    n: int
    largest: float


def count_jumps(alignment: AbstractAlignment, coordinates: Coordinates, lengths: Sequence[int]) -> Jumps:
    """Count the jumps that the pose puts between consecutive frames.

    A step from one posed frame to the next is compared with the smallest step that any rotation would
    give. It is a jump where it is longer by more than half the radius of gyration, about what a turn of
    30 degrees does.

    Parameters
    ----------
    alignment : AbstractAlignment
        The one that posed the frames; its weights measure the steps.
    coordinates : (n_frames, n_atoms, dim), float32, nm, posed
    lengths : sequence of int
        Frames of each trajectory; a step never crosses a border.

    Returns
    -------
    Jumps
        Their number, and the largest posed step among them in nm (0 where there is none).
    """
    count, largest = 0, 0.0
    for frames, steps in _jumps(alignment, coordinates, lengths):
        count += len(frames)
        largest = max(largest, float(np.max(steps, initial=0.0)))
    return Jumps(count, largest)


def find_jumps(
    alignment: AbstractAlignment, coordinates: Coordinates, lengths: Sequence[int]
) -> Int[np.ndarray, " n_jumps"]:
    """Find the jumps that `count_jumps` counts.

    Parameters
    ----------
    alignment, coordinates, lengths
        As for `count_jumps`.

    Returns
    -------
    (n_jumps,)
        Index into `coordinates` of the frame before each, ascending.
    """
    found = [frames for frames, _ in _jumps(alignment, coordinates, lengths)]
    return np.concatenate([np.zeros(0, np.int64), *found])


def _jumps(
    alignment: AbstractAlignment, coordinates: Coordinates, lengths: Sequence[int]
) -> Iterator[tuple[Int[np.ndarray, " n_found"], Float[np.ndarray, " n_found"]]]:
    """Frames before jumps, and the posed steps that follow them, chunk by chunk."""
    first = 0
    for length in lengths:
        frames = coordinates[first : first + length]
        # A step is no shorter for being compared with a smaller one: only the long ones need more.
        suspects = _suspects(alignment.weights, frames) if length > 1 else np.zeros(0, np.int64)
        size = max(1, _BLOCK // max(1, frames[:1].size))
        for some in (suspects[i : i + size] for i in range(0, len(suspects), size)):
            pairs = picked(frames, some), picked(frames, some + 1)
            posed, intrinsic, radius = _steps(alignment.weights, *pairs)
            jumped = posed - intrinsic > _JUMP * radius
            yield first + some[jumped], posed[jumped]
        first += length


def _suspects(weights: Weights, frames: Coordinates) -> Int[np.ndarray, " n_suspects"]:
    """Frames before a step that is long enough for a jump, whatever the best rotation makes of it."""
    of_entries = np.repeat(np.asarray(weights), frames.shape[2])
    found, block = [], max(1, _BLOCK // frames[0].size)
    for first in range(0, len(frames) - 1, block):
        some = frames[first : first + block + 1].reshape(-1, len(of_entries))
        step = np.square(some[1:] - some[:-1]) @ of_entries
        size = np.square(some[:-1]) @ of_entries
        found.append(first + np.flatnonzero(step >= (_ROUNDED * _JUMP) ** 2 * size))
        forget(frames)
    return np.concatenate(found)


def _check_extent(coordinates: Coordinates, weights: np.ndarray) -> None:
    """Refuse data without any orientation: one point in every frame, or in space one line."""
    n_frames = int(np.clip(_OF_EXTENT // coordinates[0].size, 100, 1000))
    some = picked(coordinates, slice(None, None, max(1, len(coordinates) // n_frames))).astype(np.float64)
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    some -= (shares @ some)[:, None]
    moments = np.linalg.eigvalsh((shares[:, None] * some).transpose(0, 2, 1) @ some)
    largest, second = moments[:, -1].max(), moments[:, -2].max()
    scale = max(np.abs(coordinates[0]).max() ** 2, 1e-12)
    if largest <= (_DEGENERATE**2) * scale:
        raise ValueError("all atoms lie on one point in every frame; check the selection and the file")
    if coordinates.shape[2] == 3 and second <= (_DEGENERATE**2) * largest:
        raise ValueError(
            "all atoms lie on one line in every frame, so no orientation is defined; "
            "select more atoms, or use alignment='none'"
        )


def _iterated_mean(
    kind: Callable[[Weights, Frame], AbstractAlignment], weights: Weights, start: Frame, coordinates: Coordinates
) -> Frame:
    """Mean of the frames posed on their own mean, iterated until it stands still."""
    mean = np.asarray(start, np.float64)
    for _ in range(_ITERATIONS):
        alignment = kind(weights, jnp.asarray(mean, jnp.float32))
        update = _sum_of_posed(alignment, coordinates) / len(coordinates)
        moved, mean = np.linalg.norm(update - mean), update
        if moved <= _SETTLED * np.linalg.norm(mean):
            break
    return jnp.asarray(mean, jnp.float32)


def _sum_of_posed(alignment: AbstractAlignment, coordinates: Coordinates) -> Float[np.ndarray, "n_atoms dim"]:
    pose_part = _compiled_pose(alignment, coordinates.shape[1:])
    if pose_part is None:
        sums = (posed.sum(axis=0, dtype=np.float64) for _, posed in in_chunks(alignment, coordinates))
    else:

        def of_part(rows: slice) -> np.ndarray:
            some = np.array(coordinates[rows], np.float32, order="C")
            pose_part(some)
            return some.sum(axis=0, dtype=np.float64)

        sums = ahead(of_part, _parts(coordinates))
    return sum(sums, np.zeros(coordinates.shape[1:]))


def _steps(
    weights: Weights, before: Coordinates, after: Coordinates
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Posed steps, smallest steps under any rotation, and sizes of posed frames: weighted root mean squares, in nm.

    The smallest step needs no rotation, only how much the frames overlap after the best one.
    """
    shares = np.asarray(weights, np.float64) / float(np.sum(weights))
    before, after = before.astype(np.float64), after.astype(np.float64)
    posed, size, other = (np.sum(x**2, axis=2) @ shares for x in (after - before, before, after))
    best = size + other - 2 * _overlap((shares[:, None] * before).transpose(0, 2, 1) @ after)
    return np.sqrt(posed), np.sqrt(np.maximum(best, 0)), np.sqrt(size)


def _overlap(covariance: Float[np.ndarray, "n dim dim"]) -> Float[np.ndarray, " n"]:
    """Largest trace that a proper rotation can give: the sum of singular values, the last with the determinant's sign.

    In space the singular values are the roots of eigenvalues in closed form (doi:10.1145/355578.366316): exact to
    1e-7 of the largest, and where frames lie nearly on a line to 1e-4.
    """
    if covariance.shape[1] == 2:
        (xx, xy), (yx, yy) = covariance.transpose(1, 2, 0)
        return np.hypot(xx + yy, xy - yx)
    squared = covariance.transpose(0, 2, 1) @ covariance
    mean = np.trace(squared, axis1=1, axis2=2) / 3
    shifted = squared - mean[:, None, None] * np.eye(3)
    spread = np.sqrt(np.sum(shifted**2, axis=(1, 2)) / 6)
    scaled = shifted / np.where(spread > 0, spread, 1.0)[:, None, None]
    third = np.arccos(np.clip(_determinants(scaled) / 2, -1, 1)) / 3
    first, last = (mean + 2 * spread * np.cos(third + turn) for turn in (0.0, 2 * np.pi / 3))
    values = np.sqrt(np.maximum([first, 3 * mean - first - last, last], 0))
    return values[0] + values[1] + np.copysign(values[2], _determinants(covariance))


def _determinants(matrices: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, " n"]:
    return np.einsum("ni,ni->n", matrices[:, 0], np.cross(matrices[:, 1], matrices[:, 2]))
