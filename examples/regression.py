"""Numbers: a VAE of one feature with two modes, and the three checks of a generative model.

Samples are distributed as the data; what is decoded of an encoded number is that number; encoded data lie where the
prior draws. The first needs the noise of the likelihood (decoder means are no samples), and it needs the third: one
latent dimension under a standard normal prior fills the gap between the modes. A mixture that is fitted afterwards to
the encoded data mends that, and leaves encoder and decoder as they are.

The likelihood has a fixed width of 0.1. With as many latent dimensions as features, as here, a learned one has no
optimum short of zero. Squared error is the same model with another beta: ``beta' = beta / (2 width²)``.
"""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import wasserstein_distance

import mdvae
from mdvae.plots.style import BLACK, BLUE, GRAY, VERMILION, label_axes, legend_above, new_figure
from mdvae.vae import Gaussian, build_vae

x = mdvae.toys.two_modes(1024, seed=0)[:, None]
again = mdvae.toys.two_modes(1024, seed=1000)
init, draw, noise = jax.random.split(jax.random.key(0), 3)

vae = build_vae(x, 1, likelihood=Gaussian(jnp.full(1, 0.1), learned=False), hidden=(64, 64), key=init)
trained = mdvae.train_vae(vae, x, beta=1.0, epochs=150, seed=0, progress=False)
print(trained)
mixture = mdvae.fit_vae_prior(trained.vae, x, "mixture", key=init, progress=False)

figure = new_figure(2, 55)
panels = figure.subplots(1, 3)
bins = np.linspace(-3, 2.2, 80)
panels[0].hist(x[:, 0], bins, density=True, color=GRAY, alpha=0.5, label="data")
print(f"\n{'':28s}Wasserstein-1   right-hand mode")
print(f"{'data, drawn again':28s}{wasserstein_distance(again, x[:, 0]):13.3f}{100 * np.mean(again > 0.2):16.1f} %")
for name, vae, color in (("standard normal prior", trained.vae, BLUE), ("mixture prior", mixture, VERMILION)):
    z = jax.vmap(vae.prior_distribution().sample)(jax.random.split(draw, 8192))
    samples = np.asarray(jax.vmap(vae.sample)(z, jax.random.split(noise, 8192)))[:, 0]
    apart = wasserstein_distance(samples, x[:, 0])
    print(f"{name:28s}{apart:13.3f}{100 * np.mean(samples > 0.2):16.1f} %")
    panels[0].hist(samples, bins, density=True, histtype="step", color=color, label=name.removesuffix(" prior"))
    panels[2].hist(np.asarray(z)[:, 0], np.linspace(-4, 4, 80), density=True, histtype="step", color=color)
label_axes(panels[0], "x", "Density")
legend_above(panels[0], 2)

z = np.asarray(jax.vmap(trained.vae.encode)(x))
decoded = np.asarray(jax.vmap(trained.vae.decode)(z))
print(f"mean absolute error of reconstruction {np.abs(decoded - x).mean():.3f}")
panels[1].plot(x, decoded, ".", markersize=2, color=BLUE)
panels[1].plot(bins, bins, color=BLACK, linewidth=0.6)
label_axes(panels[1], "x", "Decoded mean")
panels[2].hist(z[:, 0], np.linspace(-4, 4, 80), density=True, color=GRAY, alpha=0.5)
label_axes(panels[2], "z (encoded data, priors)", "Density")

folder = Path(tempfile.mkdtemp())
mdvae.plots.save_figure(figure, folder / "regression.png")
print("figure in", folder)
