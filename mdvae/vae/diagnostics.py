"""What the latent space does: who carries information, and whether the prior is where the encoded data are.

The mean of the posterior means and the mean of the posterior widths do not tell. About 0 and 1 they look like a prior
well met, and are what a collapsed posterior gives, in which z says nothing about x. A small mean width looks like sharp
knowledge, and hides that the posteriors together may cover what the prior does not, or the other way round. So the
numbers here are of the posteriors together, the aggregate posterior (doi:10.48550/arXiv.1511.05644), and the KL
divergence is taken apart into what z says about x and how far the aggregate is from the prior
(M. D. Hoffman and M. J. Johnson, ELBO surgery, NIPS 2016 workshop on approximate inference).
"""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdvae._types import Key
from mdvae.distributions import DiagonalNormal, kl_by_component
from mdvae.vae.likelihoods import Categorical
from mdvae.vae.vae import VAE

# Share of a dimension's spread that comes from its posterior means, below which it is dead: with a standard normal
# prior the usual bound on their variance (doi:10.48550/arXiv.1509.00519, section 5.2).
_ACTIVE = 0.01
# Nats. Below, z says nothing to speak of; above, samples of the prior show that they are not from the encoded data: at
# 0.1 nats up to a fifth of them would have to be others (Pinsker's inequality).
_COLLAPSED, _FAR = 0.1, 0.1
# Examples that stand for all: the mutual information takes their square.
_MOST = 2048
_PRIOR_SAMPLES = 8192


