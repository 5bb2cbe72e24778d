"""Latent points to conformations, given ones or new ones, each restored to the data's own local geometry."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped
from numpy.typing import ArrayLike

from mdvae._chunks import in_chunks, map_rows
from mdvae._keys import key_for
from mdvae._types import Key, Whole
from mdvae.latent.encoding import encode_chunks
from mdvae.local_geometry import LocalGeometry
from mdvae.model import Model, check_decodes
from mdvae.restoration import Restoration, Restorer, restore_frames
from mdvae.trajectory import Conformations, to_trajectory
from mdvae.vae import SquaredError
from mdvae.validity import check

Coordinates = Float[np.ndarray, "n_frames n_atoms dim"]
Points = Float[np.ndarray, "n_frames latent_dim"]
Keys = Shaped[Array, " n_keys"]
Values = Float[np.ndarray, "n_frames n_values"]
# The draws from one number to another, not included; and which of some structures to keep, with numbers that go along.
Draw = Callable[[int, int], Coordinates]
Judge = Callable[[Coordinates], tuple[Bool[np.ndarray, " n_frames"], Values]]

# A fixed number of sweeps is enough for nearly all structures. The few that are still so many spreads off, next to not
# valid, get as many again, and more room each time: in tight places not everything can be as near its mean as is
# usual.
_SETTLED, _MORE_ROOM = 4.0, (2.0, 3.0, 3.0, 4.0)
# Coordinates that are drawn, restored and judged at a time, and how many structures at least, once some are missing.
_BLOCK, _FEW = 2**21, 8
# Where after so many draws fewer than one in so many were valid, the search for valid ones is given up.
_PATIENCE, _RAREST = 5000, 1000
# Of one geometry, which chunk after chunk asks for.
_restorer = functools.lru_cache(maxsize=1 + len(_MORE_ROOM))(Restorer)


def decode(model: Model, z: ArrayLike, *, restore: bool = True) -> Conformations:
    """Conformations of latent points: the mean of the likelihood, restored, in the model's pose.

    Parameters
    ----------
    model : Model
    z : (n_frames, latent_dim)
    restore : bool
        Move each decoded structure to the nearest one with the bonds, angles, centers, flat torsions and contacts of
        the training data (see `mdvae.restoration`). False: what the decoder says, which for a flexible molecule is an
        average of structures and no structure. An untrained model knows no such data, and restores nothing.

    Returns
    -------
    mdtraj.Trajectory
        In nm; a system in the plane has z = 0. Its attribute ``restoration`` says how far each structure was moved
        and whether it is valid; a warning counts those that are not, and those that were moved further than the
        data's own thermal spread.

    Raises
    ------
    ValueError
        For points of another shape, or that are not finite, and for a model that only encodes.
    """
    check_decodes(model, "decode")
    return _conformations(model, decode_coordinates(model, z), restore)


def generate(
    model: Model,
    n_frames: Whole,
    *,
    prior: str = "model",
    restore: bool = True,
    noise: bool = False,
    valid: bool = False,
    key: Key | None = None,
    seed: Whole = 0,
) -> Conformations:
    """New conformations, from the prior through the decoder.

    Parameters
    ----------
    model : Model
    n_frames : int
    prior : {"model", "aggregate_posterior"}
        Where latent points come from. ``"model"``: the model's prior. Encoded frames lie elsewhere than a standard
        normal one says, the more so the more dimensions there are; then the ensemble is off, though every structure in
        it may be right: see `fit_prior`. ``"aggregate_posterior"``: the mean of the posteriors of the training frames
        that the model keeps, which is the prior that would have fitted them best (doi:10.48550/arXiv.1705.07120). Its
        ensemble is that of the training frames as the model reconstructs them, its structures near ones that the
        simulation has visited.
    restore : bool
        As for `decode`; what ``noise`` has drawn and is valid as it is stays as drawn.
    noise : bool
        Sample the likelihood instead of taking its mean. Right for soft, floppy systems; where bonds are stiff it needs
        a likelihood that knows how atoms move together (`fit_noise`), or else restoring undoes much of it.
    valid : bool
        Draw until ``n_frames`` structures keep to the local geometry of the training data (`mdvae.validity.check`), and
        return those, in the order of drawing: the valid ones among what ``valid=False`` gives for the same seed and
        ``n_drawn`` frames. Memory holds a block of draws at a time, besides what is returned and 8 bytes a draw.
    key : PRNG key, optional
        made from ``seed`` if left out.
    seed : int

    Returns
    -------
    mdtraj.Trajectory
        (n_frames,), in the model's pose; as from `decode`. Its attribute ``n_drawn`` counts all that were drawn up to
        the last of them, so that ``n_frames / n_drawn`` is the share that is valid; without ``valid`` it is
        ``n_frames``.

    Raises
    ------
    ValueError
        For fewer than one frame, for a model that only encodes, for a prior that is not known or needs training frames
        where there are none, and for noise of a squared error, which states none. With ``valid``, for an untrained
        model, and once 5000 or more were drawn and fewer than 1 in 1000 was valid.
    """
    if n_frames < 1:
        raise ValueError(f"expected at least 1 conformation to generate, got {n_frames}")
    n_frames = int(n_frames)
    check_generation(model, prior, noise)
    if valid and model.data is None:
        raise ValueError("an untrained model knows no valid structures: train it, or leave out valid=True")
    key = key_for("generate", seed) if key is None else key
    draw = functools.partial(_drawn, model, _PRIORS[prior], noise, key)
    if valid:
        return _only_valid(model, draw, n_frames, restore, noise)
    conformations = _conformations(model, draw(0, n_frames), restore, sampled=noise)
    conformations.n_drawn = n_frames
    return conformations


def check_generation(model: Model, prior: str, noise: bool) -> None:
    """Refuse what `generate` cannot do, before any work is done for it.

    Raises
    ------
    ValueError
    """
    check_decodes(model, "generate")
    if noise and isinstance(model.vae.likelihood, SquaredError):
        raise ValueError("noise=True needs a likelihood that states a noise; a squared error does not")
    if prior not in _PRIORS:
        raise ValueError(f"prior={prior!r} is not known; expected one of {', '.join(map(repr, _PRIORS))}")


def _drawn(
    model: Model, prior: Callable[[Model, Keys, int], Points], noise: bool, key: Key, first: int, last: int
) -> Coordinates:
    """Of an endless row of draws, each with keys of its own, those from one number to another."""
    z_key, noise_key = jax.random.split(key)
    # The n-th key of a split does not depend on how many there are.
    z = prior(model, jax.random.split(z_key, last), first)
    if not noise:
        return decode_coordinates(model, z)
    keys = np.asarray(jax.random.key_data(jax.random.split(noise_key, last)[first:]))
    return np.concatenate([frames for _, frames in in_chunks(model.decoder.sample_from_data, z, keys)])


def sample_prior(model: Model, keys: Keys, first: int = 0) -> Points:
    """Latent points of the model's prior, one for each key.

    Parameters
    ----------
    model : Model
    keys : (n_keys,)
    first : int
        Leave out the points before this one.
    """
    return np.asarray(jax.vmap(model.vae.prior_distribution().sample)(keys[first:]))


def _sample_posteriors(model: Model, keys: Keys, first: int = 0) -> Points:
    """The same, each from the posterior of a training frame."""
    if model.data is None:
        raise ValueError('prior="aggregate_posterior" needs a trained model: it is made of its training frames')
    coordinate = model.coordinate
    frames = model.data.frames
    chosen = _chosen(jax.random.fold_in(keys[0], 1), len(keys), len(frames), model.data.weights)[first:]
    plain = np.asarray(jax.random.key_data(keys[first:]))
    parts = in_chunks(coordinate.sample_from_data, frames[chosen], plain)
    return np.concatenate([z for _, z in parts])


def _chosen(key: Key, n: int, n_frames: int, weights: Float[np.ndarray, " n_frames"] | None) -> Int[np.ndarray, " n"]:
    """Numbers of frames, drawn by their weight."""
    if weights is None:
        return np.asarray(jax.random.randint(key, (n,), 0, n_frames))
    total = np.cumsum(weights)
    drawn = np.asarray(jax.random.uniform(key, (n,)), np.float64)
    return np.minimum(np.searchsorted(total / total[-1], drawn, side="right"), np.flatnonzero(weights)[-1])


_PRIORS = {"model": sample_prior, "aggregate_posterior": _sample_posteriors}


def reconstruct(model: Model, source: Any, *, restore: bool = True, **reading) -> Conformations:
    """Every frame of a source, encoded and decoded again.

    Parameters
    ----------
    model : Model
    source : path, mdtraj.Trajectory, MDAnalysis Universe or AtomGroup, array (n_frames, n_atoms, dim), or a list
        The frames of a list come one after another.
    restore : bool
        As for `decode`.
    **reading
        As for `encode`.

    Returns
    -------
    mdtraj.Trajectory
        (n_frames,), in the model's pose, with the times of the source where it holds any.

    Raises
    ------
    ValueError, OSError
        For a model that only encodes, and for a source that cannot be read or is another molecule.
    """
    check_decodes(model, "reconstruct")
    raw, time = [], []
    for chunk, z in encode_chunks(model, source, **reading):
        raw.append(decode_coordinates(model, z))
        time.append(chunk.time)
    timed = None if any(part is None for part in time) else np.concatenate(time)
    return _conformations(model, np.concatenate(raw), restore, timed)


def decode_coordinates(model: Model, z: ArrayLike) -> Coordinates:
    """What the decoder itself says, as an array in nm (or reduced units).

    Parameters
    ----------
    model : Model
    z : (n_frames, latent_dim)

    Returns
    -------
    (n_frames, n_atoms, dim)
    """
    z = np.asarray(z, np.float32)
    if z.ndim != 2 or z.shape[1] != model.latent_dim:
        raise ValueError(f"expected latent points of shape (n_frames, {model.latent_dim}), got {z.shape}")
    if not np.isfinite(z).all():
        raise ValueError("latent points must be finite numbers; some are NaN or infinite")
    if not len(z):
        return np.zeros((0, model.system.n_atoms, model.system.dim), np.float32)
    return map_rows(model.decoder, z)


def restore_decoded(
    model: Model, raw: Coordinates, geometry: LocalGeometry | None = None
) -> tuple[Coordinates, Restoration]:
    """Restored structures, and what that did to each.

    Parameters
    ----------
    model : Model
        Trained.
    raw : (n_frames, n_atoms, dim), nm
    geometry : LocalGeometry, optional
        Other limits than the plain ones of the training data.
    """
    assert model.data is not None
    geometry = model.data.geometry if geometry is None else geometry
    restored = restore_frames(_restorer(geometry), raw)
    valid = check(geometry, restored, n_spreads=_SETTLED).valid
    rest = np.flatnonzero(~valid)
    valid[rest] = check(geometry, restored[rest]).valid
    for n_spreads in _MORE_ROOM:
        if not len(rest):
            break
        again = restore_frames(_restorer(geometry, n_spreads=n_spreads), restored[rest])
        now = check(geometry, again).valid
        better = now | ~valid[rest]
        restored[rest[better]], valid[rest] = again[better], now | valid[rest]
        rest = rest[~check(geometry, restored[rest], n_spreads=_SETTLED).valid]
    # Contacts and lengths move atoms by equal shares; the pose is centered by its own weights, masses as a rule.
    weights = np.asarray(model.alignment.weights)
    restored -= np.average(restored - raw, axis=1, weights=weights)[:, None].astype(restored.dtype)
    moved = np.sqrt(((restored - raw) ** 2).sum(axis=2).mean(axis=1))
    return restored, Restoration(moved, geometry.thermal, valid, model.system.unit)


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """Valid structures that were drawn until there were enough of them.

    Parameters
    ----------
    frames : (n_frames, n_atoms, dim), nm
    values : (n_frames, n_values)
        Numbers that the judge found of each.
    restoration : Restoration, optional
        What restoring did to them; None where nothing was restored.
    n_valid, n_drawn : int
        How many were valid, kept or not, of how many that were drawn, up to and including the last that was needed.
    """

    frames: Coordinates
    values: Values
    restoration: Restoration | None
    n_valid: int
    n_drawn: int


def draw_until(
    model: Model,
    draw: Draw,
    n_frames: int,
    *,
    judge: Judge,
    stop: Callable[[int, int], bool],
    restore: bool = True,
    sampled: bool = False,
) -> Drawn:
    """Draw block after block, restore, and keep what is valid and passes, until there is enough of it.

    Parameters
    ----------
    model : Model
        Trained.
    draw : callable
        Raw structures from one number of draws to another. How many are asked for at once depends on what was found,
        so the n-th draw should not.
    n_frames : int
        How many to keep.
    judge : callable
        Of valid structures: which to keep, (n,), and numbers that go along, (n, n_values).
    stop : callable
        Of the numbers kept and drawn so far: whether to be content with that. Asked before each block but the first.
    restore, sampled : bool
        Restore what is drawn; samples of the likelihood only where they need it.
    """
    assert model.data is not None
    nothing = np.zeros((0, model.system.n_atoms, model.system.dim), np.float32)
    kept = [(nothing, judge(nothing)[1], np.zeros(0, np.float32))]
    n_kept = n_valid = n_drawn = 0
    while n_kept < n_frames and not (n_drawn and stop(n_kept, n_drawn)):
        size = _worth_drawing(model, n_frames - n_kept, n_kept, n_drawn)
        frames, restoration = _restored(model, draw(n_drawn, n_drawn + size), restore, sampled)
        moved = np.zeros(size, np.float32) if restoration is None else restoration.moved
        valid = np.flatnonzero(check(model.data.geometry, frames).valid)
        passed, values = judge(frames[valid])
        chosen = np.flatnonzero(passed)[: n_frames - n_kept]
        rows = valid[chosen]
        kept.append((frames[rows], values[chosen], moved[rows]))
        n_kept += len(rows)
        end = size if n_kept < n_frames else int(rows[-1]) + 1
        n_valid, n_drawn = n_valid + int(np.sum(valid < end)), n_drawn + end
    frames, values, moved = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return Drawn(frames, values, _all_valid(model, moved) if restore else None, n_valid, n_drawn)


def _worth_drawing(model: Model, n_missing: int, n_kept: int, n_drawn: int) -> int:
    """As many as are likely to give what is missing; no more than double those so far, and than memory bears."""
    if n_drawn:
        likely = math.ceil(n_missing * (n_drawn + 1) / (n_kept + 1)) + _FEW
        n_missing = min(likely, max(n_missing, n_drawn, _FEW))
    return min(n_missing, max(_FEW, _BLOCK // (model.system.n_atoms * model.system.dim)))


def _all_valid(model: Model, moved: Float[np.ndarray, " n_frames"]) -> Restoration:
    assert model.data is not None
    return Restoration(moved, model.data.geometry.thermal, np.ones(len(moved), bool), model.system.unit)


def _only_valid(model: Model, draw: Draw, n_frames: int, restore: bool, sampled: bool) -> Conformations:
    def anything(frames):
        return np.ones(len(frames), bool), np.zeros((len(frames), 0), np.float32)

    stop = functools.partial(_hopeless, restore)
    drawn = draw_until(model, draw, n_frames, judge=anything, stop=stop, restore=restore, sampled=sampled)
    restoration = drawn.restoration
    if restoration is not None and restoration.far.any():
        warnings.warn(
            f"of {n_frames} valid structures {restoration.far.sum()} were moved further than the data's thermal spread",
            stacklevel=3,
        )
    conformations = to_trajectory(model.system, drawn.frames, restoration=restoration)
    conformations.n_drawn = drawn.n_drawn
    return conformations


def _hopeless(restored: bool, n_valid: int, n_drawn: int) -> bool:
    """Refuse to go on where hardly anything is valid."""
    if n_drawn >= _PATIENCE and n_valid * _RAREST < n_drawn:
        elsewhere = 'try prior="aggregate_posterior", or train for longer or with more latent dimensions'
        raise ValueError(
            f"only {n_valid} of {n_drawn} structures that were drawn are valid, fewer than 1 in {_RAREST}: "
            + (elsewhere if restored else f"let them be restored; or {elsewhere}")
        )
    return False


def _conformations(
    model: Model, raw: Coordinates, restore: bool, time: np.ndarray | None = None, *, sampled: bool = False
) -> Conformations:
    frames, restoration = _restored(model, raw, restore, sampled)
    if restoration is not None and (not restoration.valid.all() or restoration.far.any()):
        warnings.warn(
            f"of {len(raw)} structures {np.sum(~restoration.valid)} are still not valid once restored, and "
            f"{restoration.far.sum()} were moved further than the data's thermal spread",
            stacklevel=3,
        )
    return to_trajectory(model.system, frames, time, restoration)


def _restored(
    model: Model, raw: Coordinates, restore: bool, sampled: bool = False
) -> tuple[Coordinates, Restoration | None]:
    if not restore or model.data is None:
        return raw, None
    return _restore_where_needed(model, raw) if sampled else restore_decoded(model, raw)


def _restore_where_needed(model: Model, drawn: Coordinates) -> tuple[Coordinates, Restoration]:
    """Restored where not valid. A sample spreads as the data do; restoring would draw in what is valid as it is."""
    assert model.data is not None
    needs = ~check(model.data.geometry, drawn).valid
    restored, there = restore_decoded(model, drawn[needs])
    frames, moved, valid = drawn.copy(), np.zeros(len(drawn), there.moved.dtype), ~needs
    frames[needs], moved[needs], valid[needs] = restored, there.moved, there.valid
    return frames, dataclasses.replace(there, moved=moved, valid=valid)
