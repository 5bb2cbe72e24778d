"""Against a stand-in for PySAGES, which is in no package registry: its base class as its source describes it."""

import importlib
import sys
from abc import ABC, abstractmethod
from inspect import signature
from types import ModuleType

import jax
import numpy as np
import pytest

import mdvae
from mdvae.latent import in_double
from mdvae.latent.agreement import moved_frames


class CollectiveVariable(ABC):
    def __init__(self, indices, group_length=None):
        self.indices, self.groups, self.requires_box_unwrapping = np.array(indices, np.uint32), [], True

    @property
    @abstractmethod
    def function(self):
        """Of the positions of the chosen atoms."""


def evaluated(cv, positions, ids):
    """What a sampling method makes of a variable: its value and its flattened gradient over all particles."""
    function = cv.function
    assert len(signature(function).parameters) == 1
    return jax.jit(jax.value_and_grad(lambda x: jax.numpy.asarray(function(x[ids[cv.indices]]))))(positions)


@pytest.fixture
def adapter(monkeypatch):
    for name in ("pysages", "pysages.colvars", "pysages.colvars.core"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["pysages.colvars.core"].CollectiveVariable = CollectiveVariable
    monkeypatch.delitem(sys.modules, "mdvae.adapters.pysages", raising=False)
    yield importlib.import_module("mdvae.adapters.pysages")
    sys.modules.pop("mdvae.adapters.pysages")


UNITS = {"nm": 1.0, "angstrom": 10.0}


@pytest.mark.parametrize("unit", UNITS)
def test_it_is_the_coordinate_of_the_chosen_particles(unit, adapter, model, rng):
    positions = np.concatenate([moved_frames(model, seed=1)[0], rng.normal(size=(2, 3))])
    z, jacobian = in_double(mdvae.collective_variable(model))(positions[:6])
    ids = rng.permutation(8)
    for component in range(2):
        cv = adapter.LatentVariable(model, component, length_unit=unit)
        with jax.enable_x64(True):
            shuffled = np.empty_like(positions)
            shuffled[ids] = UNITS[unit] * positions
            value, gradient = evaluated(cv, shuffled, ids)
        assert float(value) == pytest.approx(z[component], abs=1e-10)
        np.testing.assert_allclose(gradient[ids[:6]], jacobian[component] / UNITS[unit], atol=1e-9)


def test_what_differs_is_refused(adapter, model, monkeypatch):
    whole = adapter.LatentVariable.function.fget
    monkeypatch.setattr(adapter.LatentVariable, "function", property(lambda self: lambda x: 1.01 * whole(self)(x)))
    with pytest.raises(ValueError, match="the PySAGES variable does not say what the model says"):
        adapter.LatentVariable(model)


def test_refusals(adapter, model):
    with pytest.raises(ValueError, match="expected a component from 0 to 1, got 2"):
        adapter.LatentVariable(model, 2)
    with pytest.raises(ValueError, match="expected a length_unit of nm, angstrom, got 'bohr'"):
        adapter.LatentVariable(model, length_unit="bohr")
    with pytest.raises(ValueError, match="atoms= must be 6 different numbers"):
        adapter.LatentVariable(model, atoms=[1])


PACKAGES = {"openmm": "openmm", "ase": "ase", "pysages": "pysages.colvars.core"}


@pytest.mark.parametrize("name", PACKAGES)
def test_what_is_missing_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    before = sys.modules.pop(f"mdvae.adapters.{name}", None)
    try:
        with pytest.raises(ImportError, match=f"mdvae.adapters.{name} needs"):
            importlib.import_module(f"mdvae.adapters.{name}")
    finally:
        if before is not None:
            sys.modules[f"mdvae.adapters.{name}"] = before


def test_unknown_packages_are_refused():
    with pytest.raises(AttributeError, match="has no attribute 'gromacs'"):
        _ = mdvae.adapters.gromacs
