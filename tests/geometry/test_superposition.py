import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mdvae.geometry import center, superpose, superposition_rotation

DIMS = [2, 3]
N_ATOMS = 6
rotation_of = jax.jit(superposition_rotation)
gap_of = jax.jit(lambda *args: superpose(*args)[1])


def kabsch(frame, reference, weights):
    """Textbook singular value decomposition in float64, independent of Horn's quaternion."""
    covariance = np.einsum("a,ai,aj->ij", *(np.asarray(x, np.float64) for x in (weights, frame, reference)))
    u, _, vt = np.linalg.svd(covariance)
    signs = np.ones(len(vt))
    signs[-1] = np.sign(np.linalg.det(u @ vt))
    return (vt.T * signs) @ u.T


def turn(dim, rng):
    matrix, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    matrix[:, 0] *= np.linalg.det(matrix)
    return matrix


def pair(dim, seed=0, noise=0.1):
    """Two similar frames in unlike poses, both centered, and weights."""
    rng = np.random.default_rng(seed)
    weights = jnp.asarray(rng.uniform(1, 16, size=N_ATOMS), jnp.float32)
    reference = rng.normal(size=(N_ATOMS, dim))
    frame = (reference + noise * rng.normal(size=(N_ATOMS, dim))) @ turn(dim, rng).T
    frame, reference = (center(jnp.asarray(x, jnp.float32), weights) for x in (frame, reference))
    return frame, reference, weights


def residual(frame, reference, weights, rotation):
    moved = np.asarray(frame, np.float64) @ np.asarray(rotation, np.float64).T
    return np.sum(np.asarray(weights)[:, None] * (moved - reference) ** 2)


@pytest.mark.parametrize("noise", [0.0, 0.1, 2.0])
@pytest.mark.parametrize("dim", DIMS)
def test_agrees_with_kabsch(dim, noise):
    for seed in range(10):
        frame, reference, weights = pair(dim, seed, noise)
        if gap_of(frame, reference, weights) < 0.01:  # random clouds may be hard to tell apart after any turn
            continue
        rotation = rotation_of(frame, reference, weights)
        np.testing.assert_allclose(rotation, kabsch(frame, reference, weights), atol=1e-4 if noise > 1 else 5e-6)
        np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=2e-6)


def test_agrees_with_scipy():
    for seed in range(5):
        frame, reference, weights = pair(3, seed)
        expected, _ = Rotation.align_vectors(reference, frame, weights)
        np.testing.assert_allclose(rotation_of(frame, reference, weights), expected.as_matrix(), atol=5e-6)


@pytest.mark.parametrize("dim", DIMS)
def test_weights_matter(dim):
    frame, reference, weights = pair(dim, noise=1.0)
    weighted = rotation_of(frame, reference, weights)
    plain = rotation_of(frame, reference, jnp.ones(N_ATOMS))
    assert residual(frame, reference, weights, weighted) < residual(frame, reference, weights, plain) - 1e-3


@pytest.mark.parametrize("dim", DIMS)
def test_displace_and_restore(dim, rng):
    frame, _, weights = pair(dim)
    matrix = jnp.asarray(turn(dim, rng), jnp.float32)
    np.testing.assert_allclose(rotation_of(frame @ matrix.T, frame, weights), matrix.T, atol=3e-6)


@pytest.mark.parametrize("dim", DIMS)
def test_a_half_turn_is_undone(dim):
    """Half a turn is as far as turns go; in the plane its cosine and sine are -1 and 0."""
    frame, _, weights = pair(dim)
    matrix = np.diag([-1.0, -1.0, 1.0][:dim])
    np.testing.assert_allclose(rotation_of(frame @ matrix, frame, weights), matrix, atol=3e-6)


def test_a_right_angle_is_the_known_matrix():
    frame = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [0.0, -0.5]])
    reference = jnp.array([[0.0, 1.0], [0.0, -1.0], [-0.5, 0.0], [0.5, 0.0]])
    np.testing.assert_allclose(rotation_of(frame, reference, jnp.ones(4)), [[0, -1], [1, 0]], atol=1e-6)


@pytest.mark.parametrize("dim", DIMS)
def test_chirality_survives(dim):
    """Onto its mirror image, where a reflection would fit exactly."""
    for seed in range(5):
        frame, _, weights = pair(dim, seed)
        mirror = frame * jnp.array([[1.0, 1.0, -1.0]])[:, 3 - dim :]
        rotation = rotation_of(frame, mirror, weights)
        np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=2e-6)
        best = residual(frame, mirror, weights, kabsch(frame, mirror, weights))
        assert best > 0.01
        np.testing.assert_allclose(residual(frame, mirror, weights, rotation), best, rtol=1e-4)


@given(seed=st.integers(0, 2**31), dim=st.sampled_from(DIMS))
@settings(deadline=None, max_examples=25, derandomize=True)
def test_superposed_frame_is_invariant_under_rigid_motion(seed, dim):
    rng = np.random.default_rng(seed)
    frame, reference, weights = pair(dim, seed)
    shift = jnp.asarray(10 * rng.normal(size=(1, dim)), jnp.float32)
    moved = center(frame @ jnp.asarray(turn(dim, rng), jnp.float32).T + shift, weights)
    expected = frame @ rotation_of(frame, reference, weights).T
    np.testing.assert_allclose(moved @ rotation_of(moved, reference, weights).T, expected, atol=2e-5)


