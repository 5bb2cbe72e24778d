"""Where latent points come from before any data are seen."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp

from mdvae.distributions import DiagonalNormal


class AbstractPrior(eqx.Module):
    """A distribution over latent points, which may lean on the encoder."""

    @abc.abstractmethod
    def distribution(self, encode: Callable) -> DiagonalNormal:
        """Distribution of z.

        Parameters
        ----------
        encode : callable
            Features to posterior, for priors made of encoded pseudo-inputs.
        """


class StandardNormal(AbstractPrior):
    """Zero mean, unit variance in every latent dimension."""

    latent_dim: int = eqx.field(static=True)

    def __init__(self, latent_dim: int) -> None:
        self.latent_dim = latent_dim

    def distribution(self, encode: Callable) -> DiagonalNormal:
        """Standard normal; the encoder is not asked."""
        del encode
        zeros = jnp.zeros(self.latent_dim, jnp.float32)
        return DiagonalNormal(zeros, zeros)
