"""On a linear Gaussian model everything is known in closed form.

x = W z + b + s e with standard normal z and e: the evidence is N(b, W W^T + s^2), and the posterior is normal with
precision 1 + W^T W / s^2. With orthogonal columns in W it has independent components, as the encoder has.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mdvae.networks import MLPDecoder, MLPEncoder
from mdvae.vae import VAE, Gaussian, GaussianMixture, ImportanceWeighted, NegativeELBO, SquaredError, StandardNormal

W = np.array([[1.0, 0.5], [1.0, -0.5], [0.5, 0.0], [0.0, 0.3], [-0.5, 0.3 * 5 / 3]])
W[:, 1] -= W[:, 0] * (W[:, 0] @ W[:, 1]) / (W[:, 0] @ W[:, 0])
B = np.array([0.0, 1.0, -1.0, 2.0, 0.5])
S = 0.7
N_FEATURES, LATENT_DIM = W.shape


def layer(linear, weight, bias):
    leaves = jnp.asarray(weight, jnp.float32), jnp.asarray(bias, jnp.float32)
    return eqx.tree_at(lambda m: (m.layers[0].weight, m.layers[0].bias), linear, leaves)


def linear_vae(shift=0.0, stretch=1.0, likelihood=None):
    """The exact posterior, or one displaced and stretched."""
    none, unit, key = jnp.zeros(N_FEATURES), jnp.ones(()), jax.random.key(0)
    precision = 1 + np.sum(W**2, axis=0) / S**2
    to_mean = W.T / S**2 / precision[:, None]
    log_std = np.log(stretch) - 0.5 * np.log(precision)
    to_log_std = 8 * np.arctanh(log_std / 8)  # the encoder bounds its widths softly
    encoder = layer(
        MLPEncoder(N_FEATURES, LATENT_DIM, (), "silu", shift=none, scale=unit, key=key),
        np.concatenate([to_mean, np.zeros_like(to_mean)]),
        np.concatenate([shift - to_mean @ B, to_log_std]),
    )
    decoder = layer(MLPDecoder(LATENT_DIM, N_FEATURES, (), "silu", shift=none, scale=unit, key=key), W, B)
    width = Gaussian(jnp.full(N_FEATURES, S, jnp.float32), learned=False)
    return VAE(encoder, decoder, likelihood or width, StandardNormal(LATENT_DIM))


def data(n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, LATENT_DIM)) @ W.T + B + S * rng.normal(size=(n, N_FEATURES))
    return jnp.asarray(x, jnp.float32)


def evidence(x):
    """Exact log-likelihood, mean over the examples."""
    return stats.multivariate_normal(B, W @ W.T + S**2 * np.eye(N_FEATURES)).logpdf(np.asarray(x)).mean()


@eqx.filter_jit
def losses(vae, x, beta, keys):
    return jax.vmap(lambda key: NegativeELBO(beta)(vae, x, key))(keys)


def expected(vae, x, beta=1.0, n=4000, seed=0):
    """Loss and terms averaged over many draws of the noise, and the standard error of the loss."""
    loss, terms = losses(vae, x, jnp.float32(beta), jax.random.split(jax.random.key(seed), n))
    return float(np.mean(loss)), jax.tree.map(lambda t: float(np.mean(t)), terms), float(np.std(loss) / np.sqrt(n))


def test_with_the_exact_posterior_the_bound_is_the_evidence():
    x = data(20)
    loss, _, error = expected(linear_vae(), x)
    assert error < 0.01
    assert abs(-loss - evidence(x)) < 4 * error


# Each costs the divergence from the exact posterior: a shift d of the means (in its widths), a stretch t of the widths.
WORSE = {"shifted": {"shift": 0.3}, "too wide": {"stretch": 1.6}, "too narrow": {"stretch": 0.5}}


@pytest.mark.parametrize("case", WORSE)
def test_with_another_posterior_the_bound_lies_below_by_the_divergence(case):
    x, change = data(20), WORSE[case]
    loss, _, error = expected(linear_vae(**change), x)
    precision, t = 1 + np.sum(W**2, axis=0) / S**2, change.get("stretch", 1.0)
    divergence = 0.5 * np.sum(precision * change.get("shift", 0.0) ** 2 + t**2 - 1 - 2 * np.log(t))
    assert divergence > 0.1
    assert abs(evidence(x) - divergence + loss) < 4 * error + 1e-3


def test_terms_in_closed_form():
    """Reconstruction under the exact posterior and its divergence from the prior."""
    x = np.asarray(data(20), np.float64)
    _, terms, error = expected(linear_vae(), data(20))
    precision = 1 + np.sum(W**2, axis=0) / S**2
    means = (x - B) @ W / S**2 / precision
    kl = 0.5 * np.sum(1 / precision + means**2 - 1 + np.log(precision), axis=1).mean()
    squares = np.sum((x - B - means @ W.T) ** 2, axis=1).mean() + np.sum(np.sum(W**2, axis=0) / precision)
    reconstruction = squares / (2 * S**2) + N_FEATURES * np.log(S * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(terms["kl"], kl, rtol=1e-4)
    assert abs(terms["reconstruction"] - reconstruction) < 4 * error


@pytest.mark.parametrize("beta", [0.0, 0.01, 1.0, 4.0])
def test_terms_sum_to_the_loss(beta, key):
    x, vae = data(20), linear_vae(shift=0.3)
    loss, terms = losses(vae, x, jnp.float32(beta), key[None])
    np.testing.assert_allclose(loss, terms["reconstruction"] + beta * terms["kl"], rtol=1e-6)
    np.testing.assert_array_equal(terms["beta"], np.float32(beta))
    # The terms themselves know no beta; without it only the reconstruction is left.
    _, one = losses(vae, x, jnp.float32(1.0), key[None])
    np.testing.assert_array_equal(terms["kl"], one["kl"])
    np.testing.assert_array_equal(terms["reconstruction"], one["reconstruction"])
    if beta == 0:
        np.testing.assert_array_equal(loss, terms["reconstruction"])


def test_the_divergence_is_summed_over_latent_dimensions(key):
    """Each dimension twice, the copies unseen by the decoder: twice the divergence, the same reconstruction."""
    vae, x = linear_vae(shift=0.3), data(20)
    twice = np.array([0, 1, 0, 1, 2, 3, 2, 3])
    linear = vae.encoder.layers[0]
    wide = MLPEncoder(N_FEATURES, 4, (), "silu", shift=jnp.zeros(N_FEATURES), scale=jnp.ones(()), key=key)
    wide = layer(wide, linear.weight[twice], linear.bias[twice])
    unseen = eqx.nn.Linear(4, N_FEATURES, key=key)
    weight = jnp.concatenate([vae.decoder.layers[0].weight, jnp.zeros((N_FEATURES, 2))], axis=1)
    unseen = eqx.tree_at(lambda m: (m.weight, m.bias), unseen, (weight, vae.decoder.layers[0].bias))
    doubled = eqx.tree_at(lambda v: (v.encoder, v.decoder.layers, v.prior), vae, (wide, (unseen,), StandardNormal(4)))
    (_, one, error), (_, two, _) = expected(vae, x), expected(doubled, x)
    np.testing.assert_allclose(two["kl"], 2 * one["kl"], rtol=1e-5)
    assert abs(two["reconstruction"] - one["reconstruction"]) < 6 * error


def test_reconstruction_is_summed_over_features(key):
    """With no noise to speak of it is the squared distance to what comes back."""
    vae, x = linear_vae(stretch=1e-3, likelihood=SquaredError()), data(20)
    back = np.asarray(jax.vmap(lambda row: vae.decode(vae.encode(row)))(x))
    _, terms = losses(vae, x, jnp.float32(1.0), key[None])
    np.testing.assert_allclose(terms["reconstruction"], np.sum((x - back) ** 2, axis=1).mean()[None], rtol=2e-3)


def test_the_loss_is_a_mean_over_the_batch():
    """The batch twice has the same expectation, and half the variance of the noise."""
    x, vae = data(20), linear_vae(shift=0.3)
    (one, one_terms, error), (two, two_terms, smaller) = (
        expected(vae, x),
        expected(vae, jnp.concatenate([x, x]), seed=1),
    )
    np.testing.assert_allclose(two_terms["kl"], one_terms["kl"], rtol=1e-5)
    assert abs(two - one) < 4 * np.hypot(error, smaller)
    np.testing.assert_allclose(smaller / error, np.sqrt(0.5), rtol=0.1)  # each example has noise of its own


def test_the_noise_is_the_key():
    x, vae = data(20), linear_vae()
    one, again, other = (losses(vae, x, jnp.float32(1.0), jax.random.key(i)[None])[0] for i in (1, 1, 2))
    assert one == again != other


@pytest.mark.parametrize("s", [0.1, 2.0])
def test_squared_error_has_the_gradients_of_the_gaussian_at_the_stated_beta(s, key):
    """beta' = beta / (2 s^2) makes the whole loss, not only its reconstruction, the same up to 2 s^2."""
    x, beta = data(20), 0.5

    def gradient(likelihood, beta):
        vae = linear_vae(shift=0.3, likelihood=likelihood)
        grads = eqx.filter_jit(eqx.filter_grad(lambda v: NegativeELBO(beta)(v, x, key)[0]))(vae)
        return jax.tree.leaves((grads.encoder.layers, grads.decoder.layers))

    gaussian = gradient(Gaussian(jnp.full(N_FEATURES, s, jnp.float32), learned=False), beta / (2 * s**2))
    for by_squares, by_density in zip(gradient(SquaredError(), beta), gaussian, strict=True):
        np.testing.assert_allclose(by_squares, 2 * s**2 * by_density, rtol=1e-3, atol=1e-4)


