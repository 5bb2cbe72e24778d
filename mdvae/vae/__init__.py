"""The theory: likelihoods, priors, the auto-encoder, and what it optimizes."""

from mdvae.vae.circular import GaussianVonMises
from mdvae.vae.likelihoods import AbstractLikelihood, Gaussian, SquaredError
from mdvae.vae.low_rank import LowRankGaussian
from mdvae.vae.objectives import AbstractObjective, NegativeELBO, Penalized
from mdvae.vae.priors import AbstractPrior, StandardNormal
from mdvae.vae.vae import VAE

__all__ = [
    "VAE",
    "AbstractLikelihood",
    "AbstractObjective",
    "AbstractPrior",
    "Gaussian",
    "GaussianVonMises",
    "LowRankGaussian",
    "NegativeELBO",
    "Penalized",
    "SquaredError",
    "StandardNormal",
]
