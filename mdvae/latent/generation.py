"""Latent points to conformations, given ones or new ones, each restored to the data's own local geometry."""

import dataclasses
import functools
import warnings
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Shaped
from numpy.typing import ArrayLike

from mdvae._chunks import in_chunks, map_rows
from mdvae._keys import key_for
from mdvae._types import Key, Whole
from mdvae.latent.encoding import encode_chunks
from mdvae.local_geometry import LocalGeometry
from mdvae.model import Model
from mdvae.restoration import Restoration, Restorer, restore_frames
from mdvae.trajectory import Conformations, to_trajectory
from mdvae.vae import SquaredError
from mdvae.validity import check

Coordinates = Float[np.ndarray, "n_frames n_atoms dim"]
Points = Float[np.ndarray, "n_frames latent_dim"]
Keys = Shaped[Array, " n_frames"]

# A fixed number of sweeps is enough for nearly all structures. The few that are still so many spreads off, next to not
# valid, get as many again, and more room each time: in tight places not everything can be as near its mean as is
# usual.
_SETTLED, _MORE_ROOM = 4.0, (2.0, 3.0, 3.0, 4.0)
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
        For points of another shape, or that are not finite.
    """
    return _conformations(model, decode_coordinates(model, z), restore)


def generate(
    model: Model,
    n_frames: Whole,
    *,
    prior: str = "model",
    restore: bool = True,
    noise: bool = False,
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
    key : PRNG key, optional
        made from ``seed`` if left out.
    seed : int

    Returns
    -------
    mdtraj.Trajectory
        (n_frames,), in the model's pose; as from `decode`.

    Raises
    ------
    ValueError
        For fewer than one frame, for a prior that is not known or needs training frames where there are none, and for
        noise of a squared error, which states none.
    """
    if n_frames < 1:
        raise ValueError(f"expected at least 1 conformation to generate, got {n_frames}")
    n_frames = int(n_frames)
    if noise and isinstance(model.vae.likelihood, SquaredError):
        raise ValueError("noise=True needs a likelihood that states a noise; a squared error does not")
    if prior not in _PRIORS:
        raise ValueError(f"prior={prior!r} is not known; expected one of {', '.join(map(repr, _PRIORS))}")
    z_key, noise_key = jax.random.split(key_for("generate", seed) if key is None else key)
    z = _PRIORS[prior](model, jax.random.split(z_key, n_frames))
    if not noise:
        return _conformations(model, decode_coordinates(model, z), restore)
    keys = np.asarray(jax.random.key_data(jax.random.split(noise_key, n_frames)))
    drawn = np.concatenate([frames for _, frames in in_chunks(model.decoder.sample_from_data, z, keys)])
    return _conformations(model, drawn, restore, sampled=True)


def _from_model(model: Model, keys: Keys) -> Points:
    return np.asarray(jax.vmap(model.vae.prior_distribution().sample)(keys))


def _from_posteriors(model: Model, keys: Keys) -> Points:
    """Each from the posterior of a training frame."""
    if model.data is None:
        raise ValueError('prior="aggregate_posterior" needs a trained model: it is made of its training frames')
    coordinate = model.coordinate
    frames = model.data.frames
    chosen = np.asarray(jax.random.randint(jax.random.fold_in(keys[0], 1), (len(keys),), 0, len(frames)))
    plain = np.asarray(jax.random.key_data(keys))
    parts = in_chunks(coordinate.sample_from_data, frames[chosen], plain)
    return np.concatenate([z for _, z in parts])


_PRIORS = {"model": _from_model, "aggregate_posterior": _from_posteriors}


def reconstruct(model: Model, source: Any, *, restore: bool = True, **reading) -> Conformations:
    """Every frame of a source, encoded and decoded again.

    Parameters
    ----------
    model : Model
    source : path, mdtraj.Trajectory, array (n_frames, n_atoms, dim), or a list of any of these
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
        For a source that cannot be read or is another molecule.
    """
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


def _conformations(
    model: Model, raw: Coordinates, restore: bool, time: np.ndarray | None = None, *, sampled: bool = False
) -> Conformations:
    if not restore or model.data is None:
        return to_trajectory(model.system, raw, time)
    if sampled:
        restored, restoration = _restore_where_needed(model, raw)
    else:
        restored, restoration = restore_decoded(model, raw)
    if not restoration.valid.all() or restoration.far.any():
        warnings.warn(
            f"of {len(raw)} structures {np.sum(~restoration.valid)} are still not valid once restored, and "
            f"{restoration.far.sum()} were moved further than the data's thermal spread",
            stacklevel=3,
        )
    return to_trajectory(model.system, restored, time, restoration)


def _restore_where_needed(model: Model, drawn: Coordinates) -> tuple[Coordinates, Restoration]:
    """Restored where not valid. A sample spreads as the data do; restoring would draw in what is valid as it is."""
    assert model.data is not None
    needs = ~check(model.data.geometry, drawn).valid
    restored, there = restore_decoded(model, drawn[needs])
    frames, moved, valid = drawn.copy(), np.zeros(len(drawn), there.moved.dtype), ~needs
    frames[needs], moved[needs], valid[needs] = restored, there.moved, there.valid
    return frames, dataclasses.replace(there, moved=moved, valid=valid)
