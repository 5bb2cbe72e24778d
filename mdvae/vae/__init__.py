"""The theory: likelihoods, priors, the auto-encoder, what it optimizes, and what became of its latent space."""

from mdvae.vae.building import build_vae, named_prior, perceptrons
from mdvae.vae.circular import GaussianVonMises
from mdvae.vae.diagnostics import Diagnostics, diagnose, evenly, reconstruction_error
from mdvae.vae.disentanglement import mutual_information_gap, total_correlation
from mdvae.vae.evidence import LogLikelihood, check_samples, log_likelihood
from mdvae.vae.likelihoods import AbstractLikelihood, Categorical, Gaussian, SquaredError
from mdvae.vae.low_rank import LowRankGaussian
from mdvae.vae.objectives import (
    AbstractObjective,
    Examples,
    ImportanceWeighted,
    NegativeELBO,
    Penalized,
    Slow,
    as_examples,
    vamp2,
    weighted_mean,
)
from mdvae.vae.priors import AbstractPrior, Fixed, Flow, GaussianMixture, StandardNormal, VampPrior
from mdvae.vae.vae import VAE

__all__ = [
    "VAE",
    "AbstractLikelihood",
    "AbstractObjective",
    "AbstractPrior",
    "Categorical",
    "Diagnostics",
    "Examples",
    "Fixed",
    "Flow",
    "Gaussian",
    "GaussianMixture",
    "GaussianVonMises",
    "ImportanceWeighted",
    "LogLikelihood",
    "LowRankGaussian",
    "NegativeELBO",
    "Penalized",
    "Slow",
    "SquaredError",
    "StandardNormal",
    "VampPrior",
    "as_examples",
    "build_vae",
    "check_samples",
    "diagnose",
    "evenly",
    "log_likelihood",
    "mutual_information_gap",
    "named_prior",
    "perceptrons",
    "reconstruction_error",
    "total_correlation",
    "vamp2",
    "weighted_mean",
]
