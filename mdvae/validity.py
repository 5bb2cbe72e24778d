"""Whether a frame keeps to the local geometry of the training data: the judge, who moves nothing."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from mdvae.local_geometry import LocalGeometry, Statistics, contacts, distances, signed_volumes

Coordinates = Float[np.ndarray, "n_frames n_atoms dim"]

# Rounding of float32 must not make a training frame break its own bounds.
_TOLERANCE = 1e-5
# Lengths at a time: a frame has thousands of them.
_BLOCK = 2**21


@dataclasses.dataclass(frozen=True, eq=False)
class Validity:
    """What was found in each of a set of frames.

    Parameters
    ----------
    n_broken : (n_frames,)
        Lengths of pairs up to three bonds apart that are outside of the range of the data and, where they are held,
        more than five spreads off as well.
    n_wrong : (n_frames,)
        Centers of whose signed volumes that holds: inverted, or no longer flat.
    n_twisted : (n_frames,)
        Flat torsions of whose signed volumes that holds: a peptide bond out of its plane.
    n_overlaps : (n_frames,)
        Pairs further apart along the bonds that are closer than atoms of their kinds come in the data.
    """

    n_broken: Int[np.ndarray, " n_frames"]
    n_wrong: Int[np.ndarray, " n_frames"]
    n_twisted: Int[np.ndarray, " n_frames"]
    n_overlaps: Int[np.ndarray, " n_frames"]

    @property
    def valid(self) -> Bool[np.ndarray, " n_frames"]:
        """Nothing found."""
        return (self.n_broken == 0) & (self.n_wrong == 0) & (self.n_twisted == 0) & (self.n_overlaps == 0)


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
    broken, wrong, twisted, overlaps = (np.zeros(n_frames, np.int64) for _ in range(4))

    def bounds(statistics: Statistics) -> Float[np.ndarray, "n 2"]:
        return statistics.allowed if n_spreads is None else statistics.within(n_spreads)

    size = max(1, _BLOCK // max(1, len(geometry.pairs)))
    for first in range(0, n_frames, size):
        rows = slice(first, first + size)
        block = np.where(finite[rows, None, None], coordinates[rows], 0.0).astype(np.float64)
        broken[rows] = _n_outside(distances(block, geometry.pairs), bounds(geometry.lengths))
        wrong[rows] = _n_outside(signed_volumes(block, geometry.centers), bounds(geometry.volumes))
        twisted[rows] = _n_outside(signed_volumes(block, geometry.torsions), bounds(geometry.twists))
        overlaps[rows] = [
            _n_overlaps(geometry, frame) if ok else 0 for frame, ok in zip(block, finite[rows], strict=True)
        ]
    broken[~finite] = max(1, len(geometry.pairs))
    wrong[~finite], twisted[~finite] = len(geometry.centers), len(geometry.torsions)
    return Validity(broken, wrong, twisted, overlaps)


def _n_outside(
    values: Float[np.ndarray, "n_frames n"], bounds: Float[np.ndarray, "n 2"]
) -> Int[np.ndarray, " n_frames"]:
    slack = _TOLERANCE * np.abs(bounds).max(axis=1, initial=0.0)
    return ((values < bounds[:, 0] - slack) | (values > bounds[:, 1] + slack)).sum(axis=1)


def _n_overlaps(geometry: LocalGeometry, frame: Float[np.ndarray, "n_atoms dim"]) -> int:
    reach = geometry.closest.max(initial=0.0)
    if not reach:
        return 0
    pairs = contacts(KDTree(frame), reach, geometry.codes)
    limits = geometry.closest[geometry.kinds[pairs[:, 0]], geometry.kinds[pairs[:, 1]]]
    return int(np.sum(distances(frame[None], pairs)[0] < limits * (1 - _TOLERANCE)))
