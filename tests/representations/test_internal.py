import equinox as eqx
import jax
import jax.numpy as jnp
import mdtraj as md
import numpy as np
import pytest

from mdvae.geometry import superposition_rotation
from mdvae.representations import Cartesian, Internal, feature_statistics, references

DTYPE = jnp.zeros(()).dtype
# Rounding along some ten bonds.
TINY = 1e3 * float(jnp.finfo(DTYPE).eps)


def chain(n_atoms):
    return np.column_stack([np.arange(n_atoms - 1), np.arange(1, n_atoms)])


def branched(rng, n_atoms):
    """Random tree in which no atom is far from the first."""
    return np.array([[rng.integers(max(0, i - 4), i), i] for i in range(1, n_atoms)])


def internal(links, frames):
    return Internal(jnp.asarray(references(links, np.asarray(frames, np.float32))))


def frame_of(rows):
    return jnp.asarray(rows, DTYPE)


def superposed(frame, target):
    """Moved by the best proper rotation."""
    frame, target = frame - frame.mean(axis=0)[None], target - target.mean(axis=0)[None]
    return frame @ superposition_rotation(frame, target, jnp.ones(len(frame), DTYPE)).T, target


@pytest.mark.parametrize("n_atoms", [2, 3, 4, 5, 30])
@pytest.mark.parametrize("dim", [2, 3])
def test_there_and_back_up_to_a_proper_motion(dim, n_atoms, rng):
    frames = rng.normal(size=(4, n_atoms, dim))
    map_ = internal(branched(rng, n_atoms), frames)
    assert not map_.keeps_pose
    there, back = eqx.filter_jit(map_.to_features), eqx.filter_jit(map_.to_coordinates)
    for frame in map(frame_of, frames):
        features = there(frame)
        assert features.shape == (map_.n_features,)
        again = back(features)
        np.testing.assert_allclose(*superposed(again, frame), atol=30 * TINY)
        np.testing.assert_allclose(there(again), features, atol=30 * TINY)


