"""The variational auto-encoder: encoder, decoder, likelihood, prior (doi:10.48550/arXiv.1312.6114)."""

from typing import Any

import equinox as eqx

from mdvae._types import Features, Key, Latent
from mdvae.networks import AbstractDecoder, AbstractEncoder
from mdvae.vae.likelihoods import AbstractLikelihood
from mdvae.vae.priors import AbstractPrior


class VAE(eqx.Module):
    """Four parts that fit together; each may be any module of its interface."""

    encoder: AbstractEncoder
    decoder: AbstractDecoder
    likelihood: AbstractLikelihood
    prior: AbstractPrior

    def encode(self, x: Features) -> Latent:
        """Posterior mean, (latent_dim,): deterministic."""
        return self.encoder(x).mean

    def decode(self, z: Latent) -> Features:
        """Mean of the likelihood, (n_features,)."""
        return self.likelihood.mean(self.decoder(z))

    def sample(self, z: Latent, key: Key) -> Features:
        """Sample of the likelihood, (n_features,)."""
        return self.likelihood.sample(self.decoder(z), key)

    def prior_distribution(self) -> Any:
        """Prior over z: a density with ``log_prob(z)`` and ``sample(key)``."""
        return self.prior.distribution(self.encoder)
