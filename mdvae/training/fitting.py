"""From an untrained model and frames to a trained model."""

import dataclasses
import functools
import operator
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdvae._chunks import in_chunks, map_rows
from mdvae._keys import key_for
from mdvae._memory import is_mapped, picked, rows_together
from mdvae._types import Features, Frame, Key, Number, Scalar, Whole
from mdvae.augmentation import AbstractAugmentation, augmentation, check_augmentation
from mdvae.local_geometry import find_links, fit_local_geometry
from mdvae.model import Coordinate, Decoder, Model, check_enough, remember
from mdvae.representations import AbstractRepresentation, feature_statistics
from mdvae.restoration import Restorer
from mdvae.training.descent import descend
from mdvae.training.ensemble import at_once
from mdvae.training.examples import check_weights, lagged_pairs
from mdvae.training.feed import AbstractFeed, Resident, Streamed
from mdvae.training.progress import ProgressBar
from mdvae.training.schedules import annealed
from mdvae.training.settings import Plan, check_density, check_not_negative, check_way_back, settings_from
from mdvae.training.splits import SPLIT, split_blocks
from mdvae.trajectory import Frames
from mdvae.vae import VAE, diagnose, evenly

# With fewer frames a model learns them by heart.
_FEW_FRAMES = 100
# Of free memory of a device, what features may take.
_SHARE_OF_DEVICE = 0.5

Coordinates = Float[np.ndarray, "n_frames n_atoms dim"]


def train(
    model: Model,
    frames: Frames,
    *,
    strain_weight: Number = 0.0,
    augment: Iterable[str] | None = None,
    key: Key | None = None,
    seed: Whole = 0,
    progress: bool = True,
    **settings: Any,
) -> Model:
    """Fit a model to frames: `train_ensemble` of one.

    Parameters
    ----------
    model : Model
        From `build`; not changed.
    frames : Frames
        From `read`, in the pose of the model's alignment; their weights, if they have any, are those of their losses,
        in training and validation.
    strain_weight : float
        Weight of the decoder's own violations of bonds, angles, centers and torsions (see `Restorer.bonded_strain`),
        rising over the first half of the training. None by default, since decoded structures are restored anyway;
        CONTRIBUTING has the comparison.
    augment : sequence of str
        Random changes that the physics does not notice, made to training frames anew in every epoch: ``"mirror"``,
        ``"reversal"``, ``"rotation=5"`` (degrees), ``"noise=0.005"`` (in the unit of length); see
        `mdvae.augmentation`. With a ``lagtime`` both ends of a pair are mirrored or reversed together; noise and
        rotations are refused, since what is the same at both ends is slow by construction.
    key : PRNG key, optional
        made from ``seed`` if left out.
    seed : int
    progress : bool
        Show a progress bar (on a terminal only).
    **settings
        ``beta``, ``epochs``, ``batch_size``, ``learning_rate``, ``warmup_epochs``, ``n_cycles``, ``free_bits``,
        ``importance_samples``, ``lagtime``, ``vamp_weight``, ``validation_fraction``, ``patience``, ``n_devices``: see
        `Settings`.

    Returns
    -------
    Model
        With the parameters that did best on the held-out frames, its `history`, the `diagnostics` of its latent space,
        and what it remembers of the training frames. Ctrl-C returns the best so far.

    Raises
    ------
    ValueError, TypeError
        For fewer than 10 frames, for settings outside their range, for augmentations that do not suit the molecule, and
        for augmentations and strain of a model that only encodes.
    FloatingPointError
        If the loss stops being finite.

    Notes
    -----
    With a ``lagtime`` an example is a pair of frames in one stretch of time: of one trajectory, and either both trained
    on or both held out. ``settings["pairs_lost"]`` says how many frames have no partner there. A pair weighs as much as
    its first frame.
    """
    (trained,) = train_ensemble(
        [model],
        frames,
        strain_weight=strain_weight,
        augment=augment,
        key=key,
        seed=seed,
        progress=progress,
        **settings,
    )
    return trained


