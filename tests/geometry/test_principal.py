import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdvae.geometry import center, gyration_tensor, principal

DIMS = [2, 3]
axes_of = jax.jit(lambda *given: principal(*given)[0])
gap_of = jax.jit(lambda frame, weights: principal(frame, weights, jnp.zeros_like(frame))[1])


def system(dim, seed=0, n_atoms=7):
    """A frame of clearly different moments, centered, and its weights."""
    rng = np.random.default_rng(seed)
    weights = jnp.asarray(rng.uniform(1, 16, size=n_atoms), jnp.float32)
    spread = np.array([1.0, 0.5, 0.2])[:dim]
    turned = rng.normal(size=(n_atoms, dim)) * spread @ np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return center(jnp.asarray(turned, jnp.float32), weights), weights


def test_gyration_tensor_by_hand():
    """Masses 1 and 9, one apart, from their mass center: 0.9 and 0.1, so Rg is 0.3."""
    frame = jnp.array([[0.9, 0.0], [-0.1, 0.0]])
    np.testing.assert_allclose(gyration_tensor(frame, jnp.array([1.0, 9.0])), [[0.09, 0], [0, 0]], atol=1e-7)


@pytest.mark.parametrize("dim", DIMS)
def test_gyration_tensor_is_the_weighted_covariance(dim):
    frame, weights = system(dim)
    expected = np.cov(np.asarray(frame).T, aweights=np.asarray(weights), ddof=0)
    np.testing.assert_allclose(gyration_tensor(frame, weights), expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dim", DIMS)
def test_axes_are_a_proper_rotation_onto_descending_moments(dim, seed):
    frame, weights = system(dim, seed)
    rotation = np.asarray(axes_of(frame, weights, jnp.zeros_like(frame)))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(dim), atol=2e-6)
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=2e-6)
    moments = np.asarray(gyration_tensor(frame @ rotation.T, weights))
    exact = np.linalg.eigvalsh(np.asarray(gyration_tensor(frame, weights), np.float64))[::-1]
    np.testing.assert_allclose(moments, np.diag(exact), atol=2e-6)


@pytest.mark.parametrize("dim", DIMS)
def test_the_nearest_of_the_proper_flips_is_taken(dim):
    frame, weights = system(dim)
    flips = [f for f in np.ndindex(*(2,) * dim) if sum(f) % 2 == 0]
    assert len(flips) == {2: 2, 3: 4}[dim]
    laid = frame @ axes_of(frame, weights, jnp.zeros_like(frame)).T
    for flip in flips:
        reference = laid * (1.0 - 2.0 * jnp.asarray(flip, jnp.float32))[None]
        posed = frame @ axes_of(frame, weights, reference).T
        np.testing.assert_allclose(posed, reference, atol=3e-6)


def test_an_improper_reference_is_not_reached():
    """The mirror image of a chiral frame as reference: it is approached, never by a reflection."""
    frame, weights = system(3)
    mirrored = frame @ axes_of(frame, weights, jnp.zeros_like(frame)).T * jnp.array([[1.0, 1.0, -1.0]])
    rotation = axes_of(frame, weights, mirrored)
    assert np.linalg.det(rotation) > 0.999
    assert np.abs(frame @ rotation.T - mirrored).max() > 0.1


GAPS = {
    "line": ([[-1.0, 0.0], [1.0, 0.0]], 1.0),
    "square": ([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]], 0.0),
    "rectangle": ([[2.0, 1.0], [-2.0, 1.0], [2.0, -1.0], [-2.0, -1.0]], 0.6),
    "point": ([[0.0, 0.0], [0.0, 0.0]], 0.0),
    "octahedron": (np.vstack([np.eye(3), -np.eye(3)]), 0.0),
    "stretched octahedron": (np.vstack([np.diag([1, 2, 3]), -np.diag([1, 2, 3])]), 3 / 14),
}


@pytest.mark.parametrize("case", GAPS)
def test_gap_by_hand(case):
    points, expected = GAPS[case]
    # Up to six points by points without weight, so that one compilation serves all.
    frame = jnp.asarray(np.pad(points, ((0, 6 - len(points)), (0, 0))), jnp.float32)
    weights = jnp.asarray(np.arange(6) < len(points), jnp.float32)
    np.testing.assert_allclose(gap_of(frame, weights), expected, atol=1e-6)


@pytest.mark.parametrize("dim", DIMS)
def test_derivative_of_the_posed_frame_against_finite_differences(dim):
    frame, weights = system(dim, seed=2)
    laid = frame @ axes_of(frame, weights, jnp.zeros_like(frame)).T

    def posed(x):
        return jnp.sum(jnp.sin(x @ principal(x, weights64, reference)[0].T * 3.0))

    with jax.enable_x64(True):
        frame, weights64 = jnp.asarray(frame, jnp.float64), jnp.asarray(weights, jnp.float64)
        reference = jnp.asarray(laid, jnp.float64)
        value_and_gradient = jax.jit(jax.value_and_grad(posed))
        gradient = np.asarray(value_and_gradient(frame)[1])
        assert np.abs(gradient).max() > 0.1
        for i in np.ndindex(2, dim):
            step = np.zeros(frame.shape)
            step[i] = 1e-6
            difference = value_and_gradient(frame + step)[0] - value_and_gradient(frame - step)[0]
            np.testing.assert_allclose(gradient[i], difference / 2e-6, atol=1e-6)
