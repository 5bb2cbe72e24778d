"""Geometry and formulas written a second time: what checks the exports must not share code with what is exported.

Only for checks: superposition calls LAPACK, and derivatives are not defined where geometry degenerates.
"""

import ast
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def best_rotation(
    points: Float[Array, "n 3"], onto: Float[Array, "n 3"], shares: Float[Array, " n"]
) -> Float[Array, "3 3"]:
    """Rotation of points onto others: the unit quaternion q with the smallest ``sum of shares |q p - r q|**2``.

    Parameters
    ----------
    points, onto : (n, 3), both centered
    shares : (n,)

    Returns
    -------
    (3, 3)
        ``points @ rotation.T`` lies on `onto` as well as can be.
    """
    after, before = jax.vmap(_after)(_pure(points)), jax.vmap(_before)(_pure(onto))
    residual = jnp.einsum("n,nki,nkj->ij", shares, after - before, after - before)
    q = jnp.linalg.eigh(residual)[1][:, 0]
    conjugate = q * np.array([1.0, -1, -1, -1])
    turned = _before(q) @ _after(conjugate)
    return turned[1:, 1:]


def _before(q: Float[Array, "4"]) -> Float[Array, "4 4"]:
    """Matrix of the product q x, in x."""
    w, x, y, z = q
    return jnp.stack([jnp.stack(row) for row in ([w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w])])


def _after(q: Float[Array, "4"]) -> Float[Array, "4 4"]:
    """Matrix of the product x q, in x."""
    w, x, y, z = q
    return jnp.stack([jnp.stack(row) for row in ([w, -x, -y, -z], [x, w, z, -y], [y, -z, w, x], [z, y, -x, w])])


def _pure(vectors: Float[Array, "n 3"]) -> Float[Array, "n 4"]:
    return jnp.pad(vectors, ((0, 0), (1, 0)))


def _length(vectors: Float[Array, "n 1 3"]) -> Float[Array, " n"]:
    return jnp.linalg.norm(vectors[:, 0], axis=-1)


def _angle(vectors: Float[Array, "n 2 3"]) -> Float[Array, " n"]:
    u, v = -vectors[:, 0], vectors[:, 1]
    return jnp.arctan2(jnp.linalg.norm(jnp.cross(u, v), axis=-1), jnp.sum(u * v, axis=-1))


def _torsion(vectors: Float[Array, "n 3 3"]) -> Float[Array, " n"]:
    """Angle between what is left of the outer vectors beside the middle one."""
    u, axis, v = vectors[:, 0], vectors[:, 1], vectors[:, 2]
    axis = axis / jnp.linalg.norm(axis, axis=-1, keepdims=True)
    first = -(u - jnp.sum(u * axis, axis=-1, keepdims=True) * axis)
    last = v - jnp.sum(v * axis, axis=-1, keepdims=True) * axis
    return jnp.arctan2(jnp.sum(jnp.cross(axis, first) * last, axis=-1), jnp.sum(first * last, axis=-1))


# Of the vectors from each atom to the next.
MEASURES = {"distance": _length, "angle": _angle, "torsion": _torsion}

_FUNCTIONS = {
    "exp": jnp.exp,
    "log": jnp.log,
    "tanh": jnp.tanh,
    "sin": jnp.sin,
    "cos": jnp.cos,
    "step": lambda x: jnp.where(x < 0, 0.0, 1.0),
    "select": lambda condition, one, other: jnp.where(condition != 0, one, other),
}
_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def expression(text: str) -> Callable[[dict[str, Array]], Array]:
    """Function of named arrays that a formula describes, as Lepton reads it.

    Parameters
    ----------
    text : str
        Such as ``x+y/(1+exp(-y))``.

    Raises
    ------
    ValueError
        For what is no formula, or has functions that are not known here.
    """
    try:
        tree = ast.parse(text.replace("^", "**"), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{text!r} is no formula") from error

    def value(node: ast.AST, names: dict[str, Array]) -> Array:
        match node:
            case ast.Constant(value=float() | int() as number):
                return jnp.asarray(float(number))
            case ast.Name(id=name) if name in names:
                return names[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand, names)
            case ast.BinOp(left=left, op=op, right=ast.Constant(value=int() as power)) if isinstance(op, ast.Pow):
                return value(left, names) ** power
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](value(left, names), value(right, names))
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in _FUNCTIONS:
                return _FUNCTIONS[name](*(value(argument, names) for argument in arguments))
        raise ValueError(f"{ast.unparse(node)!r} in the formula {text!r} is not understood")

    return lambda names: value(tree, names)
