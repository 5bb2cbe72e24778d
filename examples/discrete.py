"""Classes: a VAE whose data are one of 32, with one latent dimension, at beta = 1 and 0.2.

At beta = 1 the posterior collapses: z says nothing about the class, and samples are right all the same, since the
decoder has learned the shares of the classes by heart. The pair of numbers that one is tempted to look at, the means of
the posterior's mean and width, is 0 and 1 then, as if the prior were met well. The diagnostics say what it is.

At beta = 0.2 z tells the classes apart, but they do not lie where a standard normal prior draws. With a prior that
learns where they are, here a normalizing flow, reconstruction and samples are right at the same time.
"""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import mdvae
from mdvae.plots.style import BLACK, BLUE, COLORMAP, VERMILION, label_axes, legend_above, new_figure
from mdvae.vae import Categorical, build_vae, named_prior

x = mdvae.toys.classes(1024, seed=0)  # (1024, 32), one-hot
shares = x.mean(axis=0)
flow = named_prior("flow", 1, key=jax.random.key(2))
settings = {
    "beta 1": {"beta": 1.0, "prior": None},
    "beta 0.2": {"beta": 0.2, "prior": None},
    "beta 0.2, flow": {"beta": 0.2, "prior": flow},
}

trained = {}
for name, setting in settings.items():
    vae = build_vae(x, 1, likelihood=Categorical(), prior=setting["prior"], hidden=(64, 64), key=jax.random.key(0))
    trained[name] = mdvae.train_vae(vae, x, beta=setting["beta"], epochs=250, seed=0, progress=False)
    print(f"--- {name}\n{trained[name].diagnostics}")

figure = new_figure(2, 100)
panels = figure.subplots(2, len(trained), sharex=True)
print(f"\n{'':22s}{'top-1':>8s}{'total variation':>17s}{'mean of mu':>12s}{'mean of std':>13s}{'aggregate std':>15s}")
for (name, one), (top, bottom) in zip(trained.items(), panels.T, strict=True):
    vae, found = one.vae, one.diagnostics
    # What each class comes back as, and what the prior makes.
    decoded = jax.vmap(lambda c, vae=vae: vae.decode(vae.encode(c)))(jnp.eye(32))
    right = float(shares @ (np.argmax(decoded, axis=1) == np.arange(32)))
    z = jax.vmap(vae.prior_distribution().sample)(jax.random.split(jax.random.key(1), 10_000))
    samples = np.asarray(jax.vmap(vae.decode)(z)).mean(axis=0)
    apart = 0.5 * np.abs(samples - shares).sum()
    width = float(np.sqrt(found.aggregate_covariance[0, 0]))
    print(
        f"{name:22s}{100 * right:6.1f} %{apart:17.3f}{found.aggregate_mean[0]:12.2f}"
        f"{found.posterior_std[0]:13.2f}{width:15.2f}"
    )
    top.bar(np.arange(32), shares, color=BLUE, label="data")
    top.step(np.arange(32), samples, where="mid", color=VERMILION, label="samples")
    label_axes(top, y="Share" if name == "beta 1" else "", title="")
    top.annotate(name, (0.03, 0.9), xycoords="axes fraction", fontsize=7, color=BLACK)
    legend_above(top, 2)
    bottom.imshow(np.asarray(decoded).T, origin="lower", cmap=COLORMAP, vmin=0, vmax=1, aspect="auto")
    label_axes(bottom, "Class", "Decoded class" if name == "beta 1" else "")

folder = Path(tempfile.mkdtemp())
mdvae.plots.save_figure(figure, folder / "discrete.png")
print("figure in", folder)
