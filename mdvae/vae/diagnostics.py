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
from scipy.special import digamma

from mdvae._types import Key
from mdvae.distributions import AbstractNormal, DiagonalNormal, kl_at_sample, kl_by_component
from mdvae.vae.likelihoods import Categorical
from mdvae.vae.vae import VAE

# Share of a dimension's spread that comes from its posterior means, below which it is dead: with a standard normal
# prior the usual bound on their variance (doi:10.48550/arXiv.1509.00519, section 5.2).
_ACTIVE = 0.01
# Nats. Below, z says nothing to speak of: it does not narrow x down to four fifths of what there is.
_COLLAPSED = 0.2
# Nats. Above, samples of the prior show that they are not from the encoded data: at 0.1 nats up to a fifth of them
# would have to be others (Pinsker's inequality).
_FAR = 0.1
# Examples that stand for all: the mutual information takes their square.
_MOST = 2048
_PRIOR_SAMPLES = 8192
_BATCH = 64
_BINS = 20
# Examples to either side that may be near twins of one, as a share of all: neighbors in time.
_NEIGHBORS = 20


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
        examples, and an upper one (doi:10.48550/arXiv.1905.06922), for which neighbors in time are left out.
    mismatch : float
        KL divergence from the prior to the aggregate posterior, at least: what of the KL cannot be knowledge; and where
        posteriors are so narrow that this says nothing, what one dimension alone shows, or, under a normal prior, the
        moments.
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
    mismatch: float
    reconstruction: float
    reconstruction_unit: str
    posterior_std: Float[np.ndarray, " latent_dim"]
    aggregate_mean: Float[np.ndarray, " latent_dim"]
    aggregate_covariance: Float[np.ndarray, "latent_dim latent_dim"]
    prior_mean: Float[np.ndarray, " latent_dim"]
    prior_covariance: Float[np.ndarray, "latent_dim latent_dim"]

    @property
    def collapsed(self) -> bool:
        """Whether z says next to nothing about x."""
        return self.mutual_information_most < _COLLAPSED

    @property
    def findings(self) -> list[str]:
        """What is wrong and what to try, a sentence each; none if nothing was found."""
        found = []
        dead = [str(i + 1) for i in np.flatnonzero(~self.active)]
        if self.collapsed:
            found.append(
                "The posterior has collapsed: z says next to nothing about x "
                f"({self.mutual_information_most:.2f} nats), and what is decoded hardly depends on it. "
                "Try a smaller beta, warmup_epochs, n_cycles or free_bits."
            )
        elif dead and self.active.any():
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


def _short(values: Float[np.ndarray, " n"]) -> str:
    """Up to eight numbers, and the range of more."""
    if len(values) > 8:
        return f"{values.min():.2f} to {values.max():.2f}"
    return ", ".join(f"{value:.2f}" for value in values)


