"""How densely latent space is populated: a free-energy landscape, with a trajectory over it."""

import numpy as np
from jaxtyping import Float

from mdvae.plots.style import (
    BLUE,
    COLORMAP,
    LINE_WIDTH,
    THIN_LINE_WIDTH,
    VERMILION,
    Axes,
    Figure,
    add_colorbar,
    figure_of,
    label_axes,
    new_figure,
    robust_limits,
)

__all__ = ["coordinate_name", "draw_map", "latent_density"]

_N_BINS = 100
# Widths of the smoothing kernel that fit into the range of the data: more for more frames.
_FEWEST_WIDTHS, _MOST_WIDTHS = 15, 90
_MARGIN = 2.2  # on each side, in such widths: the landscape should close within the panel
_MOST_JOINED = 500  # more points than this are dots: lines would cover all
_MOST_DOTS = 2000
_FREE_ENERGY = r"Free energy ($k_\mathrm{B}T$)"
_DENSITY = "Probability density"

Edges = list[Float[np.ndarray, " n_edges"]]


def latent_density(
    z: Float[np.ndarray, "n_frames latent_dim"],
    *,
    points: Float[np.ndarray, "n_points latent_dim"] | None = None,
    joined: bool | None = None,
    dims: tuple[int, int] = (0, 1),
    free_energy: bool = True,
    ax: Axes | None = None,
) -> Figure:
    """Draw the free energy, or the density, of latent points in two latent coordinates; in one as a curve.

    The free energy is -log p, from its minimum, of a histogram that is smoothed mildly, by a normal distribution whose
    standard deviation is a 90th of the range, and more for fewer than 90 000 frames; where there are no frames nothing
    is drawn. It means something only for frames from equilibrium.

    Parameters
    ----------
    z
        Latent coordinates, shape (n_frames, latent_dim).
    points
        Latent coordinates of a trajectory to draw over it, shape (n_points, latent_dim). Of more than 2000 dots every
        second, third, ... is drawn.
    joined
        Join these by a line, all of them. By default up to 500 are.
    dims
        The two latent coordinates to draw, counted from 0, where there are more than one.
    free_energy
        False: the density.
    ax
        Draw here instead of in a new figure.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`.
    """
    latent_dim = z.shape[1]
    chosen = _chosen(z, dims)
    density, edges, width = _density(chosen)
    if ax is None:
        ax = new_figure(columns=1, height_mm=55 if latent_dim == 1 else 66).subplots()
    values, levels = _free_energy(density, len(chosen), width) if free_energy else (density, _even_levels(density))
    label = _FREE_ENERGY if free_energy else _DENSITY
    names = [coordinate_name(0, 1)] if latent_dim == 1 else [coordinate_name(dim, latent_dim) for dim in dims]
    if latent_dim == 1:
        _draw_curve(ax, values, edges, levels)
        label_axes(ax, x=names[0], y=label)
    else:
        draw_map(ax, values, edges, levels, label, reverse=not free_energy)
        label_axes(ax, x=names[0], y=names[1])
    if points is not None:
        _draw_points(ax, _chosen(points, dims), joined)
    return figure_of(ax)


def coordinate_name(dim: int, latent_dim: int) -> str:
    """Name a latent coordinate, counted from 0, for an axis, and of more than two say how many there are."""
    symbol = "$z$" if latent_dim == 1 else f"$z_{{{dim + 1}}}$"
    return f"Latent coordinate {symbol}" + (f" (of {latent_dim})" if latent_dim > 2 else "")


def _chosen(z: Float[np.ndarray, "n latent_dim"], dims: tuple[int, int]) -> Float[np.ndarray, "m n_dims"]:
    """Pick the coordinates to draw, of points that are numbers."""
    latent_dim = z.shape[1]
    if latent_dim > 1 and not all(0 <= dim < latent_dim for dim in dims):
        raise ValueError(f"dims must be two of 0 to {latent_dim - 1}, got {dims}")
    picked = np.asarray(z if latent_dim == 1 else z[:, list(dims)], np.float64)
    finite = picked[np.isfinite(picked).all(axis=1)]
    if not len(finite):
        raise ValueError(f"there are no latent points to draw: of shape {z.shape}, none of them is finite")
    return finite


