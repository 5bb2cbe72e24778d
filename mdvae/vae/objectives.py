"""What training minimizes."""

import abc
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdvae._types import Features, Key, Latent, Scalar
from mdvae.distributions import AbstractNormal, DiagonalNormal, kl_at_sample, kl_by_component
from mdvae.vae.vae import VAE

Batch = Float[Array, "n_batch n_features"]
# Added to variances of latent coordinates before they are divided by: one that is dead has none.
_SINGULAR = 1e-6


class Examples(NamedTuple):
    """What is encoded, what its latent point is decoded to, and how much that counts.

    Parameters
    ----------
    x : (n, n_features)
    target : (n, n_features), optional
        Of a time-lagged model the same frames some time later; x itself if left out.
    weight : (n,), optional
        Their mean is one over all that they are weights of, so that a batch drawn from it estimates the weighted mean
        without bias: the sum of weight times loss is divided by the number of examples, not by the sum of the batch's
        weights. All are one if left out.
    """

    x: Any
    target: Any = None
    weight: Any = None


def as_examples(batch: Batch | Examples) -> Examples:
    """Bare vectors are their own targets."""
    return batch if isinstance(batch, Examples) else Examples(batch)


def weighted_mean(values: Float[Array, "n_batch ..."], weight: Float[Array, " n_batch"] | None) -> Float[Array, "..."]:
    """Mean over a batch, with weights as `Examples` have them.

    Parameters
    ----------
    values : (n_batch, ...)
    weight : (n_batch,), optional
    """
    return jnp.mean(values, axis=0) if weight is None else jnp.tensordot(weight, values, 1) / len(values)


class AbstractObjective(eqx.Module):
    """A loss of a batch, and the terms it is made of."""

    @abc.abstractmethod
    def __call__(self, vae: VAE, batch: Batch | Examples, key: Key) -> tuple[Scalar, dict[str, Scalar]]:
        """Loss (nats a frame, to be minimized) and its terms by name."""


class NegativeELBO(AbstractObjective):
    """Reconstruction plus beta times the KL divergence from prior to posterior.

    Sums over features and over latent dimensions, weighted means over the batch (`Examples`); one noise draw an
    example. With other targets than the examples themselves it is the time-lagged variational auto-encoder
    (doi:10.1063/1.5011399, doi:10.1103/PhysRevE.97.062412). The KL is a formula
    between normal distributions, and a sample elsewhere. ``beta = 1`` is minus the evidence lower bound
    (doi:10.48550/arXiv.1312.6114); below 1 reconstruction counts for more, above 1 independence of the latent
    dimensions (beta-VAE, doi:10.48550/arXiv.1804.03599).

    Parameters
    ----------
    beta : scalar
    free_bits : float
        Nats a latent dimension that cost nothing: the mean KL of a batch counts as at least that much in each, so that
        there is no gain in closing one (doi:10.48550/arXiv.1606.04934, appendix C.8). Where the KL has no parts by
        dimension (full covariances, learned priors) it counts as at least their sum.
    """

    beta: Scalar
    free_bits: float = eqx.field(static=True)

    def __init__(self, beta: float | Scalar, free_bits: float = 0.0) -> None:
        self.beta = jnp.asarray(beta, jnp.float32)
        self.free_bits = free_bits

    def __call__(self, vae: VAE, batch: Batch | Examples, key: Key) -> tuple[Scalar, dict[str, Scalar]]:
        """Loss and the terms ``reconstruction``, ``kl`` (nats a frame, all of it) and ``beta``."""
        prior = vae.prior_distribution()
        x, target, weight = as_examples(batch)

        def one(x, target, key):
            posterior = vae.encoder(x)
            z, log_posterior = posterior.sample_and_log_prob(key)
            surprise = -vae.likelihood.log_prob(vae.decoder(z), target)
            return surprise, _kl_parts(posterior, prior, z, log_posterior)

        surprise, kl = jax.vmap(one)(x, x if target is None else target, jax.random.split(key, len(x)))
        parts = weighted_mean(kl, weight)
        counted = parts
        if self.free_bits:
            latent_dim = len(jax.eval_shape(vae.encode, x[0]))
            counted = jnp.maximum(parts, self.free_bits * latent_dim / len(parts))
        terms = {"reconstruction": weighted_mean(surprise, weight), "kl": jnp.sum(parts), "beta": self.beta}
        return terms["reconstruction"] + self.beta * jnp.sum(counted), terms


def _kl_parts(posterior: AbstractNormal, prior: Any, z: Latent, log_posterior: Scalar) -> Float[Array, " n_parts"]:
    """KL by dimension where dimensions are independent, else in one part."""
    if isinstance(posterior, DiagonalNormal) and isinstance(prior, DiagonalNormal):
        return kl_by_component(posterior, prior)
    return jnp.reshape(kl_at_sample(posterior, prior, z, log_posterior), (1,))


class ImportanceWeighted(AbstractObjective):
    """Minus the importance-weighted bound with several samples an example (doi:10.48550/arXiv.1509.00519).

    It lies between the evidence lower bound, which it is for one sample, and the log-likelihood, which it reaches for
    very many.

    Parameters
    ----------
    n_samples : int
    """

    n_samples: int = eqx.field(static=True)

    def __init__(self, n_samples: int) -> None:
        self.n_samples = n_samples

    def __call__(self, vae: VAE, batch: Batch | Examples, key: Key) -> tuple[Scalar, dict[str, Scalar]]:
        """Loss and the terms of the lower bound with one sample: ``reconstruction``, ``kl`` and ``beta`` (1)."""
        prior = vae.prior_distribution()
        x, target, weight = as_examples(batch)
        keys = jax.random.split(key, len(x))

        def one(x, target, key):
            return surprise_and_kl(vae, prior, x, key, self.n_samples, target)

        surprise, kl = jax.vmap(one)(x, x if target is None else target, keys)
        bound = jax.scipy.special.logsumexp(-surprise - kl, axis=1) - math.log(self.n_samples)
        terms = {
            "reconstruction": weighted_mean(surprise.mean(axis=1), weight),
            "kl": weighted_mean(kl.mean(axis=1), weight),
        }
        return -weighted_mean(bound, weight), terms | {"beta": jnp.ones((), jnp.float32)}


