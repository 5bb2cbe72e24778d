"""Decoded and generated conformations have the model's atoms, and come from its prior."""

import dataclasses
import re

import jax
import mdtraj as md
import numpy as np
import pytest

import mdvae
from mdvae.latent.generation import _PRIORS, restore_decoded
from mdvae.local_geometry import distances, fit_local_geometry
from mdvae.model import TrainingData
from mdvae.restoration import Restorer, restore_frames
from mdvae.validity import check


def with_geometry(model, **changes):
    """The model as if its training data had been others."""
    geometry = dataclasses.replace(model.data.geometry, **changes)
    return dataclasses.replace(model, data=dataclasses.replace(model.data, geometry=geometry))


def test_three_coordinates_say_more_than_one_principal_component(trained, frames):
    x = frames.coordinates.reshape(len(frames.coordinates), -1)
    again = mdvae.reconstruct(trained, frames.coordinates, restore=False).xyz[..., :2].reshape(x.shape)
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


def test_the_aggregate_posterior_is_the_mean_of_posteriors(trained):
    """Mean and spread of its points are those of the posteriors together; decoded, they are what is generated."""
    n = 20_000
    z = _PRIORS["aggregate_posterior"](trained, jax.random.split(jax.random.key(0), n))
    features = trained.data.frames.reshape(len(trained.data.frames), -1)
    posteriors = jax.vmap(trained.vae.encoder)(features)
    mean, width = np.asarray(posteriors.mean), np.exp(posteriors.log_std)
    spread = np.sqrt(mean.var(axis=0) + (width**2).mean(axis=0))
    assert np.abs(spread - 1).max() > 0.05  # so that a standard normal would not pass
    np.testing.assert_allclose(z.mean(axis=0), mean.mean(axis=0), atol=5 * spread.max() / np.sqrt(n))
    np.testing.assert_allclose(z.std(axis=0), spread, rtol=0.03)
    generated = mdvae.generate(trained, 4000, prior="aggregate_posterior", seed=3).xyz
    decoded = mdvae.decode(trained, z[:4000]).xyz
    np.testing.assert_allclose(generated.mean(0), decoded.mean(0), atol=0.05)
    np.testing.assert_allclose(generated.std(0), decoded.std(0), atol=0.05)


def test_the_aggregate_posterior_is_weighted_as_the_frames_are(trained):
    """Of three frames, of which one weighs nothing and one three times the other."""
    data = dataclasses.replace(trained.data, frames=trained.data.frames[[0, 100, 200]], weights=np.array([1.0, 0, 3]))
    model = dataclasses.replace(trained, data=data)
    n = 4000
    z = _PRIORS["aggregate_posterior"](model, jax.random.split(jax.random.key(0), n))
    posteriors = jax.vmap(lambda frame: model.vae.encoder(model.representation.to_features(frame)))(data.frames)
    means, own = np.asarray(posteriors.mean), np.exp(2 * np.asarray(posteriors.log_std))
    share = np.array([0.25, 0, 0.75])
    variance = share @ own + share @ (means - share @ means) ** 2
    np.testing.assert_array_less(np.abs(z.mean(axis=0) - share @ means), 4 * np.sqrt(variance / n))
    np.testing.assert_allclose(z.var(axis=0), variance, rtol=0.12)


def test_the_aggregate_posterior_has_no_frames_twice_in_step(trained):
    """Which frame and which noise are drawn apart: equal frames come with different noise."""
    z = _PRIORS["aggregate_posterior"](trained, jax.random.split(jax.random.key(0), 2000))
    assert len(np.unique(z, axis=0)) == 2000


def test_a_prior_that_cannot_be_is_refused(trained, frames):
    with pytest.raises(ValueError, match="prior='vamp' is not known; expected one of 'model', 'aggregate_posterior'"):
        mdvae.generate(trained, 3, prior="vamp")
    untrained = mdvae.build(frames, latent_dim=2, hidden=(8,))
    with pytest.raises(ValueError, match="needs a trained model"):
        mdvae.generate(untrained, 3, prior="aggregate_posterior")


def test_noise_adds_the_width_of_the_likelihood(trained):
    mean = mdvae.generate(trained, 3000, restore=False, seed=4).xyz[..., :2]
    noisy = mdvae.generate(trained, 3000, restore=False, noise=True, seed=4).xyz[..., :2]
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


# -- restoring


def test_raw_structures_are_the_decoders_own(trained):
    z = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    raw = mdvae.decode(trained, z, restore=False)
    assert raw.restoration is None
    np.testing.assert_allclose(raw.xyz[3, :, :2], trained.decoder(jax.numpy.asarray(z[3])), atol=1e-5)


