"""Conformations to latent coordinates."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from mdvae._chunks import map_rows
from mdvae.model import Model
from mdvae.trajectory import Chunk, stream

# Smaller and larger by more than this factor is not the same molecule in the same unit.
_ALIKE = 0.2


def encode(model: Model, source: Any, **reading) -> Float[np.ndarray, "n_frames latent_dim"]:
    """Latent trajectory: the posterior mean of every frame, deterministic.

    Parameters
    ----------
    model : Model
    source : path, mdtraj.Trajectory, MDAnalysis Universe or AtomGroup, array (n_frames, n_atoms, dim), or a list
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
    """Posed chunks of a source with their latent points; memory holds a few chunks.

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
    last = None
    for chunk in stream(source, system=model.system, alignment=model.alignment, **reading):
        if chunk.trajectory != last:
            _compare_sizes(model, chunk)
            last = chunk.trajectory
        yield chunk, encode_posed(model, chunk.coordinates)


def _compare_sizes(model: Model, chunk: Chunk) -> None:
    """Warn of frames so much larger or smaller than the training frames that their unit must be another."""
    if model.data is None:
        return
    ours, theirs = (float(np.sqrt((x**2).sum(axis=2).mean())) for x in (model.data.frames, chunk.coordinates))
    if not _ALIKE < theirs / ours < 1 / _ALIKE:
        warnings.warn(
            f"the frames are {theirs / ours:.2g} times the size of the training frames: are they in another unit? "
            f"(arrays are taken to be in {model.system.length_unit}; see length_unit)",
            stacklevel=3,
        )


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
