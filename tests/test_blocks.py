"""Blocks of time keep to their borders, and are as long as what the frames remember."""

import numpy as np
import pytest
from scipy.signal import lfilter

from mdvae._blocks import block_labels, block_length_for, cut, drawn_anew, statistical_inefficiency


def remembering(rng, n, memory):
    """Frames of an autoregressive process: neighbors are correlated by `memory`; unit variance, zero mean."""
    noise = rng.normal(size=n + 1000)
    return lfilter([np.sqrt(1 - memory**2)], [1, -memory], noise)[1000:, None]


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9, 0.98])
def test_inefficiency_is_that_of_an_autoregressive_process(memory, rng):
    """1 + 2 sum memory^t = (1 + memory) / (1 - memory)."""
    expected = (1 + memory) / (1 - memory)
    runs = [remembering(rng, 100_000, memory), remembering(rng, 50_000, memory)]
    assert statistical_inefficiency(runs) == pytest.approx(expected, rel=0.1)
    # Of several columns that of the slowest.
    both = [np.hstack([run, remembering(rng, len(run), 0.3)]) for run in runs]
    assert statistical_inefficiency(both) == pytest.approx(expected if memory > 0.3 else 1.3 / 0.7, rel=0.1)


def test_products_never_cross_a_border(rng):
    """Two halves of one run, exchanged, differ from the run; as two runs they do not."""
    run = remembering(rng, 4000, 0.9)
    halves = [run[:2000], run[2000:]]
    assert statistical_inefficiency(halves) == pytest.approx(statistical_inefficiency(halves[::-1]), rel=1e-9)
    alternating = [np.full((500, 1), float(sign)) for sign in (1, -1, 1, -1)]
    joined = np.concatenate(alternating)
    assert statistical_inefficiency(alternating) > 1.5 * statistical_inefficiency([joined])


def test_what_does_not_vary_remembers_nothing():
    assert statistical_inefficiency([np.zeros((50, 2)), np.zeros((1, 2))]) == 1.0


def test_blocks_are_about_so_long_and_within_runs():
    lengths = [100, 7, 253, 1]
    labels = cut(lengths, 25)
    run = np.repeat(np.arange(4), lengths)
    assert len(labels) == len(run)
    assert set(np.diff(labels)) == {0, 1}
    for block in range(labels[-1] + 1):
        assert len(set(run[labels == block])) == 1
    sizes = np.bincount(labels)
    assert sizes.max() <= 1.5 * 25
    assert len(sizes) == 4 + 1 + 10 + 1


def test_longer_memory_needs_longer_blocks():
    """Twice the frames for each: (2 n g^2)^(1/3) is twice as long for eight times the frames."""
    assert block_length_for(1000, 1.0) == 13
    assert block_length_for(8000, 10.0) == pytest.approx(2 * block_length_for(1000, 10.0), rel=0.05)
    # Never more blocks than are of use.
    assert 10**7 / block_length_for(10**7, 1.0) <= 500


def test_blocks_are_drawn_with_replacement(rng):
    draws = np.stack(list(drawn_anew(np.eye(10)[:, :, None], 200, rng)))[..., 0]
    assert draws.shape == (200, 10)
    np.testing.assert_array_equal(draws.sum(axis=1), 10)
    np.testing.assert_array_equal(draws, np.round(draws))
    # Of ten, a block stays away with probability 0.9**10; three standard errors.
    assert np.abs((draws == 0).mean() - 0.9**10) < 3 * np.sqrt(0.35 * 0.65 / 2000)


def test_a_lag_counts_by_its_share_of_all_pairs():
    """Mean products of frames one, two and three apart are 1/3, -1 and -1, of three, two and one of four pairs."""
    x = np.array([1.0, 1.0, -1.0, -1.0])[:, None]
    assert statistical_inefficiency([x]) == pytest.approx(1 + 2 * (3 / 4) * (1 / 3))


def test_runs_that_stay_in_different_places_say_one_thing_each(rng):
    runs = [place + 0.01 * rng.normal(size=(500, 1)) for place in (-1.0, 0.0, 1.0)]
    assert statistical_inefficiency(runs) == pytest.approx(500, rel=0.02)


# -- for distances


CUTS = {
    "one": [1000],
    "unequal": [700, 250, 50],
    "many": [3] * 45,
    "single frames": [1] * 7,
    "few frames": [4, 2],
    "short among long": [1, 500, 1, 1, 400],
}


@pytest.mark.parametrize("name", CUTS)
def test_blocks_of_time(name):
    lengths = CUTS[name]
    # The numbers of runs may have gaps: thinning may leave none of a short one.
    run = np.repeat(3 * np.arange(len(lengths)), lengths)
    labels = block_labels(run)
    np.testing.assert_array_equal(np.unique(labels), np.arange(labels[-1] + 1))
    assert (np.diff(labels) >= 0).all()
    for block in range(labels[-1] + 1):
        assert len(np.unique(run[labels == block])) == 1
    n_runs, n_frames = len(lengths), sum(lengths)
    assert max(n_runs, min(20, n_frames) - n_runs) <= labels[-1] + 1 <= max(n_runs, 20 + n_runs)
    for number in np.unique(run):
        sizes = np.unique(labels[run == number], return_counts=True)[1]
        assert np.ptp(sizes) <= 1


def test_many_runs_are_a_block_each():
    run = np.repeat(np.arange(45), 3)
    np.testing.assert_array_equal(block_labels(run), run)


def test_very_many_runs_share_blocks():
    labels = block_labels(np.repeat(np.arange(1000), 3))
    assert labels[0] == 0
    assert labels[-1] == 199
    assert set(np.diff(labels)) == {0, 1}
    np.testing.assert_array_equal(np.bincount(labels), 15)


def test_blocks_are_twice_as_long_as_memory():
    labels = block_labels(np.zeros(1000, int), memory=50.0)
    np.testing.assert_array_equal(np.bincount(labels), 100)


def test_there_are_four_blocks_even_where_memory_is_long():
    labels = block_labels(np.zeros(1000, int), memory=900.0)
    np.testing.assert_array_equal(np.bincount(labels), 250)


def test_a_long_memory_leaves_runs_whole():
    run = np.repeat(np.arange(6), 100)
    np.testing.assert_array_equal(block_labels(run, memory=100.0), run)
