"""Everything that conformations can come from, behind one interface."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mdtraj as md
import numpy as np
from jaxtyping import Int

from mdvae._memory import forget
from mdvae.trajectory.dcd import warn_of_promises
from mdvae.trajectory.files import (
    Raw,
    check_format,
    count_atoms,
    count_frames,
    own_topology,
    raw_frames,
)
from mdvae.trajectory.interface import AbstractSource, digest
from mdvae.trajectory.topologies import check_file, extension, to_plain
from mdvae.trajectory.universe import UniverseSource, is_universe


class FileSource(AbstractSource):
    """A trajectory file."""

    is_file = True

    def __init__(self, path: Path, reduced: bool, top: md.Topology | None) -> None:
        if check_format(path) == ".dcd":
            warn_of_promises(path)
        self.name, self.dim = str(path), 3
        self._path, self._reduced = path, reduced
        self.topology = own_topology(path)
        self._helper = self.topology if self.topology is not None else top
        self.n_atoms = self.topology.n_atoms if self.topology is not None else count_atoms(path, top, self.n_frames)

    @functools.cached_property
    def n_frames(self) -> int | None:
        """By the layout of a binary file."""
        return count_frames(self._path)

    def identity(self) -> list[Any]:
        """Path, size, and when it was changed last."""
        state = self._path.stat()
        return [str(self._path.resolve()), state.st_size, state.st_mtime_ns, self._reduced]

    def raw(self, atom_indices: Int[np.ndarray, " n_selected"] | None, size: int) -> Iterator[Raw]:
        """Read chunk by chunk."""
        yield from raw_frames(
            self._path, atom_indices, size, reduced=self._reduced, topology=self._helper, n_frames=self.n_frames
        )


class TrajectorySource(AbstractSource):
    """A trajectory that mdtraj holds in memory."""

    def __init__(self, trajectory: md.Trajectory, name: str) -> None:
        if trajectory.topology is None:
            raise ValueError(f"{name} has no topology; give its positions as an array instead")
        self.name, self.dim, self.n_atoms = name, 3, trajectory.n_atoms
        self.topology, self._trajectory = trajectory.topology, trajectory

    @property
    def n_frames(self) -> int:
        """Of the trajectory."""
        return self._trajectory.n_frames

    def identity(self) -> list[Any]:
        """Digest of positions, cells and times, and the topology."""
        held = self._trajectory
        timed = not getattr(held, "_time_default_to_arange", False)
        cells = np.zeros(0) if held.unitcell_vectors is None else held.unitcell_vectors
        arrays = np.asarray(held.xyz), np.asarray(cells), np.asarray(held.time)
        return [digest(*arrays), timed, None if self.topology is None else to_plain(self.topology)]

    def raw(self, atom_indices: Int[np.ndarray, " n_selected"] | None, size: int) -> Iterator[Raw]:
        """Copy chunk by chunk."""
        held = self._trajectory
        atoms = slice(None) if atom_indices is None else atom_indices
        cells = held.unitcell_vectors
        # mdtraj counts frames where it knows no times.
        timed = not getattr(held, "_time_default_to_arange", False)
        for first in range(0, held.n_frames, size):
            rows = slice(first, first + size)
            yield Raw(
                np.array(np.asarray(held.xyz)[rows][:, atoms], np.float32),
                None if cells is None else np.asarray(cells[rows], np.float64),
                np.asarray(held.time, np.float64)[rows] if timed else None,
            )


class ArraySource(AbstractSource):
    """An array of positions, in memory or on disk."""

    def __init__(self, positions: np.ndarray, name: str, factor: float) -> None:
        check_positions(positions, name)
        self.name, self.dim, self.n_atoms = name, positions.shape[2], positions.shape[1]
        self.topology, self._positions, self._factor = None, positions, factor

    @property
    def n_frames(self) -> int:
        """Of the array."""
        return len(self._positions)

    def identity(self) -> list[Any]:
        """Digest of the positions, and their unit."""
        return [digest(self._positions), self._factor]

    def raw(self, atom_indices: Int[np.ndarray, " n_selected"] | None, size: int) -> Iterator[Raw]:
        """Copy chunk by chunk, in nm or reduced units."""
        atoms = slice(None) if atom_indices is None else atom_indices
        for first in range(0, len(self._positions), size):
            part = np.asarray(self._positions[first : first + size][:, atoms])
            positions = np.array(part if self._factor == 1 else self._factor * part, np.float32)
            forget(self._positions)
            yield Raw(positions)


def check_positions(positions: np.ndarray, name: str) -> None:
    """Refuse an array that is no positions.

    Raises
    ------
    ValueError, TypeError
    """
    if positions.dtype.kind not in "fiu":
        raise TypeError(f"{name} is an array of type {positions.dtype}; expected numbers, such as float32")
    if positions.ndim != 3:
        raise ValueError(f"{name} has shape {positions.shape}; expected three axes, (n_frames, n_atoms, 2 or 3)")
    if positions.shape[2] not in (2, 3):
        raise ValueError(
            f"{name} has shape {positions.shape}; expected 2 or 3 coordinates an atom, (n_frames, n_atoms, 2 or 3)"
        )
    if positions.shape[1] == 0:
        raise ValueError(f"{name} has shape {positions.shape}: no atoms")


def open_sources(
    source: Any, length_unit: str | None, top: md.Topology | None = None, *, arrays_only: bool = False
) -> list[AbstractSource]:
    """Open every trajectory of what the user gave; a list means separate trajectories.

    Parameters
    ----------
    source : path, md.Trajectory, MDAnalysis Universe or AtomGroup, array, or list of these
    length_unit : {"nm", "angstrom", "reduced"}
        Of arrays; files are in nm by their formats, or in reduced units if this says so.
    top : md.Topology, optional
        Helps some readers.
    arrays_only : bool
        The unit is that of earlier arrays: files beside them are in nm without complaint.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
    """
    items = list(source) if isinstance(source, list | tuple) else [source]
    if not items:
        raise ValueError("the list of trajectories is empty; expected at least one")
    numbered = len(items) > 1
    if length_unit == "angstrom" and not arrays_only:
        _refuse_angstrom_files(items)
    return [_opened(item, f" {i}" if numbered else "", length_unit, top) for i, item in enumerate(items)]


def _refuse_angstrom_files(items: list[Any]) -> None:
    """Refuse a unit for what has one already."""
    for item in items:
        if isinstance(item, md.Trajectory):
            raise ValueError("length_unit='angstrom' is for arrays: an mdtraj.Trajectory is in nm")
        if is_universe(item):
            raise ValueError("length_unit='angstrom' is for arrays: leave it out, MDAnalysis is always in Å")
        if isinstance(item, str | os.PathLike) and extension(Path(item)) not in (".npy", ".npz"):
            check_format(Path(item))
            raise ValueError(
                f"length_unit='angstrom' is for arrays: {item} is read in nm, whatever unit its format uses"
            )


def _opened(item: Any, number: str, length_unit: str | None, top: md.Topology | None) -> AbstractSource:
    factor = 0.1 if length_unit == "angstrom" else 1.0
    if isinstance(item, str | os.PathLike):
        path = Path(item)
        if extension(path) in (".npy", ".npz"):
            return ArraySource(load_array(path), str(path), factor)
        return FileSource(path, length_unit == "reduced", top)
    if isinstance(item, md.Trajectory):
        return TrajectorySource(item, f"trajectory{number}")
    if is_universe(item):
        return UniverseSource(item, f"{type(item).__name__}{number}", length_unit == "reduced")
    if hasattr(item, "__array__") and hasattr(item, "shape"):
        return ArraySource(np.asarray(item), f"array{number}", factor)
    raise TypeError(
        f"a trajectory is of type {type(item).__name__}; expected a path, an mdtraj.Trajectory, "
        "an MDAnalysis Universe or AtomGroup, an array (n_frames, n_atoms, 2 or 3), or a list of these"
    )


def load_array(path: Path) -> np.ndarray:
    """Array of positions from a ``.npy`` file, or the only one with three axes of a ``.npz`` file.

    Raises
    ------
    FileNotFoundError, ValueError
    """
    check_file(path, "array file")
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with np.load(path, allow_pickle=False) as held:
            if isinstance(held, np.ndarray):
                return held
            arrays = {name: held[name] for name in held.files}
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a NumPy file of numbers: it is damaged, cut off, or holds Python objects"
        ) from error
    fitting = [name for name, array in arrays.items() if array.ndim == 3]
    if len(fitting) != 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
        raise ValueError(f"{path} holds {len(fitting)} arrays with three axes, expected one; it holds {shapes}")
    return arrays[fitting[0]]
