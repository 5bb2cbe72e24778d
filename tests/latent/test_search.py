"""The search finds smaller values than it starts from, and answers with valid structures only."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdvae
from mdvae.latent.search import _Problem
from mdvae.observables import distance, end_to_end_distance, radius_of_gyration
from mdvae.validity import check

METHODS = ("adam", "l-bfgs")


@pytest.fixture(scope="module", params=[(m, r) for m in METHODS for r in (True, False)], ids=str)
def compact(request, trained):
    """What each method finds, among restored structures and among the decoder's own."""
    method, restore = request.param
    options = {"n_starts": 8, "seed": 0}
    return mdvae.minimize(trained, radius_of_gyration, method=method, restore=restore, **options)


def test_answer_is_the_lowest_valid_structure(compact, trained):
    assert compact.found
    assert compact.value == compact.values[compact.valid].min()
    frame = compact.trajectory.xyz[..., :2]
    assert check(trained.data.geometry.strict(), frame).valid.all()
    np.testing.assert_allclose(radius_of_gyration(jnp.asarray(frame[0])), compact.value, rtol=1e-5)


def test_search_beats_decoding_the_training_frames(compact, trained):
    restore = compact.restoration is not None
    decoded = mdvae.reconstruct(trained, trained.data.frames, restore=restore).xyz[..., :2]
    decoded = decoded[check(trained.data.geometry.strict(), decoded).valid]
    assert compact.value < min(radius_of_gyration(jnp.asarray(frame)) for frame in decoded)


def test_result_stands_beside_the_training_frames(compact, trained):
    values = np.array([radius_of_gyration(jnp.asarray(frame)) for frame in trained.data.frames])
    assert compact.n_compared == compact.n_training == len(values)
    np.testing.assert_allclose(compact.best_training_value, values.min(), rtol=1e-5)
    valid = check(trained.data.geometry.strict(), trained.data.frames).valid
    np.testing.assert_allclose(compact.best_valid_training_value, values[valid].min(), rtol=1e-5)


def test_candidates_are_what_the_decoder_says_restored_or_not(compact, trained):
    raw = mdvae.decode(trained, compact.z, restore=False).xyz[..., :2]
    moves = np.sqrt(((compact.candidates.xyz[..., :2] - raw) ** 2).sum(axis=2).mean(axis=1))
    if compact.restoration is None:
        np.testing.assert_allclose(moves, 0, atol=1e-6)
        assert "moved by restoring" not in str(compact)
    else:
        assert compact.candidates.restoration is compact.restoration
        np.testing.assert_allclose(compact.restoration.moved, moves, atol=1e-6)
        assert f"moved by restoring     {moves[compact.index]:.4f} reduced units (thermal" in str(compact)


def test_answer_stays_near_the_data(compact):
    assert compact.distance[compact.index] < 10 * compact.typical_distance


def test_gradient_through_the_decoder(trained):
    """The observable's gradient with respect to z against finite differences."""

    def value(z):
        return end_to_end_distance(trained.decoder(z))

    z = jnp.array([0.3, -0.5, 0.2])
    gradient = jax.grad(value)(z)
    h = 1e-2
    numeric = [(value(z.at[i].add(h)) - value(z.at[i].add(-h))) / (2 * h) for i in range(3)]
    np.testing.assert_allclose(gradient, np.array(numeric), rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("restore", [True, False])
def test_gradient_of_the_loss(restore, trained):
    """Of a search's loss with respect to z, through the decoder and the restoring, against finite differences."""
    z = mdvae.encode(trained, trained.data.frames)
    values = np.asarray(jax.vmap(radius_of_gyration)(trained.data.frames))
    with jax.enable_x64(True):
        problem = _Problem.fit(trained, radius_of_gyration, values, z, restore)
        loss = jax.jit(lambda units: jnp.sum(problem(units)[0]))
        units = 3 * jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))
        gradient = jax.grad(loss)(units)
        for i in ((0, 0), (1, 2), (3, 1)):
            h = 1e-6
            numeric = (loss(units.at[i].add(h)) - loss(units.at[i].add(-h))) / (2 * h)
            np.testing.assert_allclose(gradient[i], numeric, rtol=1e-3, atol=1e-4)


def test_penalty_is_zero_inside_the_data_and_grows_outside(trained):
    z = mdvae.encode(trained, trained.data.frames)
    values = np.ones(len(z), np.float32)
    problem = _Problem.fit(trained, lambda frame: jnp.sum(frame * 0) + 1.0, values, z, True)
    rarity = jax.vmap(problem.rarity)
    inside = rarity(problem.to_unit(z))
    assert np.mean(np.asarray(inside) <= float(problem.limit)) > 0.95
    far = rarity(jnp.asarray([[8.0, 0, 0], [16.0, 0, 0]]))
    assert float(problem.limit) < far[0] < far[1]


def test_other_observables_and_reproducibility(trained):
    observable = partial(distance, i=0, j=5)
    a, b = (mdvae.minimize(trained, observable, n_starts=4, n_steps=20, seed=3) for _ in range(2))
    assert a.name == "distance"
    np.testing.assert_array_equal(a.values, b.values)
    np.testing.assert_array_equal(a.z, b.z)


def test_no_valid_structure_is_an_answer(trained):
    """With bounds that nothing can meet, the result says so instead of handing out a structure."""
    geometry = trained.data.geometry
    geometry = dataclasses.replace(geometry, closest=np.full_like(geometry.closest, 1e3))
    strict = dataclasses.replace(trained, data=dataclasses.replace(trained.data, geometry=geometry))
    result = mdvae.minimize(strict, radius_of_gyration, n_starts=3, n_steps=5)
    assert not result.found
    assert np.isnan(result.value)
    assert "0 of 3 starts" in str(result)
    assert result.candidates.n_frames == 3
    with pytest.raises(ValueError, match="none of the 3 starts ended in a valid structure"):
        _ = result.trajectory


REFUSALS = {
    "method": ({"method": "newton"}, "method='newton' is not known"),
    "starts": ({"n_starts": 0}, "must be at least 1"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(trained, case):
    options, message = REFUSALS[case]
    with pytest.raises(ValueError, match=message):
        mdvae.minimize(trained, radius_of_gyration, **options)


def test_untrained_and_vector_valued(trained, frames):
    with pytest.raises(ValueError, match="has not been trained"):
        mdvae.minimize(mdvae.build(frames), radius_of_gyration)
    with pytest.raises(ValueError, match=r"one number for one frame, got an array of shape \(6, 2\)"):
        mdvae.minimize(trained, lambda frame: frame)
    with pytest.raises(ValueError, match="not finite on 300 of 300"):
        mdvae.minimize(trained, lambda frame: jnp.log(-jnp.sum(frame**2)))
