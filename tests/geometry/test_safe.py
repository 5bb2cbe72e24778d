import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdvae.geometry.safe import safe_angle, safe_norm, safe_sqrt


def test_values(rng):
    x = jnp.asarray(rng.normal(size=(5, 3)), jnp.float32)
    np.testing.assert_allclose(safe_norm(x), np.linalg.norm(x, axis=1), rtol=1e-6)
    np.testing.assert_allclose(safe_norm(x, axis=0), np.linalg.norm(x, axis=0), rtol=1e-6)
    assert safe_norm(x, keepdims=True).shape == (5, 1)
    np.testing.assert_array_equal(safe_sqrt(jnp.array([-1e-9, 0.0, 4.0])), [0.0, 0.0, 2.0])


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_norm_derivatives_vanish_at_zero(dim):
    zero = jnp.zeros(dim)
    assert safe_norm(zero) == 0
    np.testing.assert_array_equal(jax.grad(safe_norm)(zero), 0)
    np.testing.assert_array_equal(jax.hessian(safe_norm)(zero), 0)
    np.testing.assert_array_equal(jax.jacrev(jax.jacrev(safe_norm))(zero), 0)


def test_norm_derivatives_elsewhere():
    """By hand: the gradient is x / r, the Hessian (1 - x x^T / r^2) / r."""
    x = jnp.array([3.0, 0.0, 4.0])
    np.testing.assert_allclose(jax.grad(safe_norm)(x), x / 5, rtol=1e-6)
    np.testing.assert_allclose(jax.hessian(safe_norm)(x), (np.eye(3) - np.outer(x, x) / 25) / 5, atol=1e-6)


def test_sqrt_derivatives_at_zero():
    assert jax.grad(safe_sqrt)(0.0) == 0
    assert jax.grad(jax.grad(safe_sqrt))(0.0) == 0


ANGLES = {
    "right, 2-D": ([1, 0], [0, 3], np.pi / 2),
    "clockwise is not negative": ([1, 0], [1, -1], np.pi / 4),
    "parallel": ([1, 2, 3], [2, 4, 6], 0),
    "opposite": ([1, 2, 3], [-1, -2, -3], np.pi),
    "120 degrees, 3-D": ([1, 0, 0], [-0.5, 0, np.sqrt(0.75)], 2 * np.pi / 3),
    "tiny, where an arc cosine sees nothing": ([1, 0], [1, 1e-5], 1e-5),
    "zero vector": ([0, 0], [1, 0], 0),
}


@pytest.mark.parametrize("case", ANGLES)
def test_angle(case):
    u, v, expected = ANGLES[case]
    u, v = jnp.asarray(u, float), jnp.asarray(v, float)
    np.testing.assert_allclose(safe_angle(u, v), expected, rtol=1e-6, atol=1e-6 if expected == 0 else 0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(angle_derivatives(u, v)))


@jax.jit
def angle_derivatives(u, v):
    """First, both ways, and second."""
    kinds = (jax.jacfwd, jax.jacrev, jax.hessian)
    return [kind(safe_angle, argnums=(0, 1))(u, v) for kind in kinds]


def test_angle_gradient():
    """Turning v by a small angle away from u changes the angle by just that, per unit length of v."""
    u, v = jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0])
    np.testing.assert_allclose(jax.grad(safe_angle, 1)(u, v), [-0.5, 0.0], atol=1e-6)
