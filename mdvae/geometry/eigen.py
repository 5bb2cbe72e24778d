"""Eigenvectors of one small symmetric matrix, without LAPACK.

Cyclic Jacobi sweeps for all of them, repeated squaring for one, on scalars: under ``vmap`` every scalar is a batch, so
the work is plain elementwise arithmetic that fuses, runs on any device and exports anywhere. (LAPACK's batched routine
does none of that, and can hang when called from two threads.)
Golub and Van Loan, Matrix Computations (2013), sections 8.5 and 7.3.
"""

import functools
import math
from itertools import combinations, combinations_with_replacement

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdvae._types import Scalar

# Convergence is quadratic; five sweeps reach float64 rounding for 4 x 4, four that of float32; one is for safety.
_SWEEPS = {4: 5, 8: 6}


@jax.custom_jvp
def symmetric_eigen(matrix: Float[Array, "n n"]) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    """Eigenvalues, largest first, and eigenvectors as columns.

    Parameters
    ----------
    matrix : (n, n), symmetric, n at most about 4

    Returns
    -------
    values : (n,)
        In descending order.
    vectors : (n, n)
        Orthonormal columns in the order of the values; their signs are arbitrary.

    Notes
    -----
    The derivative is the perturbation formula, not that of the iteration. Where two eigenvalues
    coincide, the undefined turn between their vectors is taken as zero.
    """
    n = matrix.shape[0]
    entries = [[matrix[i, j] for j in range(n)] for i in range(n)]
    one, zero = jnp.ones_like(matrix[0, 0]), jnp.zeros_like(matrix[0, 0])
    identity = [[one if i == j else zero for j in range(n)] for i in range(n)]
    entries, vectors = jax.lax.fori_loop(
        0, _SWEEPS[matrix.dtype.itemsize], lambda _, state: _sweep(*state), (entries, identity)
    )
    values, columns = [entries[i][i] for i in range(n)], [[row[i] for row in vectors] for i in range(n)]
    # Neighbors change places until all are in order: a sort would not fuse, and costs more than the sweeps.
    for last in range(n - 1, 0, -1):
        for i in range(last):
            swap = values[i] < values[i + 1]
            values[i], values[i + 1] = (
                jnp.where(swap, values[i + 1], values[i]),
                jnp.where(swap, values[i], values[i + 1]),
            )
            pairs = [(jnp.where(swap, b, a), jnp.where(swap, a, b)) for a, b in zip(*columns[i : i + 2], strict=True)]
            columns[i], columns[i + 1] = ([pair[k] for pair in pairs] for k in (0, 1))
    return jnp.stack(values), jnp.stack([jnp.stack(column) for column in columns], axis=1)


@symmetric_eigen.defjvp
def _(primals, tangents):
    (matrix,), (change,) = primals, tangents
    values, vectors = symmetric_eigen(matrix)
    inner = vectors.T @ change @ vectors
    gaps = values[None, :] - values[:, None]
    turns = jnp.where(gaps == 0, 0.0, inner / jnp.where(gaps == 0, 1.0, gaps))
    return (values, vectors), (jnp.diagonal(inner), vectors @ turns)


