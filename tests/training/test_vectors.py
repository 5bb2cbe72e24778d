"""Vectors of whatever they are train in the same loop, with every likelihood, posterior and prior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdvae
from mdvae.vae import Categorical, Gaussian, ImportanceWeighted, NegativeELBO, build_vae

KEY = jax.random.key(0)


def bent(n=600):
    """A helix in space and a constant, and a little noise."""
    rng = np.random.default_rng(0)
    t = rng.uniform(-2, 2, n)
    curve = np.stack([t, np.sin(2 * t), np.cos(2 * t), np.ones(n)], axis=1)
    return (curve + 0.05 * rng.normal(size=curve.shape)).astype(np.float32)


def trained(x, vae=None, **settings):
    vae = build_vae(x, 1, hidden=(32, 32), key=KEY) if vae is None else vae
    return mdvae.train_vae(vae, x, **({"epochs": 80, "learning_rate": 3e-3, "progress": False} | settings))


def test_one_dimension_follows_a_curve_that_no_line_does():
    x = bent()
    found = trained(x, epochs=200)
    residual = x - x.mean(axis=0)
    first = np.linalg.svd(residual, full_matrices=False)[2][:1]
    line = np.sqrt(np.mean((residual - residual @ first.T @ first) ** 2))
    assert found.diagnostics.reconstruction < 0.2 * line
    assert found.diagnostics.findings == [] or "not where the prior is" in found.diagnostics.findings[0]


def test_classes_are_told_apart():
    x = mdvae.toys.classes(800, n_classes=8, seed=0)
    vae = build_vae(x, 2, likelihood=Categorical(), hidden=(32, 32), key=KEY)
    found = trained(x, vae, beta=0.1)
    assert found.diagnostics.reconstruction < 0.1
    assert "of the classes come out as another" in str(found)


def test_one_seed_one_result():
    x = bent(200)
    a, b, c = (trained(x, epochs=3, seed=seed).vae for seed in (1, 1, 2))
    weight = [one.decoder.layers[0].weight for one in (a, b, c)]
    np.testing.assert_array_equal(weight[0], weight[1])
    assert not np.array_equal(weight[0], weight[2])


def test_augmentation_changes_training_and_leaves_validation_alone():
    """Examples all alike, training ones shifted by 5 as they are used: the model learns the shifted ones."""
    x = np.zeros((200, 3), np.float32) + 0.01 * np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    vae = build_vae(x, 1, likelihood=Gaussian(jnp.ones(3), learned=False), hidden=(8,), key=KEY)
    options = {"epochs": 30, "learning_rate": 0.03, "patience": 30}
    shifted = trained(x, vae, augment=lambda x, key: x + 5.0, **options)
    plain = trained(x, vae, **options)
    # Training frames at 5 cost the untrained model up to 3 x 25 / 2 nats more; held-out ones stay where they were, and
    # are what the best epoch is chosen by.
    first = [one.history.terms["reconstruction"][0] for one in (shifted, plain)]
    assert first[0] > first[1] + 10
    assert (
        shifted.history.terms["validation_reconstruction"][0] < plain.history.terms["validation_reconstruction"][0] + 5
    )
    assert shifted.history.best_epoch == 0


def test_augmentation_is_new_in_every_epoch_and_for_every_example():
    x = np.ones((64, 1), np.float32)
    x += 0.01 * np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    vae = build_vae(x, 1, likelihood=Gaussian(jnp.ones(1), learned=False), hidden=(4,), key=KEY)
    found = trained(x, vae, augment=lambda x, key: x + jax.random.normal(key, x.shape), epochs=4, learning_rate=1e-9)
    losses = found.history.terms["reconstruction"]
    # Half the variance of the shifts, 1, beside the constant of the normal density; different each time.
    assert len(set(losses)) == 4
    assert abs(losses.mean() - 0.5 - 0.5 * np.log(2 * np.pi)) < 5 * np.sqrt(0.5 / (57 * 4)) + 0.05


OBJECTIVES = {
    "importance-weighted": ({"importance_samples": 5}, ImportanceWeighted),
    "free bits": ({"free_bits": 0.5}, NegativeELBO),
    "cycles": ({"n_cycles": 4}, NegativeELBO),
}


@pytest.mark.parametrize("case", OBJECTIVES)
def test_other_objectives_train_as_well(case):
    x = bent()
    options, kind = OBJECTIVES[case]
    settings = mdvae.Settings(**options)
    assert isinstance(settings.plan(600).objective()(0), kind)
    found = trained(x, **options)
    assert found.diagnostics.reconstruction < 0.5 * x.std()


REFUSED = {
    "nan": (np.full((50, 2), np.nan), {}, "50 of 50 vectors have NaN"),
    "lengths": (np.zeros((50, 4)), {"lengths": [30]}, "lengths add up to 30, there are 50 vectors"),
    "negative beta": (np.ones((50, 2)), {"beta": -1.0}, "beta must be a finite number of at least 0, got -1.0"),
    "free bits": (np.ones((50, 2)), {"free_bits": float("nan")}, "free_bits must be a finite number"),
    "two schedules": (np.ones((50, 2)), {"n_cycles": 2, "warmup_epochs": 3}, "give one of them"),
    "weighted, with beta": (np.ones((50, 2)), {"importance_samples": 2, "beta": 0.5}, "knows no beta but 1"),
    "no samples": (np.ones((50, 2)), {"importance_samples": 0}, "importance_samples must be at least 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mistakes_are_refused(case):
    x, options, words = REFUSED[case]
    vae = build_vae(bent(50), 1, hidden=(4,), key=KEY)
    with pytest.raises(ValueError, match=words):
        mdvae.train_vae(vae, np.asarray(x, np.float32), **options)


def test_an_unknown_setting_is_named():
    with pytest.raises(TypeError, match="knows no setting betta; expected some of beta, epochs"):
        mdvae.train_vae(build_vae(bent(50), 1, hidden=(4,), key=KEY), bent(50), betta=1.0)


@pytest.mark.parametrize("schedule", [{"warmup_epochs": 30}, {"n_cycles": 1}])
def test_patience_waits_for_beta_to_have_risen(schedule):
    """While it rises the held-out loss, at the final beta, gets worse by design."""
    found = trained(bent(), epochs=40, patience=2, learning_rate=1e-2, **schedule)
    betas = found.history.terms["beta"]
    risen = 30 if "warmup_epochs" in schedule else 20
    assert found.history.n_epochs > risen
    assert betas[risen] == 1
    assert found.history.best_epoch >= risen
