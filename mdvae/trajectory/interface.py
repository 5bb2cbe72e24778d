"""What every source of conformations can do."""

import abc
import hashlib
from collections.abc import Iterator
from typing import Any

import mdtraj as md
import numpy as np
from jaxtyping import Int

from mdvae._memory import blocks
from mdvae.trajectory.files import Raw

# Bytes of whole frames that one chunk decodes: few enough that memory is used again and again, which is many times as
# fast as fresh memory. And the most frames it may have.
_CHUNK_BYTES = 8 * 2**20
_CHUNK_FRAMES = 10_000


class AbstractSource(abc.ABC):
    """One trajectory, wherever it is; with a selection of its atoms, if it comes with one."""

    name: str
    n_atoms: int
    dim: int
    topology: md.Topology | None
    selection: Int[np.ndarray, " n_chosen"] | None = None
    is_file: bool = False

    @property
    def n_frames(self) -> int | None:
        """Frames, where they are known without reading."""
        return None

    @abc.abstractmethod
    def identity(self) -> list[Any]:
        """Plain data that are others if the content is another."""

    @abc.abstractmethod
    def raw(self, atom_indices: Int[np.ndarray, " n_selected"] | None, size: int) -> Iterator[Raw]:
        """Yield consecutive frames of some atoms, ``size`` frames at a time."""

    def chunk_size(self, chunk: int | None) -> int:
        """Frames of a chunk: as wished, or what fits in 8 MB."""
        if chunk is not None:
            return chunk
        return int(np.clip(_CHUNK_BYTES // (12 * self.n_atoms), 1, _CHUNK_FRAMES))


def digest(*arrays: np.ndarray) -> str:
    """Digest of arrays, whatever their size."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        for block in blocks(array):
            digest.update(block.tobytes())
    return digest.hexdigest()