@jax.custom_jvp
def dominant_eigenvector(matrix: Float[Array, "n n"]) -> Float[Array, " n"]:
    """Eigenvector of the largest eigenvalue, by repeated squaring.

    A matrix whose eigenvalues are positive is squared, and squared again, until only the largest is left: a few dozen
    multiplications a time, no branch and no root, which costs a tenth of all eigenvectors.

    Parameters
    ----------
    matrix : (n, n), symmetric, n at most about 4

    Returns
    -------
    (n,)
        Of length one; its sign is arbitrary, and where the largest eigenvalue is a double one it is one of many.
    """
    n = matrix.shape[0]
    upper = list(combinations_with_replacement(range(n), 2))
    norm = functools.reduce(jnp.maximum, (sum(jnp.abs(matrix[i, j]) for j in range(n)) for i in range(n)))
    scale = jnp.where(norm > 0, norm, 1.0)
    start = [matrix[i, j] / scale + (1.0 if i == j else 0.0) for i, j in upper]

    def square(state):
        count, _, entries = state
        b = _symmetric(dict(zip(upper, entries, strict=True)), n)
        squared = [sum(b[i][k] * b[k][j] for k in range(n)) for i, j in upper]
        trace = sum(entry for entry, (i, j) in zip(squared, upper, strict=True) if i == j)
        return count + 1, trace, [entry / trace for entry in squared]

    def unsettled(state):
        count, trace, _ = state
        # Of a matrix of trace 1 the square has trace 1 less twice the share of all other vectors, and of that share the
        # square is left. After as many times as the mantissa has bits what is left differs by less than rounding.
        return (count < precision.nmant) & (trace < 1 - math.sqrt(precision.eps))

    precision = jnp.finfo(matrix.dtype)
    # The first time the trace is not 1, and what it says must not count.
    first = square((0, 0.0, start))
    _, _, entries = jax.lax.while_loop(unsettled, square, (1, jnp.zeros_like(norm), first[2]))
    b = _symmetric(dict(zip(upper, entries, strict=True)), n)
    # All columns point along it; the longest one is the most exact.
    largest, vector = b[0][0], b[0]
    for k in range(1, n):
        longer = b[k][k] > largest
        largest = jnp.where(longer, b[k][k], largest)
        vector = [jnp.where(longer, new, old) for new, old in zip(b[k], vector, strict=True)]
    length = jax.lax.rsqrt(sum(entry**2 for entry in vector))
    return jnp.stack([entry * length for entry in vector])


@dominant_eigenvector.defjvp
def _(primals, tangents):
    (_, vectors), (_, changes) = jax.jvp(symmetric_eigen, primals, tangents)
    return vectors[:, 0], changes[:, 0]


def largest_eigenvalue(matrix: Float[Array, "3 3"]) -> Scalar:
    """Largest eigenvalue of a symmetric 3 x 3 matrix, in closed form (doi:10.1145/355578.366316).

    Parameters
    ----------
    matrix : (3, 3), symmetric

    Returns
    -------
    scalar
        To rounding where it stands alone; to the root of it where it is a double one.
    """
    a = [[matrix[i, j] for j in range(3)] for i in range(3)]
    mean = (a[0][0] + a[1][1] + a[2][2]) / 3
    shifted = [a[0][0] - mean, a[1][1] - mean, a[2][2] - mean, a[1][2], a[0][2], a[0][1]]
    spread = jnp.sqrt((sum(s**2 for s in shifted[:3]) + 2 * sum(s**2 for s in shifted[3:])) / 6)
    # Relative to the spread first: its third power may be too small for a number.
    p, q, r, x, y, z = (s / jnp.where(spread > 0, spread, 1.0) for s in shifted)
    determinant = p * (q * r - x * x) - z * (z * r - x * y) + y * (z * x - q * y)
    return mean + 2 * spread * jnp.cos(jnp.arccos(jnp.clip(determinant / 2, -1, 1)) / 3)


def _symmetric(upper: dict, n: int) -> list[list]:
    return [[upper[min(i, j), max(i, j)] for j in range(n)] for i in range(n)]


def _sweep(a, v):
    """One rotation in every plane (p, q), each of which zeroes the entry a[p][q]."""
    a, v = [list(row) for row in a], [list(row) for row in v]
    n = len(a)
    for p, q in combinations(range(n), 2):
        c, s = _rotation(a[p][p], a[q][q], a[p][q])
        for i in range(n):
            a[i][p], a[i][q] = c * a[i][p] - s * a[i][q], s * a[i][p] + c * a[i][q]
            v[i][p], v[i][q] = c * v[i][p] - s * v[i][q], s * v[i][p] + c * v[i][q]
        for i in range(n):
            a[p][i], a[q][i] = c * a[p][i] - s * a[q][i], s * a[p][i] + c * a[q][i]
    return a, v


def _rotation(app, aqq, apq):
    """Cosine and sine of the smaller of the two angles that zero ``apq``."""
    tau = (aqq - app) / (2 * jnp.where(apq == 0, 1.0, apq))
    tangent = jnp.where(tau >= 0, 1.0, -1.0) / (jnp.abs(tau) + jnp.sqrt(1 + tau**2))
    tangent = jnp.where(apq == 0, 0.0, tangent)
    cosine = jax.lax.rsqrt(1 + tangent**2)
    return cosine, tangent * cosine
