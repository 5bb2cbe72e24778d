"""A frame turned by a rotation."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mdvae._types import Frame


def rotate(frame: Frame, rotation: Float[Array, "dim dim"]) -> Frame:
    """Turn a frame about the origin.

    Parameters
    ----------
    frame : (n_atoms, dim), nm
    rotation : (dim, dim)

    Returns
    -------
    (n_atoms, dim), nm
        ``frame @ rotation.T``
    """
    # Under vmap a product of matrices with three columns is a slow call for each frame; sums over planes are one pass.
    planes = frame.T
    return jnp.stack([sum(entry * plane for entry, plane in zip(row, planes, strict=True)) for row in rotation], axis=1)
