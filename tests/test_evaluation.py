"""Reconstruction errors are what they say, and PCA is PCA."""

import json

import numpy as np
import pytest

import mdvae


@pytest.fixture(scope="module")
def evaluation(trained, chain):
    return mdvae.evaluate(trained, chain, chunk=70)


def test_rmsd_by_hand(evaluation, trained, frames):
    again = mdvae.decode(trained, mdvae.encode(trained, frames.coordinates)).xyz[..., :2]
    squares = ((again - frames.coordinates) ** 2).sum(-1)
    np.testing.assert_allclose(evaluation.rmsd, np.sqrt(squares.mean(1)), atol=1e-4)
    np.testing.assert_allclose(evaluation.rmsd_per_atom, np.sqrt(squares.mean(0)), atol=1e-4)


def test_pca_by_hand(evaluation, frames):
    """The error of projection on three components is what the other variances leave."""
    x = frames.coordinates.reshape(len(frames.coordinates), -1).astype(np.float64)
    left = np.linalg.eigvalsh(np.cov(x.T, bias=True))[:-3].sum()
    np.testing.assert_allclose((evaluation.rmsd_pca**2).mean() * 6, left, rtol=1e-4)


def test_pca_with_fewer_frames_than_features(rng):
    from mdvae.evaluation.reconstruction import _pca

    x = rng.normal(size=(10, 20, 3))
    np.testing.assert_allclose(_pca(x, 9)(x), x, atol=1e-10)
    wide, tall = _pca(x, 4)(x), _pca(np.concatenate([x] * 10), 4)(x)
    np.testing.assert_allclose(wide, tall, atol=1e-8)


def test_prints_and_saves(evaluation, tmp_path):
    assert "300 frames, 3 latent dimensions" in str(evaluation)
    assert "reduced units" in str(evaluation)
    evaluation.save(tmp_path / "e.json")
    plain = json.loads((tmp_path / "e.json").read_text())
    assert plain["n_frames"] == 300
    np.testing.assert_allclose(plain["rmsd_mean"], evaluation.rmsd.mean(), rtol=1e-6)


def test_untrained_model(frames, chain):
    with pytest.raises(ValueError, match="has not been trained"):
        mdvae.evaluate(mdvae.build(frames), chain)
