"""The compiled pass of `mdvae._posing`, and that nothing needs it."""

import os
import subprocess
import sys
from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mdvae.alignment
from mdvae._compiled import by_numba
from mdvae.alignment import PrincipalAxes, Superposition, Unaligned, pose

KINDS = ["superposition", "principal", "none"]
DIMS = [2, 3]
EPS = float(np.finfo(np.float32).eps)


def alignment(kind, weights, reference):
    weights, reference = (jnp.asarray(np.asarray(x, np.float32)) for x in (weights, reference))
    made = {"superposition": Superposition, "principal": PrincipalAxes}
    return made[kind](weights, reference) if kind in made else Unaligned(weights)


def posed(one, coordinates):
    result = np.array(coordinates, np.float32)
    gap = pose(one, result)
    return result, gap


def posed_without(one, coordinates):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mdvae.alignment, "_numba_posing", lambda: None)
        return posed(one, coordinates)


def exact(kind, frames, weights, reference):
    """The textbook's way in float64: NumPy's singular values and eigenvectors; also each frame's gap."""
    x, w, r = (np.asarray(value, np.float32).astype(np.float64) for value in (frames, weights, reference))
    x = x - (np.einsum("a,fad->fd", w, x) / w.sum())[:, None]
    if kind == "none":
        return x, np.ones(len(x))
    if kind == "superposition":
        u, s, vt = np.linalg.svd(np.einsum("a,fai,aj->fij", w, x, r))
        s[:, -1] *= np.linalg.det(u @ vt)
        u[:, :, -1] *= np.linalg.det(u @ vt)[:, None]
        scale = np.sqrt(np.einsum("a,fad->f", w, x**2) * np.einsum("a,ad->", w, r**2))
        return x @ u @ vt, np.sum(s[:, -2:], axis=1) / scale
    moments, axes = np.linalg.eigh(np.einsum("a,fai,faj->fij", w, x, x))
    moments, axes = moments[:, ::-1], axes[:, :, ::-1]
    axes[:, :, -1] *= np.linalg.det(axes)[:, None]
    laid = x @ axes
    flips = [f for f in np.ndindex(*(2,) * x.shape[2]) if sum(f) % 2 == 0]
    flipped = np.stack([laid * (1.0 - 2.0 * np.array(f)) for f in flips])
    nearest = np.argmax(np.einsum("a,cfad,ad->cf", w, flipped, r), axis=0)
    return flipped[nearest, np.arange(len(x))], np.min(moments[:, :-1] - moments[:, 1:], axis=1) / moments.sum(axis=1)


def turn(dim, rng):
    matrix, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    matrix[:, 0] *= np.linalg.det(matrix)
    return matrix


def system(dim, n_frames, n_atoms, seed=0, spread=(1.0, 0.6, 0.3), noise=0.05, far=1.0):
    """Frames of one shape that shakes, tumbles and drifts, weights, and the shape along its axes, centered."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(1, 16, n_atoms).astype(np.float32)
    shape = rng.normal(size=(n_atoms, dim)) * np.array(spread)[:dim]
    shape -= weights @ shape / weights.sum()
    shape = shape @ np.linalg.eigh((weights[:, None] * shape).T @ shape)[1][:, ::-1]
    shaken = shape + noise * rng.normal(size=(n_frames, n_atoms, dim))
    frames = np.stack([x @ turn(dim, rng).T + far * rng.normal(size=dim) for x in shaken])
    return frames.astype(np.float32), weights, shape


def test_numba_is_there():
    """Else all of these tests would compare the other path with itself."""
    assert mdvae.alignment._numba_posing() is not None


def assert_exact(kind, frames, weights, reference):
    """To two roundings of float32 of the largest coordinate, and to the gap's share of those of float64."""
    expected, gaps = exact(kind, frames, weights, reference)
    found, gap = posed(alignment(kind, weights, reference), frames)
    size = np.abs(expected).max(axis=(1, 2))
    allowed = size * (2 * EPS + 1e-13 / np.maximum(gaps, 1e-13))
    assert (np.abs(found - expected).max(axis=(1, 2)) <= allowed).all()
    np.testing.assert_allclose(gap, min(1.0, gaps.min()), atol=1e-9)


