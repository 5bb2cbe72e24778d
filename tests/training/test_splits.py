import numpy as np
import pytest

from mdvae.training import split_blocks


def blocks(indices):
    """Runs of consecutive frames: (first, one past the last)."""
    breaks = np.flatnonzero(np.diff(indices) > 1)
    return list(zip(indices[np.r_[0, breaks + 1]], indices[np.r_[breaks, -1]] + 1, strict=True))


CASES = {
    "one trajectory": ([1000], 0.1),
    "one short trajectory": ([23], 0.2),
    "as short as training allows": ([10], 0.1),
    "two equal": ([500, 500], 0.1),
    "unequal": ([3000, 40, 960], 0.15),
    "as many as blocks": ([100] * 5, 0.1),
    "many": ([50] * 40, 0.1),
    "many short": ([4] * 300, 0.1),
    "single frames": ([1] * 50, 0.2),
    "an empty one": ([300, 0, 200], 0.1),
    "a half": ([1000], 0.5),
    "nearly all": ([1000, 1000], 0.9),
    "odd lengths": ([101, 307, 13], 0.1),
}


@pytest.mark.parametrize("case", CASES)
def test_every_frame_is_on_one_side(case):
    lengths, fraction = CASES[case]
    training, validation = split_blocks(lengths, fraction)
    np.testing.assert_array_equal(np.sort(np.concatenate([training, validation])), np.arange(sum(lengths)))
    assert (np.diff(training) > 0).all()
    assert (np.diff(validation) > 0).all()


# Of which whole trajectories are held out.
MANY = {"as many as blocks": 0.2, "many": 0.1, "many short": 0.1, "single frames": 0.2}


@pytest.mark.parametrize("case", CASES)
def test_the_share_held_out_is_the_one_asked_for(case):
    lengths, fraction = CASES[case]
    _, validation = split_blocks(lengths, fraction)
    assert abs(len(validation) - MANY.get(case, fraction) * sum(lengths)) <= 0.5


@pytest.mark.parametrize("case", CASES)
def test_of_many_trajectories_whole_ones_are_held_out(case):
    lengths, fraction = CASES[case]
    held = np.isin(np.arange(sum(lengths)), split_blocks(lengths, fraction)[1])
    mixed = [some for some in np.split(held, np.cumsum(lengths)[:-1]) if some.any() and not some.all()]
    assert (not mixed) == (case in MANY)


def test_whole_trajectories_by_hand():
    """The fifth and the fifteenth of twenty; of unequal ones those that bring the share nearest to what has passed."""
    assert blocks(split_blocks([10] * 20, 0.1)[1]) == [(40, 50), (140, 150)]
    assert blocks(split_blocks([100, 10, 100, 100, 20, 100], 0.1)[1]) == [(100, 110), (310, 330)]


@pytest.mark.parametrize("case", CASES)
def test_neighbors_in_time_stay_together(case):
    """Few blocks: within one trajectory no more than five, whatever its length."""
    lengths, fraction = CASES[case]
    _, validation = split_blocks(lengths, fraction)
    ends = np.cumsum(lengths)
    # Neighboring indices on different sides, not counting those with a border between them.
    held = np.isin(np.arange(ends[-1]), validation)
    changes = np.flatnonzero(np.diff(held.astype(int))) + 1
    within = np.setdiff1d(changes, ends)
    assert len(within) <= 2 * (5 + len(lengths))
    for first, end in zip(ends - lengths, ends, strict=True):
        assert np.sum((within > first) & (within < end)) <= 9


def test_blocks_by_hand():
    """Five periods of 20 frames, the last 10 % of each; shorter trajectories have fewer."""
    assert blocks(split_blocks([100], 0.1)[1]) == [(18, 20), (38, 40), (58, 60), (78, 80), (98, 100)]
    assert blocks(split_blocks([60, 40], 0.1)[1]) == [(18, 20), (38, 40), (58, 60), (78, 80), (98, 100)]
    assert blocks(split_blocks([80, 20], 0.1)[1]) == [(18, 20), (38, 40), (58, 60), (78, 80), (98, 100)]
    assert blocks(split_blocks([50, 50], 0.2)[1]) == [(20, 25), (45, 50), (70, 75), (95, 100)]


@pytest.mark.parametrize("lengths", [[97], [60, 37], [30, 30, 37], [30, 300, 7]])
def test_no_block_crosses_a_border(lengths):
    """A block may end at a border; the first frames of a trajectory are never held out with the last of another."""
    _, validation = split_blocks(lengths, 0.1)
    starts = np.cumsum(lengths)[:-1]
    assert not np.isin(starts, validation).any()


def test_all_parts_of_a_long_run_are_seen():
    _, validation = split_blocks([10_000], 0.1)
    assert (np.histogram(validation, bins=5, range=(0, 10_000))[0] == 200).all()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(ValueError, match=f"validation_fraction must lie between 0 and 1, got {fraction}"):
        split_blocks([100], fraction)


TOO_FEW = {"none": ([], 0.1), "no frames": ([0], 0.1), "one": ([1], 0.1), "four": ([4], 0.1), "one of one": ([1], 0.9)}


@pytest.mark.parametrize("case", TOO_FEW)
def test_too_few_frames_are_refused(case):
    lengths, fraction = TOO_FEW[case]
    with pytest.raises(ValueError, match=f"{sum(lengths)} frames are too few to hold out a share of {fraction}"):
        split_blocks(lengths, fraction)
