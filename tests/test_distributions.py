import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mdvae.distributions import DiagonalNormal

CASES = {
    "one component": ([0.5], [0.0]),
    "several": ([0.0, -3.0, 10.0], [-1.0, 0.5, 2.0]),
    "very narrow": ([1.0, 1.0], [-8.0, 0.0]),
    "very wide": ([1.0, 1.0], [8.0, 0.0]),
}


def normal(mean, log_std):
    return DiagonalNormal(jnp.asarray(mean, jnp.float32), jnp.asarray(log_std, jnp.float32))


@pytest.mark.parametrize("case", CASES)
def test_log_density_agrees_with_scipy(case, rng):
    mean, log_std = map(np.asarray, CASES[case])
    for _ in range(5):
        x = (mean + 2 * np.exp(log_std) * rng.normal(size=len(mean))).astype(np.float32)
        expected = stats.norm.logpdf(x.astype(float), mean, np.exp(log_std)).sum()
        np.testing.assert_allclose(normal(mean, log_std).log_prob(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-3)


def test_density_integrates_to_one():
    grid = jnp.linspace(-12, 12, 301)
    points = jnp.stack(jnp.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    density = jnp.exp(jax.vmap(normal([1.0, -2.0], [0.3, -0.5]).log_prob)(points))
    np.testing.assert_allclose(jnp.sum(density) * (grid[1] - grid[0]) ** 2, 1, atol=1e-4)


def test_sample_moments(key):
    mean, log_std = CASES["several"]
    n, std = 20_000, np.exp(log_std)
    samples = np.asarray(jax.vmap(normal(mean, log_std).sample)(jax.random.split(key, n)))
    np.testing.assert_allclose(samples.mean(axis=0), mean, atol=4 * std.max() / np.sqrt(n))
    np.testing.assert_allclose((samples.mean(axis=0) - mean) / std, 0, atol=4 / np.sqrt(n))
    np.testing.assert_allclose(samples.std(axis=0) / std, 1, atol=4 / np.sqrt(2 * n))
    correlation = np.corrcoef(samples.T) - np.eye(3)
    np.testing.assert_allclose(correlation, 0, atol=4 / np.sqrt(n))


def test_samples_are_differentiable(key):
    """Reparametrized: the sample moves with the mean, and with the width in proportion to the noise."""
    mean, log_std = jnp.array([1.0, -2.0]), jnp.array([0.3, -0.5])
    by_mean, by_width = jax.jacrev(lambda m, s: DiagonalNormal(m, s).sample(key), (0, 1))(mean, log_std)
    np.testing.assert_allclose(by_mean, np.eye(2), atol=1e-6)
    np.testing.assert_allclose(by_width, np.diag(DiagonalNormal(mean, log_std).sample(key) - mean), atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_divergence_from_itself_is_zero(case):
    one = normal(*CASES[case])
    assert one.kl_divergence(one) == 0


def test_divergence_agrees_with_monte_carlo(key):
    one, other = normal([0.5, -1.0], [-0.5, 0.2]), normal([0.0, 0.3], [0.1, -0.3])
    samples = jax.vmap(one.sample)(jax.random.split(key, 20_000))
    differences = np.asarray(jax.vmap(lambda x: one.log_prob(x) - other.log_prob(x))(samples))
    error = differences.std() / np.sqrt(len(differences))
    assert abs(one.kl_divergence(other) - differences.mean()) < 4 * error
    assert abs(one.kl_divergence(other) - other.kl_divergence(one)) > 0.1


def test_divergence_by_hand():
    """One nat unit at a time: a shift of 1 costs 1/2, a width of e costs (e^2 - 3) / 2."""
    standard = normal([0.0], [0.0])
    np.testing.assert_allclose(normal([1.0], [0.0]).kl_divergence(standard), 0.5, rtol=1e-6)
    np.testing.assert_allclose(normal([0.0], [1.0]).kl_divergence(standard), (np.exp(2) - 3) / 2, rtol=1e-6)


def test_divergence_adds_over_components():
    one, other = normal([0.5, 0.5], [-0.5, -0.5]), normal([0.0, 0.0], [0.1, 0.1])
    half = normal([0.5], [-0.5]).kl_divergence(normal([0.0], [0.1]))
    np.testing.assert_allclose(one.kl_divergence(other), 2 * half, rtol=1e-6)


def test_unequal_shapes_are_refused():
    with pytest.raises((ValueError, TypeError)):
        normal([0.0, 1.0], [0.0])
