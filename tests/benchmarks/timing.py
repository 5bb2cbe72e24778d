"""Times of several ways to do the same, taken in turns: whatever else the machine does then meets all of them."""

import importlib.util
import time

import numpy as np

N_TURNS = 5
# Seconds between two jobs: threads of some libraries go on looking for work for a while, at the cost of who comes next.
PAUSE = 0.3
# Of the matrices whose product says how fast the machine can be.
LARGE = 2048


def in_turns(jobs, n_turns=N_TURNS, after=None):
    """Median seconds of each job, and of its first call; jobs that are None are missing.

    What `after` does with the name and the result of a job is not timed.
    """
    first, seconds = {}, {name: [] for name, job in jobs.items() if job is not None}
    for turn in range(n_turns + 1):
        for name in seconds:
            time.sleep(PAUSE)
            started = time.perf_counter()
            result = jobs[name]()
            took = time.perf_counter() - started
            if turn:
                seconds[name].append(took)
            else:
                first[name] = took
            if after is not None:
                after(name, result)
    return {name: float(np.median(values)) for name, values in seconds.items()}, first


def ratio(seconds, name, unit, factor=1.0):
    return f"{factor * seconds[name] / seconds[unit]:10.1f}" if name in seconds else f"{'–':>10}"


def installed(*names):
    return all(importlib.util.find_spec(name) is not None for name in names)


def large_product():
    """NumPy's product of two large matrices in float32, as a job; it takes `2 * LARGE**3` operations."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, LARGE, LARGE)).astype(np.float32)
    c = np.empty_like(a)
    return lambda: np.matmul(a, b, out=c)


def operations_per_second(seconds):
    """From the time of `large_product`."""
    return 2 * LARGE**3 / seconds
