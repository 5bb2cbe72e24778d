"""How likely examples are under a model: the integral over latent space, by sampling."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mdvae._types import Key, Whole
from mdvae.vae.likelihoods import SquaredError
from mdvae.vae.objectives import surprise_and_kl
from mdvae.vae.vae import VAE

PerExample = Float[np.ndarray, " n"]

# Decoded points at a time: this many vectors of all hidden layers are held at once.
_AT_ONCE = 2**15
# Effective latent points with which a standard error means something.
_ENOUGH = 10.0


@dataclasses.dataclass(frozen=True, eq=False)
class LogLikelihood:
    """Estimates of ``log p(x)``, in nats an example.

    Parameters
    ----------
    n_samples : int
        Latent points an example.
    elbo : (n,)
        Evidence lower bound: the mean of the logarithms of the importance weights.
    estimate, standard_error, effective : (n,)
        By importance sampling from the posterior: the logarithm of the mean of the weights, its standard error from
        their spread (to first order; NaN for one sample), and how many equal weights would spread as much
        (doi:10.48550/arXiv.1602.03572). Where few weights dominate, below about ten, the estimate is too small by more
        than the error knows of.
    from_prior, from_prior_error, from_prior_effective : (n,)
        The same by plain sampling from the prior.
    """

    n_samples: int
    elbo: PerExample
    estimate: PerExample
    standard_error: PerExample
    effective: PerExample
    from_prior: PerExample
    from_prior_error: PerExample
    from_prior_effective: PerExample

    def __str__(self) -> str:
        rows = {
            "importance sampling": (self.estimate, self.standard_error, self.effective),
            "sampling from the prior": (self.from_prior, self.from_prior_error, self.from_prior_effective),
        }
        n = len(self.elbo)
        lines = [f"log-likelihood, nats an example, {self.n_samples} latent points each, mean over {n} examples"]
        lines.append(f"  {'evidence lower bound':<24}{self.elbo.mean():12.3f}")
        for name, (values, errors, effective) in rows.items():
            enough = np.median(effective) >= _ENOUGH
            error = f" ± {_error_of_mean(errors):.3f}" if enough else ", too small: a few points say it all"
            lines.append(f"  {name:<24}{values.mean():12.3f}{error} ({np.median(effective):.1f} effective points)")
        return "\n".join(lines)


def _error_of_mean(errors: PerExample) -> float:
    """Of independent errors; how examples differ from one another does not enter."""
    return float(np.sqrt((errors**2).sum()) / len(errors))


def log_likelihood(vae: VAE, x: Float[Any, "n n_features"], n_samples: Whole, *, key: Key) -> LogLikelihood:
    """Log-likelihood of examples, by importance sampling and by plain sampling.

    Both are means over latent points z of something whose expectation is p(x):

        plain:       p(x|z),                 z from the prior p(z)
        importance:  p(x|z) p(z) / q(z|x),   z from the posterior q(z|x)

    Why the second wins: p(x|z) is a narrow peak in z, the narrower the better the model reconstructs. Of K draws from
    the prior about ``K exp(-KL(q||p))`` fall into it, at 10 nats less than one in 20 000; as long as none does, the
    mean has missed all of the integral, and its spread does not show that. Draws from the posterior fall into it, and
    the weights differ only as far as q differs from the true posterior (doi:10.48550/arXiv.1509.00519); a q that is
    too narrow leaves something out, too, and less of it the more draws there are. Either logarithm is too small on
    average: by half its squared standard error as long as no few weights dominate, and by any amount once they do.

    Parameters
    ----------
    vae : VAE
        With a likelihood that is a density.
    x : (n, n_features)
    n_samples : int
        Latent points an example.
    key : PRNG key

    Returns
    -------
    LogLikelihood

    Raises
    ------
    ValueError, TypeError
        For a squared error, which is no density, and for fewer than one sample.
    """
    check_samples(vae, n_samples)
    x = np.asarray(x, np.float32)
    n_rows = max(1, _AT_ONCE // n_samples)
    keys = np.asarray(jax.random.key_data(jax.random.split(key, len(x))))
    parts = [_of_block(vae, x[i : i + n_rows], keys[i : i + n_rows], int(n_samples)) for i in range(0, len(x), n_rows)]
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    return LogLikelihood(int(n_samples), *(np.asarray(column, np.float64) for column in columns))


def check_samples(vae: VAE, n_samples: Whole) -> None:
    """Refuse a likelihood that is no density, and a number of samples that is none.

    Raises
    ------
    ValueError, TypeError
    """
    if isinstance(vae.likelihood, SquaredError):
        raise ValueError("a squared error is no density and gives no log-likelihood; use a Gaussian likelihood")
    if isinstance(n_samples, bool) or not hasattr(n_samples, "__index__"):
        raise TypeError(f"n_samples must be a whole number, got {n_samples!r}")
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}")


@eqx.filter_jit
def _of_block(vae: VAE, x: ArrayLike, key_data: ArrayLike, n_samples: int) -> tuple:
    prior = vae.prior_distribution()

    def one(x, data):
        posterior_key, prior_key = jax.random.split(jax.random.wrap_key_data(data))
        surprise, kl = surprise_and_kl(vae, prior, x, posterior_key, n_samples)
        z = jax.vmap(prior.sample)(jax.random.split(prior_key, n_samples))
        plain = jax.vmap(lambda z: vae.likelihood.log_prob(vae.decoder(z), x))(z)
        return jnp.mean(-surprise - kl), *_log_mean(-surprise - kl), *_log_mean(plain)

    return jax.vmap(one)(x, key_data)


def _log_mean(log_weights: Float[Array, " n_samples"]) -> tuple[Array, Array, Array]:
    """Logarithm of the mean of the weights, its standard error (the delta method), and their effective number."""
    n = len(log_weights)
    shares = jax.nn.softmax(log_weights)
    error = jnp.sqrt(n / (n - 1) * jnp.sum((shares - 1 / n) ** 2)) if n > 1 else jnp.nan
    log_mean = jax.scipy.special.logsumexp(log_weights) - math.log(n)
    return log_mean, jnp.asarray(error, log_weights.dtype), 1 / jnp.sum(shares**2)
