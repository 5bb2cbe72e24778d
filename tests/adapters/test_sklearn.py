"""Models behave as scikit-learn's estimators do."""

import pickle
import warnings

import numpy as np
import pytest

import mdvae

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from mdvae.adapters.sklearn import TrajectoryVAE, VectorVAE

SMALL = {"hidden": (8,), "epochs": 2}


@pytest.fixture(scope="module")
def curve():
    """Vectors near a curve in five dimensions, (400, 5)."""
    rng = np.random.default_rng(0)
    t = np.linspace(-2, 2, 400)[:, None]
    return np.hstack([t, t**2, np.sin(t), -t, np.cos(t)]) + 0.05 * rng.normal(size=(400, 5))


@pytest.fixture(scope="module")
def fitted(curve):
    return VectorVAE(latent_dim=1, hidden=(32, 32), epochs=60, learning_rate=5e-3).fit(curve)


def test_a_curve_is_learned_and_comes_back(fitted, curve):
    z = fitted.transform(curve)
    assert z.shape == (400, 1)
    assert abs(np.corrcoef(z[:, 0], curve[:, 0])[0, 1]) > 0.95
    error = np.mean((fitted.inverse_transform(z) - curve) ** 2)
    assert error < 0.1 * curve.var(axis=0).mean()
    np.testing.assert_array_equal(z, mdvae._chunks.map_rows(fitted.vae_.encode, curve.astype(np.float32)))


def test_score_is_a_log_likelihood(fitted, curve, rng):
    """Of the curve higher than of anything else; and a mean over samples."""
    shuffled = np.stack([rng.permutation(column) for column in curve.T], axis=1)
    assert fitted.score(curve) > fitted.score(shuffled) + 5
    # Of a Gaussian with the data's own moments it may be higher, by what a curve is less than an ellipsoid.
    gaussian = -0.5 * (5 * np.log(2 * np.pi * np.e) + np.linalg.slogdet(np.cov(curve.T))[1])
    assert fitted.score(curve) > gaussian - 3


def test_a_list_is_separate_trajectories(curve):
    parts = [curve[:150], curve[150:]]
    model = VectorVAE(latent_dim=1, **SMALL).fit(parts)
    points = model.transform(parts)
    assert [len(z) for z in points] == [150, 250]
    np.testing.assert_array_equal(np.concatenate(points), model.transform(curve))
    assert [x.shape for x in model.inverse_transform(points)] == [(150, 5), (250, 5)]
    assert model.score(parts) == pytest.approx(model.score(curve))
    assert clone(model).fit(curve).history_.n_training != 0


def test_pipelines_searches_and_names(curve):
    pipeline = make_pipeline(StandardScaler(), VectorVAE(**SMALL))
    search = GridSearchCV(pipeline, {"vectorvae__latent_dim": [1, 2]}, cv=2).fit(curve)
    assert set(search.cv_results_["mean_test_score"]) != {np.nan}
    best = search.best_estimator_
    n = search.best_params_["vectorvae__latent_dim"]
    assert best.transform(curve).shape == (400, n)
    assert best.inverse_transform(best.transform(curve)).shape == (400, 5)
    assert best.get_feature_names_out().tolist() == [f"vectorvae{i}" for i in range(n)]


def test_pickled_and_back(fitted, curve):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(curve), fitted.transform(curve))
    assert again.score(curve) == fitted.score(curve)
    # Parameters that were changed since are those of the next fit.
    changed = pickle.loads(pickle.dumps(fitted)).set_params(hidden=(4,), latent_dim=3)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(changed)).transform(curve), fitted.transform(curve))


def test_latent_points_of_another_model_are_refused(fitted):
    with pytest.raises(ValueError, match="X has 3 columns, expected 1 latent coordinates"):
        fitted.inverse_transform(np.zeros((4, 3)))


def test_one_random_state_one_result(curve):
    one, same, other = (VectorVAE(**SMALL, random_state=seed).fit_transform(curve) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0
    drawn = VectorVAE(**SMALL, random_state=np.random.RandomState(3)).fit(curve)
    assert isinstance(drawn._seed, int)


# -- conformations


@pytest.fixture(scope="module")
def conformations(chain):
    estimator = TrajectoryVAE(latent_dim=2, **SMALL, length_unit="reduced")
    assert clone(estimator).get_params() == estimator.get_params()
    return estimator.fit(chain)


def test_frames_are_transformed_as_the_library_does(conformations, chain):
    model = conformations.model_
    expected = mdvae.fit(chain, **SMALL, length_unit="reduced", progress=False)
    z = conformations.transform(chain)
    np.testing.assert_array_equal(z, mdvae.encode(expected, chain))
    np.testing.assert_array_equal(
        conformations.inverse_transform(z[:9]), np.asarray(mdvae.decode(model, z[:9]).xyz)[..., :2]
    )
    assert conformations.inverse_transform(z[:9]).shape == (9, 6, 2)
    assert conformations.score(chain) == pytest.approx(mdvae.log_likelihood(model, chain, 20).estimate.mean())
    parts = conformations.transform([chain[:100], chain[100:]])
    np.testing.assert_array_equal(np.concatenate(parts), z)
    assert conformations.get_feature_names_out().tolist() == ["trajectoryvae0", "trajectoryvae1"]
    again = pickle.loads(pickle.dumps(conformations))
    np.testing.assert_array_equal(again.transform(chain), z)


def test_a_search_over_frames(chain):
    estimator = TrajectoryVAE(**SMALL, length_unit="reduced", options={"learning_rate": 3e-3})
    search = GridSearchCV(estimator, {"latent_dim": [2]}, cv=2, refit=False).fit(chain)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# -- scikit-learn's own checks


# Of VectorVAE all of them apply. As a list: newer releases of pytest refuse what older ones of scikit-learn give.
CHECKS = list(estimator_checks_generator(VectorVAE(latent_dim=1, hidden=(4,), epochs=1)))


@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=[check.func.__name__ for _, check in CHECKS])
def test_scikit_learns_checks(estimator, check):
    with warnings.catch_warnings():
        # Some checks give samples as few as a test needs.
        warnings.simplefilter("ignore")
        check(estimator)
