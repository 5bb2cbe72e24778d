"""A free-energy surface with its errors, minima, barriers and states."""

import numpy as np
from jaxtyping import Bool, Float

from mdvae.latent import FreeEnergy
from mdvae.plots.density import coordinate_name, draw_map
from mdvae.plots.style import (
    BLACK,
    BLUE,
    LEGEND_SIZE,
    LINE_WIDTH,
    OKABE_ITO,
    VERMILION,
    Artist,
    Axes,
    Figure,
    figure_of,
    label_axes,
    legend_above,
    new_figure,
    quantity,
)

__all__ = ["free_energy"]

_LABEL = quantity("Free energy", "kJ/mol")
# Of a figure's height, for the strip that each state has below a curve.
_STRIP = 0.03
# Colors of states: vermilion and black are those of what is marked.
_COLORS = tuple(color for color in OKABE_ITO if color not in (BLUE, VERMILION, BLACK))


def free_energy(surface: FreeEnergy, *, states: bool = True, ax: Axes | None = None) -> Figure:
    """Draw a free energy: over one coordinate a curve with a band of one standard error, over two a map.

    Minima are numbered, and crosses mark the barriers between them. Where there are no frames nothing is drawn.

    Parameters
    ----------
    surface
        From `mdvae.free_energy`; its names label the axes.
    states
        Show where states are, if there are several: strips below a curve, borders in a map, of the bins that belong to
        a state by more than half of what they hold.
    ax
        Draw here instead of in a new figure.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`.
    """
    n_dims = len(surface.edges)
    names = [_label(name) for name in surface.names]
    if ax is None:
        ax = new_figure(columns=1, height_mm=58 if n_dims == 1 else 68).subplots()
    handles = (_draw_curve if n_dims == 1 else _draw_surface)(ax, surface, states and len(surface.states.names) > 1)
    label_axes(ax, x=names[0], y=_LABEL if n_dims == 1 else names[1])
    if handles:
        legend_above(ax, n_columns=4, handles=handles)
    return figure_of(ax)


def _label(name: str) -> str:
    """Of a latent coordinate by its number, of anything else as it was given."""
    if name == "z":
        return coordinate_name(0, 1)
    return coordinate_name(int(name[1:]) - 1, 2) if name[:1] == "z" and name[1:].isdigit() else name


def _draw_curve(ax: Axes, surface: FreeEnergy, states: bool) -> list[Artist]:
    (x,), values, errors = surface.centers, surface.values, surface.errors
    shown = np.where(np.isfinite(values), values, np.nan)
    ax.fill_between(x, shown - errors, shown + errors, color=BLUE, alpha=0.25, lw=0)
    # A bin between empty ones would be a line without length.
    ax.plot(x, shown, color=BLUE, lw=LINE_WIDTH, marker=".", ms=1.5, mew=0)
    highest = float(np.nanmax(shown))
    bottom = -0.06 * highest
    for i, well in enumerate(surface.minima):
        _mark(ax, well.position[0], well.free_energy.value, "o")
        _write(ax, (well.position[0], well.free_energy.value), str(i + 1), (0, -8))
        bottom = -0.14 * highest
    for barrier in surface.barriers:
        _mark(ax, barrier.position[0], surface.minima[barrier.wells[0]].free_energy.value + barrier.height.value, "X")
    ax.margins(x=0.03)
    ax.set_ylim(bottom, 1.05 * highest)
    return _draw_strips(ax, surface) if states else []


def _draw_strips(ax: Axes, surface: FreeEnergy) -> list[Artist]:
    """Below the curve, one strip a state: states may overlap."""
    from matplotlib.patches import Patch

    n_states, handles = len(surface.states.names), []
    low, high = ax.get_ylim()
    ax.set_ylim(low - 1.2 * n_states * _STRIP * (high - low), high)
    for i, (name, share) in enumerate(zip(surface.states.names, surface.states.shares, strict=True)):
        color = _COLORS[i % len(_COLORS)]
        inside, place = _inside(share), ax.get_xaxis_transform()
        below = 1.2 * (n_states - 1 - i) * _STRIP
        for left, right in _intervals(surface.edges[0], inside):
            ax.fill_between([left, right], below, below + _STRIP, color=color, lw=0, transform=place)
        handles.append(Patch(color=color, label=name))
    return handles


