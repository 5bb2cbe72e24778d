"""What is an example: a frame that is its own target, or the frame some time later; and how much it weighs."""

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

Rows = Int[np.ndarray, "_"]

# With fewer examples a model learns them by heart.
_FEW = 100


def lagged_pairs(lengths: Sequence[int], held_out: Rows, lagtime: int) -> tuple[Rows, Rows]:
    """First frames of the pairs that lie so many frames apart, for training and for validation.

    Both frames of a pair lie in one stretch: frames of one trajectory that are all trained on, or all held out. A pair
    that crossed the border of a held-out block would show training what is to judge it.

    Parameters
    ----------
    lengths : sequence of int
        Frames of each trajectory.
    held_out : (n_held_out,)
        Ascending indices into the frames of all trajectories in order: see `split_blocks`.
    lagtime : int
        In frames; 0 gives every frame.

    Returns
    -------
    training, validation : ascending indices

    Raises
    ------
    ValueError
        If either side has no pair.
    """
    n_frames = sum(lengths)
    side = np.zeros(n_frames, int)
    side[held_out] = 1
    # Frames of one stretch have one number.
    begins = np.zeros(n_frames, bool)
    begins[1:] = side[1:] != side[:-1]
    borders = np.cumsum([0, *lengths])
    begins[borders[borders < n_frames]] = True
    stretch = np.cumsum(begins)
    first = np.flatnonzero(stretch[: n_frames - lagtime] == stretch[lagtime:]) if lagtime < n_frames else np.arange(0)
    training, validation = first[side[first] == 0], first[side[first] == 1]
    for name, found, which in (("training", training, 0), ("held-out", validation, 1)):
        if not len(found):
            longest = max(np.bincount(stretch[side == which]), default=0)
            raise ValueError(
                f"lagtime={lagtime} leaves no pair of {name} frames, of which at most {longest} follow one another; "
                "take a smaller lagtime, longer trajectories or another validation_fraction"
            )
    return training, validation


def effective_size(weights: Float[np.ndarray, " n"]) -> float:
    """How many examples of equal weight would scatter as much (L. Kish, Survey Sampling, 1965): (Σw)² / Σw².

    Parameters
    ----------
    weights : (n,)
        Not all zero.
    """
    scaled = weights / weights.max()
    return float(scaled.sum() ** 2 / (scaled**2).sum())


def check_weights(weights: Float[np.ndarray, " n"], training: Rows, validation: Rows) -> dict[str, float]:
    """Refuse weights that leave one side with nothing, and warn where few frames weigh for all.

    Parameters
    ----------
    weights : (n,)
        At least 0.
    training, validation : indices of examples

    Returns
    -------
    dict
        Effective numbers of training and of held-out examples, for the record.

    Raises
    ------
    ValueError
    """
    found = {}
    for name, rows, purpose in (("training", training, "learn from"), ("validation", validation, "judge by")):
        if not np.any(weights[rows]):
            raise ValueError(
                f"all weights of the {name} frames are 0, which leaves nothing to {purpose}; give other weights or "
                "another validation_fraction"
            )
        found[name] = effective_size(weights[rows])
    if found["training"] < _FEW <= len(training):
        warnings.warn(
            f"the weights of {len(training)} training frames leave {found['training']:.0f} effective ones: the model "
            "will know little beyond them",
            stacklevel=4,
        )
    return found
