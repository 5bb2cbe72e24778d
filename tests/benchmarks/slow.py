"""One slow coordinate of alanine dipeptide: the time between αR and β, beside TICA, with error bars.

    python tests/benchmarks/slow.py
    python tests/benchmarks/slow.py --seeds 0 1 2 --only "time-lagged, 10 ps, vamp_weight 100"

Models of the heavy atoms with one latent dimension are trained on four of the six runs and judged on the other two, in
three ways: runs 4 and 5, 2 and 3, 0 and 1 are held out in turn. For each pair of held-out runs stand, on its frames:

- the correlation with the state, 1 for αR (-126° < ψ < 46°), 0 for β; the multiple correlation with cos ψ and sin ψ;
- the implied timescale at a lag of 10 ps, with its central 95 % by blocks of time (`mdvae.evaluation.kinetics`);
- the VAMP-2 score at that lag, the constant function included.

TICA (at the same lag) is fitted on the same four runs, of the Cartesian features and of the cosines and sines of φ, ψ.
What is slower on held-out frames is nearer to the slowest mode there is. Runs are short beside the time of interest:
they differ from one another, so that each row goes with those of the same runs. At the end all six together, each as it
was held out, coordinates in units of their spread on the training runs.

Real trajectories are in the folder that MDVAE_DATA names, or ../shared/data.
"""

import argparse
import os
import warnings
from pathlib import Path

import mdtraj as md
import numpy as np

import mdvae
from mdvae.evaluation.kinetics import _at_lag, _cut, _moments, _resampled_blocks, _tica, _vamp2

DATA = Path(os.environ.get("MDVAE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "ala2"
RUNS = [DATA / f"trajectory-{i}.dcd" for i in range(6)]
# ps, which are frames.
LAG = 10
HELD_OUT = ((4, 5), (2, 3), (0, 1))
# A lag between what is fast and what is slow, and a weight that is large. Runs 4 and 5 were in view when the score was
# added to training, the others were not; weights from 10 to 1000 are here to show that nothing hangs on it.
OPTIONS = {
    "plain": {},
    "time-lagged, 10 ps": {"lagtime": 10},
    "time-lagged, 50 ps": {"lagtime": 50},
    "time-lagged, 10 ps, vamp_weight 10": {"lagtime": 10, "vamp_weight": 10},
    "time-lagged, 10 ps, vamp_weight 100": {"lagtime": 10, "vamp_weight": 100},
    "time-lagged, 10 ps, vamp_weight 1000": {"lagtime": 10, "vamp_weight": 1000},
    "the same at 100, tanh, not residual": {
        "lagtime": 10,
        "vamp_weight": 100,
        "activation": "tanh",
        "residual": False,
    },
}


def angles():
    runs = [md.load(run, top=DATA / "ala2.pdb") for run in RUNS]
    return [np.hstack([md.compute_phi(run)[1], md.compute_psi(run)[1]]).astype(np.float64) for run in runs]


def timescale(series):
    """At the lag, in ps, with the ends of its bar."""
    blocks = _resampled_blocks([len(x) for x in series])
    return _at_lag(_moments(series, blocks, LAG), LAG, 0)[:, 0]


def score(series):
    whole = [_cut([len(x) for x in series], 20)]
    return _vamp2(_moments(series, whole, LAG)[0])


def judged(z, psi):
    """Row of the table for a coordinate, (n, 1) of each held-out run."""
    all_z, all_psi = np.concatenate(z)[:, 0], np.concatenate(psi)
    state = (np.deg2rad(-126) < all_psi) & (all_psi < np.deg2rad(46))
    basis = np.column_stack([np.ones(len(all_psi)), np.cos(all_psi), np.sin(all_psi)])
    fitted = basis @ np.linalg.lstsq(basis, all_z, rcond=None)[0]
    value, low, high = timescale(z)
    of_state, of_psi = abs(np.corrcoef(all_z, state)[0, 1]), np.corrcoef(all_z, fitted)[0, 1]
    return f"{of_state:8.3f} {of_psi:8.3f} {value:8.1f} ({low:.0f} to {high:.0f}) {score(z):8.4f}"


def slowest(series, training, held_out):
    """TICA coordinate, fitted on some runs, of others."""
    known = [series[i] for i in training]
    direction = _tica(_moments(known, [_cut([len(x) for x in known], 20)], LAG)[0], 1)
    return in_units([x @ direction for x in series], training, held_out)


def in_units(coordinate, training, held_out):
    """Of held-out runs, in units of the spread of training ones."""
    known = np.concatenate([coordinate[i] for i in training])
    return [(coordinate[i] - known.mean()) / known.std() for i in held_out]


def same_side(z, psi):
    """Positive in β, so that coordinates of several models make one."""
    side = np.sign(np.corrcoef(np.concatenate(z)[:, 0], np.abs(np.concatenate(psi) - np.deg2rad(140)) < 1.6)[0, 1])
    return [side * one for one in z]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 64, 64])
    parser.add_argument("--only", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torsions = angles()
    circular = [np.hstack([np.cos(run), np.sin(run)]) for run in torsions]
    pooled = {}

    def show(name, z, psi):
        print(f"  {name:42} {judged(z, psi)}", flush=True)
        together = pooled.setdefault(name, ([], []))
        together[0].extend(same_side(z, psi))
        together[1].extend(psi)

    print(f"{'':44} {'state':>8} {'psi':>8} {'timescale in ps':>22} {'VAMP-2':>8}")
    for held_out in HELD_OUT:
        training = [i for i in range(6) if i not in held_out]
        psi = [torsions[i][:, 1] for i in held_out]
        print(f"runs {held_out[0]} and {held_out[1]} held out", flush=True)
        frames = mdvae.read([RUNS[i] for i in training], top=DATA / "ala2.pdb", select="symbol != H")
        posed = [[] for _ in RUNS]
        for chunk in mdvae.stream(RUNS, system=frames.system, alignment=frames.alignment, top=DATA / "ala2.pdb"):
            posed[chunk.trajectory].append(chunk.coordinates.reshape(len(chunk.coordinates), -1))
        cartesian = [np.concatenate(parts).astype(np.float64) for parts in posed]
        show("TICA of the features", slowest(cartesian, training, held_out), psi)
        show("TICA of phi, psi", slowest(circular, training, held_out), psi)
        for name in chosen.only:
            options = dict(OPTIONS[name])
            spec = {key: options.pop(key) for key in ("activation", "residual") if key in options}
            for seed in chosen.seeds:
                model = mdvae.build(frames, latent_dim=1, hidden=tuple(chosen.hidden), seed=seed, **spec)
                model = mdvae.train(model, frames, seed=seed, progress=False, **options)
                z = [mdvae.encode(model, run, top=DATA / "ala2.pdb").astype(np.float64) for run in RUNS]
                show(f"{name}, seed {seed}", in_units(z, training, held_out), psi)
    print("all six runs, each held out")
    for name, (z, psi) in pooled.items():
        print(f"  {name:42} {judged(z, psi)}")


if __name__ == "__main__":
    main()
