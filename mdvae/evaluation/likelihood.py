"""How likely frames are under a model."""

from typing import Any

import numpy as np

from mdvae import vae
from mdvae._chunks import map_rows
from mdvae._keys import key_for
from mdvae._types import Whole
from mdvae.latent import encode_chunks
from mdvae.model import Model
from mdvae.vae import LogLikelihood


def log_likelihood(
    model: Model, source: Any, n_samples: Whole = 100, *, seed: Whole = 0, **reading: Any
) -> LogLikelihood:
    """Log-likelihood of frames, by importance sampling and, beside it, by plain sampling from the prior.

    It is the density of the features (posed positions in nm, or what else the model sees), so that models of the same
    features can be compared, and no others. Memory holds the features of all frames. `mdvae.vae.log_likelihood` says
    what the two are and why the first wins.

    Parameters
    ----------
    model : Model
    source : path, mdtraj.Trajectory, MDAnalysis Universe or AtomGroup, array (n_frames, n_atoms, dim), or a list
        Best frames that the model was not trained on.
    n_samples : int
        Latent points a frame.
    seed : int
    **reading
        As for `encode`.

    Returns
    -------
    LogLikelihood
        Prints as a table.

    Raises
    ------
    ValueError, OSError
        For a likelihood that is no density, and for a source that cannot be read or is another molecule.
    """
    vae.check_samples(model.vae, n_samples)
    key = key_for("log_likelihood", seed)
    parts = [
        map_rows(model.representation.to_features, chunk.coordinates)
        for chunk, _ in encode_chunks(model, source, **reading)
    ]
    return vae.log_likelihood(model.vae, np.concatenate(parts), n_samples, key=key)
