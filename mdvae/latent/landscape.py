"""Valleys of numbers on a grid, and the lowest passes between them.

Water rises over the grid: cells are taken from the lowest to the highest, each joins the pools that it touches, and
where two pools meet is the lowest pass between them. What is shallower than noise is not a valley of its own.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int

# Of a valley's lowest cell and of the cell at which it meets a deeper one, -1 if it never does: is it a valley at all?
Deep = Callable[[int, int], bool]


@dataclasses.dataclass(frozen=True, eq=False)
class Landscape:
    """Valleys, passes, and who drains where; cells are counted flat.

    Parameters
    ----------
    minima : (n_minima,)
        The lowest cell of each valley, the deepest first.
    passes : (n_minima, n_minima)
        The highest cell on the lowest way from one to another; -1 where there is none.
    valley : (n_cells,)
        Which valley each cell belongs to; -1 for cells without a number.
    """

    minima: Int[np.ndarray, " n_minima"]
    passes: Int[np.ndarray, "n_minima n_minima"]
    valley: Int[np.ndarray, " n_cells"]


class _Pool:
    """Cells under water that are connected: their lowest one, and those of the valleys that they hold."""

    def __init__(self, lowest: int) -> None:
        self.lowest, self.minima = lowest, [lowest]


def find_landscape(values: Float[np.ndarray, "*bins"], deep: Deep) -> Landscape:
    """Find the valleys that are deep enough. Cells that touch at a corner are neighbors.

    Parameters
    ----------
    values : (n_bins,) or (n_bins, n_bins)
        Cells that are not finite are no part of the grid.
    deep : callable
        Called with the lowest cell of each valley but the deepest, and with the pass to a deeper one.

    Returns
    -------
    Landscape
    """
    flat = values.ravel()
    order = np.argsort(flat, kind="stable")[: int(np.isfinite(flat).sum())]
    pool: dict[int, _Pool] = {}  # of each cell under water; of those that are merged, some of the cells
    drains = np.full(flat.size, -1)
    joined: dict[int, int] = {}
    passes: dict[tuple[int, int], int] = {}
    parent = np.arange(flat.size)

    def root(cell: int) -> int:
        while parent[cell] != cell:
            parent[cell] = cell = int(parent[parent[cell]])
        return cell

    for cell in order.tolist():
        wet = sorted((near for near in _neighbors(cell, values.shape) if drains[near] >= 0), key=flat.item)
        if not wet:
            drains[cell], pool[cell] = cell, _Pool(cell)
            continue
        drains[cell] = drains[wet[0]]
        # Of each pool that the cell touches, where it drains to: the lowest neighbor comes last, and stays.
        bank = {root(near): int(drains[near]) for near in reversed(wet)}
        elder, *others = sorted(bank, key=lambda one: flat[pool[one].lowest])
        parent[cell] = elder
        for younger in others:
            small, large = pool.pop(younger), pool[elder]
            parent[younger] = elder
            if len(small.minima) == 1 and not deep(small.lowest, cell):
                joined[small.lowest] = _last(joined, bank[elder])
                continue
            passes |= {pair: cell for pair in itertools.product(large.minima, small.minima)}
            large.minima += small.minima
    return _record(flat, sorted(pool.values(), key=lambda one: flat[one.lowest]), passes, drains, joined, deep)


def _record(
    flat: Float[np.ndarray, " n_cells"],
    pools: list[_Pool],
    passes: dict[tuple[int, int], int],
    drains: Int[np.ndarray, " n_cells"],
    joined: dict[int, int],
    deep: Deep,
) -> Landscape:
    """What is left when all is under water; pools that no way connects are valleys if they are deep."""
    kept = pools[0].minima + [
        minimum for one in pools[1:] if len(one.minima) > 1 or deep(one.lowest, -1) for minimum in one.minima
    ]
    minima = sorted(kept, key=lambda cell: flat[cell])
    place = {cell: i for i, cell in enumerate(minima)}
    between = np.full((len(minima), len(minima)), -1)
    for (a, b), cell in passes.items():
        if a in place and b in place:
            between[place[a], place[b]] = between[place[b], place[a]] = cell
    # Islands that are no valleys belong to none.
    valley = np.array([-1 if cell < 0 else place.get(_last(joined, cell), -1) for cell in drains.tolist()])
    return Landscape(np.array(minima), between, valley)


def _last(joined: dict[int, int], cell: int) -> int:
    """The valley that a valley is part of by now."""
    while cell in joined:
        cell = joined[cell]
    return int(cell)


def _neighbors(cell: int, shape: tuple[int, ...]) -> Iterator[int]:
    place = np.unravel_index(cell, shape)
    ranges = [range(max(0, int(i) - 1), min(n, int(i) + 2)) for i, n in zip(place, shape, strict=True)]
    for near in itertools.product(*ranges):
        flat = int(np.ravel_multi_index(near, shape))
        if flat != cell:
            yield flat
