"""Whether a model copies its training frames, or leaves the region that they know."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mdvae.plots.comparison import (
    GENERATED,
    HELD_OUT,
    PER_BIN,
    TRAINING,
    corner_text,
    draw_filled,
    draw_outline,
    written,
)
from mdvae.plots.reconstruction import common_edges, shares
from mdvae.plots.style import Axes, Figure, figure_of, label_axes, legend_above, new_figure, quantity

if TYPE_CHECKING:
    from mdvae.evaluation.latent_space import LatentSpace
else:  # a figure should not import what makes the record
    LatentSpace = Any

__all__ = ["nearest_training"]

_HEADROOM = 1.45  # free space above the highest bar, for three lines in the corner


def nearest_training(record: LatentSpace, ax: Axes | None = None) -> Figure:
    """Draw how far generated, held-out and training structures are from the nearest training frame.

    Generated structures to the left of the held-out ones are copies of training frames, to the right of them they are
    like none. Training frames are compared with those far from them in time. The corner has the share of generated
    structures that are training frames, and the share of held-out frames that have a generated structure nearby.

    Parameters
    ----------
    record
        Its `nearest_generated`, `nearest_held_out` and `nearest_training`, in `unit`. Those that are empty, or not
        finite, are left out.
    ax
        Draw here instead of in a new figure.

    Returns
    -------
    Figure
        The new figure, or the one of `ax`.
    """
    samples = {
        name: values[np.isfinite(values)]
        for name, values in (
            ("held-out", record.nearest_held_out),
            ("training", record.nearest_training),
            ("generated", record.nearest_generated),
        )
    }
    filled = {name: values for name, values in samples.items() if len(values)}
    if not filled:
        raise ValueError("there are no distances to draw")
    if ax is None:
        ax = new_figure(columns=1, height_mm=58).subplots()
    edges = common_edges(*filled.values())
    heights = {name: shares(values, edges) for name, values in filled.items()}
    for name, values in heights.items():
        if name == "held-out":
            draw_filled(ax, values, edges, HELD_OUT, name)
        else:
            draw_outline(ax, values, edges, GENERATED if name == "generated" else TRAINING, name)
    ax.set_ylim(0, _HEADROOM * 100 * max(values.max() for values in heights.values()))
    ax.set_xlim(0, edges[-1])  # where copies are
    _say(ax, record)
    label_axes(ax, x=quantity("RMSD to the nearest training frame", record.unit), y=PER_BIN)
    legend_above(ax)
    return figure_of(ax)


def _say(ax: Axes, record: LatentSpace) -> None:
    rows = {
        "generated copies": record.copied,
        "held-out covered": record.coverage,
        "held-out far from training": record.out_of_distribution,
    }
    corner_text(ax, "\n".join(f"{name} {written(100 * share)} %" for name, share in rows.items() if np.isfinite(share)))
