"""Surfaces of known potentials come out within their errors, and errors cover what they say."""

import json

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import norm

import mdvae
from mdvae.latent.free_energy import GAS_CONSTANT
from mdvae.latent.landscape import find_landscape

KT = GAS_CONSTANT * 300.0


def remembering(rng, n, memory, n_columns=1):
    noise = rng.normal(size=(n + 500, n_columns))
    return lfilter([np.sqrt(1 - memory**2)], [1, -memory], noise, axis=0)[500:]


def harmonic(edges, scale=1.0):
    """Free energy of the bins of a normal distribution, kJ/mol, without a zero."""
    return -KT * np.log(np.diff(norm.cdf(edges / scale)))


def sampled(rng, n, energy, borders):
    """Points of exp(-energy / kT) on a fine grid in a box, drawn independently."""
    axes = [np.linspace(low, high, 401) for low, high in borders]
    centers = [(axis[1:] + axis[:-1]) / 2 for axis in axes]
    grid = np.meshgrid(*centers, indexing="ij")
    p = np.exp(-energy(*grid) / KT).ravel()
    cells = np.unravel_index(rng.choice(p.size, n, p=p / p.sum()), grid[0].shape)
    return np.stack(
        [axis[i] + rng.uniform(size=n) * (axis[1] - axis[0]) for axis, i in zip(axes, cells, strict=True)], axis=1
    )


def two_wells(x, y):
    """Wells at (-1, 0) and (1, 0), the second 2 kJ/mol higher, barrier about 10 kJ/mol."""
    return 10.0 * (x**2 - 1) ** 2 + x + 20.0 * y**2


# -- values


@pytest.mark.parametrize("n_dims", [1, 2])
def test_normal_samples_have_a_harmonic_free_energy(n_dims, rng):
    found = mdvae.free_energy(rng.normal(size=(40_000, n_dims)), 300.0)
    expected = sum(np.meshgrid(*(harmonic(axis) for axis in found.edges), indexing="ij"))
    well = found.counts > 20
    away = (found.values - expected)[well]
    # The zero is where the lowest bin happens to be.
    away -= np.median(away)
    assert np.mean(np.abs(away) < 2 * found.errors[well]) > 0.88
    assert np.sqrt(np.mean((away / found.errors[well]) ** 2)) == pytest.approx(1.0, abs=0.2)
    assert found.values.min() == 0.0
    assert np.isinf(found.values[found.counts == 0]).all()
    assert np.isnan(found.errors[found.counts == 0]).all()
    assert found.counts.sum() == found.n_frames == 40_000
    assert len(found.minima) == 1
    assert np.linalg.norm(found.minima[0].position) < 0.5
    assert found.barriers == ()


def test_temperature_is_a_factor(rng):
    z = rng.normal(size=(500, 1))
    cold, hot = (mdvae.free_energy(z, temperature) for temperature in (300.0, 450.0))
    np.testing.assert_allclose(hot.values, 1.5 * cold.values, rtol=1e-12)
    np.testing.assert_allclose(hot.errors, 1.5 * cold.errors, rtol=1e-12)
    assert cold.kT == pytest.approx(2.49434, abs=1e-5)


def test_weight_two_is_the_frame_twice(rng):
    z, twice = rng.normal(size=(600, 2)), rng.integers(1, 3, 600)
    edges = [np.linspace(-4, 4, 11)] * 2
    weighted = mdvae.free_energy(z, weights=twice.astype(float), edges=edges)
    repeated = mdvae.free_energy(np.repeat(z, twice, axis=0), edges=edges)
    np.testing.assert_allclose(weighted.values, repeated.values, rtol=1e-12, atol=1e-12)
    assert weighted.counts.sum() == 600
    assert repeated.counts.sum() == twice.sum()
    assert weighted.n_effective == pytest.approx(twice.sum() ** 2 / (twice**2).sum())
    assert repeated.n_effective == pytest.approx(twice.sum())


def test_a_factor_of_all_weights_is_nothing(rng):
    z, weights = rng.normal(size=500), rng.uniform(size=500)
    one, other = (mdvae.free_energy(z, weights=factor * weights) for factor in (1.0, 1e5))
    np.testing.assert_allclose(one.values, other.values, rtol=1e-9)
    np.testing.assert_allclose(one.errors, other.errors, rtol=1e-9)


