import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdvae.validity import LocalGeometry, check, fit_local_geometry, strain

NO_BONDS = np.zeros((0, 2), int)
CHAIN = np.array([[0, 1], [1, 2], [2, 3], [3, 4]])


def zigzag(n_frames=40, seed=0, angle=0.0):
    """Five beads on a chain of unit bonds, at right angles up to a given swing; the bonds vary by 2 %."""
    rng = np.random.default_rng(seed)
    turns = np.where(np.arange(4) % 2, 1, -1) * np.pi / 4 + angle * rng.uniform(-1, 1, size=(n_frames, 4))
    lengths = rng.uniform(0.98, 1.02, size=(n_frames, 4))
    steps = lengths[..., None] * np.stack([np.cos(turns), np.sin(turns)], axis=-1)
    return np.concatenate([np.zeros((n_frames, 1, 2)), np.cumsum(steps, axis=1)], axis=1).astype(np.float32)


def pairs_of(geometry):
    return set(map(tuple, geometry.pairs.tolist()))


def one(frame):
    return np.asarray(frame, np.float32)[None]


# -- what is bounded


def test_bonds_and_stiff_pairs_near_them_are_bounded():
    """With the angles fixed all pairs up to three bonds apart are stiff, the ends (four apart) never."""
    geometry = fit_local_geometry(zigzag(), CHAIN)
    assert pairs_of(geometry) == {(i, j) for i in range(5) for j in range(i + 1, 5)} - {(0, 4)}


def test_floppy_pairs_are_contacts():
    """With angles that swing by half a right angle only the bonds are left."""
    geometry = fit_local_geometry(zigzag(angle=np.pi / 4), CHAIN)
    assert pairs_of(geometry) == set(map(tuple, CHAIN.tolist()))


def test_a_bond_is_bounded_however_floppy():
    frames = zigzag()
    frames[:, 4] += np.linspace(0, 3, len(frames))[:, None].astype(np.float32)
    assert (3, 4) in pairs_of(fit_local_geometry(frames, CHAIN))


def test_bounds_are_the_range_of_the_data():
    frames = zigzag()
    geometry = fit_local_geometry(frames, CHAIN)
    for (i, j), low, high in zip(geometry.pairs, geometry.shortest, geometry.longest, strict=True):
        distances = np.linalg.norm(frames[:, i] - frames[:, j], axis=1)
        np.testing.assert_allclose([low, high], [distances.min(), distances.max()], rtol=1e-6)


@pytest.mark.parametrize("change", [lambda b: b[:, ::-1], lambda b: b[::-1], lambda b: np.concatenate([b, b[:2]])])
def test_the_order_of_bonds_does_not_matter(change):
    expected, found = (fit_local_geometry(zigzag(), bonds) for bonds in (CHAIN, change(CHAIN)))
    assert pairs_of(found) == pairs_of(expected)
    assert found.contact == expected.contact


def test_a_ring_counts_bonds_the_short_way_round():
    """Ten beads: from 0 the bonds reach 7, 8, 9 as well as 1, 2, 3."""
    angles = 2 * np.pi * np.arange(10) / 10
    ring = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    bonds = np.array([[i, (i + 1) % 10] for i in range(10)])
    geometry = fit_local_geometry(np.repeat(one(ring), 3, axis=0), bonds)
    assert {j for i, j in pairs_of(geometry) if i == 0} == {1, 2, 3, 7, 8, 9}


# -- contacts


def test_hard_particles_come_no_closer_than_the_data_show():
    """Three atoms without bonds; the closest pair is 1.00, 1.01, ... apart, the others much more."""
    closest = 1 + 0.01 * np.arange(91)
    frames = np.zeros((91, 3, 2), np.float32)
    frames[:, 1, 0], frames[:, 2, 1] = closest, 5
    geometry = fit_local_geometry(frames, NO_BONDS)
    np.testing.assert_allclose(geometry.contact, 1.0, rtol=1e-5)
    assert check(geometry, frames).valid.all()
    assert not check(geometry, 0.99 * frames[:1]).valid.any()


