import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import mdvae
from mdvae.latent import in_double

KINDS = {
    "superposed": {"alignment": "superposition"},
    "principal": {"alignment": "principal"},
    "internal": {"alignment": "superposition", "representation": "internal"},
    "chosen": {
        "alignment": "superposition",
        "representation": "chosen",
        "features": ("torsion 0 1 2 3", "distance 0 5", "contact 1 5"),
    },
    "distances": {"alignment": "none", "representation": "distances"},
    "tanh": {"alignment": "superposition", "activation": "tanh"},
}


@pytest.fixture(scope="module", params=KINDS)
def model(request, hexane):
    options = dict(KINDS[request.param])
    frames = mdvae.read(hexane[0], alignment=options.pop("alignment"))
    return mdvae.build(frames, latent_dim=2, hidden=(16, 16), seed=0, **options)


@pytest.fixture(scope="module")
def double(model):
    return in_double(mdvae.collective_variable(model))


def test_it_is_what_encode_gives(model, hexane):
    cv = jax.jit(jax.vmap(mdvae.collective_variable(model)))
    np.testing.assert_allclose(cv(hexane[0][:20]), mdvae.encode(model, hexane[0][:20]), rtol=1e-5, atol=1e-5)


def test_derivatives_are_those_of_finite_differences(double, hexane):
    step = 1e-5
    for frame in hexane[0][:5].astype(float):
        _, jacobian = double(frame)
        slopes = np.empty_like(jacobian)
        for index in np.ndindex(frame.shape):
            forth, back = frame.copy(), frame.copy()
            forth[index] += step
            back[index] -= step
            slopes[(slice(None), *index)] = (double(forth)[0] - double(back)[0]) / (2 * step)
        assert np.abs(jacobian - slopes).max() <= 1e-6 * np.abs(jacobian).max()


def test_moving_and_turning_change_nothing(double, hexane, rng):
    for frame in hexane[0][:5].astype(float):
        z, jacobian = double(frame)
        turn = Rotation.random(random_state=rng).as_matrix()
        moved_z, moved_jacobian = double(frame @ turn.T + rng.normal(size=3))
        np.testing.assert_allclose(moved_z, z, atol=1e-9)
        np.testing.assert_allclose(moved_jacobian, jacobian @ turn.T, atol=1e-8)
        np.testing.assert_allclose(jacobian.sum(axis=1), 0, atol=1e-9)
        np.testing.assert_allclose(np.cross(frame, jacobian).sum(axis=1), 0, atol=1e-9)


def test_it_computes_in_the_precision_of_the_host_only_where_asked(double, hexane):
    z, jacobian = double(hexane[0][0])
    assert z.dtype == jacobian.dtype == np.float64
    assert jax.numpy.zeros(()).dtype == jax.dtypes.canonicalize_dtype(float)


def test_double_precision_does_not_hang_on_who_compiles(model, double, hexane):
    """Without a compiler each operation rounds by itself; products of single-precision numbers would show it."""
    frame = hexane[0][0].astype(float)
    with jax.enable_x64(True):
        z, jacobian = mdvae.collective_variable(model).value_and_jacobian(frame)
    np.testing.assert_allclose(double(frame)[0], z, rtol=0, atol=1e-13)
    np.testing.assert_allclose(double(frame)[1], jacobian, rtol=0, atol=1e-12 * np.abs(jacobian).max())


def test_it_calls_no_lapack(model, hexane):
    cv = mdvae.collective_variable(model)
    program = jax.jit(cv.value_and_jacobian).lower(hexane[0][0]).as_text()
    assert "custom_call" not in program
    assert "lapack" not in program


def test_another_number_of_atoms_is_refused(model, hexane):
    with pytest.raises(ValueError, match="a function of 6 atoms, got 5"):
        mdvae.collective_variable(model)(hexane[0][0, :5])


FORGETFUL = {name: KINDS[name] for name in ("internal", "chosen", "distances")}


@pytest.mark.parametrize("kind", FORGETFUL)
def test_what_forgets_the_pose_needs_none(kind, hexane):
    """The same values as by way of the pose; and derivatives also where none is defined, atoms on a line."""
    options = dict(FORGETFUL[kind])
    frames = mdvae.read(hexane[0], alignment=options.pop("alignment"))
    model = mdvae.build(frames, latent_dim=2, hidden=(16, 16), seed=0, **options)
    cv, frame = mdvae.collective_variable(model), jax.numpy.asarray(hexane[0][7])
    np.testing.assert_allclose(cv(frame), cv(model.alignment(frame)), atol=1e-5)
    np.testing.assert_allclose(model.coordinate(frame), model.coordinate.encode_posed(frame), atol=1e-5)
    aligned = jax.make_jaxpr(model.alignment)(frame).eqns
    assert len(jax.make_jaxpr(cv)(frame).eqns) == len(jax.make_jaxpr(model.coordinate.encode_posed)(frame).eqns)
    assert aligned
    line = np.outer(0.15 * np.arange(6.0), [0.6, 0.0, 0.8])
    assert np.isfinite(in_double(cv)(line)[1]).all()


def test_a_plane_has_one_too(frames, chain):
    cv = mdvae.collective_variable(mdvae.build(frames, latent_dim=1, seed=0))
    z, jacobian = cv.value_and_jacobian(chain[0])
    assert z.shape == (1,)
    assert jacobian.shape == (1, 6, 2)
    assert np.isfinite(jacobian).all()
