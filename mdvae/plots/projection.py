"""Three dimensions onto the page."""

import numpy as np
from jaxtyping import Float

from mdvae.plots.style import Axes, Figure, new_figure, quantity

__all__ = ["coordinate_labels", "panel_pair", "principal_view", "project"]

_PANELS_WIDTH_MM = 155.0  # of both together: two columns of a journal less the scale on the left
# Title, label and numbers of the lower scale, legend; ample, because panels of equal aspect that are limited
# by the height of the figure, not by its width, push their titles off the page.
_LABELS_HEIGHT_MM = 26.0


def principal_view(structure: Float[np.ndarray, "n_atoms dim"]) -> Float[np.ndarray, "dim dim"]:
    """Choose the directions from which a structure is looked at.

    Parameters
    ----------
    structure
        Positions, shape (n_atoms, dim), dim 2 or 3.

    Returns
    -------
    Float[np.ndarray, "dim dim"]
        Rows are the axes of the page: right, up and, in three dimensions, toward the reader. In 3-D they are
        the structure's directions of largest, middle and smallest variance, as a proper rotation; a 2-D
        structure is shown as it lies.
    """
    dim = structure.shape[1]
    if dim == 2:
        return np.eye(2)
    if dim != 3:
        raise ValueError(f"positions must have 2 or 3 coordinates an atom, got {dim}")
    centered = np.asarray(structure, dtype=np.float64)
    centered = centered - centered.mean(axis=0)
    axes = np.linalg.svd(centered, full_matrices=True)[2]
    # The sign of an axis is arbitrary; fixing it makes equal input give equal figures.
    signs = np.sign(axes[np.arange(3), np.abs(axes).argmax(axis=1)])
    axes = axes * signs[:, np.newaxis]
    # The third completes a right-handed triple: the picture is never a mirror image.
    axes[2] = np.cross(axes[0], axes[1])
    return axes


def project(
    positions: Float[np.ndarray, "*batch dim"], view: Float[np.ndarray, "dim dim"]
) -> Float[np.ndarray, "*batch dim"]:
    """Turn positions into page coordinates: right, up and, in three dimensions, depth toward the reader."""
    return np.asarray(positions, dtype=np.float64) @ view.T


def coordinate_labels(dim: int, unit: str) -> tuple[str, str]:
    """Name the two axes of the page for 2-D positions or a principal view of 3-D ones."""
    if dim == 2:
        return quantity("$x$", unit), quantity("$y$", unit)
    return quantity("Principal axis 1", unit), quantity("Principal axis 2", unit)


def panel_pair(extent: Float[np.ndarray, "n 2"], right_mm: float | int = 0) -> tuple[Figure, list[Axes]]:
    """Make a double-column figure of two panels that show the same part of the page to the same scale.

    Parameters
    ----------
    extent
        Page coordinates that must be seen, shape (n, 2).
    right_mm
        Room that is needed on the right of the panels, in mm, for a colorbar.

    Returns
    -------
    figure, axes
        The figure and its two axes, as high as the extent asks for.
    """
    low, high = extent.min(axis=0), extent.max(axis=0)
    size = 1.08 * (high - low)
    # Neither a ribbon nor a tower: panels between 1:2 and 1:1.
    width = max(size[0], size[1]) or 1.0
    height = max(size[1], 0.5 * width)
    half = np.array([width, height]) / 2
    low, high = (low + high) / 2 - half, (low + high) / 2 + half
    panel_mm = (_PANELS_WIDTH_MM - right_mm) / 2
    figure = new_figure(columns=2, height_mm=_LABELS_HEIGHT_MM + panel_mm * height / width)
    axes = list(figure.subplots(1, 2, sharex=True, sharey=True))
    axes[0].set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    for ax in axes:
        ax.set_aspect("equal", adjustable="box")
    return figure, axes
