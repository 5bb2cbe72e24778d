"""JAX-MD: a bias that depends on the latent coordinates, as an energy function of all positions."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from mdvae._types import Scalar
from mdvae.adapters.bias import Potential, energy_in_double
from mdvae.adapters.placement import Atoms, checked_atoms
from mdvae.latent import collective_variable
from mdvae.latent.agreement import check_agreement
from mdvae.model import Model
from mdvae.trajectory import Molecules, find_molecules

Positions = Float[Array, "n_particles dim"]
# Displacement of two positions, as the functions of `jax_md.space` give it; it may take keyword arguments.
Displacement = Callable[..., Float[Array, " dim"]]
# Both sides compute in float64.
_TOLERANCE = 1e-9


def latent_energy(
    displacement: Displacement, model: Model, potential: Potential, *, atoms: Atoms | None = None
) -> Callable[..., Scalar]:
    """Energy function of a potential of the latent coordinates, to be added to others of JAX-MD.

    The molecule is put together along its bonds by displacements, so that it is whole in a periodic space too, as long
    as each bond is shorter than half the box. Pieces without bonds between them are put beside the first one by the
    nearest images of their first atoms.

    Parameters
    ----------
    displacement : callable
        Of a space, such as `jax_md.space.free` or `periodic` make.
    model : Model
        Trained. JAX-MD knows no units: here lengths are in nm, or in reduced units if the model's are.
    potential : callable
        JAX function of z (latent_dim,) to an energy.
    atoms : (n_atoms,), optional
        Which particles are the model's atoms, in its order; by their places in its file if left out.

    Returns
    -------
    callable
        ``energy(R, **kwargs)`` of positions (n_particles, dim), to be differentiated and jitted with the rest; the
        keyword arguments go to the displacement. It computes in the precision of the positions.

    Raises
    ------
    ValueError
        If the atoms do not fit, and if the energy is not what the model gives on training frames that were moved and
        turned.
    """
    molecules, needed = _molecules(model, atoms)
    cv, whole = collective_variable(model), _Whole(molecules)
    least = int(needed.max()) + 1

    def make(displacement: Displacement) -> Callable[..., Scalar]:
        def energy(R: Positions, **kwargs: Any) -> Scalar:
            if len(R) < least:
                raise ValueError(
                    f"the model is about particles up to number {least - 1} (counted from 0), but there are {len(R)}"
                )
            return potential(cv(whole(displacement, R[needed], kwargs)[molecules.selected]))

        return energy

    _check(model, potential, make(_free), needed[molecules.selected], least)
    return make(displacement)


def _free(a: Float[Array, " dim"], b: Float[Array, " dim"]) -> Float[Array, " dim"]:
    return a - b


def _molecules(model: Model, atoms: Atoms | None) -> tuple[Molecules, Int[np.ndarray, " n_needed"]]:
    """What holds the model's atoms together, and the particles that this takes."""
    system = model.system
    if atoms is None and system.molecules is not None:
        return system.molecules, system.molecules.atom_indices
    own = system.atom_indices if atoms is None else checked_atoms(atoms, system.n_atoms)
    # Only what links the model's own atoms is known.
    return find_molecules(len(own), system.links, np.arange(len(own))), own


class _Whole:
    """Positions from displacements along a tree, the first atom at the origin."""

    def __init__(self, molecules: Molecules) -> None:
        self.parents = np.arange(len(molecules.atom_indices))
        self.parents[molecules.children] = molecules.parents
        roots = np.flatnonzero(self.parents == np.arange(len(self.parents)))
        self.root = int(roots[0])
        self.parents[roots] = self.root

    def __call__(self, displacement: Displacement, R: Positions, kwargs: dict[str, Any]) -> Positions:
        x, ancestors = jax.vmap(lambda a, b: displacement(a, b, **kwargs))(R, R[self.parents]), self.parents
        # Each round doubles over how many generations the steps are summed; that of the root is zero.
        while (ancestors != self.root).any():
            x, ancestors = x + x[ancestors], ancestors[ancestors]
        return x


def _check(
    model: Model,
    potential: Potential,
    energy: Callable[..., Scalar],
    own: Int[np.ndarray, " n_atoms"],
    n_particles: int,
) -> None:
    """Compute in free space, with the model's atoms among others, what the model gives."""
    compiled = jax.jit(jax.value_and_grad(energy))

    def evaluate(frame: np.ndarray) -> tuple[Any, Any]:
        positions = np.zeros((n_particles, frame.shape[1]))
        positions[own] = frame
        with jax.enable_x64(True):
            value, gradient = compiled(positions)
            return value, gradient[own]

    reference = energy_in_double(model, potential)
    check_agreement(model, evaluate, name="JAX-MD", tolerance=_TOLERANCE, reference=reference)
