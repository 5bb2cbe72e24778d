"""Scores of latent spaces against what probability theory says they are."""

import numpy as np
import pytest
from scipy import stats

from mdvae.vae.disentanglement import mutual_information_gap, total_correlation

N, N_BINS = 20_000, 20
# Independent variables share chi²((n_bins - 1)²) / (2 n) nats in a histogram; here hardly ever more than this.
BY_CHANCE = stats.chi2.isf(1e-5, (N_BINS - 1) ** 2) / (2 * N)


# The mutual information gap -----------------------------------------------------------------------


def rotated(points, angle):
    return points @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def binned_information(correlation):
    """Of two normal variables cut into bins of equal probability, in nats, from the exact probability of each cell."""
    edges = np.clip(stats.norm.ppf(np.linspace(0, 1, N_BINS + 1)), -9, 9)
    below = stats.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]])
    cumulative = below.cdf(np.stack(np.meshgrid(edges, edges, indexing="ij"), axis=-1))
    cells = np.diff(np.diff(cumulative, axis=0), axis=1)
    return np.sum(cells * np.log(np.maximum(cells * N_BINS**2, 1e-300)))


def test_factors_themselves_have_the_full_gap(rng):
    factors = rng.uniform(size=(N, 3))
    found = mutual_information_gap(factors, factors)
    np.testing.assert_allclose(np.diag(found.information), np.log(N_BINS), rtol=1e-6)
    others = found.information[~np.eye(3, dtype=bool)]
    assert (others > 0).all()
    assert (others < BY_CHANCE).all()
    assert 1 - BY_CHANCE / np.log(N_BINS) < found.score < 1
    assert found.score == found.gaps.mean()


@pytest.mark.parametrize("angle", [0.15, 0.4, np.pi / 4])
def test_rotated_normal_factors_have_their_exact_information(angle, rng):
    """At angle t the correlations are cos t and sin t; at 45 degrees both dimensions say as much."""
    factors = rng.normal(size=(N, 2))
    found = mutual_information_gap(rotated(factors, angle), factors)
    near, far = binned_information(np.cos(angle)), binned_information(np.sin(angle))
    # The histogram's own share is known on average. What is left are fluctuations, some 1 / sqrt(n).
    bias = (N_BINS - 1) ** 2 / (2 * N)
    np.testing.assert_allclose(found.information, [[near, far], [far, near]], atol=bias + 4 / np.sqrt(N))
    assert (found.information > np.array([[near, far], [far, near]]) - 4 / np.sqrt(N)).all()
    np.testing.assert_allclose(found.score, (near - far) / np.log(N_BINS), atol=(bias + 6 / np.sqrt(N)) / 3)


def test_the_reference_is_right():
    """Bins come near the information of the variables themselves, -log(1 - r²) / 2, and are never above it."""
    exact = -0.5 * np.log(1 - 0.5**2)
    assert 0.95 * exact < binned_information(0.5) < exact
    assert abs(binned_information(0.0)) < 1e-6


def test_at_45_degrees_there_is_no_gap(rng):
    factors = rng.normal(size=(N, 2))
    assert mutual_information_gap(rotated(factors, np.pi / 4), factors).score < 6 / np.sqrt(N) / np.log(N_BINS)
    assert mutual_information_gap(rotated(factors, 0.15), factors).score > 0.4


def test_noise_has_no_gap(rng):
    found = mutual_information_gap(rng.normal(size=(N, 5)), rng.uniform(size=(N, 3)))
    assert (found.information < BY_CHANCE).all()
    assert (found.gaps >= 0).all()
    assert found.score < BY_CHANCE / np.log(N_BINS)


def test_a_factor_split_over_two_dimensions_has_no_gap(rng):
    """Copies say the same: whatever they say, none is ahead. A third dimension may be one factor's own."""
    factors = rng.uniform(size=(2000, 2))
    copies = factors[:, [0, 0, 1]]
    np.testing.assert_allclose(mutual_information_gap(copies, factors).gaps[0], 0, atol=1e-12)
    assert mutual_information_gap(copies, factors).gaps[1] > 0.9


def test_order_and_scale_of_dimensions_do_not_matter(rng):
    """Nor do any increasing functions of dimensions or factors, nor a few points far out."""
    factors = rng.normal(size=(2000, 2))
    z = np.concatenate([rotated(factors, 0.3), rng.normal(size=(2000, 1))], axis=1)
    plain = mutual_information_gap(z, factors)
    turned = mutual_information_gap(z[:, [2, 0, 1]], factors[:, ::-1])
    np.testing.assert_array_equal(turned.information, plain.information[::-1, [2, 0, 1]])
    assert turned.score == pytest.approx(plain.score, abs=1e-12)
    for changed in (z * np.array([1e-6, 1.0, 1e6]) + 5.0, np.exp(z), np.where(z == z.max(axis=0), 1e12, z)):
        np.testing.assert_array_equal(mutual_information_gap(changed, factors).information, plain.information)
    np.testing.assert_array_equal(mutual_information_gap(z, factors**3).information, plain.information)
    np.testing.assert_allclose(mutual_information_gap(-z, factors).information, plain.information, atol=1e-12)


