"""XTC files, by a decoder of our own if numba is there: several threads, and no atom behind the last one wanted.

Each frame is a header and, from ten atoms on, positions as whole numbers in bits, with the lowest of them and how many
there are along each axis. What the bits mean is in `_xtc_decoder`.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mdvae._compiled import by_numba
from mdvae._memory import aligned
from mdvae.trajectory.text import cut_off, unreadable

_NARROW, _WIDE = 1995, 2023
# Up to so many atoms are not packed.
_PLAIN = 9
# 32-bit numbers before plain positions, and before packed ones; of a wide frame one more.
_PLAIN_HEADER, _HEADER = 14, 23
# Bytes that are looked through for headers, and from which size of a frame on only headers are read.
_BLOCK, _FAR = 2**20, 2**16
# Numbers that one thread decodes at a time, and the most threads.
_PART = 2**18
_MOST_THREADS = 8
# Files whose frames have been found, to read them without looking again; and how many.
_found: dict[Path, Int[np.ndarray, " n_frames_and_one"]] = {}
_MOST_FILES = 1000


class XtcChunk(NamedTuple):
    """Consecutive frames, nm and ps; a cell is zeros where a frame has none."""

    positions: Float[np.ndarray, "n_frames n_atoms 3"]
    cells: Float[np.ndarray, "n_frames 3 3"]
    time: Float[np.ndarray, " n_frames"]


def decoder() -> ModuleType | None:
    """The compiled functions; None without numba, or where it fails."""
    return by_numba("mdvae.trajectory._xtc_decoder")


def frame_starts(path: Path, n_frames: int | None = None) -> Int[np.ndarray, " n_frames_and_one"]:
    """Where each frame starts, in bytes, and where the last one ends.

    Parameters
    ----------
    path : Path
    n_frames : int, optional
        Of the first so many frames, as they were counted: a run may have gone on writing since.

    Raises
    ------
    ValueError
        The file is cut off in the middle of a frame, or something else stands where a frame should start.
    """
    known = _found.pop(path, np.zeros(0, np.int64))
    starts = known if n_frames is not None and len(known) > n_frames else _look(path)
    # The latest at the end; that nothing but numbers of frames pile up.
    _found[path] = starts
    for other in list(_found)[:-_MOST_FILES]:
        _found.pop(other, None)
    return starts if n_frames is None else starts[: n_frames + 1]


def _look(path: Path) -> Int[np.ndarray, " n_frames_and_one"]:
    """Hop from header to header through all of the file."""
    end = path.stat().st_size
    compiled = decoder()
    assert compiled is not None
    words = np.empty(_BLOCK // 8 + compiled.SPARE_WORDS, np.uint64)
    data, most = words.view(np.uint8), np.empty(_BLOCK // 68 + 1, np.int64)
    found, n_frames, place = [], 0, 0
    with path.open("rb") as file:
        while place < end:
            file.seek(place)
            n_bytes = file.readinto(data[: 4 * _HEADER + 4 if place > _FAR * n_frames else _BLOCK].data)
            # Behind the end of the file stand zeros: a header that is cut off there ends behind it as well.
            data[n_bytes : n_bytes + 8 * compiled.SPARE_WORDS] = 0
            at_end = place + n_bytes >= end
            last = n_bytes - 1 if at_end else n_bytes - 4 * _HEADER - 4
            n_found, further = compiled.hop(words, last, most)
            if further <= last or not n_found:
                if at_end and place + further + 8 > end:
                    raise ValueError(cut_off(path, n_frames + n_found))
                raise ValueError(unreadable(path, ".xtc", n_frames + n_found))
            found.append(place + most[:n_found])
            n_frames, place = n_frames + n_found, place + further
    if place > end:
        raise ValueError(cut_off(path, n_frames - 1))
    return np.concatenate([*found, [place]]).astype(np.int64)


def xtc_frames(
    path: Path, starts: Int[np.ndarray, " n_frames_and_one"], atoms: Int[np.ndarray, " n_selected"] | None, size: int
) -> Iterator[XtcChunk]:
    """Frames of a file, some at a time; threads are at the next ones meanwhile.

    Parameters
    ----------
    path : Path
    starts : (n_frames + 1,)
        See `frame_starts`.
    atoms : (n_selected,), optional
        None for all.
    size : int
        Frames of a chunk.

    Yields
    ------
    XtcChunk

    Raises
    ------
    ValueError
        A frame is damaged.
    """
    n_frames, n_atoms = len(starts) - 1, _count_atoms(path, starts)
    atoms = None if atoms is None else np.array(atoms, np.int64)
    if atoms is not None and len(atoms) and not 0 <= atoms.min() <= atoms.max() < n_atoms:
        raise ValueError(f"{path} has {n_atoms} atoms a frame, and atoms {atoms.min()} to {atoms.max()} are wanted")
    together = max(1, _PART // (3 * n_atoms))
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS))

    def begun(first: int) -> tuple[XtcChunk, list[Future]]:
        n, n_kept = min(size, n_frames - first), n_atoms if atoms is None else len(atoms)
        chunk = XtcChunk(aligned((n, n_kept, 3)), np.empty((n, 3, 3)), np.empty(n))
        parts = [slice(i, min(i + together, n)) for i in range(0, n, together)]
        of_parts = [XtcChunk(*(array[part] for array in chunk)) for part in parts]
        return chunk, [
            pool.submit(_decode, path, starts, n_atoms, atoms, first + part.start, of_part)
            for part, of_part in zip(parts, of_parts, strict=True)
        ]

    try:
        following = begun(0)
        for first in range(size, n_frames + size, size):
            (chunk, jobs), following = following, begun(min(first, n_frames))
            for job in jobs:
                job.result()
            yield chunk
    finally:
        pool.shutdown(cancel_futures=True)


def _count_atoms(path: Path, starts: Int[np.ndarray, " n_frames_and_one"]) -> int:
    """Atoms of the first frame, if there are bits for so many."""
    with path.open("rb") as file:
        n_atoms = int.from_bytes(file.read(8)[4:], "big")
    if not 0 < n_atoms <= 8 * (starts[1] - starts[0]):
        raise ValueError(unreadable(path, ".xtc", 0))
    return n_atoms


def _decode(
    path: Path, starts: np.ndarray, n_atoms: int, atoms: np.ndarray | None, first: int, chunk: XtcChunk
) -> None:
    """Read as many frames as the chunk has room for into it."""
    compiled = decoder()
    assert compiled is not None
    stop = first + len(chunk.time)
    words = np.empty(int(starts[stop] - starts[first]) // 8 + compiled.SPARE_WORDS, np.uint64)
    with path.open("rb") as file:
        file.seek(starts[first])
        n_bytes = file.readinto(words.view(np.uint8)[: starts[stop] - starts[first]].data)
    if n_bytes < starts[stop] - starts[first]:
        raise ValueError(cut_off(path, first))
    begins, ends = starts[first:stop] - starts[first], starts[first + 1 : stop + 1] - starts[first]
    with np.errstate(all="ignore"):
        if n_atoms <= _PLAIN:
            n_sound = _copy_plain(words, begins, n_atoms, slice(None) if atoms is None else atoms, chunk)
        else:
            n_sound = _unpack(words, begins, ends, n_atoms, np.zeros(0, np.int64) if atoms is None else atoms, chunk)
    if n_sound < len(begins):
        raise ValueError(unreadable(path, ".xtc", first + n_sound))


def _copy_plain(words: np.ndarray, begins: np.ndarray, n_atoms: int, atoms: np.ndarray | slice, chunk: XtcChunk) -> int:
    """Read frames that are not packed; how many there are before one that is damaged."""
    numbers = _numbers(words, begins, _PLAIN_HEADER + 3 * n_atoms)
    sound = _read_header(numbers, n_atoms, chunk)
    chunk.positions[:] = numbers[:, _PLAIN_HEADER:].view(np.float32).reshape(-1, n_atoms, 3)[:, atoms]
    return _n_sound(sound)


def _unpack(
    words: np.ndarray, begins: np.ndarray, ends: np.ndarray, n_atoms: int, atoms: np.ndarray, chunk: XtcChunk
) -> int:
    """Decode frames that are packed; how many there are before one that is damaged."""
    numbers = _numbers(words, begins, _HEADER + 1)
    sound = _read_header(numbers, n_atoms, chunk)
    wide = numbers[:, 0] == _WIDE
    n_packed = np.where(wide, numbers[:, _HEADER], numbers[:, _HEADER - 1]).view(np.uint32).astype(np.int64)
    n_packed += np.where(wide, numbers[:, _HEADER - 1].astype(np.int64) << 32, 0)
    begins = begins + np.where(wide, 4 * _HEADER + 4, 4 * _HEADER)
    lowest, highest = numbers[:, 15:18].astype(np.int64), numbers[:, 18:21].astype(np.int64)
    sizes = highest - lowest + 1
    sound &= (n_packed >= 0) & (n_packed <= ends - begins) & (sizes > 0).all(axis=1)
    units = np.float32(1) / numbers[:, 14].view(np.float32)
    n_sound = _n_sound(sound)
    compiled, rows = decoder(), slice(n_sound)
    assert compiled is not None
    return compiled.unpack(
        words,
        begins[rows],
        (begins + n_packed)[rows],
        lowest[rows],
        sizes[rows].astype(np.uint64),
        numbers[rows, 21].astype(np.int64),
        units[rows],
        atoms,
        np.empty(3 * n_atoms, np.float32),
        chunk.positions[rows],
    )


def _numbers(words: np.ndarray, begins: np.ndarray, n: int) -> Int[np.ndarray, "n_frames n"]:
    """The first 32-bit numbers of each frame."""
    return words.view(">i4")[begins[:, None] // 4 + np.arange(n)].astype(np.int32)


def _read_header(numbers: Int[np.ndarray, "n_frames _"], n_atoms: int, chunk: XtcChunk) -> np.ndarray:
    """Cells and times into the chunk, and which frames have so many atoms."""
    chunk.time[:] = numbers[:, 3].view(np.float32)
    chunk.cells[:] = numbers[:, 4:13].view(np.float32).reshape(-1, 3, 3)
    known = (numbers[:, 0] == _NARROW) | (numbers[:, 0] == _WIDE)
    return known & (numbers[:, 1] == n_atoms) & (numbers[:, 13] == n_atoms)


def _n_sound(sound: np.ndarray) -> int:
    """Frames before the first one that is not sound."""
    return len(sound) if sound.all() else int(np.argmin(sound))
