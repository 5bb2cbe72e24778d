"""ensemble: five models at once, by `train_ensemble`, as a multiple of the time of one, by `train`; frames of 22 atoms,
size M, all that training does by itself included. And of the loop alone.
"""

import functools

import jax
import numpy as np
from sizes import SIZES
from timing import N_TURNS, in_turns
from training import ADAM, N_EPOCHS, objective, posed, settings, standardized, untrained

import mdvae
from mdvae.training import Resident, optimize
from mdvae.training.ensemble import at_once
from mdvae.training.progress import ProgressBar

SIZE, N_MODELS = SIZES["M"], 5


def ensemble():
    frames = posed(SIZE)
    spec = {"latent_dim": SIZE.latent_dim, "hidden": SIZE.hidden, "residual": False}
    models = [mdvae.build(frames, seed=seed, **spec) for seed in range(N_MODELS)]
    x = standardized(frames.coordinates)[: SIZE.n_samples]
    feed = Resident(x, np.arange(len(x)), np.arange(1), SIZE.batch_size)
    options = {"n_epochs": N_EPOCHS, "patience": N_EPOCHS, "objective": objective, "optimizer": ADAM}
    loops = [
        functools.partial(optimize, untrained(SIZE, x, seed), feed, key=jax.random.key(seed), **options)
        for seed in range(N_MODELS)
    ]
    jobs = {
        "one": lambda: mdvae.train(models[0], frames, **settings(SIZE, 0)),
        "five": lambda: mdvae.train_ensemble(models, frames, **settings(SIZE, 0)),
        "one loop": lambda: at_once(loops[:1], ProgressBar(False)),
        "five loops": lambda: at_once(loops, ProgressBar(False, N_MODELS)),
    }
    seconds, _ = in_turns(jobs, N_TURNS)
    print(f"train_ensemble of five over train of one: {seconds['five'] / seconds['one']:.2f}")
    print(f"five loops over one: {seconds['five loops'] / seconds['one loop']:.2f}")
