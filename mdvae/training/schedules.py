"""How beta and the learning rate move during training."""

from collections.abc import Callable

import jax.numpy as jnp
import optax

from mdvae.vae import AbstractObjective, NegativeELBO, Penalized


def warmed_up(beta: float, n_steps: int) -> Callable[..., NegativeELBO]:
    """Objective by training step, its beta rising in a straight line from 0 to its value.

    Reconstruction comes first; a full KL from the start may close latent dimensions before the decoder has
    learned to use them (doi:10.48550/arXiv.1511.06349).

    Parameters
    ----------
    beta : float
    n_steps : int
        Length of the rise; 0 for none.
    """
    return lambda step: NegativeELBO(beta * jnp.clip((step + 1) / max(n_steps, 1), 0.0, 1.0))


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
    return lambda step: Penalized(objective(step), penalty, weight * jnp.clip((step + 1) / max(n_steps, 1), 0.0, 1.0))


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
