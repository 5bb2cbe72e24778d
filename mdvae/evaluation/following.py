"""What evaluation needs of frames in time order: latent points, features in few numbers, and where the pose jumped."""

import itertools
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdvae._chunks import map_rows
from mdvae.alignment import find_jumps
from mdvae.evaluation.kinetics import Kinetics, in_time_order, kinetics, latent_jumps
from mdvae.evaluation.reconstruction import principal_directions
from mdvae.model import Model
from mdvae.trajectory import Chunk

# Principal components that stand for the features, at first, and the fewest of them; half of them go when they would
# take more than so many bytes.
_COMPONENTS, _FEWEST, _BYTES = 64, 8, 256 * 2**20
# Training frames that the components are taken of.
_OF_COMPONENTS = 20_000
# Times that differ by less than this share of a step are evenly spaced.
_EVEN = 0.01


class Following:
    """Gathers a `Kinetics` chunk by chunk.

    Parameters
    ----------
    model : Model
        Trained.
    """

    def __init__(self, model: Model) -> None:
        assert model.data is not None
        self._model, self._to_features = model, model.representation.to_features
        frames = model.data.frames[:: -(-len(model.data.frames) // _OF_COMPONENTS)]
        self._mean, self._axes = principal_directions(map_rows(self._to_features, frames), _COMPONENTS)
        self._z: dict[int, list[np.ndarray]] = {}
        self._features: dict[int, list[np.ndarray]] = {}
        self._jumps: dict[int, list[np.ndarray]] = {}
        self._steps: list[float] = []
        self._timed = True
        self._last: tuple[int, np.ndarray] | None = None

    def add(self, chunk: Chunk, z: Float[np.ndarray, "n_chunk latent_dim"], run: Int[np.ndarray, " n_chunk"]) -> None:
        """Take consecutive frames.

        Parameters
        ----------
        chunk : Chunk
            Posed.
        z : (n_chunk, latent_dim)
        run : (n_chunk,)
            The number of the uninterrupted run that each is of, ascending.
        """
        features = ((map_rows(self._to_features, chunk.coordinates) - self._mean) @ self._axes).astype(np.float32)
        for number in np.unique(run).tolist():
            rows = run == number
            self._z.setdefault(number, []).append(z[rows])
            self._features.setdefault(number, []).append(features[rows])
            self._note_jumps(number, chunk.coordinates[rows])
            self._note_times(None if chunk.time is None else chunk.time[rows])
        if self._axes.shape[1] > _FEWEST and self._n_bytes() > _BYTES:
            self._halve()

    def _note_jumps(self, run: int, frames: Float[np.ndarray, "n n_atoms dim"]) -> None:
        joined = frames
        if self._last is not None and self._last[0] == run:
            joined = np.concatenate([self._last[1], frames])
        jumped = np.zeros(len(joined) - 1, bool)
        # Features that do not know how a frame is turned make no jump where its turn does.
        if self._model.representation.keeps_pose:
            jumped[find_jumps(self._model.alignment, joined, [len(joined)])] = True
        self._jumps.setdefault(run, []).append(jumped)
        self._last = (run, frames[-1:].copy())

    def _note_times(self, time: Float[np.ndarray, " n"] | None) -> None:
        self._timed &= time is not None
        if time is not None and len(time) > 1:
            self._steps += [float(np.diff(time).min()), float(np.diff(time).max())]

    def _n_bytes(self) -> int:
        return sum(part.nbytes for part in itertools.chain.from_iterable(self._features.values()))

    def _halve(self) -> None:
        n = self._axes.shape[1] // 2
        self._axes = self._axes[:, :n]
        self._features = {run: [part[:, :n].copy() for part in parts] for run, parts in self._features.items()}

    @property
    def latents(self) -> list[np.ndarray]:
        """Latent points of each run."""
        return [np.concatenate(parts) for parts in self._z.values()]

    def result(self, lagtime: Any = None, seed: Any = 0) -> tuple[Kinetics | None, str]:
        """Kinetics of everything that was added, or None and why.

        Parameters
        ----------
        lagtime : int, optional
            In frames: see `kinetics`.
        seed : int
        """
        latents = self.latents
        if not in_time_order(latents):
            if lagtime is not None:
                raise ValueError(
                    f"lagtime={lagtime} needs frames in time order; those given have forgotten each other from one to "
                    "the next: leave it out, or give the frames as they were simulated"
                )
            return None, "the frames are not in time order, or so far apart that they have forgotten each other"
        steps = np.array(self._steps)
        even = self._timed and len(steps) and steps.min() > 0 and np.ptp(steps) <= _EVEN * steps.min()
        timed = even and self._model.system.unit == "nm"
        timing: dict[str, Any] = {"frame_time": float(steps.min()), "unit": "ps"} if timed else {}
        jumps = latent_jumps(latents, [np.concatenate(parts) for parts in self._jumps.values()])
        features = [np.concatenate(parts) for parts in self._features.values()]
        timing |= {"latent_jumps": jumps[0], "alignment_jumps": jumps[1]}
        found = kinetics(latents, features, lagtime=lagtime, seed=seed, **timing)
        return found, "" if found is not None else "there are too few frames in a row"
