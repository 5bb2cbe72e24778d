"""How beta and the learning rate move during training."""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from mdvae._types import Scalar
from mdvae.vae import AbstractObjective, NegativeELBO, Penalized, Slow

Schedule = Callable[..., Scalar]


def warmup(peak: float, n_steps: int) -> Schedule:
    """Number by training step, rising in a straight line from 0 to its peak.

    Reconstruction comes first; a full KL from the start may close latent dimensions before the decoder has
    learned to use them (doi:10.48550/arXiv.1511.06349).

    Parameters
    ----------
    peak : float
    n_steps : int
        Length of the rise; 0 for none.
    """
    return Partial(_rise, jnp.asarray(peak, jnp.float32), jnp.asarray(max(n_steps, 1), jnp.float32))


def _rise(peak, n_steps, step) -> Scalar:
    return (peak * jnp.clip((step + 1) / n_steps, 0.0, 1.0)).astype(jnp.float32)


def cyclical(peak: float, n_steps: int, n_cycles: int) -> Schedule:
    """Number by training step that rises again and again: over half of each cycle, to stay there for the other half.

    Every rise is another chance for a latent dimension that the last one has closed (doi:10.48550/arXiv.1903.10145).

    Parameters
    ----------
    peak : float
    n_steps : int
        Of all cycles together; from then on the number is at its peak.
    n_cycles : int
    """
    return Partial(_rise_again, jnp.asarray(peak, jnp.float32), jnp.asarray(n_steps), jnp.asarray(n_cycles))


def _rise_again(peak, n_steps, n_cycles, step) -> Scalar:
    length = n_steps / n_cycles
    share = jnp.where(step < n_steps, (step % length + 1) / length, 1.0)
    return (peak * jnp.clip(2 * share, 0.0, 1.0)).astype(jnp.float32)


def elbo_by_step(beta: Schedule, free_bits: float) -> Callable[..., AbstractObjective]:
    """Negative ELBO by training step.

    Parameters
    ----------
    beta : callable
        Training step to beta.
    free_bits : float
        See `NegativeELBO`.
    """
    return Partial(_elbo, beta, free_bits)


def _elbo(beta, free_bits, step) -> AbstractObjective:
    return NegativeELBO(beta(step), free_bits)


def slow_by_step(objective: Callable[..., AbstractObjective], weight: float) -> Callable[..., AbstractObjective]:
    """The same objective by training step, less the VAMP-2 score.

    Parameters
    ----------
    objective : callable
        Training step to objective.
    weight : float
        See `Slow`.
    """
    return Partial(_slow, objective, jnp.asarray(weight, jnp.float32))


def _slow(objective, weight, step) -> AbstractObjective:
    return Slow(objective(step), weight)


def annealed(
    objective: Callable[..., AbstractObjective], penalty: Callable, weight: float, n_steps: int
) -> Callable[..., AbstractObjective]:
    """The same objective by training step, with a penalty whose weight rises in a straight line from 0 to its value.

    Parameters
    ----------
    objective : callable
        Training step to objective.
    penalty : callable
        See `Penalized`.
    weight : float
    n_steps : int
        Length of the rise.
    """
    rise = warmup(weight, n_steps)
    # The penalty is no PyTree of numbers: its shapes hang on what it knows of the molecule.
    return lambda step: Penalized(objective(step), penalty, rise(step))


def learning_rate_schedule(peak: float, n_steps: int) -> optax.Schedule:
    """Short linear rise, then a cosine to a hundredth of the peak (doi:10.48550/arXiv.1608.03983).

    Parameters
    ----------
    peak : float
    n_steps : int
        Of the whole training.
    """
    rise = min(200, n_steps // 20)
    return optax.warmup_cosine_decay_schedule(
        peak / 10 if rise else peak, peak, rise, max(n_steps, rise + 1), end_value=peak / 100
    )