# -- full covariances

SKEW = np.array([[1.0, 0.9], [1.0, 0.5], [0.5, 0.6], [0.0, 0.3], [-0.5, 0.2]])


def full_vae(factor_of=np.linalg.cholesky):
    """Columns of W at no right angle: components of the exact posterior depend on each other."""
    none, unit, key = jnp.zeros(N_FEATURES), jnp.ones(()), jax.random.key(0)
    covariance = np.linalg.inv(np.eye(LATENT_DIM) + SKEW.T @ SKEW / S**2)
    to_mean, factor = covariance @ SKEW.T / S**2, factor_of(covariance)
    to_log_std = 8 * np.arctanh(np.log(np.diag(factor)) / 8)
    lower = (factor / np.diag(factor)[:, None])[np.tril_indices(LATENT_DIM, -1)]
    encoder = layer(
        MLPEncoder(N_FEATURES, LATENT_DIM, (), "silu", shift=none, scale=unit, key=key, covariance="full"),
        np.concatenate([to_mean, np.zeros((LATENT_DIM + 1, N_FEATURES))]),
        np.concatenate([-to_mean @ B, to_log_std, lower]),
    )
    return eqx.tree_at(lambda v: (v.encoder, v.decoder), linear_vae(), (encoder, layer(linear_vae().decoder, SKEW, B)))


