import jax
import jax.numpy as jnp
import mdtraj as md
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mdvae.observables import contacts, distance
from mdvae.representations import Chosen, feature_statistics

DTYPE = jnp.zeros(()).dtype
TINY = 1e2 * float(jnp.finfo(DTYPE).eps)

SEVERAL = {"distances": [(0, 5), (3, 1)], "contacts": [(0, 4), (2, 5)], "torsions": [(0, 1, 2, 3), (5, 3, 2, 0)]}
CHOICES = {
    "several": SEVERAL,
    "distances alone": {"distances": SEVERAL["distances"]},
    "contacts alone": {"contacts": SEVERAL["contacts"], "contact_radius": 1.5},
    "torsions alone": {"torsions": SEVERAL["torsions"]},
}


def frame_of(rows):
    return jnp.asarray(rows, DTYPE)


def test_features_are_those_of_others(rng):
    """Distances and contacts as observables measure them, torsions as mdtraj does, in the stated order."""
    xyz = rng.normal(size=(7, 6, 3)).astype(np.float32)
    angles = md.compute_dihedrals(md.Trajectory(xyz, None), np.array(SEVERAL["torsions"])).astype(float)
    map_ = Chosen(**SEVERAL, contact_radius=0.8)
    assert (map_.n_features, map_.n_linear) == (8, 4)
    for frame, torsions in zip(map(frame_of, xyz), angles, strict=True):
        lengths = [distance(frame, i=i, j=j) for i, j in SEVERAL["distances"]]
        touching = [contacts(frame, pairs=np.array([pair]), cutoff=0.8) for pair in SEVERAL["contacts"]]
        expected = [*lengths, *touching, *np.cos(torsions), *np.sin(torsions)]
        np.testing.assert_allclose(map_.to_features(frame), expected, atol=1e-5)


def test_a_contact_by_hand():
    """One half at the radius, 1 / 65 at twice the radius, all of one at no distance, none of one far away."""
    frame = frame_of([[0.0, 0, 0], [0.3, 0, 0], [0, 0.6, 0], [0, 0, 0], [1e6, 0, 0]])
    map_ = Chosen(contacts=[(0, i) for i in range(1, 5)], contact_radius=0.3)
    np.testing.assert_allclose(map_.to_features(frame), [1 / 2, 1 / 65, 1, 0], rtol=1e-5, atol=1e-11)


@pytest.mark.parametrize("choice", CHOICES)
def test_gradients_are_those_of_finite_differences(choice, rng):
    step = 1e-5
    with jax.enable_x64(True):
        map_ = Chosen(**CHOICES[choice])
        frame = jnp.asarray(rng.normal(size=(6, 3)))
        slopes = np.stack(
            [
                (map_.to_features(frame + move) - map_.to_features(frame - move)) / (2 * step)
                for move in step * np.eye(18).reshape(18, 6, 3)
            ],
            axis=1,
        )
        jacobian = np.asarray(jax.jacobian(map_.to_features)(frame))
    assert jacobian.any()
    np.testing.assert_allclose(jacobian.reshape(-1, 18), slopes, atol=1e-8 * np.abs(slopes).max())


DEGENERATE = {
    "all at one point": np.zeros((6, 3)),
    "on a line": np.outer(np.arange(6.0), [1, 2, 2]) / 10,
    "two at one point": np.array([[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0.0]]),
    "far apart": np.outer(np.arange(6.0) ** 2, [1e5, 2e5, 2e5]),
}


@pytest.mark.parametrize("where", DEGENERATE)
def test_finite_where_geometry_degenerates(where):
    """Values and derivatives, in single precision."""
    map_, frame = Chosen(**SEVERAL), jnp.asarray(DEGENERATE[where], jnp.float32)
    assert np.isfinite(map_.to_features(frame)).all()
    assert np.isfinite(jax.jacobian(map_.to_features)(frame)).all()


def test_the_pose_does_not_matter_but_a_mirror_shows_in_torsions(rng):
    map_, frame = Chosen(**SEVERAL), rng.normal(size=(6, 3))
    assert not map_.keeps_pose
    features = map_.to_features(frame_of(frame))
    turned = frame @ Rotation.random(random_state=rng).as_matrix().T + rng.normal(size=3)
    np.testing.assert_allclose(map_.to_features(frame_of(turned)), features, atol=TINY)
    mirrored = map_.to_features(frame_of(frame * [-1, 1, 1]))
    np.testing.assert_allclose(mirrored, features * np.array([1, 1, 1, 1, 1, 1, -1, -1]), atol=TINY)


def test_in_the_plane():
    map_ = Chosen(distances=[(0, 1)], contacts=[(0, 2)], contact_radius=1.0)
    np.testing.assert_allclose(map_.to_features(frame_of([[0, 0], [3, 4], [1, 0]])), [5, 1 / 2], rtol=1e-6)


def test_it_only_encodes():
    map_ = Chosen(**SEVERAL)
    assert not map_.invertible
    with pytest.raises(ValueError, match="no way back to positions"):
        map_.to_coordinates(jnp.zeros(map_.n_features))


def test_words_and_a_choice_of_nothing():
    assert Chosen(**SEVERAL).words == (
        "distance 0 5", "distance 3 1", "contact 0 4", "contact 2 5", "torsion 0 1 2 3", "torsion 5 3 2 0",
    )  # fmt: skip
    with pytest.raises(ValueError, match="at least one distance, contact or torsion"):
        Chosen()


def test_a_rare_contact_does_not_make_all_else_look_small(rng):
    """It spreads by ten times its mean; a torsion that turns freely still counts as much."""
    frames = rng.normal(size=(1000, 4, 3))
    frames[:, 3] = frames[:, 0] + np.where(np.arange(1000) < 10, 0.01, 9.0)[:, None]
    found = feature_statistics(Chosen(contacts=[(0, 3)], torsions=[(0, 1, 2, 3)]), frames.astype(np.float32))
    assert found.deviation[0] > 9 * found.mean[0]
    assert np.all((found.deviation / found.unit > 0.5) & (found.deviation / found.unit < 2))
