"""Reconstruction errors are what they say, and PCA is PCA."""

import json

import numpy as np
import pytest

import mdvae
from mdvae.evaluation.reconstruction import Reconstructing, principal_components, principal_directions
from mdvae.latent.encoding import encode_chunks
from mdvae.training.splits import split_blocks
from mdvae.validity import check


def reconstructed(model, source, **reading):
    """All frames, those among them that training saw."""
    gathering, frames = Reconstructing(model), []
    for chunk, z in encode_chunks(model, source, **reading):
        gathering.add(chunk.coordinates, z)
        frames.append(chunk.coordinates)
    return gathering.result(np.concatenate(frames))


@pytest.fixture(scope="module")
def reconstruction(trained, chain):
    return reconstructed(trained, chain, chunk=70)


def test_rmsd_by_hand(reconstruction, trained, frames):
    """Restored, raw, and from one to the other."""
    restored, raw = (
        mdvae.reconstruct(trained, frames.coordinates, restore=restore).xyz[..., :2] for restore in (True, False)
    )
    squares = ((restored - frames.coordinates) ** 2).sum(-1)
    np.testing.assert_allclose(reconstruction.rmsd, np.sqrt(squares.mean(1)), atol=1e-4)
    np.testing.assert_allclose(reconstruction.rmsd_per_atom, np.sqrt(squares.mean(0)), atol=1e-4)
    np.testing.assert_allclose(reconstruction.rmsd_raw, _rmsd(raw, frames.coordinates), atol=1e-4)
    np.testing.assert_allclose(reconstruction.moved, _rmsd(restored, raw), atol=1e-4)
    assert reconstruction.moved.max() > 1e-3
    assert reconstruction.unit == "reduced"


def test_without_a_latent_space_there_is_the_mean(reconstruction, frames):
    """Of the frames from their mean, which is what PCA without components would leave; and their thermal spread."""
    mean = frames.coordinates.astype(float).mean(axis=0)
    np.testing.assert_allclose(reconstruction.rmsd_mean, _rmsd(mean, frames.coordinates), rtol=1e-5)
    np.testing.assert_allclose(np.sqrt((reconstruction.rmsd_mean**2).mean()), reconstruction.thermal, rtol=1e-5)
    assert np.median(reconstruction.rmsd) < np.median(reconstruction.rmsd_mean)


def _rmsd(a, b):
    return np.sqrt(((a - b) ** 2).sum(axis=2).mean(axis=1))


def test_shares_by_hand(reconstruction, trained, frames):
    geometry = trained.data.geometry
    structures = {
        "frames": frames.coordinates,
        "decoded": mdvae.reconstruct(trained, frames.coordinates, restore=False).xyz[..., :2],
        "restored": mdvae.reconstruct(trained, frames.coordinates).xyz[..., :2],
    }
    for name, coordinates in structures.items():
        found, shares = check(geometry, coordinates), reconstruction.validity[name]
        np.testing.assert_allclose(shares["valid"], found.valid.mean(), atol=0.01)
        np.testing.assert_allclose(shares["lengths"], (found.n_broken == 0).mean(), atol=0.01)
        np.testing.assert_allclose(shares["centers"], (found.n_wrong == 0).mean(), atol=0.01)
        np.testing.assert_allclose(shares["contacts"], (found.n_overlaps == 0).mean(), atol=0.01)
    assert reconstruction.validity["frames"]["valid"] == 1
    assert reconstruction.validity["decoded"]["valid"] < reconstruction.validity["restored"]["valid"] == 1


def test_chunks_do_not_matter(reconstruction, trained, chain):
    whole = reconstructed(trained, chain)
    for name in ("rmsd", "rmsd_raw", "rmsd_pca", "rmsd_mean", "rmsd_per_atom", "moved"):
        np.testing.assert_allclose(getattr(whole, name), getattr(reconstruction, name), atol=1e-4)
    assert whole.validity == reconstruction.validity


def test_only_some_are_restored(reconstruction, trained, frames):
    gathering = Reconstructing(trained)
    gathering.add(frames.coordinates, mdvae.encode(trained, frames.coordinates))
    few = gathering.result(frames.coordinates[::7])
    for name in ("rmsd", "moved"):
        np.testing.assert_allclose(getattr(few, name), getattr(reconstruction, name)[::7], atol=1e-4)
    np.testing.assert_allclose(few.rmsd_raw, reconstruction.rmsd_raw, atol=1e-4)


def test_pca_by_hand(reconstruction, frames):
    """The error of projection on three components is what the other variances leave."""
    x = frames.coordinates.reshape(len(frames.coordinates), -1).astype(np.float64)
    left = np.linalg.eigvalsh(np.cov(x.T, bias=True))[:-3].sum()
    np.testing.assert_allclose((reconstruction.rmsd_pca**2).mean() * 6, left, rtol=1e-4)


def test_pca_with_fewer_frames_than_features(rng):
    x = rng.normal(size=(10, 20, 3))
    np.testing.assert_allclose(principal_components(x, 9)(x), x, atol=1e-10)
    wide, tall = principal_components(x, 4)(x), principal_components(np.concatenate([x] * 10), 4)(x)
    np.testing.assert_allclose(wide, tall, atol=1e-8)


def test_principal_directions_are_those_of_scikit_learn(rng):
    x = rng.normal(size=(30, 6)) * np.arange(1, 7) + 5
    mean, axes = principal_directions(x, 3)
    np.testing.assert_allclose(mean, x.mean(axis=0))
    expected = pytest.importorskip("sklearn.decomposition").PCA(3).fit(x).components_
    np.testing.assert_allclose(np.abs(axes.T @ expected.T), np.eye(3), atol=1e-9)
    assert principal_directions(x, 50)[1].shape == (6, 6)


def test_as_plain_data(reconstruction):
    plain = json.loads(json.dumps(reconstruction.to_dict()))
    np.testing.assert_allclose(plain["rmsd_mean_of_frames"], reconstruction.rmsd.mean(), rtol=1e-6)
    for name in ("rmsd", "rmsd_raw", "rmsd_pca", "rmsd_mean", "moved", "rmsd_per_atom"):
        np.testing.assert_allclose(plain[name], getattr(reconstruction, name), rtol=1e-6)
    assert plain["validity"] == reconstruction.validity
    assert plain["thermal"] == reconstruction.thermal


def test_of_the_training_source_the_held_out_blocks_are_reconstructed(reconstruction, trained, chain):
    found = mdvae.evaluate(trained, chain, n_generated=50).reconstruction
    held_out = split_blocks([300])[1]
    np.testing.assert_allclose(found.rmsd, reconstruction.rmsd[held_out], atol=1e-4)
    np.testing.assert_allclose(found.rmsd_pca, reconstruction.rmsd_pca[held_out], atol=1e-4)
