"""Where latent points come from before any data are seen: given, or learned with the rest of the model.

A prior that is learned meets the encoded data half-way, so that points drawn from it are where the decoder knows its
way (the gap between the two is what `mdvae.vae.diagnostics` calls the mismatch).
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flowjax.bijections import Affine, RationalQuadraticSpline
from flowjax.distributions import AbstractDistribution, Transformed
from flowjax.distributions import StandardNormal as FlowBase
from flowjax.flows import masked_autoregressive_flow
from jaxtyping import Array, Float

from mdvae._types import Features, Key, Latent
from mdvae.distributions import DiagonalNormal, FullNormal, Mixture, n_below_diagonal

# Splines bend what lies within; beyond, the flow only scales.
_INTERVAL, _KNOTS = 5.0, 8


class AbstractPrior(eqx.Module):
    """A distribution over latent points, which may lean on the encoder."""

    @abc.abstractmethod
    def distribution(self, encode: Callable) -> Any:
        """Density of z, with ``log_prob(z)`` and ``sample(key)``.

        Parameters
        ----------
        encode : callable
            Features to posterior, for priors made of encoded pseudo-inputs.
        """


class StandardNormal(AbstractPrior):
    """Zero mean, unit variance in every latent dimension."""

    latent_dim: int = eqx.field(static=True)

    def __init__(self, latent_dim: int) -> None:
        self.latent_dim = latent_dim

    def distribution(self, encode: Callable) -> DiagonalNormal:
        """Standard normal; the encoder is not asked."""
        del encode
        zeros = jnp.zeros(self.latent_dim, jnp.float32)
        return DiagonalNormal(zeros, zeros)


class GaussianMixture(AbstractPrior):
    """Learned mixture of normal distributions, each of any covariance.

    Parameters
    ----------
    means : (n_components, latent_dim)
        Where the components start.
    std : (latent_dim,) or scalar
        Standard deviations they start with.
    """

    logits: Float[Array, " n_components"]
    means: Float[Array, "n_components latent_dim"]
    log_std: Float[Array, "n_components latent_dim"]
    lower: Float[Array, "n_components n_lower"]

    def __init__(
        self, means: Float[Array, "n_components latent_dim"], std: Float[Array, "*latent_dim"] | float = 1.0
    ) -> None:
        n_components, latent_dim = means.shape
        self.logits = jnp.zeros(n_components, means.dtype)
        self.means = means
        self.log_std = jnp.broadcast_to(jnp.log(jnp.asarray(std, means.dtype)), means.shape)
        self.lower = jnp.zeros((n_components, n_below_diagonal(latent_dim)), means.dtype)

    def distribution(self, encode: Callable) -> Mixture:
        """Mixture of the components; the encoder is not asked."""
        del encode
        return Mixture(self.logits, jax.vmap(FullNormal)(self.means, self.log_std, self.lower))


class VampPrior(AbstractPrior):
    """Mixture of the posteriors of learned pseudo-inputs (doi:10.48550/arXiv.1705.07120), with learned weights.

    Parameters
    ----------
    pseudo_inputs : (n_components, n_features)
        Where they start: training examples, as a rule.
    scale : scalar, or (n_features,)
        The unit in which they are learned, lest one learning rate move nanometers as if they were latent units; not
        trained.
    """

    logits: Float[Array, " n_components"]
    relative: Float[Array, "n_components n_features"]
    scale: Features

    def __init__(
        self, pseudo_inputs: Float[Array, "n_components n_features"], scale: Float[Array, "*n_features"]
    ) -> None:
        self.logits = jnp.zeros(len(pseudo_inputs), pseudo_inputs.dtype)
        self.scale = jnp.broadcast_to(scale, pseudo_inputs.shape[1:])
        self.relative = pseudo_inputs / jnp.broadcast_to(scale, pseudo_inputs.shape)

    def distribution(self, encode: Callable) -> Mixture:
        """Mixture of what the encoder makes of the pseudo-inputs."""
        scale = jax.lax.stop_gradient(self.scale)
        return Mixture(self.logits, jax.vmap(lambda relative: encode(relative * scale))(self.relative))


class Flow(AbstractPrior):
    """Normalizing flow: a standard normal, bent by learned maps (doi:10.48550/arXiv.1705.07057).

    Masked autoregressive, with monotone rational-quadratic splines (doi:10.48550/arXiv.1906.04032), from FlowJAX; its
    density takes one pass, a sample one pass for each latent dimension.

    Parameters
    ----------
    mean, std : (latent_dim,)
        Where the flow starts: splines bend what lies within five of these standard deviations. Learned.
    n_layers : int
    width : int
        Of the hidden layer of the network that gives the splines of a layer.
    key : PRNG key
    """

    flow: AbstractDistribution

    def __init__(self, mean: Latent, std: Latent, *, n_layers: int = 4, width: int = 64, key: Key) -> None:
        # FlowJAX builds its masks by promoting ranks.
        with jax.numpy_rank_promotion("allow"):
            bent = masked_autoregressive_flow(
                key,
                base_dist=FlowBase(mean.shape),
                transformer=RationalQuadraticSpline(knots=_KNOTS, interval=_INTERVAL),
                flow_layers=n_layers,
                nn_width=width,
                nn_activation=jax.nn.silu,
            )
            self.flow = Transformed(bent, Affine(mean, std))

    def distribution(self, encode: Callable) -> AbstractDistribution:
        """The flow; the encoder is not asked."""
        del encode
        return self.flow


class Fixed(AbstractPrior):
    """A prior that is not learned; one that leans on the encoder still moves with it.

    Parameters
    ----------
    prior : AbstractPrior
    """

    prior: AbstractPrior

    def __init__(self, prior: AbstractPrior) -> None:
        self.prior = prior

    def distribution(self, encode: Callable) -> Any:
        """The prior's own, its numbers held."""
        arrays, rest = eqx.partition(self.prior, eqx.is_array)
        return eqx.combine(jax.lax.stop_gradient(arrays), rest).distribution(encode)