LINE = np.outer([-2.0, -1.0, 0.5, 1.0, 1.5], [0.6, 0.0, 0.8])
FLAT = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, -0.5, 0.0]])
# Of a frame onto itself: the sum of the moments but the largest, as a share of all.
GAPS = {
    "line in space": (LINE, 0.0),
    "line in the plane": (LINE[:, :2], 1.0),
    "point": (np.zeros((4, 3)), 0.0),
    "point in the plane": (np.zeros((4, 2)), 0.0),
    "flat in space": (FLAT, 0.5 / 2.5),
    "sphere": (np.vstack([np.eye(3), -np.eye(3)]), 2 / 3),
    "plane": (FLAT[:, :2], 1.0),
}


def padded(points):
    """Centered, then up to six points by points without weight, so that one compilation serves all."""
    points = np.asarray(points) - np.mean(points, axis=0)
    frame = np.pad(points, ((0, N_ATOMS - len(points)), (0, 0)))
    return jnp.asarray(frame, jnp.float32), jnp.asarray(np.arange(N_ATOMS) < len(points), jnp.float32)


@pytest.mark.parametrize("case", GAPS)
def test_gap_by_hand(case):
    points, expected = GAPS[case]
    frame, weights = padded(points)
    np.testing.assert_allclose(gap_of(frame, frame, weights), expected, atol=1e-6)


def test_gap_is_positive_for_frames_in_general_position_and_knows_no_scale():
    for seed in range(10):
        for dim in DIMS:
            frame, reference, weights = pair(dim, seed)
            gap = float(gap_of(frame, reference, weights))
            assert 0.01 < gap <= 1 + 1e-6
            np.testing.assert_allclose(gap_of(100 * frame, reference / 100, 7 * weights), gap, rtol=1e-4)


def aligned(frame, reference, weights):
    return frame @ superposition_rotation(frame, reference, weights).T


def probe(frame, reference, weights):
    return jnp.sum(jnp.sin(3 * aligned(frame, reference, weights)))


@jax.jit
def value_and_derivatives(frame, reference, weights):
    """With its derivative in forward and in reverse mode."""
    arguments = frame, reference, weights
    return probe(*arguments), jax.jacfwd(probe)(*arguments), jax.grad(probe)(*arguments)


@pytest.mark.parametrize("dim", DIMS)
def test_gradient_of_the_aligned_frame_against_finite_differences(dim):
    with jax.enable_x64(True):
        frame, reference, weights = (jnp.asarray(x, jnp.float64) for x in pair(dim, seed=4))
        _, *gradients = value_and_derivatives(frame, reference, weights)
        for i in np.ndindex(2, dim):
            step = np.zeros(frame.shape)
            step[i] = 1e-6
            above, below = (value_and_derivatives(x, reference, weights)[0] for x in (frame + step, frame - step))
            for gradient in gradients:
                np.testing.assert_allclose(gradient[i], (above - below) / 2e-6, atol=1e-7)


def test_aligned_frame_does_not_change_when_the_frame_turns():
    """The derivative along a rigid turn vanishes: what makes an aligned coordinate a coordinate of shape."""
    frame, reference, weights = pair(3)
    spin = jnp.asarray([[0.0, -1.0, 0.5], [1.0, 0.0, -0.3], [-0.5, 0.3, 0.0]], frame.dtype)
    tangent = jax.jit(lambda x, change: jax.jvp(lambda x: aligned(x, reference, weights), (x,), (change,))[1])
    change = tangent(frame, frame @ spin.T)
    np.testing.assert_allclose(change, 0, atol=1e-5)


DEGENERATE = {
    "collapsed": np.zeros((5, 3)),
    "collapsed in the plane": np.zeros((5, 2)),
    "on a line": LINE,
    "on a coordinate axis": np.outer([-2.0, -1.0, 0.5, 1.0, 1.5], [1.0, 0.0, 0.0]),
    "on a line in the plane": LINE[:, :2],
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_where_the_turn_is_undefined_it_is_still_a_rotation_with_finite_derivatives(case, rng):
    frame, weights = padded(DEGENERATE[case])
    dim = frame.shape[1]
    for reference in (frame, center(jnp.asarray(rng.normal(size=frame.shape), jnp.float32), weights)):
        rotation = np.asarray(rotation_of(frame, reference, weights))
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(dim), atol=2e-6)
        np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=2e-6)
        assert all(np.isfinite(part).all() for part in value_and_derivatives(frame, reference, weights))


def test_single_precision_of_the_reference_costs_a_double_frame_nothing(rng):
    """A sum of a reference in single precision is 1e-7 off, which forces in an engine would show."""
    frame, reference = rng.normal(size=(64, 3)) + 3, rng.normal(size=(64, 3)).astype(np.float32)
    weights = rng.uniform(1, 16, 64).astype(np.float32)
    with jax.enable_x64(True):
        single = superpose(jnp.asarray(frame), jnp.asarray(reference), jnp.asarray(weights))[0]
        double = superpose(*(jnp.asarray(x, jnp.float64) for x in (frame, reference, weights)))[0]
    assert np.abs(single - double).max() <= 1e-13
