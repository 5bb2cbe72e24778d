"""A trajectory as it was simulated, as it is aligned, and as a point in latent space: side by side, in motion."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdvae._files import replacing
from mdvae._types import Number
from mdvae.plots.beads import draw_beads, typical_bond
from mdvae.plots.latent import latent_trajectory
from mdvae.plots.projection import coordinate_labels, principal_view, project
from mdvae.plots.style import BLACK, LINE_WIDTH, VERMILION, Axes, Figure, label_axes, new_figure

__all__ = ["trajectory_movie"]

_HEIGHT_MM = 57.0
_RESOLUTION = 100  # dots per inch: 689 of them from left to right
_BEAD_RADIUS = 0.25  # over the typical bond
_MARGIN = 0.04  # on each side of a panel, as a share of its width
_TRAIL = 10  # frames
_FASTEST = 100.0  # a GIF counts hundredths of a second


def trajectory_movie(
    raw: Float[np.ndarray, "n_frames n_atoms dim"],
    posed: Float[np.ndarray, "n_posed n_posed_atoms posed_dim"],
    z: Float[np.ndarray, "n_points latent_dim"],
    path: str | os.PathLike[str],
    *,
    bonds: Int[np.ndarray, "n_bonds 2"],
    unit: str = "nm",
    frames_per_second: Number = 20,
    dims: tuple[int, int] = (0, 1),
) -> Path:
    """Write a movie of three panels: the frames as simulated, the same frames aligned, and their latent points.

    Of 3-D frames the first panel shows x and y as they are in the file, the second the two directions of largest
    variance of the mean structure; what is near the reader hides what is far. The third shows all latent points colored
    by frame (a single latent coordinate over the number of the frame), the point of the present frame in vermilion with
    the way there from the ten before. The movie is written atomically.

    Parameters
    ----------
    raw
        Positions as simulated, shape (n_frames, n_atoms, dim), dim 2 or 3, in `unit`.
    posed
        The same frames aligned, in the same shape and unit.
    z
        Their latent coordinates, shape (n_frames, latent_dim).
    path
        Where to, a .gif: 200 frames of twelve atoms are about 2 MB.
    bonds
        Pairs of atoms, shape (n_bonds, 2).
    unit
        Unit of length.
    frames_per_second
        Above 0, at most 100.
    dims
        The two latent coordinates to draw, counted from 0, where there are more than one.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    ValueError
        For no frames at all, frames or points that do not belong together, another ending, and a number of frames per
        second out of its range.
    OSError
        If the folder does not exist or cannot be written to, or the path is a folder.
    """
    target = Path(path)
    _check(raw, posed, z)
    writer = _writer(target, frames_per_second)
    stage = _Stage(raw, posed, z, bonds, unit, dims)
    with replacing(target) as temporary, writer.saving(stage.figure, str(temporary), _RESOLUTION):
        for i in range(len(raw)):
            stage.show(i)
            writer.grab_frame()
    return target


class _Stage:
    """The figure and what moves on it."""

    def __init__(
        self,
        raw: Float[np.ndarray, "n_frames n_atoms dim"],
        posed: Float[np.ndarray, "n_frames n_atoms dim"],
        z: Float[np.ndarray, "n_frames latent_dim"],
        bonds: Int[np.ndarray, "n_bonds 2"],
        unit: str,
        dims: tuple[int, int],
    ) -> None:
        dim, self._bonds = raw.shape[2], bonds
        self._radius = _BEAD_RADIUS * typical_bond(posed[0], bonds)
        self._pages = np.asarray(raw, np.float64), _projected(posed)
        self.figure = new_figure(columns=2, height_mm=_HEIGHT_MM)
        self._frame_axes, latent = _panels(self.figure)
        for ax, pages in zip(self._frame_axes, self._pages, strict=True):
            _show_all(ax, pages[..., :2].reshape(-1, 2), self._radius)
        x, y = coordinate_labels(2, unit)
        label_axes(self._frame_axes[0], x=x, y=y, title="As simulated")
        x, y = coordinate_labels(dim, unit)
        label_axes(self._frame_axes[1], x=x, y=y, title="Aligned")
        latent_trajectory(z, ax=latent, dims=dims)
        self._latent = latent
        self._points = np.column_stack([np.arange(len(z)), z[:, 0]]) if z.shape[1] == 1 else z[:, list(dims)]
        (self._trail,) = latent.plot([], [], color=VERMILION, lw=LINE_WIDTH, zorder=3)
        (self._point,) = latent.plot([], [], "o", color=VERMILION, mec=BLACK, mew=0.6, ms=6, zorder=4)
        self._beads: list[Any] = []
        self.show(0)
        # Laid out once, so that nothing trembles.
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")

    def show(self, i: int) -> None:
        """Put frame i in the place of the one before."""
        for beads in self._beads:
            beads.remove()
        for ax, pages in zip(self._frame_axes, self._pages, strict=True):
            draw_beads(ax, pages[i], self._bonds, self._radius)
        self._beads = [ax.collections[-1] for ax in self._frame_axes]
        self._trail.set_data(*self._points[max(0, i - _TRAIL) : i + 1].T)
        self._point.set_data(*self._points[i : i + 1].T)
        label_axes(self._latent, title=f"Latent space, frame {i + 1} of {len(self._points)}")


def _panels(figure: Figure) -> tuple[list[Axes], Axes]:
    first, second, latent = figure.subplots(1, 3)
    for ax in (first, second, latent):
        ax.set_box_aspect(1)
    return [first, second], latent


def _projected(frames: Float[np.ndarray, "n_frames n_atoms dim"]) -> Float[np.ndarray, "n_frames n_atoms dim"]:
    """Seen as the mean structure is seen best, and in space with that at the origin."""
    mean = frames.mean(axis=0, dtype=np.float64)
    origin = mean.mean(axis=0) if frames.shape[2] == 3 else np.zeros(2)
    return project(frames - origin, principal_view(mean))


def _show_all(ax: Axes, page: Float[np.ndarray, "n 2"], radius: float) -> None:
    """Choose limits of one scale that hold all beads of all frames."""
    low, high = page.min(axis=0) - radius, page.max(axis=0) + radius
    half = (0.5 + _MARGIN) * float(max(high - low))
    (x, y) = (low + high) / 2
    ax.set(xlim=(x - half, x + half), ylim=(y - half, y + half))


def _writer(target: Path, frames_per_second: Number) -> Any:
    from matplotlib.animation import PillowWriter

    if not (math.isfinite(frames_per_second) and 0 < frames_per_second <= _FASTEST):
        raise ValueError(f"frames_per_second must be above 0 and at most {_FASTEST:g}, got {frames_per_second}")
    if target.suffix.lower() != ".gif":
        raise ValueError(f"cannot write a movie to '{target}': the name must end in .gif")
    # Its hints want whole numbers; the file format does not.
    writer: Any = PillowWriter
    return writer(fps=frames_per_second)


def _check(raw: np.ndarray, posed: np.ndarray, z: np.ndarray) -> None:
    if len(raw) == 0:
        raise ValueError(f"there are no frames to show: the positions have shape {raw.shape}; give at least one")
    if raw.shape != posed.shape:
        raise ValueError(
            f"raw has shape {raw.shape} and posed {posed.shape}; expected the same frames of the same atoms"
        )
    if len(z) != len(raw):
        raise ValueError(f"there are {len(raw)} frames and {len(z)} latent points; expected one for each frame")
