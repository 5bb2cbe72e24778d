import jax
import jax.numpy as jnp
import mdtraj as md
import numpy as np
import pytest

from mdvae.geometry import angles, atoms_from_dihedrals, atoms_from_turns, dihedrals, distances, turns

# Precision that the process has: these tests run in 32-bit and in 64-bit.
DTYPE = jnp.zeros(()).dtype
TINY = 10 * float(jnp.finfo(DTYPE).eps) ** 0.8


def frame_of(rows):
    return jnp.asarray(rows, DTYPE)


def indices(*rows):
    return jnp.asarray(rows, jnp.int32)


# a bent chain in the xy-plane, its fourth atom above it
CORNER = [[2.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 3.0]]


def test_distances_and_angles_by_hand():
    frame = frame_of(CORNER)
    np.testing.assert_allclose(distances(frame, indices([0, 1], [2, 3])), [2, 3], atol=TINY)
    expected = [np.pi / 2, np.arctan(2), np.pi / 2]
    np.testing.assert_allclose(angles(frame, indices([0, 1, 2], [0, 2, 1], [3, 2, 1])), expected, atol=TINY)


def test_dihedral_by_hand():
    """Seen along the middle bond, the far bond is a right angle clockwise from the near one: +90 degrees."""
    frame = frame_of(CORNER)
    found = dihedrals(frame, indices([0, 1, 2, 3], [3, 2, 1, 0]))
    np.testing.assert_allclose(found, [np.pi / 2, np.pi / 2], atol=TINY)


PLANAR = {"left": ([0.0, 1.0], np.pi / 2), "right": ([0.0, -1.0], -np.pi / 2), "straight on": ([1.0, 0.0], 0.0)}
PLANAR |= {"half left": ([1.0, 1.0], np.pi / 4), "back": ([-0.5, 0.0], np.pi)}


@pytest.mark.parametrize("case", PLANAR)
def test_turn_by_hand(case):
    step, expected = PLANAR[case]
    frame = frame_of([[-1.0, 0.0], [0.0, 0.0], step])
    np.testing.assert_allclose(turns(frame, indices([2, 1, 0])), [expected], atol=TINY)


def test_agreement_with_mdtraj(rng):
    xyz = rng.normal(size=(20, 9, 3))
    trajectory = md.Trajectory(xyz, None)
    frames = jnp.asarray(trajectory.xyz, DTYPE)
    rows = np.array([rng.permutation(9)[:4] for _ in range(30)])
    measures = {
        2: (md.compute_distances, distances),
        3: (md.compute_angles, angles),
        4: (md.compute_dihedrals, dihedrals),
    }
    for width, (theirs, ours) in measures.items():
        chosen = rows[:, :width]
        expected = theirs(trajectory, chosen, periodic=False)
        found = jax.vmap(lambda frame, f=ours, c=chosen: f(frame, jnp.asarray(c)))(frames)
        turned = np.angle(np.exp(1j * (np.asarray(found) - expected)))
        np.testing.assert_allclose(turned, 0, atol=1e-4)


@pytest.mark.parametrize("measure", [dihedrals, turns])
def test_mirror_image_has_the_opposite_angles(measure, rng):
    width, dim = (4, 3) if measure is dihedrals else (3, 2)
    frame = frame_of(rng.normal(size=(7, dim)))
    rows = indices(*(rng.permutation(7)[:width] for _ in range(10)))
    np.testing.assert_allclose(measure(-frame if dim == 3 else frame * frame_of([[1, -1]]), rows),
                               -measure(frame, rows), atol=10 * TINY)  # fmt: skip


# -- there and back


def chain_references(n_atoms, dim):
    """Every atom by those before it."""
    return jnp.maximum(jnp.arange(n_atoms)[:, None] - jnp.arange(dim + 1)[None], 0)


def internal(frame, references):
    if frame.shape[1] == 2:
        return distances(frame, references[1:, :2]), turns(frame, references[2:])
    return (
        distances(frame, references[1:, :2]),
        angles(frame, references[2:, :3]),
        dihedrals(frame, references[3:]),
    )


def atoms(parts, references):
    return (atoms_from_turns if references.shape[1] == 3 else atoms_from_dihedrals)(*parts, references)


