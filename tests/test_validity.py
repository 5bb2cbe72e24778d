"""The judge finds every kind of defect, and nothing wrong with the training frames."""

import numpy as np
import pytest

from mdvae import validity
from mdvae.local_geometry import distances, fit_local_geometry, signed_volumes
from mdvae.validity import check

NO_BONDS = np.zeros((0, 2), int)


@pytest.fixture(scope="module")
def geometry(chiral):
    return fit_local_geometry(*chiral)


def turned(frames, axis, angle):
    """Rotated about a coordinate axis."""
    i, j = [k for k in range(3) if k != axis]
    turn = np.eye(3)
    turn[[i, j, i, j], [i, j, j, i]] = np.cos(angle), np.cos(angle), -np.sin(angle), np.sin(angle)
    return frames @ turn.T


def stretched(frame):
    frame[4] += 0.3 * (frame[4] - frame[3])


def squeezed(frame):
    frame[0] += 0.3 * (frame[1] - frame[0])


def bent(frame):
    """The last bond as long as it was, but in line with the one before."""
    step = frame[3] - frame[2]
    frame[4] = frame[3] + step / np.linalg.norm(step) * np.linalg.norm(frame[4] - frame[3])


def twisted(frame):
    """The last atom turned by half a turn about the bond before: only pairs three bonds apart change."""
    axis = frame[3] - frame[2]
    axis = axis / np.linalg.norm(axis)
    arm = frame[4] - frame[3]
    frame[4] = frame[3] + 2 * (arm @ axis) * axis - arm


def not_a_number(frame):
    frame[2, 1] = np.nan


def infinite(frame):
    frame[2:4, 1] = np.inf


BROKEN = {f.__name__: f for f in (stretched, squeezed, bent, twisted, not_a_number, infinite)}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_found(case, geometry, chiral):
    frame = chiral[0][0]
    altered = frame.copy()
    BROKEN[case](altered)
    judged = check(geometry, np.stack([frame, altered, frame]))
    assert judged.valid.tolist() == [True, False, True]
    assert (judged.n_broken > 0).tolist() == [False, True, False]


def test_a_twist_breaks_pairs_three_bonds_apart_only(geometry, chiral):
    frame = chiral[0][0].copy()
    twisted(frame)
    far = geometry.separation == 3
    assert 0 < check(geometry, frame[None]).n_broken[0] <= far.sum()


def test_a_mirrored_frame_has_all_its_lengths_and_every_center_wrong(geometry, chiral):
    judged = check(geometry, chiral[0] * np.array([1, 1, -1], np.float32))
    assert not judged.n_broken.any()
    assert (judged.n_wrong == 1).all()
    assert (judged.n_inverted == 1).all()
    assert (judged.n_faults == 1).all()
    assert not judged.valid.any()


@pytest.mark.parametrize(("height", "n_inverted"), [(0.2, 0), (-0.2, 1), (-1.0, 1)])
def test_a_center_pushed_through_the_plane_of_its_neighbors(height, n_inverted, geometry, chiral):
    """Wrong near the plane, and of the other hand behind it."""
    frames = chiral[0].copy()
    flat = frames[:, [1, 3, 5]].mean(axis=1)
    frames[:, 2] = flat + height * (frames[:, 2] - flat)
    judged = check(geometry, frames)
    assert (judged.n_wrong == 1).all()
    assert (judged.n_inverted == n_inverted).all()


def test_lengths_are_counted_by_how_many_bonds_they_span(geometry, chiral):
    """By hand, in frames that shake too much."""
    frames = chiral[0] + 0.006 * np.random.default_rng(0).normal(size=chiral[0].shape)
    lengths, (low, high) = distances(frames, geometry.pairs), geometry.lengths.allowed.T
    outside, found = (lengths < low) | (lengths > high), check(geometry, frames)
    for n_bonds in (1, 2, 3):
        expected = outside[:, geometry.separation == n_bonds].sum(axis=1)
        assert expected.any()
        np.testing.assert_array_equal(found.n_lengths[:, n_bonds - 1], expected)
    np.testing.assert_array_equal(found.n_broken, outside.sum(axis=1))


