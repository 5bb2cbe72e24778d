"""A trained model's latent coordinates as files for programs that know nothing of mdvae.

Engines with an input language of their own: `plumed` and `colvars`.
"""

from mdvae.export.checking import Exported
from mdvae.export.colvars import export_colvars
from mdvae.export.plumed import export_plumed

__all__ = ["Exported", "export_colvars", "export_plumed"]
