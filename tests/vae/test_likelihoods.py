import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mdvae.vae import Gaussian, SquaredError

WIDTH = np.array([0.01, 0.1, 2.0])
MEAN = jnp.array([1.0, -2.0, 0.5])


def gaussian(learned=True, log_width=(0.0, 0.0, 0.0)):
    likelihood = Gaussian(jnp.asarray(WIDTH, jnp.float32), learned=learned)
    return eqx.tree_at(lambda g: g.log_width, likelihood, jnp.asarray(log_width, jnp.float32))


LIKELIHOODS = {"learned": gaussian(), "fixed": gaussian(learned=False), "squared error": SquaredError()}
SHIFTED = (0.7, -1.0, 0.0)


@pytest.mark.parametrize("log_width", [(0.0, 0.0, 0.0), SHIFTED])
@pytest.mark.parametrize("learned", [True, False])
def test_gaussian_log_density_agrees_with_scipy(learned, log_width, rng):
    """Widths are relative to where they start."""
    likelihood, width = gaussian(learned, log_width), WIDTH * np.exp(log_width)
    np.testing.assert_allclose(likelihood.width(), width, rtol=1e-5)
    x = np.asarray(MEAN) + width * rng.normal(size=3)
    expected = stats.norm.logpdf(x, MEAN, width).sum()
    np.testing.assert_allclose(likelihood.log_prob(MEAN, jnp.asarray(x, jnp.float32)), expected, rtol=1e-4)


def test_squared_error_by_hand():
    assert SquaredError().log_prob(MEAN, MEAN) == 0
    np.testing.assert_allclose(SquaredError().log_prob(MEAN, MEAN + jnp.array([1.0, 2.0, 0.0])), -5, rtol=1e-6)


@pytest.mark.parametrize("case", LIKELIHOODS)
def test_mean_and_number_of_parameters(case):
    likelihood = LIKELIHOODS[case]
    np.testing.assert_array_equal(likelihood.mean(MEAN), MEAN)
    assert likelihood.n_params(3) == 3


@pytest.mark.parametrize("learned", [True, False])
def test_gaussian_sample_moments(learned, key):
    likelihood, n = gaussian(learned, SHIFTED), 20_000
    samples = np.asarray(jax.vmap(lambda k: likelihood.sample(MEAN, k))(jax.random.split(key, n)))
    width = WIDTH * np.exp(SHIFTED)
    np.testing.assert_allclose((samples.mean(axis=0) - MEAN) / width, 0, atol=4 / np.sqrt(n))
    np.testing.assert_allclose(samples.std(axis=0) / width, 1, atol=4 / np.sqrt(2 * n))
    np.testing.assert_allclose(np.corrcoef(samples.T), np.eye(3), atol=4 / np.sqrt(n))


def test_squared_error_states_no_noise(key):
    np.testing.assert_array_equal(SquaredError().sample(MEAN, key), MEAN)


def gradient_of_width(likelihood, x):
    return eqx.filter_grad(lambda g: g.log_prob(MEAN, x))(likelihood)


def test_fixed_widths_get_no_gradient_and_learned_ones_the_right_one():
    """Of the log-density by the log-width: squared deviation in widths, less one."""
    x = MEAN + jnp.asarray(WIDTH * [0.5, -1.5, 1.0], jnp.float32)
    fixed, learned = (gradient_of_width(gaussian(learned), x) for learned in (False, True))
    assert not np.any(fixed.log_width)
    np.testing.assert_allclose(learned.log_width, [0.25 - 1, 2.25 - 1, 0], atol=1e-3)
    assert not np.any(fixed.scale)
    assert not np.any(learned.scale)


def test_widths_have_a_floor():
    floor = WIDTH * np.exp(-9)
    for log_width in (-9.5, -100.0, -1e30):
        likelihood = gaussian(log_width=(log_width,) * 3)
        np.testing.assert_allclose(likelihood.width(), floor, rtol=1e-5)
        assert np.isfinite(likelihood.log_prob(MEAN, MEAN + 1.0))
        assert np.isfinite(gradient_of_width(likelihood, MEAN + 1.0).log_width).all()


def test_the_best_learned_width_is_the_deviation_of_the_data(rng):
    """Where the gradient of the mean log-density vanishes."""
    noise = WIDTH * np.array([0.5, 2.0, 1.0]) * rng.normal(size=(500, 3))
    x, deviation = jnp.asarray(np.asarray(MEAN) + noise, jnp.float32), np.sqrt(np.mean(noise**2, axis=0))

    def mean_density(g):
        return jnp.mean(jax.vmap(lambda row: g.log_prob(MEAN, row))(x))

    gradient = eqx.filter_grad(mean_density)(gaussian(log_width=np.log(deviation / WIDTH)))
    np.testing.assert_allclose(gradient.log_width, 0, atol=1e-3)


# -- one family, as the module says


def minus_density(likelihood):
    return jax.grad(lambda m, x: -likelihood.log_prob(m, x))


@pytest.mark.parametrize("s", [0.02, np.sqrt(0.5), 3.0])
def test_squared_error_and_gaussian_have_gradients_equal_up_to_the_factor(s, rng):
    x = MEAN + jnp.asarray(rng.normal(size=3), jnp.float32)
    width = Gaussian(jnp.full(3, s, jnp.float32), learned=False)
    expected = np.asarray(minus_density(SquaredError())(MEAN, x)) / (2 * s**2)
    np.testing.assert_allclose(minus_density(width)(MEAN, x), expected, rtol=1e-4)


def test_the_constant_is_as_stated(rng):
    """D log s + D/2 log 2 pi, whatever the data."""
    x, s = jnp.asarray(rng.normal(size=3), jnp.float32), 0.3
    gaussian = Gaussian(jnp.full(3, s, jnp.float32), learned=False)
    rest = -gaussian.log_prob(MEAN, x) + SquaredError().log_prob(MEAN, x) / (2 * s**2)
    np.testing.assert_allclose(rest, 3 * np.log(s) + 1.5 * np.log(2 * np.pi), rtol=1e-4)