@pytest.mark.parametrize(("change", "n_bonds"), [(bent, 2), (twisted, 3)])
def test_bonds_are_kept_where_an_angle_or_a_torsion_is_not(change, n_bonds, geometry, chiral):
    frame = chiral[0][0].copy()
    change(frame)
    counts = check(geometry, frame[None]).n_lengths[0]
    assert counts[n_bonds - 1] > 0
    assert not counts[: n_bonds - 1].any()


def test_faults_are_everything_that_was_found(geometry, chiral):
    """A frame that is mirrored, with one bond broken, and another with its ends on each other."""
    frames = np.repeat(chiral[0][:1], 4, axis=0)
    frames[1] *= -1
    frames[2] *= -1
    stretched(frames[2])
    frames[3, 4] = frames[3, 0]
    found = check(geometry, frames)
    parts = found.n_lengths.sum(axis=1) + found.n_wrong + found.n_twisted + found.n_overlaps
    np.testing.assert_array_equal(found.n_faults, parts)
    assert found.n_faults[:2].tolist() == [0, 1]
    assert found.n_inverted.tolist() == [0, 1, 1, 0]
    assert found.n_faults[2] > found.n_faults[1]
    np.testing.assert_array_equal(found.valid, found.n_faults == 0)


def test_a_flat_center_has_no_hand(rng):
    """Of a planar molecule a center that bulges to one side is wrong, and neither side is the inverted one."""
    shape = 0.15 * np.array([[0, 0, 0], [1, 0, 0], [-0.5, 0.87, 0], [-0.5, -0.87, 0]])
    frames = shape + 0.003 * rng.normal(size=(300, 4, 3))
    geometry = fit_local_geometry(frames, np.array([[0, 1], [0, 2], [0, 3]]))
    bulging = np.stack([shape, shape, shape])
    bulging[1, 0, 2], bulging[2, 0, 2] = 0.06, -0.06
    found = check(geometry, bulging)
    assert found.n_wrong.tolist() == [0, 1, 1]
    assert found.n_inverted.tolist() == [0, 0, 0]


def test_a_torsion_that_does_not_turn_is_found_twisted(butanes, rng):
    """A peptide bond: at 135 degrees its length of three bonds alone would pass; cis it is flat, and too short."""
    held = 180 + 8 * rng.normal(size=2000)
    held[0] = 140  # once in the simulation
    frames = butanes(held) + 0.003 * rng.normal(size=(2000, 4, 3))
    geometry = fit_local_geometry(frames, np.array([[0, 1], [1, 2], [2, 3]]))
    assert check(geometry, frames).valid.all()
    judged = check(geometry, butanes([180, 160, 120, 90, 0]))
    assert judged.n_twisted.tolist() == [0, 0, 1, 1, 0]
    assert judged.valid.tolist() == [True, True, False, False, False]


def test_a_clash_is_found(hexane):
    """Of the structure whose ends are nearest, with the last atom half the way nearer to the first."""
    frames, links = hexane
    geometry = fit_local_geometry(frames, links)
    clash = frames[[np.argmin(np.linalg.norm(frames[:, 0] - frames[:, 5], axis=1))]].copy()
    assert check(geometry, clash).n_overlaps.tolist() == [0]
    clash[0, 5] = clash[0, 0] + 0.5 * (clash[0, 5] - clash[0, 0])
    assert check(geometry, clash).n_overlaps[0] >= 1


