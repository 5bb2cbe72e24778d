"""VAEs made of perceptrons, for vectors of whatever they are."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdvae._types import Key, Scalar
from mdvae.networks import MLPDecoder, MLPEncoder
from mdvae.vae.likelihoods import AbstractLikelihood, Categorical, Gaussian
from mdvae.vae.priors import AbstractPrior, Flow, GaussianMixture, StandardNormal, VampPrior
from mdvae.vae.vae import VAE

# The spread of a learned mixture's components at the start: narrower than the whole that they cover together.
_START_WIDTH = 0.5


def build_vae(
    x: Float[np.ndarray | Array, "n n_features"],
    latent_dim: int = 2,
    *,
    likelihood: AbstractLikelihood | None = None,
    prior: AbstractPrior | None = None,
    hidden: Sequence[int] = (128, 128, 128),
    activation: str = "silu",
    residual: bool = True,
    posterior: str = "diagonal",
    key: Key,
) -> VAE:
    """Untrained VAE for vectors, its networks scaled to them.

    Parameters
    ----------
    x : (n, n_features)
        Examples: their means and standard deviations are where the networks start.
    latent_dim : int
    likelihood : AbstractLikelihood, optional
        A Gaussian with a learned width a feature if left out.
    prior : AbstractPrior, optional
        A standard normal distribution if left out.
    hidden : sequence of int
        Widths of the encoder's hidden layers; the decoder has them in reverse.
    activation : {"silu", "tanh", "softplus", "gelu"}
    residual : bool
        Whether hidden layers add to the one before, where it has the same width.
    posterior : {"diagonal", "full"}
        Covariance of the posterior.
    key : PRNG key

    Returns
    -------
    VAE

    Raises
    ------
    ValueError
        For examples that are no vectors, or not one-hot where the likelihood is of classes, and for a likelihood whose
        parameters are not as many as the features: compose `mdvae.vae.VAE` for such a one.
    """
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or not len(x):
        raise ValueError(f"expected examples, an array (n, n_features), got one of shape {x.shape}")
    if isinstance(likelihood, Categorical):
        check_one_hot(x)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    # A constant differs from itself by what float32 rounds off.
    deviation = np.where(deviation > 1e-6 * np.abs(mean), deviation, 1).astype(np.float32)
    mean = mean.astype(np.float32)
    likelihood = Gaussian(jnp.asarray(deviation)) if likelihood is None else likelihood
    prior = StandardNormal(latent_dim) if prior is None else prior
    # Logits have neither the mean nor the unit of the classes that they stand for.
    logits = isinstance(likelihood, Categorical)
    n_params = likelihood.n_params(x.shape[1])
    if n_params != x.shape[1]:
        raise ValueError(
            f"the likelihood needs {n_params} parameters for {x.shape[1]} features; compose the VAE by hand"
        )
    return perceptrons(
        latent_dim,
        likelihood,
        prior,
        hidden=hidden,
        activation=activation,
        residual=residual,
        posterior=posterior,
        shift=jnp.asarray(mean),
        unit=jnp.asarray(deviation),
        output_shift=jnp.zeros(n_params, jnp.float32) if logits else jnp.asarray(mean),
        output_scale=jnp.ones(n_params, jnp.float32) if logits else jnp.asarray(deviation),
        key=key,
    )


def check_one_hot(x: Float[np.ndarray, "n n_classes"]) -> None:
    """Refuse examples that are not of one class each.

    Raises
    ------
    ValueError
    """
    if x.shape[1] < 2 or not (np.isin(x, (0, 1)).all() and (x.sum(axis=1) == 1).all()):
        raise ValueError(
            "Categorical needs one-hot examples, (n, n_classes) with one 1 a row; of labels make them by "
            "numpy.eye(n_classes)[labels]"
        )


def perceptrons(
    latent_dim: int,
    likelihood: AbstractLikelihood,
    prior: AbstractPrior,
    *,
    hidden: Sequence[int],
    activation: str,
    residual: bool,
    posterior: str,
    shift: Float[Array, " n_features"],
    unit: Scalar | Float[Array, " n_features"],
    output_shift: Float[Array, " n_params"],
    output_scale: Scalar | Float[Array, " n_params"],
    key: Key,
) -> VAE:
    """VAE of an `MLPEncoder` and an `MLPDecoder`, whose parameters these are."""
    encoder_key, decoder_key = jax.random.split(key)
    layers = {"activation": activation, "residual": residual}
    encoder = MLPEncoder(
        len(shift), latent_dim, hidden, **layers, covariance=posterior, shift=shift, scale=unit, key=encoder_key
    )
    decoder = MLPDecoder(
        latent_dim,
        len(output_shift),
        tuple(hidden)[::-1],
        **layers,
        shift=output_shift,
        scale=output_scale,
        key=decoder_key,
    )
    return VAE(encoder, decoder, likelihood, prior)


def named_prior(
    name: str,
    latent_dim: int,
    *,
    n_components: int | None = None,
    pseudo_inputs: Float[Array, "n_components n_features"] | None = None,
    unit: Scalar | Float[Array, " n_features"] | None = None,
    key: Key,
) -> AbstractPrior:
    """Prior by its name, where joint training starts.

    Parameters
    ----------
    name : {"standard_normal", "mixture", "vamp", "flow"}
    latent_dim : int
    n_components : int, optional
        Of the mixture.
    pseudo_inputs : (n_components, n_features), optional
        Where those of the VampPrior start.
    unit : scalar, or (n_features,), optional
        Of the pseudo-inputs.
    key : PRNG key

    Raises
    ------
    ValueError
        For a name that is not known, and where something is missing.
    """
    if name == "mixture":
        if n_components is None:
            raise ValueError("prior='mixture' needs n_components")
        return GaussianMixture(jax.random.normal(key, (n_components, latent_dim), jnp.float32), _START_WIDTH)
    if name == "vamp":
        if pseudo_inputs is None or unit is None:
            raise ValueError("prior='vamp' needs pseudo_inputs to start from, and their unit")
        return VampPrior(pseudo_inputs, unit)
    if name == "flow":
        return Flow(jnp.zeros(latent_dim, jnp.float32), jnp.ones(latent_dim, jnp.float32), key=key)
    if name == "standard_normal":
        return StandardNormal(latent_dim)
    raise ValueError(f"prior={name!r} is not known; expected 'standard_normal', 'mixture', 'vamp' or 'flow'")