def train_ensemble(
    models: Sequence[Model],
    frames: Frames,
    *,
    strain_weight: Number = 0.0,
    augment: Iterable[str] | None = None,
    key: Key | None = None,
    seed: Whole = 0,
    progress: bool = True,
    **settings: Any,
) -> list[Model]:
    """Fit several models to the same frames, up to eight at a time, or as many as the machine has cores.

    Where frames are streamed, no more than there are cores. Ctrl-C ends all that have begun, as far as they have come.

    How far they are apart is how much a seed decides; the best of them may be worth the wait.

    Parameters
    ----------
    models : sequence of Model
        From `build`, with the same spec and different seeds; not changed.
    frames : Frames
        From `read`, in the pose of the models' alignment.
    seed : int
        Of the first; the next ones have the numbers after it, so that each is the model that `train` makes of it alone.
    strain_weight, augment, key, progress, **settings
        See `train`.

    Returns
    -------
    list of Model
        In their order. Ctrl-C returns the best so far of those that have begun.

    Raises
    ------
    ValueError, TypeError, FloatingPointError
        As `train` does.

    Examples
    --------
    >>> frames = mdvae.read("run.xtc", top="protein.pdb")  # doctest: +SKIP
    >>> models = [mdvae.build(frames, seed=seed) for seed in range(5)]  # doctest: +SKIP
    >>> models = mdvae.train_ensemble(models, frames)  # doctest: +SKIP
    """
    if not models:
        raise ValueError("there are no models to train; expected at least one, from `build`")
    chosen = settings_from(settings)
    check_not_negative("strain_weight", strain_weight)
    augment = check_augmentation(augment)
    check_enough(frames)
    model = models[0]
    for one in models:
        check_density(one.vae, chosen)
        _check_belongs(frames, one)
        if not eqx.tree_equal(one.representation, model.representation):
            raise ValueError("the models have different representations: train those together that have the same spec")
    check_way_back(model.representation.invertible, strain_weight, augment)
    if not model.representation.keeps_pose and any(word.startswith("rotation") for word in augment):
        raise ValueError(
            "augment 'rotation' does nothing to internal coordinates, which no rotation changes; leave it out"
        )
    lagtime = int(chosen.lagtime)
    _check_pairs(augment, lagtime)
    training, validation = split_blocks(frames.lengths, float(chosen.validation_fraction))
    training, validation = lagged_pairs(frames.lengths, validation, lagtime)
    effective = None if frames.weights is None else check_weights(frames.weights, training, validation)
    if len(training) < _FEW_FRAMES:
        warnings.warn(f"{len(training)} training frames are few: the model will know little beyond them", stacklevel=2)
    plan = chosen.plan(len(training))
    system = frames.system
    links = find_links(frames.coordinates, system.links, system.bonds)
    geometry = fit_local_geometry(frames.coordinates, links, system.masses)
    changed = augmentation(augment, system, model.alignment, geometry)
    objective = plan.objective()
    if strain_weight:
        penalty = _Strain(model.representation, Restorer(geometry))
        objective = annealed(objective, penalty, float(strain_weight), plan.epochs * plan.steps_per_epoch // 2)
    seeds = [operator.index(seed) + i for i in range(len(models))]
    keys = [key_for("train", seed) for seed in seeds] if key is None else list(jax.random.split(key, len(models)))
    feed = _feed(model, frames, training, validation, plan)
    # Each that streams holds blocks of its own, and asks the disk for them.
    n_threads = os.cpu_count() if isinstance(feed, Streamed) else None
    fit = functools.partial(
        descend,
        feed=feed,
        objective=objective,
        plan=plan,
        augment=None if changed is None else _Augmented(model.representation, changed),
    )
    with ProgressBar(progress, len(models)) as bar:
        trainings = [functools.partial(fit, one.vae, key=own) for one, own in zip(models, keys, strict=True)]
        fitted = at_once(trainings, bar, n_threads)
    del feed, fit, trainings
    # All of them again would be another copy of the data.
    few = picked(frames.coordinates, training[evenly(len(training), _of(frames, training))])
    record = plan.to_dict() | {
        "strain_weight": float(strain_weight),
        "augment": list(augment),
        "lengths": list(frames.lengths),
        "split": SPLIT,
    }
    if lagtime:
        record["pairs_lost"] = len(frames.coordinates) - len(training) - len(validation)
    if effective is not None:
        record["effective_frames"] = effective
    data, found = remember(frames, geometry), []
    # Those that Ctrl-C has kept from beginning are the last ones.
    for one, own, own_seed, (vae, history) in zip(models, keys, seeds, fitted, strict=False):
        own_record = record | {"likelihood": type(one.vae.likelihood).__name__}
        own_record |= {"seed": own_seed if key is None else None}
        trained = dataclasses.replace(one, vae=vae, data=data, history=history, settings=one.settings | own_record)
        error = functools.partial(_held_out_error, trained, frames, validation, lagtime)
        found.append(diagnosed(trained, few, error, own))
    return found


def _check_pairs(augment: tuple[str, ...], lagtime: int) -> None:
    """Refuse to change both ends of a pair in a way that no dynamics would keep up."""
    for word in augment:
        if lagtime and word.startswith(("noise", "rotation")):
            raise ValueError(
                f"augment {word!r} would be the same at both ends of a pair, and be learned as the slowest there is; "
                "leave it out, or train without a lagtime"
            )


def _of(frames: Frames, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"] | None:
    return None if frames.weights is None else frames.weights[rows]


def _feed(
    model: Model,
    frames: Frames,
    training: Int[np.ndarray, " n_training"],
    validation: Int[np.ndarray, " n_validation"],
    plan: Plan,
) -> AbstractFeed:
    """From the device where all features fit there, else from where the frames are, block by block."""
    coordinates, size, n_devices = frames.coordinates, plan.batch_size, int(plan.settings.n_devices)
    rows, lagtime = (training, validation, size), int(plan.settings.lagtime)
    more: dict[str, Any] = {"lagtime": lagtime, "weights": frames.weights}
    copies = 2 if lagtime else 1
    if is_mapped(coordinates) or not _fits(4 * copies * len(coordinates) * model.representation.n_features):
        return Streamed(coordinates, *rows, model.representation.to_features, n_devices, **more)
    return Resident(_features(model, coordinates), *rows, n_devices, **more)


def _fits(size: int) -> bool:
    """Whether so many bytes leave the device room to work; where its memory is the machine's, reading has asked."""
    memory = jax.devices()[0].memory_stats() or {}
    return "bytes_limit" not in memory or size <= _SHARE_OF_DEVICE * (memory["bytes_limit"] - memory["bytes_in_use"])


def diagnosed(
    model: Model,
    training: Coordinates,
    held_out_error: Callable[[], tuple[float, str]] | None,
    key: Key,
    weights: Float[np.ndarray, " n_frames"] | None = None,
) -> Model:
    """The same model, with a look at its latent space.

    Parameters
    ----------
    model : Model
    training : (n_frames, n_atoms, dim), nm
        Posed frames.
    held_out_error : callable, optional
        Gives the error of reconstructions of held-out frames, and its unit; if left out it is what it was, or else that
        of the training frames.
    key : PRNG key
    weights : (n_frames,), optional
        Of the training frames, unless they were picked by weight.
    """
    try:
        found = diagnose(
            model.vae,
            _features(model, training),
            reconstruction=_kept_error(model, training, weights) if held_out_error is None else held_out_error(),
            key=jax.random.fold_in(key, 2**31),
            weights=weights,
        )
    except KeyboardInterrupt:
        # A trained model is worth more than what is said about it.
        return dataclasses.replace(model, diagnostics=None)
    return dataclasses.replace(model, diagnostics=found)


def _kept_error(
    model: Model, training: Coordinates, weights: Float[np.ndarray, " n_frames"] | None
) -> tuple[float, str]:
    if model.diagnostics is not None:
        return model.diagnostics.reconstruction, model.diagnostics.reconstruction_unit
    return _as_error(model, map_rows(_deviation(model), training), weights, ", training frames among them")


def _held_out_error(
    model: Model, frames: Frames, validation: Int[np.ndarray, " n_validation"], lagtime: int
) -> tuple[float, str]:
    """Of a time-lagged model the error of what it makes of the later frame."""
    deviation, parts = _deviation(model), []
    for first in range(0, len(validation), size := rows_together(frames.coordinates)):
        rows = validation[first : first + size]
        before = picked(frames.coordinates, rows)
        if lagtime:
            after = picked(frames.coordinates, rows + lagtime)
            parts += [errors for _, errors in in_chunks(deviation, before, after)]
        else:
            parts.append(map_rows(deviation, before))
    which = f", from the frame {lagtime} later" if lagtime else ""
    return _as_error(model, np.concatenate(parts), _of(frames, validation), which)


def _as_error(
    model: Model, errors: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"] | None, which: str
) -> tuple[float, str]:
    name, factor, unit = "RMSD", *((10, "Å") if model.system.unit == "nm" else (1, "reduced units"))
    if not model.representation.invertible:
        name, factor, unit = "RMS", 1, "standard deviations of a feature"
    return factor * float(np.average(errors, weights=weights)), f"{unit} (mean {name} as decoded{which})"


def _deviation(model: Model) -> "_Deviation | _Misfit":
    """How far what is decoded of a frame is from it: in features where there is no way back to positions."""
    assert model.data is not None
    if model.representation.invertible:
        return _Deviation(model.coordinate, model.decoder)
    scale = feature_statistics(model.representation, model.data.frames, model.data.weights).deviation
    return _Misfit(model.representation, model.vae, jnp.asarray(scale, jnp.float32))


class _Deviation(eqx.Module):
    """RMSD of a posed frame, or of a later one, and what the decoder makes of it."""

    coordinate: Coordinate
    decoder: Decoder

    def __call__(self, frame: Frame, later: Frame | None = None) -> Scalar:
        apart = self.decoder(self.coordinate.encode_posed(frame)) - (frame if later is None else later)
        return jnp.sqrt(jnp.mean(jnp.sum(apart**2, axis=1)))


class _Misfit(eqx.Module):
    """Root mean square of what separates the features of a frame from what is decoded of them, each in its own unit."""

    representation: AbstractRepresentation
    vae: VAE
    scale: Features

    def __call__(self, frame: Frame, later: Frame | None = None) -> Scalar:
        x = self.representation.to_features(frame)
        target = x if later is None else self.representation.to_features(later)
        return jnp.sqrt(jnp.mean(((self.vae.decode(self.vae.encode(x)) - target) / self.scale) ** 2))


class _Augmented(eqx.Module):
    """Augmentation of features, by way of the frames that they stand for."""

    representation: AbstractRepresentation
    augmentation: AbstractAugmentation

    def __call__(self, x: Features, key: Key) -> Features:
        return self.representation.to_features(self.augmentation(self.representation.to_coordinates(x), key))


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


def _features(model: Model, coordinates: Coordinates) -> Float[Array, "n_frames n_features"]:
    """Features of posed frames, on the device."""
    return jax.vmap(model.representation.to_features)(jnp.asarray(coordinates))
