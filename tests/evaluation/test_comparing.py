"""Distances are those of SciPy, and samples of one origin are as far apart as the floor says."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import linear_sum_assignment
from scipy.signal import lfilter
from scipy.spatial.distance import jensenshannon

from mdvae._blocks import block_labels
from mdvae.evaluation.comparing import (
    Distance,
    Floor,
    counts,
    find_floor,
    jensen_shannon,
    summed,
    wasserstein,
    wasserstein_of_counts,
)

# -- Wasserstein


@pytest.mark.parametrize("sizes", [(1, 1), (1, 7), (40, 40), (30, 71)])
def test_wasserstein_agrees_with_scipy(sizes, rng):
    for _ in range(5):
        a, b = (rng.normal(loc, 2, size=n) for loc, n in zip((0, 0.7), sizes, strict=True))
        np.testing.assert_allclose(wasserstein(a, b), stats.wasserstein_distance(a, b), rtol=1e-12)


def test_wasserstein_with_ties_agrees_with_scipy(rng):
    a, b = rng.integers(0, 6, size=50).astype(float), rng.integers(2, 9, size=33).astype(float)
    np.testing.assert_allclose(wasserstein(a, b), stats.wasserstein_distance(a, b), rtol=1e-12)
    np.testing.assert_allclose(wasserstein(a, a[::-1].copy()), 0, atol=1e-12)


def on_circle(a, b, period):
    """The cheapest way to pair two samples off, by linear programming."""
    apart = np.abs(a[:, None] - b) % period
    cost = np.minimum(apart, period - apart)
    return cost[linear_sum_assignment(cost)].mean()


@pytest.mark.parametrize("period", [360.0, 1.0])
def test_wasserstein_on_a_circle_agrees_with_an_assignment(period, rng):
    for spread in (0.02, 0.1, 0.5):
        a, b = ((center + spread * rng.normal(size=40)) % 1 * period for center in (0.95, 0.1))
        np.testing.assert_allclose(wasserstein(a, b, period), on_circle(a, b, period), rtol=1e-10)


def test_wasserstein_on_a_circle_of_unequal_sizes(rng):
    """Each value several times makes the sizes equal, and the distribution no other."""
    a, b = rng.uniform(-180, 180, size=6), rng.vonmises(0.5, 1, size=9) * 180 / np.pi
    np.testing.assert_allclose(wasserstein(a, b, 360.0), on_circle(np.repeat(a, 3), np.repeat(b, 2), 360), rtol=1e-10)


def test_wasserstein_on_a_circle_by_hand(rng):
    np.testing.assert_allclose(wasserstein(np.array([179.0]), np.array([-179.0]), 360.0), 2, rtol=1e-12)
    a, b = rng.uniform(-180, 180, size=(2, 50))
    turned = [(x + 77 + 180) % 360 - 180 for x in (a, b)]
    np.testing.assert_allclose(wasserstein(*turned, 360.0), wasserstein(a, b, 360.0), rtol=1e-10)
    assert wasserstein(a, b, 360.0) <= wasserstein(a, b) + 1e-12


@pytest.mark.parametrize("circular", [False, True])
def test_wasserstein_of_counts_converges_to_that_of_samples(circular, rng):
    """Every value is moved by less than the width of a bin; two quantities at once."""
    a, b = rng.uniform(-180, 180, size=(200, 2)), np.clip(rng.normal(60, 50, size=(150, 2)), -180, 180)
    expected = [wasserstein(a[:, i], b[:, i], 360.0 if circular else None) for i in range(2)]
    errors = []
    for n_bins in (40, 4000):
        edges = np.tile(np.linspace(-180, 180, n_bins + 1), (2, 1))
        metric = wasserstein_of_counts(edges[:, 1] - edges[:, 0], circular)
        found = metric(counts(a, edges)[0], counts(b, edges)[0])
        errors.append(np.abs(found - expected).max())
        assert errors[-1] <= 360 / n_bins
    assert errors[1] < errors[0]
    assert (np.array(expected) > 5).all()


# -- Jensen and Shannon


def test_jensen_shannon_agrees_with_scipy(rng):
    a, b = rng.integers(0, 9, size=(2, 6, 30)).astype(float)
    expected = [jensenshannon(one, other, base=2) ** 2 for one, other in zip(a, b, strict=True)]
    np.testing.assert_allclose(jensen_shannon(a, b), expected, atol=1e-12)
    np.testing.assert_allclose(jensen_shannon(a, b), jensen_shannon(b, 7 * a), atol=1e-12)


def test_jensen_shannon_lies_between_0_and_1_bit():
    a = np.array([[3.0, 1.0, 0.0, 0.0], [3.0, 1.0, 0.0, 0.0]])
    b = np.array([[6.0, 2.0, 0.0, 0.0], [0.0, 0.0, 1.0, 5.0]])
    np.testing.assert_allclose(jensen_shannon(a, b), [0, 1], atol=1e-12)


# -- sums over blocks


def test_counts_keep_every_sample(rng):
    values, labels = rng.normal(size=(500, 3)), np.arange(500) // 130
    edges = np.tile(np.linspace(-1, 1, 11), (3, 1))
    found = counts(values, edges, labels)
    assert found.shape == (4, 3, 12)
    np.testing.assert_array_equal(found.sum(axis=2), np.tile([[130], [130], [130], [110]], 3))
    np.testing.assert_array_equal(found.sum(axis=0), counts(values, edges)[0])
    inside = [np.histogram(column, edges[0])[0] for column in values.T]
    np.testing.assert_array_equal(found.sum(axis=0)[:, 1:-1], inside)
    np.testing.assert_array_equal(found.sum(axis=0)[:, 0], (values < -1).sum(axis=0))


def test_values_at_edges():
    """Each bin has its lower edge, the last one its upper edge too, as in NumPy."""
    edges = np.array([[0.0, 1.0, 2.0]])
    found = counts(np.array([[-0.1], [0.0], [1.0], [2.0], [2.1]]), edges)[0, 0]
    np.testing.assert_array_equal(found, [1, 1, 2, 1])


def test_sums_by_block(rng):
    values, labels = rng.normal(size=(330, 2, 3)).astype(np.float32), np.repeat([0, 1, 2], [4, 1, 325])
    expected = [(values[labels == i].astype(float) ** 2).sum(axis=0) for i in range(3)]
    np.testing.assert_allclose(summed(lambda x: x.astype(float) ** 2, values, labels), expected, rtol=1e-12)
    np.testing.assert_allclose(summed(lambda x: x.astype(float) ** 2, values), [np.sum(expected, axis=0)], rtol=1e-12)


@pytest.mark.parametrize("period", [None, 7.0])
def test_a_weight_of_two_is_the_value_twice(period, rng):
    a, b = rng.uniform(0, 7, 40), rng.uniform(0, 7, 30)
    weights = rng.integers(1, 4, 30)
    found = wasserstein(a, b, period, weights.astype(float))
    np.testing.assert_allclose(found, wasserstein(a, np.repeat(b, weights), period), rtol=1e-9)


# -- the noise floor


def process(n_frames, seed):
    """Correlated over some twenty frames."""
    noise = np.random.default_rng(seed).normal(size=n_frames + 200)
    return lfilter([np.sqrt(1 - 0.95**2)], [1.0, -0.95], noise)[200:, None]


def compared(generated, held_out, training, seed=0):
    edges = np.linspace(-4, 4, 201)[None]
    metric = wasserstein_of_counts(edges[:, 1] - edges[:, 0], circular=False)
    blocks = counts(held_out, edges, block_labels(np.zeros(len(held_out), int)))
    floor = find_floor(blocks, counts(training, edges)[0], metric, seed)
    return floor, floor.beside(metric(counts(generated, edges)[0], blocks.sum(axis=0)))[0]


def test_samples_of_one_process_are_at_the_floor_and_a_shifted_one_is_not():
    """Above the floor is one in forty by the sizes that are compared, which are the same; some more by the blocks."""
    found = [[process(4000, 3 * seed + i) for i in range(3)] for seed in range(20)]
    assert sum(compared(*samples)[1].at_floor for samples in found) >= 18
    shifted = [compared(generated + 0.6, *others)[1].at_floor for generated, *others in found]
    assert sum(shifted) <= 1


def test_a_distance_beside_its_floor_by_hand():
    held_out, training, generated = (process(2000, seed) for seed in range(3))
    floor, found = compared(generated, held_out, training)
    assert floor.draws.shape == floor.halves.shape == (200, 1)
    np.testing.assert_allclose(found.value, stats.wasserstein_distance(generated[:, 0], held_out[:, 0]), atol=0.04)
    np.testing.assert_allclose(found.floor, stats.wasserstein_distance(training[:, 0], held_out[:, 0]), atol=0.04)
    ends = np.quantile(floor.draws[:, 0], (0.025, 0.975)) - floor.draws[:, 0].mean() + found.floor
    np.testing.assert_allclose((found.low, found.high), np.maximum(ends, 0))
    np.testing.assert_allclose(found.blocks, np.quantile(floor.halves[:, 0], 0.975))
    assert found.noise == max(found.high, found.blocks)
    # Drawn at random, each of them.
    assert min(len(np.unique(floor.draws)), len(np.unique(floor.halves))) > 150
    again = compared(generated, held_out, training)[1]
    assert again == found != compared(generated, held_out, training, seed=1)[1]


def test_one_block_has_no_halves():
    metric = wasserstein_of_counts(np.array([1.0]), circular=False)
    floor = find_floor(np.array([[[1.0, 3.0, 0.0]]]), np.array([[0.0, 1.0, 1.0]]), metric)
    assert floor.halves.shape == (0, 1)
    (found,) = floor.beside(np.array([0.7]))
    np.testing.assert_allclose(dataclasses.astuple(found), [0.7, 0.75, 0.75, 0.75, 0], rtol=1e-12)
    assert found.at_floor


def test_the_mean_stands_beside_the_floor_of_the_mean():
    """Two quantities that vary against each other: their mean hardly does."""
    draws = np.array([[1.0, 3.0], [3.0, 1.0]] * 20)
    floor = Floor(np.array([2.0, 2.0]), draws, draws[:0])
    one, other = floor.beside(np.array([2.5, 2.5]))
    assert one.at_floor
    assert other.at_floor
    assert not floor.mean_beside(np.array([2.5, 2.5])).at_floor


def test_a_distance_as_plain_data():
    found = Distance(2.0, 1.0, 0.5, 1.5, 3.0)
    assert json.loads(json.dumps(found.to_dict())) == {
        "value": 2.0, "floor": 1.0, "low": 0.5, "high": 1.5, "blocks": 3.0, "at_floor": True,
    }  # fmt: skip


def test_the_floor_lies_inside_its_interval(rng):
    """However small the samples: what drawing blocks adds is not in it."""
    edges, labels = np.linspace(-4, 4, 51)[None], np.repeat(np.arange(20), 10)
    held_out, training = rng.normal(size=(200, 1)), rng.normal(size=(300, 1))
    for metric, squared in ((jensen_shannon, True), (wasserstein_of_counts(np.array([0.16]), False), False)):
        floor = find_floor(counts(held_out, edges, labels), counts(training, edges)[0], metric, squared=squared)
        (distance,) = floor.beside(np.array([0.0]))
        assert distance.low < distance.floor < distance.high


@pytest.mark.parametrize(("value", "times"), [(0.0, 0.0), (0.1, np.inf)])
def test_no_noise_at_all(value, times):
    assert Distance(value, 0.0, 0.0, 0.0, 0.0).times_noise == times
