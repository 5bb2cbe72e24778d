"""The local geometry that the training data allow, and whether a frame keeps to it.

No force field and no table of radii: bonds, and all other stiff distances near them, must stay within the
range that the data show; no other pair of atoms may come closer than pairs do in the data.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.spatial import KDTree

from mdvae._types import Frame, Scalar
from mdvae.geometry import safe_norm

Coordinates = Float[np.ndarray, "n_frames n_atoms dim"]
Pairs = Int[np.ndarray, "_ 2"]

# Pairs up to this many bonds apart may be stiff: bonds, angles, and torsions that do not turn.
_NEAR = 3
# A distance that varies by less than this share of its mean is part of the rigid frame of the molecule.
_STIFF = 0.1
# Hard particles never come closer than they may: the closest approach that the data show is the limit. Soft ones, which
# soft bonds give away, now and then do, and a search for compact structures would go right there: for them the limit is
# what two of three training frames keep, for contacts and for the most compressed bond alike.
_USUAL = 1 / 3
# Contacts that could become overlaps, for the differentiable strain: seen within this multiple of the limit.
_WATCHED = 2.0
# Atoms times frames that the pass over contacts may look at.
_CONTACT_BUDGET = 2_000_000
# Rounding of float32 must not make a training frame break its own bounds.
_TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True, eq=False)
class LocalGeometry:
    """Bounds on near pairs and on contacts, in nm (or reduced units).

    Parameters
    ----------
    pairs : (n_pairs, 2)
        Bonded pairs, and stiff pairs up to three bonds apart.
    shortest, longest : (n_pairs,)
        Range of their distances in the training data.
    contact : float
        Smallest distance at which any other pair may be.
    watched : (n_watched, 2)
        Other pairs that were seen near that distance.
    """

    pairs: Pairs
    shortest: Float[np.ndarray, " n_pairs"]
    longest: Float[np.ndarray, " n_pairs"]
    contact: float
    watched: Int[np.ndarray, "n_watched 2"]

    def to_dict(self) -> dict[str, Any]:
        """Arrays and numbers by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "LocalGeometry":
        """Inverse of `to_dict`."""
        return cls(
            pairs=data["pairs"],
            shortest=data["shortest"],
            longest=data["longest"],
            contact=float(data["contact"]),
            watched=data["watched"],
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Validity:
    """What was found in each of a set of frames.

    Parameters
    ----------
    n_broken : (n_frames,)
        Bonded and stiff pairs outside the range of the training data.
    closest : (n_frames,)
        Distance of the closest other pair, or the limit if none is closer; nm.
    contact : float
        That limit, in nm.
    """

    n_broken: Int[np.ndarray, " n_frames"]
    closest: Float[np.ndarray, " n_frames"]
    contact: float

    @property
    def valid(self) -> Bool[np.ndarray, " n_frames"]:
        """Every bond within range and no overlap."""
        return (self.n_broken == 0) & ~self.overlapping

    @property
    def overlapping(self) -> Bool[np.ndarray, " n_frames"]:
        """Some contact is too close."""
        return self.closest < self.contact * (1 - _TOLERANCE)


def fit_local_geometry(coordinates: Coordinates, bonds: Pairs) -> LocalGeometry:
    """Learn the bounds from training frames.

    Parameters
    ----------
    coordinates : (n_frames, n_atoms, dim), nm
    bonds : (n_bonds, 2)
        Bonded pairs. They and every pair up to three bonds apart that proves stiff are bounded by their range;
        all other pairs can be contacts, and come no closer than the closest in up to 2000 of the frames. Where bonds
        are soft, so that the data may have seen them collapse, the limits are stricter: two of three frames keep them.

    Returns
    -------
    LocalGeometry
    """
    bonds = np.sort(np.asarray(bonds, np.int64).reshape(-1, 2), axis=1)
    near = _near_pairs(bonds, coordinates.shape[1])
    shortest, longest, mean, spread = _ranges(coordinates, near)
    bonded = np.isin(_codes(near, coordinates.shape[1]), _codes(bonds, coordinates.shape[1]))
    keep = bonded | (spread < _STIFF)
    some = _sample(coordinates)
    soft = bonded & (spread >= _STIFF)
    # A few of them are links between pieces or molecules; only where they are the rule are the particles soft.
    soft &= soft.sum() > bonded.sum() / 2
    shortest[soft] = np.maximum(shortest[soft], _usual_compression(some, near[soft], mean[soft]) * mean[soft])
    closest = np.array([_closest_contact(frame, near[keep]) for frame in some])
    finite = closest[np.isfinite(closest)]
    contact = float(np.quantile(finite, _USUAL if soft.any() else 0.0)) if len(finite) else 0.0
    watched = _watched_pairs(some[:: max(1, len(some) // 200)], near[keep], _WATCHED * contact)
    return LocalGeometry(near[keep], shortest[keep], longest[keep], contact, watched)


def check(geometry: LocalGeometry, coordinates: Coordinates) -> Validity:
    """Judge frames by the bounds.

    Parameters
    ----------
    geometry : LocalGeometry
    coordinates : (n_frames, n_atoms, dim), nm

    Returns
    -------
    Validity
        A frame with a coordinate that is not finite has every pair broken.
    """
    broken = np.zeros(len(coordinates), np.int64)
    closest = np.full(len(coordinates), geometry.contact)
    for i, frame in enumerate(coordinates):
        if not np.isfinite(frame).all():
            broken[i], closest[i] = max(1, len(geometry.pairs)), 0.0
            continue
        distances = _distances(frame[None], geometry.pairs)[0]
        below = distances < geometry.shortest * (1 - _TOLERANCE)
        broken[i] = np.sum(below | (distances > geometry.longest * (1 + _TOLERANCE)))
        closest[i] = min(geometry.contact, _closest_contact(frame, geometry.pairs, within=geometry.contact))
    return Validity(broken, closest, geometry.contact)


def strain(geometry: LocalGeometry, frame: Frame, margin: float = 0.01) -> Scalar:
    """How far a frame is outside the bounds: zero inside, smooth, for use in a search.

    Parameters
    ----------
    geometry : LocalGeometry
    frame : (n_atoms, dim), nm
    margin : float
        How far inside of the bounds the frame should stay, as a share of a pair's range and of the contact limit.

    Returns
    -------
    Scalar
        Sum of squared violations, each as a share of its bound in units of a tenth.
    """
    violation = jnp.zeros((), frame.dtype)
    if len(geometry.pairs):
        near = _pair_distances(frame, geometry.pairs)
        shortest = jnp.asarray(geometry.shortest, frame.dtype)
        longest = jnp.asarray(geometry.longest, frame.dtype)
        room = margin * (longest - shortest)
        violation += _squared_excess(shortest + room - near, shortest)
        violation += _squared_excess(near - longest + room, longest)
    if len(geometry.watched):
        limit = jnp.full(len(geometry.watched), geometry.contact * (1 + margin), frame.dtype)
        violation += _squared_excess(limit - _pair_distances(frame, geometry.watched), limit)
    return violation


def _squared_excess(excess, bound) -> Scalar:
    return jnp.sum((jnp.maximum(excess, 0.0) / (0.1 * jnp.maximum(bound, 1e-6))) ** 2)


def _pair_distances(frame: Frame, pairs: Pairs):
    return safe_norm(frame[pairs[:, 0]] - frame[pairs[:, 1]])


def _distances(coordinates: Coordinates, pairs: Pairs) -> Float[np.ndarray, "n_frames n_pairs"]:
    return np.linalg.norm(coordinates[:, pairs[:, 0]] - coordinates[:, pairs[:, 1]], axis=-1)


def _near_pairs(bonds: Pairs, n_atoms: int) -> Pairs:
    """Pairs up to three bonds apart."""
    if not len(bonds):
        return bonds
    graph = coo_array((np.ones(len(bonds)), (bonds[:, 0], bonds[:, 1])), shape=(n_atoms, n_atoms)).tocsr()
    # Powers of the adjacency matrix stay sparse, where a table of all path lengths would not.
    step = (graph + graph.T).astype(bool).astype(np.int32)
    reached = step
    for _ in range(_NEAR - 1):
        reached = ((reached @ step) + reached > 0).astype(np.int32)
    i, j = reached.tocoo().coords
    return np.stack([i, j], axis=1)[i < j].astype(np.int64)


def _usual_compression(frames: Coordinates, pairs: Pairs, mean: np.ndarray) -> float:
    """Smallest ratio of a distance to its mean that two of three frames do not go below; 0 without pairs."""
    if not len(pairs):
        return 0.0
    return float(np.quantile((_distances(frames, pairs) / mean).min(axis=1), _USUAL))


def _ranges(coordinates: Coordinates, pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shortest, longest and mean distance of each pair, and the relative spread, in one streaming pass."""
    n = len(pairs)
    low, high, total, squares = np.full(n, np.inf), np.zeros(n), np.zeros(n), np.zeros(n)
    if not n:
        return low, high, total, squares
    for rows in _row_blocks(len(coordinates), n):
        d = _distances(coordinates[rows], pairs).astype(np.float64)
        low, high = np.minimum(low, d.min(axis=0)), np.maximum(high, d.max(axis=0))
        total, squares = total + d.sum(axis=0), squares + (d**2).sum(axis=0)
    mean = total / len(coordinates)
    deviation = np.sqrt(np.maximum(squares / len(coordinates) - mean**2, 0.0))
    return low, high, mean, deviation / np.maximum(mean, 1e-12)


def _row_blocks(n_rows: int, width: int) -> Iterator[slice]:
    size = max(1, 2**21 // max(width, 1))
    return (slice(first, first + size) for first in range(0, n_rows, size))


def _sample(coordinates: Coordinates) -> Float[np.ndarray, "n_sampled n_atoms dim"]:
    n = int(np.clip(_CONTACT_BUDGET // coordinates.shape[1], 100, 2000))
    return coordinates[np.unique(np.linspace(0, len(coordinates) - 1, n).astype(int))]


def _closest_contact(frame: np.ndarray, excluded: Pairs, within: float | None = None) -> float:
    """Distance of the closest pair that is not excluded; infinity if there is none (within the radius)."""
    tree = KDTree(frame)
    diameter = float(np.linalg.norm(np.ptp(frame, axis=0)))
    radius = within if within is not None else max(diameter / max(len(frame), 2), 1e-6)
    while True:
        pairs = _contacts(tree, radius, excluded)
        if len(pairs):
            return float(_distances(frame[None], pairs)[0].min())
        if within is not None or radius > diameter:
            return np.inf
        radius *= 1.6


def _contacts(tree: KDTree, radius: float, excluded: Pairs) -> Pairs:
    pairs = tree.query_pairs(radius, output_type="ndarray").astype(np.int64)
    return pairs[~np.isin(_codes(pairs, tree.n), _codes(excluded, tree.n))]


def _watched_pairs(frames: Coordinates, excluded: Pairs, radius: float) -> Pairs:
    n_atoms = frames.shape[1]
    codes = [_codes(_contacts(KDTree(frame), radius, excluded), n_atoms) for frame in frames]
    seen = np.unique(np.concatenate(codes))
    return np.stack([seen // n_atoms, seen % n_atoms], axis=1)


def _codes(pairs: Pairs, n_atoms: int) -> Int[np.ndarray, " n_pairs"]:
    """One whole number a pair, for set operations."""
    return pairs[:, 0] * n_atoms + pairs[:, 1]
