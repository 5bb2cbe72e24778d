"""What an encoder and a decoder are."""

import abc

import equinox as eqx
from jaxtyping import Array, Float

from mdvae._types import Features, Latent
from mdvae.distributions import AbstractNormal


class AbstractEncoder(eqx.Module):
    """One feature vector to the approximate posterior over its latent point."""

    @abc.abstractmethod
    def __call__(self, x: Features) -> AbstractNormal:
        """Posterior over (latent_dim,) for features (n_features,)."""


class AbstractDecoder(eqx.Module):
    """One latent point to the parameters of a likelihood."""

    @abc.abstractmethod
    def __call__(self, z: Latent) -> Float[Array, " n_params"]:
        """Likelihood parameters (n_params,) for a latent point (latent_dim,)."""
