from itertools import combinations_with_replacement

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax, logsumexp

from mdvae.distributions import (
    AbstractNormal,
    DiagonalNormal,
    FullNormal,
    LowRankNormal,
    Mixture,
    closed_kl_divergence,
    kl_by_component,
    n_below_diagonal,
)

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
    assert closed_kl_divergence(one, one) == 0


def test_divergence_agrees_with_monte_carlo(key):
    one, other = normal([0.5, -1.0], [-0.5, 0.2]), normal([0.0, 0.3], [0.1, -0.3])
    samples = jax.vmap(one.sample)(jax.random.split(key, 20_000))
    differences = np.asarray(jax.vmap(lambda x: one.log_prob(x) - other.log_prob(x))(samples))
    error = differences.std() / np.sqrt(len(differences))
    assert abs(closed_kl_divergence(one, other) - differences.mean()) < 4 * error
    assert abs(closed_kl_divergence(one, other) - closed_kl_divergence(other, one)) > 0.1


def test_divergence_by_hand():
    """One nat unit at a time: a shift of 1 costs 1/2, a width of e costs (e^2 - 3) / 2."""
    standard = normal([0.0], [0.0])
    np.testing.assert_allclose(closed_kl_divergence(normal([1.0], [0.0]), standard), 0.5, rtol=1e-6)
    np.testing.assert_allclose(closed_kl_divergence(normal([0.0], [1.0]), standard), (np.exp(2) - 3) / 2, rtol=1e-6)


def test_divergence_adds_over_components():
    one, other = normal([0.5, 0.5], [-0.5, -0.5]), normal([0.0, 0.0], [0.1, 0.1])
    half = closed_kl_divergence(normal([0.5], [-0.5]), normal([0.0], [0.1]))
    np.testing.assert_allclose(closed_kl_divergence(one, other), 2 * half, rtol=1e-6)


def test_unequal_shapes_are_refused():
    with pytest.raises((ValueError, TypeError)):
        normal([0.0, 1.0], [0.0])


# -- every distribution


def full(mean, log_std, lower):
    return FullNormal(*(jnp.asarray(part, jnp.float32) for part in (mean, log_std, lower)))


def mixture(logits, *components):
    return Mixture(jnp.asarray(logits, jnp.float32), jax.tree.map(lambda *leaves: jnp.stack(leaves), *components))


DISTRIBUTIONS = {
    "diagonal, one dimension": normal([0.5], [0.3]),
    "diagonal, two dimensions": normal([0.5, -1.0], [-0.5, 0.2]),
    "diagonal, three dimensions": normal([0.0, -3.0, 2.0], [-1.0, 0.5, 1.0]),
    "full, one dimension": full([-0.5], [0.1], []),
    "full, two dimensions": full([0.3, 0.0], [0.1, -0.4], [0.8]),
    "full, three dimensions": full([0.5, -2.0, 1.0], [-0.5, 0.3, -0.2], [1.5, -0.7, 0.4]),
    "full, nothing below the diagonal": full([0.0, 1.0, 2.0], [0.2, 0.0, -0.3], [0.0, 0.0, 0.0]),
    "full, nearly singular": full([0.0, 1.0, 2.0], [0.0, -2.0, -2.0], [7.0, 6.0, 20.0]),
    "mixture, one dimension": mixture([0.0, 1.0], normal([-1.0], [-1.0]), normal([2.0], [0.3])),
    "mixture, two dimensions": mixture(
        [0.0, 2.0, -1.0],
        full([0.0, 0.0], [0.0, -0.5], [1.5]),
        full([3.0, 0.0], [-0.5, 0.2], [-2.0]),
        full([0.0, 2.0], [0.1, 0.1], [0.0]),
    ),
    "mixture of one": mixture([3.0], full([0.5, -2.0, 1.0], [-0.5, 0.3, -0.2], [1.5, -0.7, 0.4])),
}
NORMALS = {name: one for name, one in DISTRIBUTIONS.items() if isinstance(one, AbstractNormal)}
MIXTURES = {name: one for name, one in DISTRIBUTIONS.items() if isinstance(one, Mixture)}
SAME_DIMENSION = [
    pair for pair in combinations_with_replacement(NORMALS, 2) if len({NORMALS[name].mean.shape for name in pair}) == 1
]


