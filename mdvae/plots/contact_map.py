"""Which atoms touch, and how often: held-out structures against generated ones."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from mdvae.plots.comparison import boxed, with_unit, written
from mdvae.plots.fluctuations import name_atoms
from mdvae.plots.style import Axes, Figure, add_colorbar, figure_of, label_axes, new_figure

if TYPE_CHECKING:
    from mdvae.evaluation.ensemble import Contacts
else:  # a figure should not import what makes the record
    Contacts = Any

__all__ = ["contact_difference", "contact_map"]

_DIFFERENCES = "PuOr"
_NO_PAIR = "#E8E8E8"  # within three bonds, or not looked at
_LEAST_DIFFERENCE = 0.05  # of the scale: what is below it should look like nothing
_MAP_MM = 50.0
_WIDTH_MM = 85.0  # of the page
# Beside the map: scale of color and labels, and a letter of a name; above and below it.
_BESIDE_MM, _LETTER_MM, _ABOVE_MM = 28.0, 1.45, 15.0


def contact_map(record: Contacts, ax: Axes | None = None) -> Figure:
    """Draw how often each pair of atoms (or residues) touches: held-out above the diagonal, generated below.

    Pairs that are not looked at, within three bonds, are gray.

    Parameters
    ----------
    record
        An ensemble's `contacts`.
    ax
        Draw here instead of in a new figure.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`.
    """
    table = _empty(record)
    first, second = np.sort(record.pairs, axis=1).T
    # Rows go up: above the diagonal the row is the larger index.
    table[second, first], table[first, second] = record.held_out, record.generated
    label = f"Contact probability (< {with_unit(record.cutoff, record.unit)})"
    return _draw(ax, record, table, label, "◤ held-out    ◢ generated", cmap=_probabilities(), vmin=0, vmax=1)


def contact_difference(record: Contacts, ax: Axes | None = None) -> Figure:
    """Draw by how much more often each pair touches in generated structures than in held-out ones.

    The title has the mean absolute difference and, as the floor, that of training from held-out structures.

    Parameters
    ----------
    record
        An ensemble's `contacts`.
    ax
        Draw here instead of in a new figure.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`.
    """
    table = _empty(record)
    difference = record.generated - record.held_out
    for first, second in (record.pairs.T, record.pairs.T[::-1]):
        table[first, second] = difference
    most = float(np.nanmax(np.abs(difference), initial=_LEAST_DIFFERENCE))
    value, floor = written(record.difference.value), written(record.difference.floor)
    title = f"generated − held-out, mean |Δ| {value} (floor {floor})"
    return _draw(ax, record, table, "Δ contact probability", title, cmap=_DIFFERENCES, vmin=-most, vmax=most)


def _empty(record: Contacts) -> Float[np.ndarray, "n n"]:
    if not len(record.pairs):
        raise ValueError("there are no pairs of atoms more than three bonds apart, so no contacts to draw")
    return np.full((len(record.names),) * 2, np.nan)


def _draw(
    ax: Axes | None, record: Contacts, table: Float[np.ndarray, "n n"], label: str, title: str, **colors: Any
) -> Figure:
    if ax is None:
        ax = _axes_for(record)
    ax.set_facecolor(_NO_PAIR)
    image = ax.imshow(table, origin="lower", interpolation="nearest", **colors)
    kind = name_atoms(ax, record.names, "x", _MAP_MM)
    label_axes(ax, x=kind, y=name_atoms(ax, record.names, "y", _MAP_MM), title=title)
    boxed(ax)
    add_colorbar(ax, image, label)
    return figure_of(ax)


def _probabilities() -> Any:
    """Make a scale of color that is white at zero, ordered in gray print."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("contacts", ["white", *colormaps["magma_r"](np.linspace(0.15, 1, 16))])


def _axes_for(record: Contacts) -> Axes:
    """Make a figure as high as the map is wide beside its labels: the layout is exact then."""
    longest = max(len(name.partition("-")[0]) for name in record.names)
    return new_figure(columns=1, height_mm=_WIDTH_MM - _BESIDE_MM - _LETTER_MM * longest + _ABOVE_MM).subplots()
