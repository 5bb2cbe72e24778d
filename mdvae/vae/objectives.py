"""What training minimizes."""

import abc
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdvae._types import Features, Key, Latent, Scalar
from mdvae.distributions import AbstractNormal, DiagonalNormal, kl_at_sample, kl_by_component
from mdvae.vae.vae import VAE

Batch = Float[Array, "n_batch n_features"]


class AbstractObjective(eqx.Module):
    """A loss of a batch, and the terms it is made of."""

    @abc.abstractmethod
    def __call__(self, vae: VAE, batch: Batch, key: Key) -> tuple[Scalar, dict[str, Scalar]]:
        """Loss (nats a frame, to be minimized) and its terms by name."""


class NegativeELBO(AbstractObjective):
    """Reconstruction plus beta times the KL divergence from prior to posterior.

    Sums over features and over latent dimensions, means over the batch; one noise draw an example. The KL is a formula
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

    def __call__(self, vae: VAE, batch: Batch, key: Key) -> tuple[Scalar, dict[str, Scalar]]:
        """Loss and the terms ``reconstruction``, ``kl`` (nats a frame, all of it) and ``beta``."""
        prior = vae.prior_distribution()

        def one(x, key):
            posterior = vae.encoder(x)
            z, log_posterior = posterior.sample_and_log_prob(key)
            surprise = -vae.likelihood.log_prob(vae.decoder(z), x)
            return surprise, _kl_parts(posterior, prior, z, log_posterior)

        surprise, kl = jax.vmap(one)(batch, jax.random.split(key, len(batch)))
        parts = jnp.mean(kl, axis=0)
        counted = parts
        if self.free_bits:
            latent_dim = len(jax.eval_shape(vae.encode, batch[0]))
            counted = jnp.maximum(parts, self.free_bits * latent_dim / len(parts))
        terms = {"reconstruction": jnp.mean(surprise), "kl": jnp.sum(parts), "beta": self.beta}
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

    def __call__(self, vae: VAE, batch: Batch, key: Key) -> tuple[Scalar, dict[str, Scalar]]:
        """Loss and the terms of the lower bound with one sample: ``reconstruction``, ``kl`` and ``beta`` (1)."""
        prior = vae.prior_distribution()
        keys = jax.random.split(key, len(batch))
        surprise, kl = jax.vmap(lambda x, key: surprise_and_kl(vae, prior, x, key, self.n_samples))(batch, keys)
        bound = jax.scipy.special.logsumexp(-surprise - kl, axis=1) - math.log(self.n_samples)
        one = jnp.ones((), jnp.float32)
        return -jnp.mean(bound), {"reconstruction": jnp.mean(surprise), "kl": jnp.mean(kl), "beta": one}


def surprise_and_kl(
    vae: VAE, prior: Any, x: Features, key: Key, n_samples: int
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
    """
    posterior = vae.encoder(x)

    def one(key):
        z, log_posterior = posterior.sample_and_log_prob(key)
        return -vae.likelihood.log_prob(vae.decoder(z), x), log_posterior - prior.log_prob(z)

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

    def __call__(self, vae: VAE, batch: Batch, key: Key) -> tuple[Scalar, dict[str, Scalar]]:
        """Loss and the objective's own terms, with ``penalty``."""
        loss, terms = self.objective(vae, batch, key)
        penalty = jnp.mean(self.penalty(jax.vmap(lambda x: vae.decode(vae.encode(x)))(batch)))
        return loss + self.weight * penalty, terms | {"penalty": penalty}
