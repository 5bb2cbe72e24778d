"""A second process finds what the first one compiled."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp

from mdvae._compiled import compiled, keep_compiled

PROGRAM = """
import jax
from mdvae._compiled import keep_compiled
keep_compiled()
found = []
jax.monitoring.register_event_listener(lambda event, **_: found.append(event))
jax.jit(lambda x: x * 3 + 1)(2.0)
print(found.count("/jax/compilation_cache/cache_hits"), jax.config.jax_compilation_cache_dir)
"""


def run(**environment):
    known = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=known | environment, capture_output=True, text=True, check=True
    )
    hits, folder = done.stdout.split()
    return int(hits), folder


def test_the_next_process_compiles_nothing(tmp_path):
    first, second = (run(XDG_CACHE_HOME=str(tmp_path)) for _ in range(2))
    assert first[0] == 0
    assert second[0] > 0
    assert first[1] == second[1]
    assert first[1].startswith(str(tmp_path / "mdvae" / f"jax-{jax.__version__}"))


def test_a_folder_that_was_chosen_stays(tmp_path):
    chosen = str(tmp_path / "chosen")
    assert run(JAX_COMPILATION_CACHE_DIR=chosen, XDG_CACHE_HOME=str(tmp_path))[1] == chosen


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    (tmp_path / "mdvae").touch()
    assert run(XDG_CACHE_HOME=str(tmp_path)) == (0, "None")


def test_tests_keep_their_own_folder():
    before = jax.config.jax_compilation_cache_dir
    keep_compiled()
    assert jax.config.jax_compilation_cache_dir == before
    assert before is not None


def test_an_option_that_xla_does_not_know_is_left_out():
    double = compiled(lambda x: 2 * x, jit=jax.jit, cpu={"xla_cpu_of_another_version": True})
    assert double(jnp.float32(3)) == 6
