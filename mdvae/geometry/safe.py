"""Square roots, norms and angles with finite derivatives where geometry degenerates.

The true derivative of a norm at zero does not exist; here it is zero, to every order, so that two atoms at
one point, or a frame equal to its reference, do not turn a whole gradient into NaN.

A ``where`` around the result alone would not do: the derivative of the discarded branch is infinite, and
infinity times zero is NaN. So the *argument* is replaced first.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["safe_angle", "safe_arctan2", "safe_norm", "safe_sqrt"]


def safe_sqrt(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Square root whose derivatives at zero are zero.

    Parameters
    ----------
    x
        Numbers of any shape. Below zero the result is zero: a sum of squares can only get there by rounding.
    """
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def safe_norm(x: Float[Array, "..."], axis: int = -1, *, keepdims: bool = False) -> Float[Array, "..."]:
    """Euclidean norm along an axis, with derivatives that are zero at the zero vector.

    Parameters
    ----------
    x
        Vectors along `axis`, ``(..., dim)`` by default.
    axis
        The axis that is summed over.
    keepdims
        Keep that axis, with length one.

    Returns
    -------
    Array
        ``(...)``, in the unit of `x`.
    """
    return safe_sqrt(jnp.sum(x * x, axis=axis, keepdims=keepdims))


def safe_angle(u: Float[Array, "... dim"], v: Float[Array, "... dim"]) -> Float[Array, "..."]:
    """Angle between vectors in any dimension; its derivatives are finite for collinear and zero vectors too.

    Half the angle is the inverse tangent of ``| |v| u - |u| v | / | |v| u + |u| v |`` (W. Kahan). Unlike
    the arc cosine of the scalar product it loses no digits and has no infinite slope at 0 and pi.

    Parameters
    ----------
    u, v
        Vectors ``(..., dim)``, equal in shape.

    Returns
    -------
    Array
        ``(...)``, in radians, from 0 to pi; 0 where `u` or `v` is zero.
    """
    u_scaled, v_scaled = u * safe_norm(v, keepdims=True), v * safe_norm(u, keepdims=True)
    opposite, adjacent = safe_norm(u_scaled - v_scaled), safe_norm(u_scaled + v_scaled)
    undefined = (opposite == 0) & (adjacent == 0)
    return 2 * jnp.arctan2(opposite, jnp.where(undefined, 1, adjacent))


def safe_arctan2(y: Float[Array, "*shape"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Angle of the point (x, y); at the origin it is zero, and so are its derivatives.

    Parameters
    ----------
    y, x
        Equal in shape.

    Returns
    -------
    Array
        In radians, from -pi to pi.
    """
    # The derivatives divide by the squared distance to the origin, which must not underflow.
    size = jax.lax.stop_gradient(jnp.maximum(jnp.abs(x), jnp.abs(y)))
    undefined = size == 0
    size = jnp.where(undefined, 1, size)
    return jnp.arctan2(jnp.where(undefined, 0, y / size), jnp.where(undefined, 1, x / size))
