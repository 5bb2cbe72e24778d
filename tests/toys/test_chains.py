"""The simulated distributions against exact ones.

Where samples are final frames of independent copies, a Kolmogorov-Smirnov test is exact; along one
trajectory the number of samples is divided by the statistical inefficiency. Each agreement comes with
errors that the same test must see.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import mdtraj as md
import numpy as np
import pytest
from scipy import stats

from mdvae.toys import (
    BOLTZMANN,
    Angles,
    Bonds,
    LennardJones,
    Torsions,
    alkane,
    alkane_masses,
    alkane_pdb,
    alkane_terms,
    bead_spring_chain,
    chain_energy,
    chain_terms,
    langevin,
    potential_energy,
    zigzag,
)

# P values. Some twenty agreements are tested, with fixed seeds: by chance alone, one in fifty choices of
# seeds fails.
AGREES, DIFFERS = 1e-3, 1e-6


# Geometry, written here a second time -------------------------------------------------------------


def bond_lengths(frames):
    return np.linalg.norm(np.diff(frames, axis=-2), axis=-1)


def angles(frames):
    steps = np.diff(np.asarray(frames, float), axis=-2)
    cosines = -np.sum(steps[..., :-1, :] * steps[..., 1:, :], axis=-1)
    lengths = np.linalg.norm(steps, axis=-1)
    return np.arccos(cosines / (lengths[..., :-1] * lengths[..., 1:]))


def torsions(frames):
    a, b, c = (np.diff(np.asarray(frames, float), axis=-2)[..., i : i - 2 or None, :] for i in range(3))
    sine = np.linalg.norm(b, axis=-1) * np.sum(a * np.cross(b, c), axis=-1)
    return np.arctan2(sine, np.sum(np.cross(a, b) * np.cross(b, c), axis=-1))


def end_to_end(frames):
    return np.linalg.norm(frames[..., -1, :] - frames[..., 0, :], axis=-1)


# Statistics ---------------------------------------------------------------------------------------


def distribution(grid, weights):
    """Cumulative distribution with a density proportional to weights at points."""
    order = np.argsort(grid)
    cumulative = np.cumsum(weights[order]) - weights[order] / 2
    return lambda x: np.interp(x, grid[order], cumulative / np.sum(weights))


def distribution_of_size(cumulative):
    return lambda x: cumulative(x) - cumulative(-x)


def p_value(samples, cumulative, n_effective=None):
    """Kolmogorov-Smirnov, for as many independent samples as there are."""
    statistic = stats.kstest(samples.ravel(), cumulative).statistic
    return stats.kstwo.sf(statistic, int(n_effective or samples.size))


def inefficiency(series):
    """1 + 2 sum of the autocorrelation, summed up to five times the result."""
    series = series - series.mean()
    spectrum = np.fft.rfft(series, 2 * len(series))
    correlation = np.fft.irfft(spectrum * spectrum.conj())[: len(series)]
    sums = 2 * np.cumsum(correlation / correlation[0]) - 1
    return sums[np.argmax(np.arange(len(sums)) > 5 * sums)]


def effective(samples):
    """The number of independent samples that a distribution function of a trajectory rests on."""
    indicators = (samples < np.quantile(samples, q) for q in (0.1, 0.3, 0.5, 0.7, 0.9))
    return len(samples) / max(inefficiency(indicator.astype(float)) for indicator in indicators)


@partial(jax.jit, static_argnames=("n_copies", "n_steps"))
def last_frames(start, masses, terms, seed, *, n_copies, n_steps, **dynamics):
    def last_frame(key):
        return langevin(start, masses, terms, n_frames=n_steps // 50, stride=50, key=key, **dynamics).frames[-1]

    return jax.vmap(last_frame)(jax.random.split(jax.random.key(seed), n_copies))


def copies(terms, *, n_atoms, dim, masses=None, seed=0, **dynamics):
    """Last frames of independent copies that start from the zigzag."""
    bonds, angle, *_ = terms
    masses = jnp.ones(n_atoms) if masses is None else masses
    frames = np.asarray(last_frames(zigzag(n_atoms, bonds.length, angle.angle, dim), masses, terms, seed, **dynamics))
    assert np.isfinite(frames).all()
    return frames


# Exact densities ----------------------------------------------------------------------------------


def bond_distribution(bonds, thermal_energy, dim):
    r = np.linspace(1e-6, 3 * bonds.length, 20_001)
    return distribution(r, r ** (dim - 1) * np.exp(-bonds.constant / 2 * (r - bonds.length) ** 2 / thermal_energy))


def angle_distribution(term, thermal_energy, dim):
    a = np.linspace(0, np.pi, 20_001)
    return distribution(a, np.sin(a) ** (dim - 2) * np.exp(-term.constant / 2 * (a - term.angle) ** 2 / thermal_energy))


def torsion_distribution(term, thermal_energy):
    f = np.linspace(-np.pi, np.pi, 20_001)
    energy = term.c1 * (1 + np.cos(f)) + term.c2 * (1 - np.cos(2 * f)) + term.c3 * (1 + np.cos(3 * f))
    return distribution(f, np.exp(-energy / thermal_energy))


def three_bead_distributions(terms, dim):
    """First bond, angle and end-to-end distance of three beads, by quadrature over bonds and angle."""
    bonds, angle, pairs = terms
    r1, r2, a = np.meshgrid(
        np.linspace(1e-3, 0.95, 100),
        np.linspace(1e-3, 0.95, 100),
        np.linspace(1e-3, np.pi - 1e-3, 150),
        indexing="ij",
    )
    end = np.sqrt(r1**2 + r2**2 - 2 * r1 * r2 * np.cos(a))
    sixth = (pairs.sigma / end) ** 6
    energy = (
        bonds.constant / 2 * ((r1 - bonds.length) ** 2 + (r2 - bonds.length) ** 2)
        + angle.constant / 2 * (a - angle.angle) ** 2
        + 4 * pairs.epsilon[0, 2] * (sixth**2 - sixth)
    )
    weights = (r1 * r2) ** (dim - 1) * np.sin(a) ** (dim - 2) * np.exp(-energy)
    edges = np.linspace(0, 2, 2001)
    counts, _ = np.histogram(end, edges, weights=weights)
    return {
        "bond": distribution(r1[:, 0, 0], weights.sum((1, 2))),
        "angle": distribution(a[0, 0], weights.sum((0, 1))),
        "end to end": distribution((edges[1:] + edges[:-1]) / 2, counts),
    }


# The chain without Lennard-Jones: bonds and angles are independent, and exactly known -------------


REDUCED = {"thermal_energy": 1.0, "time_step": 0.01, "friction": 2.0}


@cache
def free_chain(dim):
    terms = chain_terms(5)[:2]
    return terms, copies(terms, n_atoms=5, dim=dim, n_copies=1024, n_steps=1000, **REDUCED)


@pytest.mark.parametrize("dim", [2, 3])
def test_bonds_of_the_free_chain(dim):
    (bonds, _), frames = free_chain(dim)
    samples = bond_lengths(frames)
    assert p_value(samples, bond_distribution(bonds, 1, dim)) > AGREES
    assert p_value(samples, bond_distribution(bonds._replace(constant=2 * bonds.constant), 1, dim)) < DIFFERS
    assert p_value(samples, bond_distribution(bonds, 1, dim - 1)) < DIFFERS
    assert p_value(samples, bond_distribution(bonds, 1.2, dim)) < DIFFERS


@pytest.mark.parametrize("dim", [2, 3])
def test_angles_of_the_free_chain(dim):
    (_, term), frames = free_chain(dim)
    samples = angles(frames)
    assert p_value(samples, angle_distribution(term, 1, dim)) > AGREES
    assert p_value(samples, angle_distribution(term._replace(constant=2 * term.constant), 1, dim)) < DIFFERS
    assert p_value(samples, angle_distribution(term, 1, 5 - dim)) < DIFFERS
    assert p_value(samples, angle_distribution(term, 1.5, dim)) < DIFFERS


# Three beads with Lennard-Jones: quadrature -------------------------------------------------------

PAIRS = {
    "of the chain": chain_terms(3)[2],
    "strong": LennardJones(0.4, 1.5 * chain_terms(3)[2].epsilon / chain_terms(3)[2].epsilon.max()),
}


@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("dim", [2, 3])
def test_three_beads_with_lennard_jones(dim, pairs):
    terms = (*chain_terms(3)[:2], PAIRS[pairs])
    frames = copies(terms, n_atoms=3, dim=dim, n_copies=4096, n_steps=800, **REDUCED)
    samples = {
        "bond": bond_lengths(frames)[:, 0],
        "angle": angles(frames)[:, 0],
        "end to end": end_to_end(frames),
    }

    def p_values(terms):
        exact = three_bead_distributions(terms, dim)
        return {name: p_value(samples[name], exact[name]) for name in exact}

    assert min(p_values(terms).values()) > AGREES
    for wrong in (0, 1):
        doubled = list(terms)
        doubled[wrong] = doubled[wrong]._replace(constant=2 * doubled[wrong].constant)
        assert min(p_values(doubled).values()) < DIFFERS
    if pairs == "strong":
        assert p_values((*terms[:2], terms[2]._replace(epsilon=0 * terms[2].epsilon)))["end to end"] < DIFFERS


def test_one_trajectory_of_three_beads():
    """What users call, with as many samples as its autocorrelation leaves."""
    frames = bead_spring_chain(3000, n_beads=3, stride=150)
    exact = three_bead_distributions(chain_terms(3), 2)
    wrong = three_bead_distributions((chain_terms(3)[0]._replace(constant=180.0), *chain_terms(3)[1:]), 2)
    for name, samples in {"bond": bond_lengths(frames)[:, 0], "angle": angles(frames)[:, 0]}.items():
        assert effective(samples) > 1000
        assert p_value(samples, exact[name], effective(samples)) > AGREES
    bonds = bond_lengths(frames)[:, 0]
    assert p_value(bonds, wrong["bond"], effective(bonds)) < DIFFERS


def test_half_the_time_step_gives_the_same():
    terms, many = chain_terms(6), {"n_atoms": 6, "dim": 2, "n_copies": 1024, "n_steps": 1000}

    def samples(time_step, terms=terms, seed=0):
        return end_to_end(copies(terms, seed=seed, **many, **(REDUCED | {"time_step": time_step})))

    long = samples(0.015)
    assert stats.ks_2samp(long, samples(0.0075, seed=1)).pvalue > AGREES
    stiff = (terms[0], terms[1]._replace(constant=2 * terms[1].constant), terms[2])
    assert stats.ks_2samp(long, samples(0.015, stiff, seed=1)).pvalue < DIFFERS


# The bead-spring chain as data --------------------------------------------------------------------


def test_chain_is_correlated_in_time_and_samples_many_conformations():
    frames = bead_spring_chain(2000)
    assert frames.shape == (2000, 12, 2)
    assert frames.dtype == np.float32
    assert frames.flags.writeable
    assert np.isfinite(frames).all()
    ends = end_to_end(frames)
    assert 0.5 < np.corrcoef(ends[:-1], ends[1:])[0, 1] < 0.8
    assert 2 < inefficiency(ends) < 10
    assert ends.min() < 0.6
    assert ends.max() > 3
    # Beads do not overlap: four kT away from touching at 0.7 sigma there would be 90 kT.
    first, second = np.triu_indices(12, 2)
    assert np.linalg.norm(frames[:, first] - frames[:, second], axis=-1).min() > 0.7 / 6


SHORT = {"n_frames": 200, "stride": 50}


@pytest.mark.parametrize("dim", [2, 3])
def test_same_seed_same_trajectory(dim):
    first = bead_spring_chain(seed=3, dim=dim, **SHORT)
    assert first.shape == (200, 12, dim)
    np.testing.assert_array_equal(first, bead_spring_chain(seed=3, dim=dim, **SHORT))
    assert np.abs(first - bead_spring_chain(seed=4, dim=dim, **SHORT)).max() > 0.1


@pytest.mark.parametrize("temperature", [0.1, 5.0])
def test_other_temperatures(temperature):
    """Bonds are the wider the hotter (and then longer, too: there is more room)."""
    frames = bead_spring_chain(temperature=temperature, **SHORT)
    assert np.isfinite(frames).all()
    exact = bond_distribution(chain_terms(12)[0], temperature, 2)
    assert stats.kstest(bond_lengths(frames).ravel(), exact).statistic < 0.1
    assert stats.kstest(bond_lengths(frames).ravel(), bond_distribution(chain_terms(12)[0], 1, 2)).statistic > 0.2


def test_chain_energy_by_hand():
    """A straight line of three with bonds 1/3 and 1/2."""
    frame = jnp.array([[0, 0], [1 / 3, 0], [5 / 6, 0]])
    sixth = (1 / 5) ** 6  # sigma over the distance of the ends, 1/6 over 5/6
    expected = 89.9 / 2 / 36 + 3.55 / 2 * (np.pi / 3) ** 2 + 4 * 0.325 * (sixth**2 - sixth)
    energy, gradient = jax.jit(jax.value_and_grad(chain_energy))(frame)
    np.testing.assert_allclose(energy, expected, rtol=1e-5)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dim", [2, 3])
def test_forces_against_finite_differences(dim):
    rng = np.random.default_rng(1)
    frame = zigzag(6, 0.4, 1.8, dim) + jnp.asarray(rng.normal(size=(6, dim)) * 0.03, jnp.float32)
    direction = jnp.asarray(rng.normal(size=(6, dim)), jnp.float32)
    step = 1e-3
    energy_and_gradient = jax.jit(jax.value_and_grad(chain_energy))
    ahead, behind = (energy_and_gradient(frame + sign * step * direction)[0] for sign in (1, -1))
    gradient = energy_and_gradient(frame)[1]
    np.testing.assert_allclose(jnp.sum(gradient * direction), (ahead - behind) / (2 * step), rtol=1e-2, atol=1e-2)


def test_lennard_jones_by_hand():
    """Two pairs count, at the minimum and at sigma; the neighbors do not."""
    frame = jnp.array([[0.0, 0], [7, 7], [2 ** (1 / 6), 0]])
    np.testing.assert_allclose(LennardJones(1.0, chain_terms(3)[2].epsilon).energy(frame), -0.325, rtol=1e-5)
    np.testing.assert_allclose(LennardJones(2 ** (1 / 6), chain_terms(3)[2].epsilon).energy(frame), 0, atol=1e-5)


# The alkane ---------------------------------------------------------------------------------------


@cache
def butane():
    terms, kelvin = alkane_terms(4), 1000.0
    # 3 ps; the torsion relaxes in 0.3 ps at this temperature.
    dynamics = {"thermal_energy": BOLTZMANN * kelvin, "time_step": 0.002, "friction": 5.0}
    masses = alkane_masses(4)
    frames = copies(terms, n_atoms=4, dim=3, masses=masses, n_copies=2048, n_steps=1500, **dynamics)
    return terms, BOLTZMANN * kelvin, frames


def test_torsions_of_butane():
    """No pair is four bonds apart, so the torsion is independent of all else, and exactly known."""
    (_, _, term, _), thermal_energy, frames = butane()
    samples = torsions(frames)
    assert p_value(samples, torsion_distribution(term, thermal_energy)) > AGREES
    for wrong in (term._replace(c1=2 * term.c1), term._replace(c3=2 * term.c3)):
        # Without the sign, so that asymmetry by chance has no part in it.
        folded = distribution_of_size(torsion_distribution(wrong, thermal_energy))
        assert p_value(np.abs(samples), folded) < DIFFERS


def test_bonds_and_angles_of_butane():
    (bonds, angle, _, _), thermal_energy, frames = butane()
    assert p_value(bond_lengths(frames), bond_distribution(bonds, thermal_energy, 3)) > AGREES
    assert p_value(angles(frames), angle_distribution(angle, thermal_energy, 3)) > AGREES
    doubled = bonds._replace(constant=2 * bonds.constant)
    assert p_value(bond_lengths(frames), bond_distribution(doubled, thermal_energy, 3)) < DIFFERS


def test_torsion_energies_by_hand():
    term, bonds = alkane_terms(4)[2], (Bonds(1.0, 0.0), Angles(2.0, 0.0))
    frame = zigzag(4, 1.0, 2.0, 3)
    np.testing.assert_allclose(potential_energy(frame, (term, *bonds)), 0, atol=1e-5)  # trans
    cis = jnp.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 1], [1, 0, 1]])
    np.testing.assert_allclose(term.energy(cis), 2 * (term.c1 + term.c3), rtol=1e-5)
    gauche = jnp.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 1], [0.5, np.sqrt(0.75), 1]])  # 60 degrees
    np.testing.assert_allclose(term.energy(gauche), 1.5 * (355.03 - 68.19) * BOLTZMANN, rtol=1e-5)
    # At one point, on a line, and on a line but for the rounding of sin(pi).
    for degenerate in (jnp.zeros((4, 3)), jnp.arange(12.0).reshape(4, 3), zigzag(4, 1.0, np.pi, 3)):
        assert np.isfinite(jax.jit(jax.grad(term.energy))(degenerate)).all()


def test_alkane_crosses_between_trans_and_gauche():
    frames = alkane(1000)
    assert frames.shape == (1000, 6, 3)
    assert frames.dtype == np.float32
    assert np.isfinite(frames).all()
    np.testing.assert_allclose(bond_lengths(frames).mean(), 0.154, atol=0.001)
    trans = np.abs(torsions(frames)) > 2 * np.pi / 3
    assert (np.diff(trans.astype(int), axis=0) != 0).sum(0).min() >= 10
    assert 0.4 < trans.mean() < 0.9
    assert np.corrcoef(end_to_end(frames)[:-1], end_to_end(frames)[1:])[0, 1] > 0.5


def test_alkane_parameters():
    """TraPPE-UA by hand: Lennard-Jones from the fifth atom on, mixed by Lorentz and Berthelot."""
    pairs = alkane_terms(6)[3]
    assert np.argwhere(pairs.epsilon).tolist() == [[0, 4], [0, 5], [1, 5]]
    np.testing.assert_allclose(pairs.epsilon[0, 5], 98 * BOLTZMANN, rtol=1e-6)
    np.testing.assert_allclose(pairs.epsilon[0, 4], np.sqrt(98 * 46) * BOLTZMANN, rtol=1e-6)
    np.testing.assert_allclose(pairs.sigma[0, 4], 0.385, rtol=1e-6)
    np.testing.assert_allclose(alkane_masses(3), [15.035, 14.027, 15.035], rtol=1e-6)
    assert isinstance(alkane_terms(6)[2], Torsions)


@pytest.mark.parametrize(("n_carbons", "residue"), [(2, "ETH"), (6, "HEX"), (12, "ALK")])
def test_mdtraj_reads_the_pdb(tmp_path, n_carbons, residue):
    frame = zigzag(n_carbons, 0.154, 1.99, 3)
    path = tmp_path / "alkane.pdb"
    path.write_text(alkane_pdb(n_carbons, frame))
    loaded = md.load(str(path))
    assert loaded.n_frames == 1
    assert [(a.index, b.index) for a, b in loaded.top.bonds] == [(i, i + 1) for i in range(n_carbons - 1)]
    assert {atom.element.symbol for atom in loaded.top.atoms} == {"C"}
    assert [atom.name for atom in loaded.top.atoms] == [f"C{i}" for i in range(1, n_carbons + 1)]
    assert [r.name for r in loaded.top.residues] == [residue]
    np.testing.assert_allclose(loaded.xyz[0], frame, atol=1e-4)


# Errors -------------------------------------------------------------------------------------------

BAD = {
    "no frames": (lambda: bead_spring_chain(0), "n_frames of at least 1, got 0"),
    "one bead": (lambda: bead_spring_chain(1, n_beads=1), "n_beads of at least 2, got 1"),
    "four dimensions": (lambda: bead_spring_chain(1, dim=4), "dim 2 or 3, got 4"),
    "stride": (lambda: bead_spring_chain(1, stride=0), "stride of at least 1"),
    "frozen": (lambda: alkane(1, temperature=0.0), "temperature above zero"),
    "methane": (lambda: alkane(1, n_carbons=1), "n_carbons of at least 2"),
    "many frames": (lambda: alkane_pdb(6, np.zeros((7, 3))), "shape"),
    "polyethylene": (lambda: alkane_pdb(100, np.zeros((100, 3))), "2 to 99"),
}


@pytest.mark.parametrize("case", BAD)
def test_errors(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()
