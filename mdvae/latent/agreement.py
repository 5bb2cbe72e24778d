"""Whether what left the package still says what the model says, on frames of the training data."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mdvae.latent.collective import collective_variable, in_double
from mdvae.model import Model

Evaluate = Callable[[np.ndarray], tuple[Any, Any]]
# As many frames as a check looks at, evenly spaced over those that the model keeps.
_N_FRAMES = 8
# How far they are moved, in units of the largest coordinate.
_FAR = 3.0


def moved_frames(
    model: Model, n_frames: int = _N_FRAMES, *, seed: int = 0
) -> Float[np.ndarray, "n_frames n_atoms dim"]:
    """Training frames as an engine would meet them: turned at random, and somewhere else.

    Parameters
    ----------
    model : Model
    n_frames : int
        How many, evenly spaced among those that the model keeps; fewer if these are.
    seed : int

    Returns
    -------
    (n_frames, n_atoms, dim), float64, nm

    Raises
    ------
    ValueError
        For a model that keeps no training frames, such as one that was not trained.
    """
    if model.data is None:
        raise ValueError("the model keeps no training frames, so nothing can be checked on them: train it first")
    kept, rng = model.data.frames, np.random.default_rng(seed)
    frames = kept[np.unique(np.linspace(0, len(kept) - 1, n_frames).astype(int))].astype(np.float64)
    n, dim = len(frames), frames.shape[2]
    turns = _turns_in_plane(rng, n) if dim == 2 else Rotation.random(n, rng=rng).as_matrix()
    shifts = _FAR * np.abs(frames).max() * rng.normal(size=(n, 1, dim))
    return np.einsum("fad,fed->fae", frames, turns) + shifts


def _turns_in_plane(rng: np.random.Generator, n: int) -> Float[np.ndarray, "n 2 2"]:
    angle = rng.uniform(0, 2 * np.pi, n)
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cosine, -sine], axis=1), np.stack([sine, cosine], axis=1)], axis=1)


def check_agreement(
    model: Model, evaluate: Evaluate, *, name: str, tolerance: float, reference: Evaluate | None = None
) -> tuple[float, float]:
    """Compare what an engine makes of a model with the model itself, on training frames that were moved.

    Parameters
    ----------
    model : Model
    evaluate : callable
        Of a frame (n_atoms, dim), float64, in nm; returns z (latent_dim,) and its derivatives (latent_dim, n_atoms,
        dim) as the engine has them.
    name : str
        What is checked, for the message.
    tolerance : float
        Largest difference, of the values in units of the largest one or of 1, whichever is more, and of the derivatives
        in units of the largest derivative.
    reference : callable, optional
        Of the same frame, what `evaluate` should give, if that is not z and its derivatives.

    Returns
    -------
    value, derivative : float
        The largest differences.

    Raises
    ------
    ValueError
        If they disagree, and for a model that keeps no training frames.
    """
    frames = moved_frames(model)
    reference = in_double(collective_variable(model)) if reference is None else reference
    ours, theirs = [reference(frame) for frame in frames], [evaluate(frame) for frame in frames]
    value, derivative = (
        _difference(_stacked(theirs, part), _stacked(ours, part), least) for part, least in ((0, 1.0), (1, 0.0))
    )
    # Not a number is no agreement.
    if not (value <= tolerance and derivative <= tolerance):
        raise ValueError(
            f"{name} does not say what the model says: on {len(frames)} training frames the values differ by up to "
            f"{value:.2g} and the derivatives by up to {derivative:.2g} of the largest; expected at most {tolerance:g}"
        )
    return value, derivative


def _stacked(rows: list[tuple[Any, Any]], part: int) -> np.ndarray:
    return np.stack([np.asarray(row[part]) for row in rows])


def _difference(theirs: np.ndarray, ours: np.ndarray, least: float) -> float:
    if theirs.shape != ours.shape:
        return np.inf
    return float(np.abs(theirs - ours).max() / max(least, np.abs(ours).max()))
