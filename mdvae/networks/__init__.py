"""Encoders and decoders."""

from mdvae.networks.base import AbstractDecoder, AbstractEncoder
from mdvae.networks.mlp import MLPDecoder, MLPEncoder

__all__ = ["AbstractDecoder", "AbstractEncoder", "MLPDecoder", "MLPEncoder"]