@given(
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(KINDS),
    dim=st.sampled_from(DIMS),
    n_atoms=st.integers(4, 70),
    n_frames=st.integers(1, 40),
    second=st.floats(-5, 0),
    far=st.sampled_from([0.0, 1.0, 50.0]),
)
@settings(deadline=None, max_examples=150, derandomize=True)
def test_poses_are_exact_to_the_rounding_of_float32(seed, kind, dim, n_atoms, n_frames, second, far):
    """Also of frames that are nearly lines, nearly flat, and far from the origin."""
    spread = (1.0, 10**second, 0.5 * 10**second)
    assert_exact(kind, *system(dim, n_frames, n_atoms, seed, spread, 0.05 * 10**second, far))


@pytest.mark.parametrize("kind", KINDS)
def test_poses_of_thousands_of_atoms_are_exact(kind):
    assert_exact(kind, *system(3, 20, 5000, far=50))


@pytest.mark.parametrize("share", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("dim", DIMS)
def test_axes_of_nearly_equal_moments_are_as_exact_as_their_gap_allows(dim, share):
    corners = np.vstack([np.eye(dim), -np.eye(dim)]) * np.array([1 + 2 * share, 1 + share, 1.0])[:dim]
    rng = np.random.default_rng(0)
    frames = np.stack([corners @ turn(dim, rng).T for _ in range(30)]).astype(np.float32)
    assert_exact("principal", frames, np.ones(2 * dim), corners)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_without_numba_poses_and_gaps_are_the_same_but_for_rounding(kind, dim):
    frames, weights, reference = system(dim, 100, 22)
    one = alignment(kind, weights, reference)
    (found, gap), (expected, other) = posed(one, frames), posed_without(one, frames)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(gap, other, rtol=1e-4)


def test_without_numba_the_package_poses_all_the_same(monkeypatch):
    """As where it is not installed, or does not go with this NumPy."""
    monkeypatch.delitem(sys.modules, "mdvae._posing", raising=False)
    monkeypatch.delattr(mdvae, "_posing", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    by_numba.cache_clear()
    try:
        frames, weights, reference = system(3, 5, 9)
        found, _ = posed(alignment("superposition", weights, reference), frames)
        assert mdvae.alignment._numba_posing() is None
    finally:
        by_numba.cache_clear()
    np.testing.assert_allclose(found, exact("superposition", frames, weights, reference)[0], atol=1e-5)


@pytest.mark.parametrize("dim", DIMS)
def test_flips_that_are_equally_near_are_told_apart_by_the_same_rule(dim):
    """Nearest to a structure that says nothing, or nothing along one axis."""
    rng = np.random.default_rng(1)
    frames = (
        rng.normal(size=(60, 8, dim))
        * np.array([1.0, 0.6, 0.3])[rng.permuted(np.tile(np.arange(dim), (60, 1)), axis=1)][:, None]
    )
    weights = np.ones(8)
    for reference in (np.zeros((8, dim)), np.eye(8, dim, k=-1)[:, ::-1] * [0.0, 1.0, 0.0][:dim]):
        one = alignment("principal", weights, reference)
        np.testing.assert_allclose(posed(one, frames)[0], posed_without(one, frames)[0], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", DIMS)
def test_chirality_survives(kind, dim):
    """Onto a mirror image, which a reflection would reach."""
    frames, weights, reference = system(dim, 20, 7)
    found, _ = posed(alignment(kind, weights, reference * [-1.0, *(1.0,) * (dim - 1)]), frames)
    x = frames - np.average(frames, axis=1, weights=weights)[:, None]
    for before, after in zip(x, found, strict=True):
        rotation = np.linalg.lstsq(before, after, rcond=None)[0]
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(dim), atol=1e-5)
        np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["superposition", "principal"])
@pytest.mark.parametrize("flip", [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)])
def test_half_turns_are_undone(flip, kind):
    """Their quaternions have a single entry."""
    _, weights, reference = system(3, 1, 9)
    found, _ = posed(alignment(kind, weights, reference), (reference * flip)[None])
    np.testing.assert_allclose(found[0], reference, atol=3e-7)


