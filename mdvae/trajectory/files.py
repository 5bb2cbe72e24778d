"""Trajectory files in chunks of raw frames: nm, cells and times as they stand, damage refused."""

import ctypes
import os
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import mdtraj as md
import numpy as np
from jaxtyping import Float, Int
from mdtraj.formats.registry import FormatRegistry
from mdtraj.utils import in_units_of, lengths_and_angles_to_box_vectors

from mdvae.trajectory.dcd import dcd_frames, layout_of
from mdvae.trajectory.text import TEXT_READERS, TextFrame, cut_off, pdb_frames, unreadable, whole_frames
from mdvae.trajectory.topologies import TOPOLOGY_FORMATS, check_file, extension, quiet, read_topology
from mdvae.trajectory.xtc import decoder, frame_starts, xtc_frames

BINARY_FORMATS = (".xtc", ".trr", ".dcd", ".nc", ".netcdf", ".ncdf", ".h5", ".hdf5")
FORMATS = (*BINARY_FORMATS, *TEXT_READERS)
_NETCDF = (".nc", ".netcdf", ".ncdf")
# Text formats that programs with reduced units write: there a number stands for itself, not for Å.
_PLAIN_NUMBERS = (".xyz", ".xyz.gz", ".lammpstrj")


@dataclass(frozen=True, eq=False)
class Raw:
    """Some consecutive frames as a source holds them.

    Attributes
    ----------
    positions : (n_frames, n_atoms, dim), float32, nm
        Writable, and nobody else's.
    cells : (n_frames, 3, 3), nm, optional
        Vectors in rows; zeros where a frame has none.
    time : (n_frames,), ps, optional
    """

    positions: Float[np.ndarray, "n_frames n_atoms dim"]
    cells: Float[np.ndarray, "n_frames 3 3"] | None = None
    time: Float[np.ndarray, " n_frames"] | None = None


def check_format(path: Path) -> str:
    """Extension of a trajectory file that exists and that mdtraj can read.

    Raises
    ------
    FileNotFoundError, ValueError, PermissionError
    """
    ending = extension(path)
    # Amber's and Desmond's folders aside, a trajectory is one file.
    check_file(path, "trajectory file")
    if ending not in FORMATS and ending not in FormatRegistry.loaders:
        raise ValueError(
            f"{path}: files of type {ending or '(none)'} are not known; expected one of "
            + ", ".join((*FORMATS, ".npy", ".npz"))
        )
    return ending


def own_topology(path: Path) -> md.Topology | None:
    """Topology inside a trajectory file, or None where the format or this file has none."""
    ending = extension(path)
    if ending not in TOPOLOGY_FORMATS:
        return None
    if ending in (".h5", ".hdf5"):
        with _said(path, ending), quiet(), _opened(path) as handle:
            return handle.topology
    return read_topology(path)


def count_atoms(path: Path, topology: md.Topology | None = None, n_frames: int | None = None) -> int:
    """Count the atoms of the first frame of a file, with what helps `raw_frames`.

    Raises
    ------
    ValueError
        The file holds no frame, or is not what its extension says.
    """
    first = next(raw_frames(path, None, 1, topology=topology, n_frames=n_frames), None)
    if first is None:
        raise ValueError(f"{path} holds no frames")
    return first.positions.shape[1]


def raw_frames(
    path: Path,
    atom_indices: Int[np.ndarray, " n_selected"] | None,
    size: int,
    *,
    reduced: bool = False,
    topology: md.Topology | None = None,
    n_frames: int | None = None,
) -> Iterator[Raw]:
    """Frames of a file, some at a time.

    Parameters
    ----------
    path : Path
    atom_indices : (n_selected,), optional
        Ascending; None for all atoms.
    size : int
        Frames of a chunk.
    reduced : bool
        Lengths are in reduced units: XYZ and LAMMPS numbers stand for themselves.
    topology : md.Topology, optional
        Spares the PDB parser the work.
    n_frames : int, optional
        What `count_frames` has found, lest it look again.

    Raises
    ------
    ValueError
        The file is damaged, cut off, or not what its extension says.
    """
    ending = extension(path)
    if ending in TEXT_READERS:
        reader = TEXT_READERS[ending]
        frames = pdb_frames(path, topology) if reader is pdb_frames else reader(path)
        scale = 10.0 if reduced and ending in _PLAIN_NUMBERS else 1.0
        yield from _batched(whole_frames(path, frames), atom_indices, size, scale)
    elif ending in BINARY_FORMATS:
        yield from _binary_frames(path, ending, atom_indices, size, n_frames)
    else:
        yield from _loaded_frames(path, atom_indices, size, topology)


