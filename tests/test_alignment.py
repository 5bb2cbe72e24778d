from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest

from mdvae._chunks import map_rows
from mdvae.alignment import _steps, count_jumps, find_jumps, fit_alignment, pose

KINDS = ["superposition", "principal", "none"]
DIMS = [2, 3]
N_ATOMS = 7
WEIGHTS = np.linspace(1, 16, N_ATOMS).astype(np.float32)


def turn(dim, rng):
    matrix, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    matrix[:, 0] *= np.linalg.det(matrix)
    return matrix


def about(angle, dim):
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.eye(dim)
    matrix[:2, :2] = [[c, -s], [s, c]]
    return matrix


@cache
def frames(dim, n_frames=50):
    """Fluctuations about an oblong shape, each in a pose of its own."""
    rng = np.random.default_rng(dim)
    shape = rng.normal(size=(N_ATOMS, dim)) * [1.0, 0.6, 0.3][:dim]
    shapes = shape + 0.05 * rng.normal(size=(n_frames, N_ATOMS, dim))
    return np.stack([x @ turn(dim, rng).T + rng.normal(size=dim) for x in shapes]).astype(np.float32)


@cache
def fitted(kind, dim):
    return fit_alignment(kind, frames(dim), WEIGHTS)


def posed(alignment, coordinates):
    result = np.array(coordinates, np.float32)
    pose(alignment, result)
    return result


def gyration_tensors(coordinates):
    x = coordinates.astype(np.float64)
    return np.einsum("a,fai,faj->fij", WEIGHTS / WEIGHTS.sum(), x, x)


def assert_diagonal_descending(tensors):
    moments = np.diagonal(tensors, axis1=1, axis2=2)
    np.testing.assert_allclose(tensors, moments[:, None] * np.eye(tensors.shape[1]), atol=2e-6)
    assert (np.diff(moments, axis=1) < 0).all()


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_pose_is_the_frame_moved_rigidly_onto_its_center_of_mass(kind, dim):
    x, y = frames(dim).astype(np.float64), posed(fitted(kind, dim), frames(dim))
    np.testing.assert_allclose(np.average(y, axis=1, weights=WEIGHTS), 0, atol=2e-6)
    for before, after in zip(x, y, strict=True):
        before = before - np.average(before, axis=0, weights=WEIGHTS)
        rotation = np.linalg.lstsq(before, after, rcond=None)[0]
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(dim), atol=1e-5)
        np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-5)  # never a mirror image
        np.testing.assert_allclose(before @ rotation, after, atol=2e-6)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kind", ["superposition", "principal"])
def test_pose_is_invariant_under_rigid_motion(kind, dim, rng):
    x = frames(dim).astype(np.float64)
    moved = np.stack([frame @ turn(dim, rng).T + 3 * rng.normal(size=dim) for frame in x])
    np.testing.assert_allclose(posed(fitted(kind, dim), moved), posed(fitted(kind, dim), x), atol=2e-5)


@pytest.mark.parametrize("dim", DIMS)
def test_unaligned_frames_lose_their_place_but_not_their_turn(dim, rng):
    x, matrix = frames(dim).astype(np.float64), turn(dim, rng)
    expected = posed(fitted("none", dim), x) @ matrix.T
    np.testing.assert_allclose(posed(fitted("none", dim), x @ matrix.T + 1.5), expected, atol=3e-6)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_posing_twice_is_posing_once(kind, dim):
    """As exactly as a frame's own gap lets its turn be known."""
    alignment = fitted(kind, dim)
    once = posed(alignment, frames(dim))
    moved = np.abs(posed(alignment, once) - once).max(axis=(1, 2))
    gaps = map_rows(alignment.gap, once.astype(np.float32))
    assert (moved <= 2 * np.finfo(np.float32).eps * np.abs(once).max(axis=(1, 2)) / gaps).all()


