"""Latent spaces whose state is known: x standard normal, posteriors N(A x + c, s²), so that all is in closed form."""

import json
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from scipy import stats
from scipy.special import logsumexp

from mdvae.distributions import DiagonalNormal, FullNormal
from mdvae.networks import AbstractDecoder, AbstractEncoder
from mdvae.vae import (
    VAE,
    Categorical,
    Diagnostics,
    Fixed,
    Gaussian,
    GaussianMixture,
    StandardNormal,
    diagnose,
    evenly,
    reconstruction_error,
)

N = 2048


class Affine(AbstractEncoder):
    matrix: Float[Array, "latent_dim n_features"]
    offset: Float[Array, " latent_dim"]
    log_std: Float[Array, " latent_dim"]

    def __call__(self, x):
        return DiagonalNormal(self.matrix @ x + self.offset, self.log_std)


class Correlated(AbstractEncoder):
    """The same with something below the diagonal."""

    affine: Affine
    lower: Float[Array, " n_lower"]

    def __call__(self, x):
        return FullNormal(self.affine(x).mean, self.affine.log_std, self.lower)


class Line(AbstractDecoder):
    matrix: Float[Array, "n_features latent_dim"]

    def __call__(self, z):
        return self.matrix @ z


def vae_of(matrix, offset, std, prior=None):
    parts = (jnp.asarray(part, jnp.float32) for part in (matrix, offset, np.log(std)))
    n = len(std)
    return VAE(Affine(*parts), Line(jnp.eye(n)), Gaussian(jnp.ones(n)), prior or StandardNormal(n))


def data(latent_dim, n=N):
    return np.random.default_rng(0).normal(size=(n, latent_dim)).astype(np.float32)


def root(s):
    """Stretch of the means with which the aggregate is a standard normal."""
    return np.sqrt(1 - np.square(s))


TURN = np.array([[0.8, -0.6], [0.6, 0.8]])

# Matrix, offset, widths; and what is to be found.
HEALTHY = {
    "sharp": (root(0.15) * np.eye(2), [0.0, 0.0], [0.15, 0.15]),
    "blurred": (np.diag(root([0.5, 0.8])), [0.0, 0.0], [0.5, 0.8]),
    "turned": (root(0.3) * TURN, [0.0, 0.0], [0.3, 0.3]),
    "one dimension": ([[root(0.1)]], [0.0], [0.1]),
    "five dimensions": (root(0.6) * np.eye(5), np.zeros(5), np.full(5, 0.6)),
    "very sharp": (np.eye(2), [0.0, 0.0], [1e-3, 1e-3]),
    "sixteen dimensions": (root(np.exp(-6.5 / 16)) * np.eye(16), np.zeros(16), np.full(16, np.exp(-6.5 / 16))),
}
SICK = {
    "collapsed": (np.zeros((2, 2)), [0.0, 0.0], [1.0, 1.0]),
    "collapsed, one dimension": ([[0.0]], [0.0], [1.0]),
    "first dimension dead": (np.diag([0.0, root(0.2)]), [0.0, 0.0], [1.0, 0.2]),
    "two of three dead": (np.diag([0.0, root(0.2), 0.05]), [0.0, 0.0, 0.0], [1.0, 0.2, 1.0]),
    "twice as wide": (root(0.1) * 2 * np.eye(2), [0.0, 0.0], [0.2, 0.2]),
    "twice as wide and sharp": (2 * np.eye(2), [0.0, 0.0], [1e-3, 1e-3]),
    "too narrow": (0.2 * np.eye(2), [0.0, 0.0], [0.05, 0.05]),
    "elsewhere": (root(0.3) * np.eye(2), [2.0, 0.0], [0.3, 0.3]),
    "correlated": (np.array([[0.9, 0.0], [0.855, 0.28]]), [0.0, 0.0], [0.3, 0.3]),
}
CASES = HEALTHY | SICK