def surprise_and_kl(
    vae: VAE, prior: Any, x: Features, key: Key, n_samples: int, target: Features | None = None
) -> tuple[Float[Array, " n_samples"], Float[Array, " n_samples"]]:
    """For samples z of the posterior of x: ``-log p(x|z)``, and ``log q(z|x) - log p(z)``, in nats.

    Minus their sum is the logarithm of an importance weight, whose mean is the likelihood of x.

    Parameters
    ----------
    vae : VAE
    prior : density of z
    x : (n_features,)
    key : PRNG key
    n_samples : int
    target : (n_features,), optional
        In place of x in the first.
    """
    posterior = vae.encoder(x)
    aim = x if target is None else target

    def one(key):
        z, log_posterior = posterior.sample_and_log_prob(key)
        return -vae.likelihood.log_prob(vae.decoder(z), aim), log_posterior - prior.log_prob(z)

    return jax.vmap(one)(jax.random.split(key, n_samples))


class Penalized(AbstractObjective):
    """An objective, plus a penalty on what the decoder makes of posterior means.

    Parameters
    ----------
    objective : AbstractObjective
    penalty : callable
        Decoded features (n_batch, n_features) to one number each.
    weight : scalar
    """

    objective: AbstractObjective
    penalty: Callable
    weight: Scalar

    def __init__(self, objective: AbstractObjective, penalty: Callable, weight: float | Scalar) -> None:
        self.objective, self.penalty = objective, penalty
        self.weight = jnp.asarray(weight, jnp.float32)

    def __call__(self, vae: VAE, batch: Batch | Examples, key: Key) -> tuple[Scalar, dict[str, Scalar]]:
        """Loss and the objective's own terms, with ``penalty``."""
        loss, terms = self.objective(vae, batch, key)
        x, _, weight = as_examples(batch)
        penalty = weighted_mean(self.penalty(jax.vmap(lambda x: vae.decode(vae.encode(x)))(x)), weight)
        return loss + self.weight * penalty, terms | {"penalty": penalty}


class Slow(AbstractObjective):
    """An objective, less the VAMP-2 score of the posterior means at both ends of the lag.

    What predicts most of the later frame is not what is slowest: it may be a mode that half decays over the lag, and
    moves more atoms (doi:10.1063/1.5092521). The score counts modes by how much of them is left, whatever they move:
    ``tr(C00⁻¹ C01 C11⁻¹ C10)``, the sum of squared correlations between the two ends, at most the number of latent
    dimensions (doi:10.1007/s00332-019-09567-y, without the constant). For one dimension it is the squared
    autocorrelation, as in the variational dynamics encoder (doi:10.1103/PhysRevE.97.062412). Decoder, likelihood and
    prior do not feel it, so that a large weight leaves the encoder to the score and everything else as it was.

    Covariances are those of the batch: of one that holds few examples for each latent dimension they mean little.

    Parameters
    ----------
    objective : AbstractObjective
    weight : scalar
        Nats.
    """

    objective: AbstractObjective
    weight: Scalar

    def __init__(self, objective: AbstractObjective, weight: float | Scalar) -> None:
        self.objective, self.weight = objective, jnp.asarray(weight, jnp.float32)

    def __call__(self, vae: VAE, batch: Batch | Examples, key: Key) -> tuple[Scalar, dict[str, Scalar]]:
        """Loss and the objective's own terms, with ``vamp``, the score.

        Raises
        ------
        ValueError
            For examples that are their own targets.
        """
        loss, terms = self.objective(vae, batch, key)
        x, target, weight = as_examples(batch)
        if target is None:
            raise ValueError("the VAMP-2 score needs targets at a lag; expected Examples with a target")
        score = vamp2(jax.vmap(vae.encode)(x), jax.vmap(vae.encode)(target), weight)
        return loss - self.weight * score, terms | {"vamp": score}


def vamp2(before: Float[Array, "n d"], after: Float[Array, "n d"], weight: Float[Array, " n"] | None = None) -> Scalar:
    """Sum of squared canonical correlations between two sets of coordinates.

    Parameters
    ----------
    before, after : (n, d)
        The same coordinates at both ends of a lag.
    weight : (n,), optional
        Of each pair, up to a factor.

    Returns
    -------
    scalar
        From 0 to d.
    """
    share = jnp.full(len(before), 1 / len(before)) if weight is None else weight / jnp.sum(weight)
    before, after = (x - (share @ x)[None] for x in (before, after))
    own, cross, other = ((share[:, None] * a).T @ b for a, b in ((before, before), (before, after), (after, after)))
    return jnp.sum(_divided(own, cross) * _divided(other, cross.T).T)


def _divided(a: Float[Array, "d d"], b: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Inverse of a covariance times a matrix, by elimination: several trainings call it from threads, without locks."""
    a = a + _SINGULAR * jnp.eye(len(a), dtype=a.dtype)
    rows = jnp.concatenate([a, b], axis=1)
    for i in range(len(a)):
        pivot = rows[i] / rows[i, i]
        rows = (rows - rows[:, i, None] * pivot[None]).at[i].set(pivot)
    return rows[:, len(a) :]
