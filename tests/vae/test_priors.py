"""A prior is a density and its samples; both are told apart from any other by numbers that neither of them knows."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from mdvae.distributions import FullNormal
from mdvae.networks import MLPEncoder
from mdvae.vae import Fixed, Flow, GaussianMixture, StandardNormal, VampPrior

N_FEATURES = 4
N_SAMPLES = 10_000
UNIT = jnp.array([0.1, 1.0, 2.0, 0.5])


def encoder(latent_dim, seed=0, covariance="diagonal"):
    """Its posteriors lie apart and differ in width."""
    net = MLPEncoder(
        N_FEATURES, latent_dim, (16,), "tanh", shift=jnp.zeros(N_FEATURES), scale=UNIT, key=jax.random.key(seed),
        covariance=covariance,
    )  # fmt: skip
    return eqx.tree_at(lambda e: e.layers[-1].weight, net, replace_fn=lambda weight: 3 * weight)


def moved(prior, size, seed=1):
    """The prior with all its numbers moved, as training might."""
    leaves, tree = jax.tree.flatten(eqx.filter(prior, eqx.is_inexact_array))
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noise = [size * jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    return eqx.apply_updates(prior, jax.tree.unflatten(tree, noise))


def mixture(n_components, latent_dim):
    means = 2 * jax.random.normal(jax.random.key(2), (n_components, latent_dim), jnp.float32)
    return moved(GaussianMixture(means, 0.5), 0.3)


def vamp(n_components):
    inputs = UNIT * jax.random.normal(jax.random.key(3), (N_FEATURES,), jnp.float32)
    inputs = inputs[None] + jax.random.normal(jax.random.key(4), (n_components, 1), jnp.float32) * UNIT[None]
    prior = VampPrior(inputs, UNIT)
    return eqx.tree_at(lambda p: p.logits, prior, jnp.linspace(-1.0, 1.0, n_components))


def flow(latent_dim):
    return moved(Flow(jnp.zeros(latent_dim), jnp.ones(latent_dim), n_layers=2, width=8, key=jax.random.key(5)), 0.1)


PRIORS = {
    "standard normal, one dimension": (lambda: StandardNormal(1), 1),
    "standard normal": (lambda: StandardNormal(2), 2),
    "mixture, one dimension": (lambda: mixture(4, 1), 1),
    "mixture": (lambda: mixture(5, 2), 2),
    "vamp": (lambda: vamp(6), 2),
    "flow, one dimension": (lambda: flow(1), 1),
    "flow": (lambda: flow(2), 2),
    "flow, five dimensions": (lambda: flow(5), 5),
    "fixed mixture": (lambda: Fixed(mixture(5, 2)), 2),
}
FIXED = {"mixture": lambda: mixture(5, 2), "vamp": lambda: vamp(6), "flow": lambda: flow(2)}


@cache
def built(case):
    """Prior, encoder, latent_dim."""
    build, latent_dim = PRIORS[case]
    return build(), encoder(latent_dim), latent_dim


@eqx.filter_jit
def _log_probs(prior, encode, z):
    return jax.vmap(prior.distribution(encode).log_prob)(z)


@eqx.filter_jit
def _samples(prior, encode, keys):
    return jax.vmap(prior.distribution(encode).sample)(keys)


def log_probs(case, z):
    prior, encode, _ = built(case)
    # Always as many at a time, lest each number of points be compiled anew.
    padded = np.resize(np.asarray(z, np.float32), (-len(z) // N_SAMPLES * -N_SAMPLES, z.shape[1]))
    blocks = jnp.asarray(padded).reshape(-1, N_SAMPLES, z.shape[1])
    return np.concatenate([np.asarray(_log_probs(prior, encode, block), float) for block in blocks])[: len(z)]


@cache
def samples(case):
    """Samples and their log-densities."""
    prior, encode, _ = built(case)
    z = np.asarray(_samples(prior, encode, jax.random.split(jax.random.key(6), N_SAMPLES)), float)
    return z, log_probs(case, z)


def grid(latent_dim):
    """Points and the volume of each."""
    axis = np.linspace(-10, 10, 401)
    points = np.stack(np.meshgrid(*[axis] * latent_dim), axis=-1).reshape(-1, latent_dim)
    return points, (axis[1] - axis[0]) ** latent_dim


def wide(case):
    """Student's distribution that covers the samples, and points of it."""
    z, _ = samples(case)
    one = stats.multivariate_t(z.mean(axis=0), 1.5 * np.cov(z.T), df=5, seed=0)
    return one, one.rvs(2 * N_SAMPLES).astype(np.float32)


