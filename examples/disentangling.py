"""Spectra with three lines that shift independently: does each shift get a latent dimension of its own?

A VAE with six dimensions is trained at five values of beta, from three starts each (beta-VAE,
doi:10.48550/arXiv.1804.03599). The width of its Gaussian likelihood is held at that of the noise, so that beta means
the same everywhere, and 1 is the evidence lower bound.

What to see. As beta rises the total correlation falls, for every start: dimensions share less and less. Dimensions that
are not needed go silent, until three are left for the three shifts, while reconstruction hardly suffers up to 16. The
mutual information gap (Chen et al. 2018, doi:10.48550/arXiv.1802.04942), which is 1 where every factor is in one
dimension and in no other, is what the start happens to give up to beta 4, from 0.1 to 0.6, and the same for all starts
with 16. Principal components have a gap of 0.1: a shift of a line is a curve among spectra, and no direction.

What not to see. A small total correlation does not tell which start found the factors: see beta 1. The gap does not go
on rising either. It cannot exceed what z says at all, at most the KL divergence over the factors' entropies (dashed).
With beta 16 all starts are near that limit, every factor in its dimension, and from there on the limit falls. With
beta 64 the lowest line is all but given up: near the limit still, but one factor short. Nor is beta 4 done: with 300
epochs in place of 200 its three gaps are 0.5 to 0.65.
"""

import math
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import mdvae
from mdvae.plots.style import BLUE, DASHES, GRAY, LINE_WIDTH, add_colorbar, label_axes, new_figure

BETAS, SEEDS, EPOCHS = (0.25, 1, 4, 16, 64), (0, 1, 2), 200
LATENT_DIM, NOISE, N_BINS = 6, 0.05, 20

folder = Path(tempfile.mkdtemp())

spectra, _ = mdvae.toys.known_factors(2000, seed=0)
test, factors = mdvae.toys.known_factors(4000, seed=1)
likelihood = mdvae.vae.Gaussian(jnp.full(spectra.shape[1], NOISE), learned=False)


def score(beta, seed):
    """Train one VAE; reconstruction, total correlation, gap, its limit, active units; and what z says of factors."""
    key = jax.random.key(seed)
    vae = mdvae.vae.build_vae(spectra, LATENT_DIM, likelihood=likelihood, hidden=(32, 32), residual=False, key=key)
    # Many large steps, and patience for all: at first several dimensions share a line, and it takes long to sort them
    # out.
    settings = {"epochs": EPOCHS, "batch_size": 50, "learning_rate": 1e-2, "patience": EPOCHS}
    trained = mdvae.train_vae(vae, spectra, beta=beta, seed=seed, progress=False, **settings)
    posterior = jax.vmap(trained.vae.encoder)(test)
    mean, log_std = np.asarray(posterior.mean), np.asarray(posterior.log_std)
    # The gap is of samples of the posterior, not of its mean: only what is not drowned in noise counts.
    z = mean + np.exp(log_std) * np.random.default_rng(seed).normal(size=mean.shape)
    gap = mdvae.vae.mutual_information_gap(z, factors, n_bins=N_BINS)
    # Of 2000 posteriors. Narrow ones, at small beta, give more than the whole distribution would.
    shared = mdvae.vae.total_correlation(mean[:2000], log_std[:2000], n_samples=1000)
    # The factors are independent: z cannot say more of all of them together than it says of x.
    limit = min(1.0, trained.diagnostics.kl / (factors.shape[1] * math.log(N_BINS)))
    error, _ = mdvae.vae.reconstruction_error(trained.vae, test)
    return (error, shared.value, gap.score, limit, trained.diagnostics.active.sum()), gap.information


runs = {(beta, seed): score(beta, seed) for beta in BETAS for seed in SEEDS}

centered = spectra - spectra.mean(axis=0)
axes = np.linalg.svd(centered, full_matrices=False)[2][:LATENT_DIM]
pca = mdvae.vae.mutual_information_gap((test - spectra.mean(axis=0)) @ axes.T, factors, n_bins=N_BINS)

print(" beta  seed  reconstruction  total correlation/nats  gap (at most)  active")
for (beta, seed), ((error, shared, gap, limit, active), _) in runs.items():
    print(f"{beta:5g}  {seed:4d}  {error:14.4f}  {shared:22.2f}  {gap:.2f} ({limit:.2f})  {active:8d}")
print(f"gap of {LATENT_DIM} principal components {pca.score:.2f}")

figure = new_figure(2, 105)
panels = figure.subplots(2, 3)
numbers = np.array([[runs[beta, seed][0] for seed in SEEDS] for beta in BETAS])
labels = (
    (0, "Root mean square error\n(height of line 1)"),
    (1, "Total correlation (nats)"),
    (2, "Mutual information gap"),
    (4, "Active dimensions"),
)
for ax, (column, label) in zip((*panels[0], panels[1, 0]), labels, strict=True):
    ax.plot(np.repeat(BETAS, len(SEEDS)), numbers[:, :, column].ravel(), "o", color=BLUE, alpha=0.5, ms=3.5, mew=0)
    ax.plot(BETAS, np.median(numbers[:, :, column], axis=1), color=BLUE, lw=LINE_WIDTH)
    ax.set_xscale("log", base=4)
    ax.set_xticks(BETAS, [f"{beta:g}" for beta in BETAS])
    ax.minorticks_off()
    ax.set_ylim(0)
    label_axes(ax, "β", label)
panels[0, 2].set_ylim(0, 1.05)
# What is known without a VAE, or sets a limit, in gray.
references = ((panels[0, 0], NOISE, "noise"), (panels[0, 2], pca.score, "principal components"))
for ax, value, name in references:
    ax.axhline(value, color=GRAY, lw=LINE_WIDTH, ls=":")
    ax.annotate(name, (BETAS[-1], value), (0, -2), textcoords="offset points", ha="right", va="top", fontsize=7)
panels[0, 2].plot(BETAS, np.median(numbers[:, :, 3], axis=1), color=GRAY, lw=LINE_WIDTH, ls=DASHES)
panels[0, 2].annotate("limit", (4, np.median(numbers[2, :, 3])), (5, 3), textcoords="offset points", fontsize=7)

# Dimensions in the order of the factor that they know most of, for one start.
tables = {beta: runs[beta, SEEDS[0]][1] for beta in (BETAS[0], 16)}
for ax, (beta, table) in zip(panels[1, 1:], tables.items(), strict=True):
    order = np.lexsort((-table.max(axis=0), np.where(table.max(axis=0) > 0.1, table.argmax(axis=0), len(table))))
    image = ax.imshow(table[:, order], vmin=0, vmax=math.log(N_BINS), cmap="Blues", aspect="auto")
    ax.set_yticks(range(len(table)), [f"line {i + 1}" for i in range(len(table))])
    ax.set_xticks(range(LATENT_DIM), order + 1)
    label_axes(ax, "Latent dimension", title=f"β = {beta:g}, seed {SEEDS[0]}")
    add_colorbar(ax, image, "Mutual information (nats)" if beta == 16 else "")

mdvae.plots.save_figure(figure, folder / "disentangling.png")
print("figure in", folder)
