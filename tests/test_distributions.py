import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mdvae.distributions import DiagonalNormal, LowRankNormal

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


# -- diagonal plus low rank

LOW_RANK = {
    "one component": (1, 1, 1.0),
    "rank one": (5, 1, 1.0),
    "fewer columns than components": (30, 16, 3.0),
    "as many": (12, 12, 1.0),
    "more": (3, 7, 1.0),
    "columns a thousand times the rest": (30, 16, 1000.0),
    "almost nothing shared": (8, 3, 1e-6),
}


def low_rank(n, rank, size, rng):
    """Distribution in float32, and its mean and covariance in float64."""
    mean, std, factor = rng.normal(size=n), np.exp(0.5 * rng.normal(size=n)), size * rng.normal(size=(n, rank))
    one = LowRankNormal(*(jnp.asarray(part, jnp.float32) for part in (mean, np.log(std), factor)))
    mean, log_std, factor = (np.asarray(part, np.float64) for part in (one.mean, one.log_std, one.factor))
    return one, mean, np.diag(np.exp(2 * log_std)) + factor @ factor.T


@pytest.mark.parametrize("case", LOW_RANK)
def test_low_rank_log_density_agrees_with_scipy(case, rng):
    one, mean, covariance = low_rank(*LOW_RANK[case], rng)
    full = stats.multivariate_normal(mean, covariance)
    x = full.rvs(5, random_state=1).reshape(5, -1).astype(np.float32)
    densities = jax.vmap(one.log_prob)(jnp.asarray(x))
    np.testing.assert_allclose(densities, full.logpdf(x.astype(float)).reshape(-1), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("case", LOW_RANK)
def test_low_rank_gradient_agrees_with_the_formula(case, rng):
    """By U: (a aᵀ - C⁻¹) U with a = C⁻¹ (x - m); by the mean: a itself. In float64."""
    one, mean, covariance = low_rank(*LOW_RANK[case], rng)
    x = np.random.default_rng(2).multivariate_normal(mean, covariance).astype(np.float32)
    gradient = jax.grad(lambda d: d.log_prob(jnp.asarray(x)))(one)
    inverse = np.linalg.inv(covariance)
    a = inverse @ (x - mean)
    for found, expected in ((gradient.mean, a), (gradient.factor, (np.outer(a, a) - inverse) @ np.asarray(one.factor))):
        np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


def test_low_rank_second_derivative_agrees_with_the_formula(rng):
    """By the mean: minus the inverse covariance. The closed form of the first derivative is itself differentiable."""
    one, mean, covariance = low_rank(5, 2, 1.0, rng)
    hessian = jax.hessian(lambda m: LowRankNormal(m, one.log_std, one.factor).log_prob(jnp.zeros(5)))(one.mean)
    np.testing.assert_allclose(hessian, -np.linalg.inv(covariance), atol=1e-4)

    def by_size(t):
        return LowRankNormal(one.mean, one.log_std, t * one.factor).log_prob(jnp.zeros(5))

    def exact(t):
        own, factor = np.exp(2 * np.asarray(one.log_std, float)), t * np.asarray(one.factor, float)
        return stats.multivariate_normal(mean, np.diag(own) + factor @ factor.T).logpdf(np.zeros(5))

    curvature = (exact(1 + 1e-3) - 2 * exact(1.0) + exact(1 - 1e-3)) / 1e-6
    np.testing.assert_allclose(jax.grad(jax.grad(by_size))(1.0), curvature, rtol=1e-3)


def test_with_nothing_shared_it_is_the_diagonal_one(rng):
    mean, log_std = jnp.array([0.0, -3.0, 10.0]), jnp.array([-1.0, 0.5, 2.0])
    x = jnp.asarray(rng.normal(size=3), jnp.float32)
    expected = DiagonalNormal(mean, log_std).log_prob(x)
    np.testing.assert_allclose(LowRankNormal(mean, log_std, jnp.zeros((3, 2))).log_prob(x), expected, rtol=1e-6)


def test_low_rank_samples_have_the_stated_covariance(key, rng):
    one, mean, covariance = low_rank(5, 2, 1.0, rng)
    n, std = 40_000, np.sqrt(np.diag(covariance))
    samples = np.asarray(jax.vmap(one.sample)(jax.random.split(key, n)))
    np.testing.assert_allclose((samples.mean(axis=0) - mean) / std, 0, atol=4 / np.sqrt(n))
    difference = (np.cov(samples.T) - covariance) / np.outer(std, std)
    np.testing.assert_allclose(difference, 0, atol=6 / np.sqrt(n))
    # Without the off-diagonal part this could not be told from independent noise.
    assert np.abs(covariance / np.outer(std, std) - np.eye(5)).max() > 0.3


@pytest.mark.parametrize("rows", [1, 3])
def test_low_rank_parts_that_do_not_fit_are_refused(rows):
    with pytest.raises((ValueError, TypeError)):
        LowRankNormal(jnp.zeros(2), jnp.zeros(2), jnp.zeros((rows, 1)))
