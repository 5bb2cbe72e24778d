"""The loop, and nothing else."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from mdvae._compiled import compiled
from mdvae._types import Key, Scalar
from mdvae.history import History
from mdvae.training.feed import AbstractFeed
from mdvae.vae import AbstractObjective, Examples

Module = TypeVar("Module", bound=eqx.Module)
Progress = Callable[[int, int, Mapping[str, float]], None]

# Validation runs in batches of this size, whatever the training batch: it needs no gradients.
_VALIDATION_BATCH = 1024
# Short rows, of no more bytes than this, are faster picked for all batches at once, where all of them have room, as
# have those of a block that is streamed.
_SHORT, _ROOM = 2**10, 2**27
# From so many parameters on, to copy what is about to change takes longer than to wait until it was last looked at.
_MANY = 2**16
_IN_PLACE = {"xla_cpu_copy_insertion_use_region_analysis": True}
# Mean over about this share of the epochs so far: what is judged and kept.
_AVERAGED = 0.1
_WORDS = {"reconstruction": "reconstruction", "kl": "KL"}


def optimize(
    module: Module,
    feed: AbstractFeed,
    *,
    objective: Callable[..., AbstractObjective],
    optimizer: optax.GradientTransformation,
    n_epochs: int,
    patience: int,
    key: Key,
    learning_rate: optax.Schedule | None = None,
    first_epoch: int = 0,
    settled: int = 0,
    augment: Callable | None = None,
    progress: Progress | None = None,
) -> tuple[Module, History]:
    """Train by stochastic gradients; return the parameters that did best on the held-out frames.

    Every epoch is a compiled scan over data on the device, shuffled by index: one where all of them fit, or one for
    each block. The held-out frames are judged at the final objective with the same noise after every epoch. What is
    judged, and returned, is a running mean of the parameters over about the last tenth of the epochs (polynomial-decay
    averaging, doi:10.48550/arXiv.1212.1824): nearer to the middle of what single steps scatter about.

    Parameters
    ----------
    module : VAE, or what else the objective judges
        Where to start; not changed.
    feed : AbstractFeed
        Training and held-out examples.
    objective : callable
        Training step (int) to objective, see `schedules`. What else it knows by its arrays, as a PyTree, may change
        without another compilation.
    optimizer : optax.GradientTransformation
    n_epochs : int
    patience : int
        Epochs without a better validation loss after which training stops.
    key : PRNG key
        The same key gives the same parameters, bit for bit, on the same machine.
    learning_rate : callable, optional
        Training step to a factor on what the optimizer makes of the gradient; 1 if left out.
    first_epoch : int
        Number of the first epoch, where training goes on: steps are counted from there, no random number is used twice,
        and the held-out frames are judged with the same noise as before.
    settled : int
        Epochs before this one are not judged: the objective is still on its way to the final one, by which the held-out
        frames are judged, and the parameters kept are the latest.
    augment : callable, optional
        Example (n_features,) and key to another example; applied to each one anew in every epoch, never to held-out
        ones, and to both ends of a pair with the same key.
    progress : callable, optional
        Called after each epoch with epochs done, epochs planned, and the epoch's terms.

    Returns
    -------
    module : as given
    history : History

    Raises
    ------
    FloatingPointError
        If the loss stops being finite.

    Notes
    -----
    Ctrl-C stops training and returns the best parameters so far; before the first epoch has ended there
    are none, and it is raised.
    """
    started = time.perf_counter()
    n_steps = feed.n_steps
    # Donated buffers are overwritten; the caller's parameters must survive.
    params, static = eqx.partition(jax.tree.map(_copied, module), eqx.is_inexact_array)
    params, state = feed.everywhere((params, jax.jit(optimizer.init)(params)))
    take_steps = _take_steps_in_place if sum(leaf.size for leaf in jax.tree.leaves(params)) >= _MANY else _take_steps
    fixed = _Fixed(static, objective, optimizer, augment)
    final = objective((first_epoch + n_epochs) * n_steps)
    validation_key = jax.random.fold_in(key, 0)
    factors = jax.jit(learning_rate or jnp.ones_like)

    average = jax.tree.map(_copied, params)
    best_epoch, best_params = 0, average
    records: list[dict[str, float]] = []
    stopped = f"all {n_epochs} epochs done"
    try:
        for epoch in range(n_epochs):
            number = first_epoch + epoch
            shuffle_key, noise_key = jax.random.split(jax.random.fold_in(key, number + 1))
            done, parts, judged = number * n_steps, _Mean(), _Mean()
            for data, rows in feed.shuffled(shuffle_key):
                steps = done + jnp.arange(len(rows))
                given = _Given(data, rows, steps, factors(steps).astype(jnp.float32), noise_key)
                params, state, terms = take_steps((fixed, given), params, state)
                parts.add(terms, len(rows))
                done += len(rows)
            average = _mixed(average, params, 1 / (1 + _AVERAGED * epoch))
            for data, rows in feed.held_out(_VALIDATION_BATCH):
                first = jnp.asarray(judged.weight // _VALIDATION_BATCH)
                judged.add(_validate(final, average, static, data, rows, first, validation_key), len(rows))
            record = parts.value()
            record |= {f"validation_{name}": value for name, value in judged.value().items() if name != "beta"}
            _check_finite(record, records)
            better = epoch <= settled or record["validation_loss"] < records[best_epoch]["validation_loss"]
            best = (epoch, average) if better else (best_epoch, best_params)
            # In one statement: Ctrl-C may come between any two, and record and parameters belong together.
            records, (best_epoch, best_params) = [*records, record], best
            if progress is not None:
                progress(epoch + 1, n_epochs, record)
            if epoch - best_epoch >= patience:
                stopped = f"no better validation loss for {patience} epochs"
                break
    except KeyboardInterrupt:
        if not records:
            raise
        stopped = f"interrupted in epoch {len(records) + 1} of {n_epochs}"
    terms = {name: np.array([record[name] for record in records]) for name in records[0]}
    seconds = time.perf_counter() - started
    history = History(terms, best_epoch, stopped, feed.n_training, feed.n_validation, seconds)
    return eqx.combine(best_params, static), history


class _Fixed(NamedTuple):
    """What is the same in every epoch."""

    static: Any
    objective: Callable[..., AbstractObjective]
    optimizer: optax.GradientTransformation
    augment: Callable | None


class _Given(NamedTuple):
    """What is another in every block: examples, batches of their rows, numbers of the steps, factors on the updates."""

    data: Array | Examples
    rows: Int[Array, "n_steps batch_size"]
    steps: Int[Array, " n_steps"]
    factors: Float[Array, " n_steps"]
    key: Key


class _Mean:
    """Mean terms of blocks of different sizes; nothing is waited for before it is asked for."""

    def __init__(self) -> None:
        self._parts: list[tuple[Mapping[str, Scalar], int]] = []
        self.weight = 0

    def add(self, terms: Mapping[str, Scalar], weight: int) -> None:
        if self._parts:
            # Blocks must not pile up before a device that is slower than the disk.
            jax.block_until_ready(self._parts[-1])
        self._parts.append((terms, weight))
        self.weight += weight

    def value(self) -> dict[str, float]:
        names = self._parts[0][0]
        return {name: sum(float(terms[name]) * w for terms, w in self._parts) / self.weight for name in names}


def _steps(known: tuple[_Fixed, _Given], params, state) -> tuple[Any, Any, dict[str, Scalar]]:
    """Gradient steps, a batch each; parameters and optimizer state are overwritten."""
    fixed, given = known
    together = _row_bytes(given.data) <= min(_SHORT, _ROOM / given.rows.size)
    batches = _picked(given.data, given.rows) if together else given.rows

    def loss(params, step, batch, key):
        return fixed.objective(step)(eqx.combine(params, fixed.static), batch, key)

    def one(carry, inputs):
        params, state = carry
        step, factor, batch = inputs
        key = jax.random.fold_in(given.key, step)
        if not together:
            batch = _picked(given.data, batch)
        if fixed.augment is not None:
            key, own_key = jax.random.split(key)
            batch = _augmented(fixed.augment, batch, jax.random.split(own_key, given.rows.shape[1]))
        (value, terms), grads = jax.value_and_grad(loss, has_aux=True)(params, step, batch, key)
        updates, state = fixed.optimizer.update(grads, state, params)
        updates = jax.tree.map(lambda update: factor * update, updates)
        return (optax.apply_updates(params, updates), state), {"loss": value, **terms}

    (params, state), terms = jax.lax.scan(one, (params, state), (given.steps, given.factors, batches))
    return params, state, jax.tree.map(jnp.mean, terms)


# Of the module, not of a run: another run of the same shapes, the cool-down for one, compiles nothing.
_take_steps = compiled(_steps, donate="all-except-first")
_take_steps_in_place = compiled(_steps, donate="all-except-first", cpu=_IN_PLACE)


@jax.jit
def _mixed(average, params, share):
    return jax.tree.map(lambda mean, new: mean + share * (new - mean), average, params)


@eqx.filter_jit
def _validate(objective: AbstractObjective, params, static, data, rows, first, key) -> dict[str, Scalar]:
    """Mean terms over held-out frames: whole batches in a scan, then what is left over; the first has a number."""
    module, n_frames = eqx.combine(params, static), len(rows)
    n_batches, rest = divmod(n_frames, _VALIDATION_BATCH)
    whole = n_batches * _VALIDATION_BATCH

    def judge(batch_rows, number):
        value, terms = objective(module, _picked(data, batch_rows), jax.random.fold_in(key, number))
        return {"loss": value, **terms}

    totals = []
    if n_batches:
        inputs = rows[:whole].reshape(n_batches, _VALIDATION_BATCH), first + jnp.arange(n_batches)
        _, terms = jax.lax.scan(lambda _, x: (None, judge(*x)), None, inputs)
        totals.append(jax.tree.map(lambda t: jnp.mean(t) * (whole / n_frames), terms))
    if rest:
        terms = judge(rows[whole:], first + n_batches)
        totals.append(jax.tree.map(lambda t: t * (rest / n_frames), terms))
    return jax.tree.map(lambda *parts: sum(parts), *totals)


def _row_bytes(data: Any) -> int:
    return sum(math.prod(leaf.shape[1:]) * leaf.dtype.itemsize for leaf in jax.tree.leaves(data))


def _picked(data: Any, rows: Int[Array, "*n"]) -> Any:
    """Rows of features, or of all that `Examples` hold."""
    return jax.tree.map(lambda leaf: leaf[rows], data)


def _augmented(augment: Callable, batch: Any, keys: Array) -> Any:
    """Every example as another one; both ends of a pair in the same way."""
    if not isinstance(batch, Examples):
        return jax.vmap(augment)(batch, keys)
    target = None if batch.target is None else jax.vmap(augment)(batch.target, keys)
    return batch._replace(x=jax.vmap(augment)(batch.x, keys), target=target)


def _check_finite(record: Mapping[str, float], before: list[dict[str, float]]) -> None:
    if np.isfinite(record["loss"]) and np.isfinite(record["validation_loss"]):
        return
    side = "validation_" if np.isfinite(record["loss"]) else ""
    last = f"the last finite one was {before[-1][side + 'loss']:.4g}" if before else "no epoch had a finite one"
    parts = [f"{_WORDS[name]} {record[side + name]:.4g}" for name in _WORDS if side + name in record]
    inside = f" ({', '.join(parts)})" if parts else ""
    raise FloatingPointError(
        f"the {side.replace('_', ' ')}loss became {record[side + 'loss']} in epoch {len(before) + 1}"
        f"{inside}; {last}. "
        "Try a smaller learning_rate (a third of it), a longer warm-up, or look for outliers in the trajectory"
    )


def _copied(leaf):
    # With its type spelled out, lest a weakly typed leaf turn strong after an epoch, and the epoch compile again.
    return jnp.array(leaf, leaf.dtype) if eqx.is_array(leaf) else leaf