@pytest.mark.parametrize("dim", DIMS)
def test_superposition_lays_the_mean_structure_along_its_principal_axes(dim):
    alignment = fitted("superposition", dim)
    assert_diagonal_descending(gyration_tensors(np.asarray(alignment.reference)[None]))
    mean = posed(alignment, frames(dim)).mean(axis=0)
    np.testing.assert_allclose(mean, alignment.reference, atol=2e-4)
    assert_diagonal_descending(np.round(gyration_tensors(mean[None]), 4))


@pytest.mark.parametrize("dim", DIMS)
def test_principal_lays_every_frame_along_its_own_axes(dim):
    assert_diagonal_descending(gyration_tensors(posed(fitted("principal", dim), frames(dim))))


@pytest.mark.parametrize("dim", DIMS)
def test_superposition_brings_frames_nearer_to_their_mean_than_principal(dim):
    """It minimizes the weighted squared distance; the other does not."""

    def spread(kind):
        y = posed(fitted(kind, dim), frames(dim))
        return np.einsum("a,fad->", WEIGHTS, (y - y.mean(axis=0)) ** 2)

    assert spread("superposition") < spread("principal")


@pytest.mark.parametrize("kind", ["superposition", "principal"])
def test_fit_does_not_depend_on_the_poses_of_the_input(kind, rng):
    """Up to a proper flip, which nothing fixes."""
    moved = np.stack([frame @ turn(3, rng).T + rng.normal(size=3) for frame in frames(3)]).astype(np.float32)
    other = np.asarray(fit_alignment(kind, moved, WEIGHTS).reference)
    reference = np.asarray(fitted(kind, 3).reference)
    flips = [np.array(f) for f in ([1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1])]
    assert min(np.abs(other * flip - reference).max() for flip in flips) < 1e-3


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_fifty_nanometers_from_the_origin_nothing_is_lost(kind, dim):
    far = (frames(dim) + np.float32(50)).astype(np.float32)
    near = (far.astype(np.float64) - 50).astype(np.float32)  # exactly the same shapes, at the origin
    np.testing.assert_allclose(posed(fitted(kind, dim), far), posed(fitted(kind, dim), near), atol=3e-6)
    if kind == "superposition":
        refitted = fit_alignment(kind, far, WEIGHTS)
        np.testing.assert_allclose(refitted.reference, fit_alignment(kind, near, WEIGHTS).reference, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_pose_is_bit_identical_however_the_frames_are_cut(kind):
    """Also across the border of the chunks that go to the device, and when it is done again."""
    many = np.tile(frames(3), (90, 1, 1))[:4200]
    whole = posed(fitted(kind, 3), many)
    np.testing.assert_array_equal(posed(fitted(kind, 3), many), whole)
    for cut in (1, 7, 4097):
        parts = [posed(fitted(kind, 3), part) for part in (many[:cut], many[cut:])]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("kind", ["superposition", "principal"])
def test_fit_is_bit_identical_when_repeated(kind):
    again = fit_alignment(kind, frames(3).copy(), WEIGHTS)
    np.testing.assert_array_equal(again.reference, fitted(kind, 3).reference)


def test_no_frames_are_posed_in_no_time():
    empty = np.zeros((0, N_ATOMS, 3), np.float32)
    pose(fitted("superposition", 3), empty)
    assert empty.shape == (0, N_ATOMS, 3)


def test_fit_leaves_the_frames_alone():
    x = frames(3).copy()
    fit_alignment("superposition", x, WEIGHTS)
    np.testing.assert_array_equal(x, frames(3))


# -- jumps and gaps


def smooth(n_frames=60):
    """A slowly bending shape, posed."""
    phase = np.linspace(0, 2 * np.pi, n_frames)[:, None, None]
    rng = np.random.default_rng(5)
    shape, bend = rng.normal(size=(2, N_ATOMS, 3)) * [1.0, 0.6, 0.3]
    return posed(fitted("superposition", 3), shape + 0.1 * np.sin(phase) * bend)


FLIP = np.float32([-1, -1, 1])


def test_a_smooth_path_makes_no_jumps():
    found = count_jumps(fitted("superposition", 3), smooth(), [60])
    assert (found.n, found.largest) == (0, 0.0)


def test_a_planted_flip_is_found_once_and_measured():
    path = smooth()
    path[20:] *= FLIP
    found = count_jumps(fitted("superposition", 3), path, [60])
    step = np.average(np.sum((path[20] - path[19]) ** 2, axis=1), weights=WEIGHTS) ** 0.5
    assert found.n == 1
    np.testing.assert_allclose(found.largest, step, rtol=1e-5)


def test_a_flip_there_and_back_is_two_jumps():
    path = smooth()
    path[20] *= FLIP
    assert count_jumps(fitted("superposition", 3), path, [60]).n == 2


def test_a_flip_between_two_trajectories_is_none():
    path = smooth()
    path[20:] *= FLIP
    assert count_jumps(fitted("superposition", 3), path, [20, 40]).n == 0
    assert count_jumps(fitted("superposition", 3), path, [19, 41]).n == 1
    assert count_jumps(fitted("superposition", 3), path, [20, 0, 1, 39]).n == 0


def test_jumps_are_found_where_they_were_planted():
    alignment, path = fitted("superposition", 3), smooth()
    path[20] *= FLIP
    path[40:] *= FLIP
    np.testing.assert_array_equal(find_jumps(alignment, path, [60]), [19, 20, 39])
    np.testing.assert_array_equal(find_jumps(alignment, path, [20, 0, 1, 39]), [39])
    assert find_jumps(alignment, smooth(), [60]).shape == (0,)
    assert find_jumps(alignment, path[:0], [0]).shape == (0,)


def test_jumps_are_found_whatever_the_chunks():
    """More of them than one chunk holds, over more frames than one block of suspects holds."""
    path = np.tile(smooth(), (300, 1, 1))
    path[1::2] *= FLIP
    found = find_jumps(fitted("superposition", 3), path, [5000, 13000])
    np.testing.assert_array_equal(found, np.setdiff1d(np.arange(17999), [4999]))
    assert count_jumps(fitted("superposition", 3), path, [5000, 13000]).n == len(found)


@pytest.mark.parametrize(("degrees", "expected"), [(20, 0), (45, 1)])
def test_a_turn_counts_from_about_thirty_degrees(degrees, expected):
    """In the plane a turn by t moves a frame by 2 sin(t / 2) of its size; half its size is 29 degrees."""
    frame = posed(fitted("none", 2), frames(2)[:1])
    path = np.concatenate([frame, frame @ about(np.radians(degrees), 2).T.astype(np.float32)])
    assert count_jumps(fitted("none", 2), path, [2]).n == expected


PAIRS = {
    "as they are": lambda after: after,
    "mirrored": lambda after: after * np.where(np.arange(after.shape[2]) == 0, -1, 1),
    "nearly the same": lambda after: frames(after.shape[2]) + 1e-3 * after,
    "on a line": lambda after: after * np.eye(after.shape[2])[0],
    "on a point": lambda after: 0 * after,
}


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("case", PAIRS)
def test_a_smallest_step_is_what_no_proper_rotation_leaves(case, dim):
    before, after = (posed(fitted("none", dim), x) for x in (frames(dim), PAIRS[case](frames(dim)[::-1].copy())))
    shares = WEIGHTS.astype(np.float64) / WEIGHTS.sum()
    u, values, vt = np.linalg.svd(np.einsum("a,nai,naj->nij", shares, before, after, dtype=np.float64))
    values[:, -1] *= np.sign(np.linalg.det(u @ vt))
    step, size, other = (np.sum(x.astype(np.float64) ** 2, axis=2) @ shares for x in (after - before, before, after))
    best = np.sqrt(np.maximum(size + other - 2 * values.sum(axis=1), 0))
    for found, expected in zip(
        _steps(jnp.asarray(WEIGHTS), before, after), (np.sqrt(step), best, np.sqrt(size)), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-3 * np.sqrt(size).max())


def test_a_large_change_of_shape_is_no_jump():
    """Only what a rotation could undo is the pose's doing."""
    frame = posed(fitted("superposition", 3), frames(3)[:1])
    assert count_jumps(fitted("superposition", 3), np.concatenate([frame, 3 * frame]), [2]).n == 0


def test_principal_axes_jump_where_moments_cross_and_superposition_does_not():
    """A rectangle that becomes wider than it is high."""
    width = np.linspace(0.7, 1.3, 41)[:, None, None]
    corners = np.float64([[1, 1], [-1, 1], [1, -1], [-1, -1], [0.3, 0], [-0.3, 0]])
    path = (corners * np.concatenate([width, 2 - width], axis=2)).astype(np.float32)
    weights = np.ones(6, np.float32)
    jumps, gaps = {}, {}
    for kind in ("superposition", "principal"):
        alignment = fit_alignment(kind, path, weights)
        jumps[kind] = count_jumps(alignment, posed(alignment, path), [41]).n
        gaps[kind] = pose(alignment, path.copy())
    assert jumps == {"superposition": 0, "principal": 1}
    assert gaps["principal"] < 0.03
    assert gaps["superposition"] > 0.9


def test_posing_tells_the_gap_of_the_worst_frame():
    alignment = fitted("superposition", 3)
    line = np.outer(np.arange(N_ATOMS), [1.0, 2.0, -1.0])[None].astype(np.float32)
    usual = pose(alignment, frames(3))
    assert usual > 0.01
    np.testing.assert_allclose(usual, min(pose(alignment, frame[None].copy()) for frame in frames(3)), rtol=1e-5)
    worst = pose(alignment, np.concatenate([frames(3), line]))
    np.testing.assert_allclose(worst, 0, atol=1e-5)
    assert pose(fitted("none", 3), line) == 1


# -- refusals

POINT = np.full((4, N_ATOMS, 3), 2.5, np.float32)
LINE = np.outer(np.linspace(-1, 1, N_ATOMS) ** 3, [0.6, 0.48, 0.64])
LINES = np.stack([LINE @ turn(3, np.random.default_rng(i)).T for i in range(4)])
REFUSED = {
    "one point": (POINT, "one point in every frame"),
    "one point, far away": (POINT + 50, "one point in every frame"),
    "one point in the plane": (POINT[:, :, :2], "one point in every frame"),
    "one atom": (np.float32([[[1, 2, 3]], [[2, 3, 4]]]), "one point in every frame"),
    "line": (LINES, "one line in every frame.*select more atoms, or use alignment='none'"),
    "line, far away": (LINES + 50, "one line in every frame"),
    "two atoms": (LINES[:, [0, -1]], "one line in every frame"),
}


@pytest.mark.parametrize("kind", ["superposition", "principal"])
@pytest.mark.parametrize("case", REFUSED)
def test_frames_without_orientation_are_refused(case, kind):
    coordinates, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        fit_alignment(kind, coordinates.astype(np.float32), np.ones(coordinates.shape[1], np.float32))


@pytest.mark.parametrize("case", REFUSED)
def test_without_alignment_they_are_welcome(case):
    coordinates = REFUSED[case][0].astype(np.float32)
    alignment = fit_alignment("none", coordinates, np.ones(coordinates.shape[1], np.float32))
    assert np.isfinite(alignment(jnp.asarray(coordinates[0]))).all()


ALLOWED = {
    "a line in the plane": LINES[:, :, :2],
    "a line in one frame of four": np.concatenate([LINES[:3], np.random.default_rng(0).normal(size=(1, N_ATOMS, 3))]),
    "flat": np.random.default_rng(0).normal(size=(4, N_ATOMS, 3)) * [1, 1, 0],
    "nearly a line": LINES + 1e-3 * np.random.default_rng(0).normal(size=LINES.shape),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_frames_with_an_orientation_are_not_refused(case):
    coordinates = ALLOWED[case].astype(np.float32)
    alignment = fit_alignment("superposition", coordinates, np.ones(N_ATOMS, np.float32))
    assert np.isfinite(posed(alignment, coordinates)).all()


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"alignment='kabsch' is not known; expected 'superposition'"):
        fit_alignment("kabsch", frames(3), WEIGHTS)
