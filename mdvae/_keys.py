"""From the seeds that users give to the keys that rooms take."""

import operator
import zlib

import jax

from mdvae._types import Key, Whole


def key_for(purpose: str, seed: Whole) -> Key:
    """Key of one purpose: equal seeds of different verbs share no random numbers.

    Parameters
    ----------
    purpose : str
        Such as "build" or "train".
    seed : int
        At least 0, below 2**63.

    Returns
    -------
    PRNG key

    Raises
    ------
    TypeError, ValueError
        For anything else.
    """
    seed = operator.index(seed)
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must be a whole number from 0 to 2**63 - 1, got {seed}")
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))
