"""Latent trajectories as tables of pandas."""

from typing import Any

import pandas as pd

from mdvae.latent import encode_chunks
from mdvae.model import Model
from mdvae.pipeline import latent_table

__all__ = ["latents"]


def latents(model: Model, source: Any, **reading: Any) -> pd.DataFrame:
    """Latent trajectory as a table; a PLUMED COLVAR file or ``.csv`` of it writes `mdvae.write_latents`.

    Parameters
    ----------
    model : Model
    source, **reading
        As for `mdvae.encode`.

    Returns
    -------
    pandas.DataFrame
        One row a frame, named by trajectory and number of the frame in it, both counted from 0; columns time (ps; the
        number of the frame, where a trajectory holds no times), z1, z2, ...
    """
    origin, time, z = latent_table(encode_chunks(model, source, **reading))
    rows = pd.MultiIndex.from_arrays(origin.T, names=["trajectory", "frame"])
    return pd.DataFrame({"time": time, **{f"z{i + 1}": column for i, column in enumerate(z.T)}}, index=rows)
