"""Decoded and generated conformations have the model's atoms, and come from its prior."""

import mdtraj as md
import numpy as np
import pytest

import mdvae


def test_three_coordinates_say_more_than_one_principal_component(trained, frames):
    x = frames.coordinates.reshape(len(frames.coordinates), -1)
    again = mdvae.decode(trained, mdvae.encode(trained, frames.coordinates)).xyz[..., :2].reshape(x.shape)
    variances = np.linalg.eigvalsh(np.cov(x.T))
    assert ((again - x) ** 2).sum(axis=1).mean() < variances[:-1].sum()


def test_a_plane_has_no_third_coordinate(trained):
    trajectory = mdvae.generate(trained, 4)
    assert isinstance(trajectory, md.Trajectory)
    assert trajectory.xyz.shape == (4, 6, 3)
    assert trajectory.n_atoms == trajectory.topology.n_atoms
    assert not trajectory.xyz[..., 2].any()


def test_one_seed_one_result(trained):
    a, b, c = (mdvae.generate(trained, 5, seed=seed).xyz for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-3


def test_generation_is_the_prior_through_the_decoder(trained):
    """Mean and spread of the generated agree with those of decoded standard normal points."""
    generated = mdvae.generate(trained, 4000, seed=3).xyz
    z = np.random.default_rng(0).normal(size=(4000, 3))
    decoded = mdvae.decode(trained, z).xyz
    np.testing.assert_allclose(generated.mean(0), decoded.mean(0), atol=0.05)
    np.testing.assert_allclose(generated.std(0), decoded.std(0), atol=0.05)


def test_noise_adds_the_width_of_the_likelihood(trained):
    mean = mdvae.generate(trained, 3000, seed=4).xyz[..., :2]
    noisy = mdvae.generate(trained, 3000, noise=True, seed=4).xyz[..., :2]
    width = np.asarray(trained.vae.likelihood.width()).reshape(6, 2)
    np.testing.assert_allclose((noisy - mean).std(axis=0), width, rtol=0.1)


BAD_POINTS = {
    "shape": (np.zeros((3, 2)), r"shape \(n_frames, 3\), got \(3, 2\)"),
    "one point": (np.zeros(3), r"got \(3,\)"),
    "nan": (np.full((2, 3), np.nan), "must be finite"),
}


@pytest.mark.parametrize("case", BAD_POINTS)
def test_bad_points_are_refused(trained, case):
    z, message = BAD_POINTS[case]
    with pytest.raises(ValueError, match=message):
        mdvae.decode(trained, z)


def test_no_frames(trained):
    assert mdvae.decode(trained, np.zeros((0, 3))).n_frames == 0
    with pytest.raises(ValueError, match="at least 1 conformation"):
        mdvae.generate(trained, 0)
