import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from mdvae.vae import GaussianVonMises

# Concentrations from a free angle to one that is sharp to a ten-thousandth of a radian.
CONCENTRATIONS = [1e-7, 0.01, 0.5, 3.0, 40.0, 99.0, 101.0, 3e3, 1e6, 1e8]


def von_mises(spread):
    """Angles alone."""
    spread = jnp.asarray(spread, jnp.float32)
    return GaussianVonMises(jnp.zeros(0, jnp.float32), spread)


def circle(angles, length=1.0):
    angles = np.atleast_1d(angles)
    return jnp.asarray(np.concatenate([length * np.cos(angles), length * np.sin(angles)]), jnp.float32)


@pytest.mark.parametrize("concentration", CONCENTRATIONS)
def test_log_density_agrees_with_scipy(concentration, rng):
    """Whether the concentration comes from the learned factor or from the length of the decoder's vector."""
    deviation = rng.vonmises(0, concentration) if concentration < 1e5 else rng.normal() / np.sqrt(concentration)
    # Angles about zero: elsewhere single precision could not even hold the sharpest of them.
    x, expected = circle(deviation), stats.vonmises.logpdf(deviation, concentration)
    for params, spread in ((circle(0), concentration**-0.5), (circle(0, concentration), 1.0)):
        np.testing.assert_allclose(von_mises([spread]).log_prob(params, x), expected, rtol=1e-4, atol=1e-4)


def test_density_is_one_over_the_circle():
    angles = jnp.linspace(-np.pi, np.pi, 20_001)[:-1]
    log_prob = jax.vmap(lambda a: von_mises([0.4]).log_prob(circle(0.7, 1.3), jnp.stack([jnp.cos(a), jnp.sin(a)])))
    np.testing.assert_allclose(jnp.mean(jnp.exp(log_prob(angles))) * 2 * np.pi, 1, rtol=1e-4)


def test_numbers_come_first_and_are_normal(rng):
    width, spread = jnp.array([0.1, 2.0]), jnp.array([0.3, 1.0, 2.0])
    both, x_numbers, m_numbers = GaussianVonMises(width, spread), *rng.normal(size=(2, 2))
    x_angles, m_angles = rng.uniform(-np.pi, np.pi, size=(2, 3))
    params = jnp.concatenate([jnp.asarray(m_numbers, jnp.float32), circle(m_angles)])
    x = jnp.concatenate([jnp.asarray(x_numbers, jnp.float32), circle(x_angles)])
    expected = stats.norm.logpdf(x_numbers, m_numbers, width).sum()
    expected += stats.vonmises.logpdf(x_angles, np.asarray(spread) ** -2.0, m_angles).sum()
    np.testing.assert_allclose(both.log_prob(params, x), expected, rtol=1e-4)
    assert both.n_params(8) == 8


def test_mean_is_on_the_circle():
    likelihood = GaussianVonMises(jnp.ones(1), jnp.ones(2))
    mean = likelihood.mean(jnp.array([5.0, 0.3, 0.0, -0.4, 0.0]))
    # A vector without length has no direction; the angle zero is as good as any.
    np.testing.assert_allclose(mean, [5.0, 0.6, 1.0, -0.8, 0.0], rtol=1e-6)


SAMPLED = [1e-7, 0.01, 0.5, 3.0, 40.0, 3e3, 1e6, 1e8]


@pytest.mark.parametrize("concentration", SAMPLED)
def test_samples_follow_the_density(concentration, key):
    """Kolmogorov and Smirnov cannot tell them from it, nor can their first and second moments."""
    n = 20_000
    keys = jax.random.split(key, n)
    samples = np.asarray(jax.vmap(lambda k: von_mises([concentration**-0.5]).sample(circle(0), k))(keys), np.float64)
    np.testing.assert_allclose((samples**2).sum(axis=1), 1, atol=1e-5)
    angles = np.arctan2(samples[:, 1], samples[:, 0])
    # SciPy's own distribution function changes over to a rough approximation at 50.
    sharp = concentration > 1e3
    reference = stats.norm(scale=concentration**-0.5) if sharp else stats.vonmises(concentration)
    if sharp or concentration < 50:
        assert stats.kstest(angles, reference.cdf).pvalue > 1e-3
    resultant = special.ive(1, concentration) / special.ive(0, concentration)
    assert abs(np.cos(angles).mean() - resultant) < 5 * np.cos(angles).std() / np.sqrt(n) + 1e-7
    assert abs(np.sin(angles).mean()) < 5 * np.sin(angles).std() / np.sqrt(n)
    spread = np.sqrt((1 - special.ive(2, concentration) / special.ive(0, concentration)) / 2)
    np.testing.assert_allclose(np.sin(angles).std(), spread, rtol=0.05)


def test_samples_are_turned_to_their_means_and_independent(key):
    n, means = 20_000, np.array([2.0, -3.0])
    likelihood = GaussianVonMises(jnp.array([0.5]), jnp.array([0.2, 0.1]))
    params = jnp.concatenate([jnp.array([7.0]), circle(means)])
    samples = np.asarray(jax.vmap(lambda k: likelihood.sample(params, k))(jax.random.split(key, n)))
    turned = np.angle(np.exp(1j * (np.arctan2(samples[:, 3:], samples[:, 1:3]) - means)))
    everything = np.column_stack([samples[:, 0] - 7, turned])
    np.testing.assert_allclose(everything.mean(axis=0), 0, atol=5 * 0.5 / np.sqrt(n))
    np.testing.assert_allclose(everything.std(axis=0), [0.5, 0.2, 0.1], rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(everything.T), np.eye(3), atol=5 / np.sqrt(n))


@pytest.mark.parametrize("concentration", CONCENTRATIONS)
def test_gradient_by_the_width_is_right_and_accurate(concentration):
    """By hand: the derivative of the log-density by the log-concentration is k (cos x - I1(k) / I0(k))."""
    deviation = 0.7 * min(1.0, concentration**-0.5)
    bessel = special.ive(1, concentration) / special.ive(0, concentration)
    expected = -2 * concentration * ((1 - bessel) - 2 * np.sin(deviation / 2) ** 2)
    gradient = eqx.filter_grad(lambda g: g.log_prob(circle(0), circle(deviation)))(von_mises([concentration**-0.5]))
    np.testing.assert_allclose(gradient.angular.log_width, [expected], rtol=2e-2, atol=1e-5)


def test_gradients_are_finite_where_the_decoder_says_nothing():
    """A vector without length; and means opposite to the angle."""
    for params in (circle(0, 0.0), circle(np.pi), circle(np.pi / 2)):
        for of in (lambda p: von_mises([0.1]).log_prob(p, circle(0)), lambda p: jnp.sum(von_mises([0.1]).mean(p))):
            assert np.isfinite(of(params))
            assert np.isfinite(jax.grad(of)(params)).all()
    log_prob = jax.grad(lambda p: von_mises([1.0]).log_prob(p, circle(0.3)))(circle(0, 0.0))
    # By hand: at no concentration the gradient is the data's own direction.
    np.testing.assert_allclose(log_prob, circle(0.3), rtol=1e-5)
