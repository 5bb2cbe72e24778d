"""OpenMM: a latent coordinate, or a bias that depends on all of them, as a force that Python computes.

Such a force works by itself, inside of a ``CustomCVForce`` and in ``openmm.app.Metadynamics``, and can be serialized:
the XML then holds a Python pickle. Load such files only if you trust whoever made them, since a pickle can run
anything. What the force itself puts there is the bytes of a model file, which hold data only.
"""

import abc
import dataclasses
import hashlib
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mdvae._chunks import in_chunks
from mdvae.adapters.bias import Potential, energy_in_double
from mdvae.adapters.placement import Atoms, Placement, place
from mdvae.latent import collective_variable, in_double
from mdvae.latent.agreement import Evaluate, check_agreement
from mdvae.model import Model
from mdvae.saving import load, save

try:
    import openmm
    import openmm.app
    from openmm import PythonForce, unit
except ImportError as error:
    raise ImportError("mdvae.adapters.openmm needs OpenMM 8.5 or newer: pip install 'mdvae[openmm]'") from error

# Both sides compute in float64.
_TOLERANCE = 1e-9
# Grid and hills of metadynamics, in units of the latent coordinates that the training frames have: how far beyond them
# the grid goes, as a share of their range, and the width of a hill as a share of their standard deviation.
_BEYOND = 0.25
_HILL = 0.1


def latent_force(
    model: Model, system: "openmm.System", component: int = 0, *, atoms: Atoms | None = None
) -> "openmm.PythonForce":
    """A force whose energy is one latent coordinate: what ``CustomCVForce`` and ``BiasVariable`` take.

    Forces of several components of one model that are asked about the same positions share one computation.

    Parameters
    ----------
    model : Model
        Trained.
    system : openmm.System
        The one that the force is for; it is not added to it. Its periodic boundary conditions are the force's: then the
        molecule is made whole along its bonds at each step.
    component : int
        Which latent coordinate, counted from 0.
    atoms : (n_atoms,), optional
        Particles that are the model's atoms, in their order. If left out they are those that the model was trained on,
        by their places in its file, and their masses are compared.

    Returns
    -------
    openmm.PythonForce
        Computes in float64. "Energy" is the coordinate, forces are minus its gradient, per nm.

    Raises
    ------
    ValueError
        If there is no such component, if the atoms do not fit the system, if the model was composed by hand or keeps no
        training frames, and if OpenMM does not give what the model gives on frames of these that were moved and turned.
    """
    if not 0 <= component < model.latent_dim:
        raise ValueError(f"expected a component from 0 to {model.latent_dim - 1}, got {component}")
    placement = _placement(model, system, atoms)
    file, reference = _packed(model), in_double(collective_variable(model))

    def expected(frame: np.ndarray) -> tuple[Any, Any]:
        z, jacobian = reference(frame)
        return z[component], jacobian[component]

    _check(LatentEnergy(file, _alone(model), component), model, expected, serialize=True)
    return _python_force(LatentEnergy(file, placement, component), f"mdvae latent coordinate {component}")


def bias_force(
    model: Model, system: "openmm.System", potential: Potential, *, atoms: Atoms | None = None
) -> "openmm.PythonForce":
    """A force whose energy is a potential of the latent coordinates.

    Parameters
    ----------
    model : Model
        Trained.
    system : openmm.System
        The one that the force is for; it is not added to it.
    potential : callable
        JAX function of z (latent_dim,) to an energy in kJ/mol. The force can be serialized if this function stands at
        the top of a module that can be imported where the force is loaded.
    atoms : (n_atoms,), optional
        As of `latent_force`.

    Returns
    -------
    openmm.PythonForce

    Raises
    ------
    ValueError
        As of `latent_force`, and if the potential does not give one number.
    """
    placement = _placement(model, system, atoms)
    file, expected = _packed(model), energy_in_double(model, potential)
    _check(BiasEnergy(file, _alone(model), potential), model, expected, serialize=False)
    return _python_force(BiasEnergy(file, placement, potential), "mdvae bias")


def bias_variables(
    model: Model, system: "openmm.System", *, atoms: Atoms | None = None
) -> list["openmm.app.BiasVariable"]:
    """All latent coordinates of a model, ready for ``openmm.app.Metadynamics``.

    Hills are a tenth of a standard deviation wide, and the grid goes beyond the training frames on both sides by a
    quarter of their range; where a coordinate leaves it, metadynamics does not bias any more.

    Parameters
    ----------
    model : Model
        Trained.
    system : openmm.System
    atoms : (n_atoms,), optional
        As of `latent_force`.

    Returns
    -------
    list of openmm.app.BiasVariable

    Raises
    ------
    ValueError
        As of `latent_force`.

    Examples
    --------
    >>> variables = mdvae.adapters.openmm.bias_variables(model, system)  # doctest: +SKIP
    >>> metadynamics = openmm.app.Metadynamics(system, variables, 300, 6, 1.0, 500)  # doctest: +SKIP
    """
    forces = [latent_force(model, system, component, atoms=atoms) for component in range(model.latent_dim)]
    assert model.data is not None
    z = np.concatenate([z for _, z in in_chunks(model.coordinate.encode_posed, model.data.frames)])
    least, most, widths = z.min(axis=0), z.max(axis=0), _HILL * z.std(axis=0)
    margin = _BEYOND * (most - least)
    return [
        openmm.app.BiasVariable(force, float(low), float(high), float(width))
        for force, low, high, width in zip(forces, least - margin, most + margin, widths, strict=True)
    ]