def all_distances(frame):
    frame = np.asarray(frame)
    return np.linalg.norm(frame[:, None] - frame[None], axis=-1)


@pytest.mark.parametrize("n_atoms", [2, 3, 4, 12])
@pytest.mark.parametrize("dim", [2, 3])
def test_there_and_back(dim, n_atoms, rng):
    """All distances return, and the sense of every turn."""
    frame, references = frame_of(rng.normal(size=(n_atoms, dim))), chain_references(n_atoms, dim)
    parts = jax.jit(internal)(frame, references)
    again = atoms(parts, references)
    np.testing.assert_allclose(all_distances(again), all_distances(frame), atol=100 * TINY)
    for part, found in zip(parts, internal(again, references), strict=True):
        np.testing.assert_allclose(np.exp(1j * np.asarray(found)), np.exp(1j * np.asarray(part)), atol=100 * TINY)
    np.testing.assert_array_equal(again[0], 0)
    np.testing.assert_allclose(again[1, 1:], 0, atol=TINY)


def test_references_may_be_siblings_and_come_in_any_order(rng):
    """A tetrahedral center, its atoms not in the order in which they are placed."""
    frame = frame_of(rng.normal(size=(5, 3)))
    references = indices([3, 0, 0, 0], [1, 3, 0, 0], [4, 3, 1, 0], [0, 3, 1, 4], [2, 3, 1, 4])
    again = atoms(internal(frame, references), references)
    np.testing.assert_allclose(all_distances(again), all_distances(frame), atol=100 * TINY)


# -- where geometry degenerates

LINES = {
    "along x": [[1.0, 0.0, 0.0]],
    "along a diagonal": [[1.0, 2.0, 3.0]],
    "in one point": [[0.0, 0.0, 0.0]],
    "tiny": [[1e-12, 0.0, 0.0]],
}


@pytest.mark.parametrize("case", LINES)
@pytest.mark.parametrize("dim", [2, 3])
def test_derivatives_are_finite_on_a_line(dim, case):
    line = frame_of(np.arange(5.0)[:, None] * np.array(LINES[case])[:, :dim])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(derivatives(line, chain_references(5, dim))))


@jax.jit
def derivatives(frame, references):
    """Of the angles, first and second, and of the atoms that are made of them."""

    def there(frame):
        return jnp.concatenate(internal(frame, references))

    back = jax.jacrev(lambda parts: atoms(parts, references))
    return jax.jacrev(there)(frame), jax.hessian(there)(frame), back(internal(frame, references))


def test_a_straight_chain_is_placed_with_its_lengths():
    """Its dihedral angles are not defined; whatever they are, the line comes out."""
    references = chain_references(6, 3)
    lengths = frame_of([1.0, 2.0, 3.0, 4.0, 5.0])
    line = atoms_from_dihedrals(lengths, jnp.full(4, jnp.pi, DTYPE), frame_of([0.3, -2.0, 1.0]), references)
    np.testing.assert_allclose(line[:, 0], np.cumsum([0, 1, 2, 3, 4, 5]), atol=20 * TINY)
    np.testing.assert_allclose(line[:, 1:], 0, atol=20 * TINY)
    # A bend behind the straight piece still has its length and its angle.
    bent = atoms_from_dihedrals(lengths, frame_of([np.pi, np.pi, np.pi, 2.0]), frame_of([0.3, -2.0, 1.0]), references)
    np.testing.assert_allclose(distances(bent, references[1:, :2]), lengths, rtol=10 * TINY)
    np.testing.assert_allclose(angles(bent, references[5:, :3]), [2.0], atol=10 * TINY)


def test_the_angle_gradient_of_a_dihedral():
    """Lifting the last atom of a flat chain by its lever turns the dihedral by one, up to the sign."""
    frame = frame_of([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 2.0, 0.0]])
    gradient = jax.grad(lambda x: dihedrals(x, indices([0, 1, 2, 3]))[0])(frame)
    np.testing.assert_allclose(gradient[3], [0, 0, 0.5], atol=TINY)
    np.testing.assert_allclose(np.sum(gradient, axis=0), 0, atol=TINY)
