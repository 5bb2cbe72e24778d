"""How slow the latent coordinates are, beside TICA and PCA."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from mdvae.plots.comparison import written
from mdvae.plots.style import (
    BLACK,
    COLORMAP,
    DASHES,
    GRAY,
    LEGEND_SIZE,
    LINE_WIDTH,
    OKABE_ITO,
    TICK_SIZE,
    Axes,
    Figure,
    add_colorbar,
    figure_of,
    label_axes,
    legend_above,
    new_figure,
    quantity,
)

if TYPE_CHECKING:
    from mdvae.evaluation.kinetics import Kinetics
else:  # a figure should not import what makes the record
    Kinetics = Any

__all__ = ["autocorrelation", "implied_timescales", "vamp_scores"]

_MARKERS = "osD^v"  # of the methods: a second sign beside the color
_BEYOND_REACH = "#D9D9D9"
_DECADE = 10.0  # lags that span more are on a logarithmic axis


def implied_timescales(record: Kinetics, ax: Axes | None = None) -> Figure:
    """Draw the implied timescales of each method against the lag, with bands of 95 %, the slowest in bold.

    In the gray region a timescale is shorter than the lag: what decays there cannot be told.

    Parameters
    ----------
    record
        Its `timescales`, `low` and `high`, in `unit`; NaN where there is none.
    ax
        Draw here instead of in a new figure.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`.
    """
    lags = np.asarray(record.lags * record.frame_time, np.float64)
    if ax is None:
        ax = new_figure(columns=1, height_mm=62).subplots()
    bottom, top = _time_limits(lags, record.timescales, record.low, record.high)
    for method, name in enumerate(record.methods):
        color, marker = OKABE_ITO[method % len(OKABE_ITO)], _MARKERS[method % len(_MARKERS)]
        for rank, values in enumerate(record.timescales[method].T):
            low, high = record.low[method, :, rank], record.high[method, :, rank]
            band = {"color": color, "alpha": 0.18 if rank == 0 else 0.09, "lw": 0, "zorder": 1}
            ax.fill_between(lags, np.clip(low, bottom, top), np.clip(high, bottom, top), **band)
            style: dict[str, Any] = {"lw": LINE_WIDTH, "ms": 3.0} if rank == 0 else {"lw": 0.6, "ms": 1.8}
            label = name if rank == 0 else None
            ax.plot(lags, values, color=color, marker=marker, mew=0, label=label, **style)
    _lag_axis(ax, lags, record.unit)
    _shade_below_lag(ax, bottom)
    ax.set_yscale("log")
    ax.set_ylim(bottom, top)
    label_axes(ax, y=quantity("Implied timescale", record.unit))
    legend_above(ax, n_columns=4)
    return figure_of(ax)


def _time_limits(lags: Float[np.ndarray, " n_lags"], *times: Float[np.ndarray, "..."]) -> tuple[float, float]:
    """Choose limits that show all timescales and as much of their bands as is within a factor of three of them."""
    values, *bands = (x[np.isfinite(x) & (x > 0)] for x in times)
    shown = np.concatenate([values, lags[:1] if len(values) else lags])
    low, high = shown.min(), shown.max()
    ends = np.clip(np.concatenate([*bands, shown]), low / 3, 3 * high)
    # At least a decade: the numbers of less on a logarithmic axis are hard to read.
    room = max(1.3, float(np.sqrt(_DECADE * ends.min() / ends.max())))
    return float(ends.min() / room), float(ends.max() * room)


def _shade_below_lag(ax: Axes, bottom: float) -> None:
    left, right = ax.get_xlim()
    lag = np.linspace(max(left, 0.0), right, 200) if ax.get_xscale() == "linear" else np.geomspace(left, right, 200)
    label = "timescale < lag"
    # Over the bands, which say nothing there, and below the lines.
    ax.fill_between(lag, bottom, np.maximum(lag, bottom), color=_BEYOND_REACH, lw=0, zorder=1.5, label=label)
    ax.set_xlim(left, right)


def autocorrelation(record: Kinetics, ax: Axes | None = None) -> Figure:
    """Draw the autocorrelation of each latent coordinate against the lag: up to eight in colors of their own.

    Parameters
    ----------
    record
        Its `autocorrelation`, shape (n_lags, latent_dim), at its `lags`.
    ax
        Draw here instead of in a new figure.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`. The dashed line is at 1/e.
    """
    lags = np.asarray(record.lags * record.frame_time, np.float64)
    latent_dim = record.autocorrelation.shape[1]
    if ax is None:
        ax = new_figure(columns=1, height_mm=58).subplots()
    ax.axhline(0, color=GRAY, lw=0.6)
    ax.axhline(np.exp(-1), color=GRAY, lw=0.6, ls=DASHES)
    few = latent_dim <= len(OKABE_ITO)
    scale = None if few else _scale_of_coordinates(latent_dim)
    for dim, values in enumerate(record.autocorrelation.T):
        color = OKABE_ITO[dim] if scale is None else scale.to_rgba(dim + 1)
        ax.plot(lags, values, color=color, lw=LINE_WIDTH, marker="o", ms=2.5, mew=0, label=f"$z_{{{dim + 1}}}$")
    _lag_axis(ax, lags, record.unit)
    label_axes(ax, y="Autocorrelation" if latent_dim > 1 else "Autocorrelation of $z$")
    if scale is not None:
        add_colorbar(ax, scale, "Latent coordinate", integer=True)
    elif latent_dim > 1:
        legend_above(ax, n_columns=4)
    return figure_of(ax)


def _scale_of_coordinates(latent_dim: int) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(1, latent_dim), COLORMAP)


def _lag_axis(ax: Axes, lags: Float[np.ndarray, " n_lags"], unit: str) -> None:
    """Make x an axis of lags: logarithmic where they span more than a decade."""
    if lags[0] > 0 and lags[-1] > _DECADE * lags[0]:
        ax.set_xscale("log")
        ax.set_xlim(lags[0] / 1.15, lags[-1] * 1.15)
    else:
        space = 0.04 * (lags[-1] - lags[0]) or 0.5 * lags[0] or 1.0
        ax.set_xlim(lags[0] - space, lags[-1] + space)
    ax.tick_params(which="minor", labelsize=TICK_SIZE)
    label_axes(ax, x=quantity("Lag", unit))


def vamp_scores(record: Kinetics, ax: Axes | None = None) -> Figure:
    """Draw the VAMP-2 score of each method on frames that it was not fitted to, with its standard error.

    Parameters
    ----------
    record
        Its `scores` and `errors`, shape (n_methods,).
    ax
        Draw here instead of in a new figure.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`.
    """
    if ax is None:
        ax = new_figure(columns=1, height_mm=18 + 7 * len(record.methods)).subplots()
    for row, (score, error) in enumerate(zip(record.scores, record.errors, strict=True)):
        color, marker = OKABE_ITO[row % len(OKABE_ITO)], _MARKERS[row % len(_MARKERS)]
        ax.errorbar(score, row, xerr=error, color=color, marker=marker, ms=4.5, mew=0, lw=LINE_WIDTH)
        text = f"{score:.2f} ± {error:.2f}" if np.isfinite(error) else f"{score:.2f}" if np.isfinite(score) else "–"
        ax.text(1.02, row, text, transform=ax.get_yaxis_transform(), va="center", fontsize=LEGEND_SIZE, color=BLACK)
    ax.set_yticks(range(len(record.methods)), record.methods, fontsize=TICK_SIZE)
    ax.set_ylim(len(record.methods) - 0.5, -0.5)
    ax.grid(axis="x", lw=0.3, color=_BEYOND_REACH)
    ax.set_axisbelow(True)
    lag = f"{written(record.lagtime * record.frame_time)} {record.unit}"
    label_axes(ax, x=f"VAMP-2 score of unseen frames, lag {lag}")
    return figure_of(ax)
