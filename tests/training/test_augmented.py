"""Frames may stand for others in training; what is held out is left alone."""

import jax
import numpy as np
import pytest

import mdvae
from mdvae.augmentation import augmentation
from mdvae.training import loop
from mdvae.training.fitting import _Augmented


def test_held_out_frames_are_judged_as_they_are(frames, monkeypatch):
    """An augmentation that would turn every frame into nonsense is only ever seen by training frames."""
    seen = {}
    optimize = loop.optimize

    def watched(module, features, training, validation, **settings):
        seen.update(features=np.asarray(features), validation=validation, augment=settings["augment"])
        return optimize(module, features, training, validation, **settings)

    monkeypatch.setattr("mdvae.training.descent.optimize", watched)
    model = mdvae.build(frames, hidden=(8,), seed=0)
    with_noise = mdvae.train(model, frames, epochs=1, augment=["noise=100"], learning_rate=1e-12, progress=False)
    plain = mdvae.train(model, frames, epochs=1, learning_rate=1e-12, progress=False)
    terms = [m.history.terms for m in (with_noise, plain)]
    assert terms[0]["reconstruction"][0] > 100 * abs(terms[1]["reconstruction"][0])
    np.testing.assert_allclose(terms[0]["validation_reconstruction"], terms[1]["validation_reconstruction"], rtol=1e-3)
    assert with_noise.settings["augment"] == ["noise=100"]


def test_a_mirrored_and_reversed_chain_is_learned_in_all_its_forms(frames, chain):
    """Held-out error of the mirror images of all frames, which one model has been told of and the other has not."""
    half = frames.coordinates[::2]
    source = mdvae.read(np.ascontiguousarray(half), length_unit="reduced")
    # A pose in which frames and their mirror images differ: reversal and mirror go through the alignment again.
    options = {"epochs": 150, "batch_size": 32, "learning_rate": 3e-3, "seed": 0, "progress": False}
    mirrored = source.coordinates * np.array([1, -1], np.float32)
    errors = []
    for augment in ([], ["mirror"]):
        model = mdvae.train(
            mdvae.build(source, latent_dim=3, hidden=(32, 32), seed=0), source, augment=augment, **options
        )
        errors.append(mdvae.evaluate(model, mirrored).rmsd_raw.mean())
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
