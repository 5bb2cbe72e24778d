import jax.numpy as jnp
import numpy as np
import pytest

from mdvae.geometry import center, center_of_mass


def test_center_of_mass_by_hand():
    frame = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    np.testing.assert_allclose(center_of_mass(frame, jnp.array([1.0, 2.0, 1.0])), [0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(center_of_mass(frame, jnp.ones(3)), [1 / 3, 2 / 3], rtol=1e-6)


@pytest.mark.parametrize("dim", [2, 3])
def test_only_ratios_of_weights_matter(rng, dim):
    frame = jnp.asarray(rng.normal(size=(5, dim)), jnp.float32)
    weights = jnp.asarray(rng.uniform(1, 16, size=5), jnp.float32)
    np.testing.assert_allclose(center_of_mass(frame, weights), center_of_mass(frame, 1000 * weights), atol=1e-6)
    np.testing.assert_allclose(center_of_mass(frame, weights), np.average(frame, axis=0, weights=weights), atol=1e-6)


@pytest.mark.parametrize("dim", [2, 3])
def test_centered_frame_has_its_center_at_the_origin_and_its_shape_kept(rng, dim):
    frame = rng.normal(size=(6, dim)).astype(np.float32)
    weights = rng.uniform(1, 16, size=6).astype(np.float32)
    centered = np.asarray(center(jnp.asarray(frame), jnp.asarray(weights)))
    np.testing.assert_allclose(np.average(centered, axis=0, weights=weights), 0, atol=1e-6)
    np.testing.assert_allclose(centered - centered[0], frame - frame[0], atol=1e-6)


def test_many_atoms_far_from_the_origin_lose_no_digits(rng):
    """Coordinates at 50 nm are rounded to 4e-6 nm; centering must not add to that."""
    frame = (rng.normal(size=(5000, 3)) + 50).astype(np.float32)
    weights = rng.uniform(1, 16, size=5000).astype(np.float32)
    exact = np.average(frame.astype(np.float64), axis=0, weights=weights)
    np.testing.assert_allclose(center_of_mass(jnp.asarray(frame), jnp.asarray(weights)), exact, atol=5e-6)
    np.testing.assert_allclose(center(jnp.asarray(frame), jnp.asarray(weights)), frame - exact, atol=3e-6)