class _Energy(abc.ABC):
    """What a ``PythonForce`` calls: a class, not a closure, since OpenMM pickles it to copy or to serialize the force.

    The pickle holds the bytes of a model file and plain data; what is compiled is made again when it is loaded.
    """

    def __init__(self, file: bytes, placement: Placement) -> None:
        self.file, self.placement = file, placement
        self._evaluate = self._compiled()

    @abc.abstractmethod
    def _compiled(self) -> Evaluate:
        """Energy and its gradient (n_atoms, 3) of one frame, float64."""

    def __call__(self, state: "openmm.State") -> tuple[float, Float[np.ndarray, "n_particles 3"]]:
        """Energy and forces of the particles of a State."""
        cell = _in_nm(state.getPeriodicBoxVectors(asNumpy=True)) if self.periodic else None
        frame = self.placement.frame(_in_nm(state.getPositions(asNumpy=True)), cell)
        energy, gradient = self._evaluate(frame)
        return float(energy), self.placement.scatter(-gradient)

    @property
    def periodic(self) -> bool:
        """Whether the molecule has to be made whole."""
        return self.placement.molecules is not None

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return kept | {"placement": self.placement.to_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, placement=Placement.from_dict(state["placement"]))
        self._evaluate = self._compiled()


class LatentEnergy(_Energy):
    """One latent coordinate in place of the energy."""

    def __init__(self, file: bytes, placement: Placement, component: int) -> None:
        self.component = component
        super().__init__(file, placement)

    def _compiled(self) -> Evaluate:
        component, shared = self.component, _shared(self.file)

        def evaluate(frame: np.ndarray) -> tuple[Any, Any]:
            z, jacobian = shared(frame)
            return z[component], jacobian[component]

        return evaluate


class BiasEnergy(_Energy):
    """A potential of the latent coordinates."""

    def __init__(self, file: bytes, placement: Placement, potential: Potential) -> None:
        self.potential = potential
        super().__init__(file, placement)

    def _compiled(self) -> Evaluate:
        return energy_in_double(_unpacked(self.file), self.potential)


class _Shared:
    """All latent coordinates of a model, computed once for forces that ask about the same positions."""

    def __init__(self, file: bytes) -> None:
        self._compute = in_double(collective_variable(_unpacked(file)))
        self._last: tuple[Any, Any] | None = None

    def __call__(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        last = self._last
        if last is None or not np.array_equal(last[0], frame):
            # One assignment, so that another thread finds a frame with its own values.
            last = self._last = frame.copy(), self._compute(frame)
        return last[1]


# As long as a force holds them.
_all_shared: weakref.WeakValueDictionary[bytes, _Shared] = weakref.WeakValueDictionary()


def _shared(file: bytes) -> _Shared:
    digest = hashlib.sha256(file).digest()
    shared = _all_shared.get(digest)
    if shared is None:
        shared = _all_shared[digest] = _Shared(file)
    return shared


def _in_nm(lengths: Any) -> np.ndarray:
    return lengths.value_in_unit_system(unit.md_unit_system)


# What a file of a model holds is always the same, but in an order that is not.
_all_packed: weakref.WeakKeyDictionary[Model, bytes] = weakref.WeakKeyDictionary()


def _packed(model: Model) -> bytes:
    """The bytes of its model file, without what only training and generation need."""
    if model.spec is None:
        raise ValueError("the model was composed by hand: only one that `build` made can be loaded again by a force")
    if model not in _all_packed:
        bare = dataclasses.replace(model, data=None, history=None, diagnostics=None, settings={})
        with tempfile.TemporaryDirectory() as folder:
            save(bare, Path(folder) / "model.mdvae")
            _all_packed[model] = (Path(folder) / "model.mdvae").read_bytes()
    return _all_packed[model]


def _unpacked(file: bytes) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.mdvae").write_bytes(file)
        return load(Path(folder) / "model.mdvae")


def _placement(model: Model, system: "openmm.System", atoms: Atoms | None) -> Placement:
    particles = range(system.getNumParticles())
    masses = [system.getParticleMass(i).value_in_unit_system(unit.md_unit_system) for i in particles]
    return place(model, np.array(masses), atoms=atoms, periodic=system.usesPeriodicBoundaryConditions())


def _alone(model: Model) -> Placement:
    return Placement(np.arange(model.system.n_atoms))


def _python_force(energy: _Energy, name: str) -> "openmm.PythonForce":
    force = PythonForce(energy, {}, energy.placement.atoms.tolist())
    force.setUsesPeriodicBoundaryConditions(energy.periodic)
    force.setName(name)
    return force


def _check(energy: _Energy, model: Model, expected: Evaluate, *, serialize: bool) -> None:
    """Let OpenMM compute a force of the model's atoms alone, after a way through XML if it shall survive that."""
    system = openmm.System()
    for _ in energy.placement.atoms:
        system.addParticle(1.0)
    system.addForce(_python_force(energy, "checked"))
    if serialize:
        system = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))

    def evaluate(frame: np.ndarray) -> tuple[Any, Any]:
        context.setPositions(frame)
        state = context.getState(energy=True, forces=True)
        forces = state.getForces(asNumpy=True).value_in_unit_system(unit.md_unit_system)
        return state.getPotentialEnergy().value_in_unit_system(unit.md_unit_system), -forces

    check_agreement(model, evaluate, name="OpenMM", tolerance=_TOLERANCE, reference=expected)
