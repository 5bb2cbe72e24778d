from functools import cache, partial

import jax
import jax.numpy as jnp
import mdtraj as md
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdvae.observables import by_name, contacts, distance, end_to_end_distance, radius_of_gyration, rmsd

N_ATOMS = 6


def frames(dim, seed=0, n_frames=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n_frames, N_ATOMS, dim)) * 0.3, jnp.float32)


@cache
def every_observable(dim):
    masses = np.arange(1.0, N_ATOMS + 1)
    observables = {
        "radius_of_gyration": radius_of_gyration,
        "radius_of_gyration, masses": partial(radius_of_gyration, masses=masses),
        "end_to_end_distance": end_to_end_distance,
        "distance": partial(distance, i=1, j=4),
        "rmsd": partial(rmsd, reference=frames(dim, seed=1)[0]),
        "contacts": contacts,
    }
    return {name: jax.jit(observable) for name, observable in observables.items()}


@cache
def every_gradient(dim):
    return {name: jax.jit(jax.value_and_grad(function)) for name, function in every_observable(dim).items()}


@cache
def rmsd_gradient():
    return jax.jit(jax.value_and_grad(lambda frame, reference: rmsd(frame, reference=reference)))


NAMES = list(every_observable(2))


def rigid_motion(dim, seed):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    rotation[:, 0] *= np.linalg.det(rotation)
    return jnp.asarray(rotation, jnp.float32), jnp.asarray(rng.normal(size=dim), jnp.float32)


def trajectory(frames):
    topology = md.Topology()
    residue = topology.add_residue("CHN", topology.add_chain())
    for i in range(frames.shape[1]):
        topology.add_atom(f"C{i}", md.element.carbon, residue)
    # A copy, because mdtraj refuses the read-only arrays of JAX.
    return md.Trajectory(np.array(frames), topology)


# Values by hand -----------------------------------------------------------------------------------

SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1]]


def test_radius_of_gyration_by_hand():
    pair = jnp.array([[0.0, 0, 0], [1, 0, 0]])
    np.testing.assert_allclose(radius_of_gyration(pair), 0.5, rtol=1e-6)
    # About the center of mass at 0.9: 0.1 * 0.81 + 0.9 * 0.01 = 0.09.
    np.testing.assert_allclose(radius_of_gyration(pair, masses=np.array([1.0, 9.0])), 0.3, rtol=1e-6)
    np.testing.assert_allclose(radius_of_gyration(jnp.array(SQUARE, float)), np.sqrt(0.5), rtol=1e-6)


