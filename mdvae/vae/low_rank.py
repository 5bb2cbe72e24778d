"""Noise that moves features together, so that a sample of it can keep what holds atoms together.

Independent noise on positions stretches every bond by what the model leaves out of the soft motions. Here those
motions are displacements U that all features share, and what is left for the independent part is small.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdvae._types import Features, Key, Scalar
from mdvae.distributions import LowRankNormal
from mdvae.vae.likelihoods import AbstractLikelihood, Gaussian, Params

# Where the displacements start, in starting widths: not at zero, where their gradient vanishes.
_START = 0.1


class LowRankGaussian(AbstractLikelihood):
    """Normal noise of covariance ``diag(width²) + U Uᵀ``, both parts learned and the same for every latent point.

    A U that the decoder gives for each latent point was tried: it cost two to four times as much, and took over what a
    latent dimension should have said (CONTRIBUTING has the figures).

    Parameters
    ----------
    width : (n_features,)
        Starting standard deviations of the independent part, in the unit of the features.
    rank : int
        Number of columns of U.
    key : PRNG key
        For the start of U.
    """

    independent: Gaussian
    relative: Float[Array, "n_features rank"]

    def __init__(self, width: Features, rank: int, *, key: Key) -> None:
        self.independent = Gaussian(width)
        self.relative = _START * jax.random.normal(key, (len(width), rank), width.dtype)

    def width(self) -> Features:
        """Standard deviations of the independent part, (n_features,), in the unit of the features."""
        return self.independent.width()

    def noise(self, mean: Features) -> LowRankNormal:
        """Distribution of the features about a mean (n_features,)."""
        # Relative to the starting widths, as those of the Gaussian are: one learning rate suits every unit.
        factor = jax.lax.stop_gradient(self.independent.scale)[:, None] * self.relative
        return LowRankNormal(mean, jnp.log(self.independent.width()), factor)

    def log_prob(self, params: Params, x: Features) -> Scalar:
        """Log-density of the features, in nats."""
        return self.noise(params).log_prob(x)

    def mean(self, params: Params) -> Features:
        """The parameters themselves."""
        return params

    def sample(self, params: Params, key: Key) -> Features:
        """Mean plus correlated noise."""
        return self.noise(params).sample(key)

    def n_params(self, n_features: int) -> int:
        """One mean a feature."""
        return n_features