@pytest.mark.filterwarnings("ignore:of 200 structures 0 are still not valid")
def test_restored_structures_are_valid_and_say_how_far_they_moved(trained):
    """Points far from the data, where the decoder says what it likes."""
    z = 2 * np.random.default_rng(0).normal(size=(200, 3))
    raw = mdvae.decode(trained, z, restore=False).xyz[..., :2]
    restored = mdvae.decode(trained, z)
    assert check(trained.data.geometry, raw).valid.mean() < 0.9
    frames = restored.xyz[..., :2]
    assert check(trained.data.geometry, frames).valid.all()
    assert restored.restoration.valid.all()
    np.testing.assert_allclose(
        restored.restoration.moved, np.sqrt(((frames - raw) ** 2).sum(axis=2).mean(axis=1)), atol=1e-6
    )
    assert restored.restoration.thermal == trained.data.geometry.thermal
    assert str(restored.restoration).startswith("200 structures restored: moved by 0.")


def test_generated_noise_is_restored_where_it_needs_to_be(trained):
    noisy = mdvae.generate(trained, 200, noise=True, seed=4)
    raw = mdvae.generate(trained, 200, noise=True, restore=False, seed=4).xyz[..., :2]
    frames, restoration = noisy.xyz[..., :2], noisy.restoration
    fine = check(trained.data.geometry, raw).valid
    assert 0 < fine.sum() < 200
    np.testing.assert_array_equal(frames[fine], raw[fine])
    restored, there = restore_decoded(trained, raw[~fine])
    np.testing.assert_allclose(frames[~fine], restored, atol=1e-6)
    assert check(trained.data.geometry, frames).valid.all()
    assert restoration.valid.all()
    assert not restoration.moved[fine].any()
    np.testing.assert_allclose(restoration.moved[~fine], there.moved, atol=1e-6)


def test_noise_that_is_valid_as_drawn_is_left_alone(trained):
    geometry = trained.data.geometry
    wide = dataclasses.replace(geometry.lengths, smallest=0 * geometry.lengths.mean, largest=9 * geometry.lengths.mean)
    soft = with_geometry(trained, lengths=wide, closest=0 * geometry.closest)
    noisy, raw = (mdvae.generate(soft, 20, noise=True, restore=restore, seed=4) for restore in (True, False))
    np.testing.assert_array_equal(noisy.xyz, raw.xyz)
    assert noisy.restoration.valid.all()
    assert not noisy.restoration.moved.any()


def test_slices_do_not_say_what_was_restored(trained):
    """The record is of all the structures; a slice has it no longer."""
    whole = mdvae.generate(trained, 4)
    for part in (whole[1], whole[::2], whole[np.array([True, False, True, False])]):
        assert part.restoration is None
    assert len(whole.restoration.moved) == 4


def test_an_untrained_model_restores_nothing(frames):
    model = mdvae.build(frames, latent_dim=3, hidden=(8,))
    assert mdvae.generate(model, 3).restoration is None


@pytest.mark.parametrize(("mean", "spread", "room"), [(2.138, 0.01, 2), (2.25, 0.025, 3)])
def test_where_not_all_can_be_near_its_mean_there_is_more_room(mean, spread, room, rng):
    """Three beads, bonds of 1.00 +- 0.03: a length from end to end that goes with them only so many spreads off."""
    x = np.cumsum(np.concatenate([np.zeros((500, 1)), 1 + 0.03 * rng.normal(size=(500, 2))], axis=1), axis=1)
    x = np.stack([x, np.zeros_like(x)], axis=-1).astype(np.float32)
    geometry = fit_local_geometry(x, np.array([[0, 1], [1, 2]]))
    ends = geometry.separation == 2
    values = {"mean": mean, "spread": spread, "smallest": mean, "largest": mean}
    lengths = {name: np.where(ends, value, getattr(geometry.lengths, name)) for name, value in values.items()}
    geometry = dataclasses.replace(geometry, lengths=dataclasses.replace(geometry.lengths, **lengths))
    model = mdvae.build(mdvae.read(x, length_unit="reduced", alignment="none"), latent_dim=1, hidden=(4,))
    model = dataclasses.replace(model, data=TrainingData(x, len(x), geometry))
    assert not check(geometry, restore_frames(Restorer(geometry), x)).valid.any()
    restored, restoration = restore_decoded(model, x)
    assert restoration.valid.all()
    found = np.abs(distances(restored, geometry.pairs) - geometry.lengths.mean) / geometry.lengths.spread
    assert round(found.max()) == room


