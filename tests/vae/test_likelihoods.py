import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax, softmax

from mdvae.vae import Categorical, Gaussian, SquaredError

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


def test_a_wider_gaussian_is_a_lower_peak(rng):
    """Perfect reconstruction: the density falls with every factor on the widths by its logarithm a feature."""
    densities = [
        float(Gaussian(jnp.asarray(factor * WIDTH, jnp.float32), learned=False).log_prob(MEAN, MEAN))
        for factor in (1.0, 2.0, 10.0)
    ]
    np.testing.assert_allclose(np.diff(densities), [-3 * np.log(2), -3 * np.log(5)], rtol=1e-4)


@pytest.mark.parametrize("width", [0.05, 1.0, 3.0])
def test_gaussian_density_integrates_to_one(width):
    likelihood = Gaussian(jnp.full(1, width, jnp.float32), learned=False)
    x = 0.5 + width * jnp.linspace(-8, 8, 801)[:, None]
    density = np.exp(jax.vmap(lambda row: likelihood.log_prob(jnp.array([0.5]), row))(x), dtype=float)
    np.testing.assert_allclose(density.sum() * 0.02 * width, 1, rtol=1e-4)


# -- classes

LOGITS = {
    "ordinary": [0.5, -1.0, 2.0, 0.0],
    "equal": [3.0, 3.0, 3.0],
    "far apart": [1e4, 0.0, -1e4],
    "all far out": [1e4, 1e4, 1e4 - 1],
    "all far down": [-1e4, -1e4 + 2, -1e4],
    "two": [-0.3, 0.4],
    "one": [7.0],
}


@pytest.mark.parametrize("case", LOGITS)
def test_cross_entropy_agrees_with_scipy(case):
    logits = jnp.asarray(LOGITS[case])
    expected = log_softmax(np.asarray(LOGITS[case]))
    classes = jnp.eye(len(logits))
    found = [Categorical().log_prob(logits, one) for one in classes]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.exp(np.asarray(found, float)).sum(), 1, rtol=1e-4)
    assert Categorical().n_params(len(logits)) == len(logits)


@pytest.mark.parametrize("case", LOGITS)
def test_gradient_by_the_logits_is_what_the_probabilities_lack(case):
    """Class less probabilities: finite, and not zero for a class that seems impossible."""
    logits = jnp.asarray(LOGITS[case])
    for one in jnp.eye(len(logits)):
        gradient = jax.grad(Categorical().log_prob)(logits, one)
        np.testing.assert_allclose(gradient, np.asarray(one) - softmax(np.asarray(LOGITS[case])), atol=1e-5)


@pytest.mark.parametrize("case", LOGITS)
def test_classes_come_as_often_as_stated(case, key):
    logits, n = jnp.asarray(LOGITS[case]), 20_000
    probabilities = softmax(np.asarray(LOGITS[case]))
    np.testing.assert_allclose(Categorical().mean(logits), probabilities, atol=1e-6)
    samples = np.asarray(jax.vmap(lambda k: Categorical().sample(logits, k))(jax.random.split(key, n)))
    assert samples.dtype == logits.dtype
    np.testing.assert_array_equal(np.unique(samples), [0.0, 1.0][-len(np.unique(samples)) :])
    np.testing.assert_array_equal(samples.sum(axis=1), 1)
    error = np.sqrt(probabilities * (1 - probabilities) / n)
    assert (np.abs(samples.mean(axis=0) - probabilities) <= 4.5 * error + 1e-6).all()


def test_a_constant_in_the_logits_says_nothing(rng):
    logits, one = jnp.asarray(rng.normal(size=5), jnp.float32), jnp.eye(5)[2]
    for shift in (-100.0, 3.0, 100.0):
        np.testing.assert_allclose(
            Categorical().log_prob(logits + shift, one), Categorical().log_prob(logits, one), atol=2e-5
        )
        np.testing.assert_allclose(Categorical().mean(logits + shift), Categorical().mean(logits), atol=2e-5)


def test_a_class_that_is_not_known_for_certain_is_a_weighted_one(rng):
    """Features that are probabilities themselves: the least surprise is where both agree, and it is the entropy."""
    features = jnp.asarray(rng.dirichlet(np.ones(4)), jnp.float32)
    best = jnp.log(features)
    np.testing.assert_allclose(-Categorical().log_prob(best, features), stats.entropy(features), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(Categorical().log_prob)(best, features), 0, atol=1e-6)
