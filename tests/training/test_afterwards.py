"""A prior and a noise that are fitted afterwards leave the latent space alone, and are where the data are."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdvae
from mdvae.representations import Internal
from mdvae.training import afterwards
from mdvae.training.splits import split_blocks
from mdvae.vae import LowRankGaussian

LEARNED = {"mixture": {"n_components": 6}, "vamp": {"n_components": 80}, "flow": {}}


@pytest.fixture(scope="module")
def squeezed(trained):
    """The model, its latent space three times as wide: far from the prior."""
    last = trained.vae.encoder.layers[-1]
    factor = jnp.ones(len(last.bias)).at[: trained.latent_dim].set(3.0)
    wide = eqx.tree_at(lambda one: (one.weight, one.bias), last, (last.weight * factor[:, None], last.bias * factor))
    vae = eqx.tree_at(lambda vae: vae.encoder.layers[-1], trained.vae, wide)
    return dataclasses.replace(trained, vae=vae)


@pytest.fixture(scope="module")
def fitted(squeezed):
    settings = {"epochs": 60, "seed": 0, "progress": False}
    return {name: mdvae.fit_prior(squeezed, name, **options, **settings) for name, options in LEARNED.items()}


def surprise(model, z):
    prior = model.vae.prior_distribution()
    return -np.asarray(jax.vmap(prior.log_prob)(z))


@pytest.mark.parametrize("name", LEARNED)
def test_encoder_and_decoder_stay_as_they_are(squeezed, fitted, name, chain):
    for part in ("encoder", "decoder", "likelihood"):
        before, after = (jax.tree.leaves(getattr(m.vae, part)) for m in (squeezed, fitted[name]))
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(mdvae.encode(squeezed, chain), mdvae.encode(fitted[name], chain))


@pytest.mark.parametrize("name", LEARNED)
def test_encoded_frames_are_likelier_than_under_a_standard_normal(squeezed, fitted, name, chain):
    z = mdvae.encode(squeezed, chain)
    assert surprise(fitted[name], z).mean() < surprise(squeezed, z).mean() - 1
    if name != "vamp":  # as narrow as posteriors are, a few of them cover no data
        normal = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * np.cov(z.T))[1]
        assert surprise(fitted[name], z).mean() < normal + 0.3


@pytest.mark.parametrize("name", LEARNED)
def test_what_is_generated_comes_from_the_prior(fitted, name):
    """The bead that is generated depends on z alone: its mean over the prior, by another set of samples."""
    model = fitted[name]
    new = mdvae.generate(model, 4000, seed=1, restore=False).xyz[..., :2]
    z = jax.vmap(model.vae.prior_distribution().sample)(jax.random.split(jax.random.key(9), 4000))
    other = mdvae.decode(model, np.asarray(z), restore=False).xyz[..., :2]
    error = np.hypot(new.std(axis=0), other.std(axis=0)) / np.sqrt(4000)
    assert (np.abs(new.mean(axis=0) - other.mean(axis=0)) < 5 * error).all()


@pytest.mark.parametrize("name", LEARNED)
def test_a_file_holds_the_prior(fitted, name, tmp_path):
    mdvae.save(fitted[name], tmp_path / "model.mdvae")
    again = mdvae.load(tmp_path / "model.mdvae")
    assert again.spec.prior == name
    np.testing.assert_array_equal(*(mdvae.generate(m, 5, seed=3, restore=False).xyz for m in (fitted[name], again)))
    assert again.diagnostics.to_dict() == fitted[name].diagnostics.to_dict()


def test_diagnostics_say_that_it_is_better(squeezed, fitted):
    before = mdvae.fit_prior(squeezed, "standard_normal", progress=False).diagnostics
    assert any("not where the prior is" in finding for finding in before.findings)
    for model in fitted.values():
        assert model.diagnostics.mismatch < 0.5 * before.mismatch
        assert model.diagnostics.reconstruction == squeezed.diagnostics.reconstruction


REFUSED = {
    "unknown": ({"prior": "horseshoe"}, "prior='horseshoe' is not known"),
    "components of a flow": ({"prior": "flow", "n_components": 3}, "n_components=3 belongs to"),
    "too many components": ({"prior": "mixture", "n_components": 10**5}, "must be from 1 to the number of examples"),
    "no epochs": ({"prior": "flow", "epochs": 0}, "epochs must be at least 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mistakes_are_refused(trained, case):
    options, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        mdvae.fit_prior(trained, **options, progress=False)


def test_settings_that_would_do_nothing_are_refused(trained):
    with pytest.raises(TypeError, match="knows no setting beta; expected some of epochs"):
        mdvae.fit_prior(trained, beta=2.0, progress=False)


def test_a_collapsed_posterior_gets_a_prior_all_the_same(trained):
    """All encoded frames are one point."""
    last = trained.vae.encoder.layers[-1]
    point = eqx.tree_at(lambda one: (one.weight, one.bias), last, (0 * last.weight, 0 * last.bias))
    model = dataclasses.replace(trained, vae=eqx.tree_at(lambda vae: vae.encoder.layers[-1], trained.vae, point))
    fitted = mdvae.fit_prior(model, "mixture", n_components=3, epochs=5, progress=False)
    assert np.isfinite(surprise(fitted, np.zeros((1, 3), np.float32))).all()


def test_an_untrained_model_is_refused(frames):
    model = mdvae.build(frames, hidden=(8,))
    for fit in (mdvae.fit_prior, mdvae.fit_noise):
        with pytest.raises(ValueError, match="has not been trained"):
            fit(model)


# -- noise


def left_out(model, frames):
    z = mdvae.encode(model, frames.coordinates)
    return (frames.coordinates - mdvae.decode(model, z, restore=False).xyz[..., :2]).reshape(len(z), -1)


@pytest.mark.parametrize("rank", [None, 3])
def test_noise_has_the_moments_of_what_is_left_out(trained, frames, rank):
    noisy = mdvae.fit_noise(trained, rank=rank, seed=0)
    likelihood = noisy.vae.likelihood
    assert isinstance(likelihood, LowRankGaussian)
    x = frames.coordinates.reshape(len(frames.coordinates), -1)
    # Written a second time: residuals of decoded samples of the posteriors, many of them.
    posteriors = jax.vmap(trained.vae.encoder)(x)
    keys = jax.random.split(jax.random.key(5), 20)
    total = 0
    for key in keys:
        own = jax.random.split(key, len(x))
        r = np.asarray(x - jax.vmap(lambda p, k: trained.vae.decode(p.sample(k)))(posteriors, own), np.float64)
        total = total + r.T @ r / len(r) / len(keys)
    factor = np.asarray(likelihood.width())[:, None] * np.asarray(likelihood.relative)
    covariance = np.diag(np.asarray(likelihood.width()) ** 2) + factor @ factor.T
    values = [np.linalg.eigvalsh(matrix)[::-1] for matrix in (covariance, total)]
    kept = 11 if rank is None else rank
    np.testing.assert_allclose(values[0][:kept].sum(), values[1][:kept].sum(), rtol=0.1)
    np.testing.assert_allclose(np.trace(covariance), np.trace(total), rtol=0.1)


@pytest.mark.parametrize("n", [60, 8])
def test_noise_of_weight_2_is_that_of_the_frame_twice(rng, n):
    """Of more examples than features, and of fewer."""
    left = rng.normal(size=(n, 12)).astype(np.float32) * np.linspace(1, 3, 12, dtype=np.float32)
    counts = rng.integers(1, 4, n)
    weighted = afterwards._noise_of(left, 3, counts.astype(float))
    repeated = afterwards._noise_of(np.repeat(left, counts, axis=0), 3)
    ours, theirs = (np.asarray(one.relative @ one.relative.T) for one in (weighted, repeated))
    np.testing.assert_allclose(weighted.width(), repeated.width(), rtol=1e-3)
    np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-2)


def test_a_prior_lies_where_the_weights_are(trained):
    """Every other stretch of the kept frames weighs nothing; the model's diagnostics look elsewhere as well."""
    n = len(trained.data.frames)
    weights = np.where(np.arange(n) % 30 < 15, 0.0, 3.0)
    model = dataclasses.replace(trained, data=dataclasses.replace(trained.data, weights=weights))
    found = mdvae.fit_prior(model, "mixture", n_components=2, epochs=60, learning_rate=0.02, seed=0, progress=False)
    z = mdvae.encode(trained, trained.data.frames[weights > 0])
    prior = found.vae.prior_distribution()
    drawn = np.asarray(jax.vmap(prior.sample)(jax.random.split(jax.random.key(0), 4000)))
    np.testing.assert_allclose(drawn.mean(axis=0), z.mean(axis=0), atol=0.15)
    np.testing.assert_allclose(found.diagnostics.aggregate_mean, z.mean(axis=0), atol=1e-3)
    assert surprise(found, z).mean() < surprise(trained, z).mean() + 0.1