def test_a_rigid_pair_may_be_closer_than_others_are(rng):
    """Ends of a rigid chain of five are 1.06 apart; chains of two, whose atoms are of the same kind, 1.25 and more."""
    angles = np.deg2rad(71) * np.arange(5)
    frames = np.zeros((400, 165, 3))
    frames[:, :5, 0], frames[:, :5, 1] = (
        np.cos(angles) / (2 * np.sin(angles[1] / 2)),
        np.sin(angles) / (2 * np.sin(angles[1] / 2)),
    )
    pairs = frames[:, 5:].reshape(400, 40, 4, 3)
    pairs[..., 2] = 10 * np.arange(1, 41)[:, None]
    pairs[..., 1:, 0] = np.cumsum(
        np.stack([np.ones((400, 40)), rng.uniform(1.25, 1.36, size=(400, 40)), np.ones((400, 40))], axis=-1), axis=-1
    )
    frames = (frames + 0.0005 * rng.normal(size=frames.shape)).astype(np.float32)
    links = np.concatenate([[[i, i + 1] for i in range(4)], [[i, i + 1] for i in range(5, 165, 2)]])
    geometry = fit_local_geometry(frames, links)
    ends = np.linalg.norm(frames[:, 0] - frames[:, 4], axis=-1)
    assert geometry.kinds.max() == 0
    assert ends.max() < geometry.touching[0, 0] - 0.1
    model = mdvae.build(mdvae.read(frames, length_unit="reduced", alignment="none"), latent_dim=1, hidden=(4,))
    model = dataclasses.replace(model, data=TrainingData(frames, len(frames), geometry))
    assert not check(geometry, restore_frames(Restorer(geometry), frames[:20])).valid.any()
    assert restore_decoded(model, frames[:20])[1].valid.all()


def test_what_cannot_be_restored_is_counted(trained):
    """No chain of six has its beads this far apart."""
    impossible = with_geometry(trained, closest=np.full_like(trained.data.geometry.closest, 50.0))
    calls = {
        "decode": lambda: mdvae.decode(impossible, np.zeros((5, 3))),
        "generate": lambda: mdvae.generate(impossible, 5),
        "reconstruct": lambda: mdvae.reconstruct(impossible, trained.data.frames[:5], length_unit="reduced"),
    }
    for call in calls.values():
        with pytest.warns(UserWarning, match="of 5 structures 5 are still not valid once restored"):
            conformations = call()
        assert not conformations.restoration.valid.any()


def test_structures_that_moved_far_are_counted(trained):
    tight = with_geometry(trained, thermal=1e-6)
    with pytest.warns(UserWarning, match="of 5 structures 0 are still not valid once restored, and [1-5] were moved"):
        conformations = mdvae.decode(tight, 3 + np.random.default_rng(0).normal(size=(5, 3)))
    np.testing.assert_array_equal(conformations.restoration.far, conformations.restoration.moved > 1e-6)


# -- valid ones only


WAYS = {
    "restored": {},
    "as decoded": {"restore": False},
    "with noise": {"noise": True, "restore": False},
    "with noise, restored": {"noise": True},
    "near the data": {"prior": "aggregate_posterior", "noise": True, "restore": False},
}


@pytest.mark.parametrize("way", WAYS)
def test_valid_ones_are_those_among_all_that_were_drawn(trained, way):
    """An independent count: as many draws without asking, and the judge."""
    some = mdvae.generate(trained, 60, valid=True, seed=5, **WAYS[way])
    everything = mdvae.generate(trained, some.n_drawn, seed=5, **WAYS[way]).xyz[..., :2]
    valid = check(trained.data.geometry, everything).valid
    assert valid.sum() == 60
    assert valid[-1]
    np.testing.assert_allclose(some.xyz[..., :2], everything[valid], atol=1e-6)
    assert (some.n_drawn > 60) == ("restore" in WAYS[way])


def restored_in_part(model, raw):
    """Restoring that fails for long structures: it blows them up."""
    restored, restoration = restore_decoded(model, raw)
    failed = np.linalg.norm(raw[:, 5] - raw[:, 0], axis=1) > 1
    restored[failed] *= 3
    return restored, dataclasses.replace(restoration, valid=restoration.valid & ~failed)


@pytest.mark.parametrize("n_frames", [1, 30])
def test_what_restoring_does_not_make_valid_is_drawn_again_without_a_warning(trained, monkeypatch, n_frames):
    monkeypatch.setattr("mdvae.latent.generation.restore_decoded", restored_in_part)
    some = mdvae.generate(trained, n_frames, valid=True, seed=2)
    assert some.n_frames == len(some.restoration.moved) == n_frames
    assert check(trained.data.geometry, some.xyz[..., :2]).valid.all()
    assert some.restoration.valid.all()
    with pytest.warns(UserWarning, match="still not valid once restored"):
        everything = mdvae.generate(trained, some.n_drawn + 50, seed=2)
    rows = np.flatnonzero(check(trained.data.geometry, everything.xyz[: some.n_drawn, :, :2]).valid)
    assert len(rows) == n_frames
    assert rows[-1] == some.n_drawn - 1
    np.testing.assert_allclose(some.restoration.moved, everything.restoration.moved[rows], atol=1e-6)


