"""Topologies from files, selections of their atoms, and plain data to keep them."""

import gzip
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from itertools import pairwise
from pathlib import Path
from typing import Any

import mdtraj as md
import numpy as np
from jaxtyping import Float, Int
from mdtraj.core.topology import bond_name_to_type
from mdtraj.formats import GroTrajectoryFile, HDF5TrajectoryFile, PDBTrajectoryFile

from mdvae._memory import uncollected

TOPOLOGY_FORMATS = (
    ".pdb", ".pdb.gz", ".gro", ".gro.gz", ".h5", ".hdf5", ".cif", ".cif.gz", ".mmcif", ".pdbx",
    ".prmtop", ".parm7", ".prm7", ".psf", ".mol2", ".hoomdxml", ".gsd", ".arc", ".lh5",
)  # fmt: skip

# Protonation variants of one residue, named differently by different programs.
_VARIANTS = {
    "HIE": "HIS", "HID": "HIS", "HIP": "HIS", "HSD": "HIS", "HSE": "HIS", "HSP": "HIS",
    "CYX": "CYS", "ASH": "ASP", "GLH": "GLU", "LYN": "LYS",
}  # fmt: skip
_EXAMPLES = (
    "protein and name CA", "protein", "backbone", "not water and not element H", "not water", "name O",
)  # fmt: skip


def extension(path: Path) -> str:
    """Extension in lower case, with ``.gz`` and what stands before it taken as one."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return "".join(suffixes) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])


def check_file(path: Path, what: str = "file") -> None:
    """Refuse a path that is no readable, non-empty file.

    Raises
    ------
    FileNotFoundError, ValueError, PermissionError
    """
    if not path.exists():
        raise FileNotFoundError(f"{what} {path} does not exist; check the path")
    if path.is_dir():
        raise ValueError(f"{path} is a directory; expected a {what}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); expected a {what}")
    if not os.access(path, os.R_OK):
        raise PermissionError(f"{what} {path} cannot be read: permission denied")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep mdtraj's own warnings from the user; what matters is said in our words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@uncollected
def read_topology(top: "str | os.PathLike | md.Topology | md.Trajectory") -> md.Topology:
    """Topology from a file, or from an mdtraj object.

    Parameters
    ----------
    top : path, md.Topology or md.Trajectory

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        The file is missing, or of a format that holds no topology, or cannot be understood.
    """
    if isinstance(top, md.Topology):
        return top
    if isinstance(top, md.Trajectory):
        return _present(top.topology, "the trajectory given as top")
    if not isinstance(top, str | os.PathLike):
        raise TypeError(f"top is of type {type(top).__name__}; expected a path, md.Topology or md.Trajectory")
    path = Path(top)
    check_file(path, "topology file")
    ending = extension(path)
    if ending not in TOPOLOGY_FORMATS:
        raise ValueError(
            f"{path}: a file of type {ending or '(none)'} holds no topology; expected one of "
            + ", ".join(TOPOLOGY_FORMATS)
        )
    try:
        with quiet():
            topology = _parsed(path, ending)
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a {ending} topology: {_first_line(error)}") from error
    return _present(topology, str(path))


def _present(topology: md.Topology | None, name: str) -> md.Topology:
    if topology is None or topology.n_atoms == 0:
        raise ValueError(f"{name} holds no atoms; expected a topology")
    return topology


def _parsed(path: Path, ending: str) -> md.Topology | None:
    """Parse with the reader that touches the least: mdtraj's loaders read all frames for one topology."""
    if ending in (".pdb", ".pdb.gz"):
        return _pdb_topology(path)
    if ending == ".gro.gz":
        with tempfile.TemporaryDirectory() as folder, gzip.open(path) as packed:
            plain = Path(folder) / "top.gro"
            with plain.open("wb") as out:
                shutil.copyfileobj(packed, out)
            return _parsed(plain, ".gro")
    if ending == ".gro":
        with GroTrajectoryFile(str(path)) as file:
            return file.topology
    if ending in (".h5", ".hdf5"):
        with HDF5TrajectoryFile(str(path)) as file:
            return file.topology
    return md.load_topology(str(path))


def open_text(path: Path) -> TextIOWrapper:
    """Open a text file for reading, packed or not."""
    if path.suffix.lower() == ".gz":
        return TextIOWrapper(gzip.open(path), errors="replace")
    return path.open(errors="replace")


def pdb_models(path: Path) -> Iterator[str]:
    """Text of one model after another of a PDB file, each with the cell that stands before it.

    Models end at ENDMDL, or at END where a program (VMD) writes no MODEL. mdtraj would hold all models
    as Python objects, and give every model the cell of the last.

    Raises
    ------
    EOFError
        The file ends in the middle of an atom.
    """
    cell, lines = "", []
    with open_text(path) as file:
        for line in file:
            record = line[:6].rstrip()
            if record == "CRYST1":
                cell = line
            elif record in ("ATOM", "HETATM", "TER"):
                lines.append(line)
            elif record in ("ENDMDL", "END") and lines:
                yield cell + "".join(lines) + "END\n"
                lines = []
    atoms = [line for line in lines if line[:3] != "TER"]
    if atoms:
        if not atoms[-1].endswith("\n") and len(atoms[-1]) < min([80, *(len(line.rstrip()) for line in atoms[:-1])]):
            raise EOFError("it is cut off in the middle of a line")
        yield cell + "".join(lines) + "END\n"