def z_score(values, expected):
    return (values.mean() - expected) / (values.std() / np.sqrt(len(values)))


@pytest.mark.parametrize("case", PRIORS)
def test_density_integrates_to_one(case):
    """On a grid; in more dimensions by points of a wider distribution."""
    latent_dim = PRIORS[case][1]
    if latent_dim < 3:
        points, volume = grid(latent_dim)
        np.testing.assert_allclose(np.exp(log_probs(case, points)).sum() * volume, 1, atol=1e-3)
    else:
        one, points = wide(case)
        weights = np.exp(log_probs(case, points) - one.logpdf(points))
        assert weights.std() < 3
        assert abs(z_score(weights, 1.0)) < 4


@pytest.mark.parametrize("case", PRIORS)
def test_samples_follow_the_density(case):
    """Moments, signs, and the log-density itself: their means over samples are their integrals over the density."""
    latent_dim = PRIORS[case][1]
    z, log_density = samples(case)

    def numbers(z, log_density):
        center = z - samples(case)[0].mean(axis=0)
        products = np.einsum("ni,nj->nij", center, center)[:, *np.triu_indices(latent_dim)]
        return np.concatenate([center, products, np.sign(center), log_density[:, None]], axis=1)

    if latent_dim < 3:
        points, volume = grid(latent_dim)
        log_of_points = log_probs(case, points)
        expected, error = (np.exp(log_of_points) * volume) @ numbers(points, log_of_points), 0.0
    else:
        one, points = wide(case)
        log_of_points = log_probs(case, points)
        weighted = np.exp(log_of_points - one.logpdf(points))[:, None] * numbers(points, log_of_points)
        expected, error = weighted.mean(axis=0), weighted.std(axis=0) / np.sqrt(len(points))
    found = numbers(z, log_density)
    error = np.hypot(found.std(axis=0) / np.sqrt(len(z)), error)
    np.testing.assert_allclose((found.mean(axis=0) - expected) / error, 0, atol=4.5)


@pytest.mark.parametrize("case", [name for name in PRIORS if "standard" not in name])
def test_none_of_them_is_a_standard_normal(case):
    """Else the tests above would say little."""
    z, log_density = samples(case)
    standard = stats.norm.logpdf(z).sum(axis=1)
    assert np.mean(log_density - standard) > 0.04


PLACES = {"center": 0.0, "border of the splines": 5.0, "other border": -5.0, "outside": 50.0, "far": -1e4}


@pytest.mark.parametrize("case", PRIORS)
def test_gradients_are_finite(case):
    prior, encode, latent_dim = built(case)
    z = jnp.asarray(np.array(list(PLACES.values()))[:, None] * np.ones(latent_dim), jnp.float32)

    @eqx.filter_jit
    def gradients(prior, encode, z):
        return jax.vmap(
            lambda z: eqx.filter_value_and_grad(lambda parts: parts[0].distribution(parts[1]).log_prob(parts[2]))(
                (prior, encode, z)
            )
        )(z)

    values, (of_prior, of_encoder, of_z) = gradients(prior, encode, z)
    assert np.isfinite(values).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((of_prior, of_encoder, of_z)))
    assert np.any(of_z != 0)
    # Only pseudo-inputs lean on the encoder, and their unit is held.
    assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(of_encoder)) == isinstance(prior, VampPrior)
    if isinstance(prior, VampPrior):
        assert not np.any(of_prior.scale)
        of_prior = eqx.tree_at(lambda p: p.scale, of_prior, None)
    learned = [np.any(leaf != 0) for leaf in jax.tree.leaves(of_prior) if leaf.size]
    if case == "flow, one dimension":  # its networks have nothing to look at: their biases are what is learned
        assert any(learned)
    else:
        assert all(learned) != case.startswith("fixed")


