"""Densities of one vector."""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdvae._types import Key, Scalar


class AbstractNormal(eqx.Module):
    """Normal distribution of mean (n,) and covariance ``factor factorᵀ``."""

    mean: eqx.AbstractVar[Float[Array, " n"]]

    @property
    @abc.abstractmethod
    def factor(self) -> Float[Array, "n n"]:
        """Lower triangular, its diagonal positive."""

    @abc.abstractmethod
    def log_det_factor(self) -> Scalar:
        """Logarithm of the determinant of the factor."""

    @abc.abstractmethod
    def scaled(self, noise: Float[Array, " n"]) -> Float[Array, " n"]:
        """The factor times a vector."""

    @abc.abstractmethod
    def whitened(self, apart: Float[Array, " n"]) -> Float[Array, " n"]:
        """The inverse of the factor times a vector."""

    def standardized(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """Distance from the mean in standard deviations."""
        return self.whitened(x - self.mean)

    def log_prob(self, x: Float[Array, " n"]) -> Scalar:
        """Log-density at ``x``, in nats."""
        return self._log_prob_of(self.standardized(x))

    def sample(self, key: Key) -> Float[Array, " n"]:
        """One sample, differentiable with respect to mean and covariance."""
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key: Key) -> tuple[Float[Array, " n"], Scalar]:
        """One sample and its log-density, which nothing has to be solved for."""
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + self.scaled(noise), self._log_prob_of(noise)

    def covariance(self) -> Float[Array, "n n"]:
        """Covariance, (n, n)."""
        return self.factor @ self.factor.T

    def _log_prob_of(self, standardized: Float[Array, " n"]) -> Scalar:
        return -0.5 * jnp.sum(standardized**2 + math.log(2 * math.pi)) - self.log_det_factor()


class DiagonalNormal(AbstractNormal):
    """Normal distribution with independent components.

    Parameters
    ----------
    mean : (n,)
    log_std : (n,)
        Natural logarithm of the standard deviations.
    """

    mean: Float[Array, " n"]
    log_std: Float[Array, " n"]

    def __init__(self, mean: Float[Array, " n"], log_std: Float[Array, " n"]) -> None:
        self.mean, self.log_std = mean, log_std

    def __check_init__(self) -> None:
        if self.mean.shape != self.log_std.shape:
            raise ValueError(f"expected mean and log_std of one shape, got {self.mean.shape} and {self.log_std.shape}")

    @property
    def factor(self) -> Float[Array, "n n"]:
        """The standard deviations, on a diagonal."""
        return jnp.diag(jnp.exp(self.log_std))

    def log_det_factor(self) -> Scalar:
        """Sum of the log_std."""
        return jnp.sum(self.log_std)

    def scaled(self, noise: Float[Array, " n"]) -> Float[Array, " n"]:
        """Each component times its standard deviation."""
        return jnp.exp(self.log_std) * noise

    def whitened(self, apart: Float[Array, " n"]) -> Float[Array, " n"]:
        """Each component over its standard deviation."""
        return apart * jnp.exp(-self.log_std)


class FullNormal(AbstractNormal):
    """Normal distribution with any covariance.

    Parameters
    ----------
    mean : (n,)
    log_std : (n,)
        Natural logarithm of the diagonal of the factor.
    lower : (n (n - 1) / 2,)
        What stands below the diagonal, in units of the diagonal of its row: zero where components are independent. Row
        by row.
    """

    mean: Float[Array, " n"]
    log_std: Float[Array, " n"]
    lower: Float[Array, " n_lower"]

    def __init__(self, mean: Float[Array, " n"], log_std: Float[Array, " n"], lower: Float[Array, " n_lower"]) -> None:
        self.mean, self.log_std, self.lower = mean, log_std, lower

    def __check_init__(self) -> None:
        n = self.mean.shape[-1]
        if self.mean.shape != self.log_std.shape or self.lower.shape[-1] != n_below_diagonal(n):
            shapes = f"{self.mean.shape}, {self.log_std.shape} and {self.lower.shape}"
            raise ValueError(f"expected mean and log_std (n,) and lower (n (n - 1) / 2,), got {shapes}")

    @property
    def factor(self) -> Float[Array, "n n"]:
        """Lower triangular."""
        n = len(self.mean)
        unit = jnp.eye(n, dtype=self.lower.dtype).at[np.tril_indices(n, -1)].set(self.lower)
        return jnp.exp(self.log_std)[:, None] * unit

    def log_det_factor(self) -> Scalar:
        """Sum of the log_std."""
        return jnp.sum(self.log_std)

    def scaled(self, noise: Float[Array, " n"]) -> Float[Array, " n"]:
        """The factor times a vector."""
        return self.factor @ noise

    def whitened(self, apart: Float[Array, " n"]) -> Float[Array, " n"]:
        """By forward substitution."""
        return _solved(self.factor, apart)


