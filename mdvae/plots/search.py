"""The way of a search through latent space."""

import operator
from typing import SupportsFloat, SupportsIndex

import numpy as np
from jaxtyping import Float

from mdvae.plots.style import (
    BLACK,
    DASHES,
    GRAY,
    LINE_WIDTH,
    THIN_LINE_WIDTH,
    VERMILION,
    Axes,
    Figure,
    capitalized,
    figure_of,
    label_axes,
    legend_above,
    new_figure,
    quantity,
    robust_limits,
)

__all__ = ["search_path"]


def search_path(
    values: Float[np.ndarray, "n_starts n_steps"],
    best_training: SupportsFloat | None = None,
    ax: Axes | None = None,
    *,
    answer: SupportsIndex | None = None,
    observable: str = "radius of gyration",
    unit: str = "nm",
) -> Figure:
    """Draw an observable along the steps of an optimization, for all of its starts.

    Parameters
    ----------
    values
        The observable, shape (n_starts, n_steps), in `unit`; NaN where a start ended early.
    best_training
        The best value among the training frames, drawn as a horizontal line.
    ax
        Draw here instead of in a new figure.
    answer
        Index of the start that gave the answer, which is highlighted.
    observable
        Name of the observable.
    unit
        Its unit; empty for a pure number.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`.
    """
    n_starts, n_steps = values.shape
    answer = None if answer is None else operator.index(answer)
    best_training = None if best_training is None else float(best_training)
    if answer is not None and not 0 <= answer < n_starts:
        raise ValueError(f"answer must be one of the starts 0 to {n_starts - 1}, got {answer}")
    ax = new_figure(columns=1, height_mm=65).subplots() if ax is None else ax
    steps = np.arange(n_steps)
    alpha = float(np.clip(16 / n_starts, 0.3, 0.8))
    lines = ax.plot(steps, values.T, color=GRAY, lw=THIN_LINE_WIDTH, alpha=alpha)
    lines[0].set_label(f"{n_starts} starts" if n_starts > 1 else "search")
    if answer is not None:
        ax.plot(steps, values[answer], color=VERMILION, lw=LINE_WIDTH, zorder=4, label="answer")
    if best_training is not None:
        ax.axhline(best_training, color=BLACK, lw=0.8, ls=DASHES, zorder=3, label="best training frame")
    _limit(ax, values, best_training)
    label_axes(ax, x="Optimization step", y=quantity(capitalized(observable), unit))
    legend_above(ax)
    return figure_of(ax)


def _limit(ax: Axes, values: Float[np.ndarray, "n_starts n_steps"], best_training: float | None) -> None:
    low, high = robust_limits(np.ravel(values), tolerance=8.0)
    if best_training is not None:
        space = 0.05 * (high - low)
        low, high = min(low, best_training - space), max(high, best_training + space)
    ax.set_ylim(low, high)
