"""larger: training at size M, on frames of 22 atoms, streamed from a cache of 8 GB (`fit(cache=...)`, from an array
file of as many frames) and from memory (a million frames); thousand samples per second of the epochs,
with what they compile, and the peak memory of the process that streams. Same losses: largest relative difference of any
term of any epoch between `fit` of the million with a cache and without. Each once.

Needs 17 GB of free disk, in the folder that TMPDIR names, and some minutes.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from sizes import SIZES
from synthetic import helices

SIZE = SIZES["M"]
N_ATOMS, CACHE_BYTES, N_IN_MEMORY = SIZE.n_features // 3, 8 * 10**9, 1_000_000
FIT = """
import json, sys
import mdvae
path, cache, n_epochs = sys.argv[1], sys.argv[2] or None, int(sys.argv[3])
model = mdvae.fit(path, cache=cache, periodic=False, latent_dim=2, hidden=(64, 64), residual=False, batch_size=256,
                  epochs=n_epochs, seed=0, progress=False)
history = model.history
print(json.dumps({
    "samples": history.n_training * history.n_epochs / history.seconds,
    "peak": next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024,
    "terms": {name: list(values) for name, values in history.terms.items()},
}))
"""


def fitted(path, cache, n_epochs):
    command = [sys.executable, "-c", FIT, str(path), str(cache or ""), str(n_epochs)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def written(path, n_frames):
    """An array file of the same frames again and again."""
    block = helices(50_000, N_ATOMS)
    header = {"descr": np.lib.format.dtype_to_descr(block.dtype), "fortran_order": False}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": (n_frames, N_ATOMS, 3)})
        for first in range(0, n_frames, len(block)):
            block[: n_frames - first].tofile(file)
    return path


def larger():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        few = written(folder / "few.npy", N_IN_MEMORY)
        memory, streamed = fitted(few, None, 3), fitted(few, folder / "cache", 3)
        apart = max(
            np.max(np.abs(np.array(values) - streamed["terms"][name]) / np.maximum(np.abs(values), 1e-3))
            for name, values in memory["terms"].items()
        )
        speeds = [found["samples"] / 1000 for found in (memory, streamed)]
        print("{} frames: in memory {:.0f}, from a cache {:.0f}".format(N_IN_MEMORY, *speeds))
        print(f"largest relative difference of losses: {apart:.1e}", flush=True)
        many = written(folder / "many.npy", CACHE_BYTES // (12 * N_ATOMS))
        large = fitted(many, folder / "cache", 1)
        share = large["samples"] / memory["samples"]
        print(f"8 GB from a cache: {large['samples'] / 1000:.0f}, {100 * share:.0f} % of the rate in memory")
        print(f"peak memory {large['peak']:.0f} MB")
