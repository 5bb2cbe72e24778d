"""Of a source that training saw the held-out blocks are left, of any other everything; and runs have no gaps."""

import dataclasses

import mdtraj as md
import numpy as np
import pytest

from mdvae.evaluation.held_out import HeldOut, Thinned
from mdvae.model import TrainingData
from mdvae.training.splits import split_blocks, split_by_time


@pytest.fixture(scope="module")
def knows_chain(knowing, chain):
    return knowing(chain, length_unit="reduced")


@pytest.fixture(scope="module")
def knows_two(knowing, chain):
    """Of two trajectories, 220 and 80 frames."""
    return knowing([chain[:220], chain[220:]], length_unit="reduced")


def left(model, source, **reading):
    """Trajectories, frame numbers and runs of what is left, and the iterator."""
    frames = HeldOut(model, source, **reading)
    found = [(np.full(len(z), chunk.trajectory), chunk.frames, run, chunk.coordinates, z) for chunk, z, run in frames]
    if not found:
        return None, None, None, frames
    trajectory, number, run, coordinates, z = (np.concatenate(parts) for parts in zip(*found, strict=True))
    assert len(coordinates) == len(z) == len(run)
    return trajectory, number, run, frames


def assert_uninterrupted(trajectory, number, run):
    """Runs are as long as they can be, and no longer."""
    assert run[0] == 0
    follows = (np.diff(trajectory) == 0) & (np.diff(number) == 1)
    np.testing.assert_array_equal(np.diff(run), ~follows)


CHUNKS = (None, 7, 100)


@pytest.mark.parametrize("chunk", [1, *CHUNKS])
def test_of_the_training_source_the_held_out_blocks_are_left(chunk, knows_chain, chain):
    trajectory, number, run, frames = left(knows_chain, chain, chunk=chunk)
    np.testing.assert_array_equal(number, split_blocks([300])[1])
    assert_uninterrupted(trajectory, number, run)
    assert run[-1] == 4
    assert frames.n_read == frames.n_recognized == 300


@pytest.mark.parametrize("chunk", CHUNKS)
def test_of_several_trajectories(chunk, knows_two, chain):
    trajectory, number, run, frames = left(knows_two, [chain[:220], chain[220:]], chunk=chunk)
    np.testing.assert_array_equal(220 * trajectory + number, split_blocks([220, 80])[1])
    assert_uninterrupted(trajectory, number, run)
    assert frames.n_recognized == 300


@pytest.mark.parametrize("chunk", CHUNKS)
def test_of_the_first_of_two_trajectories(chunk, knows_two, chain):
    trajectory, number, run, frames = left(knows_two, chain[:220], chunk=chunk)
    held_out = split_blocks([220, 80])[1]
    np.testing.assert_array_equal(number, held_out[held_out < 220])
    assert_uninterrupted(trajectory, number, run)
    assert frames.n_read == frames.n_recognized == 220


@pytest.mark.parametrize("chunk", CHUNKS)
def test_of_a_run_that_goes_on(chunk, knowing, chain):
    """Trained on its beginning: held-out blocks of this, and all that came later."""
    model = knowing(chain[:200], length_unit="reduced")
    trajectory, number, run, frames = left(model, chain, chunk=chunk)
    np.testing.assert_array_equal(number, [*split_blocks([200])[1], *range(200, 300)])
    assert_uninterrupted(trajectory, number, run)
    assert (frames.n_read, frames.n_recognized) == (300, 200)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_of_a_source_that_turns_to_other_frames(chunk, knows_chain, chain):
    """They are all there, also where they are followed by frames that training saw."""
    source = chain.copy()
    source[100:150] = chain[100:150][::-1]
    trajectory, number, run, frames = left(knows_chain, source, chunk=chunk)
    held_out = split_blocks([300])[1]
    np.testing.assert_array_equal(number, [*held_out[held_out < 100], *range(100, 300)])
    assert_uninterrupted(trajectory, number, run)
    assert frames.n_recognized == 100


@pytest.mark.parametrize("chunk", [None, 7, 100])
@pytest.mark.parametrize("name", ["strided", "shifted", "reversed", "others", "same start"])
def test_other_frames_are_all_kept(name, chunk, knows_chain, chain, rng):
    sources = {
        "strided": chain[::2],
        "shifted": chain[1:],
        "reversed": chain[::-1].copy(),
        "others": chain + 0.1 * rng.normal(size=chain.shape).astype(np.float32),
        "same start": np.concatenate([chain[:3], chain[50:]]),
    }
    _, number, run, frames = left(knows_chain, sources[name], chunk=chunk)
    np.testing.assert_array_equal(number, np.arange(len(sources[name])))
    assert (run == 0).all()
    assert (frames.n_read, frames.n_recognized) == (len(sources[name]), 0)


def test_read_with_the_same_stride(knowing, chain):
    model = knowing(chain, length_unit="reduced", stride=3)
    _, number, run, _ = left(model, chain, stride=3)
    np.testing.assert_array_equal(number, 3 * split_blocks([100])[1])
    # One frame follows the other, as the model saw them.
    np.testing.assert_array_equal(np.diff(run), np.diff(number) != 3)


def test_rounding_and_another_pose_do_not_hide_them(knows_chain, chain):
    turn = np.array([[np.cos(2), -np.sin(2)], [np.sin(2), np.cos(2)]])
    moved = np.round(chain @ turn + 3, 4).astype(np.float32)
    np.testing.assert_array_equal(left(knows_chain, moved)[1], split_blocks([300])[1])


