"""What training minimizes."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdvae._types import Key, Scalar
from mdvae.vae.vae import VAE

Batch = Float[Array, "n_batch n_features"]


class AbstractObjective(eqx.Module):
    """A loss of a batch, and the terms it is made of."""

    @abc.abstractmethod
    def __call__(self, vae: VAE, batch: Batch, key: Key) -> tuple[Scalar, dict[str, Scalar]]:
        """Loss (nats a frame, to be minimized) and its terms by name."""


class NegativeELBO(AbstractObjective):
    """Reconstruction plus beta times the KL divergence from prior to posterior.

    Sums over features and over latent dimensions, means over the batch; one noise draw an example.
    ``beta = 1`` is minus the evidence lower bound (doi:10.48550/arXiv.1312.6114).

    Parameters
    ----------
    beta : scalar
    """

    beta: Scalar

    def __init__(self, beta: float | Scalar) -> None:
        self.beta = jnp.asarray(beta, jnp.float32)

    def __call__(self, vae: VAE, batch: Batch, key: Key) -> tuple[Scalar, dict[str, Scalar]]:
        """Loss and the terms ``reconstruction``, ``kl`` (nats a frame) and ``beta``."""
        prior = vae.prior_distribution()

        def one(x, key):
            posterior = vae.encoder(x)
            surprise = -vae.likelihood.log_prob(vae.decoder(posterior.sample(key)), x)
            return surprise, posterior.kl_divergence(prior)

        surprise, kl = jax.vmap(one)(batch, jax.random.split(key, len(batch)))
        terms = {"reconstruction": jnp.mean(surprise), "kl": jnp.mean(kl), "beta": self.beta}
        return terms["reconstruction"] + self.beta * terms["kl"], terms


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
