"""Where held-out and generated structures lie among the training frames: what is copied, missed, or unlike the data."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mdvae.alignment import Unaligned, fit_alignment, pose
from mdvae.latent.encoding import encode_posed
from mdvae.model import Model
from mdvae.vae import evenly

# Each set has a size of its own.
Coordinates = Float[np.ndarray, "_ n_atoms dim"]

# Structures of each kind whose neighbors are looked for.
_MOST = 5000
# A structure is a copy if it is nearer to a training frame than this share of what these are from one another; or than
# what files round off, nm, which in a small molecule is more, but no more than a larger share.
_COPY, _ROUNDED, _COPY_AT_MOST = 0.01, 0.001, 0.1
# Neighbors in time are near twins: training frames within this share of all are left out, to either side.
_NEAR_IN_TIME = 0.05
# So many frames in common are no accident.
_NO_CHANCE = 5
_COVERED, _USUAL = 0.95, 0.99
_SHARES = ("copied", "seen", "mirrored", "coverage", "out_of_distribution")
# A mirror image so much nearer is no chance.
_NEARER = 0.5
# Distances at a time.
_BLOCK = 2**22


@dataclasses.dataclass(frozen=True, eq=False)
class LatentSpace:
    """Latent points, and distances between structures, posed, in `unit`.

    Parameters
    ----------
    unit : str
        "nm" or "reduced".
    held_out : (n_held_out, latent_dim)
        Of evenly spaced frames of the source.
    training : (n_training, latent_dim)
        Of frames that the model keeps, evenly spaced in their weights.
    nearest_generated : (n_generated,)
        RMSD from each generated structure to the nearest training frame. A model that only encodes has none; shares of
        them, and of what is near them, are then NaN.
    nearest_held_out : (n_frames,)
        The same of held-out frames.
    nearest_training : (n_kept,)
        The same of training frames, to those far from them in time.
    copied, seen : float
        Share of generated structures, and of held-out frames, that are training frames, to rounding. A model keeps but
        some of its training frames; the share of held-out frames is scaled to all of them.
    mirrored : float
        Share of generated structures whose mirror image is less than half as far from the training frames.
    coverage : float
        Share of held-out frames with a generated structure as near as 95 % of them have a training frame.
    out_of_distribution : float
        Share of held-out frames further from all training frames than 99 % of these are from one another.
    """

    unit: str
    held_out: Float[np.ndarray, "n_held_out latent_dim"]
    training: Float[np.ndarray, "n_training latent_dim"]
    nearest_generated: Float[np.ndarray, " n_generated"]
    nearest_held_out: Float[np.ndarray, " n_frames"]
    nearest_training: Float[np.ndarray, " n_kept"]
    copied: float
    seen: float
    mirrored: float
    coverage: float
    out_of_distribution: float

    def to_dict(self) -> dict[str, Any]:
        """Shares and medians, of what there is."""
        names = ("nearest_generated",) * bool(len(self.nearest_generated)) + ("nearest_held_out", "nearest_training")
        plain = {f"{name}_median": float(np.median(getattr(self, name))) for name in names}
        return plain | {name: getattr(self, name) for name in _SHARES if not np.isnan(getattr(self, name))}


def look_around(model: Model, generated: Coordinates | None, held_out: Coordinates) -> LatentSpace:
    """Find where generated and held-out structures lie among the training frames.

    Parameters
    ----------
    model : Model
        Trained.
    generated, held_out : (n_frames, n_atoms, dim), posed, nm or reduced units
        Of more than 5000 evenly spaced ones. No generated ones of a model that only encodes.

    Returns
    -------
    LatentSpace
    """
    assert model.data is not None
    training = model.data.frames
    held_out = held_out[evenly(len(held_out), most=_MOST)]
    shown = evenly(len(training), model.data.weights, _MOST)
    of_held_out_z, of_training_z = encode_posed(model, held_out), encode_posed(model, training[shown])
    if isinstance(model.alignment, Unaligned) and not model.representation.keeps_pose:
        # How a frame lies is nothing to a model that does not look at it.
        common = fit_alignment("superposition", training, np.asarray(model.alignment.weights))
        training, held_out = (np.array(frames, np.float32) for frames in (training, held_out))
        for frames in (training, held_out):
            pose(common, frames)
    some = evenly(len(training), most=_MOST)
    window = int(_NEAR_IN_TIME * len(training))
    of_held_out = nearest(held_out, training)
    of_training = nearest(training[some], training, leave_out=(some, window))
    usual = float(np.median(of_training))
    near = max(_COPY * usual, min(_ROUNDED, _COPY_AT_MOST * usual))
    return LatentSpace(
        unit=model.system.unit,
        held_out=of_held_out_z,
        training=of_training_z,
        nearest_held_out=of_held_out,
        nearest_training=of_training,
        seen=_share_seen(of_held_out < near, len(training) / model.data.n_frames),
        out_of_distribution=float(np.mean(of_held_out > np.quantile(of_training, _USUAL))),
        **_about_generated(model, generated, held_out, near),
    )


def _about_generated(model: Model, generated: Coordinates | None, held_out: Coordinates, near: float) -> dict[str, Any]:
    """What is said of generated structures, by its name."""
    if generated is None:
        nothing = dict.fromkeys(("copied", "mirrored", "coverage"), float("nan"))
        return {"nearest_generated": np.zeros(0)} | nothing
    assert model.data is not None
    training, generated = model.data.frames, generated[evenly(len(generated), most=_MOST)]
    found = nearest(generated, training)
    # As many of either: with more structures around, the nearest one is nearer.
    n_even = min(len(generated), len(training))
    radius = float(np.quantile(nearest(held_out, training[evenly(len(training), most=n_even)]), _COVERED))
    return {
        "nearest_generated": found,
        "copied": float(np.mean(found < near)),
        "mirrored": float(np.mean(nearest(_mirrored(model, generated), training) < _NEARER * found)),
        "coverage": float(np.mean(nearest(held_out, generated[evenly(len(generated), most=n_even)]) <= radius)),
    }


def _share_seen(found: Bool[np.ndarray, " n_frames"], kept: float) -> float:
    """Share of frames that training saw, where the model keeps this share of those.

    A few may be the same by chance: runs that start from one structure.
    """
    return min(1.0, float(np.mean(found)) / kept) if np.sum(found) >= _NO_CHANCE else float(np.mean(found))


def _mirrored(model: Model, frames: Coordinates) -> Coordinates:
    """Mirror images, in the pose that the model gives them."""
    images = np.array(frames, np.float32)
    images[..., 0] *= -1
    pose(model.alignment, images)
    return images


def nearest(
    frames: Float[np.ndarray, "n_frames n_atoms dim"],
    others: Coordinates,
    leave_out: tuple[Int[np.ndarray, " n_frames"], int] | None = None,
) -> Float[np.ndarray, " n_frames"]:
    """RMSD of each frame from the nearest of some others, as they stand.

    Parameters
    ----------
    frames : (n_frames, n_atoms, dim)
    others : (n_others, n_atoms, dim)
    leave_out : (n_frames,) and int, optional
        Of each frame the place among the others around which so many on either side are left out.

    Returns
    -------
    (n_frames,)
    """
    middle, found = others.mean(axis=0, dtype=np.float64).astype(np.float32), np.empty(len(frames), np.int64)
    flat, table = ((x - middle).reshape(len(x), -1) for x in (frames, others))
    squares, size = (table**2).sum(axis=1), max(1, _BLOCK // len(others))
    for first in range(0, len(frames), size):
        rows = slice(first, first + size)
        apart = squares - 2 * flat[rows] @ table.T
        if leave_out is not None:
            places, window = leave_out
            apart[np.abs(places[rows, None] - np.arange(len(others))) <= window] = np.inf
        found[rows] = apart.argmin(axis=1)
    # The difference of large sums says which is nearest, but not well enough how near.
    return np.sqrt(((flat - table[found]) ** 2).sum(axis=1, dtype=np.float64) / frames.shape[1])
