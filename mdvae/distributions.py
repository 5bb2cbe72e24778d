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
