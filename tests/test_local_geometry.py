"""Statistics of the local geometry are what NumPy says, and tell what is held from what is not."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from mdvae import local_geometry
from mdvae.local_geometry import LocalGeometry, distances, find_links, fit_local_geometry, signed_volumes

NO_BONDS = np.zeros((0, 2), int)
PAIR = np.array([[0, 1]])
CHAIN = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]])
STAR = np.array([[0, 1], [0, 2], [0, 3]])


def pairs_of(geometry):
    """Separation of each near pair."""
    return {(int(i), int(j)): int(n) for (i, j), n in zip(geometry.pairs, geometry.separation, strict=True)}


def on_a_line(gaps):
    """Frames (n_frames, n_atoms, 3) of atoms on a line, from the gaps between them."""
    gaps = np.asarray(gaps, float)
    frames = np.zeros((len(gaps), gaps.shape[1] + 1, 3))
    frames[:, 1:, 0] = np.cumsum(gaps, axis=1)
    return frames


def dimers(lengths):
    return fit_local_geometry(on_a_line(np.asarray(lengths)[:, None]), PAIR)


# -- who is near whom


def test_near_pairs_of_a_chain(rng):
    geometry = fit_local_geometry(rng.normal(size=(5, 6, 3)), CHAIN)
    expected = {(i, j): j - i for i in range(6) for j in range(i + 1, 6) if j - i <= 3}
    assert pairs_of(geometry) == expected


@pytest.mark.parametrize("n_atoms", [3, 5, 6, 10])
def test_a_ring_counts_bonds_the_short_way_round(n_atoms, rng):
    ring = np.array([[i, (i + 1) % n_atoms] for i in range(n_atoms)])
    ways = {(i, j): min(j - i, n_atoms - j + i) for i in range(n_atoms) for j in range(i + 1, n_atoms)}
    geometry = fit_local_geometry(rng.normal(size=(3, n_atoms, 3)), ring)
    assert pairs_of(geometry) == {pair: n for pair, n in ways.items() if n <= 3}


@pytest.mark.parametrize("change", [lambda b: b[:, ::-1], lambda b: b[::-1], lambda b: np.concatenate([b, b[:2]])])
def test_the_order_of_bonds_does_not_matter(change, rng):
    frames = rng.normal(size=(5, 6, 3))
    expected, found = (fit_local_geometry(frames, bonds).to_dict() for bonds in (CHAIN, change(CHAIN)))
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


# -- where no bonds are known


def found(frames, links, bonds):
    return {(int(i), int(j)) for i, j in find_links(frames, links, bonds)}


def test_bonds_are_found_in_the_data(hexane, rng):
    """Of atoms in any order, whose sequence says nothing."""
    order = rng.permutation(6)
    place = np.argsort(order)
    expected = {tuple(sorted((int(place[i]), int(place[i + 1])))) for i in range(5)}
    assert found(hexane[0][:, order], CHAIN, NO_BONDS) == expected


def test_rings_and_hydrogens_are_found_in_the_data(rng):
    """Benzene: bonds of two lengths, and one bond more than joins it up."""
    angles = np.pi / 3 * np.arange(6)
    around = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    frames = np.concatenate([0.139 * around, 0.248 * around]) + 0.003 * rng.normal(size=(200, 12, 3))
    links = np.array([[i, i + 1] for i in range(11)])
    assert found(frames, links, NO_BONDS) == {(i, i + 1) for i in range(5)} | {(0, 5)} | {(i, i + 6) for i in range(6)}


def test_a_floppy_chain_is_joined_by_its_sequence(chain):
    assert found(chain, CHAIN, NO_BONDS) == {(i, i + 1) for i in range(5)}


def test_known_bonds_stay_and_loose_atoms_are_joined(hexane):
    """Bonds of the first four atoms are known; the fifth sits on the sixth, which lies at no fixed distance of them."""
    frames = hexane[0].copy()
    frames[:, 4] = frames[:, 0] + np.random.default_rng(0).normal(size=(400, 3))
    frames[:, 5] = frames[:, 4] + np.array([0.15, 0, 0])
    links = np.concatenate([CHAIN, [[3, 5]]])
    assert found(frames, links, CHAIN[:3]) == {(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)}


def test_a_long_bond_does_not_join_the_ends_of_an_angle(rng):
    """Bromoethane in a plane: hydrogens are nearer to the other carbon than 1.15 times the bond to bromine."""
    frame = np.array([[0, 0, 0], [0.15, 0, 0], [0.21, 0.184, 0], [-0.04, 0.1, 0], [-0.04, -0.1, 0], [0.19, -0.1, 0]])
    assert np.linalg.norm(frame[1] - frame[3]) < 1.15 * np.linalg.norm(frame[1] - frame[2])
    frames = frame + 0.002 * rng.normal(size=(100, 6, 3))
    assert found(frames, CHAIN, NO_BONDS) == {(0, 1), (1, 2), (0, 3), (0, 4), (1, 5)}


def test_rings_of_three_and_of_unequal_sides_are_closed(rng):
    """Cyclopropane, and five-membered rings whose longest bond is a quarter longer than others."""
    triangle = 0.15 / np.sqrt(3) * np.stack([np.cos(2.0944 * np.arange(3)), np.sin(2.0944 * np.arange(3))], axis=1)
    thiophene = np.array([[0, 0], [0.124, 0.118], [0.071, 0.244], [-0.071, 0.244], [-0.124, 0.118]])
    for flat, bonds in ((triangle, {(0, 1), (1, 2), (0, 2)}), (thiophene, {(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)})):
        frames = np.concatenate([flat, np.zeros((len(flat), 1))], axis=1) + 0.002 * rng.normal(size=(100, len(flat), 3))
        assert found(frames, CHAIN[: len(flat) - 1], NO_BONDS) == bonds


def test_what_is_known_is_not_looked_for(hexane):
    assert found(hexane[0], CHAIN[::-1, ::-1], CHAIN) == {(i, i + 1) for i in range(5)}
    assert found(hexane[0][:, :1], NO_BONDS, NO_BONDS) == set()


# -- statistics


def test_statistics_of_lengths_against_numpy(chiral):
    geometry = fit_local_geometry(*chiral)
    lengths = np.linalg.norm(np.diff(chiral[0][:, geometry.pairs], axis=2)[:, :, 0], axis=-1).astype(float)
    np.testing.assert_allclose(geometry.lengths.mean, lengths.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(geometry.lengths.spread, lengths.std(axis=0), rtol=1e-4)
    np.testing.assert_allclose(geometry.lengths.smallest, lengths.min(axis=0), rtol=1e-6)
    np.testing.assert_allclose(geometry.lengths.largest, lengths.max(axis=0), rtol=1e-6)


def test_statistics_of_volumes_against_numpy(chiral):
    frames, links = chiral
    geometry = fit_local_geometry(frames, links)
    assert geometry.centers.tolist() == [[2, 1, 3, 5]]
    volumes = np.linalg.det(frames[:, [1, 3, 5]].astype(float) - frames[:, [2]])
    np.testing.assert_allclose(geometry.volumes.mean, volumes.mean(), rtol=1e-5)
    np.testing.assert_allclose(geometry.volumes.spread, volumes.std(), rtol=1e-4)
    np.testing.assert_allclose(signed_volumes(frames, geometry.centers)[:, 0], volumes, atol=1e-8)


def test_moments_of_numbers_far_from_zero_lose_no_digits(rng):
    values = 1e3 + rng.exponential(size=(5000, 3))
    mean, spread, kurtosis, *_ = local_geometry._moments(lambda x: x[:, 0], values[:, None], 3)
    np.testing.assert_allclose(mean, values.mean(axis=0))
    np.testing.assert_allclose(spread, values.std(axis=0), rtol=1e-8)
    np.testing.assert_allclose(kurtosis, stats.kurtosis(values), rtol=1e-6)


def test_blocks_do_not_matter(chiral, monkeypatch):
    expected = fit_local_geometry(*chiral).to_dict()
    monkeypatch.setattr(local_geometry, "rows_together", lambda _: 7)
    found = fit_local_geometry(*chiral).to_dict()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9)


def test_evenly_spaced_frames_stand_for_very_many(chiral, monkeypatch):
    frames, links = chiral
    expected = fit_local_geometry(frames[::4], links).to_dict()
    monkeypatch.setattr(local_geometry, "_MOST_FRAMES", 99)
    found = fit_local_geometry(frames, links).to_dict()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_thermal_spread_against_numpy(chiral):
    frames = chiral[0].astype(float)
    expected = np.sqrt(((frames - frames.mean(axis=0)) ** 2).sum(axis=2).mean())
    np.testing.assert_allclose(fit_local_geometry(*chiral).thermal, expected, rtol=1e-6)


def test_usual_is_within_allowed_and_the_data_are_as_well(hexane):
    lengths = fit_local_geometry(*hexane).lengths
    assert lengths.held.any()
    assert not lengths.held.all()
    for low, high in (lengths.within(1.0).T, (lengths.smallest, lengths.largest)):
        assert np.all(lengths.allowed[:, 0] <= low)
        assert np.all(high <= lengths.allowed[:, 1])


# -- held or not


def test_a_stiff_bond_is_held_within_spreads_of_its_mean(rng):
    lengths = dimers(0.15 + 0.003 * rng.normal(size=5000)).lengths
    assert lengths.held.all()
    np.testing.assert_allclose(lengths.within(1.0), [[0.147, 0.153]], atol=5e-4)
    np.testing.assert_allclose(lengths.allowed, [[0.135, 0.165]], atol=2e-3)


def test_a_soft_bond_has_its_range(rng):
    values = rng.uniform(0.5, 1.5, size=200)
    lengths = dimers(values).lengths
    assert not lengths.held.any()
    np.testing.assert_allclose(lengths.within(1.0), [[values.min(), values.max()]])
    np.testing.assert_array_equal(lengths.allowed, lengths.within(1.0))


def test_two_states_are_no_mean_and_spread(rng):
    """One bond in fifty is cis: its ends are 0.28 nm apart, not 0.38; the spread alone would say held."""
    values = np.where(np.arange(1000) % 50, 0.38, 0.28) + 0.002 * rng.normal(size=1000)
    lengths = dimers(values).lengths
    assert (lengths.spread < 0.05 * lengths.mean).all()
    assert not lengths.held.any()
    np.testing.assert_allclose(lengths.allowed, [[values.min(), values.max()]])


ROUNDING = {
    "none": np.zeros(1000),
    "even": 1e-7 * np.linspace(-1, 1, 1000),
    "now and then": np.where(np.arange(1000) % 250, 0, 1e-6),
}


@pytest.mark.parametrize("case", ROUNDING)
def test_a_constrained_bond_is_held_however_a_file_rounds_it(case):
    lengths = dimers(0.1 + ROUNDING[case]).lengths
    assert lengths.held.all()
    np.testing.assert_allclose(lengths.within(1.0), [[0.1 - 2e-4, 0.1 + 2e-4]], rtol=1e-4)


def stars(heights, rng, noise=0.002):
    """A center above the plane of three neighbors by these heights."""
    angles = 2 * np.pi * np.arange(3) / 3
    frames = np.zeros((len(heights), 4, 3))
    frames[:, 1:, 0], frames[:, 1:, 1], frames[:, 0, 2] = 0.15 * np.cos(angles), 0.15 * np.sin(angles), heights
    return frames + noise * rng.normal(size=frames.shape)


CENTERS = {
    "chiral": (np.full(500, 0.05), -0.05 * 0.15**2 * 1.5 * np.sqrt(3)),
    "other hand": (np.full(500, -0.05), 0.05 * 0.15**2 * 1.5 * np.sqrt(3)),
    "flat": (np.zeros(500), 0.0),
}


@pytest.mark.parametrize("case", CENTERS)
def test_centers_keep_their_hand_or_their_plane(case, rng):
    heights, volume = CENTERS[case]
    geometry = fit_local_geometry(stars(heights, rng), STAR)
    assert geometry.centers.tolist() == [[0, 1, 2, 3]]
    assert geometry.volumes.held.all()
    np.testing.assert_allclose(geometry.volumes.mean, volume, atol=2e-5)


def test_a_center_that_flips_is_none(rng):
    flipping = stars(np.where(np.arange(500) % 2, 0.05, -0.05), rng)
    assert len(fit_local_geometry(flipping, STAR).centers) == 0


def test_two_neighbors_and_the_plane_have_no_centers(chiral, rng):
    assert len(fit_local_geometry(rng.normal(size=(5, 6, 3)), CHAIN).centers) == 0
    frames, links = chiral
    flat = fit_local_geometry(frames[..., :2], links)
    assert flat.centers.shape == (0, 4)
    assert signed_volumes(frames[..., :2], flat.centers).shape == (300, 0)
    assert flat.torsions.shape == (0, 4)


TORSIONS = {
    "trans": (lambda rng: 180 + 8 * rng.normal(size=2000), 0.0),
    "trans, now and then cis": (lambda rng: 180 * (rng.random(2000) < 0.9) + 8 * rng.normal(size=2000), 0.0),
    "cis, a little to one side": (lambda rng: 5 + 5 * rng.normal(size=2000), 0.15**3 * 0.75 * np.sin(np.pi / 36)),
}


@pytest.mark.parametrize("case", TORSIONS)
def test_torsions_that_stay_flat_are_held(case, butanes, rng):
    make, volume = TORSIONS[case]
    geometry = fit_local_geometry(butanes(make(rng)), CHAIN[:3])
    assert geometry.torsions.tolist() == [[0, 1, 2, 3]]
    assert geometry.twists.held.all()
    np.testing.assert_allclose(geometry.twists.mean, volume, atol=5e-5)


NOT_FLAT = {
    # The sine would not tell 60 degrees from 120; the distance of three bonds does.
    "one rotamer": lambda rng: 60 + 8 * rng.normal(size=2000),
    # Five spreads of its sine would be all there is.
    "loose": lambda rng: 180 + 15 * rng.normal(size=2000),
    "free": lambda rng: rng.uniform(0, 360, size=2000),
    "three rotamers": lambda rng: 60 + 120 * rng.integers(3, size=2000) + 8 * rng.normal(size=2000),
    "elsewhere now and then": lambda rng: 180 - 90 * (rng.random(2000) < 0.02) + 5 * rng.normal(size=2000),
}


@pytest.mark.parametrize("case", NOT_FLAT)
def test_torsions_that_are_not_flat_are_not_held(case, butanes, rng):
    assert len(fit_local_geometry(butanes(NOT_FLAT[case](rng)), CHAIN[:3]).torsions) == 0


def test_a_straight_chain_that_turns_is_not_flat(rng):
    """Its volumes are small whatever the torsions are: angles near 180 degrees."""
    bends = 0.2 * rng.normal(size=(500, 7, 3)) + np.array([1.0, 0, 0])
    frames = np.cumsum(np.concatenate([np.zeros((500, 1, 3)), bends], axis=1), axis=1)
    assert len(fit_local_geometry(frames, np.array([[i, i + 1] for i in range(7)])).torsions) == 0


def test_twists_against_numpy(butanes, rng):
    frames = butanes(180 + 8 * rng.normal(size=300))
    twists = fit_local_geometry(frames, CHAIN[:3]).twists
    volumes = np.linalg.det(np.diff(frames, axis=1))
    np.testing.assert_allclose([twists.mean[0], twists.spread[0]], [volumes.mean(), volumes.std()], rtol=1e-6)


def test_every_torsion_about_a_bond_is_looked_at(rng):
    """A double bond with two neighbors on each side has four, each of them once."""
    links = np.array([[0, 1], [0, 2], [0, 3], [1, 4], [1, 5]])
    flat = np.array([[0.0, 0], [1, 0], [-0.5, 0.9], [-0.5, -0.9], [1.5, 0.9], [1.5, -0.9]])
    frames = np.concatenate([flat, np.zeros((6, 1))], axis=1) + 0.01 * rng.normal(size=(50, 6, 3))
    torsions = fit_local_geometry(frames, links).torsions.tolist()
    assert sorted(torsions) == [[2, 0, 1, 4], [2, 0, 1, 5], [3, 0, 1, 4], [3, 0, 1, 5]]


# -- contacts


def test_kinds_are_masses_and_the_masses_around(rng):
    """Ethanol: hydrogens on oxygen differ from those on carbon, and the carbon beside the oxygen from the other."""
    masses = np.array([12.011, 12.011, 15.999, *[1.008] * 6])
    links = np.array([[0, 1], [1, 2], [0, 3], [0, 4], [0, 5], [1, 6], [1, 7], [2, 8]])
    kinds = fit_local_geometry(rng.normal(size=(3, 9, 3)), links, masses).kinds
    groups = {frozenset(np.flatnonzero(kinds == k).tolist()) for k in kinds}
    assert groups == {frozenset(s) for s in ({0}, {1}, {2}, {3, 4, 5, 6, 7}, {8})}


def test_closest_approaches_by_kinds_by_hand():
    """Light and heavy atoms without bonds, on a line: gaps of 1 between light ones, 1.2 mixed, 1.5 between heavy."""
    frames = on_a_line([[1.1, 1.3, 1.5], [1.0, 1.4, 1.7], [1.3, 1.2, 1.6]])
    geometry = fit_local_geometry(frames, NO_BONDS, np.array([1.0, 1.0, 16.0, 16.0]))
    np.testing.assert_allclose(geometry.closest, [[1.0, 1.2], [1.2, 1.5]], rtol=1e-6)


def test_near_pairs_are_no_contacts(rng):
    """The ends of a chain of five are four bonds apart, and its only contact."""
    frames = on_a_line(rng.uniform(0.9, 1.1, size=(50, 4)))
    geometry = fit_local_geometry(frames, CHAIN[:4])
    np.testing.assert_allclose(geometry.closest, [[frames[:, 4, 0].min()]])


def test_most_contacts_keep_more_than_the_closest(rng):
    """Two free atoms: 5 % of what is within 1.3 times the closest are closer; what is further off does not count."""
    gaps = np.concatenate([rng.uniform(1.0, 1.4, size=4000), rng.uniform(1.5, 1.9, size=4000)])
    geometry = fit_local_geometry(on_a_line(gaps[:, None]), NO_BONDS)
    np.testing.assert_allclose(geometry.touching, [[1.0 + 0.05 * 0.3]], atol=0.004)
    assert (geometry.touching > geometry.closest).all()


def test_coincident_atoms_leave_the_others_their_contacts(rng):
    """Two atoms of kinds of their own on one another, and two of a third kind that come to 0.3 of each other."""
    frames = np.zeros((300, 4, 3))
    frames[:, 1, 0], frames[:, 2:, 1] = np.linspace(0.3, 0.6, 300), 5
    geometry = fit_local_geometry(frames, NO_BONDS, np.array([1.0, 1.0, 2.0, 3.0]))
    np.testing.assert_allclose(geometry.closest[0, 0], 0.3)
    assert geometry.closest[1, 2] == geometry.touching[1, 2] == 0


@pytest.mark.parametrize("coincident", [range(300), [7]])
def test_atoms_may_coincide(coincident, rng):
    """In every frame, or in one that a first look misses: two kinds that may be anywhere have no usual distance."""
    frames = rng.normal(size=(300, 4, 3))
    frames[coincident, 3] = frames[coincident, 0]
    geometry = fit_local_geometry(frames, NO_BONDS)
    assert geometry.closest.tolist() == geometry.touching.tolist() == [[0.0]]


def test_kinds_that_never_meet_keep_the_distance_that_they_keep_from_others():
    """Two light atoms 1 apart, two heavy ones 1.5 apart, and 50 between them."""
    frames = np.repeat(on_a_line([[1.0, 50.0, 1.5]]), 3, axis=0)
    geometry = fit_local_geometry(frames, NO_BONDS, np.array([1.0, 1.0, 16.0, 16.0]))
    np.testing.assert_allclose(geometry.closest, [[1.0, 1.5], [1.5, 1.5]])
    np.testing.assert_allclose(geometry.touching, geometry.closest, rtol=0.02)


# -- limits of a search


def test_soft_bonds_may_not_collapse_even_if_the_data_saw_it():
    """Bonds that vary by half their length: a search keeps to what two of three frames keep."""
    gaps = np.random.default_rng(0).uniform(0.5, 1.5, size=(3000, 4))
    gaps[7, 2] = 0.01
    geometry = fit_local_geometry(on_a_line(gaps), CHAIN[:4])
    bonded = geometry.separation == 1
    np.testing.assert_allclose(geometry.lengths.allowed[bonded, 0].min(), 0.01, rtol=1e-6)
    # The smallest of four uniform numbers exceeds 0.5 + t with probability (1 - t)^4; at 2/3 that is t = 0.0964.
    np.testing.assert_allclose(geometry.strict().lengths.allowed[bonded, 0], 0.5964, atol=0.02)


def test_soft_particles_may_not_touch_even_if_the_data_saw_it():
    """Free atoms 1.00, 1.01, ... apart, and a pair on a bond that varies by half its length."""
    frames = np.zeros((91, 4, 2), np.float32)
    frames[:, 1, 0], frames[:, 2, 1] = 1 + 0.01 * np.arange(91), 5
    frames[:, 3] = frames[:, 2] + np.stack([2.5 + np.cos(np.arange(91.0)), np.zeros(91)], axis=1)
    geometry = fit_local_geometry(frames, np.array([[2, 3]]))
    free = geometry.kinds[0]
    np.testing.assert_allclose(geometry.closest[free, free], 1.0, rtol=1e-6)
    np.testing.assert_allclose(geometry.strict().closest, np.full((2, 2), 1.3), rtol=1e-5)
    assert (geometry.strict().touching >= geometry.strict().closest).all()


def test_a_search_in_stiff_data_has_the_limits_of_the_data(hexane):
    geometry = fit_local_geometry(*hexane)
    strict = geometry.strict()
    np.testing.assert_array_equal(strict.lengths.allowed, geometry.lengths.allowed)
    np.testing.assert_array_equal(strict.closest, geometry.closest)
    np.testing.assert_array_equal(strict.touching, geometry.touching)


def test_limits_of_a_search_are_never_empty():
    gaps = np.random.default_rng(0).uniform(0.5, 1.5, size=(200, 4))
    lengths = fit_local_geometry(on_a_line(gaps), CHAIN[:4]).strict().lengths
    assert np.all(lengths.allowed[:, 0] <= lengths.allowed[:, 1])


# -- small and empty systems


def test_one_atom_has_no_geometry():
    geometry = fit_local_geometry(np.zeros((5, 1, 3)), NO_BONDS)
    assert len(geometry.pairs) == len(geometry.lengths.mean) == len(geometry.centers) == len(geometry.torsions) == 0
    assert geometry.closest.tolist() == [[0.0]]


def test_two_bonded_atoms_have_no_contact(rng):
    geometry = dimers(rng.uniform(0.9, 1.1, size=20))
    assert pairs_of(geometry) == {(0, 1): 1}
    assert not geometry.closest.any()


def test_two_free_atoms_are_one_contact():
    geometry = fit_local_geometry(on_a_line([[1.0], [1.3], [1.6]]), NO_BONDS)
    assert len(geometry.pairs) == 0
    np.testing.assert_allclose(geometry.closest, [[1.0]])


def test_round_trip(chiral):
    geometry = fit_local_geometry(*chiral)
    plain = {name: np.asarray(value) for name, value in geometry.to_dict().items()}
    again = LocalGeometry.from_dict(plain)
    assert isinstance(again.thermal, float)
    for field in dataclasses.fields(geometry):
        one, other = getattr(geometry, field.name), getattr(again, field.name)
        if dataclasses.is_dataclass(one):
            one, other = dataclasses.astuple(one), dataclasses.astuple(other)
        np.testing.assert_array_equal(np.asarray(one, object), np.asarray(other, object))


def test_distances_by_hand():
    frame = np.array([[[0.0, 0, 0], [3, 4, 0], [0, 0, 2]]])
    np.testing.assert_allclose(distances(frame, np.array([[0, 1], [2, 0]])), [[5, 2]])
