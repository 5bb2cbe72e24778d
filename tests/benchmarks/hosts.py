"""The same numbers through MDAnalysis as from the files themselves.

    python tests/benchmarks/hosts.py [glu7.mdvae]

Adenylate kinase in water, split over a triclinic box, and heptaglutamate; real trajectories are in the folder that
MDVAE_DATA names, or ../shared/data. Networks are untrained where no model is given. Beside the largest difference
stands what a change of every coordinate in its last bit makes: MDAnalysis holds positions in Å, and rounds.
"""

import argparse
import gzip
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import MDAnalysis as mda
import mdtraj as md
import numpy as np

import mdvae
from mdvae.adapters.mdanalysis import LatentAnalysis

DATA = Path(os.environ.get("MDVAE_DATA", Path(__file__).parents[2].parent / "shared/data"))


def compared(name, top, run, select, words, model=None):
    if model is None:
        frames = mdvae.read(run, top=top, select=select)
        model = mdvae.build(frames, latent_dim=2, seed=0)
    expected = mdvae.encode(model, run)
    u = mda.Universe(str(top), str(run))
    for atoms in (u, u.select_atoms(words)):
        found = LatentAnalysis(model, atoms).run().results.latent
        by_itself = mdvae.encode(model, atoms)
        print(
            f"{name}, {type(atoms).__name__} of {len(atoms.atoms)} atoms, {len(found)} frames: largest |z| "
            f"{np.abs(expected).max():.3f}, largest difference of LatentAnalysis {np.abs(found - expected).max():.1e}, "
            f"of mdvae.encode(model, {type(atoms).__name__}) from LatentAnalysis {np.abs(found - by_itself).max():.1e}"
        )
    held = md.load(run, top=top)
    held.xyz = np.nextafter(held.xyz, np.float32(1e9))
    print(f"{name}: last bit of every coordinate: {np.abs(mdvae.encode(model, held) - expected).max():.1e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder) / "adk.gro"
        with gzip.open(DATA / "adk_pbc/adk_oplsaa.gro.gz") as packed, top.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        run = DATA / "adk_pbc/adk_oplsaa.xtc"
        compared("adk_pbc", top, run, "protein and not element H", "protein and not name H*")
    model = None if arguments.model is None else mdvae.load(arguments.model)
    compared("glu7", DATA / "glu7/glu7.pdb", DATA / "glu7/glu7.xtc", "symbol != H", "not name H*", model)
