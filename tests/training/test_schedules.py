import jax.numpy as jnp
import numpy as np
import pytest

from mdvae.training.schedules import cyclical, learning_rate_schedule, warmup


def test_a_warm_up_rises_in_a_straight_line_and_stays():
    beta = warmup(0.5, 100)
    for step, expected in {0: 0.005, 49: 0.25, 99: 0.5, 100: 0.5, 10_000: 0.5}.items():
        np.testing.assert_allclose(beta(step), expected, rtol=1e-6)
        np.testing.assert_allclose(beta(jnp.int32(step)), expected, rtol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.01, 1.0, 4.0])
def test_without_warm_up_beta_is_there_from_the_start(beta):
    for step in (0, 1, 1000):
        np.testing.assert_allclose(warmup(beta, 0)(step), beta, rtol=1e-6)


def test_cycles_rise_for_one_half_and_stay_for_the_other():
    """Four cycles of 100 steps, each like the first, and the peak for ever after."""
    beta = cyclical(0.5, 400, 4)
    first = np.array([beta(step) for step in range(100)])
    np.testing.assert_allclose(first[:50], 0.5 * np.arange(1, 51) / 50, rtol=1e-5)
    np.testing.assert_allclose(first[50:], 0.5)
    for cycle in range(1, 4):
        np.testing.assert_allclose([beta(jnp.int32(100 * cycle + step)) for step in range(100)], first, atol=1e-5)
    np.testing.assert_allclose([beta(step) for step in (400, 401, 10_000)], 0.5)


def test_learning_rate_rises_falls_and_ends():
    """A tenth of the peak, the peak after 200 steps, halfway down the cosine in the middle, a hundredth at the end."""
    rate = learning_rate_schedule(1e-3, 10_200)
    middle = 200 + 5_000
    for step, expected in {0: 1e-4, 100: 5.5e-4, 200: 1e-3, middle: 5.05e-4, 10_200: 1e-5, 20_000: 1e-5}.items():
        np.testing.assert_allclose(rate(step), expected, rtol=1e-4)


def test_short_trainings_rise_for_a_twentieth():
    rate = learning_rate_schedule(1e-3, 400)
    np.testing.assert_allclose([rate(0), rate(20), rate(400)], [1e-4, 1e-3, 1e-5], rtol=1e-4)


@pytest.mark.parametrize("n_steps", [1, 2, 10, 19])
def test_the_shortest_trainings_start_at_the_peak(n_steps):
    rate = learning_rate_schedule(1e-3, n_steps)
    np.testing.assert_allclose(rate(0), 1e-3, rtol=1e-4)
    assert all(1e-5 * 0.999 <= rate(step) <= 1e-3 * 1.001 for step in range(n_steps + 1))


def test_the_rate_is_smooth_and_positive():
    rates = np.array(learning_rate_schedule(1.0, 4000)(jnp.arange(4001)))
    assert (rates > 0).all()
    assert np.abs(np.diff(rates)).max() < 0.006
    assert np.argmax(rates) == 200
