"""Restored frames have the data's local geometry, and are nearly the nearest that do."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from mdvae import restoration
from mdvae.local_geometry import contacts, distances, fit_local_geometry, signed_volumes
from mdvae.restoration import Restoration, Restorer, restore_frames
from mdvae.validity import check

NO_BONDS = np.zeros((0, 2), int)
BUTANE = np.array([[0, 1], [1, 2], [2, 3]])


def geometry_of(data):
    return fit_local_geometry(*data)


def moved(a, b):
    """Root mean square displacement of each frame."""
    return np.sqrt(((a - b) ** 2).sum(axis=2).mean(axis=1))


def shaken(frames, size, seed=0):
    return (frames + size * np.random.default_rng(seed).normal(size=frames.shape)).astype(np.float32)


def free_atoms(closest, n_atoms=4, dim=3):
    """Geometry of atoms without bonds that come no closer than that."""
    frames = np.zeros((3, n_atoms, dim))
    frames[:, :, 0] = closest * np.arange(n_atoms)
    return fit_local_geometry(frames, NO_BONDS)


# -- what is right is left alone


def test_training_frames_stay_where_they_are(hexane):
    geometry = geometry_of(hexane)
    again = restore_frames(Restorer(geometry), hexane[0])
    assert check(geometry, again).valid.all()
    assert moved(again, hexane[0]).mean() < 0.01 * geometry.thermal


def test_frames_within_the_usual_range_come_out_as_they_went_in(hexane):
    pentane = hexane[0][:, :5], hexane[1][:4]
    geometry = geometry_of(pentane)
    lengths, apart = (distances(pentane[0], pairs) for pairs in (geometry.pairs, np.array([[0, 4]])))
    low, high = geometry.lengths.within(1.25).T
    # Soft lengths end 3 % inside their bounds, and so do contacts that are not nearer than usual.
    room = np.where(geometry.lengths.held, 0, 0.03) * (high - low)
    typical = ((lengths > low + room) & (lengths < high - room)).all(axis=1)
    typical &= (apart > max(geometry.touching.max(), 1.03 * geometry.closest.max())).all(axis=1)
    assert 10 < typical.sum() < len(typical) / 2
    np.testing.assert_allclose(restore_frames(Restorer(geometry), pentane[0])[typical], pentane[0][typical], atol=1e-6)


def test_a_floppy_chain_keeps_its_distributions(chain):
    """Distances of all pairs before and after, of frames with the noise that its likelihood would add."""
    geometry = fit_local_geometry(chain, np.array([[i, i + 1] for i in range(5)]))
    assert not geometry.lengths.held.any()
    pairs = np.stack(np.triu_indices(6, 1), axis=1)
    for frames in (chain, shaken(chain, 0.05)):
        before, after = (distances(x, pairs) for x in (frames, restore_frames(Restorer(geometry), frames)))
        assert max(map(stats.wasserstein_distance, before.T, after.T)) < 0.01


# -- what is wrong is set right


@pytest.mark.parametrize("noise", [0.01, 0.04])
def test_displaced_frames_become_valid(noise, hexane):
    geometry = geometry_of(hexane)
    raw = shaken(hexane[0], noise)
    restored = restore_frames(Restorer(geometry), raw)
    assert check(geometry, raw).valid.mean() < 0.3
    assert check(geometry, restored).valid.all()
    assert moved(restored, raw).mean() < noise * np.sqrt(3)


def test_averages_of_structures_become_structures(hexane):
    """What a decoder answers with that cannot decide: the mean of two frames, posed alike."""
    geometry = geometry_of(hexane)
    frames = hexane[0] - hexane[0].mean(axis=1, keepdims=True)
    turns = [Rotation.align_vectors(a, b)[0] for a, b in zip(frames[:200], frames[200:], strict=True)]
    posed = np.stack([turn.apply(b) for turn, b in zip(turns, frames[200:], strict=True)])
    raw = ((frames[:200] + posed) / 2).astype(np.float32)
    assert check(geometry, raw).valid.mean() < 0.5
    assert check(geometry, restore_frames(Restorer(geometry), raw)).valid.mean() > 0.98


def nearest(geometry, raw):
    """The nearest frame with lengths in the usual range and no contacts, by sequential quadratic programming."""
    n_atoms = len(raw)
    apart = np.array([(i, j) for i in range(n_atoms) for j in range(i + 4, n_atoms)])
    low, high = geometry.lengths.within(1.25).T
    limits = geometry.closest[geometry.kinds[apart[:, 0]], geometry.kinds[apart[:, 1]]]

    def room(x):
        frame = x.reshape(1, n_atoms, 3)
        near, far = distances(frame, geometry.pairs)[0], distances(frame, apart)[0]
        return np.concatenate([near - low, high - near, far - limits])

    options = {"maxiter": 500, "ftol": 1e-12}
    start = raw.astype(float).reshape(-1)
    constraints = {"type": "ineq", "fun": lambda x: 10 * room(x)}
    found = minimize(lambda x: 100 * np.sum((x - start) ** 2), start, constraints=constraints, options=options)
    assert found.success
    return found.x.reshape(raw.shape)


def test_restored_frames_are_nearly_the_nearest(hexane):
    geometry = geometry_of(hexane)
    raw = shaken(hexane[0][:20], 0.015)
    best = np.stack([nearest(geometry, frame) for frame in raw])
    ratio = moved(restore_frames(Restorer(geometry), raw), raw) / moved(best, raw)
    assert ratio.mean() < 1.1
    assert ratio.max() < 1.3
    # What the sweeps leave over is less than the margins.
    assert ratio.min() > 0.95


@pytest.mark.parametrize("size", [0.5, 0.1, 1e-3])
def test_a_collapsed_center_opens_by_no_more_than_it_has_to(size, chiral):
    """The original frame is not quite the nearest, but near it."""
    geometry = geometry_of(chiral)
    raw = chiral[0].copy()
    raw[:, [1, 3, 5]] = raw[:, [2]] + size * (raw[:, [1, 3, 5]] - raw[:, [2]])
    restored = restore_frames(Restorer(geometry), raw)
    assert check(geometry, restored).valid.all()
    assert moved(restored, raw).max() < 1.1 * moved(chiral[0], raw).max()


@pytest.mark.parametrize("depth", [0.5, 1.0, 2.0])
def test_an_inverted_center_comes_back(depth, chiral):
    """The center moved to the plane of its neighbors, into it, and to the other side."""
    geometry = geometry_of(chiral)
    raw = chiral[0].copy()
    raw[:, 2] += depth * (raw[:, [1, 3, 5]].mean(axis=1) - raw[:, 2])
    assert (check(geometry, raw).n_wrong == 1).all()
    restored = restore_frames(Restorer(geometry), raw)
    assert check(geometry, restored).valid.mean() > 0.99
    signs = np.sign(signed_volumes(restored, geometry.centers))
    assert (signs == np.sign(geometry.volumes.mean)).all()


def test_neighbors_that_changed_places_come_back(chiral):
    """Halfway two substituents of the center lie on one point; beyond, the center is inverted."""
    geometry = geometry_of(chiral)
    raw = chiral[0].copy()
    raw[:, 3], raw[:, 5] = 0.3 * raw[:, 3] + 0.7 * raw[:, 5], 0.7 * raw[:, 3] + 0.3 * raw[:, 5]
    assert (check(geometry, raw).n_wrong == 1).all()
    restored = restore_frames(Restorer(geometry), raw)
    assert (check(geometry, restored).n_wrong == 0).all()


def test_a_twisted_torsion_comes_back(butanes, rng):
    """To where it usually is, 1.25 spreads, and not all the way; what turns in the data stays."""
    data = butanes(180 + 8 * rng.normal(size=2000)) + 0.001 * rng.normal(size=(2000, 4, 3))
    geometry = fit_local_geometry(data, BUTANE)
    restored = restore_frames(Restorer(geometry), butanes([180, 130, 110, -110, 75]).astype(np.float32))
    off = 180 - np.abs(torsion_of(restored))
    assert off[0] < 1
    assert (off[1:] > 8).all()
    assert (off[1:] < 12).all()
    assert check(geometry, restored).valid.all()
    turning = fit_local_geometry(butanes(rng.uniform(0, 360, size=2000)), BUTANE)
    frames = butanes([130, 110, -110, 75]).astype(np.float32)
    np.testing.assert_allclose(restore_frames(Restorer(turning), frames), frames, atol=1e-6)


def torsion_of(frames):
    """In degrees, by another formula: the angle between the two planes."""
    a, b, c = np.moveaxis(np.diff(frames, axis=1), 1, 0)
    planes = np.cross(a, b), np.cross(b, c)
    return np.rad2deg(
        np.arccos(np.clip((planes[0] * planes[1]).sum(1) / np.prod(np.linalg.norm(planes, axis=2), 0), -1, 1))
    )


def test_overlapping_atoms_part_by_half_the_way_each():
    """To 3 % more than the closest approach; who is far away stays there."""
    raw = np.zeros((1, 4, 3), np.float32)
    raw[0, :, 0] = [0.0, 0.4, 3.0, 5.0]
    expected = raw.copy()
    expected[0, :, 0] = [-0.315, 0.715, 3.0, 5.0]
    np.testing.assert_allclose(restore_frames(Restorer(free_atoms(1.0)), raw), expected, atol=1e-4)


def test_a_crowd_is_parted(rng):
    geometry = free_atoms(1.0, 8)
    restored = restore_frames(Restorer(geometry), (0.5 * rng.normal(size=(30, 8, 3))).astype(np.float32))
    assert check(geometry, restored).valid.all()


def test_both_ways_to_aim(hexane):
    """At the bare limits of the judge less is moved than at the usual range."""
    geometry = geometry_of(hexane)
    raw = jnp.asarray(shaken(hexane[0][:50], 0.015))
    bare, usual = (moved(np.asarray(Restorer(geometry, bare=bare)(raw)), raw) for bare in (True, False))
    assert bare.mean() < usual.mean()


# -- symmetry and independence


CASES = {"hexane": ("hexane", 0.03), "crowd": (None, 0.5), "chiral": ("chiral", 0.03)}


@pytest.fixture(params=CASES)
def disturbed(request):
    """A geometry, and frames that have to move a lot."""
    name, size = CASES[request.param]
    if name is None:
        return free_atoms(1.0, 8), shaken(np.zeros((20, 8, 3)), size)
    data = request.getfixturevalue(name)
    return geometry_of(data), shaken(data[0][:20], size)


def test_the_center_is_kept(disturbed):
    geometry, raw = disturbed
    restored = restore_frames(Restorer(geometry), raw)
    assert moved(restored, raw).min() > 0.005
    np.testing.assert_allclose(restored.mean(axis=1), raw.mean(axis=1), atol=1e-6)


def test_restoring_turns_with_the_frame(disturbed):
    geometry, raw = disturbed
    turn = stats.special_ortho_group(3, seed=1).rvs().astype(np.float32)
    shift = np.float32([1.0, -2.0, 0.5])
    expected = restore_frames(Restorer(geometry), raw) @ turn.T + shift
    np.testing.assert_allclose(restore_frames(Restorer(geometry), raw @ turn.T + shift), expected, atol=2e-3)


def test_frames_of_a_stack_do_not_know_one_another(disturbed):
    geometry, raw = disturbed
    expected = restore_frames(Restorer(geometry), raw)[[3]]
    np.testing.assert_allclose(restore_frames(Restorer(geometry), raw[[3]]), expected, atol=1e-5)
    others = np.zeros_like(raw)
    others[5:], others[3] = np.nan, raw[3]
    np.testing.assert_allclose(restore_frames(Restorer(geometry), others)[[3]], expected, atol=1e-5)


# -- any number of frames


@pytest.mark.parametrize("n_frames", [0, 1, 9, 61])
def test_any_number_of_frames(n_frames, hexane, monkeypatch):
    """Stacks of 8 or 10 frames, the last one filled up, give what one large stack gives."""
    geometry = geometry_of(hexane)
    raw = shaken(hexane[0], 0.02)
    expected = restore_frames(Restorer(geometry), raw)[:n_frames]
    monkeypatch.setattr(restoration, "_SHEET", 60)
    found = restore_frames(Restorer(geometry), raw[:n_frames])
    assert found.shape == (n_frames, 6, 3)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_frames_that_are_not_finite_come_back_as_they_are(hexane):
    raw = hexane[0][:3].copy()
    raw[1, 2, 0], raw[2, 4] = np.nan, np.inf
    restored = restore_frames(Restorer(geometry_of(hexane)), raw)
    np.testing.assert_array_equal(restored[1:], raw[1:])
    assert np.isfinite(restored[0]).all()


def test_the_plane_is_restored_in_the_plane(chain):
    geometry = fit_local_geometry(chain, np.array([[i, i + 1] for i in range(5)]))
    raw = shaken(chain[:20], 0.3)
    restored = restore_frames(Restorer(geometry), raw)
    assert restored.shape == raw.shape
    assert check(geometry, raw).valid.mean() < 0.5
    assert check(geometry, restored).valid.all()


def test_a_system_without_contacts(hexane):
    """Three atoms have none."""
    frames = hexane[0][:, :3]
    geometry = fit_local_geometry(frames, np.array([[0, 1], [1, 2]]))
    restored = restore_frames(Restorer(geometry), shaken(frames, 0.02))
    assert check(geometry, restored).valid.all()


def test_nothing_to_restore():
    geometry = fit_local_geometry(np.zeros((3, 1, 3)), NO_BONDS)
    np.testing.assert_array_equal(
        restore_frames(Restorer(geometry), np.ones((2, 1, 3), np.float32)), np.ones((2, 1, 3))
    )


# -- gradients


def directional(function, frames, step):
    """Derivative along a random direction: by autodiff, and by central differences."""
    direction = jnp.asarray(np.random.default_rng(3).normal(size=frames.shape))
    ahead, behind = function(frames + step * direction), function(frames - step * direction)
    return jnp.sum(jax.grad(function)(frames) * direction), (ahead - behind) / (2 * step)


def weighed(restorer, frames):
    weights = jnp.sin(1.0 + jnp.arange(frames.size)).reshape(frames.shape)
    return jnp.sum(weights * restorer(frames))


def test_gradient_against_finite_differences(disturbed):
    geometry, raw = disturbed
    with jax.enable_x64(True):
        function = jax.jit(partial(weighed, Restorer(geometry)))
        found, expected = directional(function, jnp.asarray(raw[:2], jnp.float64), 1e-7)
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_gradient_of_the_strain_against_finite_differences(disturbed):
    geometry, raw = disturbed
    with jax.enable_x64(True):
        restorer = Restorer(geometry)
        function = jax.jit(lambda frames: jnp.sum(restorer.strain(frames)))
        frames = jnp.asarray(raw[:2], jnp.float64)
        assert function(frames) > 1
        found, expected = directional(function, frames, 1e-7)
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_gradients_are_finite_where_atoms_coincide(disturbed):
    geometry, raw = disturbed
    restorer = Restorer(geometry)
    gradient = jax.jit(jax.value_and_grad(lambda x: weighed(restorer, x) + jnp.sum(restorer.strain(x))))
    for frames in (np.zeros_like(raw[:2]), np.concatenate([raw[:2, :1], raw[:2, :-1]], axis=1)):
        value, slopes = gradient(frames)
        assert np.isfinite(value)
        assert np.isfinite(slopes).all()


# -- strain


def middle():
    """Bounds with room inside: a bond of 0.9 to 1.1, a third atom at 3 or more. And a frame in the middle of them."""
    frames = np.zeros((9, 3, 3), np.float32)
    frames[:, 1, 0] = np.linspace(0.9, 1.1, 9)
    frames[:, 2, 1] = 3
    frame = jnp.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 3.5, 0.0]])
    return fit_local_geometry(frames, np.array([[0, 1]])), frame


def test_strain_is_zero_inside_and_by_hand_outside():
    """Half the squares of relative violations, in units of 2 %."""
    geometry, frame = middle()
    restorer = Restorer(geometry, bare=True)
    cases = {
        0.0: frame,
        (0.1 / 1.1 / 0.02) ** 2 / 2: frame.at[1, 0].set(1.2),
        (0.2 / 0.9 / 0.02) ** 2 / 2: frame.at[1, 0].set(0.7),
        (0.3 / 3.0 / 0.02) ** 2 / 2: frame.at[2].set(jnp.array([-2.7, 0.0, 0.0])),
    }
    frames = jnp.stack(list(cases.values()))
    np.testing.assert_allclose(restorer.strain(frames), list(cases), rtol=1e-4)
    # The last one is too close, and its bond is right.
    np.testing.assert_allclose(restorer.bonded_strain(frames), [*list(cases)[:-1], 0], rtol=1e-4)


def without_torsions(geometry):
    nothing = {field.name: getattr(geometry.twists, field.name)[:0] for field in dataclasses.fields(geometry.twists)}
    return dataclasses.replace(geometry, torsions=geometry.torsions[:0], twists=type(geometry.twists)(**nothing))


def test_strain_of_a_torsion_by_hand(butanes, rng):
    """From the volume to the nearer bound, by the product of the bonds; lengths that are right add nothing."""
    geometry = fit_local_geometry(butanes(180 + 8 * rng.normal(size=2000)), BUTANE)
    frames = butanes([180, 140])
    volume = np.linalg.det(np.diff(frames[1], axis=0))
    beyond = np.abs(volume - np.clip(volume, *geometry.twists.within(1.25)[0]))
    lengths = dataclasses.replace(
        geometry.lengths,
        held=~geometry.lengths.held,
        smallest=0 * geometry.lengths.mean,
        largest=geometry.lengths.mean + 1,
    )
    strain = Restorer(dataclasses.replace(geometry, lengths=lengths)).bonded_strain(jnp.asarray(frames, jnp.float32))
    np.testing.assert_allclose(strain, [0, (beyond / 0.15**3 / 0.02) ** 2 / 2], rtol=1e-3, atol=1e-3)


def test_strain_of_a_center_by_hand(chiral):
    """Of mirrored frames: from the volume to the nearer bound, by the product of the mean bonds."""
    geometry = without_torsions(geometry_of(chiral))
    mirrored = jnp.asarray(chiral[0][:4]) * jnp.array([1.0, 1.0, -1.0])[None, None]
    volumes = signed_volumes(np.asarray(mirrored), geometry.centers)[:, 0]
    bound = geometry.volumes.allowed[0][np.argmin(np.abs(geometry.volumes.allowed[0]))]
    bonds = np.linalg.norm(chiral[0][:, [1, 3, 5]] - chiral[0][:, [2]], axis=-1).mean(axis=0)
    expected = ((bound - volumes) / bonds.prod() / 0.02) ** 2 / 2
    np.testing.assert_allclose(Restorer(geometry, bare=True).strain(mirrored), expected, rtol=1e-3)


def test_whatever_has_no_strain_is_valid(disturbed):
    """Of frames on the way from restored to raw."""
    geometry, raw = disturbed
    restored = restore_frames(Restorer(geometry), raw)
    way = np.concatenate([restored + t * (raw - restored) for t in (0.0, 0.05, 0.1, 0.3, 1.0)])
    relaxed = np.asarray(Restorer(geometry, bare=True).strain(jnp.asarray(way))) == 0
    assert 5 < relaxed.sum() < 95
    assert check(geometry, way).valid[relaxed].all()


# -- many atoms


def crowd(dim):
    """300 atoms on a shaken lattice, some 50 of them closer than 1 to others; and a geometry that forbids that."""
    side = 18 if dim == 2 else 7
    lattice = np.stack(np.meshgrid(*[np.arange(side)] * dim, indexing="ij"), axis=-1).reshape(-1, dim)[:300]
    frame = (1.2 * lattice + 0.15 * np.random.default_rng(0).normal(size=lattice.shape)).astype(np.float32)
    links = np.array([[i, i + 1] for i in range(0, 298, 2)])
    geometry = fit_local_geometry(np.stack([frame, frame]), links)
    return dataclasses.replace(geometry, closest=np.full_like(geometry.closest, 1.0)), frame


@pytest.mark.parametrize("dim", [2, 3])
def test_cells_find_the_contacts_that_a_tree_finds(dim):
    geometry, frame = crowd(dim)
    restorer = Restorer(geometry, bare=True)
    assert len(frame) > 9 * restoration._COLUMN
    partners, limits = (np.asarray(x)[..., 0] for x in restorer._contacts(jnp.asarray(frame)[..., None]))
    apart = np.linalg.norm(frame[:, None] - frame[partners], axis=-1)
    found = {(int(i), int(partners[i, k])) for i, k in np.argwhere(apart < limits)}
    expected = {tuple(pair) for pair in contacts(KDTree(frame), 1.0, geometry.codes).tolist()}
    assert 50 < len(expected) < 500
    assert found == expected | {pair[::-1] for pair in expected}


@pytest.mark.parametrize("dim", [2, 3])
def test_cells_restore_what_the_table_of_all_pairs_restores(dim, monkeypatch):
    geometry, frame = crowd(dim)
    by_cells = Restorer(geometry)(jnp.asarray(frame)[None])
    monkeypatch.setattr(restoration, "_COLUMN", len(frame))
    by_table = Restorer(geometry)(jnp.asarray(frame)[None])
    # Some are only seen in the table: those not near yet, that others push together.
    np.testing.assert_allclose(by_cells, by_table, atol=5e-3)
    assert not check(geometry, np.asarray(by_cells)).n_overlaps.any()


def test_tables_grow_with_the_atoms_and_not_with_their_square():
    sizes = []
    for n_atoms in (100, 200):
        frames = shaken(np.zeros((3, n_atoms, 3)) + np.arange(n_atoms)[:, None] * [0.1, 0.05, 0], 0.01)
        restorer = Restorer(fit_local_geometry(frames, np.array([[i, i + 1] for i in range(n_atoms - 1)])))
        sizes.append(sum(leaf.size for leaf in jax.tree.leaves(restorer)))
    assert sizes[1] < 2.1 * sizes[0]


# -- the record


def record(n=3, unit="nm"):
    moves = np.array([0.01, 0.02, 0.6])[:n]
    return Restoration(moves, thermal=0.1, valid=np.array([True, False, True])[:n], unit=unit)


def test_far_is_further_than_the_thermal_spread():
    assert record().far.tolist() == [False, False, True]


def test_the_record_in_words():
    text = str(record())
    assert text.startswith("3 structures restored: moved by 2.1 Å on average, 95 % by less than 5.42;")
    assert text.endswith("; 1 by more than the data's thermal spread (1); 2 valid")
    assert str(record(1)).startswith("1 structure restored")
    assert "moved by 0.21 reduced units" in str(record(unit="reduced"))
    assert str(record(0)) == "no structures to restore"
