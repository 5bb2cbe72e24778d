import jax.numpy as jnp
import numpy as np
import pytest

import mdvae
from mdvae.adapters.placement import Placement
from mdvae.latent import in_double

ase = pytest.importorskip("ase")
adapter = mdvae.adapters.ase
CELL = np.array([[12.0, 0, 0], [3.0, 11.0, 0], [-2.0, 4.0, 13.0]])


def well(z):
    return 0.4 * jnp.sum((z - 0.1) ** 2) + 0.1 * jnp.sin(3 * z[0])


def host(frame, **options):
    """The molecule, of a frame in nm, after an oxygen and before another one."""
    positions = np.concatenate([[[30.0, 0, 0]], 10 * np.asarray(frame, float), [[0, 30.0, 0]]])
    return ase.Atoms("OC6O", positions=positions, **options)


PLACES = list(range(1, 7))


@pytest.fixture(scope="module")
def bias(model, hexane):
    return adapter.LatentBias(model, host(hexane[0][0]), well, atoms=PLACES)


def test_energy_and_forces_are_in_ev_and_angstrom(bias, model, hexane):
    atoms = host(hexane[0][3])
    atoms.calc = bias
    z, jacobian = in_double(mdvae.collective_variable(model))(hexane[0][3])
    assert atoms.get_potential_energy() == pytest.approx(
        0.4 * np.sum((z - 0.1) ** 2) + 0.1 * np.sin(3 * z[0]), rel=1e-6
    )
    slope = 0.8 * (z - 0.1) + np.array([0.3 * np.cos(3 * z[0]), 0])
    expected = -np.tensordot(slope, jacobian, 1) / 10
    np.testing.assert_allclose(atoms.get_forces()[PLACES], expected, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_array_equal(atoms.get_forces()[[0, 7]], 0)


def test_forces_are_finite_differences(bias, hexane):
    atoms, step = host(hexane[0][3]), 1e-4
    atoms.calc = bias
    forces, slopes = atoms.get_forces(), np.zeros((8, 3))
    for index in np.ndindex(slopes.shape):
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[index] += sign * step
            moved.calc = bias
            slopes[index] -= sign * moved.get_potential_energy() / (2 * step)
    np.testing.assert_allclose(forces, slopes, atol=1e-6 * np.abs(forces).max())


def test_it_is_added_to_another_calculator(bias, hexane):
    from ase.calculators.lj import LennardJones
    from ase.calculators.mixing import SumCalculator

    atoms, energies, forces = host(hexane[0][3]), [], []
    pairs = LennardJones(sigma=1.0, epsilon=0.01)
    for calc in (bias, pairs, SumCalculator([bias, pairs])):
        atoms.calc = calc
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    assert energies[2] == pytest.approx(energies[0] + energies[1])
    np.testing.assert_allclose(forces[2], forces[0] + forces[1])


def test_dynamics_with_it_keep_the_energy(model, hexane):
    """Of the molecule in the bias alone, which holds it together by nothing: a few short steps."""
    from ase import units
    from ase.md.verlet import VelocityVerlet

    atoms = ase.Atoms("C6", positions=10 * hexane[0][0])
    atoms.calc = adapter.LatentBias(model, atoms, lambda z: 0.5 * jnp.sum(z**2))
    total = [atoms.get_total_energy()]
    dynamics = VelocityVerlet(atoms, 0.1 * units.fs)
    for _ in range(20):
        dynamics.run(5)
        total.append(atoms.get_total_energy())
    assert atoms.get_kinetic_energy() > 1e-4
    assert np.ptp(total) < 1e-3 * atoms.get_kinetic_energy()


def test_in_a_cell_it_is_the_same_however_the_molecule_is_split(bias, model, hexane):
    free = host(hexane[0][5])
    free.calc = bias
    atoms = host(hexane[0][5], cell=CELL, pbc=True)
    atoms.positions -= atoms.positions[3]
    atoms.wrap()
    assert np.linalg.norm(np.diff(atoms.positions[PLACES], axis=0), axis=1).max() > 5
    atoms.calc = adapter.LatentBias(model, atoms, well, atoms=PLACES)
    assert atoms.get_potential_energy() == pytest.approx(free.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(atoms.get_forces(), free.get_forces(), atol=1e-9)


def test_refusals(bias, model, hexane):
    with pytest.raises(ValueError, match="other masses than the model's"):
        adapter.LatentBias(model, host(hexane[0][0]), well)
    with pytest.raises(ValueError, match="periodic in all directions or in none"):
        adapter.LatentBias(model, host(hexane[0][0], cell=CELL, pbc=[True, True, False]), well, atoms=PLACES)
    with pytest.raises(ValueError, match="that gives one number"):
        adapter.LatentBias(model, host(hexane[0][0]), lambda z: z, atoms=PLACES)
    other = host(hexane[0][0])[:7]
    other.calc = bias
    with pytest.raises(ValueError, match="was made for 8 atoms"):
        other.get_potential_energy()


def test_what_ase_gets_wrong_is_refused(model, hexane):
    wrong = adapter.LatentBias(model, host(hexane[0][0]), well, atoms=PLACES)
    wrong._placement = Placement(np.array(PLACES)[::-1])
    with pytest.raises(ValueError, match="ASE does not say what the model says"):
        wrong._check(model, np.array(PLACES))
