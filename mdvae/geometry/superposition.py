"""The proper rotation that brings one centered frame nearest to another.

In space it is Horn's unit quaternion (doi:10.1364/JOSAA.4.000629), the top eigenvector of a 4 x 4
matrix: always proper, so that chirality survives. In the plane it is one angle, in closed form.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mdvae._types import Frame, Scalar, Weights
from mdvae.geometry.eigen import dominant_eigenvector, largest_eigenvalue
from mdvae.geometry.rotation import rotate


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
    return _rotation(frame.T @ (weights[:, None] * reference))


def superpose(frame: Frame, reference: Frame, weights: Weights) -> tuple[Frame, Scalar]:
    """Frame centered and superposed on a reference, and how well the turn is defined.

    Parameters
    ----------
    frame : (n_atoms, dim), nm, wherever it is
    reference : (n_atoms, dim), nm, centered with the same weights
    weights : (n_atoms,)

    Returns
    -------
    posed : (n_atoms, dim), nm
    gap : scalar
        From 0, not at all, to 1, as well as can be: half the gap below the top eigenvalue of the quaternion matrix (in
        the plane: the length of the vector whose direction is the angle), relative to the sizes of both frames. It
        vanishes for points on a line.
    """
    # A frame in double precision deserves sums over weights and reference in double precision.
    weights, reference = weights.astype(frame.dtype), reference.astype(frame.dtype)
    # All sums over atoms at once, by planes: under vmap they are one product of long rows. What makes them exact far
    # from the origin is told in `center_of_mass`.
    planes, of_reference = frame.T - frame[0][:, None], weights[:, None] * reference
    sums = planes @ jnp.concatenate([weights[:, None], of_reference], axis=1)
    total = jnp.sum(weights)
    middle = sums[:, 0] / total
    covariance = sums[:, 1:] - middle[:, None] * jnp.sum(of_reference, axis=0)[None]
    rotation = _rotation(covariance)
    size = jnp.sum(planes**2 @ weights) - total * jnp.sum(middle**2)
    scale = jnp.sqrt(jnp.maximum(size, 0) * jnp.sum(weights @ reference**2))
    gap = _gap(covariance, rotation) / jnp.where(scale > 0, scale, 1.0)
    return rotate((planes - middle[:, None]).T, rotation), gap


def _rotation(covariance: Float[Array, "dim dim"]) -> Float[Array, "dim dim"]:
    if covariance.shape[0] == 2:
        return _planar_rotation(covariance)
    return _rotation_of(dominant_eigenvector(_quaternion_matrix(covariance)))


def _gap(covariance: Float[Array, "dim dim"], rotation: Float[Array, "dim dim"]) -> Scalar:
    if covariance.shape[0] == 2:
        return jnp.hypot(*_planar_vector(covariance))
    # Once turned the covariance is symmetric, and half the gap is the sum of its eigenvalues but the largest.
    turned = [[sum(rotation[i, k] * covariance[k, j] for k in range(3)) for j in range(3)] for i in range(3)]
    symmetric = jnp.stack([jnp.stack([0.5 * (turned[i][j] + turned[j][i]) for j in range(3)]) for i in range(3)])
    return jnp.maximum(turned[0][0] + turned[1][1] + turned[2][2] - largest_eigenvalue(symmetric), 0)


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
