"""Examples to the device in the order of an epoch: all of them at once where they fit, else block by block."""

import abc
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from mdvae._chunks import ahead
from mdvae._memory import picked
from mdvae._types import Key
from mdvae.vae import Examples

# Read from a disk at one go: smaller pieces cost more than they bring. A batch, where that is not too long.
_RUN_BYTES, _LONGEST_RUN_BYTES = 2**16, 2**18
_RUNS_TOGETHER = 100
# Held at once, and shuffled as a whole; some of them must fit into memory.
_BLOCK_BYTES = 2**26

Stored = Float[np.ndarray, "n_examples ..."]
Rows = Int[np.ndarray, "_"]
Arrays = TypeVar("Arrays", bound=Any)
Block = tuple[Float[Array, "n_block n_features"] | Examples, Int[Array, "..."]]


class AbstractFeed(abc.ABC):
    """Training and held-out examples, for as many epochs as are asked for.

    The order of the training examples hangs on the key alone, not on where they are kept.

    Parameters
    ----------
    training, validation : indices of examples
    batch_size : int
        At most the number of training examples.
    n_devices : int
        How many share each batch.
    lagtime : int
        How many examples later the target of each comes; with 0 it is the example.
    weights : (n_examples,), optional
        At least 0. Those of the training examples are scaled to a mean of one, and so are those of the held-out ones.
    """

    _row_bytes: int

    def __init__(
        self,
        training: Int[np.ndarray, " n_training"],
        validation: Int[np.ndarray, " n_validation"],
        batch_size: int,
        n_devices: int,
        lagtime: int,
        weights: Float[np.ndarray, " n_examples"] | None,
    ) -> None:
        self.n_training, self.n_validation = len(training), len(validation)
        if self.n_training < n_devices:
            raise ValueError(f"{n_devices} devices cannot share {self.n_training} training examples")
        self.batch_size = min(batch_size, self.n_training) // n_devices * n_devices
        self._training, self._validation = training, validation
        self._lagtime = lagtime
        self._training_weights, self._validation_weights = _scaled(weights, training), _scaled(weights, validation)
        self._mesh = None if n_devices == 1 else Mesh(np.array(jax.local_devices()[:n_devices]), ("batch",))

    def everywhere(self, arrays: Arrays) -> Arrays:
        """The same arrays, whole on each device."""
        return arrays if self._mesh is None else jax.device_put(arrays, NamedSharding(self._mesh, PartitionSpec()))

    def _in_batches(self, rows: Int[np.ndarray, " n"]) -> Int[Array, "n_batches batch_size"]:
        """Rows of each batch, of which each device gets a share."""
        batches = jnp.asarray(rows.astype(np.int32).reshape(-1, self.batch_size))
        if self._mesh is None:
            return batches
        return jax.device_put(batches, NamedSharding(self._mesh, PartitionSpec(None, "batch")))

    def _validation_order(self, n: int) -> Int[np.ndarray, " n"]:
        """Order in which so many held-out examples are judged, in batches.

        Of pairs each batch is to have some from everywhere: what a batch says of correlations, neighbors in time do not
        know.
        """
        return np.random.default_rng(0).permutation(n) if self._lagtime else np.arange(n)

    @property
    def n_steps(self) -> int:
        """Gradient steps in an epoch: an incomplete last batch is left out of it."""
        return self.n_training // self.batch_size

    def _pieces(self, multiple: int) -> list[Rows]:
        """Held-out examples, in pieces of which each but the last holds a multiple."""
        size = multiple * max(1, _BLOCK_BYTES // (multiple * self._row_bytes))
        return [self._validation[first : first + size] for first in range(0, self.n_validation, size)]

    @abc.abstractmethod
    def shuffled(self, key: Key) -> Iterator[Block]:
        """Features on the device, and which of their rows make the batches, (n_batches, batch_size), of one epoch.

        Where there is a lag, or weights, `Examples` of features stand for the features.
        """

    @abc.abstractmethod
    def held_out(self, multiple: int) -> Iterator[Block]:
        """Features on the device, and which of their rows are held out: in each block but the last a multiple."""


class Resident(AbstractFeed):
    """All examples are on the device.

    Parameters
    ----------
    features : (n_examples, n_features)
    training, validation, batch_size, n_devices, lagtime, weights
        See `AbstractFeed`.
    """

    def __init__(
        self,
        features: Float[Array | np.ndarray, "n_examples n_features"],
        training: Int[np.ndarray, " n_training"],
        validation: Int[np.ndarray, " n_validation"],
        batch_size: int,
        n_devices: int = 1,
        *,
        lagtime: int = 0,
        weights: Float[np.ndarray, " n_examples"] | None = None,
    ) -> None:
        super().__init__(training, validation, batch_size, n_devices, lagtime, weights)
        self._features = self.everywhere(jnp.asarray(features))
        self._row_bytes = self._features[:1].nbytes
        later = self.everywhere(jnp.roll(self._features, -lagtime, axis=0)) if lagtime else None
        self._to_train, self._to_judge = (
            _together(self._features, later, self.everywhere(side))
            for side in (self._training_weights, self._validation_weights)
        )

    def shuffled(self, key: Key) -> Iterator[Block]:
        """One block."""
        blocks = order(self.n_training, self.batch_size, self._row_bytes, key)
        rows = np.concatenate([rows[places] for rows, places in blocks])
        yield self._to_train, self._in_batches(self._training[rows])

    def held_out(self, multiple: int) -> Iterator[Block]:
        """One block."""
        pieces = self._pieces(multiple)
        rows = np.concatenate([piece[self._validation_order(len(piece))] for piece in pieces])
        yield self._to_judge, self.everywhere(jnp.asarray(rows))


class Streamed(AbstractFeed):
    """Examples are read, block by block, the next block while the device works on this one.

    Parameters
    ----------
    examples : (n_examples, ...)
        In memory or in a file that is mapped into it.
    training, validation, batch_size, n_devices, lagtime, weights
        See `AbstractFeed`; the indices are ascending.
    prepare : callable
        Features (n_features,) of one example.
    """

    def __init__(
        self,
        examples: Stored,
        training: Int[np.ndarray, " n_training"],
        validation: Int[np.ndarray, " n_validation"],
        batch_size: int,
        prepare: Callable,
        n_devices: int = 1,
        *,
        lagtime: int = 0,
        weights: Float[np.ndarray, " n_examples"] | None = None,
    ) -> None:
        super().__init__(training, validation, batch_size, n_devices, lagtime, weights)
        self._examples, self._prepare = examples, prepare
        self._row_bytes = 4 * len(eqx.filter_eval_shape(prepare, jax.ShapeDtypeStruct(examples.shape[1:], jnp.float32)))

    def shuffled(self, key: Key) -> Iterator[Block]:
        """As many blocks as it takes."""
        yield from ahead(self._read, order(self.n_training, self.batch_size, self._row_bytes, key), n_threads=1)

    def _read(self, block: tuple[Rows, Rows]) -> Block:
        rows, places = block
        return self._examples_at(self._training[rows], self._training_weights), self._in_batches(places)

    def held_out(self, multiple: int) -> Iterator[Block]:
        """As many blocks as it takes."""
        yield from ahead(self._read_in_order, self._pieces(multiple), n_threads=1)

    def _read_in_order(self, rows: Int[np.ndarray, " n"]) -> Block:
        places = self._validation_order(len(rows))
        return self._examples_at(rows, self._validation_weights), self.everywhere(jnp.asarray(places))

    def _examples_at(
        self, rows: Int[np.ndarray, " n"], weights: Float[np.ndarray, " n_examples"] | None
    ) -> Float[Array, "n n_features"] | Examples:
        later = self._prepared(rows + self._lagtime) if self._lagtime else None
        return _together(self._prepared(rows), later, self.everywhere(None if weights is None else weights[rows]))

    def _prepared(self, rows: Int[np.ndarray, " n"]) -> Float[Array, "n n_features"]:
        together = _RUNS_TOGETHER * max(1, _RUN_BYTES // self._row_bytes)
        # A block of few features may be one of very many coordinates.
        size = max(1, 2 * _BLOCK_BYTES // self._examples[:1].nbytes)
        parts = [
            prepared(self._prepare, self.everywhere(jnp.asarray(picked(self._examples, some, together))))
            for some in np.split(rows, range(size, len(rows), size))
        ]
        return jnp.concatenate(parts) if len(parts) > 1 else parts[0]


def _scaled(weights: Float[np.ndarray, " n"] | None, side: Rows) -> Float[np.ndarray, " n"] | None:
    """Weights with a mean of one over one side."""
    return None if weights is None else (weights / weights[side].mean()).astype(np.float32)


def _together(features: Array, later: Array | None, weights: Array | np.ndarray | None) -> Array | Examples:
    """Features alone where they are all there is."""
    if later is None and weights is None:
        return features
    return Examples(features, later, None if weights is None else jnp.asarray(weights))


@eqx.filter_jit
def prepared(prepare: Callable, examples: Float[Array, "n_examples ..."]) -> Float[Array, "n_examples n_features"]:
    """Features of examples, on the device."""
    return jax.vmap(prepare)(examples)


def order(n: int, batch_size: int, row_bytes: int, key: Key) -> Iterator[tuple[Rows, Rows]]:
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

    Yields
    ------
    rows : (n_block,)
        Numbers, ascending: as they lie on the disk.
    places : (n_in_batches,)
        Which of them come, one after the other.
    """
    # NumPy shuffles in place; JAX sorts random numbers, which takes as long as an epoch of a small network.
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    longest = max(math.ceil(_RUN_BYTES / row_bytes), _LONGEST_RUN_BYTES // row_bytes)
    run = min(batch_size * math.ceil(_RUN_BYTES / (batch_size * row_bytes)), longest)
    n_runs = n // run
    # As many as make whole batches.
    step = batch_size // math.gcd(run, batch_size)
    runs = max(1, _BLOCK_BYTES // (run * row_bytes) // step) * step
    starts = run * rng.permutation(n_runs)
    for first in range(0, max(1, n_runs), runs):
        drawn = starts[first : first + runs]
        rows = (np.sort(drawn)[:, None] + np.arange(run)).ravel()
        if first + runs >= n_runs:
            rows = np.concatenate([rows, np.arange(n_runs * run, n)])
        # Where the runs came to lie, and what is left over after them.
        places = (run * np.argsort(np.argsort(drawn))[:, None] + np.arange(run)).ravel()
        places = np.concatenate([places, np.arange(len(places), len(rows))])
        # The last block may hold less than a batch.
        if len(rows) >= batch_size:
            yield rows, rng.permutation(places)[: len(rows) // batch_size * batch_size]
