import dataclasses
import io
import pickle
import re

import jax.numpy as jnp
import numpy as np
import pytest

import mdvae
from mdvae.adapters.placement import place
from mdvae.latent import in_double
from mdvae.latent.agreement import moved_frames

openmm = pytest.importorskip("openmm")
if not hasattr(openmm, "PythonForce"):
    pytest.skip("this OpenMM has no PythonForce", allow_module_level=True)
adapter = mdvae.adapters.openmm
N = 8


def system_of(n=N, mass=12.011, box=None):
    system = openmm.System()
    for _ in range(n):
        system.addParticle(mass)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
        # OpenMM asks the forces whether there is a box.
        pairs = openmm.CustomNonbondedForce("0")
        pairs.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
        pairs.setCutoffDistance(0.3)
        for _ in range(n):
            pairs.addParticle([])
        system.addForce(pairs)
    return system


def context_of(system, *forces):
    for force in forces:
        system.addForce(force)
    platform = openmm.Platform.getPlatformByName("Reference")
    return openmm.Context(system, openmm.VerletIntegrator(0.001), platform)


def energy_and_forces(context, positions, groups=-1):
    context.setPositions(positions)
    state = context.getState(energy=True, forces=True, groups=groups)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def slopes(context, positions, step=1e-5):
    """Minus the energy's finite differences."""
    found = np.empty_like(positions)
    for index in np.ndindex(positions.shape):
        forth, back = positions.copy(), positions.copy()
        forth[index] += step
        back[index] -= step
        found[index] = (energy_and_forces(context, back)[0] - energy_and_forces(context, forth)[0]) / (2 * step)
    return found


@pytest.fixture(scope="module")
def positions(model, rng_module):
    """Of eight particles, the first six the molecule."""
    return np.concatenate([moved_frames(model, seed=1)[0], rng_module.normal(size=(2, 3))])


@pytest.fixture(scope="module")
def rng_module():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def double(model):
    return in_double(mdvae.collective_variable(model))


@pytest.fixture(scope="module")
def forces(model):
    """One of each component, held so that what is compiled is kept."""
    return [adapter.latent_force(model, system_of(), component) for component in range(2)]


def copied(force):
    return openmm.XmlSerializer.clone(force)


def test_a_direct_force_is_the_coordinate_and_minus_its_gradient(forces, double, positions):
    for component, force in enumerate(forces):
        context = context_of(system_of(), copied(force))
        energy, found = energy_and_forces(context, positions)
        z, jacobian = double(positions[:6])
        assert energy == pytest.approx(z[component], abs=1e-12)
        np.testing.assert_allclose(found[:6], -jacobian[component], atol=1e-12)
        np.testing.assert_array_equal(found[6:], 0)
        np.testing.assert_allclose(found, slopes(context, positions), atol=1e-6 * np.abs(found).max())


def test_inside_of_a_cv_force_the_chain_rule_holds(forces, double, positions):
    both = openmm.CustomCVForce("50*(a - 0.3)^2 + 7*a*b")
    both.addCollectiveVariable("a", copied(forces[0]))
    both.addCollectiveVariable("b", copied(forces[1]))
    (a, b), (da, db) = double(positions[:6])
    energy, found = energy_and_forces(context_of(system_of(), both), positions)
    assert energy == pytest.approx(50 * (a - 0.3) ** 2 + 7 * a * b, rel=1e-10)
    expected = -(100 * (a - 0.3) + 7 * b) * da - 7 * a * db
    np.testing.assert_allclose(found[:6], expected, atol=1e-9 * np.abs(expected).max())


def test_it_comes_back_from_xml(forces, positions):
    system = system_of()
    before = energy_and_forces(context_of(system, copied(forces[0])), positions)
    again = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    after = energy_and_forces(context_of(again), positions)
    assert before[0] == after[0]
    np.testing.assert_array_equal(*(found[1] for found in (before, after)))


class _Restricted(pickle.Unpickler):
    """Knows the force's own class, and nothing else."""

    def find_class(self, module, name):
        assert (module, name) == ("mdvae.adapters.openmm", "LatentEnergy")
        return super().find_class(module, name)


