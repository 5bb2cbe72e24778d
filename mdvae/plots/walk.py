"""What a latent coordinate means: decoded structures along it."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from mdvae._types import Whole
from mdvae.plots.beads import draw_beads, typical_bond
from mdvae.plots.density import coordinate_name
from mdvae.plots.projection import principal_view, project
from mdvae.plots.style import (
    BLACK,
    LEGEND_SIZE,
    Axes,
    Figure,
    add_colorbar,
    figure_of,
    label_axes,
    new_figure,
    unit_name,
)

if TYPE_CHECKING:
    from mdvae.model import Model
else:  # figures of plain arrays should not import what decodes
    Model = Any

__all__ = ["latent_walk"]

_PERCENTILES = (2.0, 98.0)
_GAP = 0.12  # between structures, as a share of the widest
_BEAD_RADIUS = 0.25  # over the typical bond
_SMALLEST_BEAD = 0.004  # over the width of all: a bead that a printer shows
_WIDTH_MM = 155.0  # of the structures on the page
_LABELS_MM = 14.0  # axis, numbers and bar of the scale
_LOWEST_MM, _HIGHEST_MM = 24.0, 110.0


def latent_walk(
    model: Model, dim: Whole = 0, n_frames: Whole = 5, *, restore: bool = True, ax: Axes | None = None
) -> Figure:
    """Draw decoded structures side by side along one latent coordinate, the others at their medians.

    The walk goes from the 2nd to the 98th percentile of the encoded training frames that the model keeps. All
    structures are in the model's pose and seen from the same side: along the direction of smallest variance of their
    mean. What is near the reader hides what is far, and the far fades.

    Parameters
    ----------
    model
        Trained.
    dim
        The latent coordinate, counted from 0.
    n_frames
        Number of structures; a single one is in the middle.
    restore
        As for `mdvae.decode`.
    ax
        Draw here instead of in a new figure.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`: the structures above their latent coordinate, with a bar as long as it says.
    """
    from matplotlib.ticker import MaxNLocator

    from mdvae.latent.generation import decode

    points = _walk(model, int(dim), int(n_frames))
    frames = np.asarray(decode(model, points, restore=restore).xyz, np.float64)[..., : model.system.dim]
    bonds, unit = model.system.links, model.system.unit
    pages, pitch = _row(frames)
    if ax is None:
        ax = _axes_for(pages)
    radius = max(_BEAD_RADIUS * typical_bond(frames[0], bonds), _SMALLEST_BEAD * np.ptp(pages[..., 0]))
    scale = [draw_beads(ax, page, bonds, radius) for page in pages][-1]
    _frame(ax, pages[..., :2], radius)
    _bar(ax, pitch, unit)
    label_axes(ax, x=coordinate_name(int(dim), model.latent_dim))
    ax.set_xticks(pitch * np.arange(len(points)), [f"{value:.2f}".replace("-", "−") for value in points[:, int(dim)]])
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    add_colorbar(ax, scale, "Atom index", width=0.012, ticks=MaxNLocator(5, integer=True))
    return figure_of(ax)


def _walk(model: Model, dim: int, n_frames: int) -> Float[np.ndarray, "n_frames latent_dim"]:
    """Choose latent points along one coordinate."""
    from mdvae.latent.encoding import encode_posed

    if model.data is None:
        raise ValueError("this model has not been trained: it remembers no frames whose range to walk")
    if not 0 <= dim < model.latent_dim:
        raise ValueError(f"dim must be one of 0 to {model.latent_dim - 1}, got {dim}")
    if n_frames < 1:
        raise ValueError(f"n_frames must be at least 1, got {n_frames}")
    z = encode_posed(model, model.data.frames)
    points = np.repeat(np.median(z, axis=0, keepdims=True), n_frames, axis=0)
    low, high = np.percentile(z[:, dim], _PERCENTILES)
    points[:, dim] = np.linspace(low, high, n_frames) if n_frames > 1 else (low + high) / 2
    return points


def _row(frames: Float[np.ndarray, "n n_atoms dim"]) -> tuple[Float[np.ndarray, "n n_atoms dim"], float]:
    """Project structures on one page and set them in a row: page coordinates, and the way from one to the next."""
    mean = frames.mean(axis=0)
    pages = project(frames - mean.mean(axis=0), principal_view(mean))
    if np.ptp(pages[..., 0]) > np.ptp(pages[..., 1]) and len(frames) > 1:
        pages = _upright(pages)
    low, high = pages[..., 0].min(axis=1), pages[..., 0].max(axis=1)
    pages[..., 0] -= ((low + high) / 2)[:, np.newaxis]
    pitch = (1 + _GAP) * float((high - low).max()) or 1.0
    pages[..., 0] += pitch * np.arange(len(frames))[:, np.newaxis]
    return pages, pitch


def _upright(pages: Float[np.ndarray, "n n_atoms dim"]) -> Float[np.ndarray, "n n_atoms dim"]:
    """Turn by a quarter: several structures fit better beside each other when they stand."""
    turned = pages.copy()
    turned[..., 0], turned[..., 1] = -pages[..., 1], pages[..., 0]
    return turned


def _axes_for(pages: Float[np.ndarray, "n n_atoms dim"]) -> Axes:
    """Make a figure of two columns, as high as the row of structures asks for."""
    width, height = np.ptp(pages[..., 0]) or 1.0, np.ptp(pages[..., 1])
    tall = float(np.clip(_WIDTH_MM * 1.25 * height / width, _LOWEST_MM, _HIGHEST_MM))
    return new_figure(columns=2, height_mm=_LABELS_MM + tall).subplots()


def _frame(ax: Axes, pages: Float[np.ndarray, "n n_atoms 2"], radius: float) -> None:
    """Show all structures, with room for the bar below them."""
    low, high = pages.min(axis=(0, 1)) - 1.5 * radius, pages.max(axis=(0, 1)) + 1.5 * radius
    height = high[1] - low[1]
    ax.set(xlim=(low[0], high[0]), ylim=(low[1] - 0.2 * height, high[1]))
    ax.set_aspect("equal")


def _bar(ax: Axes, pitch: float, unit: str) -> None:
    """Draw a bar of a round length below the first structure."""
    length = _round_below(0.5 * pitch)
    left, (bottom, top) = ax.get_xlim()[0], ax.get_ylim()
    y = bottom + 0.06 * (top - bottom)
    ax.plot([left, left + length], [y, y], color=BLACK, lw=1.5, solid_capstyle="butt")
    name = f" {length:g} {unit_name(unit)}"
    ax.text(left + length, y, name, va="center", ha="left", fontsize=LEGEND_SIZE)


def _round_below(length: float) -> float:
    """Find the largest of 1, 2 and 5 times a power of ten that is not longer."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(step * power for step in (1, 2, 5) if step * power <= length * (1 + 1e-9)))