def _draw_surface(ax: Axes, surface: FreeEnergy, states: bool) -> list[Artist]:
    finite = np.isfinite(surface.values)
    levels = _levels(float(surface.values[finite].max()))
    # Beyond the levels any large number does; infinities would make holes in the contours beside them.
    draw_map(ax, np.where(finite, surface.values, 3 * levels[-1]), list(surface.edges), levels, _LABEL, reverse=True)
    if states:
        _draw_borders(ax, surface)
    for x, y in {barrier.position for barrier in surface.barriers}:
        _mark(ax, x, y, "X")
    for i, well in enumerate(surface.minima):
        x, y = well.position
        _mark(ax, x, y, "o")
        _write(ax, (x, y), str(i + 1), (5, 3))
    return []


def _draw_borders(ax: Axes, surface: FreeEnergy) -> None:
    """Where states meet, and the names of those that are not called by the number of a minimum."""
    from matplotlib.patheffects import withStroke
    from scipy.ndimage import distance_transform_edt

    x, y = surface.centers
    marked = np.zeros(surface.values.shape, bool)
    for well in surface.minima:
        marked[np.argmin(np.abs(x - well.position[0])), np.argmin(np.abs(y - well.position[1]))] = True
    numbers = {str(i + 1) for i in range(len(surface.minima))}
    for name, share in zip(surface.states.names, surface.states.shares, strict=True):
        # Where there are no frames there is no border either.
        line = ax.contour(x, y, np.ma.masked_invalid(share.T), levels=[0.5], colors=[BLACK], linewidths=0.8)
        line.set_path_effects([withStroke(linewidth=2.0, foreground="white")])
        if name not in numbers:
            # In the middle, as far from borders and marks as can be.
            room = np.asarray(distance_transform_edt(np.pad(_inside(share) & ~marked, 1)))[1:-1, 1:-1]
            i, j = np.unravel_index(np.argmax(room), room.shape)
            _write(ax, (float(x[i]), float(y[j])), name, (0, 0))


def _levels(highest: float) -> Float[np.ndarray, " n_levels"]:
    """Every 1, 2, 5, 10, ... kJ/mol, about ten of them."""
    from matplotlib.ticker import MaxNLocator

    levels = np.asarray(MaxNLocator(10, steps=[1, 2, 5, 10]).tick_values(0.0, highest))
    return levels[levels >= 0]


def _inside(share: Float[np.ndarray, "*bins"]) -> Bool[np.ndarray, "*bins"]:
    return np.nan_to_num(share) > 0.5


def _intervals(edges: Float[np.ndarray, " n_edges"], inside: Bool[np.ndarray, " n_bins"]) -> list[tuple[float, float]]:
    """Bins that are next to one another, as one interval each."""
    steps = np.diff(np.concatenate([[0], inside.astype(int), [0]]))
    return list(zip(edges[steps == 1].tolist(), edges[steps == -1].tolist(), strict=True))


def _mark(ax: Axes, x: float, y: float, marker: str) -> None:
    ax.plot(x, y, marker, color=VERMILION, mec="white", mew=0.6, ms=5, clip_on=False, zorder=5)


def _write(ax: Axes, place: tuple[float, float], text: str, offset: tuple[float | int, float | int]) -> None:
    from matplotlib.patheffects import withStroke

    note = ax.annotate(
        text, place, xytext=offset, textcoords="offset points", fontsize=LEGEND_SIZE, ha="center", va="center", zorder=6
    )
    note.set_path_effects([withStroke(linewidth=1.5, foreground="white")])
