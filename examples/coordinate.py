"""A slow coordinate from end to end: butane, its trans and gauche states, their free energies, and a file for PLUMED.

One latent dimension, time-lagged, of the positions of four united atoms, finds what the torsion would have told: it
separates the states that the torsion counts, and is at least as slow as what TICA makes of the same positions. The file
is checked when it is written.
"""

import tempfile
from pathlib import Path

import jax
import numpy as np

import mdvae
from mdvae.geometry import dihedrals

runs = [mdvae.toys.alkane(3000, n_carbons=4, seed=seed, stride=100) for seed in (0, 1, 2)]
options = {"latent_dim": 1, "hidden": (32, 32), "activation": "tanh", "residual": False, "seed": 0}
model = mdvae.fit(runs[:2], lagtime=2, vamp_weight=100, epochs=60, progress=False, **options)

z = [mdvae.encode(model, run) for run in runs]
torsion = jax.vmap(lambda frame: dihedrals(frame, np.array([[3, 2, 1, 0]]))[0])
angles = [np.abs(np.degrees(torsion(run))) for run in runs]
trans = [angle > 120 for angle in angles]

surface = mdvae.free_energy(z, 300, states={"trans": trans, "gauche": [~one for one in trans]})
print(surface)
print(f"\ncorrelation of z with |torsion|: {np.corrcoef(np.concatenate(z)[:, 0], np.concatenate(angles))[0, 1]:.2f}")
kinetics = mdvae.evaluate(model, runs[2], n_generated=200).kinetics
print(
    "VAMP-2 on a run that was not trained on: " + ", ".join(map("{} {:.2f}".format, kinetics.methods, kinetics.scores))
)

folder = Path(tempfile.mkdtemp())
print(mdvae.export.export_plumed(model, folder / "cv.dat"))
mdvae.plots.save_figure(mdvae.plots.free_energy(surface), folder / "free-energy.png")
