"""Data without atoms, drawn at random: plain vectors whose distribution is known exactly."""

import math

import numpy as np
from jaxtyping import Float, Int

from mdvae._types import Whole

# Of the two modes: means and standard deviations.
_MEANS, _STDS = np.array([-1.0, 1.0]), np.array([0.5, 0.25])
# Of an arm before it is turned, along and across the radius; and how far it is turned at radius r, over exp(r), in
# radians.
_ALONG, _ACROSS, _TURN = 0.3, 0.05, 0.25
# Of the lines in a spectrum: positions and largest shift in channels, heights, width, and noise. Even the widest shifts
# leave four widths between neighbors, and two and a half at the ends.
_N_CHANNELS, _POSITIONS, _SHIFT = 64, np.array([11.5, 31.5, 51.5]), 5.0
_HEIGHTS, _WIDTH, _NOISE = np.array([1.0, 0.7, 0.5]), 2.5, 0.05


def two_modes(n_samples: Whole, *, seed: Whole = 0) -> Float[np.ndarray, " n_samples"]:
    """Numbers from a mixture of two normal distributions, in equal shares: N(-1, 0.5²) and N(1, 0.25²).

    Parameters
    ----------
    n_samples : int
    seed : int

    Returns
    -------
    (n_samples,)
        In 32 bits. The mode of each sample is drawn, too: shares vary.

    Raises
    ------
    ValueError
        For fewer than 1 sample.
    """
    _check_at_least(1, n_samples=n_samples)
    rng = np.random.default_rng(seed)
    mode = rng.integers(2, size=n_samples)
    return rng.normal(_MEANS[mode], _STDS[mode]).astype(np.float32)


def classes(n_samples: Whole, *, n_classes: Whole = 32, seed: Whole = 0) -> Float[np.ndarray, "n_samples n_classes"]:
    """Classes, ordered and of unequal shares: the bins of a histogram of `two_modes`.

    Parameters
    ----------
    n_samples : int
        At least 2.
    n_classes : int
        Bins of equal width between the smallest sample and the largest.
    seed : int
        Of `two_modes`, whose samples of the same number and seed are those that are sorted into bins.

    Returns
    -------
    (n_samples, n_classes)
        One in the column of the sample's class, zero elsewhere, in 32 bits.

    Raises
    ------
    ValueError
        For fewer than 2 samples, or 1 class.
    """
    _check_at_least(2, n_samples=n_samples)
    _check_at_least(1, n_classes=n_classes)
    samples = two_modes(n_samples, seed=seed).astype(np.float64)
    inner = np.histogram_bin_edges(samples, bins=int(n_classes))[1:-1]
    return np.eye(int(n_classes), dtype=np.float32)[np.searchsorted(inner, samples, side="right")]


def pinwheel(
    n_samples: Whole, *, n_arms: Whole = 4, seed: Whole = 0
) -> tuple[Float[np.ndarray, "n_samples 2"], Int[np.ndarray, " n_samples"]]:
    """Points in the plane, in bent arms around the origin.

    Of Johnson et al. (doi:10.48550/arXiv.1603.06277), who find the arms as clusters; Mathieu et al.
    (doi:10.48550/arXiv.1812.02833) show on it what a prior of clusters does to a latent space.

    Each arm is a normal distribution about (1, 0), with standard deviations 0.3 along the first axis and 0.05 along the
    second. A point is turned about the origin by its arm's share of a full circle, and by 0.25 exp(x) radians for its
    first coordinate x, which bends the arm.

    Parameters
    ----------
    n_samples : int
    n_arms : int
    seed : int

    Returns
    -------
    points : (n_samples, 2)
        In 32 bits.
    arms : (n_samples,)
        From 0 to ``n_arms - 1``, counter-clockwise, drawn at random.

    Raises
    ------
    ValueError
        For fewer than 1 sample or 1 arm.
    """
    _check_at_least(1, n_samples=n_samples, n_arms=n_arms)
    rng = np.random.default_rng(seed)
    arms = rng.integers(n_arms, size=n_samples)
    radial, tangential = rng.normal([1.0, 0.0], [_ALONG, _ACROSS], size=(n_samples, 2)).T
    angle = 2 * math.pi * arms / n_arms + _TURN * np.exp(radial)
    # In the complex plane to turn is to multiply.
    turned = (radial + 1j * tangential) * np.exp(1j * angle)
    return np.stack([turned.real, turned.imag], axis=1).astype(np.float32), arms


def known_factors(
    n_samples: Whole, *, seed: Whole = 0
) -> tuple[Float[np.ndarray, "n_samples n_features"], Float[np.ndarray, "n_samples n_factors"]]:
    """Spectra of three lines, each of which shifts on its own: data whose factors of variation are known.

    Channel i of 64 holds ``sum_k h_k exp(-(i - c_k - f_k)² / (2 · 2.5²))`` and normal noise of standard deviation 0.05.
    The lines are at c = 11.5, 31.5 and 51.5, of heights h = 1, 0.7 and 0.5; the factors f are their shifts.

    The lines hardly overlap, so that factors move the spectrum in directions at right angles, but no factor is a
    straight direction: principal components do not find them. Heights differ, since what makes dimensions of a VAE with
    independent posteriors line up with factors are the different precisions that factors deserve
    (doi:10.1109/CVPR.2019.01269).

    Parameters
    ----------
    n_samples : int
    seed : int

    Returns
    -------
    spectra : (n_samples, 64)
        In 32 bits.
    factors : (n_samples, 3)
        Shifts in channels, uniform between -5 and 5, independent; in the order of the lines.

    Raises
    ------
    ValueError
        For fewer than 1 sample.
    """
    _check_at_least(1, n_samples=n_samples)
    rng = np.random.default_rng(seed)
    factors = rng.uniform(-_SHIFT, _SHIFT, size=(n_samples, len(_HEIGHTS)))
    distances = np.arange(_N_CHANNELS)[:, None] - (_POSITIONS + factors)[:, None, :]
    lines = np.exp(-0.5 * (distances / _WIDTH) ** 2) @ _HEIGHTS
    return (lines + _NOISE * rng.normal(size=lines.shape)).astype(np.float32), factors.astype(np.float32)


def _check_at_least(smallest: int, **numbers: Whole) -> None:
    for name, number in numbers.items():
        if number < smallest:
            raise ValueError(f"expected {name} of at least {smallest}, got {number}; ask for more")
