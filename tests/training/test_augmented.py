"""Frames may stand for others in training; what is held out is left alone."""

import jax
import numpy as np
import pytest

import mdvae
from mdvae.augmentation import augmentation
from mdvae.training.fitting import _Augmented


def test_held_out_frames_are_judged_as_they_are(frames):
    """An augmentation that would turn every frame into nonsense is only ever seen by training frames."""
    model = mdvae.build(frames, hidden=(8,), seed=0)
    with_noise = mdvae.train(model, frames, epochs=1, augment=["noise=100"], learning_rate=1e-12, progress=False)
    plain = mdvae.train(model, frames, epochs=1, learning_rate=1e-12, progress=False)
    terms = [m.history.terms for m in (with_noise, plain)]
    assert terms[0]["reconstruction"][0] > 100 * abs(terms[1]["reconstruction"][0])
    np.testing.assert_allclose(terms[0]["validation_reconstruction"], terms[1]["validation_reconstruction"], rtol=1e-3)
    assert with_noise.settings["augment"] == ["noise=100"]


def test_mirror_images_are_learned_where_they_are_told_of(frames):
    """Error of the mirror images of all frames, which one model has seen and the other has not."""
    half = frames.coordinates[::2]
    source = mdvae.read(np.ascontiguousarray(half), length_unit="reduced")
    options = {"epochs": 150, "batch_size": 32, "learning_rate": 3e-3, "seed": 0, "progress": False}
    mirrored = source.coordinates * np.array([1, -1], np.float32)
    errors = []
    for augment in ([], ["mirror"]):
        model = mdvae.train(
            mdvae.build(source, latent_dim=3, hidden=(32, 32), seed=0), source, augment=augment, **options
        )
        errors.append(mdvae.evaluate(model, mirrored, n_generated=100).reconstruction.rmsd_raw.mean())
    assert errors[1] < errors[0]


@pytest.mark.parametrize("representation", ["cartesian", "internal"])
def test_augmented_features_are_those_of_the_augmented_frame(frames, representation):
    """Mirror images have the same distances, in whatever they are written."""
    model = mdvae.build(frames, representation=representation, hidden=(8,), seed=0)
    geometry = mdvae.train(model, frames, epochs=1, progress=False).data.geometry
    change = _Augmented(model.representation, augmentation(["mirror"], frames.system, model.alignment, geometry))
    features = jax.vmap(model.representation.to_features)(frames.coordinates[:64])
    changed = jax.jit(jax.vmap(change))(features, jax.random.split(jax.random.key(0), 64))
    before, after = (np.asarray(jax.vmap(model.representation.to_coordinates)(x)) for x in (features, changed))
    apart = [np.linalg.norm(x[:, :, None] - x[:, None], axis=-1) for x in (before, after)]
    np.testing.assert_allclose(apart[0], apart[1], atol=1e-4)
    flipped = np.abs(np.asarray(features) - np.asarray(changed)).max(axis=1) > 1e-3
    assert 12 < flipped.sum() < 52


def test_words_are_checked_before_reading():
    with pytest.raises(ValueError, match="mirrors"):
        mdvae.fit("does-not-exist.xtc", augment=["mirrors"])


def test_no_words_are_no_augmentation(frames):
    model = mdvae.build(frames, hidden=(8,), seed=0)
    for words in (None, [], iter(())):
        assert mdvae.train(model, frames, epochs=1, augment=words, progress=False).settings["augment"] == []


def test_ctrl_c_after_training_keeps_what_was_trained(frames, monkeypatch):
    """And says nothing about it, rather than what was true of another model."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    model = mdvae.train(mdvae.build(frames, hidden=(8,), seed=0), frames, epochs=1, progress=False)
    monkeypatch.setattr("mdvae.training.fitting.diagnose", interrupt)
    monkeypatch.setattr("mdvae.training.vectors.diagnose", interrupt)
    again = mdvae.train(model, frames, epochs=1, progress=False)
    assert again.history is not model.history
    assert again.diagnostics is None
    x = frames.coordinates.reshape(len(frames.coordinates), -1)
    vectors = mdvae.train_vae(model.vae, x, epochs=1, progress=False)
    assert vectors.diagnostics is None
    assert vectors.history.n_epochs == 1