def test_soft_bonds_make_the_limit_what_two_frames_in_three_keep():
    """The same atoms and a fourth on a bond that varies by half its length."""
    closest = 1 + 0.01 * np.arange(91)
    frames = np.zeros((91, 4, 2), np.float32)
    frames[:, 1, 0], frames[:, 2, 1] = closest, 5
    frames[:, 3] = frames[:, 2] + np.stack([2 + np.cos(np.arange(91.0)), np.zeros(91)], axis=1)
    geometry = fit_local_geometry(frames, np.array([[2, 3]]))
    np.testing.assert_allclose(geometry.contact, 1.3, rtol=1e-5)
    judged = check(geometry, frames)
    np.testing.assert_array_equal(judged.overlapping, closest < 1.2999)
    np.testing.assert_allclose(judged.closest, np.minimum(closest, 1.3), rtol=1e-5)


def test_bounded_pairs_are_no_contacts():
    """Bonds are closer than any contact, and not counted as one."""
    geometry = fit_local_geometry(zigzag(), CHAIN)
    ends = np.linalg.norm(zigzag()[:, 0] - zigzag()[:, 4], axis=1)
    np.testing.assert_allclose(geometry.contact, ends.min(), rtol=1e-5)


def test_watched_pairs_were_seen_near_the_limit():
    """Of four atoms on a line at 0, 1, 1.5 and 9: pairs within twice the limit of 0.5."""
    frames = np.repeat(one([[0, 0], [1, 0], [1.5, 0], [9, 0]]), 3, axis=0)
    geometry = fit_local_geometry(frames, NO_BONDS)
    np.testing.assert_allclose(geometry.contact, 0.5, rtol=1e-6)
    assert set(map(tuple, geometry.watched.tolist())) == {(0, 1), (1, 2)}


# -- judgment


def typical():
    """Bounds of the stiff chain, and a training frame with as free ends as any."""
    frames = zigzag()
    ends = np.linalg.norm(frames[:, 0] - frames[:, 4], axis=1)
    return fit_local_geometry(frames, CHAIN), frames[np.argmax(ends)]


def stretched(frame):
    frame[4] += 0.1 * (frame[4] - frame[3])


def squeezed(frame):
    frame[0] += 0.1 * (frame[1] - frame[0])


def folded(frame):
    """The last bond turned by a right angle: bonds are whole, but the 1-3 distance is that of a straight angle."""
    x, y = frame[4] - frame[3]
    frame[4] = frame[3] + [y, -x]


def not_a_number(frame):
    frame[2, 1] = np.nan


def infinite(frame):
    frame[2, 1] = np.inf


BROKEN = {"stretched": stretched, "squeezed": squeezed, "angle": folded, "nan": not_a_number, "infinite": infinite}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_found(case):
    geometry, frame = typical()
    altered = frame.copy()
    BROKEN[case](altered)
    judged = check(geometry, np.stack([frame, altered, frame]))
    assert judged.valid.tolist() == [True, False, True]
    assert (judged.n_broken > 0).tolist() == [False, True, False]


def test_every_pair_of_a_frame_that_is_not_finite_is_broken():
    geometry, frame = typical()
    not_a_number(frame := frame.copy())
    judged = check(geometry, frame[None])
    assert judged.n_broken.tolist() == [len(geometry.pairs)]
    assert judged.closest.tolist() == [0.0]


def test_training_frames_of_a_stiff_system_are_valid():
    frames = zigzag(200, angle=0.2)
    assert check(fit_local_geometry(frames, CHAIN), frames).valid.all()


