"""Compiled functions of one row over many rows, in chunks of one fixed shape.

One shape for every chunk means one compilation, bounded memory, and a result that does not depend on how a
file was cut into chunks.
"""

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
from jax.typing import ArrayLike

from mdvae._compiled import compiled
from mdvae._memory import forget

# Numbers in a chunk, about 4 MB: large enough to amortize the call, small enough to stay in cache.
_CHUNK = 2**20
# A block larger than all that a chunk allocates.
_FREED = 16 * 2**20
# More chunks than this at once would need much memory where rows are long.
_MOST_THREADS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_chunks(function: Callable, *arrays: np.ndarray) -> Iterator[tuple[slice, Any]]:
    """Apply a function of one row of each array to all rows, chunk by chunk.

    Parameters
    ----------
    function : callable
        Often an Equinox module or a bound method of one; compiled once for each structure and shape.
    *arrays : (n_rows, ...)

    Yields
    ------
    rows : slice
    result
        What the function returns, as NumPy arrays with a leading axis for the rows.
    """
    n_rows = len(arrays[0])
    size = int(np.clip(_CHUNK // max(1, arrays[0][:1].size), 16, 8192))
    apply = _of_many_rows(function)

    def one(first: int) -> tuple[slice, Any]:
        rows = slice(first, min(first + size, n_rows))
        result = apply(*(_padded(array[rows], size) for array in arrays))
        return rows, jax.tree.map(lambda y: np.asarray(y)[: rows.stop - first], result)

    for found in ahead(one, range(0, n_rows, size)):
        yield found
        for array in arrays:
            forget(array)


def ahead(job: Callable[[Item], Result], items: Iterable[Item], n_threads: int | None = None) -> Iterator[Result]:
    """Results in order, while threads are some items ahead.

    Parameters
    ----------
    job : callable
        Spends its time in compiled code, which lets go of the interpreter.
    items : iterable
    n_threads : int, optional
        As many as the machine has cores, up to 8, if left out.
    """
    _let_freed_memory_stay()
    items = iter(items)
    # The first alone: threads would each compile.
    for item in items:
        yield job(item)
        break
    n_threads = n_threads or min(os.cpu_count() or 1, _MOST_THREADS)
    pool, waiting = ThreadPoolExecutor(n_threads), deque()
    try:
        for item in items:
            waiting.append(pool.submit(job, item))
            if len(waiting) > n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Whoever stops early waits for what has begun, and for no more.
        pool.shutdown(cancel_futures=True)


def map_rows(function: Callable, array: np.ndarray) -> np.ndarray:
    """Apply a function of one row, which returns one array, to all rows.

    Parameters
    ----------
    function : callable
    array : (n_rows, ...), at least one row

    Returns
    -------
    (n_rows, ...)
    """
    if not len(array):
        raise ValueError("there are no rows; expected at least one")
    chunks = in_chunks(function, array)
    # Straight to where they stay: joining them in the end holds them twice, and fetches fresh memory.
    rows, first = next(chunks)
    results = np.empty((len(array), *first.shape[1:]), first.dtype)
    results[rows] = first
    for rows, result in chunks:
        results[rows] = result
    return results


@functools.cache
def _let_freed_memory_stay() -> None:
    """Once in a process: what chunks free is used again.

    The C library of Linux hands freed memory back to the system, and fetches it anew, page by page, for the next chunk,
    which may take as long as the work. Once it has seen a block of this size go, it keeps up to twice as much.
    """
    np.empty(_FREED, np.uint8)


def _of_many_rows(function: Callable) -> Callable:
    """The function, compiled, of a chunk of rows.

    Taken apart once: `filter_jit` would do so for every chunk, in a tenth of the time that a small network takes.
    """
    leaves, structure = jax.tree.flatten(function)
    arrays, others = eqx.partition(leaves, eqx.is_array)
    return functools.partial(_apply, (structure, tuple(others)), arrays)


@functools.partial(compiled, jit=jax.jit, static_argnums=0)
def _apply(fixed: tuple[Any, tuple], arrays: list, *chunks: ArrayLike) -> Any:
    structure, others = fixed
    function = jax.tree.unflatten(structure, eqx.combine(arrays, list(others)))
    return jax.vmap(function)(*chunks)


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    """Repeat the last row until there are ``size`` of them."""
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