def test_distances_by_hand():
    square = jnp.array(SQUARE, float)
    np.testing.assert_allclose(distance(square, i=0, j=2), np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(distance(square, i=-1, j=1), np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(end_to_end_distance(square), 1, rtol=1e-6)


def test_rmsd_by_hand():
    """A square stretched by 2 along x, after centering: each corner is off by 1/2."""
    square = jnp.array(SQUARE, float)
    np.testing.assert_allclose(rmsd(square * jnp.array([[2.0, 1.0]]), reference=square), 0.5, rtol=1e-5)


@pytest.mark.parametrize("dim", [2, 3])
def test_rmsd_sees_chirality(dim):
    """A mirror image is no proper rotation of the frame."""
    frame = frames(dim)[0]
    mirrored = frame * jnp.array([[-1.0] + [1.0] * (dim - 1)])
    assert rmsd(mirrored, reference=frame) > 0.05


def test_contacts_by_hand():
    line = jnp.array([[0.0, 0], [5, 0], [9, 0], [0.45, 0]])
    np.testing.assert_allclose(contacts(line), 0.5, rtol=1e-6)  # only the pair (0, 3), at the cutoff
    np.testing.assert_allclose(contacts(line, cutoff=0.225), 1 / 65, rtol=1e-5)
    np.testing.assert_allclose(contacts(line, pairs=np.array([[0, 3], [1, 1 + 1]]), cutoff=4.0), 1.5, rtol=1e-5)


# Agreement with mdtraj, where mdtraj is right -----------------------------------------------------


def test_agrees_with_mdtraj():
    several = frames(3, n_frames=20)
    mdtraj = trajectory(several)
    np.testing.assert_allclose(jax.vmap(radius_of_gyration)(several), md.compute_rg(mdtraj), rtol=1e-5)
    np.testing.assert_allclose(
        jax.vmap(partial(distance, i=0, j=5))(several),
        md.compute_distances(mdtraj, [[0, 5]])[:, 0],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        jax.vmap(partial(rmsd, reference=several[3]))(several),
        md.rmsd(mdtraj, mdtraj, 3),
        rtol=1e-4,
        atol=1e-3,
    )


# Truths of all ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dim", [2, 3])
@settings(deadline=None, max_examples=20, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_rigid_motion_changes_nothing(name, dim, seed):
    observable = every_observable(dim)[name]
    frame, (rotation, shift) = frames(dim, seed)[0], rigid_motion(dim, seed)
    np.testing.assert_allclose(observable(frame @ rotation.T + shift[None, :]), observable(frame), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dim", [2, 3])
def test_gradient_against_finite_differences(name, dim):
    observable = every_observable(dim)[name]
    frame, direction = frames(dim, seed=2)[0], frames(dim, seed=3)[0]
    exact = jnp.sum(every_gradient(dim)[name](frame)[1] * direction)
    forward = jax.jvp(observable, (frame,), (direction,))[1]
    step = 1e-2
    ahead, behind = observable(frame + step * direction), observable(frame - step * direction)
    np.testing.assert_allclose(exact, (ahead - behind) / (2 * step), rtol=5e-3, atol=2e-4)
    np.testing.assert_allclose(forward, exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dim", [2, 3])
def test_second_derivative_of_rmsd(dim):
    """The rotation is left out of the first derivative only."""
    observable = every_observable(dim)["rmsd"]
    frame, direction = frames(dim, seed=2)[0], frames(dim, seed=3)[0]

    @jax.jit
    def slope(t):
        return jnp.sum(jax.grad(observable)(frame + t * direction) * direction)

    step = 1e-2
    np.testing.assert_allclose(jax.jit(jax.grad(slope))(0.0), (slope(step) - slope(-step)) / (2 * step), rtol=2e-2)


DEGENERATE = {
    "all atoms at one point": lambda dim: jnp.full((N_ATOMS, dim), 0.7),
    "at the origin": lambda dim: jnp.zeros((N_ATOMS, dim)),
    "on a line": lambda dim: jnp.arange(1.0 * N_ATOMS)[:, None] * jnp.ones((1, dim)),
    "two atoms at one point": lambda dim: frames(dim)[0].at[1].set(frames(dim)[0][4]).at[0].set(frames(dim)[0][5]),
    "equal to the reference": lambda dim: frames(dim, seed=1)[0],
    "mirror image of the reference": lambda dim: -frames(dim, seed=1)[0],
    "far apart": lambda dim: 1e4 * frames(dim)[0],
}


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dim", [2, 3])
def test_gradients_are_finite_where_geometry_degenerates(name, case, dim):
    value, gradient = every_gradient(dim)[name](DEGENERATE[case](dim))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("dim", [2, 3])
def test_rmsd_to_itself_is_zero(case, dim):
    frame = DEGENERATE[case](dim)
    value, gradient = rmsd_gradient()(frame, frame)
    np.testing.assert_allclose(value, 0, atol=1e-6 * (1 + np.abs(frame).max()))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", NAMES)
def test_vmap_and_jit(name):
    several, observable = frames(3, n_frames=4), every_observable(3)[name]
    one_by_one = [observable(frame) for frame in several]
    np.testing.assert_allclose(jax.jit(jax.vmap(observable))(several), one_by_one, rtol=1e-5)


# Names and errors ---------------------------------------------------------------------------------


def test_by_name():
    frame = frames(3)[0]
    assert by_name("radius_of_gyration")(frame) == radius_of_gyration(frame)
    masses = np.arange(1.0, N_ATOMS + 1)
    weighted = by_name("radius_of_gyration:mass", masses=masses)
    assert weighted(frame) == radius_of_gyration(frame, masses=masses) != radius_of_gyration(frame)
    assert by_name(" end_to_end_distance ")(frame) == end_to_end_distance(frame)
    assert by_name("distance:0, 5")(frame) == distance(frame, i=0, j=5)
    assert by_name("contacts")(frame) == contacts(frame)
    assert by_name("contacts:0.3")(frame) == contacts(frame, cutoff=0.3)


BAD_NAMES = {
    "radius": "radius_of_gyration, end_to_end_distance, distance:0,5, contacts:0.45",
    "": "Expected one of",
    "rmsd": "reference",
    "radius_of_gyration:1": "no argument",
    "distance": "two atoms",
    "distance:1": "two atoms",
    "distance:1,2,3": "two atoms",
    "distance:a,5": "'a' is not a whole number",
    "distance:5,5": "different",
    "contacts:": "'' is not a number",
    "contacts:-1": "positive",
    "contacts:nan": "positive",
    "contacts:near": "'near' is not a number",
}


@pytest.mark.parametrize("text", BAD_NAMES)
def test_bad_names(text):
    with pytest.raises(ValueError, match=BAD_NAMES[text]):
        by_name(text)


BAD_ARGUMENTS = {
    "one mass too few": (
        lambda x: radius_of_gyration(x, masses=np.ones(5)),
        "one mass for each of 6 atoms, got 5",
    ),
    "no such atom": (lambda x: distance(x, i=0, j=6), "from 0 to 5, got 6"),
    "an atom twice": (lambda x: distance(x, i=0, j=-6), "atom 0 twice"),
    "one atom": (lambda x: end_to_end_distance(x[:1]), "twice"),
    "another reference": (lambda x: rmsd(x, reference=x[1:]), "same atoms"),
    "no pairs": (lambda x: contacts(x[:3]), "at least 4 atoms, got 3"),
    "triplets": (lambda x: contacts(x, pairs=np.array([[0, 1, 2]])), "n_pairs, 2"),
    "cutoff": (lambda x: contacts(x, cutoff=0.0), "positive cutoff"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments(case):
    call, message = BAD_ARGUMENTS[case]
    with pytest.raises(ValueError, match=message):
        call(frames(3)[0])
