"""How much memory there is, and arrays that need none: files that are mapped into it."""

import gc
import math
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import ContextDecorator
from pathlib import Path

import numpy as np

# Bytes of an array that are looked at together.
_BLOCK = 2**26
# Batch systems and containers set their limits by Linux' control groups, of the second or of the first version.
_MEMBERSHIP, _CONTROL_GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_LIMITS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
# Rows from here and there that are looked at together.
_SCATTERED = 100
# Bytes that the place of an array must be a multiple of, that JAX takes it as it is.
_ALIGNED = 64


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Array of float32, nothing in it yet, that JAX need not copy for a computation; NumPy's own are places apart."""
    size = 4 * math.prod(shape)
    room = np.empty(size + _ALIGNED, np.uint8)
    first = -room.ctypes.data % _ALIGNED
    return room[first : first + size].view(np.float32).reshape(shape)


class _Uncollected(ContextDecorator):
    """No looking for garbage while many objects are made that stay: it would go through all that the process holds."""

    def __init__(self) -> None:
        # Threads may be in it at the same time: the first one in switches off, the last one out switches on.
        self._lock, self._n_inside, self._looking = threading.Lock(), 0, False

    def __enter__(self) -> None:
        with self._lock:
            if not self._n_inside:
                self._looking = gc.isenabled()
                gc.disable()
            self._n_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if not self._n_inside and self._looking:
                gc.enable()


uncollected = _Uncollected()


def available_memory() -> int | None:
    """Bytes that this process may still take, by what the machine has free and its control group allows, if known."""
    known = [_free_memory(), *(_left_in_group(folder) for folder in _groups())]
    return min((size for size in known if size is not None), default=None)


def _groups() -> Iterator[Path]:
    """Folders of the control groups that this process is in, and of all that these are in."""
    try:
        lines = _MEMBERSHIP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        # The second version has one tree for everything; the first one has a tree for memory.
        if controllers in ("", "memory"):
            root = _CONTROL_GROUPS / controllers
            inner = root / path.lstrip("/")
            yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))


def _free_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:")))
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    try:
        # Where nobody says what is free, half of what there is.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return None


def _left_in_group(folder: Path) -> int | None:
    for limit, used in _LIMITS:
        try:
            most, now = int((folder / limit).read_text()), int((folder / used).read_text())
            # Files that were read count as used, and make room when it is needed.
            names = dict(line.split()[:2] for line in (folder / "memory.stat").read_text().splitlines())
            return max(0, most - now + int(names.get("inactive_file", 0)))
        except (OSError, ValueError):
            # Nothing there, or "max", which is no limit.
            continue
    return None


def forget(array: np.ndarray) -> None:
    """Give back the memory of a mapped file that an array looks at; what was written goes to the file.

    An array that is in memory stays as it is.

    Parameters
    ----------
    array : array
    """
    base = array
    while isinstance(base, np.ndarray):
        if getattr(base, "mode", None) == "c":
            # What was written to a copy is nowhere else.
            return
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array looks at a file."""
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap)


def blocks(array: np.ndarray, rows: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Parts of an array along its first axis, of some 64 MB; of a mapped file no more than that is in memory.

    Parameters
    ----------
    array : (n, ...)
    rows : (n_rows,), optional
        Which of them; all, in order, if left out.

    Yields
    ------
    (n_block, ...)
    """
    size = rows_together(array)
    for first in range(0, len(array if rows is None else rows), size):
        part = slice(first, first + size)
        yield array[part if rows is None else rows[part]]
        forget(array)


def rows_together(array: np.ndarray) -> int:
    """Rows that make up some 64 MB; of every tenth row, say, the nine between count as well: a file has them in."""
    return max(1, _BLOCK // max(1, abs(array.strides[0]), array[:1].nbytes))


def picked(array: np.ndarray, rows: np.ndarray | slice, together: int = _SCATTERED) -> np.ndarray:
    """Rows from here and there, in memory.

    Parameters
    ----------
    array : (n, ...)
    rows : (n_rows,) or slice
    together : int
        So many are looked at before a mapped file is forgotten: of a file each brings its surroundings along, up to
        megabytes.

    Returns
    -------
    (n_rows, ...)
        Of an array that is in memory, a slice is a view.
    """
    if not is_mapped(array):
        return array[rows]
    rows = np.arange(len(array))[rows]
    found = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for first in range(0, len(rows), together):
        part = slice(first, first + together)
        found[part] = array[rows[part]]
        forget(array)
    return found
