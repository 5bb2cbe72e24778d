"""What a coordinate follows: what moves most, what is foreseen best, or what is slowest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdvae
from mdvae.evaluation.kinetics import _vamp2
from mdvae.vae import Examples, Gaussian, NegativeELBO, Slow, build_vae, vamp2

LAG = 10
KEY = jax.random.key(0)


def double_well(left_of_fast, n=6000, seed=0):
    """A slow coordinate between -1 and 1 and a fast one, three times as wide, of which so much is left after the lag.

    Also the state, -1 or 1, which changes every 200th step.
    """
    rng = np.random.default_rng(seed)
    state = np.where(np.cumsum(rng.random(n) < 1 / 200) % 2, 1.0, -1.0)
    step = left_of_fast ** (1 / LAG)
    fast = np.zeros(n)
    for i, noise in enumerate(rng.normal(size=n)):
        fast[i] = step * fast[i - 1] + np.sqrt(1 - step**2) * noise
    x = np.column_stack([state + 0.2 * rng.normal(size=n), 3 * fast])
    return x.astype(np.float32), state, fast


def followed(x, columns, **settings):
    """Correlation of a trained coordinate with each column."""
    # One width for all, as of positions: else every feature is measured in a unit of its own.
    likelihood = Gaussian(jnp.ones(2), shared=True)
    vae = build_vae(x, 1, likelihood=likelihood, hidden=(16, 16), key=KEY)
    found = mdvae.train_vae(
        vae, x, beta=0.01, epochs=20, batch_size=128, learning_rate=3e-3, seed=0, progress=False, **settings
    )
    z = np.asarray(jax.vmap(found.vae.encode)(jnp.asarray(x)))[:, 0]
    return [abs(np.corrcoef(z, column)[0, 1]) for column in columns], found


# What of the fast coordinate is left after the lag; settings; which of the two is followed. What is foreseen best of
# a fast coordinate three times as wide is 0.6² x 9 = 3.2, of the slow one 0.9² x 1.
CASES = {
    "plain": (0.01, {}, "fast"),
    "lagged, the fast one is forgotten": (0.01, {"lagtime": LAG}, "slow"),
    "lagged, the fast one is half there": (0.6, {"lagtime": LAG}, "fast"),
    "with the score": (0.6, {"lagtime": LAG, "vamp_weight": 100}, "slow"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_coordinate_follows(case):
    left, settings, expected = CASES[case]
    x, state, fast = double_well(left)
    (slow, quick), found = followed(x, (state, fast), **settings)
    assert (slow > 0.9, quick > 0.9) == ((True, False) if expected == "slow" else (False, True))
    assert ("from the later example" in str(found)) == ("lagtime" in settings)


def test_the_score_is_that_of_evaluation(rng):
    """And so that of deeptime, which evaluation is held against; here without the constant function."""
    x = np.cumsum(rng.normal(size=(500, 3)), axis=0).astype(np.float32)
    before, after = x[:-7] - x.mean(axis=0), x[7:] - x.mean(axis=0)
    one = np.hstack([np.ones((len(before), 1)), before, after]).astype(np.float64)
    expected = _vamp2(one.T @ one) - 1
    np.testing.assert_allclose(vamp2(jnp.asarray(before), jnp.asarray(after)), expected, rtol=1e-4)
    mixed = jnp.asarray(rng.normal(size=(3, 3)), jnp.float32)
    np.testing.assert_allclose(vamp2(before @ mixed, after @ mixed), expected, rtol=1e-3)


def test_the_score_of_one_coordinate_is_its_squared_autocorrelation(rng):
    before, after = rng.normal(size=(2, 200, 1)).astype(np.float32)
    after += before
    rho = np.corrcoef(before[:, 0], after[:, 0])[0, 1]
    np.testing.assert_allclose(vamp2(jnp.asarray(before), jnp.asarray(after)), rho**2, rtol=1e-4)


def test_a_dead_coordinate_scores_nothing_and_has_a_gradient(rng):
    x = jnp.asarray(rng.normal(size=(50, 2)), jnp.float32) * jnp.array([[1.0, 0.0]])
    value, gradient = jax.value_and_grad(lambda x: vamp2(x, x))(x)
    np.testing.assert_allclose(value, 1, rtol=1e-3)
    assert np.isfinite(gradient).all()


def test_the_score_is_taken_off_the_loss(rng):
    x, later = (jnp.asarray(one, jnp.float32) for one in rng.normal(size=(2, 60, 3)))
    vae = build_vae(np.asarray(x), 2, hidden=(8,), key=KEY)
    plain, _ = NegativeELBO(1.0)(vae, Examples(x, later), KEY)
    loss, terms = Slow(NegativeELBO(1.0), 4.0)(vae, Examples(x, later), KEY)
    z, z_later = (np.asarray(jax.vmap(vae.encode)(one), np.float64) for one in (x, later))
    z, z_later = z - z.mean(axis=0), z_later - z_later.mean(axis=0)
    own, cross, other = z.T @ z, z.T @ z_later, z_later.T @ z_later
    expected = np.trace(np.linalg.solve(own, cross) @ np.linalg.solve(other, cross.T))
    np.testing.assert_allclose(terms["vamp"], expected, rtol=1e-3)
    np.testing.assert_allclose(loss, plain - 4 * terms["vamp"], rtol=1e-5)


def test_a_score_without_a_lag_is_refused():
    with pytest.raises(ValueError, match=r"vamp_weight=1.0 asks how slow coordinates are; give a lagtime"):
        mdvae.Settings(vamp_weight=1)
    vae = build_vae(np.eye(3, dtype=np.float32), 1, hidden=(4,), key=KEY)
    with pytest.raises(ValueError, match="needs targets at a lag"):
        Slow(NegativeELBO(1.0), 1.0)(vae, jnp.eye(3), KEY)


@pytest.mark.parametrize("wrong", [-1, True])
def test_a_lag_is_a_number_of_frames(wrong):
    with pytest.raises((ValueError, TypeError), match="lagtime must be"):
        mdvae.Settings(lagtime=wrong)


def test_a_score_is_taken_of_many_pairs():
    assert mdvae.Settings(lagtime=5, vamp_weight=10.0).plan(1000).batch_size == 256
    assert mdvae.Settings(lagtime=5, vamp_weight=10.0).plan(100).batch_size == 100
    assert mdvae.Settings(lagtime=5).plan(1000).batch_size == 32
    assert mdvae.Settings(lagtime=5, vamp_weight=10.0, batch_size=64).plan(1000).batch_size == 64
