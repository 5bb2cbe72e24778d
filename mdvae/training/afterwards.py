"""A prior and a noise for an already trained model: fitted to where its encoded data are, and to what it leaves out.

The prior that fits best is the aggregate posterior itself (doi:10.48550/arXiv.1705.07120); here a density is fitted to
samples of it, the encoder and decoder left as they are (ex-post density estimation, doi:10.48550/arXiv.1903.12436).

A noise that is learned together with the rest explains what a latent dimension should have said; one that is fitted
afterwards leaves the latent space alone, and still moves atoms together.
"""

import dataclasses
import functools
import math
import operator
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdvae._chunks import in_chunks
from mdvae._keys import key_for
from mdvae._types import Features, Key, Latent, Scalar, Whole
from mdvae.distributions import AbstractNormal
from mdvae.history import History
from mdvae.model import Model, check_decodes
from mdvae.networks import AbstractEncoder
from mdvae.spec import COMPONENTS, MIXTURES, PRIORS, Spec
from mdvae.training.descent import descend
from mdvae.training.examples import check_weights
from mdvae.training.feed import Resident
from mdvae.training.fitting import diagnosed
from mdvae.training.progress import ProgressBar
from mdvae.training.settings import settings_from
from mdvae.training.splits import split_blocks
from mdvae.vae import (
    VAE,
    AbstractLikelihood,
    AbstractObjective,
    AbstractPrior,
    Examples,
    Flow,
    GaussianMixture,
    LowRankGaussian,
    StandardNormal,
    VampPrior,
    as_examples,
    weighted_mean,
)

_SETTINGS = {"learning_rate": 3e-3}
_KNOWN = ("epochs", "batch_size", "learning_rate", "validation_fraction", "patience")
# Clusters found in this many encoded examples are where a mixture starts.
_CLUSTERED = 8192
# More shared displacements than this make sampling slow, and say little more.
_MOST_RANKS = 64
# Of the mean variance: what float32 still tells from nothing.
_LEAST = 1e-6


def fit_prior(
    model: Model,
    prior: str = "mixture",
    *,
    n_components: Whole | None = None,
    seed: Whole = 0,
    progress: bool = True,
    **settings: Any,
) -> Model:
    """Give a trained model a prior that is where its encoded training frames are.

    Encoder and decoder stay as they are: the same latent coordinates, another `generate`.

    Parameters
    ----------
    model : Model
        Trained; not changed.
    prior : {"mixture", "vamp", "flow", "standard_normal"}
        Mixture of normal distributions, mixture of the posteriors of learned pseudo-inputs, normalizing flow; or back
        to the standard normal.
    n_components : int, optional
        Of the two mixtures; 32 if left out.
    seed : int
    progress : bool
        Show a progress bar (on a terminal only).
    **settings
        ``epochs``, ``batch_size``, ``learning_rate``, ``validation_fraction``, ``patience``: see `Settings`; here
        0.003 is the usual rate. What is held out says how long to fit; for half as long again, with a
        falling rate, it is fitted to all frames.

    Returns
    -------
    Model
        With other diagnostics, too. Ctrl-C ends the fit with the best so far, and a warning.

    Raises
    ------
    ValueError, TypeError
        For an untrained model, a prior that is not known, and settings outside their range.
    FloatingPointError
        If the loss stops being finite.

    Notes
    -----
    What it is fitted to are the frames that the model keeps, those among them that its training held out: what is to
    judge what it generates should be frames that neither has seen. Where these frames have weights, the prior is that
    of the weighted ensemble.
    """
    if model.data is None:
        raise ValueError("this model has not been trained: there is nothing to fit a prior to")
    changes = {"prior": prior, "n_components": n_components}
    # The spec checks the words, also for a model that has none.
    spec = dataclasses.replace(model.spec or Spec(model.system.n_atoms, model.system.dim), **changes)
    key = key_for("fit_prior", seed)
    frames = model.data.frames
    features = np.concatenate([x for _, x in in_chunks(model.representation.to_features, frames)])
    vae = fit_vae_prior(
        model.vae,
        features,
        prior,
        n_components=spec.n_components,
        weights=model.data.weights,
        key=key,
        progress=progress,
        **settings,
    )
    fitted = dataclasses.replace(model, vae=vae, spec=None if model.spec is None else spec)
    record = settings | {"prior": prior, "n_components": spec.n_components, "seed": operator.index(seed)}
    fitted = dataclasses.replace(fitted, settings=model.settings | {"fitted_prior": record})
    return diagnosed(fitted, frames, None, key, model.data.weights)