LINE = np.outer(np.arange(-3.0, 4.0), [0.6, 0.48, 0.64])
DEGENERATE = {
    "one point": np.zeros((7, 3)),
    "one point, far away": np.full((7, 3), 50.0),
    "line": LINE,
    "line, far away": LINE + 50,
    "along an axis": np.outer(np.arange(-3.0, 4.0), [0.0, 0.0, 1.0]),
    "flat": np.random.default_rng(0).normal(size=(7, 3)) * [1, 1, 0],
    "symmetric": np.vstack([np.eye(3), -np.eye(3), np.zeros((1, 3))]),
    "two atoms on one side": np.vstack([np.eye(1, 3), np.zeros((6, 3))]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("case", DEGENERATE)
def test_where_the_turn_is_undefined_distances_stay(case, dim, kind):
    frame, (_, weights, reference) = DEGENERATE[case][None, :, :dim], system(dim, 1, 7)
    for target in (reference, np.zeros_like(reference), DEGENERATE[case][:, :dim] - DEGENERATE[case][0, :dim]):
        found, gap = posed(alignment(kind, weights, target), frame)
        assert np.isfinite(found).all()
        assert 0 <= gap <= 1
        before, after = (np.linalg.norm(x[0][:, None] - x[0][None], axis=-1) for x in (frame, found))
        np.testing.assert_allclose(after, before, atol=1e-5)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_a_number_stays_in_its_frame(kind, dim):
    frames, weights, reference = system(dim, 40, 11)
    one = alignment(kind, weights, reference)
    clean, _ = posed(one, frames)
    spoiled = frames.copy()
    spoiled[3, 4, 1], spoiled[20, 0, 0], spoiled[21] = np.nan, np.inf, -np.inf
    left = np.setdiff1d(np.arange(40), [3, 20, 21])
    for pose_them in (posed, posed_without):
        with np.errstate(invalid="ignore"):
            found, gap = pose_them(one, spoiled)
            alone, smallest = pose_them(one, frames[left])
        np.testing.assert_array_equal(found[left], alone)
        assert np.isnan(found[3]).any()
        assert gap == smallest
    np.testing.assert_array_equal(posed(one, spoiled)[0][left], clean[left])


def test_atoms_without_weight_come_along():
    frames, weights, reference = system(3, 30, 12)
    weights[8:] = 0
    few, _ = posed(alignment("superposition", weights[:8], reference[:8]), frames[:, :8])
    all_of_them, _ = posed(alignment("superposition", weights, reference), frames)
    np.testing.assert_allclose(all_of_them[:, :8], few, atol=1e-6)
    assert_exact("superposition", frames, weights, reference)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_poses_are_bit_identical_for_any_number_of_threads_and_neighbors(kind, dim, monkeypatch):
    """Neighbors of any gap: none takes as many steps as another needs."""
    frames, weights, reference = system(dim, 300, 13)
    flatter = np.geomspace(1, 1e-4, 300)[:, None, None]
    frames = np.concatenate([frames[..., :1], flatter * frames[..., 1:]], axis=2).astype(np.float32)
    monkeypatch.setattr(mdvae.alignment, "_BLOCK", 37 * 13 * dim)
    one, results = alignment(kind, weights, reference), []
    for n in (1, 2, 7):
        monkeypatch.setattr(os, "cpu_count", lambda n=n: n)
        results.append(posed(one, frames)[0])
    results.append(np.concatenate([posed(one, frame[None])[0] for frame in frames]))
    shuffled = np.random.default_rng(0).permutation(300)
    results.append(posed(one, frames[shuffled])[0][np.argsort(shuffled)])
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("kind", [1, 2])
def test_the_algebra_of_a_frame_is_the_same_to_the_last_bit_whatever_its_neighbors(kind):
    """In float64, before rounding hides it; neighbors take from few to all of the steps, like ones the same number."""
    from mdvae._posing import _LANES, _turn

    rng = np.random.default_rng(0)
    flatter = np.geomspace(1, 1e-9, _LANES)
    frames = rng.normal(size=(_LANES, 9, 3)) * np.stack([np.ones(_LANES), flatter, flatter], axis=1)[:, None]
    reference = frames[rng.permutation(_LANES)]
    sums = np.zeros((18, _LANES))
    sums[3:12] = np.einsum("fai,faj->ijf", frames, reference).reshape(9, _LANES)
    moments = np.einsum("fai,faj->ijf", frames, frames)
    sums[12:] = moments[np.triu_indices(3)]

    def turned(some):
        turns, gaps = np.zeros(9 * _LANES), np.ones(_LANES)
        _turn(kind, some.ravel().copy(), np.zeros(11 * _LANES), turns, gaps, 1.0)
        return np.vstack([turns.reshape(9, _LANES), gaps])

    together = turned(sums)
    assert np.isfinite(together).all()
    for lane in range(_LANES):
        alone = turned(np.repeat(sums[:, lane : lane + 1], _LANES, axis=1))
        np.testing.assert_array_equal(together[:, lane], alone[:, lane])


def test_numba_is_imported_on_use_only():
    command = "import sys, mdvae.alignment; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", command], check=True)