def diagnose(
    vae: VAE,
    x: Float[Array | np.ndarray, "n n_features"],
    *,
    reconstruction: tuple[float, str],
    key: Key,
    weights: Float[np.ndarray, " n"] | None = None,
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
    weights : (n,), optional
        Of the examples: those that stand for all are then evenly spaced in weight.

    Returns
    -------
    Diagnostics
    """
    chosen = jnp.asarray(x[evenly(len(x), weights)])
    error, unit = reconstruction
    measured = _measured(vae, chosen, key)
    kl, by_dimension, least, most, means, variances, prior_mean, prior_covariance, z, drawn = (
        np.asarray(part, np.float64) for part in measured
    )
    least = max(float(least), 0.0)
    # No more of the KL can be knowledge than all of it.
    most = float(np.clip(most, least, max(float(kl), least)))
    variance_of_means = means.var(axis=0)
    # The law of total covariance.
    covariance = np.cov(means.T, bias=True).reshape(2 * means.shape[1:]) + variances.mean(axis=0)
    apart = [0.0, float(kl) - most, _marginals_apart(z, drawn)]
    if isinstance(vae.prior_distribution(), AbstractNormal):
        apart.append(_moments_apart(len(chosen), means.mean(axis=0), covariance, prior_mean, prior_covariance))
    return Diagnostics(
        n_examples=len(chosen),
        kl=float(kl),
        kl_by_dimension=by_dimension,
        active=variance_of_means > _ACTIVE * np.diag(covariance),
        mutual_information=least,
        mutual_information_most=most,
        mismatch=max(apart),
        reconstruction=float(error),
        reconstruction_unit=unit,
        posterior_std=np.sqrt(np.diagonal(variances, axis1=1, axis2=2)).mean(axis=0),
        aggregate_mean=means.mean(axis=0),
        aggregate_covariance=covariance,
        prior_mean=prior_mean,
        prior_covariance=prior_covariance,
    )


def _marginals_apart(z: Float[np.ndarray, "n latent_dim"], drawn: Float[np.ndarray, "m latent_dim"]) -> float:
    """KL divergence from the prior to the aggregate posterior, as one dimension in bins shows it; less that by chance.

    By the data-processing inequality it is no larger than the true one, for any prior.
    """
    if len(z) < 4 * _BINS:
        return 0.0
    largest = 0.0
    for ours, theirs in zip(z.T, drawn.T, strict=True):
        edges = np.quantile(theirs, np.linspace(0, 1, _BINS + 1)[1:-1])
        shares = np.bincount(np.searchsorted(edges, ours), minlength=_BINS) / len(ours)
        kept = shares > 0
        largest = max(largest, float(np.sum(shares[kept] * np.log(_BINS * shares[kept]))))
    n, k = len(z), _BINS - 1
    # Twice n times it is about chi-squared; the second term is three of its standard deviations.
    return largest - (k + 3 * math.sqrt(2 * k)) / (2 * n)


def _moments_apart(
    n: int,
    mean: Float[np.ndarray, " latent_dim"],
    covariance: Float[np.ndarray, "latent_dim latent_dim"],
    prior_mean: Float[np.ndarray, " latent_dim"],
    prior_covariance: Float[np.ndarray, "latent_dim latent_dim"],
) -> float:
    """KL divergence between normal distributions with the moments of aggregate and prior, less what is by chance.

    Under a normal prior it is a lower bound of the true one: what is left is the divergence of the aggregate from the
    normal distribution with its own moments. The chance of n examples of the prior itself is exact on average, from
    the distribution of Wishart, and two standard deviations to first order.
    """
    d = len(mean)
    if n <= 2 * (d + 1):
        return 0.0
    ratio, apart = np.linalg.solve(prior_covariance, covariance), mean - prior_mean
    squares = np.trace(ratio) + apart @ np.linalg.solve(prior_covariance, apart)
    by_chance = -0.5 * (digamma((n - np.arange(1, d + 1)) / 2).sum() + d * math.log(2 / n))
    spread = math.sqrt(d * (d + 3)) / (2 * n)
    return float(0.5 * (squares - d - np.linalg.slogdet(ratio)[1]) - by_chance - 2 * spread)


def evenly(n: int, weights: Float[np.ndarray, " n"] | None = None, most: int = _MOST) -> Int[np.ndarray, " n_chosen"]:
    """Indices of the examples, among n, that stand for all.

    Parameters
    ----------
    n : int
    weights : (n,), optional
        At least 0. Indices are then evenly spaced in the sum of the weights: what weighs much comes several times, what
        weighs nothing never (systematic resampling).
    most : int
        How many, unless there are fewer.
    """
    count = min(n, most)
    if weights is None:
        return np.unique(np.linspace(0, n - 1, count).astype(int))
    total = np.cumsum(weights, dtype=np.float64)
    return np.searchsorted(total, (np.arange(count) + 0.5) * (total[-1] / count), side="right")


@eqx.filter_jit
def _measured(vae: VAE, x: Float[Array, "n n_features"], key: Key) -> tuple[Array, ...]:
    prior = vae.prior_distribution()
    prior_key, key = jax.random.split(key)
    drawn = jax.vmap(prior.sample)(jax.random.split(prior_key, _PRIOR_SAMPLES))
    if isinstance(prior, AbstractNormal):
        prior_mean, prior_covariance = prior.mean, prior.covariance()
    else:
        prior_mean = jnp.mean(drawn, axis=0)
        prior_covariance = (drawn - prior_mean[None]).T @ (drawn - prior_mean[None]) / _PRIOR_SAMPLES
    alike = DiagonalNormal(prior_mean, 0.5 * jnp.log(jnp.diag(prior_covariance)))
    posteriors = jax.vmap(vae.encoder)(x)
    variances = jax.vmap(lambda posterior: posterior.covariance())(posteriors)

    def one(inputs):
        i, key = inputs
        posterior = jax.tree.map(lambda leaf: leaf[i], posteriors)
        z, log_posterior = posterior.sample_and_log_prob(key)
        each = jax.vmap(lambda other: other.log_prob(z))(posteriors)
        log_aggregate = jax.scipy.special.logsumexp(each) - math.log(len(x))
        far = jnp.abs(jnp.arange(len(x)) - i) > len(x) // _NEIGHBORS
        others = jax.scipy.special.logsumexp(jnp.where(far, each, -jnp.inf)) - jnp.log(jnp.sum(far))
        by_itself = DiagonalNormal(posterior.mean, 0.5 * jnp.log(jnp.diag(posterior.covariance())))
        by_dimension = kl_by_component(by_itself, alike)
        bounds = log_posterior - log_aggregate, log_posterior - others
        return kl_at_sample(posterior, prior, z, log_posterior), by_dimension, *bounds, z

    # Whole batches only, the first examples once more at the end: a rest would be compiled by itself.
    rows = jnp.arange(-(-len(x) // _BATCH) * _BATCH) % len(x)
    found = jax.lax.map(one, (rows, jax.random.split(key, len(rows))), batch_size=_BATCH)
    kl, by_dimension, least, most, z = (part[: len(x)] for part in found)
    means = (jnp.mean(part, axis=0) for part in (kl, by_dimension, least, most))
    return *means, posteriors.mean, variances, prior_mean, prior_covariance, z, drawn


@eqx.filter_jit
def _root_mean_square(vae: VAE, x: Float[Array, "n n_features"], target: Float[Array, "n n_features"]) -> Array:
    return jnp.sqrt(jnp.mean((jax.vmap(lambda one: vae.decode(vae.encode(one)))(x) - target) ** 2))


@eqx.filter_jit
def _share_wrong(vae: VAE, x: Float[Array, "n n_features"], target: Float[Array, "n n_features"]) -> Array:
    decoded = jax.vmap(lambda one: vae.decode(vae.encode(one)))(x)
    return jnp.mean(jnp.argmax(decoded, axis=1) != jnp.argmax(target, axis=1))


def reconstruction_error(
    vae: VAE,
    x: Float[Array | np.ndarray, "n n_features"],
    target: Float[Array | np.ndarray, "n n_features"] | None = None,
) -> tuple[float, str]:
    """How far examples are from what is decoded of their posterior means, and in which unit.

    Parameters
    ----------
    vae : VAE
    x : (n, n_features)
        Best examples that were not trained on.
    target : (n, n_features), optional
        Of a time-lagged model the later examples, to which what is decoded is compared; x if left out.

    Returns
    -------
    float, str
        Root mean square over features; for classes the share that comes out as another.
    """
    x = jnp.asarray(x)
    aim, which = (x, "") if target is None else (jnp.asarray(target), ", from the later example")
    if isinstance(vae.likelihood, Categorical):
        return float(_share_wrong(vae, x, aim)), f"of the classes come out as another{which}"
    return float(_root_mean_square(vae, x, aim)), f"(root mean square of a feature{which}, in the data's unit)"
