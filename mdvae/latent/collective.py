"""The latent coordinates of a trained model as a collective variable: one function of one frame, fit to bias with."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdvae._types import Frame, Latent
from mdvae.alignment import AbstractAlignment
from mdvae.model import Model
from mdvae.networks import AbstractEncoder
from mdvae.representations import AbstractRepresentation

# A user's frame may be NumPy's.
AnyFrame = Frame | Float[np.ndarray, "n_atoms dim"]


@dataclasses.dataclass(frozen=True, eq=False)
class CollectiveVariable:
    """Align, represent, encode to the posterior mean: one frame (n_atoms, dim) to (latent_dim,).

    Frames are aligned only where the representation tells how they stand, which internal coordinates, distances and
    torsions do not.

    Pure and deterministic, so that it may be jitted, batched by `jax.vmap`, differentiated and exported; it calls no
    LAPACK. It computes in the precision of the frame. Its derivatives are continuous wherever the pose of a frame is
    defined: not where all atoms lie on a line, nor, with ``alignment="principal"``, where two principal moments are
    equal. Where nothing is aligned they are wherever the distances, angles and torsions are. A frozen record, not a
    module: `jax.jit` takes it as it is, its numbers as constants.

    Parameters
    ----------
    alignment : AbstractAlignment
    representation : AbstractRepresentation
    encoder : AbstractEncoder

    See Also
    --------
    collective_variable : makes one of a model.
    """

    alignment: AbstractAlignment
    representation: AbstractRepresentation
    encoder: AbstractEncoder

    @property
    def n_atoms(self) -> int:
        """Number of atoms of a frame: those that the model was trained on, in their order."""
        return len(self.alignment.weights)

    def __call__(self, frame: AnyFrame) -> Latent:
        """Latent point (latent_dim,) of a frame (n_atoms, dim) in nm, whole, wherever it stands.

        Raises
        ------
        ValueError
            For another number of atoms.
        """
        if len(frame) != self.n_atoms:
            raise ValueError(
                f"the collective variable is a function of {self.n_atoms} atoms, got {len(frame)}: give it the atoms "
                "of the model's selection alone, in their order"
            )
        frame = jnp.asarray(frame)
        cv = _in_precision_of(frame, self)
        posed = cv.alignment(frame) if cv.representation.keeps_pose else frame
        return cv.encoder(cv.representation.to_features(posed)).mean

    def value_and_jacobian(self, frame: AnyFrame) -> tuple[Latent, Float[Array, "latent_dim n_atoms dim"]]:
        """Latent point, and its derivatives with respect to the positions.

        Parameters
        ----------
        frame : (n_atoms, dim), nm

        Returns
        -------
        z : (latent_dim,)
        jacobian : (latent_dim, n_atoms, dim), 1/nm
            Of each latent coordinate the rows sum to zero, since it does not change when the molecule moves; and, but
            with positions and ``alignment="none"``, their torques do, since it does not change when the molecule turns.
        """
        z, pull_back = jax.vjp(self, jnp.asarray(frame))
        (jacobian,) = jax.vmap(pull_back)(np.eye(len(z), dtype=z.dtype))
        return z, jacobian


def _in_precision_of(frame: Frame, cv: CollectiveVariable) -> CollectiveVariable:
    """Numbers of the modules in that of the frame: else their products would be rounded first, each compiler's way."""
    dtype = jnp.promote_types(frame.dtype, jnp.float32)
    parts = (cv.alignment, cv.representation, cv.encoder)
    cast = jax.tree.map(lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, parts)
    return CollectiveVariable(*cast)


def collective_variable(model: Model) -> CollectiveVariable:
    """Make the collective variable of a trained model.

    Parameters
    ----------
    model : Model

    Returns
    -------
    CollectiveVariable
        A function of the atoms that the model was trained on (``model.system.atom_indices`` of those in its file), in
        nm.

    Examples
    --------
    >>> cv = jax.jit(mdvae.collective_variable(model))  # doctest: +SKIP
    >>> z = cv(trajectory.xyz[0, model.system.atom_indices])  # doctest: +SKIP
    """
    return CollectiveVariable(model.alignment, model.representation, model.vae.encoder)


def in_double(cv: CollectiveVariable) -> Callable[[Any], tuple[np.ndarray, np.ndarray]]:
    """Value and Jacobian for hosts that hold NumPy arrays and expect double precision.

    JAX computes in single precision unless the whole process is told otherwise; here only this function is.

    Parameters
    ----------
    cv : CollectiveVariable

    Returns
    -------
    callable
        Of a frame (n_atoms, dim) in nm; returns (latent_dim,) and (latent_dim, n_atoms, dim), float64. Compiled the
        first time.
    """
    compiled = jax.jit(cv.value_and_jacobian)

    def value_and_jacobian(frame: Any) -> tuple[np.ndarray, np.ndarray]:
        with jax.enable_x64(True):
            z, jacobian = compiled(np.asarray(frame, np.float64))
            return np.asarray(z), np.asarray(jacobian)

    return value_and_jacobian
