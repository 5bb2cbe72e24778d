"""Fitting."""

from mdvae.training.afterwards import fit_noise, fit_prior, fit_vae_prior
from mdvae.training.feed import Resident, Streamed
from mdvae.training.fitting import train, train_ensemble
from mdvae.training.loop import optimize
from mdvae.training.settings import Settings, check_not_negative, check_way_back
from mdvae.training.splits import split_blocks
from mdvae.training.vectors import TrainedVAE, train_vae

__all__ = [
    "Resident",
    "Settings",
    "Streamed",
    "TrainedVAE",
    "check_not_negative",
    "check_way_back",
    "fit_noise",
    "fit_prior",
    "fit_vae_prior",
    "optimize",
    "split_blocks",
    "train",
    "train_ensemble",
    "train_vae",
]
