"""training: thousand samples per second, Adam, Gaussian reconstruction and KL divergence, float32; the same
perceptrons, the same activation, the same number of samples in an epoch on each side, a few epochs. mdvae's loop is
`optimize` on data that it holds; `train_vae` and `train` (on frames of as many atoms, which it also looks at for their
geometry) do all that they do by themselves: held-out samples beside the others, schedules, diagnostics. What they do
once is much of a few epochs: at size M they are compared with the loop over forty as well. By hand is
PyTorch, with one thread and with as many as there are cores; deeptime is `TVAE` with no time lag, mlcolvar
`VariationalAutoEncoderCV` with Lightning, both with as many threads as PyTorch takes. Floor: the networks' own matrix
products (once forward, twice backward), as fast as NumPy multiplies large matrices. Left: squared deviation of a sample
from what is decoded of its posterior mean, after as many epochs on each side; mean and standard deviation over seeds.
(`train_vae` has a schedule.)

Start: seconds from a process that has nothing to the end of an epoch, at size M, with empty caches and once again: of
the ways of mdvae only `fit`, which also poses frames and looks at their geometry, keeps what it has compiled.
"""

import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sizes import LEARNING_RATE, SIZES
from synthetic import helices
from timing import N_TURNS, in_turns, installed, large_product, operations_per_second

import mdvae
from mdvae.training import Resident, optimize
from mdvae.vae import Gaussian, NegativeELBO, build_vae

N_EPOCHS = 4
# What is done once, before the first epoch or after the last, counts as in a training that somebody would run.
USUAL_EPOCHS = 40
HELD_OUT = 0.1
ADAM = optax.adam(LEARNING_RATE)
STARTS = ("mdvae's loop", "mdvae.train_vae", "mdvae.fit", "by hand", "by hand, compiled", "deeptime", "mlcolvar")


def objective(step):
    return NegativeELBO(1.0)


def standardized(frames):
    """Vectors of mean 0 and deviation 1 from posed frames."""
    x = frames.reshape(len(frames), -1)
    return ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32)


