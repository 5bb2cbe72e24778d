"""Latent points to conformations, given ones or new ones."""

from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from mdvae._chunks import in_chunks, map_rows
from mdvae._keys import key_for
from mdvae._types import Key, Whole
from mdvae.model import Model
from mdvae.trajectory import to_trajectory
from mdvae.vae import SquaredError

if TYPE_CHECKING:
    import mdtraj


def decode(model: Model, z: ArrayLike) -> "mdtraj.Trajectory":
    """Conformations of latent points: the mean of the likelihood, in the model's pose.

    Parameters
    ----------
    model : Model
    z : (n_frames, latent_dim)

    Returns
    -------
    mdtraj.Trajectory
        In nm; a system in the plane has z = 0.

    Raises
    ------
    ValueError
        For points of another shape, or that are not finite.
    """
    return to_trajectory(model.system, decode_coordinates(model, z))


def decode_coordinates(model: Model, z: ArrayLike) -> Float[np.ndarray, "n_frames n_atoms dim"]:
    """Same as `decode`, as an array in nm (or reduced units).

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


def generate(
    model: Model, n_frames: Whole, *, noise: bool = False, key: Key | None = None, seed: Whole = 0
) -> "mdtraj.Trajectory":
    """New conformations, from the prior through the decoder.

    Parameters
    ----------
    model : Model
    n_frames : int
    noise : bool
        Sample the likelihood instead of taking its mean. Right for soft, floppy systems; for a molecule with
        stiff bonds independent noise breaks them.
    key : PRNG key, optional
        made from ``seed`` if left out.
    seed : int

    Returns
    -------
    mdtraj.Trajectory
        (n_frames,), in the model's pose.

    Raises
    ------
    ValueError
        For fewer than one frame, and for noise of a squared error, which states none.
    """
    if n_frames < 1:
        raise ValueError(f"expected at least 1 conformation to generate, got {n_frames}")
    n_frames = int(n_frames)
    if noise and isinstance(model.vae.likelihood, SquaredError):
        raise ValueError("noise=True needs a likelihood that states a noise; a squared error does not")
    z_key, noise_key = jax.random.split(key_for("generate", seed) if key is None else key)
    prior = model.vae.prior_distribution()
    z = np.asarray(jax.vmap(prior.sample)(jax.random.split(z_key, n_frames)))
    if not noise:
        return decode(model, z)
    keys = np.asarray(jax.random.key_data(jax.random.split(noise_key, n_frames)))
    parts = [frames for _, frames in in_chunks(model.decoder.sample_from_data, z, keys)]
    return to_trajectory(model.system, np.concatenate(parts))
