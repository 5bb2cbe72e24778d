"""Every model of the textbook chapter, five seeds, median and range: the chapter's tables of the README.

    python tests/benchmarks/chapter.py discrete regression likelihood
    python tests/benchmarks/chapter.py polymer ala2 --seeds 0 1 2 3 4

discrete: 1024 samples of 32 classes, one latent dimension. Top-1: samples whose posterior mean decodes to their own
class. Total variation: between the shares of the classes and the probabilities that the decoder gives at 20 000 points
of the prior; "drawn": and 1024 samples, as many as there are data. All against the data that were trained on, as in the
chapter.
regression: 1024 numbers of two modes, one latent dimension, fixed width 0.1. Wasserstein-1 of 8192 samples to the data
that were trained on; floor: of 8192 other numbers. Right: share of samples above 0.2, the model's and the data's.
polymer: the chapter's 2-D chain, a random fifth held out, seed by seed another one. The frames are close to one another
in time, so that held-out frames have near twins in training, as in the baseline that this is compared with. Squares:
held-out sum of squares a frame, decoded from posterior means, no restoring; PCA: of as many components in the same
pose. Wasserstein-1 of the distances 0-1, 0-3, 0-5, 0-7 of 20 000 generated samples to all frames; beside it that of the
held-out frames. Bond: mean length, over that of the data.
ala2: runs 0 to 3 for training, 4 and 5 held out, heavy atoms. Jensen-Shannon divergence in bits of the phi/psi
histogram, 50 x 50, of 40 000 restored conformations to the held-out runs (20 000 frames): generated from the standard
normal prior, from a flow fitted afterwards, and from that with a noise fitted afterwards. Floor: of the training runs;
of 40 000 frames drawn from them; and of all runs, split at random.
ala2-further: all six runs for training; held out are further ones, which further_ala2.py makes, in the folder that
MDVAE_FURTHER_ALA2 names: all of them, and the first four alone. "As drawn": share of conformations that were valid
before anything was restored.
likelihood: log p(x) of held-out data, one seed, by importance sampling and by sampling from the prior, on a linear
model, whose exact value is known, and on the polymer.

polymer, ala2, ala2-further and the second half of likelihood need the folder of real trajectories: MDVAE_DATA, or
../shared/data.
"""

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import mdtraj as md
import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.stats import multivariate_normal, wasserstein_distance

import mdvae
from mdvae.evaluation.reconstruction import principal_components
from mdvae.latent import encode_chunks
from mdvae.latent.generation import decode_coordinates
from mdvae.local_geometry import distances
from mdvae.training import fit_noise, fit_prior, fit_vae_prior, train_vae
from mdvae.vae import Categorical, Gaussian, build_vae, log_likelihood, named_prior

sys.path.insert(0, str(Path(__file__).parent))
from structures import ala2 as ala2_runs

DATA = Path(os.environ.get("MDVAE_DATA", Path(__file__).parents[3] / "shared" / "data"))
PAIRS = (1, 3, 5, 7)
N_ALA2 = 40_000
# One row, one setting: both numbers of latent dimensions are trained with it.
POLYMER = {"beta": 0.2, "epochs": 600, "augment": ["mirror", "reversal"], "n_models": 4}


def keys_of(seed, n):
    return jax.random.split(jax.random.key(seed), n)


def discrete(seed, **settings):
    x = mdvae.toys.classes(1024, seed=seed)
    init, draw, sample = keys_of(seed, 3)
    prior = settings.pop("prior", None)
    if prior is not None:
        prior = named_prior(prior, 1, key=jax.random.fold_in(init, 1))
    vae = build_vae(x, 1, likelihood=Categorical(), prior=prior, hidden=(128, 128), key=init)
    trained = train_vae(vae, x, seed=seed, progress=False, **settings)
    vae = trained.vae
    right = jax.vmap(lambda one: jnp.argmax(vae.decode(vae.encode(one))))(x)
    z = jax.vmap(vae.prior_distribution().sample)(jax.random.split(draw, 20_000))
    shares = np.asarray(jax.vmap(vae.decode)(z)).mean(axis=0)
    drawn = np.asarray(jax.vmap(vae.sample)(z[:1024], jax.random.split(sample, 1024))).mean(axis=0)
    found = trained.diagnostics
    return {
        "top-1 %": 100 * np.mean(np.asarray(right) == x.argmax(axis=1)),
        "total variation": 0.5 * np.abs(shares - x.mean(axis=0)).sum(),
        "drawn": 0.5 * np.abs(drawn - x.mean(axis=0)).sum(),
        "KL": found.kl,
        "mutual information": found.mutual_information,
        "mean of mu": found.aggregate_mean[0],
        "mean of std": found.posterior_std[0],
        "aggregate std": np.sqrt(found.aggregate_covariance[0, 0]),
        "said to be collapsed": float(found.collapsed),
    }


