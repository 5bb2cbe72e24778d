"""Frames of text formats, one after another, with the place of any damage known.

mdtraj's own readers of these drop a half-written last frame without a word, hold whole PDB and GRO files
in memory, and take scaled LAMMPS coordinates for lengths; its PDB parser of one model is used.
"""

import re
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import mdtraj as md
import numpy as np
from jaxtyping import Float
from mdtraj.utils import in_units_of, lengths_and_angles_to_box_vectors

from mdvae.trajectory.topologies import open_text, parsed_pdb, pdb_models

# Decimals and exponent; and what no number ends with, as every program writes two digits of an exponent.
_NUMBER = re.compile(r"[+-]?\d*\.?(\d*)((?:[eE].*)?)")
_HALF_NUMBER = re.compile(r"^[+-]?\.?$|[\d.][eE][+-]?\d?$")


class TextFrame(NamedTuple):
    """One frame of a text file, in nm; time in ps."""

    positions: Float[np.ndarray, "n_atoms 3"]
    cell: Float[np.ndarray, "3 3"] | None
    time: float | None


def xyz_frames(path: Path) -> Iterator[TextFrame]:
    """Frames of an XYZ file, written in Å."""
    rows: list[str] = []
    with open_text(path) as file:
        while header := _next_line(file):
            n_atoms = int(header)
            _rows(file, 1)
            rows = _last_rows(file, n_atoms, rows[-1:])
            numbers = [row.split()[1:4] for row in rows]
            if any(len(row) < 3 for row in numbers):
                raise ValueError("a line holds fewer than a name and three coordinates")
            yield TextFrame(_in_nm(np.array(numbers, np.float64).reshape(n_atoms, 3)), None, None)


def gro_frames(path: Path) -> Iterator[TextFrame]:
    """Frames of a GRO file, written in nm."""
    last: list[str] = []
    with open_text(path) as file:
        while title := file.readline():
            if not title.strip() and not (title := _next_line(file)):
                return
            n_atoms = int(_rows(file, 1)[0])
            rows = _rows(file, n_atoms)
            last = _last_rows(file, 1, last)
            box = [float(value) for value in last[0].split()]
            if not last[0].endswith("\n") and len(box) not in (3, 9):
                raise EOFError
            time = re.findall(r"t= *(-?\d+\.?\d*)", title)
            yield TextFrame(_gro_positions(rows), _gro_cell(box), float(time[-1]) if time else None)


def _gro_positions(rows: list[str]) -> Float[np.ndarray, "n_atoms 3"]:
    """Positions from columns whose width is the distance of two decimal points."""
    first = rows[0].index(".", 20)
    width = rows[0].index(".", first + 1) - first
    numbers = [[row[20 + i * width : 20 + (i + 1) * width] for i in range(3)] for row in rows]
    return np.array(numbers, np.float64)


def _gro_cell(box: list[float]) -> Float[np.ndarray, "3 3"]:
    """Vectors in rows; GRO gives the diagonal first."""
    xx, yy, zz, xy, xz, yx, yz, zx, zy = (box + [0.0] * 9)[:9]
    return np.array([[xx, xy, xz], [yx, yy, yz], [zx, zy, zz]])


def lammps_frames(path: Path) -> Iterator[TextFrame]:
    """Frames of a LAMMPS dump in units of Å, atoms in the order of their ids."""
    rows: list[str] = []
    with open_text(path) as file:
        while first := _next_line(file):
            if first != "ITEM: TIMESTEP" and "ITEM: TIMESTEP".startswith(first):
                raise EOFError
            if not first.startswith("ITEM: TIMESTEP"):
                raise ValueError("expected a line 'ITEM: TIMESTEP'")
            n_atoms = int(_rows(file, 3)[2])
            low, cell = _lammps_cell(_rows(file, 4))
            names = _rows(file, 1)[0].split()[2:]
            rows = _last_rows(file, n_atoms, rows[-1:])
            table = [row.split() for row in rows]
            yield TextFrame(_in_nm(_lammps_positions(names, table, low, cell)), _in_nm(cell), None)