def test_layout_of_the_features():
    """Distances, angles, cosines, sines, of a chain that is bent by right angles and twisted by one."""
    frame = frame_of([[2.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    rows = jnp.array([[0, 0, 0, 0], [1, 0, 0, 0], [2, 1, 0, 0], [3, 2, 1, 0]], jnp.int32)
    map_ = Internal(rows)
    assert (map_.n_features, map_.n_linear) == (7, 5)
    np.testing.assert_allclose(map_.to_features(frame), [2, 1, 3, np.pi / 2, np.pi / 2, 0, 1], atol=TINY)


def test_layout_in_the_plane():
    rows = jnp.array([[0, 0, 0], [1, 0, 0], [2, 1, 0], [3, 2, 1]], jnp.int32)
    frame = frame_of([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [3.0, 1.0]])
    assert (Internal(rows).n_features, Internal(rows).n_linear) == (7, 3)
    np.testing.assert_allclose(Internal(rows).to_features(frame), [2, 1, 1, 0, 0, 1, -1], atol=TINY)


@pytest.mark.parametrize("dim", [2, 3])
def test_neither_place_nor_turn_matters_but_handedness_does(dim, rng):
    frames = rng.normal(size=(3, 8, dim))
    map_ = internal(branched(rng, 8), frames)
    there, frame = eqx.filter_jit(map_.to_features), frame_of(frames[0])
    turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    turn[0] *= np.linalg.det(turn)
    features = there(frame)
    moved = there(frame @ frame_of(turn) + frame_of(np.full((1, dim), 5.0)))
    np.testing.assert_allclose(moved, features, atol=10 * TINY)
    mirrored = there(frame * frame_of([[-1.0, *[1.0] * (dim - 1)]]))
    sines = slice((map_.n_features + map_.n_linear) // 2, None)
    np.testing.assert_allclose(mirrored[sines], -features[sines], atol=10 * TINY)
    np.testing.assert_allclose(mirrored[: sines.start], features[: sines.start], atol=10 * TINY)


def test_dihedral_angles_are_mdtrajs(rng):
    xyz = rng.normal(size=(5, 12, 3)).astype(np.float32)
    map_ = internal(branched(rng, 12), xyz)
    trajectory = md.Trajectory(xyz, None)
    expected = md.compute_dihedrals(trajectory, np.array(map_.references[3:]), periodic=False)
    features = jax.vmap(map_.to_features)(frame_of(xyz))[:, map_.n_linear :]
    np.testing.assert_allclose(features, np.concatenate([np.cos(expected), np.sin(expected)], axis=1), atol=1e-4)


def test_cosine_and_sine_need_not_be_normalized(rng):
    frames = rng.normal(size=(3, 6, 3))
    map_ = internal(chain(6), frames)
    features = map_.to_features(frame_of(frames[0]))
    longer = features.at[map_.n_linear :].multiply(3.0)
    back = jax.jit(lambda x: (map_.to_coordinates(x), jax.jacrev(map_.to_coordinates)(x)))
    nothing = features.at[map_.n_linear :].set(0.0)
    np.testing.assert_allclose(back(longer)[0], back(features)[0], atol=TINY)
    assert np.isfinite(back(nothing)[1]).all()


def test_a_thousand_atoms_keep_their_places(rng):
    """Errors do not pile up along the way: the tree is measured and built from its middle."""
    n_atoms = 1000
    steps = rng.normal(size=(2, n_atoms, 3))
    frames = np.cumsum(0.15 * steps / np.linalg.norm(steps, axis=-1, keepdims=True), axis=1)
    map_ = internal(chain(n_atoms), frames)
    again = jax.jit(lambda x: map_.to_coordinates(map_.to_features(x)))(frame_of(frames[0]))
    np.testing.assert_allclose(*superposed(again, frame_of(frames[0])), atol=30 * TINY)


def test_one_atom_is_refused():
    with pytest.raises(ValueError, match="at least 2 atoms, got 1; use Cartesian"):
        Internal(jnp.zeros((1, 4), jnp.int32))


# -- their statistics


def test_statistics_of_features_by_hand(rng):
    """Per feature; cosine and sine of an angle share one deviation, which for narrow ones is the angle's own."""
    n = 500
    lengths, turned = 1 + 0.1 * rng.normal(size=n), np.pi + 0.05 * rng.normal(size=n)
    frames = np.zeros((n, 3, 2))
    frames[:, 1, 0], frames[:, 2, 0] = 1.0, 1 + lengths * np.cos(turned)
    frames[:, 2, 1] = lengths * np.sin(turned)
    map_ = Internal(jnp.array([[0, 0, 0], [1, 0, 0], [2, 1, 0]], jnp.int32))
    statistics = feature_statistics(map_, frames.astype(np.float32))
    np.testing.assert_allclose(
        statistics.mean, [1, lengths.mean(), np.cos(turned).mean(), np.sin(turned).mean()], atol=1e-5
    )
    # The first bond does not vary at all: it gets a thousandth of its length.
    expected = np.array([1e-3, lengths.std(), turned.std(), turned.std()])
    np.testing.assert_allclose(statistics.deviation, expected, rtol=5e-3)
    # To the encoder a share of a length is as much as an angle.
    shares = expected / [1, lengths.mean(), 1, 1]
    np.testing.assert_allclose(
        statistics.unit, np.sqrt(np.mean(shares**2)) * np.array([1, lengths.mean(), 1, 1]), rtol=5e-3
    )


def test_statistics_are_positive_for_atoms_that_never_move():
    frames = np.repeat([[[0.0, 0], [1, 0], [1, 0], [1, 1]]], 20, axis=0).astype(np.float32)
    statistics = feature_statistics(internal(chain(4), frames), frames)
    assert (statistics.deviation > 0).all()
    assert (statistics.unit > 0).all()


def test_all_cartesian_features_are_plain_numbers():
    cartesian = Cartesian(4, 3)
    assert cartesian.keeps_pose
    assert cartesian.n_linear == cartesian.n_features
