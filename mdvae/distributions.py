"""Densities of one vector."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdvae._types import Key, Scalar


class DiagonalNormal(eqx.Module):
    """Normal distribution with independent components.

    Parameters
    ----------
    mean : (n,)
    log_std : (n,)
        Natural logarithm of the standard deviations.
    """

    mean: Float[Array, " n"]
    log_std: Float[Array, " n"]

    def __check_init__(self) -> None:
        if self.mean.shape != self.log_std.shape:
            raise ValueError(f"expected mean and log_std of one shape, got {self.mean.shape} and {self.log_std.shape}")

    def log_prob(self, x: Float[Array, " n"]) -> Scalar:
        """Log-density at ``x``, in nats."""
        standardized = (x - self.mean) * jnp.exp(-self.log_std)
        return -jnp.sum(0.5 * standardized**2 + self.log_std + 0.5 * math.log(2 * math.pi))

    def sample(self, key: Key) -> Float[Array, " n"]:
        """One sample, differentiable with respect to mean and log_std."""
        return self.mean + jnp.exp(self.log_std) * jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def kl_divergence(self, other: "DiagonalNormal") -> Scalar:
        """KL(self || other), summed over components, in nats (doi:10.48550/arXiv.1312.6114, appendix B)."""
        ratio = self.log_std - other.log_std
        distance = (self.mean - other.mean) * jnp.exp(-other.log_std)
        return 0.5 * jnp.sum(jnp.exp(2 * ratio) + distance**2 - 1 - 2 * ratio)


class LowRankNormal(eqx.Module):
    """Normal distribution whose covariance is diagonal plus low rank, ``diag(std²) + U Uᵀ``.

    No matrix is larger than rank x rank: Woodbury's identity and the determinant lemma (doi:10.1137/1031049).

    Parameters
    ----------
    mean : (n,)
    log_std : (n,)
        Natural logarithm of the standard deviations of the independent part.
    factor : (n, rank)
        U: each column moves all components together.
    """

    mean: Float[Array, " n"]
    log_std: Float[Array, " n"]
    factor: Float[Array, "n rank"]

    def __check_init__(self) -> None:
        if not self.mean.shape == self.log_std.shape == self.factor.shape[:1]:
            shapes = f"{self.mean.shape}, {self.log_std.shape} and {self.factor.shape}"
            raise ValueError(f"expected mean and log_std (n,) and factor (n, rank), got {shapes}")

    def log_prob(self, x: Float[Array, " n"]) -> Scalar:
        """Log-density at ``x``, in nats."""
        inverse_std = jnp.exp(-self.log_std)
        rest, columns = (x - self.mean) * inverse_std, self.factor * inverse_std[:, None]
        directions, root = _orthogonalized(columns)
        # What the columns leave unexplained, and what they cost: a sum of squares, where the identity has a difference
        # of large numbers.
        explained = directions.T @ rest
        squares = jnp.sum((rest - directions @ explained) ** 2) + jnp.sum((root @ explained) ** 2)
        log_det = -2 * jnp.sum(jnp.log(jnp.diag(root)))
        return -0.5 * (squares + log_det + len(x) * math.log(2 * math.pi)) - jnp.sum(self.log_std)

    def sample(self, key: Key) -> Float[Array, " n"]:
        """One sample, differentiable with respect to mean, log_std and factor."""
        own_key, shared_key = jax.random.split(key)
        own = jax.random.normal(own_key, self.mean.shape, self.mean.dtype)
        shared = jax.random.normal(shared_key, self.factor.shape[1:], self.mean.dtype)
        return self.mean + jnp.exp(self.log_std) * own + self.factor @ shared


@jax.custom_jvp
def _orthogonalized(columns: Float[Array, "n rank"]) -> tuple[Float[Array, "n rank"], Float[Array, "rank rank"]]:
    """Orthonormal basis of V on top of the identity: ``Q = V W`` and the upper triangular W.

    ``W Wᵀ`` is the inverse of ``I + Vᵀ V``, a matrix whose condition is the square of what float32 meets here. By Gram
    and Schmidt, twice (doi:10.1007/s00211-005-0615-4). No vector gets shorter than 1, whatever the rounding: its own
    entry from the identity is left alone. Not LAPACK: its batched Cholesky factors under ``jit`` were once seen to wait
    for each other for ever, on two cores.
    """
    n, rank = columns.shape
    stacked = jnp.concatenate([columns, jnp.eye(rank, dtype=columns.dtype)])

    def orthogonalize(k, basis):
        vector = stacked[:, k]
        vector = vector - basis @ (basis.T @ vector)
        vector = vector - basis @ (basis.T @ vector)
        return basis.at[:, k].set(vector * jax.lax.rsqrt(jnp.sum(vector**2)))

    basis = jax.lax.fori_loop(0, rank, orthogonalize, jnp.zeros_like(stacked))
    return basis[:n], basis[n:]


@_orthogonalized.defjvp
def _orthogonalized_jvp(primals, tangents):
    """In closed form, as that of a Cholesky factor: no derivative has to go back through the loop."""
    (columns,), (change,) = primals, tangents
    directions, root = _orthogonalized(columns)
    inner = directions.T @ change @ root
    growth = jnp.triu(inner) + jnp.tril(inner, -1).T
    return (directions, root), (change @ root - directions @ growth, -root @ growth)
