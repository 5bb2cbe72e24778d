"""Molecules that a periodic box has split are made whole."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# A bond that stays this many times longer than the median bond in its nearest image is no bond: a gap
# in a chain, or two chains that a program has joined.
_IMPLAUSIBLE = 4.0
# A cell thinner than this many median bonds is a placeholder (1 Å, in many PDB files).
_DUMMY = 4.0
# Float64 numbers that one block of frames may take while the bonds are measured.
_BLOCK = 2_000_000
# More pieces than this are hardly one complex (water, ions): all are put beside the largest at once.
_MANY_PIECES = 200

Cells = Float[np.ndarray, "n_frames 3 3"]
Positions = Float[np.ndarray, "n_frames n_needed 3"]


@dataclass(frozen=True, eq=False)
class Molecules:
    """The molecules that the selected atoms belong to, as trees of bonds.

    Attributes
    ----------
    atom_indices : (n_needed,)
        The selected atoms and those that link them, index in the source, ascending.
    selected : (n_atoms,)
        Where among them the selected atoms are.
    parents, children : (n_edges,)
        A spanning forest of the bonds, from the roots outward.
    levels : tuple of int
        Where each generation of the forest ends among the edges.
    others : (n_others, 2)
        The bonds that close rings.
    """

    atom_indices: Int[np.ndarray, " n_needed"]
    selected: Int[np.ndarray, " n_atoms"]
    parents: Int[np.ndarray, " n_edges"]
    children: Int[np.ndarray, " n_edges"]
    levels: tuple[int, ...]
    others: Int[np.ndarray, "n_others 2"]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "atom_indices": self.atom_indices.tolist(),
            "selected": self.selected.tolist(),
            "parents": self.parents.tolist(),
            "children": self.children.tolist(),
            "levels": list(self.levels),
            "others": self.others.tolist(),
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Molecules":
        """Molecules back from plain data."""
        names = ("atom_indices", "selected", "parents", "children")
        arrays = {name: np.asarray(plain[name], np.int64) for name in names}
        others = np.asarray(plain["others"], np.int64).reshape(-1, 2)
        return cls(**arrays, levels=tuple(plain["levels"]), others=others)


def find_molecules(
    n_atoms: int, bonds: Int[np.ndarray, "n_bonds 2"], selected: Int[np.ndarray, " n_selected"]
) -> Molecules:
    """Find the molecules that the selected atoms belong to, as far as they link these atoms.

    Parameters
    ----------
    n_atoms : int
        Of the whole source.
    bonds : (n_bonds, 2)
        Atom indices in the source.
    selected : (n_selected,)
        Ascending atom indices.

    Returns
    -------
    Molecules
    """
    parents, children, levels = _forest(n_atoms, bonds, selected)
    wanted = np.zeros(n_atoms, bool)
    wanted[selected] = True
    for first, last in reversed(list(pairwise((0, *levels)))):
        # Branches without a selected atom say nothing about where the selected ones belong.
        wanted[parents[first:last][wanted[children[first:last]]]] = True
    kept = wanted[children]
    needed, place = np.flatnonzero(wanted), np.cumsum(wanted) - 1
    edges = place[np.stack([parents[kept], children[kept]], axis=1)]
    ends = np.cumsum([0, *kept])[list(levels)] if levels else []
    inside = place[bonds[wanted[bonds].all(axis=1)]]
    others = _without(np.sort(inside, axis=1), np.sort(edges, axis=1))
    return Molecules(needed, place[selected], edges[:, 0], edges[:, 1], tuple(int(end) for end in ends), others)


def _without(pairs: Int[np.ndarray, "n_pairs 2"], edges: Int[np.ndarray, "n_edges 2"]) -> np.ndarray:
    """Drop edges, duplicates and atoms bonded to themselves."""
    tree = {tuple(edge) for edge in edges.tolist()}
    rest = sorted({(a, b) for a, b in pairs.tolist() if a != b} - tree)
    return np.asarray(rest, np.int64).reshape(-1, 2)


def _forest(
    n_atoms: int, bonds: Int[np.ndarray, "n_bonds 2"], selected: Int[np.ndarray, " n_selected"]
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Grow a spanning forest, generation by generation, from one selected atom of each molecule."""
    links = coo_array((np.ones(len(bonds), np.int8), (bonds[:, 0], bonds[:, 1])), shape=(n_atoms, n_atoms))
    graph = (links + links.T).tocsr()
    _, label = connected_components(graph, directed=False)
    frontier = selected[np.unique(label[selected], return_index=True)[1]]
    seen = np.zeros(n_atoms, bool)
    seen[frontier] = True
    parents, children, levels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], []
    while len(frontier):
        parent = np.repeat(frontier, np.diff(graph.indptr)[frontier])
        child = np.concatenate([graph.indices[graph.indptr[a] : graph.indptr[a + 1]] for a in frontier])
        fresh = ~seen[child]
        child, first = np.unique(child[fresh], return_index=True)
        parents.append(parent[fresh][first].astype(np.int64))
        children.append(child.astype(np.int64))
        levels.append(len(child) + (levels[-1] if levels else 0))
        seen[child] = True
        frontier = child
    return np.concatenate(parents), np.concatenate(children), tuple(levels)