@pytest.mark.parametrize("chunk", CHUNKS)
def test_where_the_model_keeps_some_of_its_frames_only(chunk, knows_chain, chain):
    data = knows_chain.data
    few = TrainingData(data.frames[np.unique(np.linspace(0, 299, 40).astype(int))], 300, data.geometry)
    model = dataclasses.replace(knows_chain, data=few)
    np.testing.assert_array_equal(left(model, chain, chunk=chunk)[1], split_blocks([300])[1])
    np.testing.assert_array_equal(left(model, chain[::2], chunk=300)[1], np.arange(150))
    source = np.concatenate([chain[:150], chain[:150]])
    _, number, _, frames = left(model, source, chunk=chunk)
    # What it has not kept between the last frame that is the same and the first that is another is not known.
    assert abs(frames.n_recognized - 150) <= 300 / 39
    assert set(range(158, 300)) <= set(number.tolist())


def test_without_a_record_everything_is_kept(knows_chain, chain):
    for settings in ({}, {"lengths": [300]}, {"lengths": [299], "validation_fraction": 0.1}):
        model = dataclasses.replace(knows_chain, settings=settings)
        np.testing.assert_array_equal(left(model, chain)[1], np.arange(300))


def test_files_of_before_held_out_blocks_of_time(knows_peptide, runs):
    """Ten trajectories, of which whole ones are held out today."""
    before = {name: value for name, value in knows_peptide.settings.items() if name != "split"}
    trajectory, number, *_ = left(dataclasses.replace(knows_peptide, settings=before), runs)
    np.testing.assert_array_equal(400 * trajectory + number, split_by_time([400] * 10, 0.1)[1])
    assert len(np.unique(trajectory)) == 10


def test_nothing_is_left_where_training_saw_everything(knows_chain, chain):
    *_, frames = left(knows_chain, chain[:50])
    assert (frames.n_read, frames.n_recognized) == (50, 50)


def test_times_go_along(knowing, runs, peptide):
    source = md.Trajectory(runs[0].xyz, peptide, time=2.5 * np.arange(400) + 10)
    chunks = [chunk for chunk, *_ in HeldOut(knowing(source), source, chunk=70)]
    number = np.concatenate([chunk.frames for chunk in chunks])
    np.testing.assert_array_equal(number, split_blocks([400])[1])
    np.testing.assert_allclose(np.concatenate([chunk.time for chunk in chunks]), 2.5 * number + 10)


def test_a_file_of_what_was_given_as_an_array(knows_peptide, runs, tmp_path):
    """XTC rounds to 0.001 nm."""
    for i, one in enumerate(runs):
        one.save(tmp_path / f"{i}.xtc")
    trajectory, number, *_ = left(knows_peptide, [tmp_path / f"{i}.xtc" for i in range(10)])
    np.testing.assert_array_equal(400 * trajectory + number, split_blocks([400] * 10)[1])


# -- thinning


@pytest.mark.parametrize("sizes", [[1000], [1] * 300, [13, 200, 7, 450, 1], [3, 2]])
@pytest.mark.parametrize("most", [1, 10, 64, 10_000])
def test_evenly_spaced_ones_are_kept(sizes, most):
    """As many as the budget has room for, at most twice too few."""
    n_frames = sum(sizes)
    numbers = np.arange(n_frames)
    frames = np.broadcast_to(numbers[:, None, None], (n_frames, 2, 3)).astype(np.float32)
    thinned, first = Thinned(most * frames[0].nbytes), 0
    for size in sizes:
        rows = slice(first, first + size)
        thinned.add(frames[rows], numbers[rows] // 50)
        first += size
    kept = thinned.frames[:, 0, 0].astype(int)
    np.testing.assert_array_equal(thinned.run, kept // 50)
    step = kept[1] if len(kept) > 1 else n_frames
    np.testing.assert_array_equal(kept, numbers[::step])
    assert min(n_frames, most) / 2 - 1 < len(kept) <= most
    if n_frames <= most:
        assert len(kept) == n_frames


def test_frames_are_limited_as_well():
    thinned = Thinned(most=10)
    for first in range(0, 35, 7):
        numbers = np.arange(first, first + 7)
        thinned.add(np.broadcast_to(numbers[:, None, None], (7, 2, 3)).astype(np.float32), numbers)
    np.testing.assert_array_equal(thinned.run, np.arange(0, 35, 4))
    np.testing.assert_array_equal(thinned.frames[:, 1, 2], np.arange(0, 35, 4))


def test_what_is_kept_is_a_copy():
    frames, thinned = np.ones((4, 2, 3), np.float32), Thinned()
    thinned.add(frames, np.zeros(4, int))
    frames[:] = 0
    assert (thinned.frames == 1).all()


def test_one_frame_larger_than_the_budget_is_kept():
    thinned = Thinned(1)
    for _ in range(3):
        thinned.add(np.ones((1, 2, 3), np.float32), np.zeros(1, int))
    assert len(thinned.frames) == 1


def test_one_frame_in_common_is_not_enough(knows_chain, chain, rng):
    """A model that keeps few of its frames, and another run from the same start."""
    data = knows_chain.data
    few = TrainingData(data.frames[np.unique(np.linspace(0, 299, 5).astype(int))], 300, data.geometry)
    model = dataclasses.replace(knows_chain, data=few)
    other = np.concatenate([chain[:1], chain[:0:-1]])
    for chunk in (20, 300):
        assert len(left(model, other, chunk=chunk)[1]) == 300
