"""Structures before and after restoring, beside the simulation's own and beside PCA: the table of the README.

    python tests/benchmarks/structures.py glu7 --latent-dim 2 16 --seeds 0 1 2
    python tests/benchmarks/structures.py glu7 --seeds 0 --options '{"representation": "internal"}'

Clash: a pair four or more bonds apart closer than 0.2 nm (0.3 nm between Cα). Center: a signed volume more than five
spreads off. Omega: a peptide bond, found by mdtraj, more than 30 degrees from both cis and trans. Aggregate: generated
with prior="aggregate_posterior". Nearest: RMSD to the nearest training frame in the same pose, median.

Systems: glu7, glu7-all, ala2, adk, polymer (from the folder of real trajectories: MDVAE_DATA, or ../shared/data), and
hexane, which is made on the spot. One line a model, then the mean over seeds; options of `mdvae.build` and
`mdvae.train`, and "noise", may be given as JSON with --options.
"""

import argparse
import dataclasses
import json
import os
import time
import warnings
from pathlib import Path

import mdtraj as md
import numpy as np
from scipy.spatial import KDTree
from scipy.stats import wasserstein_distance

import mdvae
from mdvae.evaluation.reconstruction import principal_components, rmsd
from mdvae.latent import encode_chunks
from mdvae.latent.generation import decode_coordinates, restore_decoded
from mdvae.local_geometry import contacts, distances, signed_volumes
from mdvae.validity import check

DATA = Path(os.environ.get("MDVAE_DATA", Path(__file__).parents[3] / "shared" / "data"))
N_GENERATED = 10_000
COLUMNS = ("bonds", "clash", "center", "omega", "valid")
N_NEAREST = 1000
SPEC = {field.name for field in dataclasses.fields(mdvae.Spec)}


def heavy(trajectory):
    return trajectory.atom_slice(trajectory.topology.select("mass > 2"))


def glu7(atoms=heavy):
    whole = atoms(md.load(DATA / "glu7" / "glu7.xtc", top=DATA / "glu7" / "glu7.pdb"))
    border = int(0.8 * whole.n_frames)
    return [whole[:border]], [whole[border:]], 0.2, "Å"


def ala2():
    top = next((DATA / "ala2").glob("*.pdb"))
    files = sorted(path for path in (DATA / "ala2").iterdir() if path.suffix in (".xtc", ".dcd", ".h5", ".nc"))
    runs = [heavy(md.load(path, top=top)) for path in files]
    return runs[:4], runs[4:], 0.2, "Å"


def adk():
    """Every fourth path is held out."""
    top = md.load(DATA / "adk" / "adk1AKE.pdb")
    top = top.atom_slice(top.topology.select("name CA"))
    files = sorted(path for path in (DATA / "adk").rglob("*") if path.suffix in (".dcd", ".xtc", ".trr"))
    paths = [md.load(path, top=top) for path in files]
    return [p for i, p in enumerate(paths) if i % 4], paths[::4], 0.3, "Å"


def polymer():
    """A random fifth is held out: the chain heats up as it goes, and its end is another system."""
    with np.load(DATA / "polymer" / "long_paths.npz") as file:
        frames = file["arr"] if "arr" in file else file[file.files[0]]
    order = np.random.default_rng(0).permutation(len(frames))
    border = int(0.8 * len(frames))
    return [frames[np.sort(order[:border])]], [frames[np.sort(order[border:])]], 1 / 6, "reduced"


def hexane():
    frames = mdvae.toys.alkane(12_000, seed=0)
    return [frames[:10_000]], [frames[10_000:]], 0.2, "Å"


SYSTEMS = {
    "glu7": glu7,
    "glu7-all": lambda: glu7(lambda t: t),
    "ala2": ala2,
    "adk": adk,
    "polymer": polymer,
    "hexane": hexane,
}


def judge(model, frames, clash):
    """Shares of frames with all bonds within five spreads, a clash, a wrong center, a twisted peptide bond; valid ones.

    An inverted center is ten to twenty spreads off.
    """
    geometry = model.data.geometry
    bonded = geometry.separation == 1
    lengths = geometry.lengths
    bond = np.abs(distances(frames, geometry.pairs[bonded]) - lengths.mean[bonded]) < 5 * lengths.spread[bonded]
    volume = signed_volumes(frames, geometry.centers)
    off = np.abs(volume - geometry.volumes.mean) > 5 * geometry.volumes.spread
    clashes = [len(contacts(KDTree(frame), clash, geometry.codes)) > 0 for frame in frames]
    valid = check(geometry, frames).valid
    shares = bond.all(1).mean(), np.mean(clashes), off.any(1).mean(), twisted(model, frames), valid.mean()
    return dict(zip(COLUMNS, shares, strict=True))


def twisted(model, frames):
    if frames.shape[2] == 2:
        return 0.0
    omega = md.compute_omega(md.Trajectory(frames, model.system.topology))[1]
    return (np.abs(np.sin(omega)) > 0.5).any(axis=1).mean()


def nearest(frames, training):
    """Median RMSD to the nearest training frame, of some frames, in the pose that they share."""
    some = frames[np.linspace(0, len(frames) - 1, min(N_NEAREST, len(frames))).astype(int)]
    flat = [x.reshape(len(x), -1) for x in (some, training)]
    return float(np.median(KDTree(flat[1]).query(flat[0])[0])) / np.sqrt(frames.shape[1])


