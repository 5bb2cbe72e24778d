"""Using a trained model."""

from mdvae.latent.collective import CollectiveVariable, collective_variable, in_double
from mdvae.latent.encoding import encode, encode_chunks
from mdvae.latent.free_energy import FreeEnergy, free_energy
from mdvae.latent.generation import decode, generate, reconstruct
from mdvae.latent.search import Minimum, minimize
from mdvae.latent.undersampling import Undersampled, undersampled

__all__ = [
    "CollectiveVariable",
    "FreeEnergy",
    "Minimum",
    "Undersampled",
    "collective_variable",
    "decode",
    "encode",
    "encode_chunks",
    "free_energy",
    "generate",
    "in_double",
    "minimize",
    "reconstruct",
    "undersampled",
]
