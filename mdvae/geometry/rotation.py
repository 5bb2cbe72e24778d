"""A frame turned by a rotation, and the products of coordinates that rotations are found from.

Both are written as sums over coordinate axes. Products of matrices that have three columns would each be a call for
itself under ``vmap``; sums over planes fuse into one pass, on any device.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mdvae._types import Frame, Weights


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
    planes = frame.T
    return jnp.stack([sum(entry * plane for entry, plane in zip(row, planes, strict=True)) for row in rotation], axis=1)


def weighted_products(frame: Frame, other: Frame, weights: Weights) -> Float[Array, "dim dim"]:
    """Sums over atoms of weight times a coordinate of one frame times one of another.

    Parameters
    ----------
    frame, other : (n_atoms, dim), nm
    weights : (n_atoms,)

    Returns
    -------
    (dim, dim), nm²
        Of coordinates of ``frame`` by rows, of ``other`` by columns.
    """
    rows = frame.T * weights[None]
    return jnp.stack([jnp.stack([jnp.sum(row * column) for column in other.T]) for row in rows])