def regression(seed, prior):
    x = mdvae.toys.two_modes(1024, seed=seed)[:, None]
    init, draw, sample = keys_of(seed, 3)
    vae = build_vae(x, 1, likelihood=Gaussian(jnp.full(1, 0.1), learned=False), hidden=(64, 64), key=init)
    trained = train_vae(vae, x, epochs=200, seed=seed, progress=False)
    vae = trained.vae if prior is None else fit_vae_prior(trained.vae, x, prior, key=init, progress=False)
    z = jax.vmap(vae.prior_distribution().sample)(jax.random.split(draw, 8192))
    new = np.asarray(jax.vmap(vae.sample)(z, jax.random.split(sample, 8192)))[:, 0]
    again = np.asarray(jax.vmap(lambda one: vae.decode(vae.encode(one)))(x))
    return {
        "Wasserstein-1": wasserstein_distance(new, x[:, 0]),
        "floor": wasserstein_distance(mdvae.toys.two_modes(8192, seed=seed + 1000), x[:, 0]),
        "right %": 100 * np.mean(new > 0.2),
        "right % of data": 100 * np.mean(x > 0.2),
        "mean absolute error": np.abs(again - x).mean(),
    }


def chain(seed):
    """Training and held-out frames, a random fifth of them."""
    with np.load(DATA / "polymer" / "long_paths.npz") as file:
        frames = file["arr"]
    order = np.random.default_rng(seed).permutation(len(frames))
    border = int(0.8 * len(frames))
    return frames, frames[np.sort(order[:border])], frames[np.sort(order[border:])]


def to_first(frames, j):
    return np.linalg.norm(frames[:, 0] - frames[:, j], axis=1)


def bond(frames):
    return np.linalg.norm(np.diff(frames, axis=1), axis=2).mean()


def polymer(seed, latent_dim):
    everything, training, held_out = chain(seed)
    # The seeds of its models are nobody else's.
    first = POLYMER["n_models"] * seed
    model = mdvae.fit(training, length_unit="reduced", latent_dim=latent_dim, seed=first, progress=False, **POLYMER)
    frames = mdvae.read(training, length_unit="reduced")
    model = fit_noise(fit_prior(model, "mixture", seed=seed, progress=False), seed=seed)
    squares = [
        ((decode_coordinates(model, z) - chunk.coordinates) ** 2).sum(axis=(1, 2))
        for chunk, z in encode_chunks(model, held_out)
    ]
    new = mdvae.generate(model, 20_000, noise=True, restore=False, seed=seed).xyz[..., :2]
    apart = {f"W1 0-{j}": wasserstein_distance(to_first(new, j), to_first(everything, j)) for j in PAIRS}
    floor = {f"held-out 0-{j}": wasserstein_distance(to_first(held_out, j), to_first(everything, j)) for j in PAIRS}
    posed = np.concatenate([chunk.coordinates for chunk, _ in encode_chunks(model, held_out)])
    pca = ((principal_components(frames.coordinates, latent_dim)(posed) - posed) ** 2).sum(axis=(1, 2)).mean()
    return {
        "squares": np.concatenate(squares).mean(),
        "squares, PCA": pca,
        **apart,
        **floor,
        "bond": bond(new) / bond(everything),
    }


def ramachandran(trajectory):
    angles = [compute(trajectory)[1][:, 0] for compute in (md.compute_phi, md.compute_psi)]
    return np.histogram2d(*angles, bins=50, range=[[-np.pi, np.pi]] * 2)[0].ravel()


def divergence(counts, others):
    return jensenshannon(counts, others, base=2) ** 2


def ala2(seed, latent_dim):
    training, held_out, *_ = ala2_runs()
    return phi_psi(seed, latent_dim, training, {"held-out": held_out})


def further_ala2(seed, latent_dim):
    stored, more, *_ = ala2_runs()
    paths = sorted(Path(os.environ["MDVAE_FURTHER_ALA2"]).glob("*.dcd"))
    top = DATA / "ala2" / "ala2.pdb"
    further = [md.load(path, top=top, atom_indices=md.load(top).topology.select("mass > 2")) for path in paths]
    return phi_psi(seed, latent_dim, stored + more, {f"{len(further)} further": further, "first four": further[:4]})


def phi_psi(seed, latent_dim, training, held_out):
    known = sum(map(ramachandran, training))
    # What 40 000 frames of the training runs themselves would have, drawn with replacement.
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(N_ALA2, known / known.sum())
    expected, found = {}, {}
    for name, runs in held_out.items():
        expected[name] = counts = sum(map(ramachandran, runs))
        # What a perfect model would have: as many frames as these, of all runs, split at random.
        everything = (known + counts).astype(int)
        perfect = rng.multivariate_hypergeometric(everything, int(known.sum()), method="marginals")
        found[f"floor, to {name}: training runs"] = divergence(known, counts)
        found[f"drawn from them, to {name}"] = divergence(drawn, counts)
        found[f"split at random, {name}"] = divergence(perfect, everything - perfect)
    frames = mdvae.read(training)
    model = mdvae.train(mdvae.build(frames, latent_dim=latent_dim, seed=seed), frames, seed=seed, progress=False)
    flow = fit_prior(model, "flow", seed=seed, progress=False)
    makers = {"standard normal": model, "flow": flow, "flow, with noise": fit_noise(flow, seed=seed)}
    for name, maker in makers.items():
        new = mdvae.generate(maker, N_ALA2, noise="noise" in name, seed=seed)
        counts = ramachandran(new)
        for other, theirs in (expected | {"training": known}).items():
            found[f"{name}, to {other}"] = divergence(counts, theirs)
        geometry = model.data.geometry
        bonded = geometry.separation == 1
        lengths, pairs = geometry.lengths, geometry.pairs[bonded]
        off = np.abs(distances(new.xyz, pairs) - lengths.mean[bonded]) / lengths.spread[bonded]
        found[f"{name}, bonds valid %"] = 100 * np.mean((off < 5).all(axis=1))
        found[f"{name}, valid %"] = 100 * new.restoration.valid.mean()
        found[f"{name}, as drawn %"] = 100 * np.mean(new.restoration.moved == 0)
    return found


