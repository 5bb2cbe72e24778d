"""Principal axes: the gyration tensor, the rotation onto its axes, and how well they are defined."""

from itertools import product

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdvae._types import Frame, Scalar, Weights
from mdvae.geometry.eigen import symmetric_eigen


def gyration_tensor(frame: Frame, weights: Weights) -> Float[Array, "dim dim"]:
    """Weighted second moments of a centered frame.

    Parameters
    ----------
    frame : (n_atoms, dim), nm, centered
    weights : (n_atoms,)

    Returns
    -------
    (dim, dim), nm². Its trace is the squared radius of gyration.
    """
    planes, n = frame.T, frame.shape[1]
    # Sums over planes: under vmap the product of a matrix with itself is a slow call for each frame.
    upper = {(i, j): jnp.sum(weights * planes[i] * planes[j]) for i in range(n) for j in range(i, n)}
    return jnp.stack([jnp.stack([upper[min(i, j), max(i, j)] for j in range(n)]) for i in range(n)]) / jnp.sum(weights)


def principal(frame: Frame, weights: Weights, reference: Frame) -> tuple[Float[Array, "dim dim"], Scalar]:
    """Proper rotation that lays a centered frame along its own principal axes, and how well it is defined.

    Axes are only defined up to their signs. Of the proper choices (two in the plane, four in space)
    the one is taken that brings the frame nearest to ``reference``.

    Parameters
    ----------
    frame : (n_atoms, dim), nm, centered
    weights : (n_atoms,)
    reference : (n_atoms, dim), nm
        A structure in the standard pose; zeros where there is none yet.

    Returns
    -------
    rotation : (dim, dim), determinant +1
        ``frame @ rotation.T`` has its largest moment along x, the smallest along the last axis.
    gap : scalar
        Smallest difference between two principal moments, as a share of their sum. Near zero the axes are not defined:
        the smallest motion may turn the frame by a right angle.
    """
    dim = frame.shape[1]
    moments, axes = symmetric_eigen(gyration_tensor(frame, weights))
    total = jnp.sum(moments)
    gap = jnp.min(moments[:-1] - moments[1:]) / jnp.where(total > 0, total, 1.0)
    signs = jnp.asarray(np.array(list(product((1.0, -1.0), repeat=dim))), axes.dtype)
    along = jnp.sum(axes * (frame.T @ (weights[:, None] * reference)), axis=0)
    proper = jnp.prod(signs, axis=1) * _determinant(axes) > 0
    best = jnp.argmax(jnp.where(proper, signs @ along, -jnp.inf))
    return (axes * signs[best][None]).T, gap


def _determinant(matrix: Float[Array, "dim dim"]) -> Scalar:
    """Of a 2 x 2 or 3 x 3 matrix, in closed form (LAPACK's would not export)."""
    if matrix.shape[0] == 2:
        return matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]
    return jnp.sum(matrix[0] * jnp.cross(matrix[1], matrix[2]))
