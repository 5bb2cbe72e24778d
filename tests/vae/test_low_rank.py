"""Noise with a stated covariance, and what it is for: bonds."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import mdvae
from mdvae.vae import Gaussian, LowRankGaussian

WIDTH = np.array([0.01, 0.1, 2.0])
MEAN = jnp.array([1.0, -2.0, 0.5])
LOG_WIDTH = np.array([0.7, -1.0, 0.0])


def low_rank(rank=2, log_width=LOG_WIDTH):
    likelihood = LowRankGaussian(jnp.asarray(WIDTH, jnp.float32), rank, key=jax.random.key(4))
    return eqx.tree_at(lambda g: g.independent.log_width, likelihood, jnp.asarray(log_width, jnp.float32))


def covariance(likelihood):
    """By its definition, in the unit of the features."""
    factor = WIDTH[:, None] * np.asarray(likelihood.relative, float)
    return np.diag((WIDTH * np.exp(likelihood.independent.log_width)) ** 2) + factor @ factor.T


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_log_density_agrees_with_scipy(rank):
    """Widths and displacements are relative to where the widths start."""
    likelihood = low_rank(rank)
    np.testing.assert_allclose(likelihood.width(), WIDTH * np.exp(LOG_WIDTH), rtol=1e-5)
    full = stats.multivariate_normal(np.asarray(MEAN, float), covariance(likelihood))
    x = full.rvs(5, random_state=0).astype(np.float32)
    found = jax.vmap(lambda row: likelihood.log_prob(MEAN, row))(jnp.asarray(x))
    np.testing.assert_allclose(found, full.logpdf(x.astype(float)), rtol=1e-3, atol=1e-3)


def test_it_starts_as_almost_independent_noise():
    started = LowRankGaussian(jnp.asarray(WIDTH, jnp.float32), 2, key=jax.random.key(0))
    correlation = covariance(started) / np.outer(WIDTH, WIDTH) - np.eye(3)
    assert 0 < np.abs(correlation).max() < 0.2
    np.testing.assert_allclose(started.width(), WIDTH, rtol=1e-6)


def test_samples_have_the_stated_covariance(key):
    likelihood, n = (
        eqx.tree_at(lambda g: g.relative, low_rank(), jnp.array([[3.0, 0.0], [-1.0, 0.5], [0.0, 1.0]])),
        20_000,
    )
    samples = np.asarray(jax.vmap(lambda k: likelihood.sample(MEAN, k))(jax.random.split(key, n)))
    stated = covariance(likelihood)
    std = np.sqrt(np.diag(stated))
    np.testing.assert_allclose((samples.mean(axis=0) - MEAN) / std, 0, atol=4 / np.sqrt(n))
    np.testing.assert_allclose((np.cov(samples.T) - stated) / np.outer(std, std), 0, atol=6 / np.sqrt(n))
    assert abs(stated[0, 1]) / (std[0] * std[1]) > 0.5


def test_mean_and_number_of_parameters():
    np.testing.assert_array_equal(low_rank().mean(MEAN), MEAN)
    assert low_rank().n_params(3) == 3


@pytest.mark.parametrize("log_width", [-9.5, -100.0, -1e30])
@pytest.mark.parametrize("columns", ["started", "equal", "enormous"])
def test_gradients_are_finite_at_the_floor_of_the_widths(log_width, columns):
    """Also where all columns are one and the same, a thousand widths long."""
    relative = {"started": low_rank(3).relative, "equal": jnp.ones((3, 3)), "enormous": jnp.full((3, 3), 1000.0)}[
        columns
    ]
    likelihood = eqx.tree_at(lambda g: g.relative, low_rank(3, np.full(3, log_width)), relative)
    np.testing.assert_allclose(likelihood.width(), WIDTH * np.exp(-9), rtol=1e-5)
    value, gradient = eqx.filter_value_and_grad(lambda g: g.log_prob(MEAN, MEAN + 1.0))(likelihood)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert not np.any(gradient.independent.scale)


@pytest.fixture(scope="module")
def hinges():
    """Chain of 6 atoms, (1000, 6, 2): rigid but for a hundredth of a bond, its four joints bend independently."""
    rng = np.random.default_rng(0)
    bends = np.array([1.0, -1.0, 1.0, -1.0]) + 0.15 * rng.normal(size=(1000, 4))
    directions = np.cumsum(np.concatenate([np.zeros((1000, 1)), bends], axis=1), axis=1)
    lengths = 1 + 0.01 * rng.normal(size=(1000, 5))
    steps = lengths[..., None] * np.stack([np.cos(directions), np.sin(directions)], axis=-1)
    return np.concatenate([np.zeros((1000, 1, 2)), np.cumsum(steps, axis=1)], axis=1)


def fitted(hinges, **likelihood):
    frames = mdvae.read(hinges, length_unit="reduced")
    model = mdvae.build(frames, latent_dim=1, hidden=(32, 32), seed=0, **likelihood)
    return mdvae.train(model, frames, epochs=80, batch_size=32, learning_rate=3e-3, seed=0, progress=False)


@pytest.fixture(scope="module")
def correlated(hinges):
    return fitted(hinges, likelihood="low_rank_gaussian", rank=8)


# Samples as the model states them, without `restore`: that would mend what is tested.


def share_of_whole(model):
    """Of samples with every bond within five standard deviations, as the data have them."""
    samples = mdvae.generate(model, 2000, noise=True, restore=False, seed=1).xyz
    return np.all(np.abs(np.linalg.norm(np.diff(samples, axis=1), axis=-1) - 1) < 0.05, axis=1).mean()


def test_samples_keep_bonds_that_independent_noise_breaks(hinges, correlated):
    """One latent dimension cannot say how four joints stand: the noise has to, and only shared noise can."""
    independent = fitted(hinges)
    assert share_of_whole(independent) < 0.2
    assert share_of_whole(correlated) > 0.9
    losses = [model.history.best()["validation_loss"] for model in (correlated, independent)]
    assert losses[0] < losses[1] - 5


def test_samples_spread_as_the_data_do(hinges, correlated):
    """Noise that is right, and not only small."""
    frames = mdvae.read(hinges, length_unit="reduced").coordinates
    samples = mdvae.generate(correlated, 5000, noise=True, restore=False, seed=1).xyz[..., :2]
    np.testing.assert_allclose(samples.std(axis=0), frames.std(axis=0), rtol=0.15)
    ends = [np.linalg.norm(x[:, -1] - x[:, 0], axis=-1) for x in (samples, frames)]
    assert stats.wasserstein_distance(*ends) < 0.15 * ends[1].std()


def test_the_file_holds_the_noise(correlated, tmp_path):
    mdvae.save(correlated, tmp_path / "m.mdvae")
    again = mdvae.load(tmp_path / "m.mdvae")
    assert (again.spec.likelihood, again.spec.rank) == ("low_rank_gaussian", 8)
    samples = [mdvae.generate(model, 5, noise=True, restore=False, seed=2).xyz for model in (correlated, again)]
    np.testing.assert_array_equal(*samples)


def test_weights_of_other_likelihoods_do_not_depend_on_it(hinges):
    """The noise has a key of its own."""
    frames = mdvae.read(hinges, length_unit="reduced")
    one, other = (mdvae.build(frames, seed=3, likelihood=name).vae for name in ("gaussian", "low_rank_gaussian"))
    assert eqx.tree_equal((one.encoder, one.decoder), (other.encoder, other.decoder))
    assert isinstance(one.likelihood, Gaussian)
