"""A bead-spring chain in the plane: learn it, look at its latent space, find its most compact shape.

The chain has no topology: an array of positions is all that is needed. Lengths are in reduced units.
"""

import tempfile
from pathlib import Path

import numpy as np

import mdvae

chain = mdvae.toys.bead_spring_chain(2000, seed=0)  # (n_frames, n_beads, 2)
folder = Path(tempfile.mkdtemp())

frames = mdvae.read(chain[:1600], length_unit="reduced")
print(frames.report)
model = mdvae.train(mdvae.build(frames, latent_dim=4, seed=0), frames, epochs=80, seed=0)
print(model)
print(mdvae.evaluate(model, chain[1600:]))

# A floppy chain needs the noise of the likelihood in what is generated; a stiff molecule does not.
new = mdvae.generate(model, 1000, noise=True, seed=1)
print("bond length, simulated", np.linalg.norm(np.diff(chain, axis=1), axis=-1).mean())
print("bond length, generated", np.linalg.norm(np.diff(new.xyz, axis=1), axis=-1).mean())

compact = mdvae.minimize(model, mdvae.observables.radius_of_gyration, seed=2)
print(compact)
if compact.found:
    compact.trajectory.save(str(folder / "compact.pdb"))

z = mdvae.encode(model, chain)
mdvae.plots.save_figure(mdvae.plots.latent_trajectory(z), folder / "latent.png")
mdvae.plots.save_figure(mdvae.plots.loss_curves(model.history), folder / "loss.png")
print("files in", folder)
