"""Reconstruction errors are what they say, and PCA is PCA."""

import json
import re

import numpy as np
import pytest

import mdvae
from mdvae.validity import check


@pytest.fixture(scope="module")
def evaluation(trained, chain):
    return mdvae.evaluate(trained, chain, chunk=70)


def test_rmsd_by_hand(evaluation, trained, frames):
    """Restored, raw, and from one to the other."""
    restored, raw = (
        mdvae.reconstruct(trained, frames.coordinates, restore=restore).xyz[..., :2] for restore in (True, False)
    )
    squares = ((restored - frames.coordinates) ** 2).sum(-1)
    np.testing.assert_allclose(evaluation.rmsd, np.sqrt(squares.mean(1)), atol=1e-4)
    np.testing.assert_allclose(evaluation.rmsd_per_atom, np.sqrt(squares.mean(0)), atol=1e-4)
    np.testing.assert_allclose(evaluation.rmsd_raw, _rmsd(raw, frames.coordinates), atol=1e-4)
    np.testing.assert_allclose(evaluation.moved, _rmsd(restored, raw), atol=1e-4)
    assert evaluation.moved.max() > 1e-3


def _rmsd(a, b):
    return np.sqrt(((a - b) ** 2).sum(axis=2).mean(axis=1))


def test_shares_by_hand(evaluation, trained, frames):
    geometry = trained.data.geometry
    structures = {
        "frames": frames.coordinates,
        "decoded": mdvae.reconstruct(trained, frames.coordinates, restore=False).xyz[..., :2],
        "restored": mdvae.reconstruct(trained, frames.coordinates).xyz[..., :2],
    }
    for name, coordinates in structures.items():
        found, shares = check(geometry, coordinates), evaluation.validity[name]
        np.testing.assert_allclose(shares["valid"], found.valid.mean(), atol=0.01)
        np.testing.assert_allclose(shares["lengths"], (found.n_broken == 0).mean(), atol=0.01)
        np.testing.assert_allclose(shares["centers"], (found.n_wrong == 0).mean(), atol=0.01)
        np.testing.assert_allclose(shares["contacts"], (found.n_overlaps == 0).mean(), atol=0.01)
    assert evaluation.validity["frames"]["valid"] == 1
    assert evaluation.validity["decoded"]["valid"] < evaluation.validity["restored"]["valid"] == 1


def test_chunks_do_not_matter(evaluation, trained, chain):
    whole = mdvae.evaluate(trained, chain)
    for name in ("rmsd", "rmsd_raw", "rmsd_pca", "rmsd_per_atom", "moved"):
        np.testing.assert_allclose(getattr(whole, name), getattr(evaluation, name), atol=1e-4)
    assert whole.validity == evaluation.validity


def test_pca_by_hand(evaluation, frames):
    """The error of projection on three components is what the other variances leave."""
    x = frames.coordinates.reshape(len(frames.coordinates), -1).astype(np.float64)
    left = np.linalg.eigvalsh(np.cov(x.T, bias=True))[:-3].sum()
    np.testing.assert_allclose((evaluation.rmsd_pca**2).mean() * 6, left, rtol=1e-4)


def test_pca_with_fewer_frames_than_features(rng):
    from mdvae.evaluation.reconstruction import principal_components

    x = rng.normal(size=(10, 20, 3))
    np.testing.assert_allclose(principal_components(x, 9)(x), x, atol=1e-10)
    wide, tall = principal_components(x, 4)(x), principal_components(np.concatenate([x] * 10), 4)(x)
    np.testing.assert_allclose(wide, tall, atol=1e-8)


def test_prints_and_saves(evaluation, tmp_path):
    assert "300 frames, 3 latent dimensions" in str(evaluation)
    assert "reduced units" in str(evaluation)
    assert re.search(r"decoded and restored +(100\.0 *){4}", str(evaluation))
    assert f"thermal spread ({evaluation.thermal:.3g}): {np.sum(evaluation.moved > evaluation.thermal)}" in str(
        evaluation
    )
    evaluation.save(tmp_path / "e.json")
    plain = json.loads((tmp_path / "e.json").read_text())
    assert plain["n_frames"] == 300
    np.testing.assert_allclose(plain["rmsd_mean"], evaluation.rmsd.mean(), rtol=1e-6)
    np.testing.assert_allclose(plain["rmsd_raw"], evaluation.rmsd_raw, rtol=1e-6)
    assert plain["validity"] == evaluation.validity


def test_untrained_model(frames, chain):
    with pytest.raises(ValueError, match="has not been trained"):
        mdvae.evaluate(mdvae.build(frames), chain)
