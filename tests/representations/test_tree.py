import numpy as np
import pytest

from mdvae.representations import references


def still(frame):
    """The same structure in all of a few frames."""
    return np.repeat(np.asarray(frame, np.float32)[None], 3, axis=0)


def chain(n_atoms):
    return np.column_stack([np.arange(n_atoms - 1), np.arange(1, n_atoms)])


def zigzag(n_atoms, dim=3):
    """Bent chain; in space with a twist."""
    i = np.arange(n_atoms)
    return np.column_stack([i, i % 2, i * (i % 3)])[:, :dim] * 0.5


def check(rows, n_atoms, dim):
    """Every atom is placed once, with different references that have been placed before it."""
    assert rows.shape == (n_atoms, dim + 1)
    assert sorted(rows[:, 0]) == list(range(n_atoms))
    for i, row in enumerate(rows):
        needed = row[1 : min(i, dim) + 1]
        assert set(needed) <= set(rows[:i, 0])
        assert len(set(needed)) == len(needed)


def test_a_chain_by_hand():
    """From its middle outwards; the first two neighbors of the middle are the frame of reference of both halves."""
    rows = references(chain(7), still(zigzag(7)))
    middle = [[3, 3, 3, 3], [2, 3, 3, 3], [4, 3, 2, 3]]
    np.testing.assert_array_equal(rows, [*middle, [1, 2, 3, 4], [5, 4, 3, 2], [0, 1, 2, 3], [6, 5, 4, 3]])


def test_a_chain_in_the_plane_by_hand():
    rows = references(chain(5), still(zigzag(5, 2)))
    np.testing.assert_array_equal(rows, [[2, 2, 2], [1, 2, 2], [3, 2, 1], [0, 1, 2], [4, 3, 2]])


def test_further_children_are_measured_against_the_first():
    """Chirality: of the three branches at atom 4, the longest is the first, and turns the two others with it."""
    links = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 6], [4, 7], [4, 8], [0, 9], [9, 10]])
    frame = np.random.default_rng(0).normal(size=(11, 3))
    rows = {row[0]: list(row[1:]) for row in references(links, still(frame))}
    assert rows[5][0] == rows[7][0] == rows[8][0] == 4
    assert rows[5][1:] == [3, 2]
    assert rows[7][1:] == rows[8][1:] == [3, 5]


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("n_atoms", [2, 3, 4, 50])
def test_any_tree_with_rings_and_pieces(n_atoms, dim, rng):
    frames = rng.normal(size=(5, n_atoms, dim)).astype(np.float32)
    for n_links in (0, n_atoms // 2, n_atoms, 2 * n_atoms):
        links = rng.integers(n_atoms, size=(n_links, 2))
        check(references(links[links[:, 0] != links[:, 1]], frames), n_atoms, dim)


def test_a_ring_is_cut_opposite_to_its_root():
    turn = np.linspace(0, 2 * np.pi, 7)[:6]
    ring = np.concatenate([chain(6), [[0, 5]]])
    rows = references(ring, still(np.column_stack([np.cos(turn), np.sin(turn), 0 * turn])))
    check(rows, 6, 3)
    # No way from the root is longer than three bonds.
    depth = {rows[0, 0]: 0}
    for atom, parent, *_ in rows[1:]:
        depth[atom] = depth[parent] + 1
    assert max(depth.values()) == 3


def test_pieces_are_joined_where_they_are_closest():
    frame = np.array([[0.0, 0, 0], [1, 0.3, 0], [2, 0, 0], [2.2, 1, 0.1], [9, 1.3, 0], [9, 2, 0]])
    rows = references(np.array([[0, 1], [1, 2], [3, 4], [4, 5]]), still(frame))
    check(rows, 6, 3)
    assert {frozenset(row) for row in rows[1:, :2]} >= {frozenset({2, 3})}


def sines(frame, rows):
    """Of the angles at the parent and at the grandparent, in every quadruple."""
    a, p, g, r = frame[rows[3:].T]
    normal = [np.cross(u, v) for u, v in ((p - g, a - p), (p - g, r - g))]
    lengths = [np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1) for u, v in ((p - g, a - p), (p - g, r - g))]
    return [np.linalg.norm(n, axis=1) / length for n, length in zip(normal, lengths, strict=True)]


def test_straight_pieces_are_no_reference():
    """Like but-2-yne between two bent ends: every dihedral angle is taken about a line with something off it."""
    frame = np.array([[-1, 1, 1], [-1, 1, 0], [0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [4, 1, 0], [4, 1, 1.0]])
    rows = references(chain(8), still(frame))
    check(rows, 8, 3)
    _, at_grandparent = sines(frame, rows)
    assert at_grandparent.min() > 0.3


def test_a_straight_middle_is_not_the_root():
    frame = zigzag(9)
    frame[3:6] = [[0, 0, 0], [1, 0, 0], [2, 0, 0]]
    frame[:3] += frame[3] - [2, 0.5, 0] - frame[2] + [1, 1, 0]
    frame[6:] += frame[5] + [1, 1, 0] - frame[6]
    rows = references(chain(9), still(frame))
    assert rows[0, 0] in (3, 5)
    u, v = frame[rows[1, 0]] - frame[rows[0, 0]], frame[rows[2, 0]] - frame[rows[0, 0]]
    assert np.linalg.norm(np.cross(u, v)) > 0.3 * np.linalg.norm(u) * np.linalg.norm(v)


def test_a_line_has_references_all_the_same():
    check(references(chain(6), still(np.arange(6)[:, None] * np.ones(3))), 6, 3)


def test_of_several_branches_one_that_is_off_the_line_is_the_first():
    """Atom 4 carries the most, but stands straight behind the bond from 2 to 3; atom 5 spans a plane with it."""
    frame = np.random.default_rng(0).normal(size=(11, 3))
    frame[[2, 3, 4, 5]] = [[0, 0, 0], [2, 0, 0], [4, 0, 0], [2, 1, 1]]
    links = np.array([[10, 9], [9, 8], [8, 0], [0, 1], [1, 2], [2, 3], [3, 4], [3, 5], [4, 6], [6, 7]])
    rows = {row[0]: list(row[1:]) for row in references(links, still(frame))}
    assert rows[4] == [3, 2, 5]
    assert rows[5][:2] == [3, 2]
    assert rows[5][2] != 4