def other_arrays(frames, folder):
    """Arrays that hold the same frames."""
    n_frames, n_atoms, dim = frames.shape
    wide = np.zeros((2 * n_frames, n_atoms + 3, dim), np.float32)
    wide[::2, :-3] = frames
    odd = np.zeros(frames.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(frames.shape)
    odd[:] = frames
    mapped = np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype=np.float32, shape=frames.shape)
    mapped[:] = frames
    return {
        "strided": wide[::2, :-3],
        "by columns": np.asfortranarray(frames),
        "in double precision": frames.astype(np.float64),
        "of the other byte order": frames.astype(frames.dtype.newbyteorder()),
        "not aligned": odd,
        "a mapped file": mapped,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_any_array_is_posed_in_place(kind, tmp_path, monkeypatch):
    frames, weights, reference = system(3, 50, 10)
    monkeypatch.setattr(mdvae.alignment, "_BLOCK", 300)
    one = alignment(kind, weights, reference)
    expected, gap = posed(one, frames)
    for name, array in other_arrays(frames, tmp_path).items():
        np.testing.assert_allclose(pose(one, array), gap, rtol=1e-4, err_msg=name)
        np.testing.assert_allclose(array, expected, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), expected)


def test_what_cannot_be_written_is_refused():
    frames, weights, reference = system(3, 5, 10)
    frames.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        pose(alignment("superposition", weights, reference), frames)


@pytest.mark.parametrize("kind", ["superposition", "principal"])
def test_frames_of_other_atoms_are_refused(kind):
    """Compiled code would read what lies behind."""
    frames, weights, reference = system(3, 5, 10)
    with pytest.raises(TypeError):
        pose(alignment(kind, weights, reference), frames[:, :6].copy())
    with pytest.raises(TypeError):
        pose(alignment(kind, weights[:6], reference), frames)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_frames_have_no_gap(kind, dim):
    _, weights, reference = system(dim, 1, 10)
    assert pose(alignment(kind, weights, reference), np.zeros((0, 10, dim), np.float32)) == 1


@cache
def third():
    from mdvae._posing import _THIRD

    return np.polynomial.Polynomial(_THIRD)


def test_the_cosine_of_a_third_of_an_angle_is_a_polynomial_in_that_of_its_half():
    angle = np.linspace(0, np.pi, 1001)
    np.testing.assert_allclose(third()(np.cos(angle / 2)), np.cos(angle / 3), atol=1e-10)
