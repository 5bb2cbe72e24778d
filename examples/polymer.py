"""A bead-spring chain in the plane: learn it, generate it, watch it in latent space, find its most compact shape.

The chain has no topology: an array of positions is all that is needed. Lengths are in reduced units. It looks the same
in a mirror and from both ends, and training may know that: every frame stands for four.

A floppy chain is not the mean that a decoder gives. Two steps after training make samples of it: a prior that is where
the encoded frames are, and the noise that the reconstructions leave out, with its correlations.
"""

import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import wasserstein_distance

import mdvae

chain = mdvae.toys.bead_spring_chain(2000, seed=0)  # (n_frames, n_beads, 2)
folder = Path(tempfile.mkdtemp())

frames = mdvae.read(chain[:1600], length_unit="reduced")
print(frames.report)
untrained = mdvae.build(frames, latent_dim=2, hidden=(128, 128, 128), seed=0)
model = mdvae.train(untrained, frames, beta=0.2, epochs=150, augment=["mirror", "reversal"], seed=0)
model = mdvae.fit_noise(mdvae.fit_prior(model, "mixture", seed=0), seed=0)
print(model)
print(mdvae.evaluate(model, chain[1600:]))

# Marginals: four distances, of the simulation, of decoder means, and of samples.
means = mdvae.generate(model, 5000, restore=False, seed=1).xyz[..., :2]
new = mdvae.generate(model, 5000, noise=True, restore=False, seed=1).xyz[..., :2]
print("Wasserstein-1 distance from the simulation: decoder means, samples")
for j in (1, 3, 5, 7):
    distance, of_means, of_new = (np.linalg.norm(x[:, 0] - x[:, j], axis=1) for x in (chain, means, new))
    print(f"  0-{j}  {wasserstein_distance(of_means, distance):.3f}  {wasserstein_distance(of_new, distance):.3f}")
bonds = [np.linalg.norm(np.diff(x, axis=1), axis=-1).mean() for x in (chain, means, new)]
print("mean bond: simulation {:.3f}, decoder means {:.3f}, samples {:.3f}".format(*bonds))
marginals = mdvae.plots.distance_marginals(chain, new, pairs=[[0, 1], [0, 3], [0, 5], [0, 7]], unit="reduced")
mdvae.plots.save_figure(marginals, folder / "marginals.png")

# A closely spaced run is a path in latent space; the movie shows it as simulated, as aligned, and there.
run = mdvae.toys.bead_spring_chain(80, stride=20, seed=1)
z = mdvae.encode(model, run)
mdvae.plots.save_figure(mdvae.plots.latent_trajectory(z), folder / "latent.png")
chunks = mdvae.stream(run, system=model.system, alignment=model.alignment)
posed = np.concatenate([chunk.coordinates for chunk in chunks])
mdvae.plots.trajectory_movie(run, posed, z, folder / "movie.gif", bonds=model.system.links, unit="reduced")

compact = mdvae.minimize(model, mdvae.observables.radius_of_gyration, n_starts=32, n_steps=150, seed=2)
print(compact)
if compact.found:
    compact.trajectory.save(str(folder / "compact.pdb"))
mdvae.plots.save_figure(mdvae.plots.loss_curves(model.history), folder / "loss.png")
print("files in", folder)
