"""Blocks of time keep to their borders, and are as long as what the frames remember."""

import numpy as np
import pytest
from scipy.signal import lfilter

from mdvae._blocks import block_length_for, cut, drawn_anew, statistical_inefficiency


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
    assert statistical_inefficiency(alternating) > 2 * statistical_inefficiency([joined])


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
    draws = drawn_anew(np.eye(10)[:, :, None], 200, rng)[..., 0]
    assert draws.shape == (200, 10)
    np.testing.assert_array_equal(draws.sum(axis=1), 10)
    np.testing.assert_array_equal(draws, np.round(draws))
    # Of ten, a block stays away with probability 0.9**10; three standard errors.
    assert np.abs((draws == 0).mean() - 0.9**10) < 3 * np.sqrt(0.35 * 0.65 / 2000)