def test_biased_samples_are_weighted_back(rng):
    """Sampled in exp(-(x² / 2 + b x) kT), that is, around -b; weighted by exp(bias / kT)."""
    b = 1.0
    z = rng.normal(size=40_000) - b
    bias = KT * b * z
    edges = [np.linspace(-3, 2, 26)]
    found = mdvae.free_energy(z, weights=np.exp(bias / KT), edges=edges)
    away = found.values - harmonic(edges[0])
    seen = found.counts > 20
    away = away[seen] - np.average(away[seen], weights=found.errors[seen] ** -2)
    assert np.mean(np.abs(away) < 2 * found.errors[seen]) > 0.85
    # Unweighted it is another one.
    biased = mdvae.free_energy(z, edges=edges).values - harmonic(edges[0])
    assert np.ptp(biased[seen]) > 3 * KT
    assert found.n_effective < 0.6 * found.n_frames
    assert found.n_outside == np.sum((z < -3) | (z > 2))


# -- errors


def test_errors_cover_what_they_say_of_frames_that_remember():
    """95 % intervals of bins and of a difference of states: by blocks nearly, by single frames far from it."""
    edges = [np.linspace(-2, 2, 9)]
    states = {"left": (None, 0.3), "right": (0.3, None)}
    log_p = -harmonic(edges[0]) / KT
    truth = KT * np.log(norm.cdf(0.3) / norm.sf(0.3))

    def covered(n_seeds, block_length):
        bins, differences = [], []
        for seed in range(n_seeds):
            z = remembering(np.random.default_rng(seed), 2000, 0.9)
            found = mdvae.free_energy(z, edges=edges, states=states, block_length=block_length)
            bins.append(np.abs(KT * (np.log(found.counts / len(z)) - log_p)) < 1.96 * found.errors)
            difference = found.difference("left", "right")
            differences.append(abs(difference.value - truth) < 1.96 * difference.error)
        return np.mean(bins), np.mean(differences)

    bins, differences = covered(100, None)
    assert 0.88 < bins < 0.98
    assert 0.86 < differences < 0.99
    bins, differences = covered(8, 1)
    assert bins < 0.8
    assert differences < 0.65


def test_blocks_never_cross_a_border():
    """Of two runs that stay in one state each, all that is known are two blocks; joined, they would be many."""
    rng = np.random.default_rng(0)
    runs = [rng.normal(-2, 0.1, 500), rng.normal(2, 0.1, 500)]
    found = mdvae.free_energy(runs, block_length=10_000)
    assert found.n_blocks == found.n_trajectories == 2
    assert mdvae.free_energy(np.concatenate(runs), block_length=10_000).n_blocks == 1


def test_no_error_can_be_told_from_one_block(rng):
    found = mdvae.free_energy(np.cumsum(rng.normal(size=400)), block_length=400)
    assert found.n_blocks == 1
    assert np.isnan(found.errors).all()
    assert np.isnan(found.states.population("1").error)
    assert len(found.minima) == 1
    assert "no errors: there is only 1 block of about 400 frames" in str(found)


