"""Using a trained model."""

from mdvae.latent.encoding import encode, encode_chunks
from mdvae.latent.generation import decode, generate, reconstruct
from mdvae.latent.search import Minimum, minimize
from mdvae.latent.undersampling import Undersampled, undersampled

__all__ = [
    "Minimum",
    "Undersampled",
    "decode",
    "encode",
    "encode_chunks",
    "generate",
    "minimize",
    "reconstruct",
    "undersampled",
]
