"""The latent trajectory, colored by time."""

import numpy as np
from jaxtyping import Float, Num

from mdvae.plots.style import (
    BLUE,
    COLORMAP,
    Axes,
    Figure,
    add_colorbar,
    capitalized,
    figure_of,
    label_axes,
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
) -> Figure:
    """Draw each frame as a point in latent space, colored by time; a single latent coordinate over time.

    Points are drawn in random order (always the same one), so that late frames do not hide early ones. Of
    more than 100 000 frames every second, third, … is drawn. No line joins the points: the frames may come
    from several trajectories.

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

    Returns
    -------
    Figure
        The new figure, or the one of `ax`.
    """
    n_frames, latent_dim = z.shape
    if n_frames == 0:
        raise ValueError("there are no frames to draw: z has shape " + str(z.shape))
    stride = -(-n_frames // _MAX_POINTS)
    label = quantity("Time", time_unit) if time is not None else "Frame"
    time = np.arange(n_frames) if time is None else time
    if ax is None:
        figure = new_figure(columns=1, height_mm=55 if latent_dim == 1 else 66)
        ax = figure.subplots()
    if latent_dim == 1:
        _over_time(ax, z[::stride, 0], time[::stride], label)
    else:
        _plane(ax, z[::stride], time[::stride], label, dims)
    return figure_of(ax)


def _over_time(ax: Axes, z: Float[np.ndarray, " n"], time: Num[np.ndarray, " n"], label: str) -> None:
    size, alpha = _point_style(len(z))
    ax.scatter(time, z, s=size, alpha=alpha, color=BLUE, linewidths=0, rasterized=True)
    label_axes(ax, x=label, y=_coordinate_label(0, 1))


def _plane(
    ax: Axes,
    z: Float[np.ndarray, "n latent_dim"],
    time: Num[np.ndarray, " n"],
    label: str,
    dims: tuple[int, int],
) -> None:
    latent_dim = z.shape[1]
    if not all(0 <= d < latent_dim for d in dims):
        raise ValueError(f"dims must be two of 0 to {latent_dim - 1}, got {dims}")
    size, alpha = _point_style(len(z))
    order = np.random.default_rng(0).permutation(len(z))
    points = ax.scatter(
        *z[order][:, dims].T, c=time[order], s=size, alpha=alpha, cmap=COLORMAP, linewidths=0, rasterized=True
    )
    label_axes(ax, x=_coordinate_label(dims[0], latent_dim), y=_coordinate_label(dims[1], latent_dim))
    add_colorbar(ax, points, label)


def _coordinate_label(dim: int, latent_dim: int) -> str:
    if latent_dim == 1:
        return capitalized("latent coordinate $z$")
    suffix = f" (of {latent_dim})" if latent_dim > 2 else ""
    return f"Latent coordinate $z_{{{dim + 1}}}${suffix}"


def _point_style(n: int) -> tuple[float, float]:
    """Shrink and fade points as they get many: area in square points, and opacity."""
    size = float(np.clip(2e4 / n, 1.0, 4.0))
    alpha = float(np.clip(2e4 / n, 0.25, 0.8))
    return size, alpha
