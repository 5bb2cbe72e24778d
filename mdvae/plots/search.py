"""The way of a search through latent space."""

import operator
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np
from jaxtyping import Bool, Float

from mdvae.plots.style import (
    BLACK,
    BLUE,
    DASHES,
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

_DOTS = (0, (2, 2))


def search_path(
    values: Float[np.ndarray, "n_starts n_steps"],
    best_training: SupportsFloat | None = None,
    ax: Axes | None = None,
    *,
    answer: SupportsIndex | None = None,
    valid: Bool[np.ndarray, " n_starts"] | None = None,
    observable: str = "radius of gyration",
    unit: str = "nm",
) -> Figure:
    """Draw an observable along the steps of an optimization, for all of its starts.

    Parameters
    ----------
    values
        The observable, shape (n_starts, n_steps), in `unit`; NaN where a start ended early.
    best_training
        The best value among the (valid) training frames, drawn as a horizontal line.
    ax
        Draw here instead of in a new figure.
    answer
        Index of the start that gave the answer, which is highlighted.
    valid
        Which starts ended in a valid structure, shape (n_starts,); the others are black and dotted. All, if left out.
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
    fine = np.ones(n_starts, bool) if valid is None else valid
    fine_name = "starts" if valid is None else "valid starts"
    # Dots alone are not seen where many thin lines cross, nor are gray ones: they need a dark color as well.
    for chosen, color, style, name in ((fine, BLUE, "-", fine_name), (~fine, BLACK, _DOTS, "invalid starts")):
        if chosen.any():
            lines = ax.plot(steps, values[chosen].T, color=color, lw=THIN_LINE_WIDTH, ls=style, alpha=alpha)
            lines[0].set_label(f"{chosen.sum()} {name}" if n_starts > 1 else "search")
    if answer is not None:
        ax.plot(steps, values[answer], color=VERMILION, lw=LINE_WIDTH, zorder=4, label="answer")
    if best_training is not None:
        ax.axhline(
            best_training,
            color=BLACK,
            lw=0.8,
            ls=DASHES,
            zorder=3,
            label="best training frame" if valid is None else "best valid training frame",
        )
    _limit(ax, values, best_training)
    label_axes(ax, x="Optimization step", y=quantity(capitalized(observable), unit))
    # Four entries stand two by two.
    legend_above(ax, n_columns=2 if len(ax.get_legend_handles_labels()[0]) == 4 else 3)
    legend: Any = ax.get_legend()
    for handle in legend.legend_handles:
        handle.set_alpha(1.0)
    return figure_of(ax)


def _limit(ax: Axes, values: Float[np.ndarray, "n_starts n_steps"], best_training: float | None) -> None:
    low, high = robust_limits(np.ravel(values), tolerance=8.0)
    if best_training is not None:
        space = 0.05 * (high - low)
        low, high = min(low, best_training - space), max(high, best_training + space)
    ax.set_ylim(low, high)