def test_classes_and_dead_dimensions(rng):
    """A class known to a dimension has its whole entropy there; a constant dimension knows nothing."""
    coin = rng.random(N) < 0.3
    z = np.stack([np.where(coin, 2.0, -1.0) + rng.uniform(-0.5, 0.5, N), np.zeros(N)], axis=1)
    found = mutual_information_gap(z, coin[:, None].astype(int))
    entropy = stats.entropy([coin.mean(), 1 - coin.mean()])
    # One bin of z, of twenty, holds points of both classes.
    assert entropy - np.log(2) / N_BINS < found.information[0, 0] <= entropy + 1e-12
    assert found.information[0, 1] == 0
    assert found.gaps[0] == pytest.approx(found.information[0, 0] / entropy)


def test_bins_may_be_as_few_as_two(rng):
    """The sign of two normal variables at right angles by half: they agree in 3 of 4 cases."""
    factors = rng.normal(size=(N, 2))
    found = mutual_information_gap(rotated(factors, np.pi / 4), factors, n_bins=np.int64(2))
    exact = np.log(2) - stats.entropy([0.75, 0.25])
    np.testing.assert_allclose(found.information, exact, atol=4 / np.sqrt(N))


@pytest.mark.parametrize(
    ("z", "factors", "options", "named"),
    [
        (np.ones((10, 2)), np.ones((9, 2)), {}, "9 for 10"),
        (np.ones(10), np.ones((10, 2)), {}, "expected z of shape"),
        (np.ones((10, 2)), np.ones(10), {}, "expected factors of shape"),
        (np.ones((0, 2)), np.ones((0, 2)), {}, "expected z of shape"),
        (np.ones((30, 1)), np.ones((30, 2)), {}, "at least 2 latent"),
        (np.full((30, 2), np.nan), np.ones((30, 2)), {}, "finite numbers in z"),
        (np.ones((30, 2)), np.full((30, 2), np.inf), {}, "finite numbers in factors"),
        (np.ones((10, 2)), np.ones((10, 2)), {}, "number of points, 10, got 20"),
        (np.ones((10, 2)), np.ones((10, 2)), {"n_bins": 1}, "got 1"),
        (np.ones((30, 2)), np.stack([np.arange(30.0), np.ones(30)], axis=1), {}, "factor 1"),
    ],
)
def test_gaps_of_nothing_are_refused(z, factors, options, named):
    with pytest.raises(ValueError, match=named):
        mutual_information_gap(z, factors, **options)


# Total correlation --------------------------------------------------------------------------------


def aggregate(covariance, width, n, rng):
    """Means and log widths of n posteriors whose aggregate, for large n, is N(0, covariance + width²)."""
    mean = rng.multivariate_normal(np.zeros(len(covariance)), covariance, size=n)
    return mean, np.full(mean.shape, np.log(width))


@pytest.mark.parametrize(
    "covariance",
    [
        [[1.0, 0.8], [0.8, 1.0]],
        [[1.0, -0.9], [-0.9, 1.0]],
        [[4.0, 1.0, 0.5], [1.0, 1.0, 0.3], [0.5, 0.3, 0.5]],
    ],
)
def test_normal_aggregates_have_their_exact_total_correlation(covariance, rng):
    """-1/2 log det of the correlation matrix. Means are a sample too, of which a finite number says a little more."""
    width, n = 0.5, 4000
    whole = np.array(covariance) + width**2 * np.eye(len(covariance))
    std = np.sqrt(np.diag(whole))
    exact = -0.5 * np.linalg.slogdet(whole / np.outer(std, std))[1]
    found = total_correlation(*aggregate(covariance, width, n, rng), n_samples=4000)
    assert abs(found.value - exact) < 4 * found.error + 0.02
    assert found.value > 10 * found.error
    assert exact > 0.1


def test_few_posteriors_agree_with_quadrature():
    """Of different widths, and on no grid."""
    mean = np.array([[-1.0, 0.5], [0.0, 0.0], [1.5, 2.0]])
    std = np.array([[0.3, 1.0], [1.2, 0.2], [0.5, 0.5]])
    axis = np.linspace(-8, 8, 1601)
    densities = stats.norm.pdf(axis[:, None, None], mean, std)
    joint = np.einsum("xn,yn->xy", *np.moveaxis(densities, 2, 0)) / 3
    product = np.outer(*densities.mean(axis=1).T)
    exact = np.sum(stats.entropy(joint.ravel(), product.ravel()))
    found = total_correlation(mean, np.log(std), n_samples=100_000)
    assert abs(found.value - exact) < 4 * found.error
    assert found.error < 0.01 * exact