def test_samples_with_it_have_bonds_that_decoder_means_shorten(trained, frames):
    bond = [
        np.linalg.norm(np.diff(x[..., :2], axis=1), axis=2).mean()
        for x in (
            frames.coordinates,
            mdvae.generate(mdvae.fit_noise(trained), 3000, noise=True, restore=False).xyz,
            mdvae.generate(trained, 3000, restore=False).xyz,
        )
    ]
    assert abs(bond[1] - bond[0]) < 0.5 * abs(bond[2] - bond[0])


def test_a_file_holds_the_noise(trained, tmp_path):
    noisy = mdvae.fit_noise(trained, rank=4)
    mdvae.save(noisy, tmp_path / "model.mdvae")
    again = mdvae.load(tmp_path / "model.mdvae")
    assert (again.spec.likelihood, again.spec.rank) == ("low_rank_gaussian", 4)
    np.testing.assert_array_equal(
        *(mdvae.generate(m, 5, noise=True, seed=3, restore=False).xyz for m in (noisy, again))
    )


def test_what_a_lagged_model_leaves_out_is_no_noise(trained):
    lagged = dataclasses.replace(trained, settings=trained.settings | {"lagtime": 7})
    with pytest.raises(ValueError, match="what this model decodes is the frame 7 later"):
        mdvae.fit_noise(lagged)