def posed(size):
    """Frames for an epoch of this size, and those that are held out of it."""
    n_frames = math.ceil(size.n_samples / (1 - HELD_OUT))
    return mdvae.read(helices(n_frames, size.n_features // 3), periodic=False, center="geometry")


def untrained(size, x, seed):
    width = Gaussian(jnp.ones(size.n_features, jnp.float32), learned=False)
    options = {"likelihood": width, "hidden": size.hidden, "residual": False, "key": jax.random.key(seed)}
    return build_vae(x, size.latent_dim, **options)


def reconstruction(vae):
    return jax.jit(lambda x: jax.vmap(lambda row: vae.decode(vae.encode(row)))(x))


def our_loop(size, x, n_epochs=N_EPOCHS):
    rows = np.arange(size.n_samples)
    feed = Resident(x, rows, rows[:1], size.batch_size)
    starts = enumerate([untrained(size, x, seed) for seed in range(N_TURNS + 1)])
    # What is judged by one sample is not judged: the last parameters are those that are kept.
    options = {"n_epochs": n_epochs, "patience": n_epochs, "settled": n_epochs - 1}

    def job():
        seed, vae = next(starts)
        trained, _ = optimize(vae, feed, objective=objective, optimizer=ADAM, key=jax.random.key(seed), **options)
        return reconstruction(trained)

    return job


def settings(size, seed, n_epochs=N_EPOCHS):
    return {
        "epochs": n_epochs,
        "batch_size": size.batch_size,
        "learning_rate": LEARNING_RATE,
        "validation_fraction": HELD_OUT,
        "seed": seed,
        "progress": False,
    }


def our_door(size, x, n_epochs=N_EPOCHS):
    starts = enumerate([untrained(size, x, seed) for seed in range(N_TURNS + 1)])

    def job():
        seed, vae = next(starts)
        return reconstruction(mdvae.train_vae(vae, x, **settings(size, seed, n_epochs)).vae)

    return job


def our_door_for_frames(size, frames, n_epochs=N_EPOCHS):
    spec = {"latent_dim": size.latent_dim, "hidden": size.hidden, "residual": False}
    starts = enumerate([mdvae.build(frames, seed=seed, **spec) for seed in range(N_TURNS + 1)])

    def job():
        seed, model = next(starts)
        # Its features have another unit: what is left is no number to compare.
        mdvae.train(model, frames, **settings(size, seed, n_epochs))

    return job


def by_others(size, x):
    if not installed("torch"):
        return {}
    import networks

    jobs = {}
    kinds = {"": {}, ", fused Adam": {"fused": True}, ", compiled": {"fused": True, "compiled": True}}
    for n_threads in sorted({1, os.cpu_count() or 1}):
        for words, kind in kinds.items():
            jobs[f"by hand{words}, {n_threads}"] = networks.loop(size, x, N_EPOCHS, n_threads, **kind)
    jobs["deeptime"] = networks.by_deeptime(size, x, N_EPOCHS)
    jobs["mlcolvar"] = networks.by_mlcolvar(size, x, N_EPOCHS)
    for name, ours in networks.counted(size).items():
        if ours != size.n_parameters:
            print(f"warning: {name} has {ours} parameters, not {size.n_parameters}")
    return jobs


def check_our_parameters(size, x):
    vae = untrained(size, x, 0)
    ours = sum(leaf.size for leaf in jax.tree.leaves((vae.encoder.layers, vae.decoder.layers)))
    if ours != size.n_parameters:
        print(f"warning: mdvae has {ours} parameters, not {size.n_parameters}")


def training():
    for name, size in SIZES.items():
        print(f"{name}: {size}\n{'':26}{'1000/s':>10}{'floor':>8}   left")
        of_size(size, with_frames=name == "M")
    of_usual_epochs(SIZES["M"])
    starts()


def of_usual_epochs(size):
    """What training does by itself, beside the loop alone."""
    frames = posed(size)
    every = standardized(frames.coordinates)
    jobs = {
        "mdvae's loop": our_loop(size, every[: size.n_samples].copy(), USUAL_EPOCHS),
        "mdvae.train_vae": our_door(size, every, USUAL_EPOCHS),
        "mdvae.train": our_door_for_frames(size, frames, USUAL_EPOCHS),
    }
    seconds, _ = in_turns(jobs)
    print(f"M, {USUAL_EPOCHS} epochs{'':13}{'1000/s':>10}   of the loop")
    for name, took in seconds.items():
        speed = size.n_samples * USUAL_EPOCHS / took / 1000
        print(f"{name:26}{speed:10.1f}{100 * seconds[next(iter(seconds))] / took:12.0f} %", flush=True)
    print()


def of_size(size, with_frames):
    frames = posed(size)
    every = standardized(frames.coordinates)
    x, few = every[: size.n_samples].copy(), every[: min(size.n_samples, 5000)]
    check_our_parameters(size, every)
    jobs = {"mdvae's loop": our_loop(size, x), "mdvae.train_vae": our_door(size, every)}
    if with_frames:
        jobs["mdvae.train"] = our_door_for_frames(size, frames)
    jobs |= by_others(size, x) | {"floor": large_product()}
    left = {name: [] for name in jobs}

    def look(name, reconstruct):
        if callable(reconstruct):
            left[name].append(np.mean(np.sum((few - np.asarray(reconstruct(few))) ** 2, axis=1)))

    seconds, _ = in_turns(jobs, after=look)
    floor = operations_per_second(seconds.pop("floor")) / size.training_operations
    speeds = {name: size.n_samples * N_EPOCHS / took for name, took in seconds.items()}
    for name in jobs:
        print(line(name, speeds, floor, left[name]), flush=True)
    print(ratios(speeds))


def line(name, speeds, floor, left):
    if name == "floor":
        return f"{name:26}{floor / 1000:10.1f}"
    if name not in speeds:
        return f"{name:26}{'–':>10}{'–':>8}"
    shown = f"   {np.mean(left):.3f} ± {np.std(left):.3f}" if left else ""
    return f"{name:26}{speeds[name] / 1000:10.1f}{100 * speeds[name] / floor:6.0f} %" + shown


def ratios(speeds):
    """Of mdvae to the others, by hand the best of them."""
    by_hand = [speed for name, speed in speeds.items() if name.startswith("by hand")]
    others = {"by hand": max(by_hand, default=None)} | {name: speeds.get(name) for name in ("deeptime", "mlcolvar")}
    lines = []
    for ours in (name for name in speeds if name.startswith("mdvae")):
        times = [f"{name} {'–' if speed is None else f'{speeds[ours] / speed:.2f}'}" for name, speed in others.items()]
        lines.append(f"{ours} over {', over '.join(times)}")
    return "\n".join(lines) + "\n"


def starts():
    print(f"{'seconds to an epoch':26}{'first':>10}{'again':>10}")
    for name in STARTS:
        with tempfile.TemporaryDirectory() as folder:
            first, again = (first_epoch(name, folder) for _ in range(2))
        print(f"{name:26}{first}{again}", flush=True)


def first_epoch(name, caches):
    """Seconds to what a process of its own prints after its first epoch, with caches in a folder."""
    places = {"XDG_CACHE_HOME": caches, "TORCHINDUCTOR_CACHE_DIR": str(Path(caches) / "inductor")}
    environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"} | places
    script = [sys.executable, str(Path(__file__).with_name("first_epoch.py")), name]
    started = time.perf_counter()
    with subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment) as it:
        done = any(text.strip() == "done" for text in it.stdout)
        took = time.perf_counter() - started
    return f"{took:10.1f}" if done else f"{'–':>10}"