def count_frames(path: Path) -> int | None:
    """Whole frames of a binary file, by its layout, without reading them; None for other formats.

    Raises
    ------
    ValueError
        The file is cut off in the middle of a frame.
    """
    ending = extension(path)
    if ending not in BINARY_FORMATS:
        return None
    if ending == ".dcd" and (layout := layout_of(path)) is not None:
        return layout.n_frames
    if ending == ".xtc" and decoder() is not None:
        with _said(path, ending):
            return len(frame_starts(path)) - 1
    with _said(path, ending), quiet(), _opened(path) as handle:
        if ending in (".xtc", ".trr"):
            return _check_gromacs(path, handle, _xtc_size if ending == ".xtc" else _trr_size)
        return int(handle.n_frames if ending in _NETCDF else len(handle))


def _binary_frames(path: Path, ending: str, atoms: np.ndarray | None, size: int, n_frames: int | None) -> Iterator[Raw]:
    """Chunks read by mdtraj's file objects, never past the last whole frame."""
    total = (count_frames(path) if n_frames is None else n_frames) or 0
    if total == 0:
        return
    if ending in _NETCDF:
        # The file is mapped into memory; opening it anew for each chunk hands the pages back.
        for first in range(0, total, size):
            with _said(path, ending, first), quiet(), _opened(path) as handle:
                handle.seek(first)
                raw = _converted(ending, handle.read(n_frames=min(size, total - first), atom_indices=atoms))
            yield raw
        return
    if ending == ".dcd" and (layout := layout_of(path)) is not None:
        with _said(path, ending):
            for positions, lengths, angles in dcd_frames(path, layout, atoms, size):
                yield Raw(positions, _cells(lengths, angles), None)
        return
    if ending == ".xtc" and decoder() is not None:
        with _said(path, ending):
            for found in xtc_frames(path, frame_starts(path, total), atoms, size):
                yield Raw(found.positions, found.cells if found.cells.any() else None, found.time)
        return
    with _said(path, ending), _opened(path) as handle:
        for first in range(0, total, size):
            with _said(path, ending, first), quiet():
                # All atoms: readers that pick some do so frame by frame, which takes as long as decoding.
                raw = _converted(ending, handle.read(n_frames=min(size, total - first)))
            if len(raw.positions) == 0:
                raise ValueError(cut_off(path, first))
            yield raw if atoms is None else Raw(np.take(raw.positions, atoms, axis=1), raw.cells, raw.time)


def _converted(ending: str, read: Any) -> Raw:
    """Convert what mdtraj's file objects return, each in its own order and unit."""
    if ending in (".xtc", ".trr"):
        xyz, time, _, box = read[:4]
        return Raw(_positions(xyz), _float64(box), _float64(time))
    if ending in _NETCDF:
        xyz, time, lengths, angles = read
        return Raw(_positions(_nm(xyz)), _cells(_nm(lengths), angles), _float64(time))
    if ending == ".dcd":
        xyz, lengths, angles = read
        return Raw(_positions(_nm(xyz)), _cells(_nm(lengths), angles), None)
    if len(read) == 0:
        return Raw(np.zeros((0, 0, 3), np.float32))
    return Raw(_positions(read.coordinates), _cells(read.cell_lengths, read.cell_angles), _float64(read.time))


def _positions(xyz: Any) -> Float[np.ndarray, "n_frames n_atoms dim"]:
    # NetCDF is big-endian and HDF5 may be shared: always our own float32.
    return np.require(xyz, np.float32, ["C", "W", "O"])


def _float64(values: Any) -> np.ndarray | None:
    return None if values is None else np.asarray(values, np.float64)


def _nm(lengths: np.ndarray | None) -> np.ndarray | None:
    return None if lengths is None else in_units_of(lengths, "angstroms", "nanometers", inplace=True)


def _cells(lengths: np.ndarray | None, angles: np.ndarray | None) -> Float[np.ndarray, "n_frames 3 3"] | None:
    """Vectors of the cells, zeros where lengths or angles make none."""
    if lengths is None or angles is None:
        return None
    lengths, angles = np.asarray(lengths, np.float64), np.asarray(angles, np.float64)
    real = np.isfinite(lengths).all(axis=1) & (lengths > 0).all(axis=1)
    real &= np.isfinite(angles).all(axis=1) & (angles > 0).all(axis=1)
    cells = np.zeros((len(lengths), 3, 3))
    if real.any():
        with np.errstate(invalid="ignore"):
            cells[real] = np.stack(lengths_and_angles_to_box_vectors(*lengths[real].T, *angles[real].T), axis=1)
    return cells