def test_rank_and_angles_are_refused(trained):
    for rank in (0, 12):
        with pytest.raises(ValueError, match="rank must be from 1 to 11"):
            mdvae.fit_noise(trained, rank=rank)
    angular = dataclasses.replace(trained, representation=Internal(jnp.zeros((6, 3), jnp.int32)))
    with pytest.raises(ValueError, match="internal coordinates go round"):
        mdvae.fit_noise(angular)


def test_a_prior_is_fitted_to_what_was_held_out_as_well(trained):
    """Points that only held-out blocks hold: a fit that stopped with the others would not know of them."""
    x = np.asarray(trained.data.frames, np.float32).reshape(len(trained.data.frames), -1)
    held_out = split_blocks([len(x)], 0.1)[1]
    marked = x.copy()
    marked[held_out] += 3 * x.std()
    fitted = mdvae.fit_vae_prior(trained.vae, marked, "mixture", key=jax.random.key(0), progress=False, epochs=200)
    log_prob = jax.vmap(lambda one: fitted.prior_distribution().log_prob(fitted.encode(one)))
    seen, besides = (np.asarray(log_prob(jnp.asarray(part))).mean() for part in (x, marked[held_out]))
    assert besides > seen - 3


@pytest.mark.parametrize("call", [1, 2])
def test_an_interrupted_prior_is_the_best_so_far(trained, monkeypatch, call):
    """In the second part, with all frames, that is what the first one gave."""
    fits = []

    def descended(*arguments, **settings):
        prior, history = descend(*arguments, **settings)
        if len(fits) == call - 1:
            history = dataclasses.replace(history, stopped="interrupted in epoch 2 of 9")
        fits.append((prior, history))
        return fits[-1]

    descend = afterwards.descend
    monkeypatch.setattr(afterwards, "descend", descended)
    with pytest.warns(UserWarning, match="interrupted; it is the best so far"):
        model = mdvae.fit_prior(trained, "mixture", n_components=3, epochs=3, progress=False)
    assert len(fits) == call
    for ours, first in zip(jax.tree.leaves(model.vae.prior), jax.tree.leaves(fits[0][0]), strict=True):
        np.testing.assert_array_equal(ours, first)
