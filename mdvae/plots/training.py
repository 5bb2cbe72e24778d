"""How a training went: loss and KL divergence, epoch by epoch."""

import numpy as np

from mdvae.history import History
from mdvae.plots.style import (
    BLACK,
    BLUE,
    DASHES,
    GRAY,
    LINE_WIDTH,
    TICK_SIZE,
    VERMILION,
    Axes,
    Figure,
    figure_of,
    label_axes,
    legend_above,
    new_figure,
    robust_limits,
)

__all__ = ["loss_curves"]

# Prefix of the term, label, color.
_SOURCES = (("", "training", BLUE), ("validation_", "validation", VERMILION))
_LOSS_LABEL = "Loss\n(nats per frame)"
_KL_LABEL = "KL\n(nats per frame)"


def loss_curves(history: History, ax: Axes | None = None) -> Figure:
    """Draw training and validation loss and the KL divergence over epochs, and mark the best epoch.

    The first epochs may lie far above the rest; they are then cut off, with a note of how many.

    Parameters
    ----------
    history
        Its `terms` hold "loss" and "kl", and "validation_loss" and "validation_kl" where there was a
        validation, each of shape (n_epochs,) in nats a frame; `best_epoch` counts from 0; the axis counts from 1.
    ax
        Draw the loss here, and the KL divergence on a second scale on the right. By default a new figure has
        a panel for each.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`.
    """
    if ax is not None:
        return _on_one_panel(history, ax)
    figure = new_figure(columns=1, height_mm=80)
    loss_ax, kl_ax = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    for panel, term in ((loss_ax, "loss"), (kl_ax, "kl")):
        _draw_term(panel, history, term)
        _mark_best(panel, history)
    label_axes(loss_ax, y=_LOSS_LABEL)
    label_axes(kl_ax, x="Epoch", y=_KL_LABEL)
    figure.align_ylabels([loss_ax, kl_ax])
    legend_above(loss_ax)
    return figure


def _on_one_panel(history: History, ax: Axes) -> Figure:
    _draw_term(ax, history, "loss")
    _mark_best(ax, history)
    label_axes(ax, x="Epoch", y=_LOSS_LABEL)
    kl_ax = ax.twinx()
    _draw_term(kl_ax, history, "kl", style=":", prefix="KL ")
    low, high = kl_ax.get_ylim()
    kl_ax.set_ylim(low, high + 0.2 * (high - low))  # room for the note of what is cut
    label_axes(kl_ax, y=_KL_LABEL, right_spine=True)
    legend_above(ax, handles=[*ax.get_lines(), *kl_ax.get_lines()])
    return figure_of(ax)


def _draw_term(ax: Axes, history: History, term: str, style: str = "-", prefix: str = "") -> None:
    from matplotlib.ticker import MaxNLocator

    drawn = []
    for source, label, color in _SOURCES:
        values = history.terms.get(source + term)
        if values is not None:
            dot = "o" if len(values) == 1 else ""  # a line of one epoch would not be seen
            ax.plot(
                np.arange(1, len(values) + 1),
                values,
                color=color,
                lw=LINE_WIDTH,
                ls=style,
                marker=dot,
                ms=3,
                label=prefix + label,
            )
            drawn.append(values)
    if not drawn:
        raise ValueError(f"the history has no '{term}'; it has {', '.join(sorted(history.terms))}")
    low, high = robust_limits(np.concatenate(drawn))
    ax.set_ylim(low, high)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _note_what_is_cut(ax, max(int(np.sum(values > high)) for values in drawn))


def _note_what_is_cut(ax: Axes, n_cut: int) -> None:
    if n_cut:
        ax.text(
            0.99,
            0.97,
            f"{n_cut} epoch{'s' if n_cut > 1 else ''} above",
            transform=ax.transAxes,
            ha="right",
            va="top",
            fontsize=TICK_SIZE,
            color=GRAY,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )


def _mark_best(ax: Axes, history: History) -> None:
    epoch = history.best_epoch + 1
    label = f"best epoch ({epoch})"
    ax.axvline(epoch, color=BLACK, lw=0.8, ls=DASHES, zorder=1, label=label)
