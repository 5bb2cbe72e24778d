"""From an untrained model and frames to a trained model."""

import dataclasses
import functools
import math
import operator
import warnings
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from mdvae._keys import key_for
from mdvae._types import Key, Number, Whole
from mdvae.history import History
from mdvae.local_geometry import find_links, fit_local_geometry
from mdvae.model import Model, check_enough, remember
from mdvae.representations import AbstractRepresentation
from mdvae.restoration import Restorer
from mdvae.training.loop import optimize
from mdvae.training.progress import ProgressBar
from mdvae.training.schedules import annealed, learning_rate_schedule, warmed_up
from mdvae.training.splits import split_blocks
from mdvae.trajectory import Frames
from mdvae.vae import VAE, AbstractObjective

# With fewer frames a model learns them by heart.
_FEW_FRAMES = 100
# Gradient steps that training takes where the number of epochs is left open, and the bounds on its epochs.
_STEPS, _FEWEST_EPOCHS, _MOST_EPOCHS = 5000, 20, 1000


def train(
    model: Model,
    frames: Frames,
    *,
    beta: Number = 1.0,
    epochs: Whole | None = None,
    batch_size: Whole | None = None,
    learning_rate: Number = 1e-3,
    warmup_epochs: Whole = 0,
    strain_weight: Number = 0.0,
    validation_fraction: Number = 0.1,
    patience: Whole | None = None,
    key: Key | None = None,
    seed: Whole = 0,
    progress: bool = True,
) -> Model:
    """Fit a model to frames.

    Parameters
    ----------
    model : Model
        From `build`; not changed.
    frames : Frames
        From `read`, in the pose of the model's alignment.
    beta : float
        Weight of the KL divergence. With a Gaussian likelihood 1 is the evidence lower bound; smaller
        reconstructs better, larger brings encoded frames nearer to the prior.
    epochs : int, optional
        At most this many. Left out, as many as make 5000 gradient steps, but at least 20 and at most 1000.
    batch_size : int, optional
        Frames in one gradient step; a 64th of the training frames, but at least 32 and at most 512, if left out.
    learning_rate : float
        Peak of the schedule for Adam: a short rise, then a cosine.
    warmup_epochs : int
        Epochs over which beta rises from zero. None by default: it helps where a latent dimension dies, but the
        latent space then first spreads without restraint, and what it keeps of that are gaps between regions, from
        which the decoder makes broken structures.
    strain_weight : float
        Weight of the decoder's own violations of bonds, angles, centers and torsions (see `Restorer.bonded_strain`),
        rising over the first half of the training. None by default, since decoded structures are restored anyway;
        CONTRIBUTING has the comparison.
    validation_fraction : float
        Share of frames held out, as blocks of time.
    patience : int, optional
        Stop after this many epochs without a better validation loss; a fifth of the epochs, and at least 10,
        if left out. Training then goes back to the best epoch and cools down: for half as many epochs as that took, at
        least 10 but no more than are left, with a learning rate that falls to nothing.
    key : PRNG key, optional
        made from ``seed`` if left out.
    seed : int
    progress : bool
        Show a progress bar (on a terminal only).

    Returns
    -------
    Model
        With the parameters that did best on the held-out frames, its `history`, and what it remembers of the
        training frames. Ctrl-C returns the best so far.

    Raises
    ------
    ValueError
        For fewer than 10 frames and for settings outside their range.
    FloatingPointError
        If the loss stops being finite.
    """
    check_settings(beta, epochs, batch_size, learning_rate, warmup_epochs, strain_weight, validation_fraction, patience)
    beta, learning_rate, validation_fraction = float(beta), float(learning_rate), float(validation_fraction)
    check_enough(frames)
    _check_belongs(frames, model)
    training, validation = split_blocks(frames.lengths, validation_fraction)
    if len(training) < _FEW_FRAMES:
        warnings.warn(f"{len(training)} training frames are few: the model will know little beyond them", stacklevel=2)
    batch_size = int(np.clip(len(training) // 64, 32, 512) if batch_size is None else batch_size)
    steps_per_epoch = max(1, len(training) // batch_size)
    epochs = int(
        np.clip(math.ceil(_STEPS / steps_per_epoch), _FEWEST_EPOCHS, _MOST_EPOCHS) if epochs is None else epochs
    )
    patience = int(max(10, epochs // 5) if patience is None else patience)
    warmup_epochs = int(warmup_epochs)
    n_steps = epochs * steps_per_epoch
    system = frames.system
    links = find_links(frames.coordinates, system.links, system.bonds)
    geometry = fit_local_geometry(frames.coordinates, links, system.masses)
    objective = warmed_up(beta, warmup_epochs * steps_per_epoch)
    if strain_weight:
        penalty = _Strain(model.representation, Restorer(geometry))
        objective = annealed(objective, penalty, float(strain_weight), n_steps // 2)
    schedule = learning_rate_schedule(learning_rate, n_steps)
    with ProgressBar(progress) as bar:
        loop = functools.partial(
            optimize,
            features=_features(model, frames),
            training=training,
            validation=validation,
            batch_size=batch_size,
            key=key_for("train", seed) if key is None else key,
            progress=bar,
        )
        vae, history = loop(
            model.vae,
            objective=objective,
            optimizer=optax.adam(schedule),
            n_epochs=epochs,
            patience=patience,
        )
        left = epochs - history.n_epochs
        if left and not history.interrupted:
            n_cool = min(left, max(10, (history.best_epoch + 1) // 2))
            # Not faster than training had come to be by itself.
            rate = min(learning_rate / 2, float(np.asarray(schedule((history.best_epoch + 1) * steps_per_epoch))))
            vae, history = _cooled(loop, vae, history, objective(n_steps), rate, n_cool, steps_per_epoch)
    settings = {
        "beta": beta,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "warmup_epochs": warmup_epochs,
        "strain_weight": float(strain_weight),
        "validation_fraction": validation_fraction,
        "patience": patience,
        "seed": operator.index(seed) if key is None else None,
    }
    return dataclasses.replace(
        model, vae=vae, data=remember(frames, geometry), history=history, settings=model.settings | settings
    )


def _cooled(
    loop: Callable[..., tuple[VAE, History]],
    vae: VAE,
    history: History,
    objective: AbstractObjective,
    learning_rate: float,
    n_epochs: int,
    steps_per_epoch: int,
) -> tuple[VAE, History]:
    """Go on from the best epoch with a learning rate that falls to nothing.

    Early stopping ends a training while its steps are still large; half as many epochs with ever smaller ones find what
    they stepped over.
    """
    schedule = optax.cosine_decay_schedule(learning_rate, n_epochs * steps_per_epoch, alpha=0.01)
    total = history.n_epochs + n_epochs
    try:
        cool, more = loop(
            vae,
            objective=lambda step: objective,
            optimizer=optax.adam(schedule),
            n_epochs=n_epochs,
            patience=n_epochs,
            first_epoch=history.n_epochs,
        )
    except KeyboardInterrupt:
        return vae, dataclasses.replace(history, stopped=f"interrupted in epoch {history.n_epochs + 1} of {total}")
    except FloatingPointError:
        # What was found before is whole.
        return vae, dataclasses.replace(history, stopped=f"{history.stopped}; then the loss became infinite")
    together = history.followed_by(more)
    return (cool if together.best_epoch >= history.n_epochs else vae), together


class _Strain(eqx.Module):
    """Strain of decoded features, for training."""

    representation: AbstractRepresentation
    restorer: Restorer

    def __call__(self, features: Float[Array, "n_batch n_features"]) -> Float[Array, " n_batch"]:
        return self.restorer.bonded_strain(jax.vmap(self.representation.to_coordinates)(features))


def _check_belongs(frames: Frames, model: Model) -> None:
    """Refuse frames of another system, or in another pose than the model will give to what it encodes."""
    ours, theirs = model.system, frames.system
    if (ours.n_atoms, ours.dim, ours.unit) != (theirs.n_atoms, theirs.dim, theirs.unit):
        raise ValueError(
            f"the model is of {ours.n_atoms} atoms in {ours.dim}-D and {ours.unit} units, "
            f"the frames are of {theirs.n_atoms} in {theirs.dim}-D and {theirs.unit} units"
        )
    if not eqx.tree_equal(model.alignment, frames.alignment):
        raise ValueError(
            "the frames are in another pose than the model's: build the model from the frames it is trained on"
        )


def _features(model: Model, frames: Frames) -> Float[Array, "n_frames n_features"]:
    """Features of all frames, on the device."""
    return jax.vmap(model.representation.to_features)(jnp.asarray(frames.coordinates))


def check_settings(
    beta: Number,
    epochs: Whole | None,
    batch_size: Whole | None,
    learning_rate: Number,
    warmup_epochs: Whole,
    strain_weight: Number,
    validation_fraction: Number,
    patience: Whole | None,
) -> None:
    """Refuse training settings outside their range; see `train` for what they are.

    Raises
    ------
    ValueError
        Naming the setting, what was expected and what was given.
    """
    for name, value in {"beta": beta, "learning_rate": learning_rate, "strain_weight": strain_weight}.items():
        if not hasattr(value, "__float__"):
            raise TypeError(f"{name} must be a number, got {value!r}")
    if not (math.isfinite(beta) and beta >= 0):
        raise ValueError(f"beta must be a finite number of at least 0, got {beta}")
    if not (math.isfinite(strain_weight) and strain_weight >= 0):
        raise ValueError(f"strain_weight must be a finite number of at least 0, got {strain_weight}")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate must be a finite number above 0, got {learning_rate}")
    if not 0 < validation_fraction < 1:
        raise ValueError(f"validation_fraction must lie between 0 and 1, got {validation_fraction}")
    counts = {"epochs": (epochs, 1), "batch_size": (batch_size, 1), "warmup_epochs": (warmup_epochs, 0)}
    counts["patience"] = (patience, 1)
    for name, (value, smallest) in counts.items():
        if value is not None and not hasattr(value, "__index__"):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if value is not None and value < smallest:
            raise ValueError(f"{name} must be at least {smallest}, got {value}")