@dataclass
class Wholeness:
    """Counts of what making whole has met so far, over all frames of all trajectories.

    Attributes
    ----------
    n_made_whole : int
        Frames that were changed.
    n_broken : int
        Frames in which sound bonds are still too long: a molecule bonded to its own image.
    n_dummy : int
        Frames whose cell is a placeholder.
    n_split_without_bonds : int
        Frames in which atoms without bonds lie on both sides of the box.
    """

    n_made_whole: int = 0
    n_broken: int = 0
    n_dummy: int = 0
    n_split_without_bonds: int = 0
    _shortest: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    _n_long: np.ndarray = field(default_factory=lambda: np.zeros(0, int), repr=False)
    _typical: float = field(default=0.0, repr=False)

    @property
    def n_split_without_box(self) -> int:
        """Frames in which a bond is long that is sound in others, and no cell to explain it."""
        # A gap in a chain is long in every frame; a split comes and goes.
        split = self._n_long * (self._shortest < 0.5 * _IMPLAUSIBLE * self._typical)
        return int(np.max(split, initial=0))

    def note_boxless(self, lengths: Float[np.ndarray, "n_frames n_edges"]) -> None:
        """Remember how long each bond is in frames without a cell."""
        if not len(lengths):
            return
        if len(self._shortest) != lengths.shape[1]:
            self._shortest, self._n_long = np.full(lengths.shape[1], np.inf), np.zeros(lengths.shape[1], int)
            self._typical = float(np.median(lengths))
        np.minimum(self._shortest, lengths.min(axis=0), out=self._shortest)
        self._n_long += np.sum(lengths > _IMPLAUSIBLE * self._typical, axis=0)


