"""Whether a frame keeps to the local geometry of the training data: the judge, who moves nothing."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from mdvae.local_geometry import LocalGeometry, Statistics, contacts, distances, signed_volumes

Coordinates = Float[np.ndarray, "n_frames n_atoms dim"]

# Rounding of float32 must not make a training frame break its own bounds.
_TOLERANCE = 1e-5
# Pairs one, two and three bonds apart.
_KINDS = 3
# A center that is so many spreads off flat has a handedness.
_ONE_SIDED = 5.0
# Lengths at a time: a frame has thousands of them.
_BLOCK = 2**21


@dataclasses.dataclass(frozen=True, eq=False)
class Validity:
    """What was found in each of a set of frames.

    Parameters
    ----------
    n_lengths : (n_frames, 3)
        Lengths of pairs one, two and three bonds apart that are outside of the range of the data and, where they are
        held, more than five spreads off as well: bonds, angles, torsions.
    n_wrong : (n_frames,)
        Centers of whose signed volumes that holds: inverted, or no longer flat.
    n_inverted : (n_frames,)
        Those among them whose handedness is the opposite of the data's.
    n_twisted : (n_frames,)
        Flat torsions of whose signed volumes that holds: a peptide bond out of its plane.
    n_overlaps : (n_frames,)
        Pairs further apart along the bonds that are closer than atoms of their kinds come in the data.
    """

    n_lengths: Int[np.ndarray, "n_frames 3"]
    n_wrong: Int[np.ndarray, " n_frames"]
    n_inverted: Int[np.ndarray, " n_frames"]
    n_twisted: Int[np.ndarray, " n_frames"]
    n_overlaps: Int[np.ndarray, " n_frames"]

    @property
    def n_broken(self) -> Int[np.ndarray, " n_frames"]:
        """Lengths of all three kinds."""
        return self.n_lengths.sum(axis=1)

    @property
    def n_faults(self) -> Int[np.ndarray, " n_frames"]:
        """Everything that was found."""
        return self.n_broken + self.n_wrong + self.n_twisted + self.n_overlaps

    @property
    def valid(self) -> Bool[np.ndarray, " n_frames"]:
        """Nothing found."""
        return self.n_faults == 0


def check(geometry: LocalGeometry, coordinates: Coordinates, *, n_spreads: float | None = None) -> Validity:
    """Judge frames by the bounds.

    Parameters
    ----------
    geometry : LocalGeometry
    coordinates : (n_frames, n_atoms, dim), nm
    n_spreads : float, optional
        Judge more strictly: what is held may be so many spreads off, in place of five and of all that the data show.

    Returns
    -------
    Validity
        A frame with a coordinate that is not finite has everything broken.
    """
    n_frames = len(coordinates)
    finite = np.asarray(np.isfinite(coordinates).all(axis=(1, 2)))
    lengths = np.zeros((n_frames, _KINDS), np.int64)
    wrong, inverted, twisted, overlaps = (np.zeros(n_frames, np.int64) for _ in range(4))
    kinds = np.eye(_KINDS, dtype=np.int64)[geometry.separation - 1]

    def bounds(statistics: Statistics) -> Float[np.ndarray, "n 2"]:
        return statistics.allowed if n_spreads is None else statistics.within(n_spreads)

    size = max(1, _BLOCK // max(1, len(geometry.pairs)))
    for first in range(0, n_frames, size):
        rows = slice(first, first + size)
        block = np.where(finite[rows, None, None], coordinates[rows], 0.0).astype(np.float64)
        lengths[rows] = _outside(distances(block, geometry.pairs), bounds(geometry.lengths)) @ kinds
        volumes = signed_volumes(block, geometry.centers)
        off = _outside(volumes, bounds(geometry.volumes))
        wrong[rows], inverted[rows] = off.sum(axis=1), (off & (volumes * _handedness(geometry) < 0)).sum(axis=1)
        twisted[rows] = _outside(signed_volumes(block, geometry.torsions), bounds(geometry.twists)).sum(axis=1)
        overlaps[rows] = [
            _n_overlaps(geometry, frame) if ok else 0 for frame, ok in zip(block, finite[rows], strict=True)
        ]
    lengths[~finite] = np.maximum(kinds.sum(axis=0), [1, 0, 0])
    wrong[~finite], twisted[~finite] = len(geometry.centers), len(geometry.torsions)
    return Validity(lengths, wrong, inverted, twisted, overlaps)


def _outside(
    values: Float[np.ndarray, "n_frames n"], bounds: Float[np.ndarray, "n 2"]
) -> Bool[np.ndarray, "n_frames n"]:
    slack = _TOLERANCE * np.abs(bounds).max(axis=1, initial=0.0)
    return (values < bounds[:, 0] - slack) | (values > bounds[:, 1] + slack)


def _handedness(geometry: LocalGeometry) -> Float[np.ndarray, " n_centers"]:
    """1 or -1 of centers that the data show on one side only, 0 of flat ones."""
    mean, spread = geometry.volumes.mean, geometry.volumes.spread
    return np.where(np.abs(mean) > _ONE_SIDED * spread, np.sign(mean), 0.0)


def _n_overlaps(geometry: LocalGeometry, frame: Float[np.ndarray, "n_atoms dim"]) -> int:
    reach = geometry.closest.max(initial=0.0)
    if not reach:
        return 0
    pairs = contacts(KDTree(frame), reach, geometry.codes)
    limits = geometry.closest[geometry.kinds[pairs[:, 0]], geometry.kinds[pairs[:, 1]]]
    return int(np.sum(distances(frame[None], pairs)[0] < limits * (1 - _TOLERANCE)))
