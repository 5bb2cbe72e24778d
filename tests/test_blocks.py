"""Blocks are of one run each, and as long as frames remember one another."""

import numpy as np
import pytest
from scipy.signal import lfilter

from mdvae._blocks import block_labels, statistical_inefficiency


def ar1(n_frames, phi, rng):
    """x[t + 1] = phi x[t] + noise, stationary."""
    noise = rng.normal(size=n_frames) * np.sqrt(1 - phi**2)
    return lfilter([1], [1, -phi], noise, zi=[phi * rng.normal()])[0][:, None]


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, 0.98])
def test_an_autoregressive_process_has_the_inefficiency_that_it_must_have(phi, rng):
    expected = (1 + phi) / (1 - phi)
    assert statistical_inefficiency([ar1(200_000, phi, rng)]) == pytest.approx(expected, rel=0.1)


def test_by_hand():
    """Mean zero, autocorrelation 1, 1/3, ... of which the third is negative."""
    x = np.array([1.0, 1.0, -1.0, -1.0])[:, None]
    # Products of frames one apart: 1, -1, 1 of three pairs; two apart: -1, -1.
    assert statistical_inefficiency([x]) == pytest.approx(1 + 2 * (3 / 4) * (1 / 3))


def test_the_slowest_column_counts(rng):
    fast, slow = ar1(20_000, 0.1, rng), ar1(20_000, 0.95, rng)
    both = statistical_inefficiency([np.hstack([fast, slow])])
    assert both == statistical_inefficiency([slow]) > statistical_inefficiency([fast])


def test_runs_that_stay_in_different_places_are_one_frame_each(rng):
    runs = [place + 0.01 * rng.normal(size=(500, 1)) for place in (-1.0, 0.0, 2.0)]
    assert statistical_inefficiency(runs) == pytest.approx(500, rel=0.02)


@pytest.mark.parametrize("series", [[np.full((50, 2), 0.1)], [np.zeros((1, 2))], [np.zeros((0, 2))]])
def test_what_does_not_vary_remembers_nothing(series):
    assert statistical_inefficiency(series) == 1


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
