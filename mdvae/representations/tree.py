"""Which atoms an atom is measured against: a spanning tree of the molecule, from its middle outwards."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components
from scipy.spatial import KDTree

Coordinates = Float[np.ndarray, "n_frames n_atoms dim"]
Links = Int[np.ndarray, "_ 2"]

# Three atoms span a plane well if the sine of their angle is at least this on average: some 17 degrees off the line.
_BENT = 0.3
# Frames on which that average is taken.
_SAMPLE = 200


def references(links: Links, coordinates: Coordinates) -> Int[np.ndarray, "n_atoms n_references"]:
    """Atoms in the order in which they can be placed, each with those that it is measured against.

    The parent of an atom is its neighbor on the way to the middle of the molecule, so that lever arms are short; the
    grandparent is the parent's. In space a dihedral angle needs a third atom. For the first child of an atom that is
    the parent of the grandparent; for the other children it is the first one, so that chirality is a narrow angle of
    its own, and branches turn together. Where three of these atoms lie nearly on a line, others are taken.

    Parameters
    ----------
    links : (n_links, 2)
        What is bonded. Rings are cut; components are joined where they are closest in the mean structure.
    coordinates : (n_frames, n_atoms, dim), at least two atoms
        Posed frames, to tell what is close, and what lies on a line.

    Returns
    -------
    (n_atoms, dim + 1), int32
        In each row an atom and its `dim` references, as `geometry.atoms_from_dihedrals` and `atoms_from_turns` take
        them. Where the first rows have none, the first atom stands.
    """
    frames = coordinates[np.unique(np.linspace(0, len(coordinates) - 1, _SAMPLE).astype(int))].astype(np.float64)
    graph = _connected(links, coordinates.mean(axis=0, dtype=np.float64))
    root = _root(graph, frames)
    outwards, parent = breadth_first_order(graph, root, directed=False)
    children = _children(frames, outwards, parent)
    order = [root]
    for atom in order:
        order += children[atom]
    rows = [_row(frames, atom, root, parent, children) for atom in order]
    return np.array(rows, np.int32)[:, : coordinates.shape[2] + 1]


def _connected(links: Links, mean: Float[np.ndarray, "n_atoms dim"]) -> csr_array:
    """Graph of the links, and of one link more for every component but one: the shortest to what is joined already."""
    n_atoms = len(mean)
    label = np.asarray(connected_components(_graph(links, n_atoms), directed=False)[1])
    joined, added = label == label[0], []
    while not joined.all():
        inside, outside = np.flatnonzero(joined), np.flatnonzero(~joined)
        distance, nearest = map(np.asarray, KDTree(mean[inside]).query(mean[outside]))
        closest = int(np.argmin(distance))
        added.append((inside[nearest[closest]], outside[closest]))
        joined |= label == label[outside[closest]]
    return _graph(np.concatenate([links, np.array(added, np.int64).reshape(-1, 2)]), n_atoms)


def _graph(links: Links, n_atoms: int) -> csr_array:
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(n_atoms, n_atoms)).tocsr()
    return csr_array(graph + graph.T)


def _root(graph: csr_array, frames: Coordinates) -> int:
    """Atom nearest to the middle of the longest of all shortest ways that does not lie straight between neighbors.

    About a straight middle nothing could be turned.
    """
    start, _ = breadth_first_order(graph, 0, directed=False)
    outwards, before = breadth_first_order(graph, start[-1], directed=False)
    way = [int(outwards[-1])]
    while way[-1] != start[-1]:
        way.append(int(before[way[-1]]))
    middle = (len(way) - 1) / 2
    candidates = [way[i] for i in sorted(range(len(way)), key=lambda i: abs(i - middle))]

    def bent(atom: int) -> bool:
        first, *others = graph.indices[graph.indptr[atom] : graph.indptr[atom + 1]].tolist()
        return any(_bend(frames, first, atom, other) >= _BENT for other in others)

    return next(filter(bent, candidates), candidates[0])


def _children(frames: Coordinates, outwards: np.ndarray, parent: np.ndarray) -> list[list[int]]:
    """Children of every atom; first the one that carries the most among those that span a plane with what is before.

    Of the root it is the first two that span it.
    """
    n_below, root = np.ones(len(parent), np.int64), int(outwards[0])
    children: list[list[int]] = [[] for _ in parent]
    for atom in outwards[:0:-1]:
        n_below[parent[atom]] += n_below[atom]
        children[parent[atom]].append(int(atom))
    for atom, found in enumerate(children):
        found.sort(key=lambda child: (-n_below[child], child))
        fixed = 1 if atom == root else 0
        if len(found) > fixed + 1:
            before = found[0] if atom == root else int(parent[atom])
            second = _first_bent(frames, before, atom, found[fixed:])
            found.remove(second)
            found.insert(fixed, second)
    return children


def _row(frames: Coordinates, atom: int, root: int, parent: np.ndarray, children: list[list[int]]) -> list[int]:
    """An atom, its parent, its grandparent, and the third reference of its dihedral angle; the root where it has none.

    The root's children have no grandparent: its first and its second child take the places of the two last.
    """
    if atom == root:
        return [root] * 4
    if parent[atom] == root:
        siblings = children[root]
        return [atom, root, *[[root, root], [siblings[0], root], siblings[:2]][min(siblings.index(atom), 2)]]
    above, siblings = int(parent[atom]), children[int(parent[atom])]
    top = int(parent[above])
    if atom != siblings[0]:
        return [atom, above, top, siblings[0]]
    further = _ancestors(top, root, parent)
    candidates = [*further[:1], *children[top], *further[1:], *children[root][:2]]
    candidates = [other for other in dict.fromkeys(candidates) if other not in (above, top)]
    return [atom, above, top, _first_bent(frames, above, top, candidates)]


def _ancestors(atom: int, root: int, parent: np.ndarray) -> list[int]:
    found = []
    while atom != root:
        atom = int(parent[atom])
        found.append(atom)
    return found


def _first_bent(frames: Coordinates, first: int, vertex: int, candidates: Sequence[int]) -> int:
    """First of the candidates that is well off the line through two atoms; the one farthest off it if none is."""
    bends = []
    for other in candidates:
        bends.append(_bend(frames, first, vertex, other))
        if bends[-1] >= _BENT:
            return other
    return candidates[int(np.argmax(bends))]


def _bend(frames: Coordinates, first: int, vertex: int, last: int) -> float:
    """Mean sine of an angle; an atom on top of the vertex counts as lying on the line."""
    u, v = frames[:, first] - frames[:, vertex], frames[:, last] - frames[:, vertex]
    squares = (u**2).sum(axis=1) * (v**2).sum(axis=1)
    cosine_squared = (u * v).sum(axis=1) ** 2 / np.where(squares > 0, squares, 1)
    return float(np.sqrt(np.clip(1 - cosine_squared, 0, 1) * (squares > 0)).mean())
