"""What is compiled once is not compiled again by the next process."""

import hashlib
import os
import platform
from pathlib import Path

import jax

# Seconds of compiling from which on it is kept: a start compiles a hundred small programs, which together take longer
# than the large ones.
_WORTH = 0.0


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
