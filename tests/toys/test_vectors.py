"""Random vectors against their exact distributions; each agreement comes with an error that the same test must see."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from mdvae.toys import classes, known_factors, pinwheel, two_modes
from mdvae.vae.disentanglement import mutual_information_gap

# P values, for fixed seeds.
AGREES, DIFFERS = 1e-3, 1e-6
N = 20_000


def of_two_modes(x):
    """Cumulative distribution."""
    return 0.5 * stats.norm.cdf(x, -1, 0.5) + 0.5 * stats.norm.cdf(x, 1, 0.25)


# Numbers and classes ------------------------------------------------------------------------------


def test_two_modes_have_their_exact_distribution():
    samples = two_modes(N)
    assert stats.kstest(samples, of_two_modes).pvalue > AGREES
    assert stats.kstest(-samples, of_two_modes).pvalue < DIFFERS
    assert stats.kstest(1.05 * samples, of_two_modes).pvalue < DIFFERS


def test_two_modes_have_their_exact_moments():
    """Mean 0, variance 1 + (0.5² + 0.25²) / 2, third moment (-1 - 3/4 + 1 + 3/16) / 2."""
    samples = two_modes(N).astype(float)
    for power, exact in [(1, 0), (2, 1 + 5 / 32), (3, -9 / 32)]:
        assert abs(np.mean(samples**power) - exact) < 4 * np.std(samples**power) / np.sqrt(N)


def test_modes_have_their_own_widths():
    """On the outer side of each mode there is next to nothing of the other one."""
    samples = two_modes(10 * N).astype(float)
    for outer, std in [(samples[samples > 1] - 1, 0.25), (samples[samples < -1] + 1, 0.5)]:
        assert abs(len(outer) / (10 * N) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / (10 * N))
        np.testing.assert_allclose(np.mean(outer**2), std**2, rtol=4 * np.sqrt(2 / len(outer)))


@pytest.mark.parametrize("n_classes", [1, 2, 32])
def test_classes_are_the_bins_of_a_histogram(n_classes):
    samples, found = two_modes(N, seed=3), classes(N, n_classes=n_classes, seed=3)
    counts, _ = np.histogram(samples.astype(float), bins=n_classes)
    np.testing.assert_array_equal(found.sum(axis=0), counts)
    np.testing.assert_array_equal(np.sort(found, axis=1)[:, -1], 1)
    np.testing.assert_array_equal(found.sum(axis=1), 1)
    # A larger sample never has a smaller class.
    assert (np.diff(found.argmax(axis=1)[np.argsort(samples)]) >= 0).all()


def test_classes_have_their_exact_shares():
    samples, found = two_modes(N), classes(N)
    exact = np.diff(of_two_modes(np.linspace(samples.min(), samples.max(), 33)))
    # Edges are samples, which is worth one sample at either end.
    error = 4 * np.sqrt(exact * (1 - exact) / N) + 1 / N
    assert (np.abs(found.mean(axis=0) - exact) < error).all()
    assert (np.abs(found.mean(axis=0) - exact[::-1]) > error).any()


# The pinwheel -------------------------------------------------------------------------------------


def turned(points, angle):
    return points @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


@pytest.mark.parametrize("n_arms", [1, 3, 4])
def test_arms_are_equally_likely(n_arms):
    _, arms = pinwheel(N, n_arms=n_arms)
    assert set(arms) == set(range(n_arms))
    assert n_arms == 1 or stats.chisquare(np.bincount(arms)).pvalue > AGREES


@pytest.mark.parametrize("n_arms", [3, 4])
def test_every_arm_is_the_first_one_turned(n_arms):
    points, arms = pinwheel(N, n_arms=n_arms)
    first = points[arms == 0]
    for arm in range(1, n_arms):
        back = turned(points[arms == arm], -2 * np.pi * arm / n_arms)
        mirrored = turned(points[arms == arm], 2 * np.pi * arm / n_arms)
        # Along some direction that no arm is symmetric about.
        for axis in np.eye(2), np.array([[1.0, 2.0], [-2.0, 1.0]]):
            tests = [stats.ks_2samp(back @ a, first @ a).pvalue for a in axis]
            assert min(tests) > AGREES
        if 2 * arm != n_arms:
            assert stats.ks_2samp(mirrored[:, 1], first[:, 1]).pvalue < DIFFERS


def test_radii_have_their_exact_distribution():
    """Turning leaves them alone: the square is that of the two normal coordinates."""
    points, _ = pinwheel(N)
    squares = np.sum(points.astype(float) ** 2, axis=1)
    assert abs(squares.mean() - (1 + 0.3**2 + 0.05**2)) < 4 * squares.std() / np.sqrt(N)
    straight = np.random.default_rng(5).normal([1, 0], [0.3, 0.05], size=(N, 2))
    assert stats.ks_2samp(squares, np.sum(straight**2, axis=1)).pvalue > AGREES


def test_arms_are_bent():
    """The mean of the first arm, by quadrature: what is across has mean zero and only adds noise."""
    points, arms = pinwheel(4 * N)
    first = points[arms == 0].astype(float)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    x = 1 + 0.3 * nodes
    weights = weights / weights.sum()
    exact = np.array([weights @ (x * np.cos(0.25 * np.exp(x))), weights @ (x * np.sin(0.25 * np.exp(x)))])
    error = 4 * first.std(axis=0) / np.sqrt(len(first))
    assert (np.abs(first.mean(axis=0) - exact) < error).all()
    straight = [np.cos(0.25 * np.e), np.sin(0.25 * np.e)]
    assert (np.abs(first.mean(axis=0) - straight) > error).any()


def test_unbent_arms_are_normal():
    points, arms = pinwheel(N)
    x = points[arms == 0].astype(float)
    radius = np.hypot(*x.T)
    # Radius and first coordinate are alike but for the width, 0.05² / 2 of them; so is what they turn by.
    across = radius * np.sin(np.arctan2(x[:, 1], x[:, 0]) - 0.25 * np.exp(radius))
    keep = radius > 0.5
    assert abs(across[keep].std() / 0.05 - 1) < 0.05
    assert abs(np.corrcoef(radius[keep], across[keep])[0, 1]) < 4 / np.sqrt(keep.sum())


# Known factors ------------------------------------------------------------------------------------


def test_factors_are_uniform_and_independent():
    _, factors = known_factors(N)
    for factor in factors.T:
        assert stats.kstest(factor, stats.uniform(-5, 10).cdf).pvalue > AGREES
    for first, second in combinations(factors.T, 2):
        assert stats.spearmanr(first, second).pvalue > AGREES
        # Nor do they depend on each other's size.
        assert stats.spearmanr(np.abs(first), np.abs(second)).pvalue > AGREES


def spectrum(factors):
    channel = np.arange(64.0)
    lines = [(1.0, 11.5), (0.7, 31.5), (0.5, 51.5)]
    return sum(
        h * stats.norm.pdf(channel, c + f[:, None], 2.5) * np.sqrt(2 * np.pi) * 2.5
        for (h, c), f in zip(lines, factors.astype(float).T, strict=True)
    )


def test_spectra_are_their_factors_and_noise():
    spectra, factors = known_factors(2000)
    noise = spectra - spectrum(factors)
    assert stats.kstest(noise.ravel(), stats.norm(0, 0.05).cdf).pvalue > AGREES
    assert stats.kstest((spectra - spectrum(-factors)).ravel(), stats.norm(0, 0.05).cdf).pvalue < DIFFERS
    # Independent from channel to channel, and from sample to sample.
    for one, other in [(noise[:, :-1], noise[:, 1:]), (noise[:-1], noise[1:])]:
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(one.size)


def test_each_factor_moves_channels_of_its_own_and_by_its_own_amount():
    """What makes them the axes that a VAE can find."""
    spectra, factors = known_factors(N)
    correlation = stats.spearmanr(spectra, factors).statistic[:64, 64:]
    near = [slice(6, 18), slice(26, 38), slice(46, 58)]
    for k, channels in enumerate(near):
        assert np.abs(correlation[channels, k]).max() > 0.5
        assert np.abs(np.delete(correlation[channels], k, axis=1)).max() < 4.5 / np.sqrt(N)
    thirds = [slice(0, 22), slice(22, 42), slice(42, 64)]
    moved = np.array([np.sum(spectra[:, third].var(axis=0) - 0.05**2) for third in thirds])
    np.testing.assert_allclose(moved / moved[0], [1, 0.7**2, 0.5**2], rtol=0.03)


def test_principal_components_are_not_the_factors():
    spectra, factors = known_factors(5000)
    _, _, directions = np.linalg.svd(spectra - spectra.mean(axis=0), full_matrices=False)
    assert mutual_information_gap(spectra @ directions[:6].T, factors).score < 0.2


# All of them --------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [two_modes, classes, pinwheel, known_factors])
def test_seeds(draw):
    """One seed, one result; another seed, another one. Data are in 32 bits, as networks take them."""
    one, again, other = (np.asarray(_data(draw(50, seed=seed))) for seed in (7, np.int64(7), 8))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert one.dtype == np.float32
    assert len(one) == 50


def _data(drawn):
    return drawn[0] if isinstance(drawn, tuple) else drawn


@pytest.mark.parametrize(
    ("draw", "arguments", "named"),
    [
        (two_modes, {"n_samples": 0}, "n_samples"),
        (classes, {"n_samples": 1}, "n_samples of at least 2"),
        (classes, {"n_samples": 10, "n_classes": 0}, "n_classes"),
        (pinwheel, {"n_samples": -1}, "n_samples"),
        (pinwheel, {"n_samples": 10, "n_arms": 0}, "n_arms"),
        (known_factors, {"n_samples": 0}, "n_samples"),
        (known_factors, {"n_samples": 10, "seed": -1}, "non-negative"),
    ],
)
def test_numbers_out_of_range_are_refused(draw, arguments, named):
    with pytest.raises(ValueError, match=named):
        draw(**arguments)
