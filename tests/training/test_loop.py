from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdvae.networks import MLPDecoder, MLPEncoder
from mdvae.training import Resident, loop, optimize
from mdvae.training.schedules import warmup
from mdvae.vae import VAE, AbstractObjective, Gaussian, NegativeELBO, StandardNormal, build_vae

N_FEATURES = 4
BETA = 0.5
TRAINING, VALIDATION = np.arange(0, 250), np.arange(260, 300)
BATCH, N_STEPS = 64, 3  # of 250 frames 58 are left out of each epoch
EPOCHS, WARMUP = 6, 2


def small_vae():
    zeros, one = jnp.zeros(N_FEATURES), jnp.ones(())
    keys = jax.random.split(jax.random.key(7))
    return VAE(
        MLPEncoder(N_FEATURES, 1, (), "silu", shift=zeros, scale=one, key=keys[0]),
        MLPDecoder(1, N_FEATURES, (), "silu", shift=zeros, scale=one, key=keys[1]),
        Gaussian(jnp.full(N_FEATURES, 0.5)),
        StandardNormal(1),
    )


def linear_data(n=300, seed=0):
    """One hidden coordinate, four visible ones, a little noise."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, 1)) * [1.0, -0.5, 0.3, 0.8] + 0.1 * rng.normal(size=(n, N_FEATURES))).astype(np.float32)


def features():
    """Frames on neither side of the split are not numbers: whoever looked at them would say so."""
    x = linear_data()
    x[250:260] = np.nan
    return x


def objective(step):
    return NegativeELBO(warmup(BETA, WARMUP * N_STEPS)(step))


def fit(*, x=None, training=TRAINING, validation=VALIDATION, **changes):
    settings = {
        "objective": objective,
        "optimizer": optax.adam(1e-2),
        "n_epochs": EPOCHS,
        "patience": EPOCHS,
        "key": jax.random.key(0),
    }
    feed = Resident(features() if x is None else x, training, validation, changes.pop("batch_size", BATCH))
    return optimize(small_vae(), feed, **settings | changes)


@cache
def usual():
    return fit()


def parameters(vae):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(vae, eqx.is_inexact_array))]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(parameters(one), parameters(other), strict=True))


class Roundtrip(AbstractObjective):
    """Squared distance between a vector and what comes back of it: no noise, so that it can be recomputed."""

    def __call__(self, vae, batch, key):
        back = jax.vmap(lambda x: vae.decode(vae.encode(x)))(batch)
        loss = jnp.mean(jnp.sum((batch - back) ** 2, axis=1))
        return loss, {"reconstruction": loss, "kl": 0 * loss, "beta": jnp.zeros(())}


def roundtrip(step):
    return Roundtrip()


def roundtrip_by_hand(vae, x):
    back = np.asarray(jax.vmap(lambda row: vae.decode(vae.encode(row)))(jnp.asarray(x)), np.float64)
    return np.mean(np.sum((x - back) ** 2, axis=1))


# -- it learns


def test_a_fixed_evaluation_batch_improves():
    """Frames that training never saw, the same noise before and after."""
    x, key = jnp.asarray(linear_data(200, seed=9)), jax.random.key(5)
    judge = eqx.filter_jit(lambda vae: NegativeELBO(BETA)(vae, x, key)[0])
    assert judge(usual()[0]) < judge(small_vae()) - 0.3


class Slope(AbstractObjective):
    """Falls for ever along every parameter: gradient steps of one size."""

    def __call__(self, vae, batch, key):
        loss = -sum(jnp.sum(leaf) for leaf in jax.tree.leaves(vae.decoder) if eqx.is_inexact_array(leaf))
        return loss, {"reconstruction": loss, "kl": 0 * loss, "beta": jnp.zeros(())}


def test_what_is_returned_is_a_mean_over_the_last_tenth_of_the_epochs():
    n_epochs, rate = 40, 2.0**-10
    trained, _ = fit(objective=lambda step: Slope(), optimizer=optax.sgd(rate), n_epochs=n_epochs, patience=n_epochs)
    moved = parameters(trained.decoder)[0] - parameters(small_vae().decoder)[0]
    behind = n_epochs - moved / (rate * N_STEPS)
    # A mean with weights that grow as the ninth power of the epoch lies an eleventh of the way back.
    np.testing.assert_allclose(behind, (n_epochs - 1) / 11, rtol=0.02)


def test_normalization_and_starting_widths_are_not_trained():
    trained, start = usual()[0], small_vae()
    for where in (lambda v: v.encoder.shift, lambda v: v.decoder.scale, lambda v: v.likelihood.scale):
        np.testing.assert_array_equal(where(trained), where(start))
    assert np.all(trained.likelihood.log_width != 0)


def test_an_epoch_is_compiled_once():
    """Although some parameters of `small_vae` are weakly typed, and those that come back from an epoch are not."""
    traced, after = [], []

    def objective(step):
        traced.append(step)
        return Roundtrip()

    assert small_vae().likelihood.log_width.weak_type
    fit(objective=objective, n_epochs=4, progress=lambda *_: after.append(len(traced)))
    assert len(set(after)) == 1


# -- one seed, one model


def test_the_optimizer_counts_on_from_epoch_to_epoch():
    """A learning rate that ends with the first epoch moves nothing in the second, which is no first one again."""
    once = optax.sgd(lambda count: jnp.where(count < N_STEPS, 1e-2, 0.0))
    _, history = fit(optimizer=once, objective=lambda step: NegativeELBO(BETA), n_epochs=3)
    losses = history.terms["validation_loss"]
    assert losses[0] == losses[1] == losses[2]
    _, always = fit(optimizer=optax.sgd(1e-2), objective=lambda step: NegativeELBO(BETA), n_epochs=3)
    assert len(set(always.terms["validation_loss"])) == 3


def test_the_same_key_gives_the_same_parameters_bit_for_bit():
    vae, history = fit()
    assert same(vae, usual()[0])
    for name, values in history.terms.items():
        np.testing.assert_array_equal(values, usual()[1].terms[name])


def test_many_parameters_change_in_place_to_the_same_bits(monkeypatch):
    x, taken, found = linear_data(1000), [], []
    start = build_vae(x, 2, hidden=(32, 32), key=jax.random.key(0))
    feed = Resident(x, np.arange(900), np.arange(900, 1000), BATCH)
    for name in ("_take_steps", "_take_steps_in_place"):
        take = getattr(loop, name)
        monkeypatch.setattr(loop, name, lambda *args, name=name, take=take: taken.append(name) or take(*args))
    for many in (10**9, 0):
        monkeypatch.setattr(loop, "_MANY", many)
        settings = {"objective": objective, "optimizer": optax.adam(1e-2), "n_epochs": 3, "patience": 3}
        found.append(optimize(start, feed, key=jax.random.key(1), **settings)[0])
    assert taken == ["_take_steps"] * 3 + ["_take_steps_in_place"] * 3
    assert same(*found)
    assert not same(found[0], start)


def test_another_key_gives_others():
    assert not same(fit(key=jax.random.key(1))[0], usual()[0])


def test_the_callers_vae_and_data_survive():
    """Buffers are donated inside; those of the caller must not be."""
    vae, x = small_vae(), jnp.asarray(features())
    before = parameters(vae)
    feed = Resident(x, TRAINING, VALIDATION, 64)
    optimize(vae, feed, objective=roundtrip, optimizer=optax.adam(1e-2), n_epochs=1, patience=1, key=jax.random.key(0))
    assert all(np.array_equal(a, b) for a, b in zip(parameters(vae), before, strict=True))
    np.testing.assert_array_equal(x, features())


# -- what it says about itself


def test_history_has_every_epoch():
    history = usual()[1]
    assert set(history.terms) == {
        "loss", "reconstruction", "kl", "beta", "validation_loss", "validation_reconstruction", "validation_kl",
    }  # fmt: skip
    assert all(len(values) == EPOCHS for values in history.terms.values())
    assert (history.n_epochs, history.n_training, history.n_validation) == (EPOCHS, 250, 40)
    assert history.stopped == f"all {EPOCHS} epochs done"
    assert not history.interrupted
    assert history.seconds > 0


def test_beta_warms_up_in_training_and_is_final_in_validation():
    terms = usual()[1].terms
    ramp = BETA * np.clip((np.arange(EPOCHS * N_STEPS) + 1) / (WARMUP * N_STEPS), 0, 1)
    np.testing.assert_allclose(terms["beta"], ramp.reshape(EPOCHS, N_STEPS).mean(axis=1), rtol=1e-5)
    by_terms = terms["validation_reconstruction"] + BETA * terms["validation_kl"]
    np.testing.assert_allclose(terms["validation_loss"], by_terms, rtol=1e-5)


def test_progress_is_told_of_every_epoch():
    told = []
    history = fit(n_epochs=2, objective=roundtrip, progress=lambda *args: told.append(args))[1]
    assert [(epoch, planned) for epoch, planned, _ in told] == [(1, 2), (2, 2)]
    for i, (_, _, record) in enumerate(told):
        assert record == {name: values[i] for name, values in history.terms.items()}


# -- the best parameters


def test_the_parameters_of_the_best_epoch_are_returned():
    """An optimizer that turns round after three epochs and climbs."""
    turn = optax.scale_by_schedule(lambda count: jnp.where(count < 3 * N_STEPS, 1.0, -1.0))
    vae, history = fit(objective=roundtrip, optimizer=optax.chain(optax.adam(3e-2), turn))
    losses = history.terms["validation_loss"]
    assert history.best_epoch == np.argmin(losses) == 2
    np.testing.assert_allclose(roundtrip_by_hand(vae, features()[VALIDATION]), losses[2], rtol=1e-5)
    assert losses[-1] > 1.05 * losses[2]


def test_patience_stops_where_nothing_improves():
    """Parameters that stand still: the first epoch stays the best, three more are waited for."""
    vae, history = fit(objective=roundtrip, optimizer=optax.scale(0.0), patience=3, n_epochs=20)
    assert history.n_epochs == 4
    assert history.best_epoch == 0
    assert history.stopped == "no better validation loss for 3 epochs"
    assert same(vae, small_vae())


N_VALIDATION = {"less than a batch": 76, "whole batches": 2048, "whole batches and a rest": 2124}


@pytest.mark.parametrize("case", N_VALIDATION)
def test_every_held_out_frame_has_the_same_weight(case):
    """Also those of an incomplete last batch, which here lie far out."""
    n = N_VALIDATION[case]
    x = linear_data(100 + n)
    x[-76:] *= 5
    validation = np.arange(100, 100 + n)
    vae, history = fit(
        x=x, training=np.arange(100), validation=validation, objective=roundtrip, optimizer=optax.scale(0.0),
        n_epochs=1,
    )  # fmt: skip
    expected = roundtrip_by_hand(vae, x[validation])
    np.testing.assert_allclose(history.terms["validation_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(history.terms["validation_reconstruction"], expected, rtol=1e-5)


def test_a_batch_larger_than_the_data_is_all_of_the_data():
    """Without steps the training loss is the mean over all training frames, each once."""
    x, training = linear_data(), np.arange(7, 260)
    vae, history = fit(
        x=x, training=training, objective=roundtrip, optimizer=optax.scale(0.0), n_epochs=1, batch_size=10_000
    )
    np.testing.assert_allclose(history.terms["loss"], roundtrip_by_hand(vae, x[training]), rtol=1e-5)


# -- failures


def spoiled(row):
    x = features()
    x[row, 1] = np.nan
    return x


def exploding(count):
    return jnp.where(count < 2 * N_STEPS, 1e-3, 1e30)


FAILURES = {
    "not a number in training": (
        {"x": spoiled(np.arange(250)), "objective": roundtrip},
        r"the loss became nan in epoch 1 \(reconstruction nan, KL nan\); no epoch had a finite one",
    ),
    "not a number in validation": (
        {"x": spoiled(270), "objective": roundtrip},
        r"the validation loss became nan in epoch 1 \(reconstruction nan, KL nan\); no epoch had a finite one",
    ),
    "steps too long": (
        {"optimizer": optax.adam(exploding)},
        r"loss became (nan|inf) in epoch 3 .*; the last finite one was [-\d.]+\. Try a smaller learning_rate",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_loss_that_is_not_finite_says_when_and_what_to_try(case):
    changes, message = FAILURES[case]
    with pytest.raises(FloatingPointError, match=message) as caught:
        fit(**changes)
    assert "outliers in the trajectory" in str(caught.value)


def test_interrupt_returns_the_best_so_far():
    def interrupt(epoch, n_epochs, record):
        if epoch == 3:
            raise KeyboardInterrupt

    vae, history = fit(progress=interrupt)
    assert history.interrupted
    assert history.n_epochs == 3
    for name, values in history.terms.items():
        np.testing.assert_array_equal(values, usual()[1].terms[name][:3])
    assert history.best_epoch == np.argmin(history.terms["validation_loss"])
    assert all(np.isfinite(leaf).all() for leaf in parameters(vae))
    assert not same(vae, small_vae())


def test_interrupt_before_the_first_epoch_has_nothing_to_return():
    def objective(step):
        if isinstance(step, jax.core.Tracer):  # so, in the first training step
            raise KeyboardInterrupt
        return Roundtrip()

    with pytest.raises(KeyboardInterrupt):
        fit(objective=objective)