def _lammps_cell(lines: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Corner and vectors of the cell; the bounds of a tilted one are those of its bounding box."""
    if not lines[0].startswith("ITEM: BOX BOUNDS"):
        raise ValueError("expected a line 'ITEM: BOX BOUNDS'")
    bounds = [[float(value) for value in line.split()] for line in lines[1:]]
    xy, xz, yz = (row[2] if len(row) > 2 else 0.0 for row in bounds)
    low = np.array([row[0] for row in bounds])
    high = np.array([row[1] for row in bounds])
    low -= [min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0]
    high -= [max(0.0, xy, xz, xy + xz), max(0.0, yz), 0.0]
    lx, ly, lz = high - low
    return low, np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]])


def _lammps_positions(names: list[str], table: list[list[str]], low: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Positions in Å by atom id, from the first complete trio of columns."""
    if "id" not in names:
        raise ValueError("the dump has no column 'id'")
    for trio in (("x", "y", "z"), ("xs", "ys", "zs"), ("xu", "yu", "zu"), ("xsu", "ysu", "zsu")):
        if set(trio) <= set(names):
            break
    else:
        raise ValueError("the dump has no columns x y z, xs ys zs, xu yu zu or xsu ysu zsu")
    columns = [names.index(name) for name in trio]
    order = np.argsort([int(row[names.index("id")]) for row in table], kind="stable")
    values = np.array([[row[column] for column in columns] for row in table], np.float64)[order]
    return values @ cell + low if "s" in trio[0] else values


def pdb_frames(path: Path, topology: md.Topology | None = None) -> Iterator[TextFrame]:
    """Models of a PDB file, each with its own cell."""
    for text in pdb_models(path):
        with parsed_pdb(text, topology) as model:
            positions = np.array(model.positions[0], np.float64)
            lengths, angles = model.unitcell_lengths, model.unitcell_angles
        cell = None
        if lengths is not None and angles is not None and min(lengths) > 0:
            cell = _in_nm(np.stack(lengths_and_angles_to_box_vectors(*lengths, *angles)))
        yield TextFrame(_in_nm(positions), cell, None)


TEXT_READERS: dict[str, Callable[[Path], Iterator[TextFrame]]] = {
    ".xyz": xyz_frames,
    ".xyz.gz": xyz_frames,
    ".gro": gro_frames,
    ".gro.gz": gro_frames,
    ".lammpstrj": lammps_frames,
    ".pdb": pdb_frames,
    ".pdb.gz": pdb_frames,
}


def whole_frames(path: Path, frames: Iterator[TextFrame]) -> Iterator[TextFrame]:
    """Frames until the end of the file; damage becomes an error that says where it is.

    Raises
    ------
    ValueError
        The file is cut off, malformed, or changes its number of atoms.
    """
    n, n_atoms = 0, None
    while True:
        try:
            frame = next(frames, None)
        except EOFError:
            raise ValueError(cut_off(path, n)) from None
        except (ValueError, IndexError, TypeError, KeyError, AttributeError, OSError) as error:
            where = f"after {n} whole frames" if n else "from its first frame on"
            raise ValueError(f"{path} cannot be read {where}: {_in_short(error)}") from error
        if frame is None:
            return
        n_atoms = len(frame.positions) if n_atoms is None else n_atoms
        if len(frame.positions) != n_atoms:
            raise ValueError(f"{path}: frame {n} has {len(frame.positions)} atoms, the first has {n_atoms}")
        n += 1
        yield frame


def unreadable(path: Path, ending: str, n_whole: int | None = None) -> str:
    """Say that a file is not what its extension says, from some frame on."""
    where = f" from frame {n_whole} on" if n_whole else ""
    return f"{path} cannot be read{where} as a file of type {ending}: it is damaged, cut off, or of another format"


def cut_off(path: Path, n_whole: int) -> str:
    """Say that a file ends in the middle of a frame."""
    return (
        f"{path} is cut off in the middle of a frame, after {n_whole} whole frames: "
        "copy or write it again, or save its whole frames to a new file"
    )


def _in_short(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]


def _in_nm(lengths: np.ndarray) -> np.ndarray:
    """Å to nm with mdtraj's factor, so that the last bit agrees with mdtraj."""
    return np.asarray(in_units_of(lengths, "angstroms", "nanometers"))


def _rows(file: TextIOWrapper, n: int) -> list[str]:
    """Exactly ``n`` lines, the last one complete."""
    rows = list(islice(file, n))
    if len(rows) < n or not all(row.endswith("\n") for row in rows[-1:]):
        raise EOFError
    return rows


def _last_rows(file: TextIOWrapper, n: int, before: list[str]) -> list[str]:
    """Exactly the ``n`` lines that end a frame; the last one may lack its line break, but nothing else.

    Parameters
    ----------
    file : TextIOWrapper
    n : int
    before : list of str
        Lines of the same kind, of the frame before.
    """
    rows = list(islice(file, n))
    if len(rows) < n or (rows and not rows[-1].endswith("\n") and _is_cut(rows[-1], before + rows[:-1])):
        raise EOFError
    return rows


def _is_cut(line: str, others: list[str]) -> bool:
    """Whether a line without its line break lacks more: fields, digits or blanks that all others have."""
    fields = line.split()
    if not fields or _HALF_NUMBER.search(fields[-1]):
        return True
    if not others:
        # The number before the last one has to do.
        return len(fields) > 1 and _is_shorter(fields[-1], fields[-2:-1])
    tables = [other.split() for other in others]
    return (
        len(fields) < min(len(table) for table in tables)
        or _is_shorter(fields[-1], [table[len(fields) - 1] for table in tables if len(table) >= len(fields)])
        or (not line[-1].isspace() and all(other.removesuffix("\n")[-1:].isspace() for other in others))
    )


def _is_shorter(number: str, others: list[str]) -> bool:
    """Whether a number has fewer decimals, or less of an exponent, than any other."""
    digits = [_digits(other) for other in others]
    return any(mine < min(theirs) for mine, theirs in zip(_digits(number), zip(*digits, strict=True), strict=False))


def _digits(number: str) -> tuple[int, int]:
    """Lengths of the decimals and of the exponent."""
    match = _NUMBER.fullmatch(number)
    return (len(match[1]), len(match[2])) if match else (0, 0)


def _next_line(file: TextIOWrapper) -> str:
    """Next line that is not blank; empty at the end of the file."""
    for line in file:
        if line.strip():
            return line.strip()
    return ""
