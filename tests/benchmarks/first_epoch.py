"""One epoch of one of those that `training` compares, in a process that has nothing else to do, at size M."""

import sys

import numpy as np
from sizes import LEARNING_RATE, SIZES

SIZE = SIZES["M"]


def our_loop(x):
    import jax
    import optax

    from mdvae.training import Resident, optimize
    from mdvae.vae import NegativeELBO, build_vae

    key, rows = jax.random.key(0), np.arange(len(x))
    vae = build_vae(x, SIZE.latent_dim, hidden=SIZE.hidden, residual=False, key=key)
    feed = Resident(x, rows, rows[:1000], SIZE.batch_size)
    adam = optax.adam(LEARNING_RATE)
    optimize(vae, feed, objective=lambda step: NegativeELBO(1.0), optimizer=adam, n_epochs=1, patience=1, key=key)


def our_door(x):
    import jax

    import mdvae

    vae = mdvae.vae.build_vae(x, SIZE.latent_dim, hidden=SIZE.hidden, residual=False, key=jax.random.key(0))
    mdvae.train_vae(vae, x, epochs=1, batch_size=SIZE.batch_size)


def our_door_for_frames(x):
    """With what `fit` keeps of what it has compiled."""
    from synthetic import helices

    import mdvae

    frames = np.resize(helices(5000, SIZE.n_features // 3), (len(x), SIZE.n_features // 3, 3))
    options = {"hidden": SIZE.hidden, "residual": False, "batch_size": SIZE.batch_size, "progress": False}
    mdvae.fit(frames, latent_dim=SIZE.latent_dim, epochs=1, **options)


def by_hand(x, **kind):
    import networks

    networks.loop(SIZE, x, 1, networks.USUAL_THREADS, fused=True, **kind)()


def by(package, x):
    import networks

    {"deeptime": networks.by_deeptime, "mlcolvar": networks.by_mlcolvar}[package](SIZE, x, 1)()


WAYS = {
    "mdvae's loop": our_loop,
    "mdvae.train_vae": our_door,
    "mdvae.fit": our_door_for_frames,
    "by hand": by_hand,
    "by hand, compiled": lambda x: by_hand(x, compiled=True),
    "deeptime": lambda x: by("deeptime", x),
    "mlcolvar": lambda x: by("mlcolvar", x),
}


if __name__ == "__main__":
    # What is missing fails, and says nothing.
    WAYS[sys.argv[1]](np.random.default_rng(0).normal(size=(SIZE.n_samples, SIZE.n_features)).astype(np.float32))
    print("done", flush=True)
