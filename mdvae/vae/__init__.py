"""The theory: likelihoods, priors, the auto-encoder, and what it optimizes."""

from mdvae.vae.likelihoods import AbstractLikelihood, Gaussian, SquaredError
from mdvae.vae.objectives import AbstractObjective, NegativeELBO
from mdvae.vae.priors import AbstractPrior, StandardNormal
from mdvae.vae.vae import VAE

__all__ = [
    "VAE",
    "AbstractLikelihood",
    "AbstractObjective",
    "AbstractPrior",
    "Gaussian",
    "NegativeELBO",
    "SquaredError",
    "StandardNormal",
]
