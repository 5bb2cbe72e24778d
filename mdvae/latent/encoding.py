"""Conformations to latent coordinates."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from mdvae._chunks import map_rows
from mdvae.model import Model
from mdvae.trajectory import Chunk, stream


def encode(model: Model, source: Any, **reading) -> Float[np.ndarray, "n_frames latent_dim"]:
    """Latent trajectory: the posterior mean of every frame, deterministic.

    Parameters
    ----------
    model : Model
    source : path, mdtraj.Trajectory, array (n_frames, n_atoms, dim), or a list of any of these
        The frames of a list come one after another.
    **reading
        ``top``, ``stride``, ``chunk``, ``length_unit``, ``periodic``: see `read`. A topology is only needed for
        a system that differs from the model's in atoms outside of the selection.

    Returns
    -------
    (n_frames, latent_dim)

    Raises
    ------
    ValueError, OSError
        For a source that cannot be read or is another molecule.
    """
    return np.concatenate([z for _, z in encode_chunks(model, source, **reading)])


def encode_chunks(
    model: Model, source: Any, **reading
) -> Iterator[tuple[Chunk, Float[np.ndarray, "n_chunk latent_dim"]]]:
    """Posed chunks of a source with their latent points; memory holds one chunk.

    Parameters
    ----------
    model : Model
    source, **reading
        As for `encode`.

    Yields
    ------
    chunk : Chunk
    z : (n_chunk, latent_dim)
    """
    for chunk in stream(source, system=model.system, alignment=model.alignment, **reading):
        yield chunk, encode_posed(model, chunk.coordinates)


def encode_posed(
    model: Model, coordinates: Float[np.ndarray, "n_frames n_atoms dim"]
) -> Float[np.ndarray, "n_frames latent_dim"]:
    """Latent points of frames that already are in the model's pose.

    Parameters
    ----------
    model : Model
    coordinates : (n_frames, n_atoms, dim), nm

    Returns
    -------
    (n_frames, latent_dim)
    """
    return map_rows(model.coordinate.encode_posed, coordinates)
