"""Eigenvectors of one small symmetric matrix, without LAPACK.

Cyclic Jacobi sweeps on scalars: under ``vmap`` every scalar is a batch, so the work is plain
elementwise arithmetic that fuses, runs on any device and exports anywhere. (LAPACK's batched routine
does none of that, and can hang when called from two threads.)
Golub and Van Loan, Matrix Computations (2013), section 8.5.
"""

from itertools import combinations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Convergence is quadratic; five sweeps reach float64 rounding for 4 x 4, the sixth is for safety.
_SWEEPS = 6


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
    entries, vectors = jax.lax.fori_loop(0, _SWEEPS, lambda _, state: _sweep(*state), (entries, identity))
    values = jnp.stack([entries[i][i] for i in range(n)])
    order = jnp.argsort(-values)
    return values[order], jnp.stack([jnp.stack(row) for row in vectors])[:, order]


@symmetric_eigen.defjvp
def _(primals, tangents):
    (matrix,), (change,) = primals, tangents
    values, vectors = symmetric_eigen(matrix)
    inner = vectors.T @ change @ vectors
    gaps = values[None, :] - values[:, None]
    turns = jnp.where(gaps == 0, 0.0, inner / jnp.where(gaps == 0, 1.0, gaps))
    return (values, vectors), (jnp.diagonal(inner), vectors @ turns)


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