def test_overlaps_count_pairs_by_kind():
    """Limits by hand: 1.0 between light atoms, 1.2 mixed, 1.5 between heavy ones."""
    frames = np.zeros((1, 4, 3))
    frames[0, :, 0] = [0, 1.0, 2.2, 3.7]
    geometry = fit_local_geometry(frames, NO_BONDS, np.array([1.0, 1.0, 16.0, 16.0]))
    for position, n_overlaps in {(0, 1.0, 2.2, 3.7): 0, (0, 1.1, 2.2, 3.7): 1, (0, 0.9, 2.0, 3.4): 3}.items():
        frames[0, :, 0] = position
        assert check(geometry, frames).n_overlaps.tolist() == [n_overlaps]


def test_a_stricter_judge_lets_less_pass(geometry, chiral):
    """Of training frames those with every held number within so many spreads, counted by hand."""
    frames, off = chiral[0].astype(float), np.zeros(len(chiral[0]))
    for statistics, values in (
        (geometry.lengths, distances(frames, geometry.pairs)),
        (geometry.volumes, signed_volumes(frames, geometry.centers)),
        (geometry.twists, signed_volumes(frames, geometry.torsions)),
    ):
        spreads = np.abs(values - statistics.mean) / statistics.spread
        off = np.maximum(off, spreads[:, statistics.held].max(axis=1, initial=0))
    for n_spreads in (2.0, 2.5):
        valid = check(geometry, chiral[0], n_spreads=n_spreads).valid
        assert 0 < valid.sum() < len(valid)
        np.testing.assert_array_equal(valid, off <= n_spreads)


def test_training_frames_are_valid(geometry, chiral, hexane):
    assert check(geometry, chiral[0]).valid.all()
    assert check(fit_local_geometry(*hexane), hexane[0]).valid.all()


def test_everything_of_a_frame_that_is_not_finite_is_broken(geometry, chiral):
    frames = chiral[0][:2].copy()
    infinite(frames[1])
    judged = check(geometry, frames)
    assert judged.n_broken.tolist() == [0, len(geometry.pairs)]
    assert judged.n_lengths[1].tolist() == np.bincount(geometry.separation)[1:].tolist()
    assert judged.n_inverted.tolist() == [0, 0]
    assert judged.n_wrong.tolist() == [0, len(geometry.centers)]
    assert judged.n_twisted.tolist() == [0, len(geometry.torsions)]


def test_the_judgment_does_not_see_where_the_frame_lies(geometry, chiral, rng):
    some = chiral[0] + 0.006 * rng.normal(size=chiral[0].shape)
    judged, again = check(geometry, some), check(geometry, turned(turned(some, 0, 1.0), 2, 2.0) + 3.0)
    assert 0 < judged.valid.mean() < 1
    np.testing.assert_array_equal(judged.n_broken, again.n_broken)
    np.testing.assert_array_equal(judged.n_wrong, again.n_wrong)


def test_blocks_do_not_matter(geometry, chiral, rng, monkeypatch):
    some = chiral[0] + 0.006 * rng.normal(size=chiral[0].shape)
    expected = check(geometry, some)
    monkeypatch.setattr(validity, "_BLOCK", 7 * len(geometry.pairs))
    np.testing.assert_array_equal(check(geometry, some).n_broken, expected.n_broken)
    assert check(geometry, some[:0]).valid.shape == (0,)


def test_without_bonds_there_are_only_contacts(hexane):
    frames = hexane[0]
    geometry = fit_local_geometry(frames, NO_BONDS)
    judged = check(geometry, 0.5 * frames)
    assert not judged.n_broken.any()
    assert judged.n_overlaps.all()
    bad = frames[:1].copy()
    not_a_number(bad[0])
    assert not check(geometry, bad).valid[0]


def test_one_atom_is_always_valid():
    frames = np.zeros((5, 1, 3), np.float32)
    assert check(fit_local_geometry(frames, NO_BONDS), frames).valid.all()


def test_the_plane_is_judged_too(chiral):
    frames, links = chiral[0][..., :2], chiral[1]
    geometry = fit_local_geometry(frames, links)
    assert check(geometry, frames).valid.all()
    assert not check(geometry, 1.5 * frames).valid.any()