def likelihood_table(vae, x, key, exact=None):
    exact = "" if exact is None else f"   exact {exact:.3f}"
    print(f"  evidence lower bound {log_likelihood(vae, x, 1000, key=key).elbo.mean():.3f}{exact}")
    for n_samples in (1, 10, 100, 1000):
        found = log_likelihood(vae, x, n_samples, key=jax.random.fold_in(key, n_samples))
        row = f"  K {n_samples:5d}:"
        for name, values, errors, effective in (
            ("importance sampling", found.estimate, found.standard_error, found.effective),
            ("from the prior", found.from_prior, found.from_prior_error, found.from_prior_effective),
        ):
            error = "" if n_samples == 1 else f" ± {np.sqrt((errors**2).sum()) / len(x):.3f}"
            row += f"   {name} {values.mean():9.3f}{error} ({np.median(effective):.1f} effective)"
        print(row, flush=True)


def likelihood(seed):
    """A linear model, whose exact value is known, then the polymer."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(4000, 3)) @ rng.normal(size=(3, 10)) + 0.3 * rng.normal(size=(4000, 10))).astype(np.float32)
    init, key = keys_of(seed, 2)
    vae = train_vae(build_vae(x[:3000], 3, hidden=(), key=init), x[:3000], seed=seed, progress=False).vae
    origin = vae.decoder(jnp.zeros(3))
    slopes = np.asarray(jax.jacobian(vae.decoder)(jnp.zeros(3)), np.float64)
    noise = np.diag(np.asarray(vae.likelihood.width(), np.float64) ** 2)
    exact = multivariate_normal(np.asarray(origin, np.float64), slopes @ slopes.T + noise).logpdf(x[3000:]).mean()
    print(f"linear-Gaussian model, 10 features, 3 latent dimensions, 1000 held-out examples, seed {seed}")
    likelihood_table(vae, x[3000:], key, exact)
    if not (DATA / "polymer").exists():
        print("polymer: left out, no real trajectories here")
        return
    for latent_dim in (2, 8):
        _, training, held_out = chain(seed)
        frames = mdvae.read(training, length_unit="reduced")
        model = mdvae.build(frames, latent_dim=latent_dim, likelihood="gaussian", seed=seed)
        model = mdvae.train(model, frames, augment=["mirror", "reversal"], seed=seed, progress=False)
        posed = np.concatenate([chunk.coordinates for chunk, _ in encode_chunks(model, held_out)])
        print(f"polymer, {latent_dim} latent dimensions, {len(posed)} held-out frames, beta 1, seed {seed}")
        likelihood_table(model.vae, posed.reshape(len(posed), -1), key)


ROWS = {
    "discrete": {
        "beta 1, standard normal prior": lambda seed: discrete(seed, beta=1.0, epochs=400),
        "beta 0.2, standard normal prior": lambda seed: discrete(seed, beta=0.2, epochs=400),
        "beta 0.2, flow": lambda seed: discrete(seed, beta=0.2, epochs=400, prior="flow"),
    },
    "regression": {
        "standard normal prior": lambda seed: regression(seed, None),
        "mixture fitted afterwards": lambda seed: regression(seed, "mixture"),
    },
    "polymer": {f"latent {n}": lambda seed, n=n: polymer(seed, n) for n in (2, 8)},
    "ala2": {"latent 8": lambda seed: ala2(seed, 8)},
    "ala2-further": {"latent 8": lambda seed: further_ala2(seed, 8)},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", choices=[*ROWS, "likelihood"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    for row in chosen.rows:
        if row == "likelihood":
            likelihood(chosen.seeds[0])
            continue
        for name, measure in ROWS[row].items():
            started = time.perf_counter()
            found = [measure(seed) for seed in chosen.seeds]
            print(
                f"{row}, {name}: {len(found)} seeds, {time.perf_counter() - started:.0f} s; median (smallest, largest)"
            )
            for what in found[0]:
                values = np.array([one[what] for one in found])
                print(f"  {what:40s}{np.median(values):10.4f}  ({values.min():.4f}, {values.max():.4f})", flush=True)


if __name__ == "__main__":
    main()
