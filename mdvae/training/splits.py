"""Training and validation frames, by whole trajectories or by blocks of time.

Neighbors in time are nearly the same structure. Shuffled frames would put one of each pair on either side,
and the validation loss would measure memory, not understanding.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

# Of the rule, for the record in a model: which frames were held out can then be told from their number.
SPLIT = 2
# Whole trajectories are held out where their share is within this factor of what was asked for.
_NEARLY = 2.0
# Fewer blocks leave parts of a long run unseen by validation, more make more borders with near twins; and of fewer
# trajectories each may be the only one of its kind.
_BLOCKS = 5


def split_blocks(
    lengths: Sequence[int], validation_fraction: float = 0.1
) -> tuple[Int[np.ndarray, " n_training"], Int[np.ndarray, " n_validation"]]:
    """Indices of training and validation frames.

    Of five trajectories or more whole ones are held out, evenly spaced among them, if these come to between half and
    twice the share that was asked for. Otherwise all frames, in order, are cut at the borders between trajectories and
    then into periods of equal length, about five in all; the last share of every period is held out, so that of a
    short one it may be none.

    Parameters
    ----------
    lengths : sequence of int
        Frames of each trajectory.
    validation_fraction : float
        Share of frames held out, above 0 and below 1.

    Returns
    -------
    training, validation : ascending indices into the frames of all trajectories in order

    Raises
    ------
    ValueError
        For a fraction outside its range, or too few frames to hold any out.
    """
    if not 0 < validation_fraction < 1:
        raise ValueError(f"validation_fraction must lie between 0 and 1, got {validation_fraction}")
    n_frames = sum(lengths)
    held_out = np.repeat(_whole(lengths, validation_fraction), lengths)
    nearly = validation_fraction / _NEARLY <= held_out.sum() / max(n_frames, 1) <= validation_fraction * _NEARLY
    if len(lengths) < _BLOCKS or held_out.all() or not nearly:
        held_out = _by_time(lengths, validation_fraction)
    return _sides(held_out, validation_fraction)


def split_by_time(
    lengths: Sequence[int], validation_fraction: float
) -> tuple[Int[np.ndarray, " n_training"], Int[np.ndarray, " n_validation"]]:
    """The same by blocks of time, however many trajectories there are.

    Parameters
    ----------
    lengths, validation_fraction
        As of `split_blocks`.
    """
    return _sides(_by_time(lengths, validation_fraction), validation_fraction)


def _sides(
    held_out: Bool[np.ndarray, " n_frames"], validation_fraction: float
) -> tuple[Int[np.ndarray, " n_training"], Int[np.ndarray, " n_validation"]]:
    n_frames = len(held_out)
    if not held_out.any() or held_out.all():
        raise ValueError(
            f"{n_frames} frames are too few to hold out a share of {validation_fraction} for validation; "
            "read more frames"
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _whole(lengths: Sequence[int], fraction: float) -> Bool[np.ndarray, " n_trajectories"]:
    """Every trajectory that brings what is held out nearer to its share of what has passed."""
    chosen, done, n_held = np.zeros(len(lengths), bool), 0, 0
    for i, length in enumerate(lengths):
        done += length
        chosen[i] = length > 0 and fraction * done - n_held >= length / 2
        n_held += length * chosen[i]
    return chosen


def _by_time(lengths: Sequence[int], fraction: float) -> Bool[np.ndarray, " n_frames"]:
    """The last share of every period."""
    n_frames = sum(lengths)
    held_out = np.zeros(n_frames, bool)
    done = n_held = 0
    for length in lengths:
        n_periods = max(1, round(_BLOCKS * length / n_frames)) if n_frames else 1
        for period in np.array_split(np.arange(length), min(n_periods, max(length, 1))):
            done += len(period)
            # Rounded in all, not by period: the shares of many short periods would each round to nothing.
            n_last = round(fraction * done) - n_held
            held_out[done - n_last : done] = True
            n_held += n_last
    return held_out
