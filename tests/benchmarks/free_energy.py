"""Free-energy difference of the two states of alanine dipeptide, along a model's coordinate against counting.

    python tests/benchmarks/free_energy.py [run.mdvae] [--figures FOLDER]

Without a model one of the heavy atoms and two latent dimensions is fitted. Real trajectories are in the folder that
MDVAE_DATA names, or ../shared/data. Counting goes by the torsion psi: from -100 to 50 degrees is αR, all else is β.
The error of counting is the standard error over the six independent runs; that of the surface comes from its own blocks
of time. Where the surface has two minima or more, the sides of the highest barrier stand for the states as well, which
needs no torsion.
"""

import argparse
import os
from pathlib import Path

import mdtraj as md
import numpy as np

import mdvae
from mdvae.latent.free_energy import GAS_CONSTANT

DATA = Path(os.environ.get("MDVAE_DATA", Path(__file__).parents[2].parent / "shared/data")) / "ala2"
TEMPERATURE = 300.0
ALPHA = (-100.0, 50.0)


def counted(masks):
    """Difference by counting all frames, and its standard error over runs."""
    kT = GAS_CONSTANT * TEMPERATURE
    shares = np.array([mask.mean() for mask in masks])
    weights = np.array([len(mask) for mask in masks])
    share = np.average(shares, weights=weights)
    error = shares.std(ddof=1) / np.sqrt(len(shares))
    return share, -kT * np.log((1 - share) / share), kT * error / (share * (1 - share))


def by_minima(z, masks):
    """The sides of the highest barrier, named by what most of their frames are."""
    surface = mdvae.free_energy(z, TEMPERATURE)
    print(f"\nwithout torsions:\n{surface}")
    if len(surface.minima) < 2:
        print("one minimum only: this coordinate does not tell the states apart by a barrier")
        return
    shares = np.nan_to_num(surface.states.shares)
    cells = [
        np.clip(np.searchsorted(e, x, side="right") - 1, 0, len(e) - 2)
        for e, x in zip(surface.edges, np.concatenate(z).T, strict=True)
    ]
    inside = shares[(slice(None), *cells)] > 0.5
    alpha = np.concatenate(masks)
    is_alpha = [alpha[member].mean() > 0.5 for member in inside]
    side = np.any(inside[np.array(is_alpha)], axis=0) if any(is_alpha) else np.zeros(len(alpha), bool)
    if not any(is_alpha) or all(is_alpha):
        print("all minima are of the same state")
        return
    told = mdvae.free_energy(z, TEMPERATURE, states={"αR": side, "β": ~side})
    print(f"valleys of z: ΔF(αR to β) = {told.difference('αR', 'β')} kJ/mol, αR {told.states.population('αR')}")
    print(f"frames on the side that their torsion says: {100 * (side == alpha).mean():.2f} %")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--figures", type=Path)
    arguments = parser.parse_args()
    runs, top = sorted(DATA.glob("trajectory-*.dcd")), DATA / "ala2.pdb"
    if arguments.model is None:
        model = mdvae.fit(runs, top=top, select="symbol != H", latent_dim=2, seed=0)
    else:
        model = mdvae.load(arguments.model)
    z = [mdvae.encode(model, run) for run in runs]
    torsions = [np.degrees(md.compute_psi(md.load(run, top=top))[1][:, 0]) for run in runs]
    masks = [(psi > ALPHA[0]) & (psi < ALPHA[1]) for psi in torsions]
    share, value, error = counted(masks)
    print(
        f"counting: αR {share:.4f}, β {1 - share:.4f}; ΔF(αR to β) = {value:.2f} ± {error:.2f} kJ/mol (over six runs)"
    )
    surface = mdvae.free_energy(z, TEMPERATURE, states={"αR": masks, "β": [~mask for mask in masks]})
    print(surface)
    by_minima(z, masks)
    if arguments.figures is not None:
        arguments.figures.mkdir(parents=True, exist_ok=True)
        mdvae.plots.save_figure(mdvae.plots.free_energy(surface), arguments.figures / "ala2.png")