def test_its_pickle_holds_a_class_and_plain_data(sparse, rng):
    placement = place(sparse, np.full(N, 12.011), periodic=True)
    energy = adapter.LatentEnergy(adapter._packed(sparse), placement, 1)
    again = _Restricted(io.BytesIO(pickle.dumps(energy))).load()
    assert again.file == energy.file
    frame = rng.normal(size=(4, 3))
    for ours, theirs in zip(energy._evaluate(frame), again._evaluate(frame), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_components_share_one_computation(model, positions, monkeypatch):
    calls = []

    def counting(cv):
        compute = in_double(cv)
        return lambda frame: calls.append(1) or compute(frame)

    monkeypatch.setattr(adapter, "in_double", counting)
    monkeypatch.setattr(adapter, "_all_shared", {})
    both = [adapter.LatentEnergy(adapter._packed(model), adapter._alone(model), row) for row in range(2)]
    context = context_of(system_of(6), *(adapter._python_force(energy, "z") for energy in both))
    energy_and_forces(context, positions[:6])
    assert len(calls) == 1
    energy_and_forces(context, positions[:6] + 0.01)
    assert len(calls) == 2


def test_metadynamics_pushes_along_it(model, positions, double):
    app = openmm.app
    system = system_of()
    variables = adapter.bias_variables(model, system)
    z = np.array([double(frame)[0] for frame in model.data.frames.astype(float)])
    for row, variable in enumerate(variables):
        assert variable.minValue < z[:, row].min()
        assert z[:, row].max() < variable.maxValue
        assert variable.biasWidth == pytest.approx(0.1 * z[:, row].std(), rel=1e-4)
    bias = app.Metadynamics(system, variables, 300, 5, 2.0, 1)
    simulation = app.Simulation(_topology(), system, openmm.VerletIntegrator(1e-6), openmm.Platform.getPlatform(0))
    simulation.context.setPositions(positions)
    bias.step(simulation, 1)
    first = np.array(bias.getCollectiveVariables(simulation))
    np.testing.assert_allclose(first, double(positions[:6])[0], atol=1e-5)
    # Half a hill's width beside the hill.
    energy, found = energy_and_forces(simulation.context, positions + 1e-3 * np.arange(24).reshape(8, 3) ** 0.5)
    assert 0 < energy <= 2.0
    moved = positions + 1e-3 * np.arange(24).reshape(8, 3) ** 0.5
    np.testing.assert_allclose(found, slopes(simulation.context, moved), atol=1e-4 * np.abs(found).max())
    assert np.abs(found[:6]).max() > 0


def _topology():
    topology = openmm.app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    for _ in range(N):
        topology.addAtom("C", None, residue)
    return topology


BOX = np.array([[1.2, 0, 0], [0.3, 1.1, 0], [-0.2, 0.4, 1.3]])


@pytest.mark.parametrize("which", ["model", "sparse"])
def test_in_a_box_it_is_the_same_however_the_molecule_is_split(which, request, hexane, rng):
    model = request.getfixturevalue(which)
    system = system_of(box=BOX)
    force = adapter.latent_force(model, system, 1)
    assert force.usesPeriodicBoundaryConditions()
    own = model.system.atom_indices
    context = context_of(system, force)
    reference, n_split = in_double(mdvae.collective_variable(model)), 0
    for frame in hexane[0][:6].astype(float):
        positions = np.concatenate([frame, rng.normal(size=(2, 3))]) + 5 * rng.normal(size=3)
        fractions = positions @ np.linalg.inv(BOX)
        split = (fractions - np.floor(fractions)) @ BOX
        n_split += np.linalg.norm(np.diff(split[:6], axis=0), axis=1).max() > 0.5
        energy, found = energy_and_forces(context, split)
        z, jacobian = reference(frame[own])
        assert energy == pytest.approx(z[1], abs=1e-10)
        np.testing.assert_allclose(found[own], -jacobian[1], atol=1e-9)
        np.testing.assert_array_equal(np.delete(found, own, axis=0), 0)
    assert n_split > 2


def test_in_free_space_it_knows_no_box(forces):
    assert not forces[0].usesPeriodicBoundaryConditions()


def test_a_molecule_that_does_not_fit_its_box_stops_the_run(model, hexane):
    system = system_of(box=0.7 * np.eye(3))
    context = context_of(system, adapter.latent_force(model, system))
    context.setPeriodicBoxVectors(*0.62 * np.eye(3))
    apart = np.concatenate([hexane[0][0].astype(float), np.zeros((2, 3))])
    apart[:6] *= 3.0
    with pytest.raises(Exception, match="cannot be made whole"):
        energy_and_forces(context, apart)


def well(z):
    return 40.0 * jnp.sum((z - 0.1) ** 2) + jnp.sin(3 * z[0])


def test_a_bias_is_the_potential_of_the_coordinates(model, positions, double):
    context = context_of(system_of(), adapter.bias_force(model, system_of(), well))
    energy, found = energy_and_forces(context, positions)
    z = double(positions[:6])[0]
    assert energy == pytest.approx(40.0 * np.sum((z - 0.1) ** 2) + np.sin(3 * z[0]), rel=1e-10)
    np.testing.assert_allclose(found, slopes(context, positions), atol=1e-5 * np.abs(found).max())
    total = np.cross(positions, found).sum(axis=0)
    np.testing.assert_allclose(total, 0, atol=1e-8 * np.abs(found).max())


def test_a_bias_may_be_a_closure_and_one_of_a_module_comes_back(model, positions):
    center = 0.1
    closure = adapter.bias_force(model, system_of(), lambda z: 40.0 * jnp.sum((z - center) ** 2) + jnp.sin(3 * z[0]))
    system = system_of()
    direct = energy_and_forces(context_of(system, adapter.bias_force(model, system, well)), positions)
    np.testing.assert_allclose(energy_and_forces(context_of(system_of(), closure), positions)[1], direct[1], rtol=1e-9)
    again = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    assert energy_and_forces(context_of(again), positions)[0] == direct[0]


def test_what_openmm_gets_wrong_is_refused(model, monkeypatch):
    monkeypatch.setattr(adapter, "_in_nm", lambda lengths: 10 * np.asarray(lengths._value))
    with pytest.raises(ValueError, match=re.escape("OpenMM does not say what the model says")):
        adapter.latent_force(model, system_of())


def test_refusals(model, plane):
    with pytest.raises(ValueError, match="expected a component from 0 to 1, got 2"):
        adapter.latent_force(model, system_of(), 2)
    with pytest.raises(ValueError, match="other masses than the model's"):
        adapter.latent_force(model, system_of(mass=1.008))
    with pytest.raises(ValueError, match="expected a model in 3-D"):
        adapter.latent_force(plane, system_of())
    with pytest.raises(ValueError, match="composed by hand"):
        adapter.latent_force(dataclasses.replace(model, spec=None), system_of())
    with pytest.raises(ValueError, match="train it first"):
        adapter.latent_force(dataclasses.replace(model, data=None), system_of())
    with pytest.raises(ValueError, match=r"expected a potential of z \(2,\) that gives one number"):
        adapter.bias_force(model, system_of(), lambda z: z)
