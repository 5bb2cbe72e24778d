"""Training and validation frames, by blocks of time.

Neighbors in time are nearly the same structure. Shuffled frames would put one of each pair on either side,
and the validation loss would measure memory, not understanding.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

# Fewer blocks leave parts of a long run unseen by validation, more make more borders with near twins.
_BLOCKS = 5


def split_blocks(
    lengths: Sequence[int], validation_fraction: float = 0.1
) -> tuple[Int[np.ndarray, " n_training"], Int[np.ndarray, " n_validation"]]:
    """Indices of training and validation frames.

    All frames, in order, are cut at the borders between trajectories and then into periods of equal length,
    about five in all; the last share of every period is held out, so that of a short one it may be none.

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
    held_out = np.zeros(n_frames, bool)
    done = n_held = 0
    for length in lengths:
        n_periods = max(1, round(_BLOCKS * length / n_frames)) if n_frames else 1
        for period in np.array_split(np.arange(length), min(n_periods, max(length, 1))):
            done += len(period)
            # Rounded in all, not by period: the shares of many short periods would each round to nothing.
            n_last = round(validation_fraction * done) - n_held
            held_out[done - n_last : done] = True
            n_held += n_last
    if not held_out.any() or held_out.all():
        raise ValueError(
            f"{n_frames} frames are too few to hold out a share of {validation_fraction} for validation; "
            "read more frames"
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
