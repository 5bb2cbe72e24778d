"""Chunks of frames into one array: in memory, or in a file that is mapped into it."""

import abc
import logging
import shutil
import tempfile
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Float

from mdvae._memory import aligned, available_memory, blocks, is_mapped
from mdvae.trajectory.cache import Cache

# Of free memory, what frames may take: training holds their features as well, and works.
_SHARE_OF_MEMORY = 1 / 3
# Of free space on a disk, what is left to others.
_SHARE_OF_DISK = 0.95

Coordinates = Float[np.ndarray, "n_frames n_atoms dim"]
_log = logging.getLogger("mdvae")


class AbstractStore(abc.ABC):
    """What takes chunks one after the other, and gives one array."""

    @abc.abstractmethod
    def add(self, part: Coordinates) -> None:
        """Take the next chunk."""

    @abc.abstractmethod
    def all(self) -> Coordinates:
        """Everything that was added, writable."""

    @abc.abstractmethod
    def close(self) -> None:
        """Be done, with or without having given anything."""


class InMemory(AbstractStore):
    """Without memory for two of it.

    Parameters
    ----------
    n_frames : int, optional
        How many will come; None where only reading tells.
    """

    def __init__(self, n_frames: int | None) -> None:
        self._n_expected, self._n = n_frames, 0
        self._parts: list[np.ndarray] = []
        self._array = np.zeros((0, 0, 0), np.float32)

    def add(self, part: Coordinates) -> None:
        """Copy the next chunk to its place; keep it, where no place is known yet."""
        if self._n_expected is None:
            self._parts.append(part)
            return
        if not self._n:
            self._array = aligned((self._n_expected, *part.shape[1:]))
        self._array[self._n : self._n + len(part)] = part
        self._n += len(part)

    def all(self) -> Coordinates:
        """What was added. Parts are let go of as they are copied."""
        if self._parts:
            self._n_expected, parts = sum(len(part) for part in self._parts), self._parts[::-1]
            self._parts = []
            while parts:
                self.add(parts.pop())
        return self._array[: self._n]

    def close(self) -> None:
        """Nothing is open."""


class OnDisk(AbstractStore):
    """In a file, of which memory holds what is being looked at.

    Parameters
    ----------
    file : binary file
        Empty, open for reading and writing.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._shape = file, (0, 0, 0)

    def add(self, part: Coordinates) -> None:
        """Append the next chunk."""
        np.ascontiguousarray(part, np.float32).tofile(self._file)
        self._shape = (self._shape[0] + len(part), *part.shape[1:])

    def all(self) -> Coordinates:
        """The file, mapped."""
        self._file.flush()
        return np.memmap(self._file, np.float32, "r+", shape=self._shape)

    def close(self) -> None:
        """Close the file; what is mapped stays so."""
        self._file.close()


def choose_store(n_frames: int | None, frame_bytes: int, cache: Cache | None, scratch: Path | None) -> AbstractStore:
    """Where frames go: where they are to be kept, else into memory if they fit, else into a file that goes away.

    Parameters
    ----------
    n_frames : int, optional
        How many will come; None where only reading tells.
    frame_bytes : int
        Of one frame.
    cache : Cache, optional
    scratch : Path, optional
        Folder for what is too large for memory; without it everything goes into memory.

    Raises
    ------
    OSError
        If the disk has no room, or cannot be written to.
    """
    size = None if n_frames is None else n_frames * frame_bytes
    if cache is not None:
        if cache.folder.exists() and not cache.folder.is_dir():
            raise NotADirectoryError(f"cache={str(cache.folder)!r} is a file; expected a folder")
        cache.folder.mkdir(parents=True, exist_ok=True)
        _check_room(cache.folder, size)
        _log.info("writing %s of posed frames to %s", _gigabytes(size), cache.frames_path)
        return OnDisk(cache.draft_path.open("w+b"))
    free = available_memory()
    if scratch is None or size is None or free is None or size <= _SHARE_OF_MEMORY * free:
        return InMemory(n_frames)
    _check_room(scratch, size)
    _log.warning(
        "%s of frames are too many for the %s of memory that are free: they go to a file in %s, gone at the end",
        *(_gigabytes(size), _gigabytes(free), scratch),
    )
    # Without a name it is gone with the array, or with the process, however that ends.
    return OnDisk(tempfile.TemporaryFile(dir=scratch))


def _check_room(folder: Path, size: int | None) -> None:
    free = shutil.disk_usage(folder).free
    if size is not None and size > _SHARE_OF_DISK * free:
        raise OSError(
            f"{folder} has {_gigabytes(free)} of free space, and the posed frames take {_gigabytes(size)}: choose "
            "another folder with cache=, fewer atoms with select=, or fewer frames with stride="
        )


def _gigabytes(size: int | None) -> str:
    if size is None:
        return "an unknown number of gigabytes"
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def is_flat(coordinates: Coordinates) -> bool:
    """Whether every atom lies in the plane z = 0."""
    return not any(block[..., 2:].any() for block in blocks(coordinates))


def flattened(coordinates: Coordinates) -> Float[np.ndarray, "n_frames n_atoms 2"]:
    """The same without z; what is mapped is overwritten."""
    if not is_mapped(coordinates):
        return np.ascontiguousarray(coordinates[..., :2])
    numbers, done = coordinates.reshape(-1), 0
    for block in blocks(coordinates):
        plane = block[..., :2].flatten()
        numbers[done : done + len(plane)] = plane
        done += len(plane)
    return numbers[:done].reshape(*coordinates.shape[:2], 2)