@pytest.mark.parametrize("case", FIXED)
def test_fixed_priors_are_the_same_and_keep_their_numbers(case):
    prior, encode = FIXED[case](), encoder(2)
    z = jnp.array([0.3, -1.0])

    @eqx.filter_jit
    def value_and_gradient(prior):
        return eqx.filter_value_and_grad(lambda p: p.distribution(encode).log_prob(z))(prior)

    (value, gradient), (fixed_value, fixed_gradient) = value_and_gradient(prior), value_and_gradient(Fixed(prior))
    np.testing.assert_allclose(fixed_value, value, rtol=1e-6)
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(fixed_gradient))


# -- each by its definition


@pytest.mark.parametrize("std", [1.0, 0.3, (0.2, 0.5, 2.0)])
def test_a_mixture_starts_with_equal_weights_and_the_given_widths(std, rng):
    means = rng.normal(size=(4, 3)).astype(np.float32)
    given = jnp.asarray(std, jnp.float32) if isinstance(std, tuple) else std
    z = rng.normal(size=(5, 3)).astype(np.float32)
    found = _log_probs(GaussianMixture(jnp.asarray(means), given), encoder(3), jnp.asarray(z))
    expected = [logsumexp(stats.norm.logpdf(one, means, std).sum(axis=1)) - np.log(4) for one in z]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_pseudo_inputs_make_the_mixture_of_their_posteriors(covariance, rng):
    prior, encode = vamp(6), encoder(2, covariance=covariance)
    weights = np.exp(prior.logits - logsumexp(prior.logits))
    posteriors = [encode(row * UNIT) for row in prior.relative]
    assert isinstance(posteriors[0], FullNormal) == (covariance == "full")
    z = rng.normal(size=(5, 2)).astype(np.float32)
    each = np.array([stats.multivariate_normal(p.mean, p.covariance()).logpdf(z) for p in posteriors])
    found = _log_probs(prior, encode, jnp.asarray(z))
    np.testing.assert_allclose(found, logsumexp(each, axis=0, b=weights[:, None]), rtol=1e-3)


def test_pseudo_inputs_start_where_they_are_told_in_any_unit():
    """One unit or one a feature: the density is the same, and the gradient that of the unit."""
    inputs, z, encode = (
        jnp.asarray(np.random.default_rng(1).normal(size=(3, N_FEATURES)), jnp.float32),
        jnp.ones(2),
        encoder(2),
    )

    def value_and_gradient(unit):
        by_prior = eqx.filter_value_and_grad(lambda p: p.distribution(encode).log_prob(z))
        return eqx.filter_jit(by_prior)(VampPrior(inputs, unit))

    (one, of_one), (ten, of_ten), (each, of_each) = map(value_and_gradient, (jnp.ones(()), jnp.array(10.0), UNIT))
    np.testing.assert_allclose([ten, each], one, rtol=1e-5)
    np.testing.assert_allclose(of_ten.relative, 10 * np.asarray(of_one.relative), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(of_each.relative, np.asarray(of_one.relative) * np.asarray(UNIT), rtol=1e-3, atol=1e-5)
    assert not np.any(of_each.scale)


def test_pseudo_inputs_move_with_the_encoder():
    """Every posterior shifted by d: so is the density."""
    prior, encode, shift = vamp(6), encoder(2), jnp.array([1.0, -2.0])

    def shifted(x):
        return eqx.tree_at(lambda p: p.mean, encode(x), replace_fn=lambda mean: mean + shift)

    z = jnp.array([0.3, -0.2])
    before, after = prior.distribution(encode), prior.distribution(shifted)
    np.testing.assert_allclose(after.log_prob(z + shift), before.log_prob(z), rtol=1e-4)
    assert abs(after.log_prob(z) - before.log_prob(z)) > 0.1


def test_flows_differ_by_their_key():
    arrays = [
        eqx.filter(Flow(jnp.zeros(2), jnp.ones(2), n_layers=2, width=8, key=jax.random.key(seed)), eqx.is_array)
        for seed in (0, 0, 1)
    ]
    assert eqx.tree_equal(arrays[0], arrays[1])
    assert not eqx.tree_equal(arrays[0], arrays[2])