def _density(
    x: Float[np.ndarray, "n n_dims"],
) -> tuple[Float[np.ndarray, "*bins"], Edges, Float[np.ndarray, " n_dims"]]:
    """Smooth a histogram of points a little: density, edges of its bins along each coordinate, widths of the kernel."""
    from scipy.ndimage import gaussian_filter

    low, high = np.array([robust_limits(column, 0.0) for column in x.T]).T
    width = (high - low) / np.clip(2 * len(x) ** (1 / 3), _FEWEST_WIDTHS, _MOST_WIDTHS)
    edges = list(np.linspace(low - _MARGIN * width, high + _MARGIN * width, _N_BINS + 1).T)
    bins = np.array([axis[1] - axis[0] for axis in edges])
    counts = np.histogramdd(x, bins=edges)[0]
    return gaussian_filter(counts, width / bins, mode="constant") / (len(x) * bins.prod()), edges, width


def _free_energy(
    density: Float[np.ndarray, "*bins"], n_frames: int, width: Float[np.ndarray, " n_dims"]
) -> tuple[Float[np.ndarray, "*bins"], Float[np.ndarray, " n_levels"]]:
    """Free energy in kT from its minimum, and levels up to what half of a single frame stands for."""
    single = 1 / (n_frames * np.prod(np.sqrt(2 * np.pi) * width))
    highest = np.log(density.max() / (0.5 * single))
    step = 0.5 if highest < 4 else 1.0
    levels = step * np.arange(np.ceil(highest / step) + 1)
    # Beyond the levels any large number does; infinities would make holes in the contours beside them.
    least = density.max() * np.exp(-3 * levels[-1])
    return np.log(density.max() / np.maximum(density, least)), levels


def _even_levels(density: Float[np.ndarray, "*bins"]) -> Float[np.ndarray, " n_levels"]:
    from matplotlib.ticker import MaxNLocator

    levels = np.asarray(MaxNLocator(8).tick_values(0.0, float(density.max())))
    levels = levels[levels >= 0]
    # Empty space is not a color of its own.
    return np.concatenate([[0.1 * levels[1]], levels[1:]])


def _draw_curve(
    ax: Axes, values: Float[np.ndarray, " bins"], edges: Edges, levels: Float[np.ndarray, " n_levels"]
) -> None:
    centers = (edges[0][1:] + edges[0][:-1]) / 2
    ax.plot(centers, np.where(values <= levels[-1], values, np.nan), color=BLUE, lw=LINE_WIDTH)
    ax.set_xlim(edges[0][0], edges[0][-1])
    ax.set_ylim(0, 1.12 * levels[-1])  # strokes of points are at the top


def draw_map(
    ax: Axes,
    values: Float[np.ndarray, "x_bins y_bins"],
    edges: Edges,
    levels: Float[np.ndarray, " n_levels"],
    label: str,
    *,
    reverse: bool,
) -> None:
    """Fill the space between levels, with a color bar; where small numbers are dense, their colors are reversed."""
    x, y = ((axis[1:] + axis[:-1]) / 2 for axis in edges)
    # Dark is dense, whichever is drawn.
    cmap = f"{COLORMAP}_r" if reverse else COLORMAP
    filled = ax.contourf(x, y, values.T, levels=levels, cmap=cmap)
    ax.contour(x, y, values.T, levels=levels, colors="white", linewidths=0.25, alpha=0.6)
    ax.set(xlim=(edges[0][0], edges[0][-1]), ylim=(edges[1][0], edges[1][-1]))
    add_colorbar(ax, filled, label)
    ax.child_axes[-1].set_yticks(levels[1:] if reverse else levels[:: 1 + len(levels) // 10])


def _draw_points(ax: Axes, points: Float[np.ndarray, "n n_dims"], joined: bool | None) -> None:
    """Draw points over a map and make room for them; above a curve as strokes."""
    line = len(points) > 1 and points.shape[1] > 1 and (len(points) <= _MOST_JOINED if joined is None else joined)
    _make_room(ax, points)
    if not line:
        points = points[:: -(-len(points) // _MOST_DOTS)]
    n = len(points)
    alpha = float(np.clip(600 / n, 0.25, 0.9))
    if points.shape[1] == 1:
        place = {"transform": ax.get_xaxis_transform(), "clip_on": False}
        ax.plot(points[:, 0], np.full(n, 0.96), "|", color=VERMILION, ms=4, mew=0.5, alpha=alpha, **place)
    elif line:
        ax.plot(*points.T, color=VERMILION, lw=THIN_LINE_WIDTH, alpha=alpha, solid_joinstyle="round")
    else:
        ax.scatter(*points.T, s=float(np.clip(2e3 / n, 1.5, 8.0)), color=VERMILION, alpha=alpha, lw=0, rasterized=True)


def _make_room(ax: Axes, points: Float[np.ndarray, "n n_dims"]) -> None:
    for name, column in zip("xy", points.T, strict=False):
        (low, high), (left, right) = getattr(ax, f"get_{name}lim")(), robust_limits(column, 0.02)
        ax.set(**{f"{name}lim": (min(low, left), max(high, right))})
