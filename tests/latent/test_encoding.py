"""The latent trajectory is a pure function of the frames."""

import jax
import numpy as np
import pytest

import mdvae


def test_encoding_is_the_posterior_mean_of_the_posed_frame(trained, chain):
    frame = jax.numpy.asarray(chain[7])
    features = trained.representation.to_features(trained.alignment(frame))
    expected = trained.vae.encoder(features).mean
    np.testing.assert_allclose(mdvae.encode(trained, chain)[7], expected, atol=1e-5)


def test_chunks_do_not_matter(trained, chain):
    np.testing.assert_array_equal(mdvae.encode(trained, chain, chunk=7), mdvae.encode(trained, chain))


def test_stride_takes_every_third(trained, chain):
    np.testing.assert_array_equal(mdvae.encode(trained, chain, stride=3), mdvae.encode(trained, chain)[::3])


def test_a_list_comes_one_after_another(trained, chain):
    parts = mdvae.encode(trained, [chain[:100], chain[100:150]])
    np.testing.assert_array_equal(parts, mdvae.encode(trained, chain[:150]))


def test_rigid_motion_does_not_matter(trained, chain, rng):
    angle = rng.uniform(0, 2 * np.pi, len(chain))
    c, s = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)
    moved = np.einsum("fij,faj->fai", turn, chain) + rng.normal(size=(len(chain), 1, 2))
    np.testing.assert_allclose(mdvae.encode(trained, moved), mdvae.encode(trained, chain), atol=2e-4)


def test_coordinate_is_differentiable(trained, chain):
    frame = jax.numpy.asarray(chain[3])
    jacobian = jax.jacobian(trained.coordinate)(frame)
    direction = np.random.default_rng(1).normal(size=frame.shape).astype(np.float32)
    h = 1e-2
    up, down = trained.coordinate(frame + h * direction), trained.coordinate(frame - h * direction)
    expected = (np.asarray(up) - np.asarray(down)) / (2 * h)
    np.testing.assert_allclose(np.einsum("lad,ad->l", jacobian, direction), expected, rtol=0.02, atol=5e-3)


def test_another_molecule_is_refused(trained, chain):
    with pytest.raises(ValueError, match="another molecule"):
        mdvae.encode(trained, chain[:, :5])