def n_below_diagonal(n: int) -> int:
    """Entries of an n x n matrix that stand below its diagonal."""
    return n * (n - 1) // 2


class Mixture(eqx.Module):
    """Weighted sum of normal distributions.

    Parameters
    ----------
    logits : (n_components,)
        Logarithms of the weights, up to a constant.
    components : AbstractNormal
        Its arrays with an axis (n_components,) in front.
    """

    logits: Float[Array, " n_components"]
    components: AbstractNormal

    def log_prob(self, x: Float[Array, " n"]) -> Scalar:
        """Log-density at ``x``, in nats."""
        each = jax.vmap(lambda component: component.log_prob(x))(self.components)
        return jax.scipy.special.logsumexp(jax.nn.log_softmax(self.logits) + each)

    def sample(self, key: Key) -> Float[Array, " n"]:
        """One sample; not differentiable with respect to the weights."""
        which, own = jax.random.split(key)
        index = jax.random.categorical(which, self.logits)
        return jax.tree.map(lambda leaf: leaf[index], self.components).sample(own)

    def sample_and_log_prob(self, key: Key) -> tuple[Float[Array, " n"], Scalar]:
        """One sample and its log-density."""
        x = self.sample(key)
        return x, self.log_prob(x)


def kl_by_component(p: DiagonalNormal, q: DiagonalNormal) -> Float[Array, " n"]:
    """KL(p || q) of each component by itself, in nats (doi:10.48550/arXiv.1312.6114, appendix B).

    Parameters
    ----------
    p, q : DiagonalNormal

    Returns
    -------
    (n,)
        Its sum is the divergence.
    """
    ratio = p.log_std - q.log_std
    return 0.5 * (jnp.exp(2 * ratio) + q.standardized(p.mean) ** 2 - 1 - 2 * ratio)


def closed_kl_divergence(p: Any, q: Any) -> Scalar | None:
    """KL(p || q) in nats where a formula gives it: between normal distributions; None elsewhere.

    For any covariances it is half of ``|F⁻¹ G|² + |F⁻¹ d|² - n``, F and G the factors of q and p and d the distance of
    their means, plus the logarithm of the ratio of the determinants of F and G.

    Parameters
    ----------
    p, q : distributions of (n,)
    """
    if isinstance(p, DiagonalNormal) and isinstance(q, DiagonalNormal):
        return jnp.sum(kl_by_component(p, q))
    if isinstance(p, AbstractNormal) and isinstance(q, AbstractNormal):
        relative = jax.vmap(q.whitened, 1, 1)(p.factor)
        squares = jnp.sum(relative**2) + jnp.sum(q.standardized(p.mean) ** 2)
        return 0.5 * (squares - len(p.mean)) + q.log_det_factor() - p.log_det_factor()
    return None


def kl_at_sample(p: Any, q: Any, x: Float[Array, " n"], log_p: Scalar) -> Scalar:
    """KL(p || q) in nats: by formula where there is one, else what one sample says, which is right on average.

    Parameters
    ----------
    p, q : distributions of (n,)
    x, log_p : (n,) and scalar
        Sample of p and its log-density there, as from ``sample_and_log_prob``.
    """
    closed = closed_kl_divergence(p, q)
    return log_p - q.log_prob(x) if closed is None else closed


def _solved(factor: Float[Array, "n n"], right: Float[Array, " n"]) -> Float[Array, " n"]:
    """Solution of ``factor x = right`` for a lower triangular factor.

    Row by row, not by LAPACK, whose batched factorizations under ``jit`` were once seen to wait for each other for ever
    on two cores.
    """

    def row(i, x):
        return x.at[i].set((right[i] - factor[i] @ x) / factor[i, i])

    return jax.lax.fori_loop(0, len(right), row, jnp.zeros(right.shape, jnp.result_type(factor, right)))


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
