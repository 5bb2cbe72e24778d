"""How much each atom fluctuates; and names of atoms for axes."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np

from mdvae.plots.comparison import GENERATED, HELD_OUT, TRAINING
from mdvae.plots.style import LINE_WIDTH, Axes, Figure, figure_of, label_axes, legend_above, new_figure, quantity

if TYPE_CHECKING:
    from mdvae.evaluation.ensemble import Fluctuations
else:  # a figure should not import what makes the record
    Fluctuations = Any

__all__ = ["name_atoms", "rmsf"]

_MOST_DOTS = 60  # of more atoms only the line is drawn
_LETTER_MM, _GAP_MM, _LINE_MM = 1.4, 2.5, 4.0  # what names of ticks take on the page


def rmsf(record: Fluctuations, ax: Axes | None = None) -> Figure:
    """Draw the root mean square fluctuation of each atom in held-out, training and generated structures.

    Parameters
    ----------
    record
        An ensemble's `fluctuations`. Its correlations with the held-out fluctuations are written in the legend.
    ax
        Draw here instead of in a new figure.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`.
    """
    if not len(record.names):
        raise ValueError("there are no atoms to draw")
    if ax is None:
        ax = new_figure(columns=1, height_mm=58).subplots()
    curves = (
        (record.held_out, HELD_OUT, "held-out", 2.2 * LINE_WIDTH),
        (record.training, TRAINING, f"training{_correlation(record.correlation_floor)}", LINE_WIDTH),
        (record.generated, GENERATED, f"generated{_correlation(record.correlation)}", LINE_WIDTH),
    )
    n_atoms = len(record.names)
    for values, color, label, width in curves:
        wide = color == HELD_OUT  # it lies below the others, as a band
        dot = "o" if n_atoms == 1 or (n_atoms <= _MOST_DOTS and not wide) else ""
        alpha = 0.45 if wide else 1.0
        ax.plot(values, color=color, lw=width, alpha=alpha, marker=dot, ms=2 * width, mew=0, label=label)
    ax.set_ylim(bottom=0)
    label_axes(ax, x=name_atoms(ax, record.names), y=quantity("RMSF", record.unit))
    legend_above(ax)
    return figure_of(ax)


def _correlation(value: SupportsFloat) -> str:
    return f"\n$r$ = {float(value):.2f}".replace("-", "−") if np.isfinite(float(value)) else ""


def name_atoms(ax: Axes, names: Sequence[str], which: str = "x", room_mm: float | int = 68) -> str:
    """Give an axis that counts atoms from 0 a few ticks with names, and say what they name.

    Parameters
    ----------
    ax
        The axes.
    names
        Of the atoms, such as "GLU3-CA", or of residues.
    which
        "x" or "y".
    room_mm
        About how long the axis is on the page, in mm: as many ticks as can be read.

    Returns
    -------
    str
        "Residue", whose first atom the ticks are at; "Atom" where the names tell of one residue or of none.
    """
    at, shown = _first_atoms(names)
    of_residues = len(at) > 1 and any("-" in name for name in names)
    if not of_residues:
        at, shown = np.arange(len(names)), [name.rpartition("-")[2] for name in names]
    needed_mm = _LETTER_MM * max(map(len, shown)) + _GAP_MM if which == "x" else _LINE_MM
    step = -(-len(at) // max(1, int(room_mm / needed_mm)))
    ax.set(**{f"{which}ticks": at[::step], f"{which}ticklabels": shown[::step]})
    return "Residue" if of_residues else "Atom"


def _first_atoms(names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Find where each residue starts, and its name."""
    runs = [(name, len(list(run))) for name, run in groupby(name.partition("-")[0] for name in names)]
    return np.cumsum([0, *(length for _, length in runs[:-1])]), [name for name, _ in runs]