def make_whole(positions: Positions, cells: Cells | None, molecules: Molecules, found: Wholeness) -> None:
    """Make molecules whole, in place; frames that need nothing are left as they are, bit for bit.

    Each bond of the forest is taken to its nearest image, which is exact where it is shorter than half of
    the thinnest width of the cell; the shifts add up along the tree. What is left (several molecules,
    pieces of a chain with gaps) is put beside its nearest neighbor.

    Parameters
    ----------
    positions : (n_frames, n_needed, 3), float32, nm
        The atoms `molecules.atom_indices`. Changed in place.
    cells : (n_frames, 3, 3), nm, optional
        Vectors of the cell in rows; zeros where a frame has none.
    molecules : Molecules
    found : Wholeness
        Counts what was met.
    """
    block = max(1, _BLOCK // (3 * positions.shape[1]))
    for first in range(0, len(positions), block):
        rows = slice(first, first + block)
        part = positions[rows]
        cell = np.zeros((len(part), 3, 3)) if cells is None else cells[rows].astype(np.float64)
        if len(molecules.parents):
            _make_block_whole(part, cell, molecules, found)
        else:
            found.n_split_without_bonds += _count_split(part[:, molecules.selected], cell)


def _make_block_whole(positions: Positions, cells: Cells, molecules: Molecules, found: Wholeness) -> None:
    """Repair the frames that have a cell, note the bonds of those that have none."""
    bonds = positions[:, molecules.children].astype(np.float64) - positions[:, molecules.parents]
    frames = np.flatnonzero(_spans_volume(cells))
    images, lengths = _nearest_images(bonds[frames], cells[frames])
    typical = np.median(lengths, axis=1)
    fits = _widths(cells[frames]).min(axis=1) > _DUMMY * typical
    boxless = np.ones(len(positions), bool)
    boxless[frames[fits]] = False
    found.n_dummy += int(np.sum(boxless & np.any(np.nan_to_num(cells) != 0, axis=(1, 2))))
    found.note_boxless(np.linalg.norm(bonds[boxless], axis=2))
    if fits.any():
        steps, lengths, typical = -images[fits], lengths[fits], typical[fits]
        _repair(positions, frames[fits], cells[frames[fits]], steps, lengths, typical, molecules, found)


def _repair(
    positions: Positions,
    frames: Int[np.ndarray, " n_usable"],
    cells: Cells,
    steps: np.ndarray,
    lengths: np.ndarray,
    typical: np.ndarray,
    molecules: Molecules,
    found: Wholeness,
) -> None:
    """Move atoms by whole cells in the frames that need it."""
    gaps = lengths > _IMPLAUSIBLE * typical[:, None]
    shifts = _accumulated(steps, gaps, molecules, positions.shape[1])
    work = positions[frames] + shifts @ cells
    beside = _gathered(work, cells, gaps, molecules)
    if beside is not None:
        shifts += beside
        work = positions[frames] + shifts @ cells
    moved = np.any(shifts != 0, axis=(1, 2))
    positions[frames[moved]] = work[moved].astype(np.float32)
    found.n_made_whole += int(moved.sum())
    found.n_broken += _count_broken(work, cells, typical, molecules)


def _spans_volume(cells: Cells) -> Bool[np.ndarray, " n_frames"]:
    """Whether three finite vectors span a volume."""
    numbers = np.nan_to_num(cells)
    edges = np.linalg.norm(numbers, axis=2).prod(axis=1)
    return np.isfinite(cells).all(axis=(1, 2)) & (edges > 0) & (np.abs(np.linalg.det(numbers)) > 1e-3 * edges)


def _widths(cells: Cells) -> Float[np.ndarray, "n_frames 3"]:
    """Distances between opposite faces of the cell."""
    return 1.0 / np.linalg.norm(np.linalg.inv(cells), axis=1)


def _nearest_images(vectors: np.ndarray, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Whole cells to subtract for the nearest image, and the length that is left."""
    fractions = vectors @ np.linalg.inv(cells)
    images = np.rint(fractions)
    return images, np.linalg.norm((fractions - images) @ cells, axis=2)


def _accumulated(steps: np.ndarray, gaps: np.ndarray, molecules: Molecules, n_atoms: int) -> np.ndarray:
    """Cells to add to each atom: the sum over the bonds from its root, or from the last gap."""
    shifts = np.zeros((len(steps), n_atoms, 3))
    if not steps.any():
        return shifts
    for level in _levels(molecules):
        inherited = shifts[:, molecules.parents[level]] + steps[:, level]
        shifts[:, molecules.children[level]] = np.where(gaps[:, level, None], 0.0, inherited)
    return shifts


def _levels(molecules: Molecules) -> Iterator[slice]:
    """Edges of one generation after another."""
    first = 0
    for last in molecules.levels:
        yield slice(first, last)
        first = last


def _gathered(
    work: np.ndarray, cells: Cells, gaps: np.ndarray, molecules: Molecules
) -> Float[np.ndarray, "n_frames n_needed 3"] | None:
    """Cells to add to each atom so that the pieces lie side by side, for each pattern of gaps."""
    doubtful = np.flatnonzero(gaps.any(axis=0))
    if not len(doubtful) and len(molecules.parents) == work.shape[1] - 1:
        return None
    shifts = np.zeros(work.shape)
    patterns, which = np.unique(gaps[:, doubtful], axis=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        sound = np.ones(len(molecules.parents), bool)
        sound[doubtful[pattern]] = False
        label = _pieces(work.shape[1], molecules.parents[sound], molecules.children[sound])
        if label.max() > 0:
            frames = np.flatnonzero(which.ravel() == index)
            shifts[frames] = _side_by_side(_centers(work[frames], label), cells[frames], label)[:, label]
    return shifts


def _pieces(n_atoms: int, start: np.ndarray, end: np.ndarray) -> Int[np.ndarray, " n_atoms"]:
    """Label each atom with the number of its piece."""
    links = coo_array((np.ones(len(start), np.int8), (start, end)), shape=(n_atoms, n_atoms))
    return connected_components(links, directed=False)[1]


def _centers(positions: np.ndarray, label: np.ndarray) -> Float[np.ndarray, "n_frames n_pieces 3"]:
    """Geometric center of each piece."""
    order = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.diff(label[order], prepend=-1))
    return np.add.reduceat(positions[:, order], starts, axis=1) / np.bincount(label)[:, None]


def _side_by_side(centers: np.ndarray, cells: Cells, label: np.ndarray) -> np.ndarray:
    """Cells to add to each piece: the largest stays, the others join one by one, the nearest first.

    Joining the nearest piece, and not always the largest, keeps a long row of pieces in order.
    """
    frames, n_pieces = np.arange(len(centers)), centers.shape[1]
    centers, shifts = centers.copy(), np.zeros_like(centers)
    distance, image = np.full(centers.shape[:2], np.inf), np.zeros_like(centers)
    newest = np.full(len(centers), np.argmax(np.bincount(label)))
    placed = np.zeros(centers.shape[:2], bool)
    if n_pieces > _MANY_PIECES:
        return -_nearest_images(centers - centers[frames, newest][:, None], cells)[0]
    for _ in range(n_pieces - 1):
        placed[frames, newest] = True
        images, lengths = _nearest_images(centers - centers[frames, newest][:, None], cells)
        closer = ~placed & (lengths < distance)
        distance, image = np.where(closer, lengths, distance), np.where(closer[..., None], images, image)
        newest = np.argmin(np.where(placed, np.inf, distance), axis=1)
        shifts[frames, newest] = -image[frames, newest]
        centers[frames, newest] -= (image[frames, newest][:, None] @ cells)[:, 0]
    return shifts


def _count_broken(work: np.ndarray, cells: Cells, typical: np.ndarray, molecules: Molecules) -> int:
    """Frames in which a bond is long although its nearest image is sound."""
    if not len(molecules.others):
        return 0
    bonds = work[:, molecules.others[:, 1]] - work[:, molecules.others[:, 0]]
    limit = _IMPLAUSIBLE * typical[:, None]
    long = (np.linalg.norm(bonds, axis=2) > limit) & (_nearest_images(bonds, cells)[1] <= limit)
    return int(long.any(axis=1).sum())


def _count_split(positions: np.ndarray, cells: Cells) -> int:
    """Frames whose widest empty slab lies between the atoms, not around them: they look wrapped.

    Along each edge of the cell, positions are fractions on a circle. A whole molecule leaves its widest
    gap where the ends of the line meet; a wrapped one leaves it inside.
    """
    real = np.abs(np.linalg.det(np.nan_to_num(cells))) > 0
    if positions.shape[1] < 2 or not real.any():
        return 0
    fractions = positions[real].astype(np.float64) @ np.linalg.inv(cells[real])
    fractions.sort(axis=1)
    around = 1.0 - (fractions[:, -1] - fractions[:, 0])
    inside = np.diff(fractions, axis=1).max(axis=1)
    # Atoms spread over more than a cell were not wrapped into it.
    return int(((around >= 0) & (inside > around)).any(axis=1).sum())
