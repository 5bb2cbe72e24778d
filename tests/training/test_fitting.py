"""Training goes on after it stops early, weighs strain if it is asked to, and loses nothing on the way."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdvae
from mdvae.history import History
from mdvae.restoration import Restorer
from mdvae.training import descent
from mdvae.training.schedules import annealed
from mdvae.vae import NegativeELBO, Penalized


def history(losses, stopped="no better validation loss for 3 epochs"):
    terms = {"loss": np.array(losses), "validation_loss": np.array(losses)}
    return History(terms, int(np.argmin(losses)), stopped, n_training=90, n_validation=10, seconds=1.0)


PARTS = {"better": ([3.0, 2.0, 4.0], [1.5, 1.0], 4), "worse": ([3.0, 2.0, 4.0], [2.5, 2.1], 1)}


@pytest.mark.parametrize("case", PARTS)
def test_two_parts_of_a_training_are_one_record(case):
    first, second, best = PARTS[case]
    together = history(first).followed_by(history(second))
    np.testing.assert_array_equal(together.terms["loss"], first + second)
    assert (together.best_epoch, together.seconds) == (best, 2.0)
    assert together.best()["validation_loss"] == min(first + second)
    assert together.stopped.endswith("then 2 epochs to cool down")
    assert history(first).followed_by(history(second, "interrupted in epoch 3 of 9")).interrupted


def stopped_early(frames, **changes):
    model = mdvae.build(frames, latent_dim=2, hidden=(16, 16), seed=0)
    settings = {"epochs": 40, "patience": 3, "learning_rate": 0.03, "batch_size": 32} | changes
    return mdvae.train(model, frames, **settings, seed=0, progress=False)


def test_early_stopping_is_followed_by_a_cool_down(frames, monkeypatch):
    """The returned parameters are those of the best epoch of both parts, judged with the same noise."""
    calls = []
    optimize = descent.optimize

    def watched(vae, **settings):
        calls.append((vae, settings, optimize(vae, **settings)))
        return calls[-1][2]

    monkeypatch.setattr(descent, "optimize", watched)
    model = stopped_early(frames)
    (_, _, (best, first)), (start, settings, (_, second)) = calls
    assert start is best
    assert first.n_epochs < settings["first_epoch"] == 40
    assert model.history.n_epochs == first.n_epochs + second.n_epochs <= 40
    expected = min(itertools.chain(first.terms["validation_loss"], second.terms["validation_loss"]))
    assert model.history.best()["validation_loss"] == expected
    kept = calls[1][2][0] if model.history.best_epoch >= first.n_epochs else best
    assert model.vae is kept


FAILURES = {"interrupted": KeyboardInterrupt, "infinite": FloatingPointError}


@pytest.mark.parametrize("case", FAILURES)
def test_a_cool_down_that_fails_leaves_the_model_as_it_was(frames, monkeypatch, case):
    optimize, found = descent.optimize, []

    def once(vae, **settings):
        if found:
            raise FAILURES[case]
        found.append(optimize(vae, **settings))
        return found[0]

    monkeypatch.setattr(descent, "optimize", once)
    model = stopped_early(frames)
    assert model.vae is found[0][0]
    assert model.history.best_epoch == found[0][1].best_epoch
    assert case in model.history.stopped
    assert model.history.interrupted == (case == "interrupted")


def test_the_weight_of_a_penalty_rises_to_its_value():
    objective = annealed(lambda step: NegativeELBO(1.0), jnp.sum, 4.0, 8)
    assert [float(objective(step).weight) for step in (0, 3, 7, 100)] == [0.5, 2.0, 4.0, 4.0]


def test_a_penalty_is_added_with_its_weight(trained, frames):
    """By hand: the mean square of decoded posterior means."""
    x = jnp.asarray(frames.coordinates[:5].reshape(5, -1))
    key = jax.random.key(0)
    plain, _ = NegativeELBO(1.0)(trained.vae, x, key)
    loss, terms = Penalized(NegativeELBO(1.0), lambda y: jnp.mean(y**2, axis=1), 0.5)(trained.vae, x, key)
    decoded = np.array([trained.vae.decode(trained.vae.encode(one)) for one in x])
    np.testing.assert_allclose(terms["penalty"], (decoded**2).mean(), rtol=1e-5)
    np.testing.assert_allclose(loss, plain + 0.5 * terms["penalty"], rtol=1e-5)


def test_training_with_strain_in_view_decodes_with_less_of_it(hexane):
    frames = mdvae.read(hexane[0][:200])
    strains = []
    for weight in (0.0, 0.1):
        model = mdvae.build(frames, latent_dim=2, hidden=(32, 32), seed=0)
        settings = {"epochs": 60, "batch_size": 32, "learning_rate": 3e-3, "patience": 60, "strain_weight": weight}
        model = mdvae.train(model, frames, **settings, seed=0, progress=False)
        raw = mdvae.decode(model, mdvae.encode(model, frames.coordinates), restore=False)
        strains.append(float(Restorer(model.data.geometry).bonded_strain(jnp.asarray(raw.xyz)).mean()))
        assert ("strain" in str(model)) == bool(weight)
    assert strains[1] < 0.5 * strains[0]


def test_the_record_says_how_it_was_trained(frames):
    assert dataclasses.replace(stopped_early(frames, epochs=2)).settings["strain_weight"] == 0.0
