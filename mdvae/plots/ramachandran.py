"""Ramachandran maps, held-out beside generated."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mdvae.plots.comparison import boxed, degree_axis, written
from mdvae.plots.style import COLORMAP, LABEL_SIZE, Axes, Figure, add_colorbar, figure_of, label_axes, new_figure

if TYPE_CHECKING:
    from mdvae.evaluation.ensemble import Ramachandran
else:  # a figure should not import what makes the record
    Ramachandran = Any

__all__ = ["ramachandran", "ramachandran_map"]

_SAMPLES = {"held_out": "Held-out", "generated": "Generated", "training": "Training"}
_PHI, _PSI = r"$\phi$ (degrees)", r"$\psi$ (degrees)"


def ramachandran(record: Ramachandran) -> Figure:
    """Draw the Ramachandran map of held-out beside the one of generated structures, on the same scale of color.

    The title says how far they are apart (Jensen-Shannon divergence) and, as the floor, how far training is from
    held-out structures.

    Parameters
    ----------
    record
        Of an ensemble's `maps`.

    Returns
    -------
    Figure
        Two panels.
    """
    figure = new_figure(columns=2, height_mm=86)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    ramachandran_map(record, "held_out", axes[0], colorbar=False)
    ramachandran_map(record, "generated", axes[1])
    axes[1].set_ylabel("")
    distance = f"{written(record.divergence.value)} bits (floor {written(record.divergence.floor)})"
    figure.suptitle(f"{record.name}, Jensen–Shannon divergence {distance}", fontsize=LABEL_SIZE)
    return figure


def ramachandran_map(
    record: Ramachandran, sample: str = "generated", ax: Axes | None = None, *, colorbar: bool = True
) -> Figure:
    """Draw one Ramachandran map: share of the structures in each cell, on a logarithmic scale, white where empty.

    Parameters
    ----------
    record
        Of an ensemble's `maps`.
    sample
        "held_out", "generated" or "training"; all have the same scale of color.
    ax
        Draw here instead of in a new figure.
    colorbar
        Whether the scale is drawn, on the right.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`.
    """
    from matplotlib.ticker import LogLocator

    if sample not in _SAMPLES:
        raise ValueError(f"sample={sample!r} is not known; expected one of {', '.join(map(repr, _SAMPLES))}")
    if ax is None:
        ax = new_figure(columns=1, height_mm=78).subplots()
    shares = 100 * getattr(record, sample).T
    filled = np.ma.masked_where(~(shares > 0), shares)
    mesh = ax.pcolormesh(record.edges, record.edges, filled, cmap=f"{COLORMAP}_r", norm=_scale(record), rasterized=True)
    for which in "xy":
        degree_axis(ax, which)
    ax.set_aspect("equal")
    label_axes(ax, x=_PHI, y=_PSI, title=_SAMPLES[sample])
    boxed(ax)
    if colorbar:
        add_colorbar(ax, mesh, "Structures per cell (%)", format="%g", ticks=LogLocator(subs=(1, 2, 5)))
    return figure_of(ax)


def _scale(record: Ramachandran) -> Any:
    """Make a logarithmic scale of color for all samples of a record."""
    from matplotlib.colors import LogNorm

    cells = 100 * np.concatenate([getattr(record, sample).ravel() for sample in _SAMPLES])
    filled = cells[cells > 0]
    low, high = (filled.min(), filled.max()) if len(filled) else (0.1, 1.0)
    # A single share, as of one structure, is at the dark end.
    return LogNorm(min(low, high / 10), high)
