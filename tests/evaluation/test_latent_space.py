"""Nearest neighbors are the nearest ones, and what is copied, missed or unlike the data is counted."""

import dataclasses
import json

import numpy as np
import pytest

from mdvae.evaluation import latent_space
from mdvae.evaluation.latent_space import _share_seen, look_around, nearest
from mdvae.latent import encode


def brute_force(frames, others):
    return np.sqrt(((frames[:, None].astype(float) - others[None]) ** 2).sum(axis=3).mean(axis=2))


@pytest.mark.parametrize("dim", [2, 3])
def test_nearest_by_brute_force(dim, rng, monkeypatch):
    frames, others = (rng.normal(5, 1, size=(n, 4, dim)).astype(np.float32) for n in (23, 50))
    expected = brute_force(frames, others).min(axis=1)
    np.testing.assert_allclose(nearest(frames, others), expected, rtol=1e-5)
    monkeypatch.setattr(latent_space, "_BLOCK", 7 * 50)
    np.testing.assert_allclose(nearest(frames, others), expected, rtol=1e-5)


def test_near_ones_are_measured_well(rng):
    """Far from the origin, a thousandth from each other: the difference of squares alone would be nothing but noise."""
    others = rng.normal(100, 1, size=(50, 4, 3)).astype(np.float32)
    frames = others[::3] + rng.normal(0, 1e-3, size=(17, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(nearest(frames, others), brute_force(frames, others).min(axis=1), rtol=1e-3)
    np.testing.assert_array_equal(nearest(others, others), 0)


@pytest.mark.parametrize("window", [0, 3])
def test_nearest_far_in_time(window, rng):
    others, places = rng.normal(size=(40, 4, 3)).astype(np.float32), np.array([0, 7, 39])
    apart = brute_force(others[places], others)
    for row, place in zip(apart, places, strict=True):
        row[max(0, place - window) : place + window + 1] = np.inf
    found = nearest(others[places], others, leave_out=(places, window))
    np.testing.assert_allclose(found, apart.min(axis=1), rtol=1e-5)


@pytest.fixture(scope="module")
def fresh(others, posed, knows_peptide):
    """Held-out frames, posed."""
    return posed(knows_peptide, others[:3].reshape(-1, 15, 3))


@pytest.fixture(scope="module")
def also_fresh(others, posed, knows_peptide):
    return posed(knows_peptide, others[5:].reshape(-1, 15, 3))


def test_fresh_frames_are_like_the_data(knows_peptide, fresh, also_fresh):
    found = look_around(knows_peptide, also_fresh, fresh)
    assert found.copied == found.seen == found.mirrored == 0
    assert found.out_of_distribution < 0.03
    # As near as 95 % of them have a training frame.
    assert 0.9 < found.coverage < 0.99
    training = knows_peptide.data.frames
    for frames, distances in ((also_fresh, found.nearest_generated), (fresh, found.nearest_held_out)):
        np.testing.assert_allclose(distances[:50], brute_force(frames[:50], training).min(axis=1), rtol=1e-4)
    np.testing.assert_allclose(found.held_out, encode(knows_peptide, fresh), atol=1e-4)
    np.testing.assert_allclose(found.training, encode(knows_peptide, training), atol=1e-4)


def test_shares_by_hand(knows_peptide, fresh, also_fresh):
    few = also_fresh[::10]
    found, training = look_around(knows_peptide, few, fresh), knows_peptide.data.frames
    evenly = training[np.unique(np.linspace(0, len(training) - 1, len(few)).astype(int))]
    radius = np.quantile(brute_force(fresh, evenly).min(axis=1), 0.95)
    np.testing.assert_allclose(found.coverage, np.mean(brute_force(fresh, few).min(axis=1) <= radius), atol=2e-3)
    usual = np.quantile(found.nearest_training, 0.99)
    np.testing.assert_allclose(found.out_of_distribution, np.mean(found.nearest_held_out > usual))


def test_copies_are_found(knows_peptide, fresh, simulate, posed):
    training = knows_peptide.data.frames
    rounded = np.round(training[::10], 3)  # as in an XTC file
    assert look_around(knows_peptide, rounded, fresh).copied == 1
    half = np.concatenate([training[::10], posed(knows_peptide, simulate(400, 50))])
    assert look_around(knows_peptide, half, fresh).copied == 0.5


def test_neighbors_in_time_do_not_hide_copies(knowing, peptide, simulate, posed):
    """Of a slow process: next to each frame lies the one before, as near as a copy."""
    slow = np.repeat(simulate(400, 0), 3, axis=0)
    model = knowing(slow + np.random.default_rng(0).normal(0, 1e-5, size=slow.shape).astype(np.float32))
    found = look_around(model, model.data.frames[::7], posed(model, simulate(200, 1)))
    assert found.copied == 1
    assert np.median(found.nearest_training) > 0.01


def test_frames_that_training_saw_are_counted(knows_peptide, fresh):
    training = knows_peptide.data.frames
    mixed = np.concatenate([training[:1000], fresh[:1000]])
    found = look_around(knows_peptide, fresh, mixed)
    np.testing.assert_allclose(found.seen, 0.5)
    assert found.copied == 0


def test_mirror_images_are_found(knows_peptide, fresh, also_fresh, posed):
    images = posed(knows_peptide, also_fresh * np.array([1, -1, 1], np.float32))
    found = look_around(knows_peptide, images, fresh)
    assert found.mirrored > 0.9
    half = np.concatenate([images[:1000], also_fresh[:1000]])
    np.testing.assert_allclose(look_around(knows_peptide, half, fresh).mirrored, found.mirrored / 2, atol=0.05)


def test_a_molecule_that_is_its_own_mirror_image_has_none(knowing, hexane, posed):
    """Hexane turns either way as often."""
    model, later = knowing(hexane[0][:200]), hexane[0][200:]
    found = [look_around(model, posed(model, later * np.array(s, np.float32)), later) for s in ((1, 1, 1), (1, 1, -1))]
    assert max(one.mirrored for one in found) < 0.3


def test_coverage_drops_where_one_state_is_missing(knows_peptide, fresh, simulate, posed):
    one = posed(knows_peptide, simulate(2000, 60, p_alpha=0.0))
    both = posed(knows_peptide, simulate(2000, 60))
    ours, theirs = (look_around(knows_peptide, frames, fresh).coverage for frames in (one, both))
    # A quarter of the frames have no residue in the other state.
    assert ours < 0.4
    assert theirs > 0.9


def test_another_molecule_is_out_of_distribution(knows_peptide, fresh, posed, rng):
    """As many atoms, of the same size."""
    walk = np.cumsum(rng.normal(size=(500, 15, 3)), axis=1)
    walk -= walk.mean(axis=1, keepdims=True)
    size = np.sqrt((fresh**2).sum(axis=2).mean())
    other = posed(knows_peptide, walk * size / np.sqrt((walk**2).sum(axis=2).mean()))
    found = look_around(knows_peptide, fresh, other)
    assert found.out_of_distribution > 0.99
    assert found.seen == 0


def test_evenly_spaced_ones_stand_for_many(knows_peptide, fresh, also_fresh, monkeypatch):
    whole = look_around(knows_peptide, also_fresh, fresh)
    monkeypatch.setattr(latent_space, "_MOST", 500)
    found = look_around(knows_peptide, also_fresh, fresh)
    assert len(found.nearest_generated) == len(found.nearest_held_out) == len(found.training) == 500
    np.testing.assert_allclose(np.median(found.nearest_held_out), np.median(whole.nearest_held_out), rtol=0.1)


def test_as_plain_data(knows_peptide, fresh, also_fresh):
    found = look_around(knows_peptide, also_fresh, fresh)
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["nearest_held_out_median"] == np.median(found.nearest_held_out)
    assert {name: plain[name] for name in ("copied", "seen", "mirrored", "coverage", "out_of_distribution")} == {
        name: value for name, value in dataclasses.asdict(found).items() if isinstance(value, float)
    }


def test_what_was_seen_is_scaled_to_what_is_kept():
    """Of a model that keeps every hundredth training frame, a hundredth of them are found."""
    found = np.arange(5000) % 100 == 0
    assert _share_seen(found, 0.01) == 1.0
    assert _share_seen(found, 1.0) == 0.01
    # A few frames are the same by chance.
    assert _share_seen(np.arange(5000) < 2, 0.001) == 2 / 5000


def test_latent_points_are_spaced_in_weights(trained, frames):
    weights = np.zeros(len(trained.data.frames))
    weights[:10] = 1
    weighted = dataclasses.replace(trained, data=dataclasses.replace(trained.data, weights=weights))
    found = look_around(weighted, None, frames.coordinates[:5])
    z = encode(trained, trained.data.frames[:10])
    apart = np.abs(found.training[:, None] - z[None]).max(axis=2).min(axis=1)
    assert apart.max() < 1e-3
