"""Frames to `mdtraj.Trajectory`, and from there to files, whole or not at all."""

import errno
import os
from pathlib import Path
from typing import Any

import mdtraj as md
import numpy as np
from jaxtyping import Float

from mdvae._files import replacing
from mdvae.trajectory.files import count_frames, raw_frames
from mdvae.trajectory.system import System
from mdvae.trajectory.topologies import extension, quiet

SAVE_FORMATS = (
    ".xtc", ".trr", ".dcd", ".nc", ".netcdf", ".ncdf", ".h5", ".pdb", ".pdb.gz", ".cif", ".gro",
    ".xyz", ".xyz.gz", ".lammpstrj",
)  # fmt: skip


class Conformations(md.Trajectory):
    """An `mdtraj.Trajectory` that came out of a model, and says how: what restoring did to it, and what was drawn.

    Attributes
    ----------
    restoration : Restoration, optional
        How far each structure was moved, and whether it is valid; None where nothing was restored, and in slices.
    n_drawn : int, optional
        How many structures were drawn to get these; None where they were given and not drawn, and in slices.
    """

    restoration: Any = None
    n_drawn: int | None = None


def to_trajectory(
    system: System,
    coordinates: Float[np.ndarray, "n_frames n_atoms dim"],
    time: Float[np.ndarray, " n_frames"] | None = None,
    restoration: Any = None,
) -> Conformations:
    """Conformations as an `mdtraj.Trajectory`; a plane lies at z = 0.

    Parameters
    ----------
    system : System
    coordinates : (n_frames, n_atoms, dim), nm or reduced units
    time : (n_frames,), ps, optional
    restoration : Restoration, optional
        What restoring did to them; goes into the attribute of that name.

    Raises
    ------
    ValueError
        The atoms or axes are not those of the system.
    """
    coordinates = np.asarray(coordinates)
    if coordinates.ndim != 3 or coordinates.shape[1:] != (system.n_atoms, system.dim):
        raise ValueError(
            f"coordinates have shape {coordinates.shape}, expected (n_frames, {system.n_atoms}, {system.dim})"
        )
    xyz = np.zeros((len(coordinates), system.n_atoms, 3), np.float32)
    xyz[:, :, : system.dim] = coordinates
    trajectory = Conformations(xyz, system.topology, time=time)
    trajectory.restoration = restoration
    return trajectory


def check_output(path: "str | os.PathLike") -> Path:
    """Refuse a path that no trajectory can be written to, before any work is done.

    Raises
    ------
    ValueError
        The extension is not known.
    FileNotFoundError, PermissionError, IsADirectoryError
    """
    path = Path(path)
    if extension(path) not in SAVE_FORMATS:
        raise ValueError(
            f"{path}: files of type {extension(path) or '(none)'} cannot be written; expected one of "
            + ", ".join(SAVE_FORMATS)
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: the folder {path.parent} does not exist")
    if path.is_dir():
        raise IsADirectoryError(f"{path} cannot be written: it is a directory")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{path} cannot be written: no permission in the folder {path.parent}")
    return path


def save_trajectory(trajectory: md.Trajectory, path: "str | os.PathLike", *, unit: str = "nm") -> None:
    """Write a trajectory in the format of the file's extension; the file is there whole or not at all.

    Parameters
    ----------
    trajectory : md.Trajectory
    path : path
    unit : {"nm", "reduced"}
        XYZ and LAMMPS files of reduced units hold the numbers as they are, not ten times them.

    Raises
    ------
    ValueError
        The extension is not known.
    OSError
        The folder is missing or not writable, or the disk is full; an older file is left as it was.
    """
    path = check_output(path)
    with replacing(path) as temporary:
        try:
            with quiet():
                _fitted(trajectory, extension(path), unit).save(str(temporary))
                _check_written(temporary, trajectory)
        except MemoryError:
            raise
        except Exception as error:
            # mdtraj's writers raise all kinds of errors where a disk is full.
            if getattr(error, "errno", None) == errno.ENOSPC or _is_full(path.parent):
                raise OSError(errno.ENOSPC, "no space left on the disk") from error
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise OSError(reason) from error


def _check_written(path: Path, trajectory: md.Trajectory) -> None:
    """Look at what is on disk: the C writers do not always notice that it is full."""
    written = count_frames(path)
    if path.stat().st_size == 0 or (written is not None and written != trajectory.n_frames):
        raise OSError("it came out incomplete")
    if extension(path) == ".h5" and not _holds(path, np.asarray(trajectory.xyz)):
        raise OSError("it came out incomplete")


def _holds(path: Path, xyz: Float[np.ndarray, "n_frames n_atoms 3"]) -> bool:
    """Whether a file gives back the positions; HDF5 leaves zeros where the disk was full."""
    first = 0
    for raw in raw_frames(path, None, 1000):
        if not np.array_equal(raw.positions, xyz[first : first + len(raw.positions)], equal_nan=True):
            return False
        first += len(raw.positions)
    return first == len(xyz)


def _fitted(trajectory: md.Trajectory, ending: str, unit: str) -> md.Trajectory:
    """Trajectory as a format wants it: LAMMPS needs a cell, reduced numbers stay themselves."""
    plain = unit == "reduced" and ending in (".xyz", ".xyz.gz", ".lammpstrj")
    xyz = np.asarray(trajectory.xyz) * np.float32(0.1 if plain else 1.0)
    lengths, angles = trajectory.unitcell_lengths, trajectory.unitcell_angles
    if ending == ".lammpstrj" and lengths is None:
        lengths = np.ptp(xyz, axis=1) + 1.0
        angles = np.full_like(lengths, 90.0)
    elif not plain:
        return trajectory
    return md.Trajectory(xyz, trajectory.topology, trajectory.time, lengths, angles)


def _is_full(folder: Path) -> bool:
    free = os.statvfs(folder) if hasattr(os, "statvfs") else None
    return free is not None and free.f_bavail * free.f_frsize < 2**16