def parts(one):
    """Weights, means and covariances of the components in float64, from the parameters alone."""
    if isinstance(one, Mixture):
        components = [jax.tree.map(lambda leaf, i=i: leaf[i], one.components) for i in range(len(one.logits))]
        of_components = [parts(component) for component in components]
        weights = np.exp(log_softmax(np.asarray(one.logits, float)))
        return weights, *(np.concatenate([each[i] for each in of_components]) for i in (1, 2))
    mean, std = np.asarray(one.mean, float), np.exp(np.asarray(one.log_std, float))
    factor, n = np.diag(std), 0
    for i in range(len(mean) if isinstance(one, FullNormal) else 0):
        for j in range(i):
            factor[i, j] = std[i] * float(one.lower[n])
            n += 1
    return np.ones(1), mean[None], (factor @ factor.T)[None]


def log_density(one, x):
    """By SciPy, of points (n, dim)."""
    weights, means, covariances = parts(one)
    each = [stats.multivariate_normal(m, c).logpdf(x).reshape(-1) for m, c in zip(means, covariances, strict=True)]
    return logsumexp(each, axis=0, b=weights[:, None])


def moments(one):
    """Mean and covariance, the latter of the components and of their means."""
    weights, means, covariances = parts(one)
    mean = weights @ means
    return mean, np.tensordot(weights, covariances, 1) + (weights * (means - mean).T) @ (means - mean)


@eqx.filter_jit
def log_probs(one, x):
    return jax.vmap(one.log_prob)(x)


@eqx.filter_jit
def samples_of(one, keys):
    return jax.vmap(one.sample)(keys)


@eqx.filter_jit
def sampled_divergences(p, q, keys, n_samples):
    """Means over samples of p, whatever formula there may be."""

    def one(key):
        x, log_p = p.sample_and_log_prob(key)
        return log_p - q.log_prob(x)

    return jax.vmap(lambda key: jnp.mean(jax.vmap(one)(jax.random.split(key, n_samples))))(keys)


def keys_for(n):
    return jax.random.split(jax.random.key(3), n)