@dataclasses.dataclass(frozen=True, eq=False)
class Diagnostics:
    """State of a latent space; every number in nats unless said otherwise.

    Parameters
    ----------
    n_examples : int
        That stand for the training data.
    kl : float
        Mean KL divergence from prior to posterior.
    kl_by_dimension : (latent_dim,)
        The same for each dimension by itself, against a normal distribution of the prior's mean and variance there.
    active : (latent_dim,)
        Whether at least 1 % of the dimension's variance is that of posterior means.
    mutual_information, mutual_information_most : float
        Between x and z: what of the KL is knowledge. A lower bound, which cannot exceed the logarithm of the number of
        examples, and an upper one (doi:10.48550/arXiv.1905.06922).
    reconstruction : float
        Of held-out examples: see ``reconstruction_unit``.
    reconstruction_unit : str
    posterior_std : (latent_dim,)
        Mean over the examples; with the aggregate mean the pair that misleads.
    aggregate_mean, prior_mean : (latent_dim,)
    aggregate_covariance, prior_covariance : (latent_dim, latent_dim)
        Of the aggregate posterior and of the prior, in latent units.
    """

    n_examples: int
    kl: float
    kl_by_dimension: Float[np.ndarray, " latent_dim"]
    active: Bool[np.ndarray, " latent_dim"]
    mutual_information: float
    mutual_information_most: float
    reconstruction: float
    reconstruction_unit: str
    posterior_std: Float[np.ndarray, " latent_dim"]
    aggregate_mean: Float[np.ndarray, " latent_dim"]
    aggregate_covariance: Float[np.ndarray, "latent_dim latent_dim"]
    prior_mean: Float[np.ndarray, " latent_dim"]
    prior_covariance: Float[np.ndarray, "latent_dim latent_dim"]

    @property
    def collapsed(self) -> bool:
        """Whether z says nothing about x."""
        return self.mutual_information_most < _COLLAPSED

    @property
    def mismatch(self) -> float:
        """KL divergence from the prior to the aggregate posterior, at least.

        What of the KL cannot be knowledge; or, where the examples are too few to tell, the part that means and
        covariances show, beyond what they would show by chance.
        """
        return max(0.0, self.kl - self.mutual_information_most, self._moments_apart())

    @property
    def findings(self) -> list[str]:
        """What is wrong and what to try, a sentence each; none if nothing was found."""
        if self.collapsed:
            return [
                f"The posterior has collapsed: z says nothing about x ({self.mutual_information_most:.2f} nats), and "
                "every reconstruction is the mean of the data. Try a smaller beta, warmup_epochs, n_cycles or "
                "free_bits."
            ]
        found = []
        dead = [str(i + 1) for i in np.flatnonzero(~self.active)]
        if dead:
            several = "s" if len(dead) > 1 else ""
            found.append(
                f"Latent dimension{several} {', '.join(dead)} {'are' if several else 'is'} dead and carr"
                f"{'y' if several else 'ies'} nothing: {int(self.active.sum())} would do as latent_dim. To bring "
                f"{'them' if several else 'it'} to life try a smaller beta, warmup_epochs, n_cycles or free_bits."
            )
        if self.mismatch > _FAR:
            found.append(
                f"The encoded data are not where the prior is (at least {self.mismatch:.2f} nats apart; "
                f"standard deviations {_short(np.sqrt(np.diag(self.aggregate_covariance)))} against "
                f"{_short(np.sqrt(np.diag(self.prior_covariance)))}): what is generated from it is not distributed as "
                "the data. Try fit_prior, a learned prior ('mixture', 'vamp' or 'flow'), or a larger beta."
            )
        return found

    def __str__(self) -> str:
        active, n = int(self.active.sum()), len(self.active)
        least, most = f"{self.mutual_information:.2f}", f"{self.mutual_information_most:.2f}"
        information = least if least == most else f"{least} to {most}"
        lines = [
            f"KL {self.kl:.2f} nats, by dimension {_short(self.kl_by_dimension)}; {active} of {n} active",
            f"mutual information {information} nats",
            f"aggregate posterior: mean {_short(self.aggregate_mean)}, standard deviation "
            f"{_short(np.sqrt(np.diag(self.aggregate_covariance)))}",
            f"prior:               mean {_short(self.prior_mean)}, standard deviation "
            f"{_short(np.sqrt(np.diag(self.prior_covariance)))};",
            f"                     at least {self.mismatch:.2f} nats from the aggregate",
            f"reconstruction of held-out data {self.reconstruction:.4g} {self.reconstruction_unit}",
        ]
        return "\n".join(lines + (self.findings or ["Nothing wrong was found."]))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        plain = dataclasses.asdict(self)
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in plain.items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Diagnostics":
        """Diagnostics from plain data."""
        fields: dict[str, Any] = {k: np.asarray(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**fields)

    def _moments_apart(self) -> float:
        """KL divergence between normal distributions with the moments of aggregate and prior, less its mean by chance.

        Under a normal prior it is a lower bound of the true one: what is left is the divergence of the aggregate from
        the normal distribution with its own moments. Of n examples of the prior itself it is d (d + 3) / (4 n) on
        average, half the number of moments over n.
        """
        ratio = np.linalg.solve(self.prior_covariance, self.aggregate_covariance)
        apart = self.aggregate_mean - self.prior_mean
        squares = np.trace(ratio) + apart @ np.linalg.solve(self.prior_covariance, apart)
        by_chance = len(apart) * (len(apart) + 3) / (4 * self.n_examples)
        return float(0.5 * (squares - len(apart) - np.linalg.slogdet(ratio)[1]) - by_chance)


def _short(values: Float[np.ndarray, " n"]) -> str:
    """Up to eight numbers, and the range of more."""
    if len(values) > 8:
        return f"{values.min():.2f} to {values.max():.2f}"
    return ", ".join(f"{value:.2f}" for value in values)


def diagnose(
    vae: VAE, x: Float[Array | np.ndarray, "n n_features"], *, reconstruction: tuple[float, str], key: Key
) -> Diagnostics:
    """Look at the latent space of a trained model.

    Parameters
    ----------
    vae : VAE
    x : (n, n_features)
        Training examples; of more than 2048, evenly spaced ones.
    reconstruction : float and str
        Error on held-out examples and its unit, as from `reconstruction_error`.
    key : PRNG key

    Returns
    -------
    Diagnostics
    """
    chosen = jnp.asarray(x[evenly(len(x))])
    error, unit = reconstruction
    kl, by_dimension, least, most, means, variances, prior_mean, prior_covariance = (
        np.asarray(part, np.float64) for part in _measured(vae, chosen, key)
    )
    variance_of_means = means.var(axis=0)
    # The law of total covariance.
    covariance = np.cov(means.T, bias=True).reshape(2 * means.shape[1:]) + variances.mean(axis=0)
    return Diagnostics(
        n_examples=len(chosen),
        kl=float(kl),
        kl_by_dimension=by_dimension,
        active=variance_of_means > _ACTIVE * np.diag(covariance),
        mutual_information=float(max(least, 0)),
        # No more of the KL can be knowledge than all of it.
        mutual_information_most=float(np.clip(most, max(least, 0), max(kl, least, 0))),
        reconstruction=float(error),
        reconstruction_unit=unit,
        posterior_std=np.sqrt(np.diagonal(variances, axis1=1, axis2=2)).mean(axis=0),
        aggregate_mean=means.mean(axis=0),
        aggregate_covariance=covariance,
        prior_mean=prior_mean,
        prior_covariance=prior_covariance,
    )


def evenly(n: int) -> Int[np.ndarray, " n_chosen"]:
    """Indices of the examples, among n, that stand for all.

    Parameters
    ----------
    n : int
    """
    return np.unique(np.linspace(0, n - 1, min(n, _MOST)).astype(int))


@eqx.filter_jit
def _measured(vae: VAE, x: Float[Array, "n n_features"], key: Key) -> tuple[Array, ...]:
    prior = vae.prior_distribution()
    prior_key, key = jax.random.split(key)
    if isinstance(prior, DiagonalNormal):
        prior_mean, prior_covariance = prior.mean, prior.covariance()
    else:
        samples = jax.vmap(prior.sample)(jax.random.split(prior_key, _PRIOR_SAMPLES))
        prior_mean = jnp.mean(samples, axis=0)
        prior_covariance = (samples - prior_mean[None]).T @ (samples - prior_mean[None]) / _PRIOR_SAMPLES
    alike = DiagonalNormal(prior_mean, 0.5 * jnp.log(jnp.diag(prior_covariance)))
    posteriors = jax.vmap(vae.encoder)(x)
    variances = jax.vmap(lambda posterior: posterior.covariance())(posteriors)

    def one(inputs):
        i, posterior, key = inputs
        z, log_posterior = posterior.sample_and_log_prob(key)
        each = jax.vmap(lambda other: other.log_prob(z))(posteriors)
        log_aggregate = jax.scipy.special.logsumexp(each) - math.log(len(x))
        others = jax.scipy.special.logsumexp(each.at[i].set(-jnp.inf)) - math.log(max(len(x) - 1, 1))
        by_itself = DiagonalNormal(posterior.mean, 0.5 * jnp.log(jnp.diag(posterior.covariance())))
        by_dimension = kl_by_component(by_itself, alike)
        bounds = log_posterior - log_aggregate, log_posterior - others
        return log_posterior - prior.log_prob(z), by_dimension, *bounds

    inputs = jnp.arange(len(x)), posteriors, jax.random.split(key, len(x))
    kl, by_dimension, least, most = jax.lax.map(one, inputs, batch_size=64)
    mean_kl, mean_by_dimension = jnp.mean(kl), jnp.mean(by_dimension, axis=0)
    if isinstance(prior, DiagonalNormal) and isinstance(posteriors, DiagonalNormal):
        mean_kl = jnp.sum(mean_by_dimension)
    return (
        mean_kl,
        mean_by_dimension,
        jnp.mean(least),
        jnp.mean(most),
        posteriors.mean,
        variances,
        prior_mean,
        prior_covariance,
    )


@eqx.filter_jit
def _root_mean_square(vae: VAE, x: Float[Array, "n n_features"]) -> Array:
    return jnp.sqrt(jnp.mean((jax.vmap(lambda one: vae.decode(vae.encode(one)))(x) - x) ** 2))


@eqx.filter_jit
def _share_wrong(vae: VAE, x: Float[Array, "n n_features"]) -> Array:
    decoded = jax.vmap(lambda one: vae.decode(vae.encode(one)))(x)
    return jnp.mean(jnp.argmax(decoded, axis=1) != jnp.argmax(x, axis=1))


def reconstruction_error(vae: VAE, x: Float[Array | np.ndarray, "n n_features"]) -> tuple[float, str]:
    """How far examples are from what is decoded of their posterior means, and in which unit.

    Parameters
    ----------
    vae : VAE
    x : (n, n_features)
        Best examples that were not trained on.

    Returns
    -------
    float, str
        Root mean square over features; for classes the share that comes out as another.
    """
    x = jnp.asarray(x)
    if isinstance(vae.likelihood, Categorical):
        return float(_share_wrong(vae, x)), "of the classes come out as another"
    return float(_root_mean_square(vae, x)), "(root mean square of a feature, in the data's unit)"
