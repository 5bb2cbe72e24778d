"""Latent coordinates as an analysis of MDAnalysis."""

from typing import Any

import numpy as np
from MDAnalysis.analysis.base import AnalysisBase

from mdvae.latent.encoding import encode_posed
from mdvae.model import Model
from mdvae.trajectory import Preparation

__all__ = ["LatentAnalysis"]


class LatentAnalysis(AnalysisBase):
    """Latent points of the frames of a trajectory: the same numbers as `mdvae.encode` of it.

    Frames are encoded many at a time. Everything else that takes conformations (`mdvae.fit`, `encode`, `evaluate`, ...)
    takes a Universe or an AtomGroup as well, by itself.

    Parameters
    ----------
    model : Model
    atoms : MDAnalysis.AtomGroup or MDAnalysis.Universe
        The atoms that the model was trained on, or all atoms of the file that it was trained on; names and elements
        are compared. In Å, as everything is there.
    periodic : bool
        Whether molecules that a periodic box has split are made whole, along the bonds of the whole Universe. What was
        wrapped need not be unwrapped beforehand.
    **options
        Of `AnalysisBase`, such as ``verbose``.

    Attributes
    ----------
    results.latent : (n_frames, latent_dim)
    results.time : (n_frames,), ps

    Raises
    ------
    ValueError
        For other atoms than the model's.

    Examples
    --------
    >>> analysis = LatentAnalysis(model, u.select_atoms("protein and not name H*"))  # doctest: +SKIP
    >>> z = analysis.run(start=100, step=10).results.latent  # doctest: +SKIP
    """

    def __init__(self, model: Model, atoms: Any, *, periodic: bool = True, **options: Any) -> None:
        self._model, self._atoms, self._periodic = model, atoms, periodic
        self._open()
        super().__init__(atoms.universe.trajectory, **options)

    def _open(self) -> None:
        model = self._model
        self._preparation = Preparation(self._atoms, model.system, model.alignment, self._periodic)

    def _prepare(self) -> None:
        self._open()
        self._taken, self._points = [], []

    def _single_frame(self) -> None:
        self._taken.append(self._preparation.take(self._ts))
        if len(self._taken) == self._preparation.chunk_size:
            self._encode()

    def _encode(self) -> None:
        last = self._frame_index + 1
        posed = self._preparation.finish(self._taken, self.frames[last - len(self._taken) : last])
        self._points.append(encode_posed(self._model, posed))
        self._taken = []

    def _conclude(self) -> None:
        if self._taken:
            self._encode()
        points = self._points or [np.zeros((0, self._model.latent_dim), np.float32)]
        self.results.latent = np.concatenate(points)
        self.results.time = np.array(self.times, np.float64)
        self._preparation.tell()
