"""Examples to the device in the order of an epoch: all of them at once where they fit, else block by block."""

import abc
import math
from collections.abc import Callable, Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdvae._chunks import ahead
from mdvae._memory import forget
from mdvae._types import Key

# Read from a disk at one go: smaller pieces cost more than they bring.
_RUN_BYTES = 2**16
# Held at once, and shuffled as a whole; some of them must fit into memory.
_BLOCK_BYTES = 2**26

Examples = Float[np.ndarray, "n_examples ..."]
Block = tuple[Float[Array, "n_block n_features"], Int[Array, "..."]]


class AbstractFeed(abc.ABC):
    """Training and held-out examples, for as many epochs as are asked for.

    The order of the training examples hangs on the key alone, not on where they are kept.
    """

    batch_size: int
    n_training: int
    n_validation: int

    @property
    def n_steps(self) -> int:
        """Gradient steps in an epoch: an incomplete last batch is left out of it."""
        return self.n_training // self.batch_size

    @abc.abstractmethod
    def shuffled(self, key: Key) -> Iterator[Block]:
        """Features on the device, and which of their rows make the batches, (n_batches, batch_size), of one epoch."""

    @abc.abstractmethod
    def held_out(self, multiple: int) -> Iterator[Block]:
        """Features on the device, and which of their rows are held out: in each block but the last a multiple."""


class Resident(AbstractFeed):
    """All examples are on the device.

    Parameters
    ----------
    features : (n_examples, n_features)
    training, validation : indices of examples
    batch_size : int
        At most the number of training examples.
    """

    def __init__(
        self,
        features: Float[Array | np.ndarray, "n_examples n_features"],
        training: Int[np.ndarray, " n_training"],
        validation: Int[np.ndarray, " n_validation"],
        batch_size: int,
    ) -> None:
        self._features, self._training, self._validation = jnp.asarray(features), training, jnp.asarray(validation)
        self._row_bytes = self._features[:1].nbytes
        self.batch_size = min(batch_size, len(training))
        self.n_training, self.n_validation = len(training), len(validation)

    def shuffled(self, key: Key) -> Iterator[Block]:
        """One block."""
        rows = np.concatenate(list(order(self.n_training, self.batch_size, self._row_bytes, key)))
        yield self._features, jnp.asarray(self._training[rows].reshape(-1, self.batch_size))

    def held_out(self, multiple: int) -> Iterator[Block]:
        """One block."""
        del multiple
        yield self._features, self._validation


class Streamed(AbstractFeed):
    """Examples are read, block by block, the next block while the device works on this one.

    Parameters
    ----------
    examples : (n_examples, ...)
        In memory or in a file that is mapped into it.
    training, validation : ascending indices of examples
    batch_size : int
        At most the number of training examples.
    prepare : callable
        Features (n_features,) of one example.
    """

    def __init__(
        self,
        examples: Examples,
        training: Int[np.ndarray, " n_training"],
        validation: Int[np.ndarray, " n_validation"],
        batch_size: int,
        prepare: Callable,
    ) -> None:
        self._examples, self._training, self._validation = examples, training, validation
        self._prepare = prepare
        self._row_bytes = 4 * len(eqx.filter_eval_shape(prepare, jax.ShapeDtypeStruct(examples.shape[1:], jnp.float32)))
        self.batch_size = min(batch_size, len(training))
        self.n_training, self.n_validation = len(training), len(validation)

    def shuffled(self, key: Key) -> Iterator[Block]:
        """As many blocks as it takes."""
        yield from ahead(self._read, order(self.n_training, self.batch_size, self._row_bytes, key), n_threads=1)

    def _read(self, rows: Int[np.ndarray, " n"]) -> Block:
        # Ascending: as they lie on the disk.
        rows, places = np.unique(rows, return_inverse=True)
        data = self._prepared(self._training[rows])
        return data, jnp.asarray(places.astype(np.int32).reshape(-1, self.batch_size))

    def held_out(self, multiple: int) -> Iterator[Block]:
        """As many blocks as it takes."""
        size = multiple * max(1, _BLOCK_BYTES // (multiple * self._row_bytes))
        pieces = (self._validation[first : first + size] for first in range(0, self.n_validation, size))
        yield from ahead(self._read_in_order, pieces, n_threads=1)

    def _read_in_order(self, rows: Int[np.ndarray, " n"]) -> Block:
        return self._prepared(rows), jnp.arange(len(rows))

    def _prepared(self, rows: Int[np.ndarray, " n"]) -> Float[Array, "n n_features"]:
        examples = self._examples[rows]
        forget(self._examples)
        return prepared(self._prepare, jnp.asarray(examples))


@eqx.filter_jit
def prepared(prepare: Callable, examples: Float[Array, "n_examples ..."]) -> Float[Array, "n_examples n_features"]:
    """Features of examples, on the device."""
    return jax.vmap(prepare)(examples)


def order(n: int, batch_size: int, row_bytes: int, key: Key) -> Iterator[Int[np.ndarray, " n_block"]]:
    """Numbers from 0 to n - 1 in the order of an epoch, in blocks of whole batches, without the last incomplete one.

    What fits into one block is in an order that may be any. Of more, a block holds runs of successive examples from
    everywhere, and its examples are in an order that may be any.

    Parameters
    ----------
    n : int
    batch_size : int
        At most n.
    row_bytes : int
        Size of an example.
    key : PRNG key
    """
    # NumPy shuffles in place; JAX sorts random numbers, which takes as long as an epoch of a small network.
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    run = batch_size * math.ceil(_RUN_BYTES / (batch_size * row_bytes))
    n_runs = n // run
    runs = max(1, _BLOCK_BYTES // (run * row_bytes))
    starts = run * rng.permutation(n_runs)
    for first in range(0, max(1, n_runs), runs):
        rows = (starts[first : first + runs, None] + np.arange(run)).ravel()
        if first + runs >= n_runs:
            rows = np.concatenate([rows, np.arange(n_runs * run, n)])
        yield rng.permutation(rows)[: len(rows) // batch_size * batch_size]
