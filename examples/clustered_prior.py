"""Data with four arms, and a prior with four clusters: the prior says what structure the latent space is to have.

After Mathieu et al. 2019 ("Disentangling disentanglement in variational autoencoders", doi:10.48550/arXiv.1812.02833),
who name the two things that it takes: encodings that overlap as much as they should, and an aggregate posterior that
is where the prior is. The prior is a mixture of four narrow normal distributions and is not learned.

What to see. With beta 1 each arm finds a cluster of its own, although no arm was ever named, and is laid along it; what
is decoded of the prior lies on the arms. Under a standard normal prior the same arms have to touch, and a third of
what is generated lies astray, between them. With beta 0.01 the arms are in four clusters as well, but in a shape of
their own: a third of the aggregate posterior is more than two standard deviations from a center, where the prior has
0.14, and what is generated has the shape of the prior. With beta 10 little more than the arm is told (log 4 = 1.39
nats), and the ends of the arms are missed. With beta 100 arms share clusters, or all are in one that is decoded to the
mean of the data.

What not to see. Which cluster takes which arm is left to the start, and sometimes one takes two: of twelve starts that
did not happen to eleven with beta 1, and to nine with beta 10. That it works so often owes to the prior, which has as
many clusters as there are arms, and as the arms are, around a middle. The mismatch is a lower bound: with beta 0.01
posteriors are so narrow that the examples do not suffice to see any. Mathieu et al. also add a divergence between
aggregate posterior and prior to what is minimized, so that the second thing does not hang on beta; that is not done
here.
"""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.patches import Circle
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree

import mdvae
from mdvae.plots.style import BLACK, OKABE_ITO, THIN_LINE_WIDTH, label_axes, new_figure

CENTERS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
# Of a cluster of the prior, and of the likelihood: the arms are 0.05 wide and 0.3 long.
SPREAD, WIDTH = 0.17, 0.1
SEEDS, EPOCHS = (0, 1, 2), 100

folder = Path(tempfile.mkdtemp())

points, arms = mdvae.toys.pinwheel(2000, seed=0)
clusters = mdvae.vae.Fixed(mdvae.vae.GaussianMixture(jnp.asarray(CENTERS), SPREAD))
settings = {
    "clusters, β = 0.01": (clusters, 0.01),
    "clusters, β = 1": (clusters, 1),
    "clusters, β = 10": (clusters, 10),
    "clusters, β = 100": (clusters, 100),
    "normal, β = 1": (mdvae.vae.StandardNormal(2), 1),
}


def agreement(z):
    """Share of points whose arm is that of their cluster, under the best assignment of clusters to arms."""
    # With equal weights and widths the component with the largest responsibility is the nearest.
    nearest = np.argmin(np.sum((z[:, None] - CENTERS) ** 2, axis=-1), axis=1)
    counts = np.zeros((4, 4))
    np.add.at(counts, (nearest, arms), 1)
    return counts[linear_sum_assignment(counts, maximize=True)].sum() / len(z)


def fit(prior, beta, seed):
    """Train one VAE; diagnostics, means and samples of posteriors, and what is decoded of samples of the prior."""
    likelihood = mdvae.vae.Gaussian(jnp.full(2, WIDTH), learned=False)
    key = jax.random.key(seed)
    vae = mdvae.vae.build_vae(points, 2, likelihood=likelihood, prior=prior, hidden=(64, 64), key=key)
    steps = {"epochs": EPOCHS, "batch_size": 50, "learning_rate": 5e-3, "patience": EPOCHS}
    trained = mdvae.train_vae(vae, points, beta=beta, seed=seed, progress=False, **steps)
    posterior = jax.vmap(trained.vae.encoder)(points)
    sampled = jax.vmap(lambda one, key: one.sample(key))(posterior, jax.random.split(key, len(points)))
    drawn = jax.vmap(trained.vae.prior_distribution().sample)(jax.random.split(key, 2000))
    generated = jax.vmap(trained.vae.decode)(drawn)
    return trained.diagnostics, np.asarray(posterior.mean), np.asarray(sampled), np.asarray(generated)


# The figure shows the first seed, whatever came of it.
print("                    seed  agreement  inside  mismatch>  information  reconstruction  astray  missed")
shown = {}
for name, (prior, beta) in settings.items():
    for seed in SEEDS:
        found, means, z, generated = fit(prior, beta, seed)
        shown.setdefault(name, (means, generated))
        matched = f"{agreement(means):9.2f}" if prior is clusters else "        -"
        # How much of the aggregate posterior is within two standard deviations of the prior's normal distributions.
        distances = KDTree(CENTERS).query(z)[0] / SPREAD if prior is clusters else np.linalg.norm(z, axis=1)
        # Generated points with no data within the width of the noise, and data with no generated points.
        astray = np.mean(KDTree(points).query(generated)[0] > WIDTH)
        missed = np.mean(KDTree(generated).query(points)[0] > WIDTH)
        print(
            f"{name:18}  {seed:4d}  {matched}  {np.mean(distances < 2):6.2f}  {found.mismatch:9.2f}  "
            f"{found.mutual_information:11.2f}  {found.reconstruction:14.3f}  {astray:6.2f}  {missed:6.2f}"
        )

figure = new_figure(2, 82)
panels = figure.subplots(2, len(settings), sharex="row", sharey="row")
colors = np.array(OKABE_ITO)[arms]
for (upper, lower), (name, (means, generated)) in zip(panels.T, shown.items(), strict=True):
    upper.scatter(*means.T, s=2, c=colors, lw=0)
    # One and two standard deviations of the prior.
    for center, std in [(center, SPREAD) for center in CENTERS] if name.startswith("clusters") else [((0, 0), 1)]:
        for radius in (std, 2 * std):
            upper.add_patch(Circle(center, radius, fill=False, ec=BLACK, lw=THIN_LINE_WIDTH))
    lower.scatter(*points.T, s=2, c=colors, lw=0, alpha=0.4)
    lower.scatter(*generated.T, s=1, c=BLACK, lw=0)
    label_axes(upper, "$z_1$", title=name.replace(", ", "\n"))
    label_axes(lower, "$x_1$")
    for ax in (upper, lower):
        ax.set_aspect("equal")
# A few points of the ends of the arms lie outside.
panels[0, 0].set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2))
panels[1, 0].set(xlim=(-2, 2), ylim=(-2, 2))
label_axes(panels[0, 0], y="$z_2$, encoded")
label_axes(panels[1, 0], y="$x_2$, generated")
mdvae.plots.save_figure(figure, folder / "clustered_prior.png")
print("figure in", folder)