def test_a_clash_is_found_where_bonds_are_whole():
    """The chain swung round until its ends touch."""
    frames = zigzag(angle=np.pi / 4)
    geometry = fit_local_geometry(frames, CHAIN)
    turns = np.cumsum([0, np.pi / 2, np.pi / 2, np.pi / 2])
    square = np.concatenate([np.zeros((1, 2)), np.cumsum(np.stack([np.cos(turns), np.sin(turns)], axis=1), axis=0)])
    judged = check(geometry, one(square))
    assert judged.n_broken.tolist() == [0]
    assert judged.overlapping.tolist() == [True]
    np.testing.assert_allclose(judged.closest, 0, atol=1e-6)
    assert not judged.valid[0]


def test_the_judgment_does_not_see_where_the_frame_lies(rng):
    frames = zigzag(angle=0.2)
    geometry = fit_local_geometry(frames, CHAIN)
    some = zigzag(30, seed=9, angle=0.25)
    turned = some @ np.array([[0.6, -0.8], [0.8, 0.6]], np.float32) + np.float32(3)
    judged, again = check(geometry, some), check(geometry, turned)
    assert 0 < judged.valid.mean() < 1
    np.testing.assert_array_equal(judged.n_broken, again.n_broken)


# -- small and empty systems


def test_without_bonds_there_are_only_contacts():
    frames = zigzag()
    geometry = fit_local_geometry(frames, NO_BONDS)
    assert len(geometry.pairs) == len(geometry.shortest) == len(geometry.longest) == 0
    assert check(geometry, frames).n_broken.max() == 0
    assert not check(geometry, 0.5 * frames).valid.any()
    bad = frames[:1].copy()
    not_a_number(bad[0])
    assert not check(geometry, bad).valid[0]


def test_two_bonded_atoms_have_no_contact():
    frames = np.zeros((11, 2, 3), np.float32)
    frames[:, 1, 0] = np.linspace(0.9, 1.1, 11)
    geometry = fit_local_geometry(frames, np.array([[0, 1]]))
    assert (geometry.contact, len(geometry.watched)) == (0.0, 0)
    assert check(geometry, frames).valid.all()
    assert check(geometry, one([[0, 0, 0], [1.2, 0, 0]])).n_broken.tolist() == [1]
    assert check(geometry, one([[0, 0, 0], [0, 0, 0]])).n_broken.tolist() == [1]


def test_two_free_atoms_are_one_contact():
    frames = np.zeros((4, 2, 3), np.float32)
    frames[:, 1, 0] = [1.0, 1.3, 1.6, 1.9]
    geometry = fit_local_geometry(frames, NO_BONDS)
    np.testing.assert_allclose(geometry.contact, 1.0, rtol=1e-6)
    assert check(geometry, np.array([0.9, 1.0], np.float32)[:, None, None] * frames[:1]).valid.tolist() == [False, True]


def test_one_atom_is_always_valid():
    frames = np.zeros((5, 1, 3), np.float32)
    assert check(fit_local_geometry(frames, NO_BONDS), frames).valid.all()


def test_round_trip():
    geometry = fit_local_geometry(zigzag(), CHAIN)
    again = LocalGeometry.from_dict(geometry.to_dict() | {"contact": np.array(geometry.contact)})
    assert isinstance(again.contact, float)
    for name, value in geometry.to_dict().items():
        np.testing.assert_array_equal(getattr(again, name), value)


# -- strain


def middle():
    """Bounds with room inside: a bond of 0.9 to 1.1, a third atom at 3 or more. And a frame in the middle of them."""
    frames = np.zeros((9, 3, 3), np.float32)
    frames[:, 1, 0] = np.linspace(0.9, 1.1, 9)
    frames[:, 2, 1] = 3
    frame = jnp.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 3.5, 0.0]])
    return fit_local_geometry(frames, np.array([[0, 1]])), frame


