"""A molecule with a topology, from trajectory files: hexane, united atoms, several runs.

The trajectory is simulated here, so that the example needs no data; from then on it is what one would do with files
from any engine.
"""

import tempfile
from functools import partial
from pathlib import Path

import mdtraj as md
import numpy as np

import mdvae

folder = Path(tempfile.mkdtemp())
runs = [mdvae.toys.alkane(1000, n_carbons=6, seed=seed) for seed in range(3)]
(folder / "hexane.pdb").write_text(mdvae.toys.alkane_pdb(6, runs[0][0]))
files = []
for number, positions in enumerate(runs):
    files.append(folder / f"run-{number}.xtc")
    md.Trajectory(positions, md.load_topology(folder / "hexane.pdb")).save(str(files[-1]))

# Members of a list are separate trajectories; the last one is kept for the test.
model = mdvae.fit(files[:2], top=folder / "hexane.pdb", latent_dim=3, epochs=60, seed=0, figures=folder / "figures")
print(model)
print(mdvae.evaluate(model, files[2]))

# The model file is complete: topology, units, alignment. No topology is needed to use it.
mdvae.save(model, folder / "hexane.mdvae")
model = mdvae.load(folder / "hexane.mdvae")
z = mdvae.encode(model, files[2])
print("latent trajectory", z.shape, "spread", z.std(axis=0))
mdvae.write_latents(model, files[2], folder / "COLVAR")

# Any JAX function of one frame can be minimized: here the distance between the ends, then Rg with masses.
for observable in (
    partial(mdvae.observables.distance, i=0, j=5),
    partial(mdvae.observables.radius_of_gyration, masses=model.system.masses),
):
    print(mdvae.minimize(model, observable, n_starts=32, seed=1))

new = mdvae.generate(model, 500, seed=2)
new.save(str(folder / "generated.dcd"))
ends = md.compute_distances(new, [[0, 5]])[:, 0]
print(f"end-to-end distance of generated conformations {ends.mean():.3f} ± {np.std(ends):.3f} nm")
print("files in", folder)