def _pdb_topology(path: Path) -> md.Topology | None:
    """Topology from the first model and the CONECT records, wherever these stand."""
    first = next(pdb_models(path), None)
    if first is None:
        raise ValueError("it has no ATOM record")
    with open_text(path) as file:
        bonds = "".join(line for line in file if line.startswith("CONECT"))
    with parsed_pdb(first.removesuffix("END\n") + bonds + "END\n") as file:
        return file.topology


@contextmanager
def parsed_pdb(text: str, topology: md.Topology | None = None) -> Iterator[Any]:
    """Parse text into mdtraj's view of the text of a PDB file; mdtraj reads from disk only."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "model.pdb"
        plain.write_text(text)
        with quiet(), PDBTrajectoryFile(str(plain), top=topology) as file:
            yield file


def choose(
    topology: md.Topology, select: str | None, atom_indices: Any, name: str = "the topology"
) -> Int[np.ndarray, " n_atoms"]:
    """Find the wanted atoms, in ascending order.

    Parameters
    ----------
    topology : md.Topology
    select : str, optional
        In mdtraj's selection language.
    atom_indices : sequence of int, optional
        Counted from 0. Without either, all atoms, unless there is water among them.
    name : str
        What to call the topology in messages.

    Raises
    ------
    ValueError, TypeError
    """
    if select is not None and atom_indices is not None:
        raise ValueError("both select and atom_indices are given; give one of them")
    if atom_indices is not None:
        return check_indices(atom_indices, topology.n_atoms, name)
    if select is None:
        _refuse_water(topology, name)
        return np.arange(topology.n_atoms)
    return _selected(topology, select, name)


def _selected(topology: md.Topology, select: str, name: str) -> Int[np.ndarray, " n_atoms"]:
    """Evaluate a selection."""
    if not isinstance(select, str):
        raise TypeError(f"select is of type {type(select).__name__}; expected a string such as 'name CA'")
    hint = f"try for example select={suggestion(topology)!r}"
    try:
        with quiet():
            atoms = topology.select(select)
    except Exception as error:
        raise ValueError(f"select={select!r} is not a selection that mdtraj understands; {hint}") from error
    if len(atoms) == 0:
        raise ValueError(f"select={select!r} matches none of the {topology.n_atoms} atoms of {name}; {hint}")
    return np.sort(np.asarray(atoms, np.int64))


def check_indices(atom_indices: Any, n_atoms: int, name: str) -> Int[np.ndarray, " n_selected"]:
    """Ascending atom indices, or an error that says what is wrong with them."""
    indices = np.asarray(atom_indices)
    if indices.ndim != 1 or indices.size == 0:
        raise ValueError(f"atom_indices has shape {indices.shape}; expected a list of at least one index")
    if not np.issubdtype(indices.dtype, np.integer):
        raise TypeError(f"atom_indices are of type {indices.dtype}; expected integers")
    outside = indices[(indices < 0) | (indices >= n_atoms)]
    if len(outside):
        raise ValueError(
            f"atom index {outside[0]} is out of range: {name} has {n_atoms} atoms, counted 0 to {n_atoms - 1}"
        )
    values, counts = np.unique(indices, return_counts=True)
    if counts.max() > 1:
        twice = values[counts > 1][0]
        raise ValueError(f"atom index {twice} is given more than once; give each index once")
    return values.astype(np.int64)


def suggestion(topology: md.Topology) -> str:
    """Suggest a selection that matches atoms of this topology."""
    with quiet():
        for text in _EXAMPLES:
            if len(topology.select(text)) > 1:
                return text
    return f"name {next(iter(topology.atoms)).name}" if topology.n_atoms else "all"


def _refuse_water(topology: md.Topology, name: str) -> None:
    """Refuse water that nobody asked for: a model of all of it is hardly ever meant."""
    waters = sum(residue.is_water for residue in topology.residues)
    if waters:
        raise ValueError(
            f"{name}: {_thousands(waters)} waters among {_thousands(topology.n_atoms)} atoms; "
            f"choose atoms, for example select={suggestion(topology)!r}"
        )


def check_same_atoms(found: md.Topology, expected: md.Topology, name: str) -> None:
    """Refuse another molecule that happens to have as many atoms.

    Raises
    ------
    ValueError
        At the first atom whose name, residue or element differs.
    """
    if all(not atom.element for atom in expected.atoms):
        return  # beads that came without names
    for a, b in zip(found.atoms, expected.atoms, strict=True):
        # Four and three letters are what a PDB file keeps.
        same = (a.name[:4] == b.name[:4] or _standard(a) == _standard(b)) and _residue(a) == _residue(b)
        if not same or (a.element and b.element and a.element != b.element):
            raise ValueError(
                f"{name}: selected atom {a.index} is {a}, expected {b}: "
                "is this another molecule, or are its atoms in another order?"
            )


def standard_names(residue: str) -> tuple[str, dict[str, str]]:
    """Standard name of a residue, and the other names of its atoms with their standard ones, by mdtraj's tables.

    mdtraj itself renames what it reads from PDB and GRO files, and knows the bonds of standard names only.
    """
    tables: Any = PDBTrajectoryFile
    tables._loadNameReplacementTables()
    name = tables._residueNameReplacements.get(residue, residue)
    return name, tables._atomNameReplacements.get(name, {})


def _standard(atom: Any) -> str:
    name = str(atom.name)
    return standard_names(str(atom.residue.name))[1].get(name, name)[:4]


def _residue(atom: Any) -> str:
    name = str(atom.residue.name)[:3].upper()
    return _VARIANTS.get(name, name)


def bead_topology(n_beads: int, symbol: str = "VS") -> md.Topology:
    """Make a chain of nameless beads, for arrays that come without a topology.

    Parameters
    ----------
    n_beads : int

    Returns
    -------
    md.Topology
        One chain, one residue a bead, consecutive beads bonded.
    """
    topology = md.Topology()
    chain = topology.add_chain()
    element = md.element.get_by_symbol(symbol)
    beads = []
    for i in range(n_beads):
        residue = topology.add_residue("BEA", chain, resSeq=i + 1)
        beads.append(topology.add_atom(f"B{i + 1}", element, residue, serial=i + 1))
    for a, b in pairwise(beads):
        topology.add_bond(a, b)
    return topology


def to_plain(topology: md.Topology) -> dict[str, Any]:
    """Topology as lists and strings, for JSON."""
    chains = [
        {
            "id": chain.chain_id,
            "residues": [
                {
                    "name": residue.name,
                    "number": _int(residue.resSeq),
                    "segment": residue.segment_id,
                    "atoms": [_plain_atom(atom) for atom in residue.atoms],
                }
                for residue in chain.residues
            ],
        }
        for chain in topology.chains
    ]
    bonds = [
        [a.index, b.index, None if bond.type is None else str(bond.type), bond.order]
        for bond in topology.bonds
        for a, b in [(bond[0], bond[1])]
    ]
    return {"chains": chains, "bonds": bonds}


def _plain_atom(atom: Any) -> list[Any]:
    symbol = None if atom.element is None else atom.element.symbol
    return [atom.name, symbol, _int(atom.serial), _int(getattr(atom, "formal_charge", None))]


def from_plain(plain: dict[str, Any]) -> md.Topology:
    """Topology back from what `to_plain` gave."""
    topology = md.Topology()
    atoms = []
    for chain_data in plain["chains"]:
        chain = topology.add_chain(chain_data["id"])
        for residue_data in chain_data["residues"]:
            residue = topology.add_residue(residue_data["name"], chain, residue_data["number"], residue_data["segment"])
            for name, symbol, serial, charge in residue_data["atoms"]:
                element: Any = None if symbol is None else md.element.get_by_symbol(symbol)
                atoms.append(topology.add_atom(name, element, residue, serial, charge))
    for i, j, kind, order in plain["bonds"]:
        topology.add_bond(atoms[i], atoms[j], type=bond_name_to_type(kind), order=order)
    return topology


def bond_indices(topology: md.Topology) -> Int[np.ndarray, "n_bonds 2"]:
    """Bonded pairs of atom indices."""
    pairs = [(bond[0].index, bond[1].index) for bond in topology.bonds]
    return np.asarray(pairs, np.int64).reshape(-1, 2)


def masses_of(topology: md.Topology) -> tuple[Float[np.ndarray, " n_atoms"], int]:
    """Masses in atomic mass units, 1 where the element is unknown, and how many are unknown."""
    masses = np.array([atom.element.mass if atom.element else 0.0 for atom in topology.atoms], np.float32)
    unknown = masses <= 0
    masses[unknown] = 1.0
    return masses, int(unknown.sum())


@uncollected
def subset(topology: md.Topology, indices: Sequence[int] | np.ndarray) -> md.Topology:
    """Topology of some of the atoms, with their bonds, numbered anew.

    mdtraj keeps the old serials but counts positions in the CONECT records of a PDB: other programs would draw bonds
    between the wrong atoms.
    """
    chosen = topology.subset([int(i) for i in indices])
    for atom in chosen.atoms:
        atom.serial = atom.index + 1
    return chosen


def _int(value: Any) -> int | None:
    return None if value is None else int(value)


def _thousands(n: int) -> str:
    return f"{n:,}".replace(",", " ")


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]
