"""The proper rotation that brings one centered frame nearest to another.

In space it is Horn's unit quaternion (doi:10.1364/JOSAA.4.000629), the top eigenvector of a 4 x 4
matrix: always proper, so that chirality survives. In the plane it is one angle, in closed form.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mdvae._types import Frame, Scalar, Weights
from mdvae.geometry.eigen import dominant_eigenvector


def superposition_rotation(frame: Frame, reference: Frame, weights: Weights) -> Float[Array, "dim dim"]:
    """Rotation that minimizes the weighted squared distance to the reference.

    Parameters
    ----------
    frame, reference : (n_atoms, dim), nm, both centered with the same weights
    weights : (n_atoms,)

    Returns
    -------
    rotation : (dim, dim), determinant +1
        ``frame @ rotation.T`` is the superposed frame.
    """
    return superposition(frame, reference, weights)[0]


def superposition(frame: Frame, reference: Frame, weights: Weights) -> tuple[Float[Array, "dim dim"], Scalar]:
    """The same rotation, and how well it is defined.

    Parameters
    ----------
    frame, reference : (n_atoms, dim), nm, both centered with the same weights
    weights : (n_atoms,)

    Returns
    -------
    rotation : (dim, dim), determinant +1
    gap : scalar
        From 0, not at all, to 1, as well as can be: half the gap below the top eigenvalue of the quaternion matrix (in
        the plane: the length of the vector whose direction is the angle), relative to the sizes of both frames. It
        vanishes for points on a line.
    """
    covariance = jnp.einsum("a,ai,aj->ij", weights, frame, reference)
    sizes = jnp.einsum("a,ad->", weights, frame**2) * jnp.einsum("a,ad->", weights, reference**2)
    scale = jnp.sqrt(jnp.where(sizes > 0, sizes, 1.0))
    if frame.shape[1] == 2:
        return _planar_rotation(covariance), jnp.hypot(*_planar_vector(covariance)) / scale
    rotation = _rotation_of(dominant_eigenvector(_quaternion_matrix(covariance)))
    # Once turned the covariance is symmetric, and half the gap is the sum of its eigenvalues but the largest.
    turned = jnp.sum(rotation[:, :, None] * covariance[None], axis=1)
    turned = 0.5 * (turned + turned.T)
    axis = dominant_eigenvector(turned)
    largest = jnp.sum(turned * axis[:, None] * axis[None])
    return rotation, jnp.maximum(jnp.trace(turned) - largest, 0) / scale


def _planar_vector(covariance: Float[Array, "2 2"]) -> tuple[Scalar, Scalar]:
    return covariance[0, 0] + covariance[1, 1], covariance[0, 1] - covariance[1, 0]


def _planar_rotation(covariance: Float[Array, "2 2"]) -> Float[Array, "2 2"]:
    x, y = _planar_vector(covariance)
    squared = x**2 + y**2
    defined = squared > 0
    length = jnp.sqrt(jnp.where(defined, squared, 1.0))
    c, s = jnp.where(defined, x / length, 1.0), jnp.where(defined, y / length, 0.0)
    return jnp.stack([jnp.stack([c, -s]), jnp.stack([s, c])])


def _quaternion_matrix(m: Float[Array, "3 3"]) -> Float[Array, "4 4"]:
    """Horn's symmetric matrix N, whose quadratic form is the overlap after rotation by a quaternion."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = m
    rows = [
        [xx + yy + zz, yz - zy, zx - xz, xy - yx],
        [yz - zy, xx - yy - zz, xy + yx, zx + xz],
        [zx - xz, xy + yx, yy - xx - zz, yz + zy],
        [xy - yx, zx + xz, yz + zy, zz - xx - yy],
    ]
    return jnp.stack([jnp.stack(row) for row in rows])


def _rotation_of(quaternion: Float[Array, "4"]) -> Float[Array, "3 3"]:
    w, x, y, z = quaternion
    rows = [
        [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
    ]
    return jnp.stack([jnp.stack(row) for row in rows])
