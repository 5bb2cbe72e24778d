"""The frames of a source that training never saw, in runs without a gap, and what is kept of them in bounded memory."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mdvae.latent.encoding import encode_chunks
from mdvae.model import Model
from mdvae.training.splits import SPLIT, split_blocks, split_by_time
from mdvae.trajectory import Chunk

Coordinates = Float[np.ndarray, "n_frames n_atoms dim"]
_Encoded = tuple[Chunk, Float[np.ndarray, "_ latent_dim"]]

# Frames are the same if no coordinate differs by more than this share of the size of the molecule, or so many nm: files
# round.
_SAME, _ROUNDED = 1e-3, 1e-3
# Fewer frames than this are no source that is recognized.
_FEWEST = 10
# Posed frames that are kept for comparisons, and their bytes.
_KEPT_FRAMES, _KEPT_BYTES = 100_000, 64 * 2**20


class HeldOut:
    """Iterates over the frames of a source, without those that training saw.

    A source that begins with the very frames that the model was made from, in their order, is recognized; of these only
    the blocks are left that training held out. What else training saw cannot be told from frames that it did not see;
    `LatentSpace.seen` counts it.

    Parameters
    ----------
    model : Model
        Trained.
    source, **reading
        As for `encode`.
    """

    n_read: int
    n_recognized: int
    lengths: dict[int, int]

    def __init__(self, model: Model, source: Any, **reading: Any) -> None:
        assert model.data is not None
        self._model, self._data = model, model.data
        # Enough frames at once for two of them to be compared, however small the chunks are.
        rows = model.data.rows
        enough = max(_FEWEST, int(rows[1]) + 1) if len(rows) > 1 else 1
        self._chunks = _with_long_beginning(encode_chunks(model, source, **reading), enough)
        self._held = _held_rows(model)
        self._near = _SAME * float(np.sqrt((model.data.frames**2).sum(axis=2).mean()))
        if model.system.unit == "nm":
            self._near = max(self._near, _ROUNDED)
        self.n_read = self.n_recognized = 0
        # Frames that were read of each trajectory, and which of all read frames the last ones that were given are.
        self.lengths, self.numbers = {}, np.zeros(0, np.int64)

    def __iter__(self) -> Iterator[tuple[Chunk, Float[np.ndarray, "n_chunk latent_dim"], Int[np.ndarray, " n_chunk"]]]:
        """Posed frames, their latent points, and the number of the uninterrupted run that each is of."""
        run, last = -1, None
        for chunk, z in self._chunks:
            places = self.n_read + np.arange(len(z))
            self.n_read += len(z)
            self.lengths[chunk.trajectory] = self.lengths.get(chunk.trajectory, 0) + len(z)
            kept = self._kept(chunk, places)
            if not kept.any():
                continue
            self.numbers = places[kept]
            # A run ends where a trajectory does, and where a frame is missing.
            where = np.column_stack([np.full(len(z), chunk.trajectory), places])[kept]
            before = where[:1] - 1 if last is None else last[None]
            steps = np.diff(np.concatenate([before, where]), axis=0)
            runs = run + np.cumsum((steps[:, 0] != 0) | (steps[:, 1] != 1))
            run, last = int(runs[-1]), where[-1]
            time = None if chunk.time is None else chunk.time[kept]
            yield (
                dataclasses.replace(chunk, coordinates=chunk.coordinates[kept], time=time, frames=chunk.frames[kept]),
                z[kept],
                runs,
            )

    def _kept(self, chunk: Chunk, places: Int[np.ndarray, " n_chunk"]) -> Bool[np.ndarray, " n_chunk"]:
        kept = np.ones(len(places), bool)
        if self._held is not None and self.n_recognized == places[0]:
            known = places[: self._n_known(chunk, places, len(self._held))]
            self.n_recognized += len(known)
            kept[: len(known)] = self._held[known]
        return kept

    def _n_known(self, chunk: Chunk, places: Int[np.ndarray, " n_chunk"], n_frames: int) -> int:
        """How many of these frames, from the first on, are those that the model was made from."""
        first, last = int(places[0]), min(int(places[-1]) + 1, n_frames)
        rows = self._data.rows
        some = slice(*np.searchsorted(rows, [first, max(first, last)]))
        numbers = rows[some] - first
        same = np.abs(chunk.coordinates[numbers] - self._data.frames[some]).max(axis=(1, 2)) <= self._near
        if same.all():
            n_known = max(0, last - first)
        else:
            # Of frames that the model has not kept it is not known.
            until = int(same.argmin())
            n_known = int(numbers[until - 1]) + 1 if until else 0
        if first:
            return n_known
        # One frame may well be the same: runs that start from one structure, every second frame of a run.
        n_compared = int(np.searchsorted(numbers, n_known))
        return n_known if n_known >= min(_FEWEST, len(places)) and n_compared > 1 else 0


def _with_long_beginning(chunks: Iterator[_Encoded], n_frames: int) -> Iterator[_Encoded]:
    """The same frames, so many of them in the first chunk, where the first trajectory has so many."""
    waiting: list[_Encoded] = []
    for chunk, z in chunks:
        if waiting and chunk.trajectory != waiting[0][0].trajectory:
            yield _joined(waiting)
            yield chunk, z
            break
        waiting.append((chunk, z))
        if sum(len(part) for _, part in waiting) >= n_frames:
            yield _joined(waiting)
            break
    else:
        if waiting:
            yield _joined(waiting)
    yield from chunks


def _joined(parts: list[_Encoded]) -> _Encoded:
    chunks = [chunk for chunk, _ in parts]
    times = [chunk.time for chunk in chunks if chunk.time is not None]
    whole = dataclasses.replace(
        chunks[0],
        coordinates=np.concatenate([chunk.coordinates for chunk in chunks]),
        time=np.concatenate(times) if len(times) == len(chunks) else None,
        frames=np.concatenate([chunk.frames for chunk in chunks]),
    )
    return whole, np.concatenate([z for _, z in parts])


def _held_rows(model: Model) -> Bool[np.ndarray, " n_frames"] | None:
    """Which of the frames that a model was made from training held out, where that is on record."""
    assert model.data is not None
    lengths, fraction = model.settings.get("lengths"), model.settings.get("validation_fraction")
    if lengths is None or fraction is None or sum(lengths) != model.data.n_frames:
        return None
    # Before the rule had a number, blocks of time were held out of any number of trajectories.
    split = split_blocks if model.settings.get("split") == SPLIT else split_by_time
    held = np.zeros(sum(lengths), bool)
    held[split(lengths, fraction)[1]] = True
    return held


class Thinned:
    """Evenly spaced frames of a stream of unknown length, 100 000 or 64 MB at most.

    Parameters
    ----------
    budget : int
        Bytes.
    most : int
        Frames.
    """

    def __init__(self, budget: int = _KEPT_BYTES, most: int = _KEPT_FRAMES) -> None:
        self._budget, self._most, self._step, self._seen = budget, most, 1, 0
        self._frames: list[np.ndarray] = []
        self._runs: list[np.ndarray] = []
        self._numbers: list[np.ndarray] = []

    def add(
        self,
        frames: Coordinates,
        run: Int[np.ndarray, " n_frames"],
        number: Int[np.ndarray, " n_frames"] | None = None,
    ) -> None:
        """Take every frame in turn, or every second, fourth, ... once there are too many.

        Parameters
        ----------
        frames : (n_frames, n_atoms, dim)
        run : (n_frames,)
        number : (n_frames,), optional
            Which of all frames that were read each is.
        """
        number = np.zeros(len(run), np.int64) if number is None else number
        first = -self._seen % self._step
        self._seen += len(frames)
        self._frames.append(frames[first :: self._step].copy())
        self._runs.append(run[first :: self._step])
        self._numbers.append(number[first :: self._step])
        while self._n_kept() > 1 and self._is_too_much():
            self._frames, self._runs, self._numbers, self._step = (
                [self.frames[::2].copy()], [self.run[::2]], [self.number[::2]], 2 * self._step,
            )  # fmt: skip

    def _n_kept(self) -> int:
        return sum(map(len, self._runs))

    def _is_too_much(self) -> bool:
        return self._n_kept() > self._most or sum(part.nbytes for part in self._frames) > self._budget

    @property
    def frames(self) -> Coordinates:
        """Those that are kept, in order."""
        return np.concatenate(self._frames)

    @property
    def run(self) -> Int[np.ndarray, " n_kept"]:
        """The run that each is of."""
        return np.concatenate(self._runs)

    @property
    def number(self) -> Int[np.ndarray, " n_kept"]:
        """Which of all frames that were read each is."""
        return np.concatenate(self._numbers)
