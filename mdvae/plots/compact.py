"""The best training frame beside the structure that a search found."""

from collections.abc import Sequence
from typing import SupportsFloat

import numpy as np
from jaxtyping import Float, Int

from mdvae.plots.beads import draw_beads, typical_bond
from mdvae.plots.projection import coordinate_labels, panel_pair, principal_view, project
from mdvae.plots.style import Figure, add_colorbar, label_axes, unit_name

__all__ = ["compact_structures"]

# Radius of a drawn bead over the typical bond. For the demo's bead-spring chain (bond 1/3, sigma 1/6) this is
# sigma / 2: beads that overlap in the picture overlap in the model.
_BEAD_RADIUS = 0.25


def compact_structures(
    best_training: Float[np.ndarray, "n_atoms dim"],
    optimized: Float[np.ndarray, "n_atoms dim"],
    bonds: Int[np.ndarray, "n_bonds 2"],
    values: Sequence[SupportsFloat] | Float[np.ndarray, " 2"],
    unit: str = "nm",
    observable: str = "radius of gyration",
    *,
    observable_unit: str | None = None,
) -> Figure:
    """Draw the best training frame beside the optimized structure, to the same scale.

    Both are centered. 3-D ones are each turned to their own principal directions, so that neither looks small
    for being seen from its end; what is near the reader hides what is far, and the far fades.

    Parameters
    ----------
    best_training, optimized
        Positions, shape (n_atoms, dim), dim 2 or 3, in `unit`.
    bonds
        Pairs of atoms, shape (n_bonds, 2).
    values
        The observable of the training frame and of the optimized structure.
    unit
        Unit of length.
    observable
        Name of the observable, for the titles.
    observable_unit
        Unit of the observable, empty for a pure number; by default `unit`.

    Returns
    -------
    Figure
        Two panels with the same limits and equal aspect, and a color scale along the chain.
    """
    value_unit = unit_name(unit if observable_unit is None else observable_unit)
    pages = [_on_own_axes(structure) for structure in (best_training, optimized)]
    radius = _BEAD_RADIUS * typical_bond(best_training, bonds)
    extent = np.concatenate(pages)[:, :2]
    figure, axes = panel_pair(np.concatenate([extent - radius, extent + radius]), right_mm=16)
    x_label, y_label = coordinate_labels(best_training.shape[1], unit)
    names = ("Best training frame", "Optimized structure")
    for ax, page, name, value in zip(axes, pages, names, values, strict=True):
        scale = draw_beads(ax, page, bonds, radius)
        label_axes(ax, x=x_label, title=f"{name}\n{observable} {float(value):.4g} {value_unit}".rstrip())
    label_axes(axes[0], y=y_label)
    add_colorbar(axes[-1], scale, "Atom index", integer=True)
    return figure


def _on_own_axes(structure: Float[np.ndarray, "n_atoms dim"]) -> Float[np.ndarray, "n_atoms dim"]:
    centered = structure - structure.mean(axis=0)
    return project(centered, principal_view(centered))
