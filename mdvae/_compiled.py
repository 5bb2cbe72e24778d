"""How JAX compiles, and what is compiled once is not compiled again by the next process."""

import functools
import hashlib
import importlib
import importlib.util
import logging
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import equinox as eqx
import jax

# Seconds of compiling from which on it is kept: a start compiles a hundred small programs, which together take longer
# than the large ones.
_WORTH = 0.0
# XLA takes vectors of half this length on any x86-64 processor; one without longer ones goes on to do so.
_WIDE = {"xla_cpu_prefer_vector_width": 512}
_log = logging.getLogger("mdvae")


def compiled(
    function: Callable, *, jit: Callable = eqx.filter_jit, cpu: Mapping[str, Any] | None = None, **options: Any
) -> Callable:
    """Compile a function that much time is spent in: for the longest vectors that the processor has.

    Parameters
    ----------
    function : callable
    jit : callable
        `equinox.filter_jit` or `jax.jit`, which takes less time for a call.
    cpu : mapping, optional
        More options of XLA, for processors.
    **options
        Of `jit`.
    """

    @functools.cache
    def ready() -> Callable:
        # Not before the first call: to ask for the backend is to start it, and whoever imports may still choose.
        more: dict[str, Any] = {}
        if jax.default_backend() == "cpu":
            wanted = _WIDE | dict(cpu or {})
            more["compiler_options"] = {name: value for name, value in wanted.items() if _is_known(name, value)}
        return jit(function, **options, **more)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return ready()(*args)

    return call


@functools.cache
def _is_known(name: str, value: Any) -> bool:
    """Whether XLA has an option: other versions have others, and refuse what they do not know."""
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


@functools.cache
def by_numba(name: str) -> ModuleType | None:
    """Import a module whose functions numba compiles; None without numba, or where it fails, which is said once.

    Parameters
    ----------
    name : str
    """
    if importlib.util.find_spec("numba") is None:
        return None
    try:
        return importlib.import_module(name)
    except Exception as error:
        # It may be too old for this NumPy, lack a library, or find no room to keep what it compiles.
        _log.warning("numba cannot be used for %s, and what is slower takes its place: %s", name, error)
        return None


def keep_compiled() -> None:
    """Keep what JAX compiles in the user's folder for caches, unless JAX was told of a folder already.

    A folder for each kind of machine and version of JAX: compiled code may run nowhere else. Where nothing can be
    written, nothing is kept.
    """
    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mdvae"
        folder = root / f"jax-{jax.__version__}-{_machine()}"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH)


def _machine() -> str:
    """Short name of this kind of processor: files in a home folder may be seen by many kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    said = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    known = [platform.machine(), platform.processor(), *sorted(said)]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:12]