def marginals(frames, ends):
    rg = np.sqrt(((frames - frames.mean(1, keepdims=True)) ** 2).sum(2).mean(1))
    return {"rg": rg, "ends": np.linalg.norm(frames[:, ends[0]] - frames[:, ends[1]], axis=1)}


def measure(train, test, clash, latent_dim, seed, options):
    unit = "reduced" if isinstance(train[0], np.ndarray) and train[0].shape[-1] == 2 else None
    frames = mdvae.read(train, length_unit=unit)
    build = {k: v for k, v in options.items() if k in SPEC}
    model = mdvae.build(frames, latent_dim=latent_dim, seed=seed, **build)
    started = time.perf_counter()
    rest = {k: v for k, v in options.items() if k not in build and k != "noise"}
    model = mdvae.train(model, frames, seed=seed, progress=False, **rest)
    seconds = time.perf_counter() - started
    parts = list(encode_chunks(model, test))
    x, z = np.concatenate([chunk.coordinates for chunk, _ in parts]), np.concatenate([z for _, z in parts])
    raw = decode_coordinates(model, z)
    restored, restoration = restore_decoded(model, raw)
    noise = bool(options.get("noise"))
    new_raw = mdvae.generate(model, N_GENERATED, restore=False, noise=noise, seed=seed).xyz[..., : x.shape[2]]
    started = time.perf_counter()
    new, new_restoration = restore_decoded(model, new_raw)
    rate = len(new) / (time.perf_counter() - started)
    drawn = {"prior": "aggregate_posterior", "noise": noise, "seed": seed}
    from_data = mdvae.generate(model, N_GENERATED, **drawn).xyz[..., : x.shape[2]]
    alphas = [a.index for a in model.system.topology.atoms if a.name == "CA"]
    ends = (alphas[0], alphas[-1]) if len(alphas) > 1 else (0, x.shape[1] - 1)
    project = principal_components(frames.coordinates, latent_dim)
    errors = {name: rmsd(a, x).mean() for name, a in {"pca": project(x), "raw": raw, "restored": restored}.items()}
    result = {**errors, "moved": restoration.moved.mean()}
    found = {"simulation": x, "decoded": raw, "dec.restored": restored, "generated": new_raw, "gen.restored": new}
    found["aggregate"] = from_data
    for name, structures in found.items():
        result |= {f"{name} {k}": v for k, v in judge(model, structures, clash).items()}
    reference, training = marginals(x, ends), marginals(frames.coordinates, ends)
    for name in ("rg", "ends"):
        against = {"floor": training, "raw": marginals(new_raw, ends), "restored": marginals(new, ends)}
        against["aggregate"] = marginals(from_data, ends)
        result |= {f"W1 {name} {k}": wasserstein_distance(v[name], reference[name]) for k, v in against.items()}
        result[f"W1 {name} moved"] = wasserstein_distance(against["raw"][name], against["restored"][name])
        result[f"W1 {name} to training"] = wasserstein_distance(against["restored"][name], training[name])
    for name, structures in {"held-out": x, "generated": new, "aggregate": from_data}.items():
        result[f"nearest {name}"] = nearest(structures, frames.coordinates)
    result |= {"far": new_restoration.far.mean(), "restored/s": rate, "seconds": seconds}
    return result


def show(title, r, unit):
    factor, name = (10, "Å") if unit == "Å" else (1, "")
    print(f"{title}: held-out RMSD {name} PCA {factor * r['pca']:.3f}  raw {factor * r['raw']:.3f}  restored "
          f"{factor * r['restored']:.3f}  (moved {factor * r['moved']:.3f}); trained {r['seconds']:.0f} s, "
          f"{r['restored/s']:.0f} restored/s")  # fmt: skip
    for kind in ("simulation", "decoded", "dec.restored", "generated", "gen.restored", "aggregate"):
        print(f"    {kind:14s}" + "  ".join(f"{c} {100 * r[f'{kind} {c}']:6.2f} %" for c in COLUMNS))
    for name in ("rg", "ends"):
        kinds = ("floor", "raw", "restored", "aggregate", "to training", "moved")
        floor, raw, restored, aggregate, training, moved = (r[f"W1 {name} {k}"] for k in kinds)
        print(
            f"    W1 {name:5s} to held-out: floor {floor:.4f}  raw {raw:.4f}  restored {restored:.4f}  "
            f"aggregate {aggregate:.4f}  (restored to training {training:.4f}; raw to restored {moved:.4f})"
        )
    near = "  ".join(f"{k} {factor * r[f'nearest {k}']:.3f}" for k in ("held-out", "generated", "aggregate"))
    print(f"    nearest training frame: {near}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="+", choices=SYSTEMS)
    parser.add_argument("--latent-dim", type=int, nargs="+", default=[2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--options", type=json.loads, default={})
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in chosen.systems:
        train, test, clash, unit = SYSTEMS[name]()
        for latent_dim in chosen.latent_dim:
            results = []
            for seed in chosen.seeds:
                results.append(measure(train, test, clash, latent_dim, seed, chosen.options))
                show(f"{name} latent {latent_dim} seed {seed}", results[-1], unit)
            if len(results) > 1:
                mean = {k: float(np.mean([r[k] for r in results])) for k in results[0]}
                show(f"{name} latent {latent_dim} MEAN of {len(results)} seeds", mean, unit)


if __name__ == "__main__":
    main()
