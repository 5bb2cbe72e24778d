"""From parameters and examples to trained parameters: the loop, and once more with a falling learning rate."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import optax

from mdvae._types import Key
from mdvae.history import History
from mdvae.training.feed import AbstractFeed
from mdvae.training.loop import Module, Progress, optimize
from mdvae.training.schedules import learning_rate_schedule
from mdvae.training.settings import Plan
from mdvae.vae import AbstractObjective

# Its steps are as long as they are; the learning rate comes from a schedule.
_ADAM = optax.adam(1.0)


def descend(
    module: Module,
    feed: AbstractFeed,
    *,
    objective: Callable[..., AbstractObjective],
    plan: Plan,
    key: Key,
    augment: Callable | None = None,
    progress: Progress | None = None,
) -> tuple[Module, History]:
    """Train until it gets no better, then cool down.

    Parameters
    ----------
    module : VAE, or what else the objective judges
    feed : AbstractFeed
        Training and held-out examples.
    objective : callable
        Training step to objective.
    plan : Plan
    key : PRNG key
    augment : callable, optional
        See `optimize`.
    progress : callable, optional
        See `optimize`.

    Returns
    -------
    module : as given
    history : History
    """
    n_steps = plan.epochs * plan.steps_per_epoch
    learning_rate = float(plan.settings.learning_rate)
    schedule = learning_rate_schedule(learning_rate, n_steps)
    loop = functools.partial(
        optimize,
        feed=feed,
        key=key,
        objective=objective,
        optimizer=_ADAM,
        augment=augment,
        progress=progress,
    )
    module, history = loop(
        module,
        learning_rate=schedule,
        n_epochs=plan.epochs,
        patience=plan.patience,
        settled=plan.settled,
    )
    left = plan.epochs - history.n_epochs
    if not left or history.interrupted:
        return module, history
    n_cool = min(left, max(10, (history.best_epoch + 1) // 2))
    # Not faster than training had come to be by itself.
    reached = float(np.asarray(schedule((history.best_epoch + 1) * plan.steps_per_epoch)))
    return _cooled(loop, module, history, plan, min(learning_rate / 2, reached), n_cool)


def _cooled(
    loop: Callable[..., tuple[Module, History]],
    module: Module,
    history: History,
    plan: Plan,
    learning_rate: float,
    n_epochs: int,
) -> tuple[Module, History]:
    """Go on from the best epoch with a learning rate that falls to nothing.

    Early stopping ends a training while its steps are still large; half as many epochs with ever smaller ones find what
    they stepped over. Epochs are counted from where the plan ends, so that the objective is the final one.
    """
    first = plan.epochs * plan.steps_per_epoch
    schedule = optax.cosine_decay_schedule(learning_rate, n_epochs * plan.steps_per_epoch, alpha=0.01)
    total = history.n_epochs + n_epochs
    try:
        cool, more = loop(
            module,
            learning_rate=lambda step: schedule(step - first),
            n_epochs=n_epochs,
            patience=n_epochs,
            first_epoch=plan.epochs,
        )
    except KeyboardInterrupt:
        return module, dataclasses.replace(history, stopped=f"interrupted in epoch {history.n_epochs + 1} of {total}")
    except FloatingPointError:
        # What was found before is whole.
        return module, dataclasses.replace(history, stopped=f"{history.stopped}; then the loss became infinite")
    together = history.followed_by(more)
    return (cool if together.best_epoch >= history.n_epochs else module), together