def test_the_error_is_that_of_repetitions(rng):
    mean, log_std = aggregate([[1.0, 0.8], [0.8, 1.0]], 0.5, 300, rng)
    repeated = [total_correlation(mean, log_std, n_samples=300, seed=seed) for seed in range(100)]
    values, errors = np.array([(one.value, one.error) for one in repeated]).T
    # A standard deviation of 100 numbers is known to 7 %.
    np.testing.assert_allclose(values.std(ddof=1), errors.mean(), rtol=0.28)
    assert stats.kstest((values - values.mean()) / errors.mean(), "norm").pvalue > 1e-3
    exact = total_correlation(mean, log_std, n_samples=40_000, seed=1000)
    assert abs(values.mean() - exact.value) < 4 * np.hypot(exact.error, values.std() / 10)


def test_a_factorized_aggregate_has_none():
    """Posteriors on a grid, with widths by row and by column: the mixture is a product, at every sample."""
    x, y = np.meshgrid([-3.0, 0.0, 0.5, 2.0], [1.0, 1.1, 7.0], indexing="ij")
    log_x, log_y = np.meshgrid([-1.0, 0.2, 0.0, -3.0], [0.0, -2.0, 1.0], indexing="ij")
    mean, log_std = np.stack([x.ravel(), y.ravel()], 1), np.stack([log_x.ravel(), log_y.ravel()], 1)
    found = total_correlation(mean, log_std, n_samples=100)
    assert abs(found.value) < 1e-12
    assert found.error < 1e-12
    # Without one corner it is none.
    assert total_correlation(mean[1:], log_std[1:]).value > 0.01


def test_one_posterior_or_one_dimension_has_none(rng):
    assert abs(total_correlation(np.ones((1, 3)), np.zeros((1, 3))).value) < 1e-12
    assert abs(total_correlation(rng.normal(size=(50, 1)), rng.normal(size=(50, 1))).value) < 1e-12


@pytest.mark.parametrize("latent_dim", [2, 5])
def test_posteriors_far_apart_have_the_most(latent_dim):
    """(latent_dim - 1) log n: each dimension alone says which posterior it was."""
    mean = 100.0 * np.arange(7)[:, None] * np.ones(latent_dim)
    found = total_correlation(mean, np.zeros_like(mean), n_samples=50)
    assert found.value == pytest.approx((latent_dim - 1) * np.log(7), rel=1e-12)
    assert found.error < 1e-12


def test_dimensions_without_part_in_it_change_nothing(rng):
    """Shifts, scales, and a dimension that is the same for all posteriors."""
    mean, log_std = aggregate([[1.0, 0.8], [0.8, 1.0]], 0.5, 200, rng)
    plain = total_correlation(mean, log_std)
    scaled = total_correlation(mean * [1e-3, 1e4] + 7, log_std + np.log([1e-3, 1e4]))
    assert scaled.value == pytest.approx(plain.value, rel=1e-6)
    more = total_correlation(np.pad(mean, [(0, 0), (0, 1)]), np.pad(log_std, [(0, 0), (0, 1)]))
    assert abs(more.value - plain.value) < 4 * np.hypot(more.error, plain.error)


def test_chunks_change_nothing(rng, monkeypatch):
    mean, log_std = aggregate(np.eye(3), 0.3, 70, rng)
    whole = total_correlation(mean, log_std, n_samples=101)
    monkeypatch.setattr("mdvae.vae.disentanglement._CHUNK", 500)
    parts = total_correlation(mean, log_std, n_samples=101)
    assert parts.value == pytest.approx(whole.value, rel=1e-12)
    assert parts.error == pytest.approx(whole.error, rel=1e-12)
    assert total_correlation(mean, log_std, n_samples=101, seed=1).value != whole.value


@pytest.mark.parametrize(
    ("mean", "log_std", "options", "named"),
    [
        (np.ones((10, 2)), np.ones((10, 3)), {}, r"\(10, 2\) and \(10, 3\)"),
        (np.ones(10), np.ones(10), {}, "expected mean of shape"),
        (np.ones((10, 2)), np.full((10, 2), -np.inf), {}, "finite numbers in log_std"),
        (np.ones((10, 2)), np.ones((10, 2)), {"n_samples": 1}, "at least 2 samples"),
    ],
)
def test_what_is_no_aggregate_is_refused(mean, log_std, options, named):
    with pytest.raises(ValueError, match=named):
        total_correlation(mean, log_std, **options)


def test_what_a_class_is_called_does_not_matter():
    """A class keeps a bin of its own, however rare, be it the lowest or the highest."""
    rng = np.random.default_rng(0)
    rare = (rng.uniform(size=4000) > 0.1).astype(float)[:, None]
    z = np.concatenate([rare + 0.1 * rng.normal(size=rare.shape), rng.normal(size=rare.shape)], axis=1)
    scores = [mutual_information_gap(z, factor).score for factor in (rare, 1 - rare)]
    assert scores[0] == pytest.approx(scores[1])
    assert scores[0] > 0.6
