"""One structure as balls and sticks on the page, near ones before far ones."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdvae.plots.style import COLORMAP, Axes

__all__ = ["draw_beads", "typical_bond"]

_STICK_WIDTH = 0.5  # of a drawn bond, over the bead's radius
_FADE = 0.5  # how far toward white the farthest atom goes
_OUTLINE = "#333333"
_ANGLES = np.linspace(0, 2 * np.pi, 37)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


def draw_beads(
    ax: Axes, page: Float[np.ndarray, "n_atoms dim"], bonds: Int[np.ndarray, "n_bonds 2"], radius: float
) -> Any:
    """Draw atoms as circles and bonds as sticks, colored along the chain.

    Parameters
    ----------
    ax
        Where to draw; its limits are not changed.
    page
        Page coordinates, shape (n_atoms, dim): right, up and, where dim is 3, depth toward the reader.
    bonds
        Pairs of atoms, shape (n_bonds, 2).
    radius
        Of an atom, in the unit of `page`.

    Returns
    -------
    ScalarMappable
        The color scale, for a colorbar.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import Normalize

    space = np.asarray(page, dtype=np.float64)
    if space.shape[1] == 2:
        space = np.pad(space, ((0, 0), (0, 1)))
    scale = ScalarMappable(Normalize(0, max(1, len(space) - 1)), COLORMAP)
    stick_shapes, stick_depth, stick_atom = _sticks(space, bonds, radius)
    shapes = [*stick_shapes, *(space[:, np.newaxis, :2] + radius * _CIRCLE)]
    depth = np.concatenate([stick_depth, space[:, 2]])
    atom = np.concatenate([stick_atom, np.arange(len(space))])
    colors = _faded(scale.to_rgba(atom)[:, :3], depth)
    # A stable sort from far to near: at equal depth, as in two dimensions, beads come after sticks.
    order = np.argsort(depth, kind="stable")
    ax.add_collection(
        PolyCollection(
            [shapes[i] for i in order],
            facecolors=colors[order],
            edgecolors=_OUTLINE,
            linewidths=0.3,
            zorder=2,
        )
    )
    return scale


def typical_bond(structure: Float[np.ndarray, "n_atoms dim"], bonds: Int[np.ndarray, "n_bonds 2"]) -> float:
    """Give the median length of the bonds or, without any, of the steps from atom to atom."""
    pairs = bonds if len(bonds) else np.stack([np.arange(len(structure) - 1), np.arange(1, len(structure))], axis=1)
    lengths = np.linalg.norm(structure[pairs[:, 0]] - structure[pairs[:, 1]], axis=-1)
    return float(np.median(lengths)) if len(lengths) else 1.0


def _sticks(
    space: Float[np.ndarray, "n_atoms 3"], bonds: Int[np.ndarray, "n_bonds 2"], radius: float
) -> tuple[list, Float[np.ndarray, " n_sticks"], Int[np.ndarray, " n_sticks"]]:
    """Make two half sticks a bond, each with the color of its atom: polygons, depths and atoms."""
    atom = np.concatenate([bonds[:, 0], bonds[:, 1]])
    start, other = space[atom], space[np.concatenate([bonds[:, 1], bonds[:, 0]])]
    length = np.linalg.norm(other - start, axis=1, keepdims=True)
    seen = length[:, 0] > 2 * radius  # shorter ones are hidden by their own atoms
    atom, start, other, length = atom[seen], start[seen], other[seen], length[seen]
    # A stick starts where it leaves the ball, in space: one that points at the reader must not hide its atom.
    surface, middle = start + radius * (other - start) / length, (start + other) / 2
    along = middle[:, :2] - surface[:, :2]
    norm = np.linalg.norm(along, axis=1, keepdims=True)
    across = along[:, ::-1] * [-1, 1] / np.where(norm > 0, norm, 1) * (0.5 * _STICK_WIDTH * radius)
    begin = surface[:, :2]
    corners = np.stack([begin + across, begin - across, middle[:, :2] - across, middle[:, :2] + across], axis=1)
    return list(corners), (surface[:, 2] + middle[:, 2]) / 2, atom


def _faded(colors: Float[np.ndarray, "n 3"], depth: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
    """Mix colors with white, the more the farther."""
    span = np.ptp(depth)
    farness = (depth.max() - depth) / span if span > 0 else np.zeros_like(depth)
    return colors + (1 - colors) * (_FADE * farness[:, np.newaxis])
