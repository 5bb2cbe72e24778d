"""A potential of the latent coordinates as energy and gradient of one frame, in double precision."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mdvae._types import Latent, Scalar
from mdvae.latent import collective_variable
from mdvae.model import Model

# JAX function of z (latent_dim,) to an energy.
Potential = Callable[[Latent], Scalar]


def energy_in_double(model: Model, potential: Potential) -> Callable[[Any], tuple[float, np.ndarray]]:
    """Energy and gradient, for hosts that hold NumPy arrays and expect double precision.

    Parameters
    ----------
    model : Model
    potential : callable
        JAX function of z (latent_dim,) to an energy.

    Returns
    -------
    callable
        Of a frame (n_atoms, dim) in nm; returns the energy, and its gradient (n_atoms, dim) per nm, float64.

    Raises
    ------
    ValueError
        If the potential does not give one number.
    """
    cv = collective_variable(model)
    with jax.enable_x64(True):
        made = jax.eval_shape(potential, jax.ShapeDtypeStruct((model.latent_dim,), np.float64))
    if getattr(made, "shape", None) != ():
        raise ValueError(f"expected a potential of z ({model.latent_dim},) that gives one number, got {made}")
    compiled = jax.jit(jax.value_and_grad(lambda frame: potential(cv(frame))))

    def evaluate(frame: Any) -> tuple[float, np.ndarray]:
        with jax.enable_x64(True):
            energy, gradient = compiled(np.asarray(frame, np.float64))
            return float(energy), np.asarray(gradient)

    return evaluate
