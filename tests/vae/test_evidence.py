"""On a linear Gaussian model the likelihood is known: x = W z + b + s e has the distribution N(b, W Wᵀ + s²)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from scipy import stats

from mdvae.distributions import DiagonalNormal, FullNormal
from mdvae.networks import AbstractDecoder, AbstractEncoder
from mdvae.vae import (
    VAE,
    Categorical,
    Gaussian,
    GaussianMixture,
    SquaredError,
    StandardNormal,
    VampPrior,
    log_likelihood,
)

W = np.array([[1.0, 0.5], [1.0, -0.5], [0.5, 0.6], [0.0, 0.3], [-0.5, 0.2]])
B = np.array([0.0, 1.0, -1.0, 2.0, 0.5])
N_FEATURES, LATENT_DIM = W.shape


class Affine(AbstractEncoder):
    """Normal posterior of one covariance about ``matrix @ x + offset``."""

    matrix: Float[Array, "latent_dim n_features"]
    offset: Float[Array, " latent_dim"]
    log_std: Float[Array, " latent_dim"]
    lower: Float[Array, " n_lower"]

    def __call__(self, x):
        return FullNormal(self.matrix @ x + self.offset, self.log_std, self.lower)


class Line(AbstractDecoder):
    matrix: Float[Array, "n_features latent_dim"]
    offset: Float[Array, " n_features"]

    def __call__(self, z):
        return self.matrix @ z + self.offset


def linear_vae(shift=0.0, stretch=1.0, s=0.7, prior=None, likelihood=None):
    """The exact posterior, or one displaced and stretched."""
    covariance = np.linalg.inv(np.eye(LATENT_DIM) + W.T @ W / s**2)
    to_mean, factor = covariance @ W.T / s**2, np.linalg.cholesky(covariance)
    std = np.diag(factor)
    encoder = (to_mean, shift - to_mean @ B, np.log(stretch * std), (factor / std[:, None])[np.tril_indices(2, -1)])
    return VAE(
        Affine(*(jnp.asarray(part, jnp.float32) for part in encoder)),
        Line(jnp.asarray(W, jnp.float32), jnp.asarray(B, jnp.float32)),
        likelihood or Gaussian(jnp.full(N_FEATURES, s, jnp.float32), learned=False),
        prior or StandardNormal(LATENT_DIM),
    )


def data(n, s=0.7, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, LATENT_DIM)) @ W.T + B + s * rng.normal(size=(n, N_FEATURES))
    return x.astype(np.float32)


def exact(x, s=0.7):
    """Of each example, in nats."""
    return stats.multivariate_normal(B, W @ W.T + s**2 * np.eye(N_FEATURES)).logpdf(x)


def lost(shift=0.0, stretch=1.0, s=0.7):
    """Divergence from the exact posterior to the one that is displaced and stretched."""
    precision = np.eye(LATENT_DIM) + W.T @ W / s**2
    d = np.full(LATENT_DIM, shift)
    return 0.5 * (d @ precision @ d + LATENT_DIM * (stretch**2 - 1 - 2 * np.log(stretch)))


# Wider than the exact posterior: the weights are bounded.
WORSE = {"shifted": {"shift": 0.2, "stretch": 1.2}, "too wide": {"stretch": 1.6}}


@pytest.mark.parametrize("n_samples", [1, 2, 100])
def test_with_the_exact_posterior_any_number_of_samples_is_exact(n_samples, key):
    x = data(20)
    found = log_likelihood(linear_vae(), x, n_samples, key=key)
    np.testing.assert_allclose(found.estimate, exact(x), rtol=1e-5)
    np.testing.assert_allclose(found.elbo, exact(x), rtol=1e-5)
    assert found.n_samples == n_samples
    if n_samples > 1:
        np.testing.assert_allclose(found.standard_error, 0, atol=1e-5)
    else:
        assert np.isnan(found.standard_error).all()
        assert np.isnan(found.from_prior_error).all()


@pytest.mark.parametrize("case", WORSE)
def test_estimates_are_exact_within_their_errors(case, key):
    """Either of them; the lower bound lies below by the divergence from the exact posterior."""
    x = data(40)
    found = log_likelihood(linear_vae(**WORSE[case]), x, 4000, key=key)
    for estimate, error in ((found.estimate, found.standard_error), (found.from_prior, found.from_prior_error)):
        assert (np.abs(estimate - exact(x)) < 4.5 * error).all()
        assert error.max() < 0.2
    assert (found.standard_error < found.from_prior_error).all()
    # Of the lower bound no error is stated; that of its mean over 160 000 points is about 0.005.
    assert abs((exact(x) - found.elbo).mean() - lost(**WORSE[case])) < 0.02
    assert lost(**WORSE[case]) > 0.1
    assert (found.elbo < found.estimate).all()


@pytest.mark.parametrize("case", WORSE)
def test_standard_errors_are_the_spread_and_the_bias_of_repetitions(case, key):
    """Means of weights over the exact one, less 1, in standard errors: a unit normal variable."""
    n = 2000
    x = np.repeat(data(1), n, axis=0)
    found = log_likelihood(linear_vae(**WORSE[case]), x, 400, key=key)
    score = np.expm1(found.estimate - exact(x)) / found.standard_error
    assert abs(score.mean()) < 4 / np.sqrt(n)
    assert abs(score.std() - 1) < 4 / np.sqrt(2 * n)


@pytest.mark.parametrize("case", WORSE)
def test_logarithms_are_too_small_by_half_the_squared_error(case, key):
    """Where there are few points; what is left is of the next order in one over their number."""
    n, n_samples = 20_000, 20
    x = np.repeat(data(1), n, axis=0)
    found = log_likelihood(linear_vae(**WORSE[case]), x, n_samples, key=key)
    short, bias = exact(x[:1]) - found.estimate, 0.5 * np.mean(found.standard_error**2)
    assert bias > 8 * short.std() / np.sqrt(n)
    assert abs(short.mean() - bias) < 4 * short.std() / np.sqrt(n) + 2 * bias / n_samples


def test_where_reconstruction_is_sharp_the_prior_misses_and_does_not_tell(key):
    """Noise of a hundredth: of 1000 points of the prior none comes near, of those of the posterior all do."""
    s = 0.01
    x = data(40, s)
    found = log_likelihood(linear_vae(stretch=1.2, s=s), x, 1000, key=key)
    assert (np.abs(found.estimate - exact(x, s)) < 4.5 * found.standard_error + 1e-2).all()
    short = exact(x, s) - found.from_prior
    assert np.median(short) > 3
    assert np.mean(short > 10 * found.from_prior_error) > 0.5
    assert found.from_prior_error.max() < 1.01


def test_the_same_prior_by_another_name_gives_the_same(key):
    """One mixture of one component; the posterior of one pseudo-input is another, of which all is known, too."""
    x = data(10)
    plain = log_likelihood(linear_vae(stretch=1.2), x, 50, key=key)
    mixture = log_likelihood(linear_vae(stretch=1.2, prior=GaussianMixture(jnp.zeros((1, 2)))), x, 50, key=key)
    np.testing.assert_allclose(mixture.estimate, plain.estimate, rtol=1e-4)
    np.testing.assert_allclose(mixture.elbo, plain.elbo, rtol=1e-4)
    vamp = VampPrior(jnp.asarray(B[None], jnp.float32), jnp.ones(N_FEATURES))
    found = log_likelihood(linear_vae(stretch=1.2, prior=vamp), x, 20_000, key=key)
    covariance = 1.2**2 * np.linalg.inv(np.eye(LATENT_DIM) + W.T @ W / 0.7**2)
    truth = stats.multivariate_normal(B, W @ covariance @ W.T + 0.7**2 * np.eye(N_FEATURES)).logpdf(x)
    assert (np.abs(found.from_prior - truth) < 4.5 * found.from_prior_error).all()


def test_classes_have_probabilities(key):
    """Logits that are the latent point: the integral of a softmax over two normal variables, by quadrature."""
    vae = linear_vae(stretch=1.5, likelihood=Categorical())
    vae = eqx.tree_at(lambda v: v.decoder, vae, Line(jnp.eye(3, 2), jnp.array([0.0, 0.5, -0.5])))
    vae = eqx.tree_at(lambda v: v.encoder, vae, Affine(jnp.eye(2, 3), jnp.zeros(2), jnp.full(2, 0.1), jnp.zeros(1)))
    found = log_likelihood(vae, np.eye(3), 20_000, key=key)
    axis = np.linspace(-8, 8, 401)
    z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    logits = z @ np.eye(3, 2).T + [0.0, 0.5, -0.5]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.log(stats.norm.pdf(z).prod(axis=1) @ shares * 0.04**2)
    for estimate, error in ((found.estimate, found.standard_error), (found.from_prior, found.from_prior_error)):
        assert (np.abs(estimate - truth) < 4.5 * error).all()
        assert error.max() < 0.03


def test_examples_come_in_any_number_and_in_blocks(key, monkeypatch):
    """Each has noise of its own, whichever block it falls into."""
    x, vae = data(7), linear_vae(stretch=1.6)
    whole = log_likelihood(vae, x, 10, key=key)
    monkeypatch.setattr("mdvae.vae.evidence._AT_ONCE", 30)
    blocks = log_likelihood(vae, x, 10, key=key)
    for name in ("elbo", "estimate", "standard_error", "from_prior", "from_prior_error"):
        assert getattr(whole, name).shape == (7,)
        np.testing.assert_allclose(getattr(blocks, name), getattr(whole, name), rtol=1e-4, atol=1e-5)
    alike = log_likelihood(vae, np.repeat(x[:1], 7, axis=0), 10, key=key)
    assert len(np.unique(alike.estimate)) == 7
    assert not np.any(log_likelihood(vae, x, 10, key=jax.random.key(1)).estimate == whole.estimate)


def test_it_says_what_was_found(key):
    found = log_likelihood(linear_vae(stretch=1.6), data(9), 100, key=key)
    error = np.sqrt(np.sum(found.standard_error**2)) / 9
    text = str(found)
    assert "nats an example, 100 latent points each, mean over 9 examples" in text
    assert f"{found.estimate.mean():.3f} ± {error:.3f}" in text
    assert f"{found.elbo.mean():.3f}\n" in text


REFUSED = {
    "squared error": (lambda: linear_vae(likelihood=SquaredError()), 10, "no density"),
    "no samples": (linear_vae, 0, "at least 1, got 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_likelihood_is_refused(case, key):
    build, n_samples, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        log_likelihood(build(), data(3), n_samples, key=key)


def test_full_and_diagonal_posteriors_are_treated_alike(key):
    """Nothing below the diagonal: the same numbers from either class."""

    class Diagonal(AbstractEncoder):
        full: Affine

        def __call__(self, x):
            return DiagonalNormal(self.full(x).mean, self.full.log_std)

    one = eqx.tree_at(lambda v: v.encoder.lower, linear_vae(stretch=1.6), jnp.zeros(1))
    other = eqx.tree_at(lambda v: v.encoder, one, Diagonal(one.encoder))
    full, diagonal = (log_likelihood(vae, data(5), 10, key=key) for vae in (one, other))
    np.testing.assert_allclose(full.estimate, diagonal.estimate, rtol=1e-5)
    np.testing.assert_allclose(full.elbo, diagonal.elbo, rtol=1e-5)


def test_effective_points_are_all_of_equal_weights_and_few_of_a_peak():
    x = data(50, s=0.01)
    found = log_likelihood(linear_vae(s=0.01), x, 200, key=jax.random.key(0))
    np.testing.assert_allclose(found.effective, 200, rtol=0.05)
    assert np.median(found.from_prior_effective) < 2
    lines = str(found).splitlines()
    assert "±" in lines[2]
    assert "too small: a few points say it all" in lines[3]


def test_a_posterior_that_is_too_narrow_is_seen_by_its_effective_points():
    """What its draws leave out no standard error knows of."""
    x = data(200)
    narrow = log_likelihood(linear_vae(stretch=0.3), x, 1000, key=jax.random.key(0))
    whole = log_likelihood(linear_vae(), x, 1000, key=jax.random.key(0))
    assert narrow.estimate.mean() < exact(x).mean() - 0.05
    assert np.median(narrow.effective) < 0.5 * np.median(whole.effective)
