"""Numbers on a line and angles on a circle, side by side: normal and von Mises noise."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdvae._types import Features, Key, Scalar
from mdvae.vae.likelihoods import AbstractLikelihood, Gaussian, Params

Numbers = Float[Array, " n_linear"]
Angles = Float[Array, " n_angles"]

# From here on three terms of the Bessel function's series give it to nine digits. Its own derivative is a difference of
# nearly equal numbers, of which single precision has ever fewer digits.
_LARGE = 100.0
# Rejection accepts more than 65 in 100 proposals at any concentration: no angle is left after this many rounds.
_ROUNDS = 64


class GaussianVonMises(AbstractLikelihood):
    """Independent noise: normal on the first features, von Mises on the angles whose cosines and sines are the others.

    The decoder gives a vector in the plane for every angle. Its direction is that of the mean; its length times a
    learned factor is the concentration, so that an angle may be sharp for one latent point and free for another.

    Parameters
    ----------
    width : (n_linear,)
        Starting standard deviations of the first features, in their units; learned.
    spread : (n_angles,)
        Starting standard deviations of the angles for vectors of length one, in radians; learned.
    """

    linear: Gaussian
    angular: Gaussian

    def __init__(self, width: Numbers, spread: Angles) -> None:
        self.linear = Gaussian(width)
        # Only its widths are used: they learn at the same rate as those of the numbers.
        self.angular = Gaussian(spread)

    def log_prob(self, params: Params, x: Features) -> Scalar:
        """Log-density of the numbers and of the angles (not of their cosines and sines), in nats."""
        linear, cosine, sine = self._parts(params)
        x_linear, x_cosine, x_sine = self._parts(x)
        length = _length(cosine, sine)
        along, across = cosine * x_cosine + sine * x_sine, cosine * x_sine - sine * x_cosine
        # length - along, without the cancellation that a sharp peak would meet.
        ahead = along > 0
        lag = jnp.where(ahead, across**2 / jnp.where(ahead, length + along, 1), length - along)
        factor = self._factor()
        angular = -factor * lag - math.log(2 * math.pi) - _log_bessel(factor * length)
        return self.linear.log_prob(linear, x_linear) + jnp.sum(angular)

    def mean(self, params: Params) -> Features:
        """Means of the numbers; cosines and sines of the mean angles."""
        linear, cosine, sine = self._parts(params)
        return jnp.concatenate([linear, *_unit(cosine, sine)])

    def sample(self, params: Params, key: Key) -> Features:
        """Means with independent noise; cosines and sines of angles all the same."""
        linear_key, angle_key = jax.random.split(key)
        linear, cosine, sine = self._parts(params)
        c, s = _von_mises(self._factor() * _length(cosine, sine), angle_key)
        cosine, sine = _unit(cosine, sine)
        return jnp.concatenate([self.linear.sample(linear, linear_key), cosine * c - sine * s, sine * c + cosine * s])

    def n_params(self, n_features: int) -> int:
        """One mean a number, one vector an angle."""
        return n_features

    def _factor(self) -> Angles:
        """Concentrations for vectors of length one."""
        return self.angular.width() ** -2

    def _parts(self, x: Features) -> tuple[Numbers, Angles, Angles]:
        n_linear, n_angles = len(self.linear.scale), len(self.angular.scale)
        return x[:n_linear], x[n_linear : n_linear + n_angles], x[n_linear + n_angles :]


def _length(cosine: Angles, sine: Angles) -> Angles:
    squared = cosine**2 + sine**2
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1)), 0)


def _unit(cosine: Angles, sine: Angles) -> tuple[Angles, Angles]:
    """Vectors of length one; the angle of a vector without length is zero."""
    length = _length(cosine, sine)
    positive = length > 0
    length = jnp.where(positive, length, 1)
    return jnp.where(positive, cosine / length, 1), sine / length


def _log_bessel(concentration: Angles) -> Angles:
    """Logarithm of exp(-k) I0(k)."""
    large = concentration > _LARGE
    k = jnp.where(large, concentration, _LARGE)
    series = jnp.log1p((1 / 8 + (9 / 128 + 225 / 3072 / k) / k) / k) - 0.5 * jnp.log(2 * math.pi * k)
    return jnp.where(large, series, jnp.log(jax.scipy.special.i0e(jnp.where(large, _LARGE, concentration))))


def _von_mises(concentration: Angles, key: Key) -> tuple[Angles, Angles]:
    """Cosines and sines of angles about zero, by rejection from a wrapped Cauchy density (doi:10.2307/2346732).

    In terms of ``d = r - 1`` and of the squared sine of half the angle, so that nothing cancels where the density is
    sharp.
    """
    k = jnp.maximum(concentration, 1e-6)
    root = jnp.sqrt(1 + 4 * k**2)
    tau = jnp.sqrt(1 + root)
    rho = 2 * k * tau / ((tau + math.sqrt(2)) * (1 + root))
    below_one = jnp.where(k > 1, (math.sqrt(2) * tau - 1 - 1 / (2 * k + root)) / (2 * k), 1 - rho)
    d = below_one**2 / (2 * rho)

    def propose(carry):
        i, half, found = carry
        first, second = jax.random.uniform(jax.random.fold_in(key, i), (2, len(k)), k.dtype)
        proposed = d * jnp.sin(math.pi / 2 * first) ** 2 / (d + 2 * jnp.cos(math.pi / 2 * first) ** 2)
        c = k * (d + 2 * proposed)
        accepted = jnp.log(c) - jnp.log(jnp.maximum(second, jnp.finfo(k.dtype).tiny)) + 1 - c >= 0
        return i + 1, jnp.where(found, half, proposed), found | accepted

    start = (0, jnp.zeros_like(k), jnp.zeros(k.shape, bool))
    _, half, _ = jax.lax.while_loop(lambda carry: (carry[0] < _ROUNDS) & ~jnp.all(carry[2]), propose, start)
    sign = jax.random.rademacher(jax.random.fold_in(key, _ROUNDS), k.shape, k.dtype)
    return 1 - 2 * half, 2 * sign * jnp.sqrt(half * (1 - half))
