import dataclasses
from functools import cache

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import ttest_1samp

from mdvae.evaluation.kinetics import default_lagtime, in_time_order, kinetics, latent_jumps


def ar1(n_frames, phi, rng):
    """Stationary x[t + 1] = phi x[t] + noise, of unit variance, (n_frames, 1)."""
    noise = rng.normal(size=(n_frames, 1))
    noise[1:] *= np.sqrt(1 - phi**2)
    return lfilter([1.0], [1.0, -phi], noise, axis=0)


def several(n_frames, phis, rng):
    return np.hstack([ar1(n_frames, phi, rng) for phi in phis])


def at(lag, found):
    return list(found.lags).index(lag)


def mixed(n_trajectories, n_frames, seed=0):
    """Eight features that mix processes from slow to fast, not centered."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(8, 8))
    phis = (0.97, 0.9, 0.8, 0.6, 0.5, 0.3, 0.2, 0.1)
    return [several(n_frames, phis, rng) @ mixing + 3 for _ in range(n_trajectories)]


def assert_same(a, b, rtol=1e-9, methods=slice(None)):
    """The same result, but for jumps and units."""
    np.testing.assert_array_equal(a.lags, b.lags)
    assert a.lagtime == b.lagtime
    for name in ("timescales", "low", "high", "scores", "errors"):
        np.testing.assert_allclose(getattr(a, name)[methods], getattr(b, name)[methods], rtol=rtol, err_msg=name)


# -- beside deeptime


def deeptime_covariance(series, lag, *, reversible):
    covariance = pytest.importorskip("deeptime.covariance")
    estimator = covariance.Covariance(
        lag, compute_c0t=True, compute_ctt=not reversible, remove_data_mean=True, reversible=reversible
    )
    return estimator.fit_fetch(series)


def deeptime_tica(series, lag):
    estimator = pytest.importorskip("deeptime.decomposition").TICA(epsilon=1e-10)
    return estimator.fit_fetch(deeptime_covariance(series, lag, reversible=True))


def deeptime_vamp2(series, lag):
    estimator = pytest.importorskip("deeptime.decomposition").VAMP(epsilon=1e-10)
    return estimator.fit_fetch(deeptime_covariance(series, lag, reversible=False)).score(2)


@pytest.mark.parametrize("lag", [1, 3])
def test_timescales_agree_with_deeptime(lag):
    series = mixed(3, 1000)
    latents = [x[:, 2:5] for x in series]
    found = kinetics(latents, series, lagtime=lag)
    expected = deeptime_tica(series, lag).timescales(lagtime=lag)[:3]
    np.testing.assert_allclose(found.timescales[1, at(lag, found)], expected, rtol=1e-9)
    for other in map(int, found.lags[:5]):
        expected = deeptime_tica(latents, other).timescales(lagtime=other)
        np.testing.assert_allclose(found.timescales[0, at(other, found)], expected, rtol=1e-9)


def test_scores_agree_with_deeptime_fold_by_fold():
    """Twenty trajectories of equal length are twenty blocks, dealt out in turn."""
    series, lag = mixed(20, 200), 2
    latents = [np.tanh(x[:, :3]) for x in series]
    found = kinetics(latents, series, lagtime=lag)
    scores = []
    for k in range(5):
        fitted = [x for i, x in enumerate(series) if i % 5 != k]
        tica = deeptime_tica(fitted, lag).singular_vectors_left[:, :3]
        pca = np.linalg.eigh(np.cov(np.concatenate(fitted).T))[1][:, -3:]
        held_out = series[k::5]
        spans = latents[k::5], [x @ tica for x in held_out], [x @ pca for x in held_out]
        scores.append([deeptime_vamp2(span, lag) for span in spans])
    np.testing.assert_allclose(found.scores, np.mean(scores, axis=0), rtol=1e-8)
    np.testing.assert_allclose(found.errors, np.std(scores, axis=0, ddof=1) / np.sqrt(5), rtol=1e-6)
    apart = np.array(scores) - np.array(scores)[:, :1]
    more, half = found.beyond
    np.testing.assert_allclose(more, apart.mean(axis=0), atol=1e-8)
    for i in (1, 2):
        interval = ttest_1samp(apart[:, i], 0.0).confidence_interval(0.95)
        np.testing.assert_allclose([more[i] - half[i], more[i] + half[i]], interval, rtol=1e-6)


# -- a known spectrum


def force(x):
    """Of the four wells of doi:10.1063/1.3565032, in units of kT."""
    middle, right, left = (
        0.8 * np.exp(-80 * x**2),
        0.2 * np.exp(-80 * (x - 0.5) ** 2),
        0.5 * np.exp(-40 * (x + 0.5) ** 2),
    )
    return -4 * (8 * x**7 - 160 * x * middle - 160 * (x - 0.5) * right - 80 * (x + 0.5) * left)


@cache
def four_wells(n, end):
    """Grid, stationary distribution, eigenvalues over 100 Euler steps of 0.001, and three eigenfunctions (n, 3)."""
    x = np.linspace(-end, end, n)
    kernel = np.exp(-((x - (x + 0.001 * force(x))[:, None]) ** 2) / 0.004)
    kernel /= kernel.sum(axis=1, keepdims=True)
    values, right = np.linalg.eig(kernel)
    order = np.argsort(values.real)[::-1]
    others, left = np.linalg.eig(kernel.T)
    stationary = np.abs(left[:, np.argmax(others.real)].real)
    return x, stationary / stationary.sum(), values.real[order[1:4]] ** 100, right[:, order[1:4]].real


@cache
def brownian(n_walkers=50, n_frames=2000, every=10, seed=0):
    """Positions of walkers, (n_walkers, n_frames), every ten steps."""
    rng = np.random.default_rng(seed)
    grid, stationary, _, _ = four_wells(200, 1.5)
    x = rng.choice(grid, n_walkers, p=stationary)
    frames = np.empty((n_frames, n_walkers))
    for i in range(n_frames):
        for noise in rng.normal(scale=np.sqrt(0.002), size=(every, n_walkers)):
            x = x + 0.001 * force(x) + noise
        frames[i] = x
    return frames.T


def test_the_spectrum_of_four_wells_is_the_published_one():
    """Published is that of a grid of 100 points from -1 to 1, which cuts off what lies outside."""
    np.testing.assert_allclose(four_wells(100, 1.0)[2], [0.88807, 0.44977, 0.21003], atol=5e-6)
    np.testing.assert_allclose(four_wells(200, 1.5)[2], four_wells(300, 2.0)[2], rtol=1e-9)


def test_the_spectrum_of_four_wells_is_recovered():
    """Exact eigenfunctions as latent coordinates; Gaussians along x as features."""
    grid, _, values, functions = four_wells(200, 1.5)
    x = brownian()
    latents = [np.stack([np.interp(path, grid, f) for f in functions.T], axis=1) for path in x]
    features = [np.exp(-((path[:, None] - np.linspace(-1.1, 1.1, 24)) ** 2) / 0.02) for path in x]
    found = kinetics(latents, features, lagtime=10, frame_time=0.01, unit="ps")
    exact = -0.1 / np.log(values)
    for method in (0, 1):
        times, low, high = (z[method, at(10, found)] for z in (found.timescales, found.low, found.high))
        np.testing.assert_allclose(times, exact, rtol=0.1)
        assert ((low < exact) & (exact < high)).all()
    assert np.abs(found.scores[:2] - 1 - np.sum(values**2)).max() < 3 * found.errors[:2].max()
    assert found.scores[2] < found.scores[1] + found.errors[1]
    # Of a Markov process in its own eigenfunctions timescales do not depend on the lag.
    lags = (found.lags >= 2) & (found.lags <= 20)
    np.testing.assert_allclose(found.timescales[0, lags, 0], exact[0], rtol=0.1)


def test_an_autoregressive_process_has_the_timescale_that_it_must_have():
    phi, rng = 0.9, np.random.default_rng(0)
    z = ar1(50_000, phi, rng)
    found = kinetics([z], [z], frame_time=0.5, unit="ps")
    expected = -0.5 / np.log(phi)
    for lag in (1, 2, 5):
        i = at(lag, found)
        np.testing.assert_allclose(found.timescales[:, i, 0], expected, rtol=0.05)
        assert (found.low[:, i, 0] < expected).all()
        assert (expected < found.high[:, i, 0]).all()
    np.testing.assert_allclose(found.autocorrelation[:4, 0], phi ** found.lags[:4], atol=0.03)


def test_error_bars_cover_the_truth_about_as_often_as_they_say():
    """Of 40 processes 38 on average; 32 and fewer would be three standard deviations off 90 %."""
    phi, covered, widths, estimates = 0.8, 0, [], []
    for seed in range(40):
        z = ar1(4000, phi, np.random.default_rng(seed))
        found = kinetics([z], [z], lagtime=2, seed=seed)
        low, high, time = (float(x[0, at(2, found), 0]) for x in (found.low, found.high, found.timescales))
        covered += low < -1 / np.log(phi) < high
        widths.append(high - low)
        estimates.append(time)
    assert covered > 32
    np.testing.assert_allclose(np.mean(widths), 4 * np.std(estimates), rtol=0.3)


def test_the_slowest_of_the_features_is_found_by_tica_and_missed_by_pca(rng):
    x = several(20_000, (0.98, 0.2, 0.2), rng) * [0.1, 1, 2]
    found = kinetics([x[:, 1:2]], [x])
    assert found.lagtime == 200
    assert found.methods == ("latent", "TICA", "PCA")
    found = kinetics([x[:, 1:2]], [x], lagtime=5)
    times = found.timescales[:, at(5, found), 0]
    np.testing.assert_allclose(times[1], -1 / np.log(0.98), rtol=0.2)
    assert not (times[[0, 2]] > 5).any()
    assert found.scores[1] - found.scores[2] > 5 * np.hypot(*found.errors[1:])


def test_scores_do_not_reward_what_was_fitted_to_noise(rng):
    """TICA of forty noises seems slow where it was fitted, and is not where it was not."""
    x = rng.normal(size=(500, 40))
    found = kinetics([x[:, :1]], [x], lagtime=1)
    assert found.timescales[1, 0, 0] > 0.5
    assert found.scores[1] < 1.05


# -- which pairs count


def by_hand(pairs):
    """Slowest timescale of one coordinate, in lags, from a list of (before, after)."""
    before, after = np.array(pairs).T
    mean = (before.mean() + after.mean()) / 2
    variance = (np.mean((before - mean) ** 2) + np.mean((after - mean) ** 2)) / 2
    return np.mean((before - mean) * (after - mean)) / variance


@pytest.mark.parametrize("lag", [1, 2])
def test_pairs_never_cross_a_border(rng, lag):
    whole = ar1(190, 0.8, rng)
    parts = [whole[:90], whole[90:91], whole[91:91], whole[91:]]
    found = kinetics(parts, parts, lagtime=lag)
    pairs = [(z[i, 0], z[i + lag, 0]) for z in parts for i in range(len(z) - lag)]
    correlation = by_hand(pairs)
    np.testing.assert_allclose(found.autocorrelation[at(lag, found), 0], correlation, rtol=1e-9)
    np.testing.assert_allclose(found.timescales[:, at(lag, found), 0], -lag / np.log(correlation), rtol=1e-9)


def test_no_pair_crosses_from_one_block_of_a_fold_to_another():
    """Of twenty plateaus, each of them a block, every pair stays where it is; shifted a little, some leave."""
    plateaus = np.repeat(np.arange(20.0), 50)[:, None]
    np.testing.assert_allclose(kinetics([plateaus], [plateaus], lagtime=2).scores, 2)
    shifted = plateaus[7:]
    assert (kinetics([shifted], [shifted], lagtime=2).scores < 2 - 1e-6).all()


def test_many_pairs_are_thinned_out_and_few_are_not(monkeypatch, rng):
    z = several(30_000, (0.95, 0.7), rng)
    all_pairs = kinetics([z], [z], lagtime=10)
    monkeypatch.setattr("mdvae.evaluation.kinetics._PAIRS", 30_001)
    assert_same(kinetics([z], [z], lagtime=10), all_pairs, rtol=0)
    monkeypatch.setattr("mdvae.evaluation.kinetics._PAIRS", 10_000)
    some = kinetics([z], [z], lagtime=10)
    i = at(10, some)
    assert (some.timescales[:, i, 0] != all_pairs.timescales[:, i, 0]).all()
    np.testing.assert_allclose(some.timescales[:, i, 0], all_pairs.timescales[:, i, 0], rtol=0.05)


def test_many_short_trajectories_share_blocks(rng):
    parts = [ar1(20, 0.7, rng) for _ in range(1000)]
    found = kinetics(parts, parts)
    i = at(1, found)
    assert (found.lagtime, list(found.lags)) == (1, [1, 2])
    assert (found.low[:, i, 0] < -1 / np.log(0.7)).all()
    assert (found.high[:, i, 0] > -1 / np.log(0.7)).all()


# -- invariance


def test_timescales_and_scores_do_not_depend_on_the_frame_of_reference(rng):
    z = several(3000, (0.95, 0.7, 0.4), rng)
    moved = z @ rng.normal(size=(3, 3)) * [1e-3, 1, 50] + [1e3, -5, 0]
    assert_same(kinetics([z], [z], lagtime=3), kinetics([moved], [moved], lagtime=3), 1e-6, methods=slice(2))


def test_time_has_the_unit_that_frames_are_given(rng):
    z = several(2000, (0.95, 0.7), rng)
    frames, times = kinetics([z], [z]), kinetics([z], [z], frame_time=2.5, unit="ps")
    assert (frames.unit, frames.frame_time, times.unit, times.frame_time) == ("frames", 1.0, "ps", 2.5)
    for name in ("timescales", "low", "high"):
        np.testing.assert_allclose(getattr(times, name), 2.5 * getattr(frames, name))
    np.testing.assert_array_equal(times.scores, frames.scores)
    np.testing.assert_array_equal(times.lags, [1, 2, 5, 10, 20, 50, 100, 200])


def test_the_seed_decides_error_bars_only(rng):
    z = several(2000, (0.95, 0.7), rng)
    first, again, other = (kinetics([z], [z], seed=seed) for seed in (1, 1, 2))
    assert_same(first, again, rtol=0)
    np.testing.assert_array_equal(first.timescales, other.timescales)
    assert np.nanmax(np.abs(first.high - other.high)) > 0


def test_jumps_are_passed_on(rng):
    z = ar1(1000, 0.9, rng)
    found = kinetics([z], [z], latent_jumps=3, alignment_jumps=1)
    assert (found.latent_jumps, found.alignment_jumps) == (3, 1)
    fields = dataclasses.asdict(found)
    assert fields["timescales"].shape == fields["low"].shape == fields["high"].shape == (3, len(found.lags), 1)


# -- odd data


def test_a_constant_coordinate_has_no_timescale(rng):
    z = several(2000, (0.95, 0.7), rng)
    more = np.insert(z, 1, 0.1, axis=1)
    found, without = kinetics([more], [more], lagtime=5), kinetics([z], [z], lagtime=5)
    assert np.isnan(found.autocorrelation[:, 1]).all()
    np.testing.assert_allclose(found.autocorrelation[:, [0, 2]], without.autocorrelation)
    np.testing.assert_allclose(found.scores, without.scores)
    np.testing.assert_allclose(found.timescales[:, at(5, found), :2], without.timescales[:, at(5, found)])
    assert np.isnan(found.timescales[:, at(5, found), 2]).all()


def test_nothing_that_moves_has_no_timescale_and_the_score_of_the_constant():
    z = np.full((1000, 2), 0.1)
    found = kinetics([z], [z])
    for array in (found.timescales, found.low, found.high, found.autocorrelation):
        assert np.isnan(array).all()
    np.testing.assert_array_equal(found.scores, 1)
    np.testing.assert_array_equal(found.errors, 0)


def test_a_coordinate_given_twice_counts_once(rng):
    z = several(2000, (0.95, 0.7), rng)
    twice, once = kinetics([z[:, [0, 1, 0]]], [z], lagtime=5), kinetics([z], [z], lagtime=5)
    np.testing.assert_allclose(twice.scores, once.scores)
    np.testing.assert_allclose(twice.timescales[:, at(5, twice), :2], once.timescales[:, at(5, once)])
    assert np.isnan(twice.timescales[:, at(5, twice), 2]).all()


def test_frames_given_twice_are_as_slow_as_one_another(rng):
    """Every frame repeated: half of all steps at lag 1 are none."""
    z = np.repeat(ar1(2000, 0.5, rng), 2, axis=0)
    found = kinetics([z], [z], lagtime=1)
    np.testing.assert_allclose(np.exp(-1 / found.timescales[:, 0, 0]), 0.75, atol=0.03)


def test_a_single_visit_leaves_the_low_end_open():
    """A state seen once may not be seen again."""
    z = np.random.default_rng(0).normal(size=(2000, 1))
    z[1010:1020] += 30
    found = kinetics([z], [z], lagtime=5)
    i = at(5, found)
    assert (found.low[:, i, 0] < 1.5).all()
    assert (found.timescales[:, i, 0] > 5).all()


def test_a_single_transition_leaves_the_high_end_open():
    """Had it not been seen, there would be no end of the time between two."""
    z = np.repeat([0.0, 1.0], 1010)[:, None]
    found = kinetics([z], [z], lagtime=5)
    i = at(5, found)
    assert np.isinf(found.high[:, i, 0]).all()
    assert np.isfinite(found.timescales[:, i, 0]).all()
    assert (found.low[:, i, 0] < found.timescales[:, i, 0]).all()


def test_fewer_features_than_latent_coordinates(rng):
    z = several(2000, (0.95, 0.7, 0.5), rng)
    found = kinetics([z], [z[:, :1]], lagtime=2)
    i = at(2, found)
    assert np.isfinite(found.timescales[0, i]).all()
    np.testing.assert_array_equal(np.isnan(found.timescales[1:, i]), [[False, True, True]] * 2)


def test_single_precision_is_enough(rng):
    z = several(2000, (0.95, 0.7), rng) + 10
    rounded = z.astype(np.float32)
    assert_same(kinetics([rounded], [rounded], lagtime=2), kinetics([z], [z], lagtime=2), rtol=1e-4)


@pytest.mark.parametrize("n_frames", [0, 1, 2, 10, 60])
def test_too_few_frames_give_nothing(rng, n_frames):
    z = several(n_frames, (0.9, 0.5), rng)
    assert kinetics([z], [z]) is None
    with pytest.raises(ValueError, match=r"lagtime=1 leaves fewer than 20 pairs.*too few frames for any"):
        kinetics([z], [z], lagtime=1)


def test_a_lagtime_must_leave_pairs(rng):
    z = ar1(1000, 0.9, rng)
    with pytest.raises(ValueError, match=r"lagtime=400 leaves fewer than 10 pairs.*1000 frames.*take at most 100"):
        kinetics([z], [z], lagtime=400)
    assert kinetics([z], [z], lagtime=100).lagtime == 100
    for lagtime in (0, -3):
        with pytest.raises(ValueError, match="lagtime must be at least 1 frame"):
            kinetics([z], [z], lagtime=lagtime)


def test_a_trajectory_shorter_than_the_lag_says_nothing_at_that_lag(rng):
    long, short = ar1(2000, 0.9, rng), ar1(15, 0.9, rng) + 100
    both, alone = kinetics([long, short], [long, short], lagtime=20), kinetics([long], [long], lagtime=20)
    i, j = at(20, both), at(20, alone)
    np.testing.assert_allclose(both.timescales[0, i], alone.timescales[0, j])
    np.testing.assert_allclose(both.autocorrelation[i], alone.autocorrelation[j])
    assert np.isfinite(both.low[0, i]).all()


def test_what_does_not_belong_together_is_refused(rng):
    z, hole = ar1(500, 0.9, rng), ar1(500, 0.9, rng)
    hole[7] = np.nan
    refused = {
        "same trajectories": ([z, z], [z]),
        "same trajectories, got 1 and 1 of them, of 500 and 499 frames": ([z], [z[1:]]),
        "got 0 and 0 of them": ([], []),
        "features hold numbers that are not finite": ([z], [hole]),
        "latents hold numbers that are not finite": ([hole], [z]),
        "at least one, got": ([z], [z[:, :0]]),
    }
    for message, (latents, features) in refused.items():
        with pytest.raises(ValueError, match=message):
            kinetics(latents, features)
    for frame_time in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="frame_time must be above 0"):
            kinetics([z], [z], frame_time=frame_time)


@pytest.mark.parametrize(("longest", "expected"), [(1, 1), (99, 1), (199, 1), (200, 2), (1000, 10), (499_999, 2000)])
def test_the_default_lagtime_is_a_hundredth_of_the_longest_trajectory(longest, expected):
    assert default_lagtime([1, longest, longest // 2]) == expected


# -- order in time


def test_frames_of_a_simulation_are_in_order_and_shuffled_ones_are_not(rng):
    z = several(2000, (0.3, 0.0, 0.0), rng)
    assert in_time_order([z])
    assert in_time_order([z[:500], z[500:501], z[501:501], z[501:]])
    for seed in range(20):
        assert not in_time_order([np.random.default_rng(seed).permutation(z)])


def test_shuffled_trajectories_in_different_places_are_not_in_order(rng):
    assert not in_time_order([rng.normal(size=(200, 2)) + 10 * i for i in range(5)])


@pytest.mark.parametrize("value", [0.1, 1e6])
def test_constants_and_single_frames_have_no_order(value):
    assert not in_time_order([np.full((1000, 2), value)])
    assert not in_time_order([np.full((1, 2), value)] * 10)
    assert not in_time_order([np.zeros((0, 2))])


# -- jumps


def no_jumps(series):
    return [np.zeros(max(0, len(z) - 1), bool) for z in series]


def test_a_planted_jump_is_counted_and_is_the_pose_s_where_the_pose_jumped(rng):
    z = np.cumsum(0.01 * rng.normal(size=(1000, 2)), axis=0)
    masks = no_jumps([z])
    assert latent_jumps([z], masks) == (0, 0)
    z[500:] += [0, 5]
    assert latent_jumps([z], masks) == (1, 0)
    masks[0][498] = True
    assert latent_jumps([z], masks) == (1, 0)
    masks[0][499] = True
    assert latent_jumps([z], masks) == (1, 1)


def test_a_jump_between_trajectories_is_none(rng):
    z = np.cumsum(0.01 * rng.normal(size=(1000, 2)), axis=0)
    z[500:] += [0, 5]
    parts = [z[:500], z[500:500], z[500:501], z[501:]]
    assert latent_jumps(parts, no_jumps(parts)) == (0, 0)


def test_jumps_do_not_depend_on_units(rng):
    z = np.cumsum(0.01 * rng.normal(size=(1000, 2)), axis=0)
    z[300:310] += 5
    z = z * [1e-4, 1e4] + [0, 1e5]
    constant = np.full((1000, 1), 0.1)
    assert latent_jumps([z], no_jumps([z])) == (2, 0)
    assert latent_jumps([np.hstack([z, constant])], no_jumps([z])) == (2, 0)


def test_noise_makes_no_jumps(rng):
    for z in (rng.normal(size=(2000, 3)), rng.standard_t(5, size=(2000, 3)), np.full((50, 2), 0.1)):
        assert latent_jumps([z], no_jumps([z])) == (0, 0)
    assert latent_jumps([np.zeros((1, 2))], no_jumps([np.zeros((1, 2))])) == (0, 0)


def test_jumps_of_other_trajectories_are_refused():
    z = np.zeros((10, 2))
    with pytest.raises(ValueError, match="must hold 9 steps of 1 trajectories, got 10 for 1"):
        latent_jumps([z], [np.zeros(10, bool)])
