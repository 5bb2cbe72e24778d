"""Several trainings at once."""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from mdvae.training.progress import ProgressBar

Result = TypeVar("Result")

# More than this at once, or than there are cores, would need much memory.
_MOST = 8


def at_once(trainings: Sequence[Callable[..., Result]], bar: ProgressBar, n_threads: int | None = None) -> list[Result]:
    """Results in order; with Ctrl-C those of the trainings that had begun, as far as they had come.

    In threads: compiled code lets go of the interpreter, and a small network leaves cores idle. There may be more of
    them than cores, lest one core waits while another ends the last training. As one program they take longer.

    Parameters
    ----------
    trainings : sequence of callables
        Each takes ``progress``, and ends with what it has when that raises KeyboardInterrupt.
    bar : ProgressBar
    n_threads : int, optional
        How many at once; eight, or as many as there are cores, if left out.
    """
    if len(trainings) == 1:
        return [trainings[0](progress=bar)]
    stop = threading.Event()

    def told(model: int, epoch: int, n_epochs: int, terms: Mapping[str, float]) -> None:
        bar(epoch, n_epochs, terms, model)
        if stop.is_set():
            # Ctrl-C reaches the main thread only.
            raise KeyboardInterrupt

    with ThreadPoolExecutor(min(len(trainings), n_threads or max(_MOST, os.cpu_count() or 1))) as pool:
        futures = [pool.submit(one, progress=functools.partial(told, i)) for i, one in enumerate(trainings)]
        with contextlib.suppress(KeyboardInterrupt):
            wait(futures, return_when=FIRST_EXCEPTION)
        # What is not done by now is not to be.
        stop.set()
        # From the last one on: a thread that becomes free must not find a later one than was called off.
        for future in reversed(futures):
            future.cancel()
        return [future.result() for future in futures if not future.cancelled()]
