"""Where the data are thin, and what was generated there."""

from typing import Any

import numpy as np

from mdvae.latent import Undersampled
from mdvae.plots.style import (
    BLUE,
    COLORMAP,
    VERMILION,
    Axes,
    Figure,
    add_colorbar,
    capitalized,
    figure_of,
    label_axes,
    legend_above,
    new_figure,
    quantity,
)

__all__ = ["thin_regions"]

_THIN = "#D9D9D9"


def thin_regions(record: Undersampled, unit: str = "", ax: Axes | None = None) -> Figure:
    """Draw how many frames of the data each cell holds, thin cells in gray, and where what was generated there lies.

    Parameters
    ----------
    record
        From `undersampled`: cells of two latent coordinates, or bins of one number.
    unit
        Of the observable, where there is one.
    ax
        Draw here instead of in a new figure.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`.
    """
    if ax is None:
        ax = new_figure(columns=1, height_mm=66).subplots()
    if len(record.axes) == 1:
        _draw_bins(ax, record, unit)
    else:
        _draw_cells(ax, record)
    legend_above(ax, n_columns=2, handles=_handles())
    return figure_of(ax)


def _draw_bins(ax: Axes, record: Undersampled, unit: str) -> None:
    edges = record.edges[0]
    ax.stairs(record.counts, edges, fill=True, color=BLUE, alpha=0.35, lw=0)
    for low, high, thin in zip(edges[:-1], edges[1:], record.thin, strict=True):
        if thin:
            ax.axvspan(low, high, color=_THIN, lw=0, zorder=0)
    place = {"transform": ax.get_xaxis_transform(), "clip_on": False}
    ax.plot(record.values[:, 0], np.full(len(record.values), 0.97), "|", color=VERMILION, ms=6, mew=0.6, **place)
    ax.set_ylim(bottom=0)
    label_axes(ax, x=quantity(_name(record.axes[0]), unit), y="Frames per bin")


def _draw_cells(ax: Axes, record: Undersampled) -> None:
    from matplotlib.colors import ListedColormap, LogNorm

    x, y = record.edges
    ax.pcolormesh(x, y, np.where(record.thin, 1.0, np.nan).T, cmap=ListedColormap([_THIN]), rasterized=True)
    shown = np.where((record.counts > 0) & ~record.thin, record.counts, np.nan).astype(float)
    most = max(float(record.counts.max()), 2.0)
    options: dict[str, Any] = {"cmap": COLORMAP, "norm": LogNorm(1, most), "rasterized": True}
    mesh = ax.pcolormesh(x, y, shown.T, **options)
    ax.plot(*record.values.T, "o", color=VERMILION, ms=2, mew=0)
    add_colorbar(ax, mesh, "Frames per cell")
    label_axes(ax, x=_name(record.axes[0]), y=_name(record.axes[1]))


def _handles() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Patch(color=_THIN, label="thin in the data"),
        Line2D([], [], ls="", marker="o", ms=3, mew=0, color=VERMILION, label="generated there"),
    ]


def _name(axis: str) -> str:
    if axis[0] == "z" and axis[1:].isdigit():
        return f"Latent coordinate $z_{{{axis[1:]}}}$"
    return capitalized(axis.replace("_", " "))