def test_one_seed_one_result(rng):
    z = rng.normal(size=(800, 2))
    one, same, other = (mdvae.free_energy(z, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.errors, same.errors)
    assert np.nanmax(np.abs(one.errors - other.errors)) > 0
    np.testing.assert_array_equal(one.values, other.values)


# -- minima, barriers, states


@pytest.mark.parametrize("n_dims", [1, 2])
@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_noise_is_no_minimum(n_dims, memory):
    for seed in range(6):
        z = remembering(np.random.default_rng(seed), 10_000, memory, n_dims)
        assert len(mdvae.free_energy(z).minima) == 1


def test_two_wells_and_the_barrier_between_them(rng):
    z = sampled(rng, 60_000, two_wells, [(-2, 2), (-1.5, 1.5)])
    found = mdvae.free_energy(z, 300.0, n_bins=24)
    assert [well.position[0] for well in found.minima] == [pytest.approx(-1.0, abs=0.2), pytest.approx(1.0, abs=0.2)]
    assert all(abs(well.position[1]) < 0.25 for well in found.minima)
    (barrier,) = found.barriers
    assert barrier.wells == (0, 1)
    # At the saddle the potential is 10.03 kJ/mol, in the wells -1.01 and 0.99; bins of finite width blur it.
    blur = 0.6
    assert barrier.position[0] == pytest.approx(0.0, abs=0.3)
    assert barrier.height.value == pytest.approx(11.04, abs=blur + 2 * barrier.height.error)
    assert barrier.back.value == pytest.approx(9.04, abs=blur + 2 * barrier.back.error)
    assert 0 < barrier.height.error < 1.5


def test_populations_and_differences_of_states(rng):
    z = sampled(rng, 60_000, two_wells, [(-2, 2), (-1.5, 1.5)])
    x, y = np.meshgrid(np.linspace(-2, 2, 2001), np.linspace(-1.5, 1.5, 301), indexing="ij")
    p = np.exp(-two_wells(x, y) / KT)
    left = p[x < 0].sum() / p.sum()
    box, mask = ((None, 0.0), (None, None)), z[:, 0] >= 0
    found = mdvae.free_energy(z, 300.0, states={"left": box, "right": mask})
    for name, truth in {"left": left, "right": 1 - left}.items():
        population = found.states.population(name)
        assert population.value == pytest.approx(truth, abs=4 * population.error)
        assert population.error == pytest.approx(np.sqrt(left * (1 - left) / len(z)), rel=0.25)
    difference = found.difference("left", "right")
    assert difference.value == pytest.approx(-KT * np.log((1 - left) / left), abs=4 * difference.error)
    # Of two states that share all there is: the error of the logarithm of p / (1 - p).
    error = KT * np.sqrt(1 / (len(z) * left * (1 - left)))
    assert difference.error == pytest.approx(error, rel=0.25)
    assert found.difference("right", "left").value == pytest.approx(-difference.value)
    # Around each minimum there is the same, but for what lies near the border.
    valleys = mdvae.free_energy(z, 300.0, n_bins=24).states
    assert valleys.names == ("1", "2")
    np.testing.assert_allclose(valleys.populations, [left, 1 - left], atol=0.01)


STATES = {
    "interval": (0.5, None),
    "function": lambda z: z[:, 0] >= 0.5,
    "mask": None,
    "masks of each trajectory": None,
}


def test_a_state_of_all_frames_changes_no_error(rng):
    """What rounding leaves of it, once it is weighted, is no memory."""
    z, weights = remembering(rng, 5000, 0.9), rng.uniform(0.1, 1, 5000)
    part = {"left": (None, 0.0)}
    alone = mdvae.free_energy(z, weights=weights, states=part)
    beside = mdvae.free_energy(z, weights=weights, states=part | {"everything": (None, None)})
    assert beside.inefficiency == alone.inefficiency
    ours, expected = (found.states.population("left") for found in (beside, alone))
    assert (ours.value, ours.error) == pytest.approx((expected.value, expected.error))
    assert beside.states.population("everything").value == pytest.approx(1)


def test_a_bias_may_be_a_column(rng, tmp_path):
    z, bias = rng.normal(size=(500, 1)), rng.uniform(0, 5, 500)
    np.savetxt(
        tmp_path / "COLVAR", np.column_stack([np.arange(500), bias]), header="#! FIELDS time metad.rbias", comments=""
    )
    found = mdvae.free_energy(z, 310, weights=f"{tmp_path / 'COLVAR'}:metad.rbias")
    by_hand = mdvae.free_energy(z, 310, weights=np.exp(bias / (GAS_CONSTANT * 310)))
    np.testing.assert_allclose(found.values, by_hand.values, rtol=1e-6)


def test_a_state_may_be_told_in_four_ways(rng):
    runs = [rng.normal(size=300), rng.normal(size=200)]
    masks = [run >= 0.5 for run in runs]
    told = STATES | {"mask": np.concatenate(masks), "masks of each trajectory": masks}
    found = mdvae.free_energy(runs, states=told).states
    assert found.names == tuple(STATES)
    np.testing.assert_allclose(found.populations, np.mean(np.concatenate(masks)), rtol=1e-12)
    np.testing.assert_array_equal(found.shares[0], found.shares[1])


def test_valleys_of_a_grid_by_hand():
    """Three valleys of depth 5, 3 and 1 in a row, and one that walls of nothing cut off."""
    inf = np.inf
    values = np.array([[0.0, 5, 2, 5, 4, 5, inf, 1], [9, 9, 9, 9, 9, 9, inf, 6]])
    found = find_landscape(values, lambda minimum, saddle: True)
    assert found.minima.tolist() == [0, 7, 2, 4]
    assert found.passes.tolist() == [[-1, -1, 1, 3], [-1, -1, -1, -1], [1, -1, -1, 3], [3, -1, 3, -1]]
    assert found.valley.reshape(2, 8)[0].tolist() == [0, 0, 2, 2, 3, 3, -1, 1]
    deep = find_landscape(values, lambda low, high: high < 0 or values.flat[high] - values.flat[low] > 2)
    assert deep.minima.tolist() == [0, 7, 2]
    # The shallow valley drains to the one beside it, not to the deepest.
    assert deep.valley.reshape(2, 8)[0].tolist() == [0, 0, 2, 2, 2, 2, -1, 1]
    alone = find_landscape(values, lambda minimum, saddle: False)
    assert alone.minima.tolist() == [0]
    assert alone.valley.reshape(2, 8)[:, 7].tolist() == [-1, -1]


# -- on paper


def test_printed_and_written(rng, tmp_path):
    z = sampled(rng, 20_000, two_wells, [(-2, 2), (-1.5, 1.5)])
    found = mdvae.free_energy([z[:12_000], z[12_000:]], 310.0, weights=rng.uniform(0.5, 1, len(z)))
    text = str(found)
    assert "20000 frames of 2 trajectories at 310 K (kT = 2.577 kJ/mol)" in text
    assert f"worth {found.n_effective:.0f} equal ones" in text
    assert f"over {found.n_blocks} blocks of about {found.block_length} frames" in text
    assert "1 to 2" in text
    plain = found.to_dict()
    assert plain["differences"]["2"]["value"] == found.difference("1", "2").value
    found.save(tmp_path / "f.json")
    held = json.loads((tmp_path / "f.json").read_text())
    np.testing.assert_allclose(np.array(held["values"], float), np.where(np.isinf(found.values), np.nan, found.values))
    found.save(tmp_path / "f.csv")
    table = np.genfromtxt(tmp_path / "f.csv", delimiter=",", names=True)
    np.testing.assert_allclose(table["free_energy"], found.values.ravel())
    np.testing.assert_allclose(table["z2"].reshape(found.values.shape)[0], found.centers[1])
    assert table["frames"].sum() == 20_000


GOOD = np.random.default_rng(0).normal(size=(50, 2))
REFUSED = {
    "three coordinates": ((np.ones((5, 3)),), {}, "got 3: choose two columns, such as z[:, :2]"),
    "NaN points": ((np.array([1.0, np.nan, 2.0]),), {}, "1 of 3 latent points are NaN"),
    "nothing": (([],), {}, "the list of trajectories is empty"),
    "no frames": ((np.zeros((0, 2)),), {}, "holds no latent points"),
    "words": ((np.array(["a", "b"]),), {}, "expected numbers"),
    "one and two coordinates": (([GOOD, GOOD[:, 0]],), {}, "some trajectories have one coordinate and some two"),
    "constant": ((np.ones((9, 1)),), {}, "coordinate 1 is 1 in all 9 frames"),
    "cold": ((GOOD, 0.0), {}, "temperature must be above 0"),
    "too few weights": (
        (GOOD,),
        {"weights": np.ones(49)},
        "weights have shape (49,); expected one for each frame, (50",
    ),
    "weights of other runs": (
        ([GOOD[:20], GOOD[20:]],),
        {"weights": [np.ones(30), np.ones(20)]},
        "weights are for 30, 20 frames of 2 trajectories; expected 20, 30",
    ),
    "negative weights": ((GOOD,), {"weights": -np.ones(50)}, "50 of 50 weights are below 0"),
    "NaN weights": ((GOOD,), {"weights": np.full(50, np.nan)}, "50 of 50 weights are NaN"),
    "no weight": ((GOOD,), {"weights": np.zeros(50)}, "all weights are 0"),
    "one bin": ((GOOD,), {"n_bins": 1}, "n_bins must be at least 2"),
    "edges of one coordinate": ((GOOD,), {"edges": [np.arange(4.0)]}, "edges must be 2 arrays"),
    "no block": ((GOOD,), {"block_length": 0}, "block_length must be at least 1"),
    "empty state": ((GOOD,), {"states": {"far": ((50, 60), (None, None))}}, "'far' holds none of 50 frames"),
    "weightless state": (
        (GOOD,),
        {"states": {"a": np.arange(50) < 9}, "weights": (np.arange(50) >= 9).astype(float)},
        "all 9 frames of state 'a' weigh 0",
    ),
    "edges elsewhere": ((GOOD,), {"edges": [np.arange(90.0, 95.0)] * 2}, "none of 50 frames lies within the edges"),
    "state of numbers": ((GOOD,), {"states": {"a": np.arange(50)}}, "expected True or False for each frame"),
    "short mask": ((GOOD,), {"states": {"a": np.ones(9, bool)}}, "those in state 'a' have shape (9,)"),
    "interval in the plane": ((GOOD,), {"states": {"a": (0.0, 1.0)}}, "expected ((low, high), (low, high))"),
    "one name for two": ((GOOD,), {"names": ["z"]}, "names must be 2, one for each coordinate, got 1"),
    "a list of states": ((GOOD,), {"states": [(0.0, 1.0)]}, "states must be a dictionary"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mistakes_are_refused_at_the_door(case):
    arguments, options, message = REFUSED[case]
    with pytest.raises((ValueError, TypeError)) as refused:
        mdvae.free_energy(*arguments, **options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_state_is_refused(rng):
    with pytest.raises(ValueError, match="there is no state 'C'; expected one of A"):
        mdvae.free_energy(rng.normal(size=99), states={"A": (0, 1)}).difference("A", "C")
