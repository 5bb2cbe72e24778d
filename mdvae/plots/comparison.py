"""Held-out, training and generated structures in one picture: how the three look, and distributions of quantities."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np
from jaxtyping import Float

from mdvae._types import Whole
from mdvae.plots.style import (
    BLUE,
    GRAY,
    LEGEND_SIZE,
    LINE_WIDTH,
    VERMILION,
    Axes,
    Figure,
    capitalized,
    figure_of,
    label_axes,
    legend_above,
    new_figure,
    quantity,
    unit_name,
)

if TYPE_CHECKING:
    from mdvae.evaluation.ensemble import Marginal
else:  # a figure should not import what makes the record
    Marginal = Any

__all__ = [
    "GENERATED",
    "HELD_OUT",
    "PER_BIN",
    "TRAINING",
    "boxed",
    "corner_text",
    "degree_axis",
    "draw_band",
    "draw_filled",
    "draw_outline",
    "marginal",
    "marginals",
    "with_unit",
    "written",
]

HELD_OUT, TRAINING, GENERATED = BLUE, GRAY, VERMILION
PER_BIN = "Structures per bin (%)"

_HEADROOM = 1.38  # free space above the highest bar, for two lines in the corner
_TRAINING_WIDTH = 0.9  # points
_STEPS = [1, 2, 5, 10]  # between ticks, times a power of ten
_PANEL_LETTERS, _FIGURE_LETTERS = 22, 32  # that fit along a panel of a quarter of the page, and along a whole figure
_LINE_MM = 3.6


def marginal(record: Marginal, ax: Axes | None = None) -> Figure:
    """Draw how one quantity is distributed in held-out, training and generated structures.

    The held-out distribution is filled, with a darker band where it lies in 95 % of the bootstrap samples of its
    blocks of time: two samples of the same simulation differ by about that much. The numbers in the corner are the
    Wasserstein-1 distance of the generated from the held-out structures, and below it the one of the training
    structures: what a perfect generator would have.

    Parameters
    ----------
    record
        Of an ensemble's `marginals`.
    ax
        Draw here instead of in a new figure.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`.
    """
    if ax is None:
        ax = new_figure(columns=1, height_mm=58).subplots()
    _draw(ax, record)
    label_axes(ax, x=quantity(_title(record, _FIGURE_LETTERS), record.unit), y=PER_BIN)
    legend_above(ax, n_columns=2)
    return figure_of(ax)


def marginals(records: Sequence[Marginal], n_columns: Whole = 4) -> Figure:
    """Draw the distributions of several quantities, each as `marginal` does, with one legend.

    Parameters
    ----------
    records
        An ensemble's `marginals`, or some of them.
    n_columns
        Panels beside each other.

    Returns
    -------
    Figure
        A panel for each record.
    """
    if not len(records) or n_columns < 1:
        raise ValueError(f"expected at least one marginal and one column, got {len(records)} and {n_columns}")
    n_columns = int(min(n_columns, len(records)))
    n_rows = -(-len(records) // n_columns)
    titles = [_title(record, _PANEL_LETTERS) for record in records]
    row_mm = 44 + _LINE_MM * max(title.count("\n") for title in titles)
    figure = new_figure(columns=2 if n_columns > 2 else 1, height_mm=12 + row_mm * n_rows)
    axes = np.ravel(figure.subplots(n_rows, n_columns, squeeze=False))
    for ax, record, title in zip(axes, records, titles, strict=False):
        _draw(ax, record)
        label_axes(ax, x=_axis_label(record, _PANEL_LETTERS), title=title)
    for ax in axes[len(records) :]:
        ax.remove()
    for ax in axes[: len(records) : n_columns]:
        label_axes(ax, y=PER_BIN)
    handles, labels = axes[0].get_legend_handles_labels()
    columns = 4 if n_columns > 2 else 2
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize=LEGEND_SIZE)
    return figure


def _draw(ax: Axes, record: Marginal) -> None:
    from matplotlib.ticker import MaxNLocator

    edges = record.edges
    draw_filled(ax, record.held_out, edges, HELD_OUT, "held-out")
    draw_band(ax, record.low, record.high, edges, HELD_OUT, "held-out, 95 %")
    draw_outline(ax, record.training, edges, TRAINING, "training", _TRAINING_WIDTH)
    draw_outline(ax, record.generated, edges, GENERATED, "generated")
    highest = np.nanmax([record.held_out, record.high, record.training, record.generated], initial=0.0)
    ax.set_ylim(0, _HEADROOM * 100 * highest or 1.0)
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))
    ax.set_xlim(edges[0], edges[-1])
    if record.family == "torsion" and record.unit == "degrees":
        degree_axis(ax, "x")
    distance = record.wasserstein
    lines = (f"$W_1$ {with_unit(distance.value, record.unit)}", f"floor {with_unit(distance.floor, record.unit)}")
    corner_text(ax, "\n".join(lines))


def _title(record: Marginal, longest: int) -> str:
    """Name family and item, on several lines where they are too long for one."""
    family, name = capitalized(record.family), _without_repeats(record.name)
    if len(family) + len(name) < longest:
        return f"{family} {name}".rstrip()
    lines = [family]
    for part in name.replace("–", "–\n").splitlines():
        joins = len(lines) > 1 and len(lines[-1] + part) <= longest
        lines = [*lines[:-1], lines[-1] + part] if joins else [*lines, part]
    return "\n".join(lines)


def _axis_label(record: Marginal, longest: int) -> str:
    label = quantity(capitalized(record.family), record.unit)
    return label if len(label) <= longest + 2 else label.replace(" (", "\n(")


def _without_repeats(name: str) -> str:
    """Say each residue once: GLU3-N–GLU3-CA–GLU3-C becomes GLU3-N–CA–C."""
    parts, last = [], ""
    for atom in name.split("–"):
        residue, dash, rest = atom.rpartition("-")
        parts.append(rest if dash and residue == last else atom)
        last = residue
    return "–".join(parts)


def draw_filled(
    ax: Axes, shares: Float[np.ndarray, " n_bins"], edges: Float[np.ndarray, " n_edges"], color: str, label: str
) -> None:
    """Draw a histogram of shares, in percent, as a light area."""
    from matplotlib.colors import to_rgba

    face, line = to_rgba(color, 0.28), to_rgba(color, 0.9)
    ax.stairs(100 * shares, edges, fill=True, facecolor=face, edgecolor=line, lw=0.6, label=label)


def draw_band(
    ax: Axes,
    low: Float[np.ndarray, " n_bins"],
    high: Float[np.ndarray, " n_bins"],
    edges: Float[np.ndarray, " n_edges"],
    color: str,
    label: str,
) -> None:
    """Shade what lies between two histograms of shares, in percent."""
    ax.stairs(100 * high, edges, baseline=100 * low, fill=True, color=color, alpha=0.38, lw=0, label=label)


def draw_outline(
    ax: Axes,
    shares: Float[np.ndarray, " n_bins"],
    edges: Float[np.ndarray, " n_edges"],
    color: str,
    label: str,
    width: float = LINE_WIDTH,
) -> None:
    """Draw a histogram of shares, in percent, as a line."""
    # Without a baseline the line does not drop to zero where a whole turn ends.
    ax.stairs(100 * shares, edges, baseline=None, color=color, lw=width, label=label)


def corner_text(ax: Axes, text: str) -> None:
    """Write small in the upper right corner, for which the caller leaves room."""
    ax.text(0.985, 0.98, text, transform=ax.transAxes, ha="right", va="top", fontsize=LEGEND_SIZE, linespacing=1.25)


def degree_axis(ax: Axes, which: str) -> None:
    """Let an axis ("x" or "y") show a whole turn, from -180 to 180 degrees, with a tick every 90."""
    ax.set(**{f"{which}lim": (-180, 180), f"{which}ticks": np.arange(-180, 181, 90)})


def boxed(ax: Axes) -> None:
    """Show all four sides of a map, which has no open end."""
    for spine in ax.spines.values():
        spine.set_visible(True)


def written(value: SupportsFloat) -> str:
    """Write a number to two digits, with a power of ten where it is tiny; a dash where there is none."""
    value = float(value)
    if not np.isfinite(value):
        return "–"
    if 0 < abs(value) < 1e-3:
        digits, power = f"{value:.1e}".split("e")
        return rf"${digits}\times10^{{{int(power)}}}$"
    text = f"{value:#.2g}" if 0 < abs(value) < 99.5 else f"{value:.0f}"
    return text.removesuffix(".").replace("-", "−")


def with_unit(value: SupportsFloat, unit: str) -> str:
    """Write a number and its unit, in short: reduced units have no symbol, degrees have one."""
    symbol = {"reduced": "", "degrees": "°"}.get(unit, f" {unit_name(unit)}")
    return f"{written(value)}{symbol}"
