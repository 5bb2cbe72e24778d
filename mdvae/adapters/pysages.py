"""PySAGES: latent coordinates as collective variables for its sampling methods.

Written by PySAGES's source and run against a stand-in for it only, since it is in no package registry.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdvae._types import Scalar
from mdvae.adapters.placement import Atoms, checked_atoms
from mdvae.latent import collective_variable, in_double
from mdvae.latent.agreement import check_agreement
from mdvae.model import Model

try:
    from pysages.colvars.core import CollectiveVariable  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise ImportError(
        "mdvae.adapters.pysages needs PySAGES, which is in no package registry: install it as "
        "https://pysages.readthedocs.io says"
    ) from error

# Both sides compute in float64.
_TOLERANCE = 1e-9
# Of a unit of length of the simulation, in nm.
_UNITS = {"nm": 1.0, "angstrom": 0.1}


class LatentVariable(CollectiveVariable):
    """One latent coordinate of a model as a PySAGES collective variable.

    PySAGES unwraps positions by the images that its backend keeps; the molecule has to be whole then.

    Parameters
    ----------
    model : Model
    component : int
        Which latent coordinate, counted from 0: PySAGES differentiates numbers. Give a list of variables to a method to
        use several.
    length_unit : {"nm", "angstrom"}
        Of the positions in the simulation: nm for OpenMM, Å for ASE.
    atoms : (n_atoms,), optional
        Which particles are the model's atoms, in its order; by their places in its file if left out.

    Raises
    ------
    ValueError
        If there is no such component or unit, if the atoms do not fit the model, if it keeps no training frames, and if
        on these, moved and turned, the function does not give what the model gives.

    Examples
    --------
    >>> cv = mdvae.adapters.pysages.LatentVariable(model)  # doctest: +SKIP
    >>> method = pysages.methods.Metadynamics([cv], height, sigma, stride, ngauss)  # doctest: +SKIP
    """

    def __init__(
        self, model: Model, component: int = 0, *, length_unit: str = "nm", atoms: Atoms | None = None
    ) -> None:
        if not 0 <= component < model.latent_dim:
            raise ValueError(f"expected a component from 0 to {model.latent_dim - 1}, got {component}")
        if length_unit not in _UNITS:
            raise ValueError(f"expected a length_unit of {', '.join(_UNITS)}, got {length_unit!r}")
        own = model.system.atom_indices if atoms is None else checked_atoms(atoms, model.system.n_atoms)
        super().__init__(own.tolist())
        self._model, self._component, self._scale = model, component, _UNITS[length_unit]
        self._check()

    @property
    def function(self) -> Callable[[Float[Array, "n_atoms 3"]], Scalar]:
        """The coordinate as a function of the positions of the chosen atoms."""
        cv, component, scale = collective_variable(self._model), self._component, self._scale

        def latent(positions: Float[Array, "n_atoms 3"]) -> Scalar:
            return cv(scale * jnp.asarray(positions))[component]

        return latent

    def _check(self) -> None:
        """Differentiate the function as a sampling method does."""
        both, reference = jax.jit(jax.value_and_grad(self.function)), in_double(collective_variable(self._model))

        def evaluate(frame: np.ndarray) -> tuple[Any, Any]:
            with jax.enable_x64(True):
                value, gradient = both(frame / self._scale)
                return np.asarray(value), np.asarray(gradient) / self._scale

        def expected(frame: np.ndarray) -> tuple[Any, Any]:
            z, jacobian = reference(frame)
            return z[self._component], jacobian[self._component]

        check_agreement(self._model, evaluate, name="the PySAGES variable", tolerance=_TOLERANCE, reference=expected)
