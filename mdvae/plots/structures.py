"""Training conformations beside generated ones."""

import numpy as np
from jaxtyping import Float, Int

from mdvae.plots.projection import coordinate_labels, panel_pair, principal_view, project
from mdvae.plots.style import (
    BLACK,
    BLUE,
    LEGEND_SIZE,
    LINE_WIDTH,
    THIN_LINE_WIDTH,
    VERMILION,
    Axes,
    Figure,
    label_axes,
)

__all__ = ["conformations"]

# Of chains with more atoms than this the lines get thinner, or the highlighted one would hide all others.
_FEW_ATOMS = 300
_THINNEST = 0.25  # points; a printer still shows it
_MAX_DOTS = 60  # of a highlighted frame with more atoms than this only the bonds are drawn


def conformations(
    training: Float[np.ndarray, "n_training n_atoms dim"],
    generated: Float[np.ndarray, "n_generated n_atoms dim"],
    bonds: Int[np.ndarray, "n_bonds 2"],
    unit: str = "nm",
    n_show: int = 30,
) -> Figure:
    """Draw a sample of training conformations beside generated ones.

    Each panel overlays frames taken at even spacing and highlights the one nearest to the mean of all of its
    frames: the mean itself is no conformation of a flexible molecule. The frames are drawn as they are posed,
    none is superposed; 3-D ones are projected on the two directions of largest variance of the training mean
    structure, the same for both panels.

    Parameters
    ----------
    training, generated
        Positions, shapes (n_training, n_atoms, dim) and (n_generated, n_atoms, dim), dim 2 or 3, in `unit`.
    bonds
        Pairs of atoms, shape (n_bonds, 2); atoms without a bond are drawn as dots.
    unit
        Unit of length.
    n_show
        Number of frames in each panel.

    Returns
    -------
    Figure
        Two panels with the same limits and equal aspect.
    """
    mean = np.asarray(training, dtype=np.float64).mean(axis=0)
    view = principal_view(mean)
    # A projection has no origin of its own: put it where the molecule is. 2-D positions stay as given.
    origin = mean.mean(axis=0) if training.shape[2] == 3 else np.zeros(2)
    samples = [frames[_evenly(len(frames), n_show)] for frames in (training, generated)]
    overlays = [project(sample - origin, view)[..., :2] for sample in samples]
    central = [project(_nearest_to_mean(frames) - origin, view)[:, :2] for frames in (training, generated)]
    figure, axes = panel_pair(np.concatenate([*overlays, central]).reshape(-1, 2))
    for ax, overlay, frame, color in zip(axes, overlays, central, (BLUE, VERMILION), strict=True):
        _overlay(ax, overlay, bonds, color)
        _highlight(ax, frame, bonds)
    x_label, y_label = coordinate_labels(training.shape[2], unit)
    for ax, name, sample in zip(axes, ("Training", "Generated"), samples, strict=True):
        label_axes(ax, x=x_label, title=f"{name} ({len(sample)} frames shown)")
    label_axes(axes[0], y=y_label)
    _explain_highlight(figure, "o" if _with_dots(training.shape[1], bonds) else "")
    return figure


def _evenly(n: int, n_show: int) -> Int[np.ndarray, " n_shown"]:
    if n == 0 or n_show < 1:
        raise ValueError(f"there must be at least one frame to draw, got n_show {n_show} of {n} frames")
    return np.unique(np.linspace(0, n - 1, min(n, n_show)).round().astype(int))


def _nearest_to_mean(frames: Float[np.ndarray, "n n_atoms dim"]) -> Float[np.ndarray, "n_atoms dim"]:
    """Pick the frame of smallest squared deviation from the mean, without a float64 copy of all frames."""
    deviation = frames - frames.mean(axis=0, dtype=np.float64).astype(frames.dtype)
    return frames[np.argmin(np.einsum("nad,nad->n", deviation, deviation))]


def _overlay(
    ax: Axes, pages: Float[np.ndarray, "n n_atoms 2"], bonds: Int[np.ndarray, "n_bonds 2"], color: str
) -> None:
    from matplotlib.collections import LineCollection

    alpha = float(np.clip(8 / len(pages), 0.12, 0.6))
    segments = pages[:, bonds].reshape(-1, 2, 2)
    width = _thinned(THIN_LINE_WIDTH, pages.shape[1])
    ax.add_collection(LineCollection(list(segments), colors=color, linewidths=width, alpha=alpha))
    loose = np.setdiff1d(np.arange(pages.shape[1]), bonds)
    if loose.size:
        ax.scatter(*pages[:, loose].reshape(-1, 2).T, s=3, color=color, alpha=alpha, linewidths=0)


def _highlight(ax: Axes, page: Float[np.ndarray, "n_atoms 2"], bonds: Int[np.ndarray, "n_bonds 2"]) -> None:
    from matplotlib.collections import LineCollection

    width = _thinned(LINE_WIDTH, len(page))
    ax.add_collection(LineCollection(list(page[bonds]), colors=BLACK, linewidths=width, zorder=3))
    if _with_dots(len(page), bonds):
        ax.scatter(*page.T, s=7, color=BLACK, linewidths=0, zorder=4)


def _thinned(width: float, n_atoms: int) -> float:
    """Width of the lines of a chain, in points: less for many atoms on the same page."""
    return min(width, max(_THINNEST, width * _FEW_ATOMS / n_atoms))


def _with_dots(n_atoms: int, bonds: Int[np.ndarray, "n_bonds 2"]) -> bool:
    return n_atoms <= _MAX_DOTS or len(bonds) == 0


def _explain_highlight(figure: Figure, marker: str) -> None:
    from matplotlib.lines import Line2D

    handle = Line2D([], [], color=BLACK, lw=LINE_WIDTH, marker=marker, ms=2.5, label="frame nearest to the mean")
    figure.legend(handles=[handle], loc="outside lower center", frameon=False, fontsize=LEGEND_SIZE)
