"""How near frames come back after encoding and decoding."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from mdvae.plots.comparison import PER_BIN, draw_filled, draw_outline, with_unit
from mdvae.plots.fluctuations import name_atoms
from mdvae.plots.style import (
    BLUE,
    DASHES,
    LINE_WIDTH,
    OKABE_ITO,
    Axes,
    Figure,
    figure_of,
    label_axes,
    legend_above,
    new_figure,
    quantity,
    robust_limits,
)

if TYPE_CHECKING:
    from mdvae.evaluation.reconstruction import Reconstruction
else:  # a figure should not import what makes the record
    Reconstruction = Any

__all__ = ["common_edges", "errors_per_atom", "reconstruction_errors", "shares"]

_PCA = OKABE_ITO[3]  # a simpler method, neither generated nor training
_MOST_DOTS = 60  # of more atoms only the line is drawn


def reconstruction_errors(record: Reconstruction, ax: Axes | None = None) -> Figure:
    """Draw how the RMSDs of reconstructed frames are distributed, beside those of PCA of the same size.

    Parameters
    ----------
    record
        Its `rmsd` and `rmsd_pca`, shape (n_frames,), in `unit`.
    ax
        Draw here instead of in a new figure.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`. Dashed lines are medians, which the legend has in numbers.
    """
    model, pca = (_finite(values) for values in (record.rmsd, record.rmsd_pca))
    if ax is None:
        ax = new_figure(columns=1, height_mm=58).subplots()
    edges = common_edges(model, pca)
    for values, color, name, draw in (
        (model, BLUE, "reconstructed", draw_filled),
        (pca, _PCA, "PCA of the same size", draw_outline),
    ):
        median = float(np.median(values))
        draw(ax, shares(values, edges), edges, color, f"{name} (median {with_unit(median, record.unit)})")
        ax.axvline(median, color=color, lw=0.8, ls=DASHES)
    ax.set_xlim(edges[0], edges[-1])
    label_axes(ax, x=quantity("RMSD", record.unit), y=PER_BIN.replace("Structures", "Frames"))
    legend_above(ax, n_columns=1)
    return figure_of(ax)


def errors_per_atom(record: Reconstruction, names: Sequence[str] | None = None, ax: Axes | None = None) -> Figure:
    """Draw by how much each atom is off in reconstructed frames, root mean square over frames.

    Parameters
    ----------
    record
        Its `rmsd_per_atom`, shape (n_atoms,), in `unit`.
    names
        Of the atoms, such as "GLU3-CA"; by default they are counted from 0.
    ax
        Draw here instead of in a new figure.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`.
    """
    errors = record.rmsd_per_atom
    if names is not None and len(names) != len(errors):
        raise ValueError(f"expected a name for each of the {len(errors)} atoms, got {len(names)}")
    if ax is None:
        ax = new_figure(columns=1, height_mm=54).subplots()
    dot = "o" if len(errors) <= _MOST_DOTS else ""
    ax.plot(errors, color=BLUE, lw=LINE_WIDTH, marker=dot, ms=3, mew=0)
    ax.set_ylim(bottom=0)
    kind = "Atom index" if names is None else name_atoms(ax, names)
    label_axes(ax, x=kind, y=quantity("RMS error", record.unit))
    return figure_of(ax)


def _finite(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise ValueError(f"there is nothing to draw: of {len(values)} numbers none is finite")
    return finite


def common_edges(*samples: Float[np.ndarray, " _"]) -> Float[np.ndarray, " n_edges"]:
    """Choose bins for samples of something that is never negative: 20 to 60, by Freedman and Diaconis' rule.

    The farthest few are left out where they would squeeze all others.
    """
    together = np.concatenate(samples)
    low, high = robust_limits(together, margin=0.03)
    low = max(low, 0.0)
    spread = min(float(np.subtract(*np.percentile(sample, [75, 25]))) for sample in samples)
    width = 2 * spread / min(len(sample) for sample in samples) ** (1 / 3) or (high - low) / 30
    return np.linspace(low, high, int(np.clip((high - low) / width, 20, 60)) + 1)


def shares(values: Float[np.ndarray, " n"], edges: Float[np.ndarray, " n_edges"]) -> Float[np.ndarray, " n_bins"]:
    """Count the share of all values that is in each bin: what lies outside of the bins is in none."""
    return np.histogram(values, edges)[0] / max(len(values), 1)
