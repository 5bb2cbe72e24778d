"""The center of mass, and a frame moved onto it."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mdvae._types import Frame, Weights


def center_of_mass(frame: Frame, weights: Weights) -> Float[Array, " dim"]:
    """Weighted mean position.

    Parameters
    ----------
    frame : (n_atoms, dim), nm
    weights : (n_atoms,)
        Masses, or ones for the geometric center. Only their ratios matter.

    Returns
    -------
    (dim,), nm
    """
    # Sums over thousands of atoms that sit 50 nm from the origin lose digits in float32;
    # sums of their small offsets from one of them do not.
    return frame[0] + (frame - frame[:1]).T @ weights / jnp.sum(weights)


def center(frame: Frame, weights: Weights) -> Frame:
    """Frame with its weighted mean position at the origin.

    Parameters
    ----------
    frame : (n_atoms, dim), nm
    weights : (n_atoms,)

    Returns
    -------
    (n_atoms, dim), nm
    """
    weights = weights.astype(frame.dtype)
    planes = frame.T - frame[0][:, None]
    return (planes - (planes @ weights / jnp.sum(weights))[:, None]).T
