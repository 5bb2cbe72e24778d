"""Multilayer perceptrons that know the scale of the data, so that features keep their unit."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdvae._types import Features, Key, Latent, Scalar
from mdvae.distributions import AbstractNormal, DiagonalNormal, FullNormal, n_below_diagonal
from mdvae.networks.base import AbstractDecoder, AbstractEncoder

# Posterior widths stay within e^±8 of the prior's: no data asks for more, and exp cannot overflow.
_LOG_STD_LIMIT = 8.0


class MLPEncoder(AbstractEncoder):
    """Perceptron from standardized features to a normal posterior.

    Parameters
    ----------
    n_features, latent_dim : int
    hidden : sequence of int
        Widths of the hidden layers.
    activation : str
        Name of a function in `jax.nn`, or ``"tanh"``.
    shift : (n_features,)
        Subtracted from the features; not trained.
    scale : scalar, or (n_features,)
        Divides the shifted features; not trained.
    key : PRNG key
    residual : bool
        Whether hidden layers of the same width as the one before add to it instead of replacing it. Without, deep
        networks let latent dimensions die.
    covariance : {"diagonal", "full"}
        Whether the posterior's components are independent.
    """

    shift: Features
    scale: Scalar | Features
    layers: tuple[eqx.nn.Linear, ...]
    activation: Callable = eqx.field(static=True)
    residual: bool = eqx.field(static=True)
    latent_dim: int = eqx.field(static=True)

    def __init__(
        self,
        n_features: int,
        latent_dim: int,
        hidden: Sequence[int],
        activation: str,
        *,
        shift: Features,
        scale: Scalar | Features,
        key: Key,
        residual: bool = True,
        covariance: str = "diagonal",
    ) -> None:
        if covariance not in ("diagonal", "full"):
            raise ValueError(f"covariance={covariance!r} is not known; expected 'diagonal' or 'full'")
        n_outputs = 2 * latent_dim + (n_below_diagonal(latent_dim) if covariance == "full" else 0)
        self.shift, self.scale = shift, scale
        self.layers = _linear_layers([n_features, *hidden, n_outputs], key)
        self.activation, self.residual, self.latent_dim = _activation(activation), residual, latent_dim

    def __call__(self, x: Features) -> AbstractNormal:
        """Posterior for one feature vector."""
        shift, scale = jax.lax.stop_gradient((self.shift, self.scale))
        n = self.latent_dim
        mean, log_std, lower = jnp.split(_forward(self, (x - shift) / scale), [n, 2 * n])
        log_std = _LOG_STD_LIMIT * jnp.tanh(log_std / _LOG_STD_LIMIT)
        return FullNormal(mean, log_std, lower) if len(lower) else DiagonalNormal(mean, log_std)


class MLPDecoder(AbstractDecoder):
    """Perceptron from a latent point to likelihood parameters in the unit of the features.

    Parameters
    ----------
    latent_dim, n_params : int
    hidden : sequence of int
        Widths of the hidden layers, from the latent side.
    activation : str
    shift : (n_params,)
        Added to the scaled output; not trained.
    scale : scalar, or (n_params,)
        Multiplies the output; not trained.
    key : PRNG key
    residual : bool
        Whether hidden layers of the same width as the one before add to it instead of replacing it. Without, deep
        networks let latent dimensions die.
    """

    shift: Float[Array, " n_params"]
    scale: Scalar | Float[Array, " n_params"]
    layers: tuple[eqx.nn.Linear, ...]
    activation: Callable = eqx.field(static=True)
    residual: bool = eqx.field(static=True)

    def __init__(
        self,
        latent_dim: int,
        n_params: int,
        hidden: Sequence[int],
        activation: str,
        *,
        shift: Float[Array, " n_params"],
        scale: Scalar | Float[Array, " n_params"],
        key: Key,
        residual: bool = True,
    ) -> None:
        self.shift, self.scale = shift, scale
        self.layers = _linear_layers([latent_dim, *hidden, n_params], key)
        self.activation, self.residual = _activation(activation), residual

    def __call__(self, z: Latent) -> Float[Array, " n_params"]:
        """Likelihood parameters for one latent point."""
        shift, scale = jax.lax.stop_gradient((self.shift, self.scale))
        return shift + scale * _forward(self, z)


def _linear_layers(sizes: Sequence[int], key: Key) -> tuple[eqx.nn.Linear, ...]:
    keys = jax.random.split(key, len(sizes) - 1)
    return tuple(
        eqx.nn.Linear(n_in, n_out, dtype=jnp.float32, key=k)
        for (n_in, n_out), k in zip(pairwise(sizes), keys, strict=True)
    )


def _activation(name: str) -> Callable:
    return jnp.tanh if name == "tanh" else getattr(jax.nn, name)


def _forward(network: MLPEncoder | MLPDecoder, x: Float[Array, " n"]) -> Float[Array, " m"]:
    *hidden, last = network.layers
    for layer in hidden:
        y = network.activation(_applied(layer, x))
        x = x + y if network.residual and layer is not hidden[0] and layer.in_features == layer.out_features else y
    return _applied(last, x)


def _applied(layer: eqx.nn.Linear, x: Float[Array, " n"]) -> Float[Array, " m"]:
    """Weight times x plus bias, with x first: under vmap, then, examples are the rows of every product."""
    y = x @ layer.weight.T
    return y if layer.bias is None else y + layer.bias