def fit_noise(model: Model, *, rank: Whole | None = None, seed: Whole = 0) -> Model:
    """Give a trained model the noise that its reconstructions leave out, with all its correlations.

    Encoder, decoder and prior stay as they are: the same latent coordinates, the same means, other samples from
    ``generate(noise=True)``. The likelihood becomes a `mdvae.vae.LowRankGaussian` with the second moments of what
    separates the kept frames (by their weights, where they have any) from what is decoded of samples of their
    posteriors: the leading principal axes of them, and one width for the rest (as in probabilistic PCA,
    doi:10.1111/1467-9868.00196). They are frames that the model was trained on, for the most part; of a model that has
    learned them by heart the noise is too small.

    Parameters
    ----------
    model : Model
        Trained, with Cartesian features; not changed.
    rank : int, optional
        Principal axes to keep; if left out all, but no more than 64 and a quarter of the number of frames.
    seed : int

    Returns
    -------
    Model

    Raises
    ------
    ValueError, TypeError
        For an untrained model, for one that only encodes, for internal coordinates, whose angles go round, and for a
        rank outside its range.
    """
    if model.data is None:
        raise ValueError("this model has not been trained: there is nothing to fit a noise to")
    check_decodes(model, "fit_noise")
    if lagtime := model.settings.get("lagtime"):
        raise ValueError(
            f"what this model decodes is the frame {lagtime} later: what it leaves out of a frame is no noise. "
            "fit_noise needs a model trained without a lagtime"
        )
    if not model.representation.keeps_pose:
        raise ValueError("internal coordinates go round and know no covariance; fit_noise needs Cartesian features")
    frames, n_features = model.data.frames, model.representation.n_features
    most = max(1, min(n_features - 1, len(frames) // 4))
    chosen = min(_MOST_RANKS, most) if rank is None else rank
    if isinstance(chosen, bool) or not hasattr(chosen, "__index__"):
        raise TypeError(f"rank must be a whole number, got {rank!r}")
    if not 1 <= chosen <= most:
        raise ValueError(
            f"rank must be from 1 to {most}, below the number of features ({n_features}) and no more than a quarter of "
            f"the kept frames ({len(frames)}), got {rank}"
        )
    chosen = operator.index(chosen)
    keys = np.asarray(jax.random.key_data(jax.random.split(key_for("fit_noise", seed), len(frames))))
    features = np.concatenate([x for _, x in in_chunks(model.representation.to_features, frames)])
    left = np.concatenate([r for _, r in in_chunks(_LeftOut(model.vae), features, keys)])
    vae = eqx.tree_at(
        lambda vae: vae.likelihood, model.vae, _noise_of(left, chosen, model.data.weights), is_leaf=_is_likelihood
    )
    spec = model.spec
    if spec is not None:
        spec = dataclasses.replace(spec, likelihood="low_rank_gaussian", rank=chosen, width=None)
    record = {"fitted_noise": {"rank": chosen, "seed": operator.index(seed)}}
    return dataclasses.replace(model, vae=vae, spec=spec, settings=model.settings | record)


class _LeftOut(eqx.Module):
    """What separates an example from what is decoded of a sample of its posterior."""

    vae: VAE

    def __call__(self, x: Features, key_data: Array) -> Features:
        return x - self.vae.decode(self.vae.encoder(x).sample(jax.random.wrap_key_data(key_data)))


def _noise_of(
    left: Float[np.ndarray, "n n_features"], rank: int, weights: Float[np.ndarray, " n"] | None = None
) -> LowRankGaussian:
    """Noise with the second moments of these."""
    n, n_features = left.shape
    if weights is not None:
        left = left * np.sqrt(weights / weights.mean())[:, None].astype(left.dtype)
    total = float(np.einsum("ij,ij->", left, left, dtype=np.float64)) / n
    if n >= n_features:
        variances, axes = np.linalg.eigh(left.T.astype(np.float64) @ left / n)
        variances, axes = variances[::-1][:rank], axes[:, ::-1][:, :rank]
    else:
        _, roots, rows = np.linalg.svd(left, full_matrices=False)
        variances, axes = roots[:rank].astype(np.float64) ** 2 / n, rows[:rank].T
    # Directions that no frame ever moves along, such as that of the center of mass, are not to be a width of nothing.
    rest = max((total - variances.sum()) / (n_features - rank), _LEAST * total / n_features)
    columns = axes * np.sqrt(np.maximum(variances / rest - 1, 0))
    likelihood = LowRankGaussian(jnp.full(n_features, math.sqrt(rest), jnp.float32), rank, key=jax.random.key(0))
    return eqx.tree_at(lambda likelihood: likelihood.relative, likelihood, jnp.asarray(columns, jnp.float32))


def fit_vae_prior(
    vae: VAE,
    x: Float[np.ndarray, "n n_features"],
    prior: str = "mixture",
    *,
    n_components: int | None = None,
    weights: Float[np.ndarray, " n"] | None = None,
    key: Key,
    progress: bool = True,
    **settings: Any,
) -> VAE:
    """Give a trained VAE of vectors a prior that is where its encoded examples are: `fit_prior` without molecules.

    Parameters
    ----------
    vae : VAE
    x : (n, n_features)
        What it was trained on.
    prior, n_components, progress, **settings
        As for `fit_prior`.
    weights : (n,), optional
        How much each counts, at least 0; only their ratios matter.
    key : PRNG key

    Returns
    -------
    VAE

    Raises
    ------
    ValueError, TypeError, FloatingPointError
        As for `fit_prior`.
    """
    if prior not in PRIORS:
        raise ValueError(f"prior={prior!r} is not known; expected one of {', '.join(map(repr, PRIORS))}")
    if unknown := sorted(set(settings) - set(_KNOWN)):
        raise TypeError(f"fitting a prior knows no setting {', '.join(unknown)}; expected some of {', '.join(_KNOWN)}")
    chosen = settings_from(_SETTINGS | settings)
    training, validation = split_blocks([len(x)], float(chosen.validation_fraction))
    if weights is not None:
        check_weights(weights, training, validation)
    count = 0
    if prior in MIXTURES:
        count = check_components(COMPONENTS if n_components is None else n_components, len(training))
    elif n_components is not None:
        raise ValueError(f"n_components={n_components} belongs to prior='mixture' or 'vamp', got {prior!r}")
    parts = [posterior for _, posterior in in_chunks(vae.encoder, np.asarray(x, np.float32))]
    posteriors = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    latent_dim = posteriors.mean.shape[1]
    start_key, key, again_key = jax.random.split(key, 3)
    if prior == "standard_normal":
        return eqx.tree_at(lambda vae: vae.prior, vae, StandardNormal(latent_dim), is_leaf=_is_prior)
    # Held-out examples are not to be where a component starts.
    known = jax.tree.map(lambda leaf: leaf[training], posteriors)
    if prior == "mixture":
        start: AbstractPrior = _clusters(np.asarray(known.mean), count, start_key)
    elif prior == "vamp":
        rows = jax.random.choice(start_key, jnp.asarray(training), (count,), replace=False)
        deviation = np.std(x[training], axis=0, dtype=np.float64)
        unit = np.where(deviation > 1e-6 * np.abs(x[training]).max(axis=0), deviation, 1).astype(np.float32)
        start = VampPrior(jnp.asarray(x)[rows], jnp.asarray(unit))
    else:
        start = Flow(jnp.mean(known.mean, axis=0), _spread(known), key=start_key)
    leaves, structure = jax.tree.flatten(posteriors)
    objective = _CrossEntropy(vae.encoder, structure, tuple(leaf.shape[1] for leaf in leaves))
    plan = chosen.plan(len(training))
    rows = jnp.concatenate(leaves, axis=1)
    fit = functools.partial(_shown, progress, objective=lambda step: objective)
    fitted, history = fit(
        start, Resident(rows, training, validation, plan.batch_size, weights=weights), plan=plan, key=key
    )
    interrupted = history.interrupted
    if not interrupted:
        # Held-out blocks say for how long, and then count themselves: without them the prior would be missing where a
        # run was for a while.
        half = max(1, (history.best_epoch + 1) // 2)
        everything = Resident(rows, np.arange(len(x)), validation, plan.batch_size, weights=weights)
        rest = dataclasses.replace(
            chosen,
            epochs=half,
            batch_size=plan.batch_size,
            learning_rate=float(chosen.learning_rate) / 2,
            patience=half,
        )
        try:
            of_all, more = fit(fitted, everything, plan=rest.plan(len(x)), key=again_key)
            interrupted = more.interrupted
            # Half-way it may be worse than what is there.
            fitted = fitted if interrupted else of_all
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        warnings.warn("fitting the prior was interrupted; it is the best so far", stacklevel=2)
    return eqx.tree_at(lambda vae: vae.prior, vae, fitted, is_leaf=_is_prior)


def _shown(progress: bool, *arguments, **settings) -> tuple[AbstractPrior, History]:
    with ProgressBar(progress) as bar:
        return descend(*arguments, **settings, progress=bar)


def check_components(n_components: Whole, n_examples: int) -> int:
    """Refuse a number of components that is none, or more than there are examples to start from.

    Raises
    ------
    TypeError, ValueError
    """
    if isinstance(n_components, bool) or not hasattr(n_components, "__index__"):
        raise TypeError(f"n_components must be a whole number, got {n_components!r}")
    if not 1 <= n_components <= n_examples:
        raise ValueError(f"n_components={n_components} must be from 1 to the number of examples, {n_examples}")
    return operator.index(n_components)


def _spread(posteriors: AbstractNormal) -> Latent:
    """Standard deviations of the aggregate posterior."""
    own = jax.vmap(lambda posterior: jnp.diag(posterior.covariance()))(posteriors)
    return jnp.sqrt(jnp.var(posteriors.mean, axis=0) + jnp.mean(own, axis=0))


def _is_prior(node: Any) -> bool:
    return isinstance(node, AbstractPrior)


def _is_likelihood(node: Any) -> bool:
    return isinstance(node, AbstractLikelihood)


class _CrossEntropy(AbstractObjective):
    """How much less likely samples of posteriors are under the prior than they could be, up to a constant."""

    encoder: AbstractEncoder
    structure: Any = eqx.field(static=True)
    sizes: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, encoder: AbstractEncoder, structure: Any, sizes: tuple[int, ...]) -> None:
        arrays, rest = eqx.partition(encoder, eqx.is_array)
        self.encoder = eqx.combine(jax.lax.stop_gradient(arrays), rest)
        self.structure, self.sizes = structure, sizes

    def __call__(
        self, vae: AbstractPrior, batch: Float[Array, "n_batch n"] | Examples, key: Key
    ) -> tuple[Scalar, dict]:
        """Mean surprise; the rows of the batch are parameters of posteriors."""
        rows, _, weight = as_examples(batch)
        prior = vae.distribution(self.encoder)

        def one(row, key):
            leaves = jnp.split(row, np.cumsum(self.sizes)[:-1])
            return -prior.log_prob(jax.tree.unflatten(self.structure, leaves).sample(key))

        return weighted_mean(jax.vmap(one)(rows, jax.random.split(key, len(rows))), weight), {}


def _clusters(means: Float[np.ndarray, "n latent_dim"], n_components: int, key: Key) -> GaussianMixture:
    """Mixture that starts at clusters of the encoded data."""
    # On use: it takes a tenth of a second.
    from scipy.cluster.vq import kmeans2

    few = means[:: max(1, len(means) // max(_CLUSTERED, n_components))].astype(np.float64)
    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        # Of a collapsed posterior all points are one: then some clusters stay empty, and start where it is.
        warnings.simplefilter("ignore")
        centers, which = kmeans2(few, n_components, minit="++", rng=seed)
    centers = np.where(np.isfinite(centers), centers, few.mean(axis=0))
    spread = np.sqrt(np.mean((few - centers[which]) ** 2, axis=0) + 1e-6)
    return GaussianMixture(jnp.asarray(centers, jnp.float32), jnp.asarray(spread, jnp.float32))
