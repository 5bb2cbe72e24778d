"""From the seeds that users give to the keys that rooms take."""

import zlib

import jax

from mdvae._types import Key


def key_for(purpose: str, seed: int) -> Key:
    """Key of one purpose: equal seeds of different verbs share no random numbers.

    Parameters
    ----------
    purpose : str
        Such as "build" or "train".
    seed : int

    Returns
    -------
    PRNG key
    """
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))
