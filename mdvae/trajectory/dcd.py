"""DCD files, as CHARMM, NAMD, X-PLOR, OpenMM and LAMMPS write them: records of one fixed size, one plane after another.

NumPy takes many frames apart at once, where a reader that goes frame by frame spends its time between them.
"""

import os
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from mdvae._chunks import ahead
from mdvae._memory import aligned
from mdvae.trajectory.text import cut_off

_NM = 0.1
_AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Layout:
    """Where the numbers are in a DCD file.

    Attributes
    ----------
    promised : int
        Frames, by the header.
    n_frames : int
        Whole frames, by the size of the file.
    start : int
        Bytes of the header.
    frame : np.dtype
        Of one frame, with the marks before and after each record.
    """

    promised: int
    n_frames: int
    start: int
    frame: np.dtype


def layout_of(path: Path) -> Layout | None:
    """Layout of a DCD file; None for layouts that are rare (fixed atoms, long marks).

    Raises
    ------
    ValueError
        The file ends within its header or within a frame.
    """
    with path.open("rb") as file:
        start = file.read(8)
        order = next((o for o in "<>" if start == struct.pack(f"{o}i4s", 84, b"CORD")), None)
        if order is None:
            return None
        try:
            control = struct.unpack(f"{order}20i", file.read(80))
            file.seek(4, os.SEEK_CUR)
            (title,) = struct.unpack(f"{order}i", file.read(4))
            file.seek(title + 4, os.SEEK_CUR)
            _, n_atoms, _ = struct.unpack(f"{order}3i", file.read(12))
        except struct.error:
            raise ValueError(f"{path} is cut off within its header") from None
        header = file.tell()
    fixed, cell, fourth = control[8], control[10], control[11]
    if fixed or n_atoms < 1:
        return None
    left = path.stat().st_size - header
    if 0 < left < 12 * n_atoms:
        raise ValueError(cut_off(path, 0))
    charmm = control[19] != 0
    records = [("cell", f"{order}f8", 6)] * (charmm and bool(cell)) + [(axis, f"{order}f4", n_atoms) for axis in _AXES]
    records += [("fourth", f"{order}f4", n_atoms)] * (charmm and bool(fourth))
    mark = f"{order}i4"
    frame = np.dtype(
        [
            field
            for name, kind, n in records
            for field in ((f"before {name}", mark), (name, kind, (n,)), (f"after {name}", mark))
        ]
    )
    n_frames, rest = divmod(left, frame.itemsize)
    if rest:
        raise ValueError(cut_off(path, n_frames))
    return Layout(control[0], n_frames, header, frame)


def warn_of_promises(path: Path) -> None:
    """Warn of a file that holds fewer frames than its header promises."""
    layout = layout_of(path)
    if layout is not None and layout.n_frames < layout.promised:
        warnings.warn(
            f"{path}: its header promises {layout.promised} frames, it holds {layout.n_frames}; these are read",
            UserWarning,
            stacklevel=2,
        )


def dcd_frames(
    path: Path, layout: Layout, atoms: Int[np.ndarray, " n_selected"] | None, size: int
) -> Iterator[tuple[Float[np.ndarray, "n_frames n_selected 3"], np.ndarray | None, np.ndarray | None]]:
    """Frames of a file, some at a time; threads are at the next ones meanwhile.

    Parameters
    ----------
    path : Path
    layout : Layout
    atoms : (n_selected,), optional
        None for all.
    size : int
        Frames of a chunk.

    Yields
    ------
    positions : (n_frames, n_selected, 3), float32, nm
    lengths : (n_frames, 3), nm, optional
    angles : (n_frames, 3), degrees, optional
        Both None where the file has no cells.

    Raises
    ------
    ValueError
        The marks around a record are not what they must be.
    """
    names = layout.frame.names or ()
    records = [name for name in names if f"before {name}" in names]
    chosen = slice(None) if atoms is None else atoms

    def one(first: int) -> tuple[Float[np.ndarray, "n_frames n_selected 3"], np.ndarray | None, np.ndarray | None]:
        frames = np.empty(min(size, layout.n_frames - first), layout.frame)
        with path.open("rb") as file:
            file.seek(layout.start + first * layout.frame.itemsize)
            if file.readinto(frames.view(np.uint8).data) < frames.nbytes:
                raise ValueError(cut_off(path, first))
        sound = np.ones(len(frames), bool)
        for name in records:
            for side in ("before", "after"):
                sound &= frames[f"{side} {name}"] == layout.frame[name].itemsize
        if not sound.all():
            raise ValueError(f"{path} is damaged, after {first + int(np.argmin(sound))} whole frames")
        positions = aligned((len(frames), *frames["x"][:1, chosen].shape[1:], 3))
        for axis, name in enumerate(_AXES):
            np.multiply(frames[name][:, chosen], np.float32(_NM), out=positions[..., axis])
        lengths, angles = _cell(frames["cell"]) if "cell" in records else (None, None)
        return positions, lengths, angles

    # Two, on any machine: each holds a chunk twice.
    yield from ahead(one, range(0, layout.n_frames, size), n_threads=2)


def _cell(numbers: Float[np.ndarray, "n_frames 6"]) -> tuple[np.ndarray, np.ndarray]:
    """Lengths in nm and angles in degrees of a, gamma, b, beta, alpha, c; of angles some programs write the cosines."""
    lengths = _NM * numbers[:, [0, 2, 5]].astype(np.float64)
    angles = numbers[:, [4, 3, 1]].astype(np.float64)
    cosines = (np.abs(angles) <= 1).all(axis=1)
    angles[cosines] = np.degrees(np.arccos(angles[cosines]))
    return lengths, angles