def _batched(frames: Iterator[TextFrame], atoms: np.ndarray | None, size: int, scale: float) -> Iterator[Raw]:
    """Chunks from single frames."""
    picked = (TextFrame(f.positions if atoms is None else f.positions[atoms], f.cell, f.time) for f in frames)
    while chunk := list(islice(picked, size)):
        cells = None
        if any(frame.cell is not None for frame in chunk):
            cells = scale * np.stack([np.zeros((3, 3)) if f.cell is None else f.cell for f in chunk])
        times = [frame.time for frame in chunk]
        time = None if None in times else np.array(times, np.float64)
        yield Raw((scale * np.stack([f.positions for f in chunk])).astype(np.float32), cells, time)


def _loaded_frames(path: Path, atoms: np.ndarray | None, size: int, topology: md.Topology | None) -> Iterator[Raw]:
    """Load formats that nobody uses for long trajectories whole, by mdtraj."""
    with _said(path, extension(path)), quiet():
        try:
            loaded = md.load(str(path), top=topology)
        except TypeError:
            # Some loaders take no topology.
            loaded = md.load(str(path))
    cells = loaded.unitcell_vectors
    for first in range(0, loaded.n_frames, size):
        rows = slice(first, first + size)
        xyz = loaded.xyz[rows] if atoms is None else loaded.xyz[rows][:, atoms]
        yield Raw(np.array(xyz, np.float32), None if cells is None else _float64(cells[rows]), None)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open with mdtraj, silencing its DCD reader's chatter."""
    with _silent_stdout() if extension(path) == ".dcd" else quiet():
        handle = md.open(str(path))
    try:
        yield handle
    finally:
        with quiet():
            handle.close()


@contextmanager
def _said(path: Path, ending: str, n_whole: int | None = None) -> Iterator[None]:
    """Whatever a reader raises, said in one line."""
    try:
        yield
    except (MemoryError, PermissionError):
        raise
    except Exception as error:
        if type(error) is ValueError and str(path) in str(error):
            raise
        raise ValueError(unreadable(path, ending, n_whole)) from error


@contextmanager
def _silent_stdout() -> Iterator[None]:
    """Send what C code prints to nowhere, for the moment of opening a DCD."""
    try:
        flush = ctypes.CDLL(None).fflush
    except (TypeError, OSError, AttributeError):
        flush = None
    if flush is None:
        yield
        return
    sys.stdout.flush()
    flush(None)
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        flush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _check_gromacs(path: Path, handle: Any, frame_size: Callable[[IO[bytes]], int]) -> int:
    """Whole frames of an XTC or TRR; mdtraj counts a last frame that is half there."""
    try:
        first, n = int(handle.offsets[-1]), len(handle) - 1
    except Exception:
        # mdtraj loses its way (IndexError, AssertionError) in a TRR, or an XTC of few atoms, that is cut off.
        first, n = 0, 0
    end = path.stat().st_size
    with path.open("rb") as file:
        while first < end:
            file.seek(first)
            try:
                first += frame_size(file)
            except (struct.error, ValueError):
                raise ValueError(cut_off(path, n)) from None
            if first > end:
                raise ValueError(cut_off(path, n))
            n += 1
    return n


def _xtc_size(file: IO[bytes]) -> int:
    """Bytes of the XTC frame that starts here: header, then packed coordinates."""
    magic, n_atoms = struct.unpack(">2i", file.read(8))
    if magic not in (1995, 2023):
        raise ValueError("no XTC frame")
    if n_atoms <= 9:
        return 56 + 12 * n_atoms
    file.seek(80, os.SEEK_CUR)
    wide = magic == 2023
    (packed,) = struct.unpack(">q" if wide else ">i", file.read(8 if wide else 4))
    return (96 if wide else 92) + (packed + 3) // 4 * 4


def _trr_size(file: IO[bytes]) -> int:
    """Bytes of the TRR frame that starts here: a header with the sizes of what follows."""
    magic, _, n_letters = struct.unpack(">3i", file.read(12))
    if magic != 1993:
        raise ValueError("no TRR frame")
    letters = (n_letters + 3) // 4 * 4
    file.seek(letters, os.SEEK_CUR)
    *sizes, n_atoms, _, _ = struct.unpack(">13i", file.read(52))
    box, x, v, f = sizes[2], sizes[7], sizes[8], sizes[9]
    double = (box == 72) if box else (max(x, v, f) == 24 * n_atoms)
    return 12 + letters + 52 + 2 * (8 if double else 4) + sum(sizes)
