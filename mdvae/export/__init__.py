"""A trained model's latent coordinates as files for programs that know nothing of mdvae.

Engines with an input language of their own: `plumed` and `colvars`; Python hosts: `pycv`, `stablehlo`.
"""

from mdvae.export.checking import Exported
from mdvae.export.colvars import export_colvars
from mdvae.export.plumed import export_plumed
from mdvae.export.pycv import export_pycv
from mdvae.export.stablehlo import export_portable

__all__ = ["Exported", "export_colvars", "export_plumed", "export_portable", "export_pycv"]