@pytest.mark.parametrize("case", DISTRIBUTIONS)
def test_every_log_density_agrees_with_scipy(case, rng):
    one = DISTRIBUTIONS[case]
    mean, covariance = moments(one)
    x = rng.multivariate_normal(mean, 4 * covariance, size=20).astype(np.float32)
    np.testing.assert_allclose(log_probs(one, jnp.asarray(x)), log_density(one, x), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("case", [name for name in DISTRIBUTIONS if "two" in name])
def test_every_density_integrates_to_one(case):
    grid = jnp.linspace(-15, 15, 301)
    points = jnp.stack(jnp.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    density = np.exp(log_probs(DISTRIBUTIONS[case], points), dtype=float)
    np.testing.assert_allclose(density.sum() * 0.1**2, 1, atol=1e-4)


@pytest.mark.parametrize("case", DISTRIBUTIONS)
def test_samples_have_the_stated_moments(case):
    """Each entry within its own error, that of a mean of products."""
    one, n = DISTRIBUTIONS[case], 20_000
    samples, (mean, covariance) = np.asarray(samples_of(one, keys_for(n)), float), moments(one)
    np.testing.assert_allclose((samples.mean(axis=0) - mean) / samples.std(axis=0), 0, atol=4.5 / np.sqrt(n))
    products = np.einsum("ni,nj->nij", samples - mean, samples - mean)
    np.testing.assert_allclose((products.mean(axis=0) - covariance) / products.std(axis=0), 0, atol=4.5 / np.sqrt(n))
    if case in NORMALS:
        np.testing.assert_allclose(one.covariance(), covariance, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", MIXTURES)
def test_components_come_as_often_as_they_weigh(case):
    """Judged by the share of samples that each would claim, whose expectation is the weight."""
    one, n = MIXTURES[case], 20_000
    weights, means, covariances = parts(one)
    samples = samples_of(one, keys_for(n))
    pairs = zip(means, covariances, strict=True)
    each = np.log(weights)[:, None] + np.array([stats.multivariate_normal(m, c).logpdf(samples) for m, c in pairs])
    claims = np.exp(each - logsumexp(each, axis=0))
    assert (np.abs(claims.mean(axis=1) - weights) <= 4.5 * claims.std(axis=1) / np.sqrt(n) + 1e-12).all()
    shifted = eqx.tree_at(lambda m: m.logits, one, one.logits + 7.0)
    x = jnp.zeros(means.shape[1])
    np.testing.assert_allclose(shifted.log_prob(x), one.log_prob(x), atol=1e-4)


@pytest.mark.parametrize("case", NORMALS)
def test_a_sample_comes_with_its_log_density(case, key):
    one = NORMALS[case]
    x, log_prob = eqx.filter_jit(lambda d, key: d.sample_and_log_prob(key))(one, key)
    np.testing.assert_array_equal(x, samples_of(one, key[None])[0])
    np.testing.assert_allclose(log_prob, log_probs(one, x[None])[0], rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("case", NORMALS)
def test_gradient_by_the_point_agrees_with_the_formula(case):
    """-C⁻¹ (x - m), through the substitution."""
    one = NORMALS[case]
    mean, covariance = moments(one)
    x = np.random.default_rng(2).multivariate_normal(mean, covariance).astype(np.float32)
    expected = -np.linalg.solve(covariance, x - mean)
    np.testing.assert_allclose(jax.grad(one.log_prob)(jnp.asarray(x)), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("case", DISTRIBUTIONS)
def test_gradients_are_finite(case):
    """At the mean, near it, and where the density has long underflowed."""
    one = DISTRIBUTIONS[case]
    x = jnp.asarray(moments(one)[0] + np.array([[0.0], [1.0], [1e4]]), jnp.float32)
    gradient = jax.value_and_grad(lambda d, x: d.log_prob(x), (0, 1))
    found = eqx.filter_jit(lambda d, x: jax.vmap(lambda row: gradient(d, row))(x))(one, x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_samples_of_a_full_covariance_are_differentiable(key):
    """They move with the mean, and with what stands below the diagonal in proportion to the noise."""
    one = NORMALS["full, two dimensions"]
    by_mean, by_lower = jax.jacrev(lambda m, low: FullNormal(m, one.log_std, low).sample(key), (0, 1))(
        one.mean, one.lower
    )
    np.testing.assert_allclose(by_mean, np.eye(2), atol=1e-6)
    noise = (one.sample(key) - one.mean)[0] / np.exp(one.log_std[0])
    np.testing.assert_allclose(by_lower, [[0], [np.exp(one.log_std[1]) * noise]], atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_entries_below_the_diagonal_are_counted(n):
    assert n_below_diagonal(n) == len(np.tril_indices(n, -1)[0])
    zeros = jnp.zeros(n)
    assert FullNormal(zeros, zeros, jnp.zeros(n_below_diagonal(n))).covariance().shape == (n, n)


SHAPES = {"one too few": (3, 3, 2), "one too many": (3, 3, 4), "n for each": (2, 2, 4), "other widths": (3, 2, 3)}


@pytest.mark.parametrize("case", SHAPES)
def test_full_parts_that_do_not_fit_are_refused(case):
    with pytest.raises((ValueError, TypeError)):
        FullNormal(*(jnp.zeros(n) for n in SHAPES[case]))


# -- divergences


def divergence(p, q):
    """Between normal distributions by the textbook's formula, in float64."""
    (m, a), (other, b) = moments(p), moments(q)
    squares = np.trace(np.linalg.solve(b, a)) + (m - other) @ np.linalg.solve(b, m - other)
    return 0.5 * (squares - len(m) + np.linalg.slogdet(b)[1] - np.linalg.slogdet(a)[1])


@pytest.mark.parametrize(("one", "other"), SAME_DIMENSION)
def test_closed_divergence_agrees_with_the_formula_and_with_samples(one, other):
    for p, q in ((NORMALS[one], NORMALS[other]), (NORMALS[other], NORMALS[one])):
        expected = divergence(p, q)
        np.testing.assert_allclose(eqx.filter_jit(closed_kl_divergence)(p, q), expected, rtol=1e-4, atol=2e-4)
        sampled = np.asarray(sampled_divergences(p, q, keys_for(500), 20), float)
        assert abs(sampled.mean() - expected) < 4.5 * sampled.std() / np.sqrt(len(sampled)) + 1e-3


@pytest.mark.parametrize("other", [name for name in NORMALS if "three" in name])
def test_the_diagonal_formula_is_the_general_one(other):
    diagonal, q = NORMALS["diagonal, three dimensions"], NORMALS[other]
    same = FullNormal(diagonal.mean, diagonal.log_std, jnp.zeros(3))
    np.testing.assert_allclose(closed_kl_divergence(same, q), closed_kl_divergence(diagonal, q), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(closed_kl_divergence(q, same), closed_kl_divergence(q, diagonal), rtol=1e-5, atol=1e-5)


def test_components_have_their_own_divergence():
    p, q = normal([0.5, -1.0, 2.0], [-0.5, 0.2, 0.0]), normal([0.0, -1.0, 1.0], [0.1, 0.2, 0.0])
    each = [closed_kl_divergence(*(normal(d.mean[i : i + 1], d.log_std[i : i + 1]) for d in (p, q))) for i in range(3)]
    np.testing.assert_allclose(kl_by_component(p, q), each, atol=1e-6)
    assert kl_by_component(p, q)[1] == 0


def test_gradient_of_the_divergence_vanishes_only_where_both_agree():
    one = NORMALS["full, three dimensions"]
    at_itself, elsewhere = (
        jax.tree.leaves(jax.grad(closed_kl_divergence)(one, other))
        for other in (one, NORMALS["full, nothing below the diagonal"])
    )
    for near, far in zip(at_itself, elsewhere, strict=True):
        np.testing.assert_allclose(near, 0, atol=1e-5)
        assert np.abs(far).max() > 0.1


@pytest.mark.parametrize("case", MIXTURES)
def test_mixtures_have_no_closed_divergence(case):
    one = MIXTURES[case]
    n = one.components.mean.shape[1]
    standard = normal(np.zeros(n), np.zeros(n))
    assert closed_kl_divergence(standard, one) is None
    assert closed_kl_divergence(one, standard) is None


def test_sampled_divergence_from_a_mixture_agrees_with_quadrature():
    p, q = NORMALS["diagonal, one dimension"], MIXTURES["mixture, one dimension"]
    x = np.linspace(-12, 12, 24_001)[:, None]
    log_p, log_q = log_density(p, x), log_density(q, x)
    exact = np.sum(np.exp(log_p) * (log_p - log_q)) * 0.001
    for n_samples, n_repetitions in ((1, 40_000), (50, 2000)):
        found = np.asarray(sampled_divergences(p, q, keys_for(n_repetitions), n_samples), float)
        # Unbiased, however few the samples.
        assert abs(found.mean() - exact) < 4 * found.std() / np.sqrt(n_repetitions)
    assert exact > 0.3


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


def test_divergence_from_itself_is_zero_far_from_the_origin():
    one = FullNormal(jnp.full(3, 1e4), jnp.full(3, -6.0), jnp.array([0.5, -0.2, 0.1]))
    np.testing.assert_allclose(closed_kl_divergence(one, one), 0, atol=1e-5)