def independent(covariance):
    """The best a diagonal covariance can do: the widths of the conditionals."""
    return np.diag(np.diag(np.linalg.inv(covariance)) ** -0.5)


def test_a_full_posterior_is_exact_where_no_diagonal_one_is():
    x = data(20)
    exact = stats.multivariate_normal(B, SKEW @ SKEW.T + S**2 * np.eye(N_FEATURES)).logpdf(np.asarray(x)).mean()
    loss, _, error = expected(full_vae(), x)
    assert abs(-loss - exact) < 4 * error
    covariance = np.linalg.inv(np.eye(LATENT_DIM) + SKEW.T @ SKEW / S**2)
    correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    loss, _, error = expected(full_vae(independent), x)
    assert abs(exact + 0.5 * np.log(1 - correlation**2) + loss) < 4 * error
    assert correlation**2 > 0.3


# -- importance-weighted bounds


@eqx.filter_jit
def weighted(vae, x, n_samples, keys):
    return jax.vmap(lambda key: ImportanceWeighted(n_samples)(vae, x, key))(keys)


EXACT = {"diagonal": (linear_vae, W), "full": (full_vae, SKEW)}


@pytest.mark.parametrize("n_samples", [1, 2, 50])
@pytest.mark.parametrize("case", EXACT)
def test_with_the_exact_posterior_every_weight_is_the_evidence(case, n_samples, key):
    """No matter how many there are, nor which noise: not only on average."""
    build, weights = EXACT[case]
    x = data(20)
    exact = stats.multivariate_normal(B, weights @ weights.T + S**2 * np.eye(N_FEATURES)).logpdf(np.asarray(x)).mean()
    loss, _ = weighted(build(), x, n_samples, jax.random.split(key, 3))
    np.testing.assert_allclose(-loss, exact, rtol=1e-5)


