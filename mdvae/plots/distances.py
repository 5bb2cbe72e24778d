"""Distances between atoms: how training and generated conformations are distributed."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from mdvae.plots.style import (
    BLUE,
    LEGEND_SIZE,
    LINE_WIDTH,
    VERMILION,
    Axes,
    Figure,
    label_axes,
    new_figure,
    quantity,
    unit_name,
)

__all__ = ["distance_marginals"]

_COLUMNS = 4
_HEADROOM = 1.25  # free space above the highest bar, for the number in the corner


def distance_marginals(
    training: Float[np.ndarray, "n_training n_atoms dim"],
    generated: Float[np.ndarray, "n_generated n_atoms dim"],
    pairs: Int[np.ndarray, "n_pairs 2"] | Sequence[Sequence[int]] | None = None,
    unit: str = "nm",
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw the distribution of distances between pairs of atoms, training against generated.

    The number in each panel is the Wasserstein-1 distance between the two samples (scipy.stats): the mean
    distance by which one sample must be moved to become the other.

    Parameters
    ----------
    training, generated
        Positions, shapes (n_training, n_atoms, dim) and (n_generated, n_atoms, dim), in `unit`.
    pairs
        Pairs of atoms, counted from 0, shape (n_pairs, 2). By default the first atom with the second and with
        those at a quarter, half and the end of the chain.
    unit
        Unit of length.
    names
        Names of the atoms, for the titles; by default their indices.

    Returns
    -------
    Figure
        A panel for each pair, four in a row.
    """
    chosen = _checked_pairs(pairs, training.shape[1])
    n_columns = min(_COLUMNS, len(chosen))
    n_rows = -(-len(chosen) // n_columns)
    figure = new_figure(columns=2 if n_columns > 2 else 1, height_mm=12 + 44 * n_rows)
    axes = np.ravel(figure.subplots(n_rows, n_columns, squeeze=False))
    for ax, (first, second) in zip(axes, chosen, strict=False):
        _draw_pair(ax, _distances(training, first, second), _distances(generated, first, second), unit)
        label_axes(ax, x=quantity("Distance", unit), title=_pair_title(first, second, names))
    for ax in axes[len(chosen) :]:
        ax.remove()
    for ax in axes[: len(chosen) : n_columns]:
        label_axes(ax, y=quantity("Density", unit, power=-1))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=LEGEND_SIZE)
    return figure


def _checked_pairs(pairs: Int[np.ndarray, "n_pairs 2"] | Sequence[Sequence[int]] | None, n_atoms: int) -> list:
    if n_atoms < 2:
        raise ValueError(f"a distance needs at least 2 atoms, got {n_atoms}")
    if pairs is None:
        return [(0, last) for last in sorted({1, max(1, n_atoms // 4), n_atoms // 2, n_atoms - 1})]
    chosen = [(int(first), int(second)) for first, second in pairs]
    if not chosen:
        raise ValueError("pairs must name at least one pair of atoms")
    for pair in chosen:
        if not all(0 <= atom < n_atoms for atom in pair):
            raise ValueError(f"pairs must lie within atoms 0 to {n_atoms - 1}, got {pair}")
    return chosen


def _distances(positions: Float[np.ndarray, "n n_atoms dim"], first: int, second: int) -> Float[np.ndarray, " n"]:
    return np.linalg.norm(np.asarray(positions[:, first] - positions[:, second], dtype=np.float64), axis=-1)


def _draw_pair(ax: Axes, training: Float[np.ndarray, " n"], generated: Float[np.ndarray, " m"], unit: str) -> None:
    from scipy.stats import wasserstein_distance

    edges = _bin_edges(training, generated)
    ax.stairs(_density(training, edges), edges, fill=True, color=BLUE, alpha=0.35, lw=0, label="training")
    ax.stairs(_density(generated, edges), edges, color=VERMILION, lw=LINE_WIDTH, label="generated")
    highest = max(_density(training, edges).max(), _density(generated, edges).max())
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(0, _HEADROOM * highest)
    distance = wasserstein_distance(training, generated)
    # "reduced units" would fill the panel; the scale below says it already.
    text = f"$W_1$ = {distance:.2g} {'' if unit == 'reduced' else unit_name(unit)}".rstrip()
    ax.text(0.98, 0.98, text, transform=ax.transAxes, ha="right", va="top", fontsize=LEGEND_SIZE)


def _bin_edges(training: Float[np.ndarray, " n"], generated: Float[np.ndarray, " m"]) -> Float[np.ndarray, " edges"]:
    # All training data, but of the generated not the rarest: one broken frame must not squeeze the rest.
    low, high = np.quantile(generated, [0.001, 0.999])
    low, high = min(low, training.min()), max(high, training.max())
    space = 0.03 * (high - low) or 0.05 * max(high, 1e-3)
    low, high = max(0.0, low - space), high + space
    # Freedman and Diaconis: the width that suits the spread and the number of samples, here of the fewer.
    spread = np.subtract(*np.percentile(training, [75, 25]))
    width = 2 * spread / min(len(training), len(generated)) ** (1 / 3) or (high - low) / 30
    return np.linspace(low, high, int(np.clip((high - low) / width, 20, 60)) + 1)


def _density(values: Float[np.ndarray, " n"], edges: Float[np.ndarray, " edges"]) -> Float[np.ndarray, " bins"]:
    """Fraction of all values per unit of length: what lies outside of the bins still counts."""
    return np.histogram(values, edges)[0] / (len(values) * np.diff(edges))


def _pair_title(first: int, second: int, names: Sequence[str] | None) -> str:
    if names is None:
        return f"atoms {first}–{second}"
    return f"{names[first]}–{names[second]}"