def arrays(case):
    return tuple(np.asarray(part, float) for part in CASES[case])


@cache
def diagnosed(case):
    vae = vae_of(*CASES[case])
    return diagnose(vae, data(len(CASES[case][1])), reconstruction=(0.25, "(some unit)"), key=jax.random.key(0))


def kl_by_dimension(case):
    """Of the examples themselves, in closed form: (n, latent_dim)."""
    matrix, offset, std = arrays(case)
    means = data(len(std)) @ matrix.T + offset
    return 0.5 * (std**2 + means**2 - 1 - 2 * np.log(std))


def information(case):
    """Of a normal channel: half the logarithm of one plus signal over noise, for all examples there could be."""
    matrix, _, std = arrays(case)
    return 0.5 * np.linalg.slogdet(np.eye(len(std)) + matrix @ matrix.T / np.outer(std, std))[1]


def apart(case):
    """Divergence of the normal aggregate from the standard normal prior."""
    matrix, offset, std = arrays(case)
    covariance = matrix @ matrix.T + np.diag(std**2)
    return 0.5 * (np.trace(covariance) + offset @ offset - len(std) - np.linalg.slogdet(covariance)[1])


# -- the numbers


@pytest.mark.parametrize("case", CASES)
def test_divergence_by_dimension_is_exact(case):
    each = kl_by_dimension(case)
    np.testing.assert_allclose(diagnosed(case).kl_by_dimension, each.mean(axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(diagnosed(case).kl, each.sum(axis=1).mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_moments_of_the_aggregate_are_exact(case):
    """The covariance is that of the means plus the mean one: the law of total covariance."""
    found, (matrix, offset, std) = diagnosed(case), arrays(case)
    means = data(len(std)) @ matrix.T + offset
    np.testing.assert_allclose(found.aggregate_mean, means.mean(axis=0), atol=1e-4)
    covariance = np.cov(means.T, bias=True).reshape(len(std), len(std)) + np.diag(std**2)
    np.testing.assert_allclose(found.aggregate_covariance, covariance, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.posterior_std, std, rtol=1e-5)
    np.testing.assert_array_equal(found.prior_mean, 0)
    np.testing.assert_array_equal(found.prior_covariance, np.eye(len(std)))


@cache
def bounds(case):
    """Information by noise of its own, in float64, and what it misses at most; each with its standard error.

    With the example itself among the others the expectation is below that of all examples there could be, without it
    above (doi:10.48550/arXiv.1905.06922).
    """
    matrix, offset, std = arrays(case)
    means = data(len(std)) @ matrix.T + offset
    z = means + std * np.random.default_rng(1).normal(size=means.shape)
    each = -0.5 * np.sum(((z[:, None] - means) / std) ** 2, axis=2)
    own = np.diag(each).copy()
    lower = own - logsumexp(each, axis=1) + np.log(N)
    np.fill_diagonal(each, -np.inf)
    upper = own - logsumexp(each, axis=1) + np.log(N - 1)
    return lower.mean(), lower.std() / np.sqrt(N), (upper - lower).mean(), (upper - lower).std() / np.sqrt(N)


@pytest.mark.parametrize("case", CASES)
def test_information_of_the_channel_lies_between_its_bounds(case):
    """Each by noise of its own; the upper one is no more than all of the divergence."""
    found, exact = diagnosed(case), information(case)
    lower, error, missed, error_of_missed = bounds(case)
    assert abs(found.mutual_information - lower) < 4 * np.sqrt(2) * error + 1e-4
    upper = lower + missed
    spread = 4 * np.hypot(error, error_of_missed)
    assert found.mutual_information_most < upper + 2 * spread + 1e-4
    assert found.mutual_information_most <= max(found.kl, found.mutual_information)
    assert found.mutual_information_most >= found.mutual_information
    assert found.mutual_information < np.log(N) + 1e-3
    chance = 4 * kl_by_dimension(case).sum(axis=1).std() / np.sqrt(N)
    assert found.mutual_information - spread - 1e-6 <= exact <= found.mutual_information_most + spread + chance + 1e-6
    assert found.n_examples == N


@pytest.mark.parametrize("n", [1, 30, 300])
def test_information_of_few_examples_agrees_with_quadrature(n):
    """The entropy of their mixture less that of one, in one dimension: of these examples it is no bound."""
    x, s = data(1, n), 0.2
    means, z = root(s) * x[:, 0], np.linspace(-8, 8, 16_001)
    log_mixture = logsumexp(stats.norm.logpdf(z[:, None], means, s), axis=1) - np.log(n)
    exact = -np.sum(np.exp(log_mixture) * log_mixture) * 0.001 - 0.5 * np.log(2 * np.pi * np.e * s**2)
    vae = vae_of([[root(s)]], [0.0], [s])
    found = [
        diagnose(vae, x, reconstruction=(0.0, ""), key=key).mutual_information
        for key in jax.random.split(jax.random.key(0), 30)
    ]
    error = np.std(found) / np.sqrt(30)
    assert abs(np.mean(found) - exact) < 4 * error + 1e-3
    assert np.max(found) < np.log(n) + 1e-5


@pytest.mark.parametrize("case", CASES)
def test_mismatch_is_at_most_the_divergence_from_the_prior_and_not_far_below(case):
    """The aggregate is normal: its moments are all that there is to know of it."""
    found, exact = diagnosed(case), apart(case)
    matrix, offset, std = arrays(case)
    stretch = np.linalg.eigvalsh(matrix @ matrix.T + np.diag(std**2)) - 1
    error = 4 * np.sqrt((np.sum(stretch**2) / 2 + np.sum(np.square(offset))) / N)
    chance = len(std) * (len(std) + 3) / N
    assert exact - error - chance < found.mismatch
    # By chance, more of the divergence may look like no information.
    assert found.mismatch < exact + error + 4 * kl_by_dimension(case).sum(axis=1).std() / np.sqrt(N) + 1e-6
    assert found.mismatch >= found.kl - found.mutual_information_most


@pytest.mark.parametrize(("n", "latent_dim"), [(10, 16), (20, 16), (100, 16), (200, 8), (500, 32)])
def test_few_examples_of_a_healthy_model_raise_no_alarm(n, latent_dim):
    s = 0.2
    vae = vae_of(root(s) * np.eye(latent_dim), np.zeros(latent_dim), np.full(latent_dim, s))
    for seed in range(5):
        x = np.random.default_rng(seed).normal(size=(n, latent_dim)).astype(np.float32)
        found = diagnose(vae, x, reconstruction=(0.0, ""), key=jax.random.key(seed))
        assert not any("not where the prior is" in finding for finding in found.findings)


def test_frames_that_follow_one_another_raise_no_alarm():
    """A healthy model of a slow run: neighbors in time are near twins, and no evidence that z says more."""
    rng, z = np.random.default_rng(0), np.zeros((2000, 2))
    for t in range(1, len(z)):
        z[t] = 0.95 * z[t - 1] + np.sqrt(1 - 0.95**2) * rng.normal(size=2)
    s = 0.1
    vae = vae_of(root(s) * np.eye(2), [0.0, 0.0], [s, s])
    x = (z - z.mean(axis=0)) / z.std(axis=0)
    found = diagnose(vae, x.astype(np.float32), reconstruction=(0.0, ""), key=jax.random.key(0))
    assert found.findings == []


def test_a_wide_component_of_a_learned_prior_raises_no_alarm():
    """Its variance is four times that of the data, which lie where 95 % of the prior is."""
    prior = GaussianMixture(jnp.zeros((2, 1)), 1.0)
    prior = eqx.tree_at(lambda p: p.logits, prior, jnp.log(jnp.array([0.95, 0.05])))
    prior = eqx.tree_at(lambda p: p.log_std, prior, jnp.log(jnp.array([[1.0], [10.0]])))
    found = diagnose(
        vae_of([[root(0.1)]], [0.0], [0.1], prior), data(1), reconstruction=(0.0, ""), key=jax.random.key(0)
    )
    assert found.findings == []


def test_a_collapsed_posterior_elsewhere_is_both():
    found = diagnose(vae_of([[0.0]], [3.0], [1.0]), data(1), reconstruction=(0.0, ""), key=jax.random.key(0))
    assert found.findings[0].startswith("The posterior has collapsed")
    assert "not where the prior is" in found.findings[1]
    np.testing.assert_allclose(found.mismatch, 4.5, atol=0.05)


def test_mismatch_of_another_shape_is_found_beyond_its_moments():
    """Two clusters with the moments of the prior: half a nat that means and covariances do not show."""
    x = np.sign(data(1)) * np.sqrt(1 - 0.2**2)
    found = diagnose(vae_of([[1.0]], [0.0], [0.2]), x, reconstruction=(0.0, ""), key=jax.random.key(0))
    z = np.linspace(-3, 3, 6001)
    density = 0.5 * (stats.norm.pdf(z, -np.sqrt(0.96), 0.2) + stats.norm.pdf(z, np.sqrt(0.96), 0.2))
    exact = np.sum(density * (np.log(density) - stats.norm.logpdf(z))) * 0.001
    np.testing.assert_allclose(found.aggregate_covariance, 1, atol=0.01)
    assert found.mismatch == pytest.approx(exact, abs=0.05)
    assert len(found.findings) == 1


# -- what is said about them


@pytest.mark.parametrize("case", HEALTHY)
def test_nothing_is_found_where_nothing_is_wrong(case):
    found = diagnosed(case)
    assert found.findings == []
    assert not found.collapsed
    assert found.active.all()
    assert "Nothing wrong was found" in str(found)


def test_a_collapsed_posterior_looks_perfect_and_is_found():
    """Means about 0, widths about 1: as if the prior had been met."""
    found = diagnosed("collapsed")
    np.testing.assert_allclose(found.aggregate_mean, 0, atol=1e-6)
    np.testing.assert_allclose(found.posterior_std, 1, atol=1e-6)
    assert found.mismatch < 1e-3
    assert found.collapsed
    assert found.mutual_information < 1e-3
    assert not found.active.any()
    (finding,) = found.findings
    assert "collapsed" in finding
    for remedy in ("beta", "warmup_epochs", "n_cycles", "free_bits"):
        assert remedy in finding


def test_an_aggregate_twice_as_wide_as_the_prior_looks_sharp_and_is_found():
    """Means about 0, widths small: as if z were known well. Samples of the prior leave out most of the data."""
    for case in ("twice as wide", "twice as wide and sharp"):
        found = diagnosed(case)
        np.testing.assert_allclose(found.aggregate_mean, 0, atol=8 / np.sqrt(N))
        assert (found.posterior_std < 0.25).all()
        assert found.active.all()
        np.testing.assert_allclose(np.diag(found.aggregate_covariance), 4, rtol=5 * np.sqrt(2 / N))
        exact = 2 * 0.5 * (4 - 1 - np.log(4))
        # Each variance is known to sqrt(2 / n), and counts with (4 - 1) / 2.
        np.testing.assert_allclose(found.mismatch, exact, atol=4 * np.sqrt(2) * 1.5 * np.sqrt(2 / N))
        (finding,) = found.findings
        assert f"at least {found.mismatch:.2f} nats apart" in finding
        deviations = np.sqrt(np.diag(found.aggregate_covariance))
        assert f"standard deviations {deviations[0]:.2f}, {deviations[1]:.2f} against 1.00, 1.00" in finding
        assert "fit_prior" in finding


@pytest.mark.parametrize("case", ["elsewhere", "correlated", "too narrow"])
def test_an_aggregate_of_another_shape_or_place_is_found(case):
    """Also one whose dimensions by themselves are as the prior's."""
    found = diagnosed(case)
    (finding,) = found.findings
    assert "not where the prior is" in finding
    if case == "correlated":
        np.testing.assert_allclose(np.diag(found.aggregate_covariance), 0.9, rtol=5 * np.sqrt(2 / N))


DEAD = {"first dimension dead": ("Latent dimension 1 is dead and carries", "1 would do", [False, True])}
DEAD["two of three dead"] = ("Latent dimensions 1, 3 are dead and carry", "1 would do", [False, True, False])


@pytest.mark.parametrize("case", DEAD)
def test_dead_dimensions_are_named(case):
    """In the third, 0.25 % of the variance is that of the means."""
    start, advice, active = DEAD[case]
    found = diagnosed(case)
    np.testing.assert_array_equal(found.active, active)
    (finding,) = found.findings
    assert finding.startswith(start)
    assert advice in finding
    assert f"{sum(active)} of {len(active)} active" in str(found)


def test_very_narrow_posteriors_leave_the_information_open():
    """No two examples overlap: the examples could say more only by being more."""
    found, other = diagnosed("very sharp"), diagnosed("blurred")
    assert np.log(N) - 0.1 < found.mutual_information < found.mutual_information_most == pytest.approx(found.kl)
    assert f"mutual information {found.mutual_information:.2f} to {found.kl:.2f} nats" in str(found)
    assert other.mutual_information_most - other.mutual_information < 0.02


def test_the_text_has_the_numbers_and_the_unit():
    found = diagnosed("sharp")
    assert "reconstruction of held-out data 0.25 (some unit)" in str(found)
    assert f"KL {found.kl:.2f} nats" in str(found)
    assert f"mutual information {found.mutual_information:.2f} to {found.mutual_information_most:.2f} nats" in str(
        found
    )


@pytest.mark.parametrize("case", ["sharp", "one dimension", "two of three dead", "very sharp"])
def test_plain_data_round_trip(case):
    found = diagnosed(case)
    again = Diagnostics.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert json.dumps(again.to_dict()) == json.dumps(found.to_dict())
    assert str(again) == str(found)
    assert (again.findings, again.mismatch) == (found.findings, found.mismatch)


# -- other priors and posteriors


def test_a_learned_prior_that_meets_the_aggregate_has_nothing_to_be_found():
    """Twice as wide as a standard normal, which is what the prior is. Its moments are those of 8192 samples."""
    prior = Fixed(GaussianMixture(jnp.zeros((3, 2)), 2.0))
    found = diagnose(vae_of(*SICK["twice as wide"], prior), data(2), reconstruction=(0.0, ""), key=jax.random.key(0))
    assert found.findings == []
    assert found.mismatch < 0.1
    np.testing.assert_allclose(found.prior_mean, 0, atol=4 * 2 / np.sqrt(8192))
    np.testing.assert_allclose(found.prior_covariance, 4 * np.eye(2), atol=4 * 4 * np.sqrt(2 / 8192))
    expected = kl_by_dimension("twice as wide").sum(axis=1).mean() - apart("twice as wide")
    assert abs(found.kl - expected) < 4 * np.sqrt(2 / N) + 0.05
    # And the other way round: a prior that is too wide for its data.
    wide = diagnose(vae_of(*HEALTHY["sharp"], prior), data(2), reconstruction=(0.0, ""), key=jax.random.key(0))
    assert abs(wide.mismatch - 2 * 0.5 * (0.25 - 1 + np.log(4))) < 0.2
    assert len(wide.findings) == 1


def test_full_posteriors_have_their_covariances(key):
    """Each dimension's divergence is that of its marginal; all of it is that of the whole."""
    affine = vae_of(*HEALTHY["sharp"]).encoder
    vae = eqx.tree_at(lambda v: v.encoder, vae_of(*HEALTHY["sharp"]), Correlated(affine, jnp.array([2.0])))
    found = diagnose(vae, data(2), reconstruction=(0.0, ""), key=key)
    factor = 0.15 * np.array([[1.0, 0.0], [2.0, 1.0]])
    covariance, means = factor @ factor.T, root(0.15) * data(2).astype(float)
    np.testing.assert_allclose(
        found.aggregate_covariance, np.cov(means.T, bias=True) + covariance, rtol=1e-4, atol=1e-4
    )
    variances = np.diag(covariance)
    np.testing.assert_allclose(found.posterior_std, np.sqrt(variances), rtol=1e-5)
    by_dimension = 0.5 * (variances + means**2 - 1 - np.log(variances)).mean(axis=0)
    np.testing.assert_allclose(found.kl_by_dimension, by_dimension, rtol=1e-4)
    kl = 0.5 * (np.trace(covariance) + np.sum(means**2, axis=1).mean() - 2) - 2 * np.log(0.15)
    assert abs(found.kl - kl) < 4 * np.sqrt(2 / N)
    exact = 0.5 * np.linalg.slogdet(np.eye(2) + root(0.15) ** 2 * np.linalg.inv(covariance))[1]
    assert abs(found.mutual_information - exact) < 4 * np.sqrt(2 / N) + 0.06 * exact


# -- which examples, and what comes back of them


@pytest.mark.parametrize("n", [1, 2, 100, 2048, 2049, 5000, 1_000_003])
def test_examples_that_stand_for_all_are_evenly_spaced(n):
    chosen = evenly(n)
    assert len(chosen) == min(n, 2048)
    assert chosen[0] == 0
    assert chosen[-1] == n - 1
    steps = np.diff(chosen)
    assert steps.size == 0 or steps.max() - steps.min() <= 1


def test_of_many_examples_these_are_looked_at(key):
    """The others are not numbers: whoever looked at them would say so."""
    x = np.full((5000, 2), np.nan, np.float32)
    x[evenly(5000)] = data(2)
    found = diagnose(vae_of(*HEALTHY["blurred"]), x, reconstruction=(0.0, ""), key=key)
    np.testing.assert_array_equal(found.aggregate_covariance, diagnosed("blurred").aggregate_covariance)


def test_reconstruction_is_the_root_mean_square_over_features_and_examples():
    """Every feature comes back at three fifths."""
    error, unit = reconstruction_error(vae_of(0.6 * np.eye(2), [0.0, 0.0], [0.1, 0.1]), data(2))
    np.testing.assert_allclose(error, 0.4 * np.sqrt(np.mean(data(2).astype(float) ** 2)), rtol=1e-5)
    assert "root mean square" in unit


def test_reconstruction_of_classes_is_the_share_of_wrong_ones():
    """One class in four is taken for another, of examples that are a tenth of that class."""
    vae = eqx.tree_at(lambda v: v.likelihood, vae_of(np.eye(4), np.zeros(4), np.ones(4)), Categorical())
    vae = eqx.tree_at(lambda v: v.decoder.matrix, vae, jnp.eye(4)[jnp.array([0, 1, 2, 2])])
    classes = np.repeat([0, 1, 2, 3], [30, 20, 40, 10])
    error, unit = reconstruction_error(vae, np.eye(4, dtype=np.float32)[classes])
    assert error == pytest.approx(0.1)
    assert "classes" in unit


def test_examples_that_stand_for_weighted_ones_come_as_often_as_they_weigh(rng):
    weights = rng.integers(0, 4, 1000).astype(float)
    chosen = evenly(1000, weights)
    assert len(chosen) == 1000
    counts = np.bincount(chosen, minlength=1000)
    expected = weights * 1000 / weights.sum()
    assert np.all(np.abs(counts - expected) < 1)
    np.testing.assert_array_equal(evenly(10, np.full(10, 7.0)), np.arange(10))