def test_strain_is_zero_inside_and_by_hand_outside():
    geometry, frame = middle()
    np.testing.assert_allclose(geometry.contact, 3.0, rtol=1e-6)
    assert strain(geometry, frame) == 0
    # Violations as shares of their bounds, in units of a tenth.
    longer = frame.at[1, 0].set(1.2)
    np.testing.assert_allclose(strain(geometry, longer, margin=0.0), (0.1 / 0.11) ** 2, rtol=1e-4)
    shorter = frame.at[1, 0].set(0.7)
    np.testing.assert_allclose(strain(geometry, shorter, margin=0.0), (0.2 / 0.09) ** 2, rtol=1e-4)
    closer = frame.at[2].set(jnp.array([-2.7, 0.0, 0.0]))
    np.testing.assert_allclose(strain(geometry, closer, margin=0.0), (0.3 / 0.3) ** 2, rtol=1e-5)


def test_the_margin_pulls_bounds_inward():
    """By a share of the range of a bond, and of the limit of a contact."""
    geometry, frame = middle()
    for near_the_edge in (frame.at[1, 0].set(1.099), frame.at[1, 0].set(0.901), frame.at[2, 1].set(3.01)):
        assert strain(geometry, near_the_edge, margin=0.0) == 0
        assert strain(geometry, near_the_edge, margin=0.01) > 0
    for inside in (frame.at[1, 0].set(1.097), frame.at[1, 0].set(0.903), frame.at[2, 1].set(3.04)):
        assert strain(geometry, inside, margin=0.01) == 0


def test_whatever_has_no_strain_is_valid(rng):
    geometry, frame = middle()
    shaken = np.asarray(frame) + 0.05 * rng.normal(size=(200, 3, 3)).astype(np.float32)
    relaxed = np.asarray(jax.jit(jax.vmap(lambda x: strain(geometry, x)))(shaken)) == 0
    valid = check(geometry, shaken).valid
    assert 10 < relaxed.sum() < 190
    assert valid[relaxed].all()


def test_gradient_of_the_strain_against_finite_differences(rng):
    frames = zigzag(angle=0.2)
    geometry = fit_local_geometry(frames, CHAIN)
    frame = jnp.asarray(0.8 * frames[3] + 0.1 * rng.normal(size=frames[3].shape), jnp.float32)
    with jax.enable_x64(True):
        frame = jnp.asarray(frame, jnp.float64)
        value_and_gradient = jax.jit(jax.value_and_grad(lambda x: strain(geometry, x)))
        value, gradient = value_and_gradient(frame)
        assert value > 1
        for i in np.ndindex(*frame.shape):
            step = np.zeros(frame.shape)
            step[i] = 1e-6
            difference = value_and_gradient(frame + step)[0] - value_and_gradient(frame - step)[0]
            np.testing.assert_allclose(gradient[i], difference / 2e-6, rtol=1e-5, atol=1e-5)


SYSTEMS = {"chain": CHAIN, "no bonds": NO_BONDS}


@pytest.mark.parametrize("case", SYSTEMS)
def test_gradient_is_finite_where_atoms_coincide(case):
    geometry = fit_local_geometry(zigzag(), SYSTEMS[case])
    collapsed = jnp.zeros((5, 2))
    value, gradient = jax.jit(jax.value_and_grad(lambda x: strain(geometry, x)))(collapsed)
    assert value > 0
    assert np.isfinite(gradient).all()


def test_soft_bonds_may_not_collapse_even_if_the_data_saw_it():
    """Bonds that vary by half their length: the bound is what two of three frames keep, not the one collapse."""
    rng = np.random.default_rng(0)
    lengths = rng.uniform(0.5, 1.5, size=(3000, 4))
    lengths[7, 2] = 0.01
    frames = np.concatenate([np.zeros((3000, 1)), np.cumsum(lengths, axis=1)], axis=1)
    frames = np.stack([frames, np.zeros_like(frames)], axis=-1).astype(np.float32)
    geometry = fit_local_geometry(frames, CHAIN)
    shortest = geometry.shortest[np.isin(geometry.pairs[:, 1] - geometry.pairs[:, 0], 1)]
    # The smallest of four uniform numbers exceeds 0.5 + t with probability (1 - t)^4; at 2/3 that is t = 0.0964.
    np.testing.assert_allclose(shortest, 0.5964, atol=0.02)
    assert not check(geometry, frames[7:8]).valid.any()
