import threading

import jax
import numpy as np
import pytest

import mdvae
from mdvae.training import ensemble
from mdvae.training.ensemble import at_once
from mdvae.training.progress import ProgressBar

SETTINGS = {"epochs": 3, "batch_size": 32, "progress": False}


def untrained(frames, n):
    return [mdvae.build(frames, latent_dim=2, hidden=(8, 8), seed=seed) for seed in range(n)]


def same(one, other):
    pairs = zip(jax.tree.leaves(one.vae), jax.tree.leaves(other.vae), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_each_model_is_what_it_would_be_alone(frames):
    models = mdvae.train_ensemble(untrained(frames, 3), frames, seed=4, **SETTINGS)
    for i, model in enumerate(models):
        alone = mdvae.train(untrained(frames, 3)[i], frames, seed=4 + i, **SETTINGS)
        assert same(model, alone)
        assert model.settings == alone.settings
        np.testing.assert_array_equal(model.history.terms["loss"], alone.history.terms["loss"])
    assert not same(models[0], models[1])


def test_fit_returns_the_best_of_several_and_says_how_the_others_did(frames):
    options = {"latent_dim": 2, "hidden": (8, 8), "seed": 0, **SETTINGS}
    best = mdvae.fit(frames.coordinates, n_models=3, **options)
    read = mdvae.read(frames.coordinates)
    losses = [m.history.best()["validation_loss"] for m in mdvae.train_ensemble(untrained(read, 3), read, **SETTINGS)]
    assert best.settings["ensemble"] == losses
    assert best.history.best()["validation_loss"] == min(losses)
    assert best.settings["seed"] == int(np.argmin(losses))
    assert "the best of 3 models" in str(best)


def test_ctrl_c_in_another_model_is_said(frames, monkeypatch):
    """The best one may have come to its end."""

    def first_only(models, read, **_):
        return [mdvae.train(models[0], read, **SETTINGS)]

    monkeypatch.setattr("mdvae.pipeline.train_ensemble", first_only)
    options = {"n_models": 3, "latent_dim": 2, "hidden": (8, 8), "length_unit": "reduced"}
    best = mdvae.fit(frames.coordinates, **options, **SETTINGS)
    assert best.history.interrupted
    assert len(best.settings["ensemble"]) == 1


@pytest.mark.parametrize(("n_models", "error"), [(0, ValueError), (True, TypeError)])
def test_a_number_of_models_that_is_none_is_refused(frames, n_models, error):
    with pytest.raises(error, match="n_models must be"):
        mdvae.fit(frames.coordinates, n_models=n_models)


def test_models_of_different_kinds_are_not_trained_together(frames):
    pair = [mdvae.build(frames, representation=name, hidden=(8,)) for name in ("cartesian", "internal")]
    with pytest.raises(ValueError, match="different representations"):
        mdvae.train_ensemble(pair, frames, **SETTINGS)
    with pytest.raises(ValueError, match="no models"):
        mdvae.train_ensemble([], frames)


def training(name, begun, n_epochs=200):
    """What trains until it is told to stop, or to its end."""

    def run(progress):
        for epoch in range(n_epochs):
            begun.set()
            try:
                progress(epoch + 1, n_epochs, {"validation_loss": 1.0})
            except KeyboardInterrupt:
                return f"{name} stopped"
        return name

    return run


def test_ctrl_c_ends_all_and_keeps_what_had_begun(monkeypatch):
    """It reaches the main thread, which waits; there are more trainings than threads."""
    begun, interrupted = [threading.Event() for _ in range(4)], threading.Event()

    def wait(futures, return_when):
        for event in begun[:2]:
            event.wait(timeout=60)
        interrupted.set()
        raise KeyboardInterrupt

    def run(i):
        def endless(progress):
            begun[i].set()
            interrupted.wait(timeout=60)
            while True:
                try:
                    progress(1, 2, {"validation_loss": 1.0})
                except KeyboardInterrupt:
                    return i

        return endless

    monkeypatch.setattr(ensemble, "wait", wait)
    monkeypatch.setattr(ensemble, "_MOST", 2)
    monkeypatch.setattr(ensemble.os, "cpu_count", lambda: 2)
    assert at_once([run(i) for i in range(4)], ProgressBar(False, 4)) == [0, 1]


def test_there_may_be_more_at_once_than_cores(monkeypatch):
    monkeypatch.setattr(ensemble.os, "cpu_count", lambda: 1)
    together = threading.Barrier(3, timeout=60)
    assert at_once([lambda progress: together.wait() >= 0] * 3, ProgressBar(False, 3)) == [True] * 3
    alone = threading.Barrier(2, timeout=0.3)
    with pytest.raises(threading.BrokenBarrierError):
        at_once([lambda progress: alone.wait()] * 2, ProgressBar(False, 2), n_threads=1)


def test_one_that_fails_ends_the_others():
    begun = threading.Event()

    def failing(progress):
        begun.wait(timeout=60)
        raise FloatingPointError("the loss became nan")

    with pytest.raises(FloatingPointError, match="nan"):
        at_once([training("a", begun, 10**9), failing], ProgressBar(False, 2))
