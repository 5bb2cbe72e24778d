import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdvae
from mdvae.latent import in_double
from mdvae.latent.agreement import moved_frames

jax_md = pytest.importorskip("jax_md")
latent_energy = mdvae.adapters.jax_md.latent_energy


def well(z):
    return 40.0 * jnp.sum((z - 0.1) ** 2) + jnp.sin(3 * z[0])


@pytest.fixture
def positions(model, rng):
    return np.concatenate([moved_frames(model, seed=1)[0], rng.normal(size=(2, 3))])


def value_and_gradient(energy, positions, **options):
    with jax.enable_x64(True):
        value, gradient = jax.jit(jax.value_and_grad(energy))(jnp.asarray(positions), **options)
        return float(value), np.asarray(gradient)


def expected(model, frame):
    z, jacobian = in_double(mdvae.collective_variable(model))(frame)
    slope = 80.0 * (z - 0.1)
    slope[0] += 3 * np.cos(3 * z[0])
    return 40.0 * np.sum((z - 0.1) ** 2) + np.sin(3 * z[0]), np.tensordot(slope, jacobian, 1)


def test_in_free_space_it_is_the_potential_of_the_coordinates(model, positions):
    displacement, _ = jax_md.space.free()
    value, gradient = value_and_gradient(latent_energy(displacement, model, well), positions)
    energy, slopes = expected(model, positions[:6])
    assert value == pytest.approx(energy, rel=1e-9)
    np.testing.assert_allclose(gradient[:6], slopes, atol=1e-9 * np.abs(slopes).max())
    np.testing.assert_array_equal(gradient[6:], 0)


@pytest.mark.parametrize("which", ["model", "sparse"])
def test_in_a_periodic_space_it_is_the_same_however_the_molecule_is_split(which, request, hexane, rng):
    model, box, n_split = request.getfixturevalue(which), 1.1, 0
    displacement, _ = jax_md.space.periodic(box)
    energy = latent_energy(displacement, model, well)
    own = model.system.atom_indices
    for frame in hexane[0][:4].astype(float):
        split = np.mod(frame + 5 * rng.normal(size=3), box)
        n_split += np.linalg.norm(np.diff(split, axis=0), axis=1).max() > 0.5
        value, gradient = value_and_gradient(energy, split)
        reference = expected(model, frame[own])
        assert value == pytest.approx(reference[0], rel=1e-9)
        np.testing.assert_allclose(gradient[own], reference[1], atol=1e-8 * np.abs(reference[1]).max())
        np.testing.assert_allclose(np.delete(gradient, own, axis=0), 0, atol=1e-12)
    assert n_split > 1


def test_in_fractional_coordinates_of_a_box_that_changes(model, hexane):
    displacement, _ = jax_md.space.periodic_general(np.eye(3), fractional_coordinates=True)
    energy, frame = latent_energy(displacement, model, well), hexane[0][0].astype(float)
    values = []
    for size in (1.5, 2.0):
        fractions = np.mod(frame / size, 1)
        with jax.enable_x64(True):
            values.append(float(energy(jnp.asarray(fractions), box=size * jnp.eye(3))))
    assert values[0] == pytest.approx(values[1], rel=1e-9)
    assert values[0] == pytest.approx(expected(model, frame)[0], rel=1e-9)


def test_a_simulation_goes_along(model, hexane):
    """In single precision, as JAX-MD runs unless told otherwise."""
    displacement, shift = jax_md.space.free()
    energy = latent_energy(displacement, model, lambda z: jnp.sum((z - 0.5) ** 2))
    initialize, step = jax_md.minimize.gradient_descent(jax.jit(energy), shift, 1e-4)
    start = jnp.asarray(hexane[0][0])
    state = initialize(start)
    for _ in range(30):
        state = step(state)
    assert state.dtype == jnp.result_type(float)
    assert energy(state) < energy(start)


def test_a_plane_in_reduced_units_has_one_too(plane, chain):
    displacement, _ = jax_md.space.free()
    value, gradient = value_and_gradient(latent_energy(displacement, plane, well), chain[3])
    energy, slopes = expected(plane, chain[3])
    assert value == pytest.approx(energy, rel=1e-6)
    np.testing.assert_allclose(gradient, slopes, atol=1e-6 * np.abs(slopes).max())


def test_other_places(model, positions):
    displacement, _ = jax_md.space.free()
    order = [7, 0, 6, 1, 5, 2]
    shuffled = positions.copy()
    shuffled[order] = positions[:6]
    value, _ = value_and_gradient(latent_energy(displacement, model, well, atoms=order), shuffled)
    assert value == pytest.approx(expected(model, positions[:6])[0], rel=1e-9)


def test_refusals(model):
    displacement, _ = jax_md.space.free()
    with pytest.raises(ValueError, match=r"particles up to number 5 .* but there are 4"):
        latent_energy(displacement, model, well)(jnp.zeros((4, 3)))
    with pytest.raises(ValueError, match="atoms= must be 6 different numbers"):
        latent_energy(displacement, model, well, atoms=[0, 1])
    with pytest.raises(ValueError, match="that gives one number"):
        latent_energy(displacement, model, lambda z: z)
