"""Trained models inside of other packages: one thin file each, none of which mdvae needs otherwise.

`mdvae.adapters.openmm`, `ase`, `jax_md` and `pysages` bias simulations; `mdanalysis`, `sklearn` and `pandas` let models
into analyses.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdvae.adapters import ase, jax_md, mdanalysis, openmm, pandas, pysages, sklearn

__all__ = ["ase", "jax_md", "mdanalysis", "openmm", "pandas", "pysages", "sklearn"]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"module 'mdvae.adapters' has no attribute {name!r}")
    return importlib.import_module(f"mdvae.adapters.{name}")