def test_one_seed_one_set_of_valid_ones(trained):
    a, b, c = (mdvae.generate(trained, 20, valid=True, restore=False, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.xyz, b.xyz)
    assert a.n_drawn == b.n_drawn
    assert np.abs(a.xyz - c.xyz).max() > 1e-3


def test_how_many_are_drawn_at_a_time_does_not_matter(trained, monkeypatch):
    options = {"noise": True, "restore": False, "valid": True, "seed": 3}
    whole = mdvae.generate(trained, 50, **options)
    monkeypatch.setattr("mdvae.latent.generation._BLOCK", 9 * 12)
    blocks = mdvae.generate(trained, 50, **options)
    np.testing.assert_allclose(blocks.xyz, whole.xyz, atol=1e-6)
    assert blocks.n_drawn == whole.n_drawn


def test_conformations_know_how_many_were_drawn(trained):
    whole = mdvae.generate(trained, 4)
    assert whole.n_drawn == 4
    assert mdvae.generate(trained, 4, restore=False).n_drawn == 4
    assert whole[:2].n_drawn is None
    assert mdvae.decode(trained, np.zeros((2, 3))).n_drawn is None


@pytest.fixture(scope="module")
def stiff(hexane):
    """A model of hexane that has hardly been trained: torsions turn, and its mean is no molecule."""
    frames = mdvae.read(hexane[0])
    return mdvae.train(mdvae.build(frames, latent_dim=2, hidden=(8,), seed=0), frames, epochs=1, seed=0)


def test_a_model_without_valid_structures_is_given_up_with_a_count(stiff):
    with pytest.raises(ValueError, match="fewer than 1 in 1000: let them be restored; or try prior") as error:
        mdvae.generate(stiff, 20, valid=True, restore=False)
    n_valid, n_drawn = map(int, re.match(r"only (\d+) of (\d+) structures", str(error.value)).groups())
    assert 5000 <= n_drawn < 15_000
    everything = mdvae.generate(stiff, n_drawn, restore=False).xyz
    assert check(stiff.data.geometry, everything).valid.sum() == n_valid == 0


def test_what_is_restored_already_gets_no_advice_to_restore(trained, monkeypatch):
    monkeypatch.setattr("mdvae.latent.generation._PATIENCE", 20)
    impossible = with_geometry(trained, closest=np.full_like(trained.data.geometry.closest, 50.0))
    with pytest.raises(ValueError, match="fewer than 1 in 1000: try prior"):
        mdvae.generate(impossible, 3, valid=True)


def test_valid_ones_that_moved_far_are_counted(trained):
    tight = with_geometry(trained, thermal=1e-9)
    with pytest.warns(UserWarning, match="of 50 valid structures [1-9][0-9]* were moved further than the data's"):
        mdvae.generate(tight, 50, valid=True)


def test_an_untrained_model_knows_no_valid_structures(frames):
    model = mdvae.build(frames, latent_dim=3, hidden=(8,))
    with pytest.raises(ValueError, match="untrained model knows no valid structures: train it, or leave out valid"):
        mdvae.generate(model, 3, valid=True)


# -- reconstructing


def test_reconstruction_is_encoding_and_decoding(trained, chain):
    for restore in (True, False):
        again = mdvae.reconstruct(trained, chain, restore=restore)
        expected = mdvae.decode(trained, mdvae.encode(trained, chain), restore=restore)
        np.testing.assert_allclose(again.xyz, expected.xyz, atol=1e-5)
        assert (again.restoration is None) == (not restore)


def test_chunks_and_lists_do_not_matter_to_reconstruction(trained, chain):
    expected = mdvae.reconstruct(trained, chain[:50], restore=False).xyz
    for source, reading in ((chain[:50], {"chunk": 7}), ([chain[:20], chain[20:50]], {})):
        np.testing.assert_allclose(
            mdvae.reconstruct(trained, source, restore=False, **reading).xyz, expected, atol=1e-5
        )
    strided = mdvae.reconstruct(trained, chain[:50], restore=False, stride=7).xyz
    np.testing.assert_allclose(strided, expected[::7], atol=1e-5)


def test_reconstructed_frames_keep_their_times(trained, chain):
    """Arrays have none; times of files are in ps."""
    trajectory = mdvae.to_trajectory(trained.system, chain[:10], 5.0 * np.arange(10))
    again = mdvae.reconstruct(trained, [trajectory, trajectory[:3]], restore=False)
    np.testing.assert_allclose(again.time, 5.0 * np.array([*range(10), 0, 1, 2]))
    expected = mdvae.reconstruct(trained, chain[:10], restore=False)
    np.testing.assert_allclose(again.xyz[:10], expected.xyz, atol=1e-5)
    np.testing.assert_array_equal(expected.time, np.arange(10))