# Posteriors so narrow that the weights have no variance come nearer too, but slowly.
@pytest.mark.parametrize("case", ["shifted", "too wide"])
def test_the_bound_rises_with_the_number_of_samples_from_the_lower_bound_to_the_evidence(case):
    x, vae = data(20), linear_vae(**WORSE[case])
    loss, _, error = expected(vae, x, seed=1)
    bounds, errors = [-loss], [error]
    for n_samples in (1, 4, 100):
        losses, _ = weighted(vae, x, n_samples, jax.random.split(jax.random.key(n_samples), 4000 // n_samples))
        bounds.append(-float(losses.mean()))
        errors.append(float(losses.std() / np.sqrt(len(losses))))
    steps, noise = np.diff(bounds), np.hypot(errors[1:], errors[:-1])
    assert abs(steps[0]) < 4 * noise[0]
    assert (steps[1:] > 4 * noise[1:]).all()
    gaps = evidence(x) - np.array(bounds)
    assert (gaps > -4 * np.array(errors)).all()
    assert gaps[-1] < 0.1 * gaps[0]


def test_weighted_terms_are_those_of_single_samples(key):
    """With one sample they sum to the loss; with more, by Jensen, to more than it. Their means do not change."""
    x, vae = data(20), linear_vae(stretch=1.6)
    for n_samples in (1, 10):
        loss, terms = weighted(vae, x, n_samples, jax.random.split(key, 500))
        total = terms["reconstruction"] + terms["kl"]
        if n_samples == 1:
            np.testing.assert_allclose(loss, total, rtol=1e-5)
        else:
            assert (loss < total).all()
        np.testing.assert_array_equal(terms["beta"], 1)
        _, closed, error = expected(vae, x)
        for name in ("reconstruction", "kl"):
            noise = np.hypot(error, float(np.std(terms[name])) / np.sqrt(500))
            assert abs(float(terms[name].mean()) - closed[name]) < 4 * noise


# -- free bits


def by_dimension(x, shift=0.0):
    """Divergence of each example (n, latent_dim), in closed form."""
    precision = 1 + np.sum(W**2, axis=0) / S**2
    means = shift + (np.asarray(x, float) - B) @ W / S**2 / precision
    return 0.5 * (1 / precision + means**2 - 1 + np.log(precision))


@eqx.filter_jit
def loss_and_gradient(vae, x, key, objective):
    (loss, terms), gradient = eqx.filter_value_and_grad(lambda v: objective(v, x, key), has_aux=True)(vae)
    return loss, terms, gradient.encoder.layers[0], gradient.decoder.layers[0]


BETA = 0.5
STANDARD = {"by dimension": StandardNormal(LATENT_DIM), "in one part": GaussianMixture(jnp.zeros((1, LATENT_DIM)))}


@pytest.mark.parametrize("case", STANDARD)
def test_below_the_free_bits_the_divergence_has_no_gradient(case, key):
    x, vae = data(20), eqx.tree_at(lambda v: v.prior, linear_vae(), STANDARD[case])
    loss, terms, *gradient = loss_and_gradient(vae, x, key, NegativeELBO(BETA, 3.0))
    without, same, *expected = loss_and_gradient(vae, x, key, NegativeELBO(0.0))
    assert jax.tree.all(jax.tree.map(np.array_equal, gradient, expected))
    np.testing.assert_allclose(loss, without + BETA * 3.0 * LATENT_DIM, rtol=1e-6)
    # What is reported is all of it.
    np.testing.assert_array_equal(terms["kl"], same["kl"])


@pytest.mark.parametrize("case", STANDARD)
def test_above_the_free_bits_nothing_is_free(case, key):
    """They are compared with the mean of the batch: single examples may be below."""
    x, vae = data(20), eqx.tree_at(lambda v: v.prior, linear_vae(), STANDARD[case])
    each = by_dimension(x)
    bits = 0.95 * float(each.mean(axis=0).min())
    assert (each < bits).any()
    one, two = (loss_and_gradient(vae, x, key, NegativeELBO(BETA, free)) for free in (bits, 0.0))
    assert jax.tree.all(jax.tree.map(np.array_equal, one, two))


def test_each_dimension_has_free_bits_of_its_own(key):
    x, vae = data(20), linear_vae()
    each = by_dimension(x).mean(axis=0)
    assert each[0] > 1.3 * each[1]
    bits = float(np.sqrt(each[0] * each[1]))
    loss, terms, encoder, decoder = loss_and_gradient(vae, x, key, NegativeELBO(BETA, bits))
    np.testing.assert_allclose(loss, terms["reconstruction"] + BETA * (each[0] + bits), rtol=1e-5)
    plain, free = (loss_and_gradient(vae, x, key, NegativeELBO(beta))[2:] for beta in (BETA, 0.0))
    # Rows of the encoder: two means, two widths.
    for row, (expected, other) in enumerate([(plain, free), (free, plain)] * 2):
        np.testing.assert_allclose(encoder.weight[row], expected[0].weight[row], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(encoder.bias[row], expected[0].bias[row], rtol=1e-5, atol=1e-6)
        assert (
            abs(encoder.bias[row] - other[0].bias[row]) > 1e-3
            or abs(encoder.weight[row] - other[0].weight[row]).max() > 1e-3
        )
    np.testing.assert_array_equal(decoder.weight, plain[1].weight)


# -- the divergence by formula and by samples


@eqx.filter_jit
def losses_and_gradients(vae, x, keys):
    def one(key):
        (loss, terms), gradient = eqx.filter_value_and_grad(lambda v: NegativeELBO(BETA)(v, x, key), has_aux=True)(vae)
        return loss, terms["reconstruction"], gradient.encoder.layers[0]

    return jax.vmap(one)(keys)


MIXTURES = {
    "one component": (lambda: linear_vae(shift=0.3, stretch=1.6), 1),
    "equal components": (lambda: linear_vae(shift=0.3, stretch=1.6), 3),
    "full posterior": (full_vae, 1),
}


@pytest.mark.parametrize("case", MIXTURES)
def test_formula_and_samples_agree_on_loss_and_gradient(case):
    """A mixture that is the standard normal, of which the objective does not know. Same key, same reconstruction."""
    build, components = MIXTURES[case]
    x, keys = data(5), jax.random.split(jax.random.key(8), 2000)
    closed = losses_and_gradients(build(), x, keys)
    prior = GaussianMixture(jnp.zeros((components, LATENT_DIM)))
    sampled = losses_and_gradients(eqx.tree_at(lambda v: v.prior, build(), prior), x, keys)
    np.testing.assert_allclose(sampled[1], closed[1], rtol=1e-6)
    for one, other in zip(jax.tree.leaves(sampled), jax.tree.leaves(closed), strict=True):
        difference = np.asarray(one, float) - np.asarray(other, float)
        error = difference.std(axis=0) / np.sqrt(len(keys))
        assert (np.abs(difference.mean(axis=0)) <= 4.5 * error + 1e-5).all()
    assert np.std(np.asarray(sampled[0]) - np.asarray(closed[0])) > 0.01
