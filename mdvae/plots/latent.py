"""The latent trajectory, colored by time or, of several trajectories, by which it is."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num

from mdvae.plots.style import (
    BLUE,
    COLORMAP,
    OKABE_ITO,
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

__all__ = ["latent_trajectory"]

# More points than this are not seen apart on a page, and make files and drawing slow.
_MAX_POINTS = 100_000


def latent_trajectory(
    z: Float[np.ndarray, "n_frames latent_dim"],
    time: Num[np.ndarray, " n_frames"] | None = None,
    time_unit: str = "ps",
    ax: Axes | None = None,
    dims: tuple[int, int] = (0, 1),
    trajectory: Int[np.ndarray, " n_frames"] | None = None,
) -> Figure:
    """Draw each frame as a point in latent space, colored by time; a single latent coordinate over time.

    Frames of several trajectories are colored by trajectory instead: up to eight in colors of their own, more
    on a scale. Points are drawn in random order (always the same one), so that late frames do not hide early
    ones; many are small and translucent, so that density is seen. Of more than 100 000 frames every second,
    third, … is drawn. No line joins the points.

    Parameters
    ----------
    z
        Latent coordinates, shape (n_frames, latent_dim).
    time
        Time of each frame, in `time_unit`, shape (n_frames,). By default the index of the frame.
    time_unit
        Unit of `time`.
    ax
        Draw here instead of in a new figure.
    dims
        The two latent coordinates to draw, counted from 0, where there are more than one.
    trajectory
        Which trajectory each frame is of, counted from 0, shape (n_frames,); in the figure they count from 1.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`.
    """
    n_frames, latent_dim = z.shape
    if n_frames == 0:
        raise ValueError("there are no frames to draw: z has shape " + str(z.shape))
    if latent_dim > 1 and not all(0 <= d < latent_dim for d in dims):
        raise ValueError(f"dims must be two of 0 to {latent_dim - 1}, got {dims}")
    label = quantity("Time", time_unit) if time is not None else "Frame"
    time = np.arange(n_frames) if time is None else time
    runs = None if trajectory is None or np.ptp(trajectory) == 0 else trajectory
    if ax is None:
        figure = new_figure(columns=1, height_mm=55 if latent_dim == 1 else 66)
        ax = figure.subplots()
    shown = np.random.default_rng(0).permutation(np.arange(0, n_frames, -(-n_frames // _MAX_POINTS)))
    if latent_dim == 1:
        x, y = time[shown], z[shown, 0]
        label_axes(ax, x=label, y=_coordinate_label(0, 1))
    else:
        x, y = z[shown, dims[0]], z[shown, dims[1]]
        label_axes(ax, x=_coordinate_label(dims[0], latent_dim), y=_coordinate_label(dims[1], latent_dim))
    if runs is not None:
        _by_trajectory(ax, x, y, runs[shown])
    elif latent_dim == 1:
        _points(ax, x, y, color=BLUE)
    else:
        add_colorbar(ax, _points(ax, x, y, c=time[shown], cmap=COLORMAP), label)
    return figure_of(ax)


def _by_trajectory(ax: Axes, x: Num[np.ndarray, " n"], y: Num[np.ndarray, " n"], runs: Int[np.ndarray, " n"]) -> None:
    from matplotlib.lines import Line2D

    numbers, index = np.unique(runs, return_inverse=True)
    if len(numbers) > len(OKABE_ITO):
        add_colorbar(ax, _points(ax, x, y, c=runs + 1, cmap=COLORMAP), "Trajectory", integer=True)
        return
    _points(ax, x, y, c=np.array(OKABE_ITO)[index])
    dots = [
        Line2D([], [], ls="", marker="o", ms=3.5, mew=0, color=color, label=f"run {number + 1}")
        for number, color in zip(numbers, OKABE_ITO, strict=False)
    ]
    legend_above(ax, n_columns=4, handles=dots)


def _points(ax: Axes, x: Num[np.ndarray, " n"], y: Num[np.ndarray, " n"], **color: Any) -> Any:
    """Draw points, the smaller and fainter the more they are."""
    size = float(np.clip(2e4 / len(x), 1.2, 4.0))  # area, in square points
    alpha = float(np.clip(4e3 / len(x), 0.12, 0.8))
    return ax.scatter(x, y, s=size, alpha=alpha, linewidths=0, rasterized=True, **color)


def _coordinate_label(dim: int, latent_dim: int) -> str:
    if latent_dim == 1:
        return capitalized("latent coordinate $z$")
    suffix = f" (of {latent_dim})" if latent_dim > 2 else ""
    return f"Latent coordinate $z_{{{dim + 1}}}${suffix}"
