"""A trained model's latent coordinates for programs that know nothing of mdvae."""

from mdvae.export.pycv import export_pycv
from mdvae.export.stablehlo import export_portable

__all__ = ["export_portable", "export_pycv"]
