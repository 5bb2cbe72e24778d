"""Several devices share each batch: the same losses. In a process of its own, whose processor plays four devices."""

import os
import subprocess
import sys

import pytest

import mdvae

PROGRAM = """
import jax, numpy as np, mdvae
assert jax.local_device_count() == 4
chain = mdvae.toys.bead_spring_chain(400, n_beads=6, seed=0)
options = {"latent_dim": 2, "hidden": (16,), "epochs": 3, "length_unit": "reduced", "progress": False}
options |= {"augment": ["noise=0.01"]}
one, four = (mdvae.fit(chain, n_devices=n, batch_size=32, **options) for n in (1, 4))
streamed = mdvae.fit(chain, n_devices=4, batch_size=32, cache="cache", **options)
for model in (four, streamed):
    for name, values in one.history.terms.items():
        np.testing.assert_allclose(model.history.terms[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(mdvae.encode(model, chain), mdvae.encode(one, chain), atol=1e-3)
del options["augment"]
options |= {"lagtime": 2, "vamp_weight": 3.0, "weights": np.linspace(1, 2, 400)}
one, four, streamed = (mdvae.fit(chain, batch_size=32, **options, **more) for more in (
    {}, {"n_devices": 4}, {"n_devices": 4, "cache": "cache"}
))
for model in (four, streamed):
    for name, values in one.history.terms.items():
        np.testing.assert_allclose(model.history.terms[name], values, rtol=1e-3, atol=1e-4, err_msg=name)
from mdvae.training import Resident
rows = np.arange(100)
data, batches = next(Resident(np.zeros((100, 2), np.float32), rows, rows, 8, 4).shuffled(jax.random.key(0)))
assert {shard.data.shape for shard in batches.addressable_shards} == {(12, 2)}
assert {shard.data.shape for shard in data.addressable_shards} == {(100, 2)}
print("same")
"""


def test_four_devices_learn_what_one_does(tmp_path):
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "XDG_CACHE_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "same", done.stderr


def test_more_devices_than_there_are_are_refused():
    with pytest.raises(ValueError, match="n_devices=1000, but JAX sees"):
        mdvae.Settings(n_devices=1000)
    with pytest.raises(ValueError, match="n_devices must be at least 1, got 0"):
        mdvae.Settings(n_devices=0)


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.setattr("jax.local_device_count", lambda: 4)
    with pytest.raises(ValueError, match="batch_size=30 cannot be shared by n_devices=4"):
        mdvae.Settings(batch_size=30, n_devices=4)
    assert mdvae.Settings(n_devices=4).plan(64 * 33).batch_size == 32
