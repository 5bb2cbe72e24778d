"""What the decoder's output says about the data.

Fixed-width Gaussian, squared error and beta are one family. With features x, decoder mean m and D features,

    Gaussian of width s:   -log p(x|z) = |x - m|² / (2 s²) + D log s + D/2 log 2π
    squared error:         |x - m|²

so that squared error with weight ``beta`` on the KL has the minimizers of the Gaussian with ``beta' = beta / (2 s²)``:
it is a Gaussian of width sqrt(1/2) in the unit of the features, which for nm is enormous. A learned width
finds s from the data, and ``beta = 1`` then is the evidence lower bound itself.
"""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdvae._types import Features, Key, Scalar

Params = Float[Array, " n_params"]

# A width this far below its start says that a feature does not vary; smaller only breaks float32.
_SMALLEST_LOG_WIDTH = -9.0


class AbstractLikelihood(eqx.Module):
    """Density of features given the decoder's output for one latent point."""

    @abc.abstractmethod
    def log_prob(self, params: Params, x: Features) -> Scalar:
        """Log-density of the features (n_features,), summed over them, in nats."""

    @abc.abstractmethod
    def mean(self, params: Params) -> Features:
        """Mean of the features."""

    @abc.abstractmethod
    def sample(self, params: Params, key: Key) -> Features:
        """One sample of the features."""

    @abc.abstractmethod
    def n_params(self, n_features: int) -> int:
        """How many decoder outputs it needs."""


class Gaussian(AbstractLikelihood):
    """Independent normal noise, its width fixed or learned, one a feature or one for all.

    Parameters
    ----------
    width : (n_features,)
        Standard deviations in the unit of the features; the start, where they are learned.
    learned : bool
    shared : bool
        Learn one factor for all widths. With equal widths every feature then counts the same, as in an RMSD; with
        widths of their own those that are hard to predict count for less.
    """

    scale: Features
    log_width: Features | Scalar
    learned: bool = eqx.field(static=True)

    def __init__(self, width: Features, *, learned: bool = True, shared: bool = False) -> None:
        self.scale = width
        self.log_width = jnp.zeros((), width.dtype) if shared else jnp.zeros_like(width)
        self.learned = learned

    def width(self) -> Features:
        """Standard deviations, (n_features,), in the unit of the features."""
        return jnp.exp(self._log_width())

    def log_prob(self, params: Params, x: Features) -> Scalar:
        """Log-density of the features, in nats."""
        log_width = self._log_width()
        return -jnp.sum(0.5 * ((x - params) * jnp.exp(-log_width)) ** 2 + log_width + 0.5 * math.log(2 * math.pi))

    def mean(self, params: Params) -> Features:
        """The parameters themselves."""
        return params

    def sample(self, params: Params, key: Key) -> Features:
        """Mean plus independent noise of the given widths."""
        return params + self.width() * jax.random.normal(key, params.shape, params.dtype)

    def n_params(self, n_features: int) -> int:
        """One mean a feature."""
        return n_features

    def _log_width(self) -> Features:
        # Relative to its start, so that one learning rate suits every unit of length.
        log_width = jnp.maximum(self.log_width, _SMALLEST_LOG_WIDTH)
        log_width = log_width if self.learned else jax.lax.stop_gradient(log_width)
        return jnp.log(jax.lax.stop_gradient(self.scale)) + log_width


class SquaredError(AbstractLikelihood):
    """Sum of squared deviations: no density, no noise; see the module for what it shares with the Gaussian."""

    def log_prob(self, params: Params, x: Features) -> Scalar:
        """Minus the sum of squared deviations, in squared units of the features."""
        return -jnp.sum((x - params) ** 2)

    def mean(self, params: Params) -> Features:
        """The parameters themselves."""
        return params

    def sample(self, params: Params, key: Key) -> Features:
        """The mean: a squared error states no noise."""
        del key
        return params

    def n_params(self, n_features: int) -> int:
        """One mean a feature."""
        return n_features


class Categorical(AbstractLikelihood):
    """One of several classes: one-hot features, and a decoder whose outputs are logits."""

    def log_prob(self, params: Params, x: Features) -> Scalar:
        """Log-probability of the class, from the logits: a softmax that has underflowed would have none."""
        return jnp.sum(x * jax.nn.log_softmax(params))

    def mean(self, params: Params) -> Features:
        """Probabilities of the classes."""
        return jax.nn.softmax(params)

    def sample(self, params: Params, key: Key) -> Features:
        """One class, one-hot."""
        return jax.nn.one_hot(jax.random.categorical(key, params), len(params), dtype=params.dtype)

    def n_params(self, n_features: int) -> int:
        """One logit a class."""
        return n_features
