"""Conformations that MDAnalysis holds, which is in Å: read without importing it."""

import warnings
from collections.abc import Iterator
from typing import Any

import mdtraj as md
import numpy as np
from jaxtyping import Int

from mdvae.trajectory.files import Raw
from mdvae.trajectory.interface import AbstractSource, digest
from mdvae.trajectory.topologies import standard_names, to_plain

# Å in a nm.
_NM = np.float32(10)
# A mass says what element an atom is, where nothing else does; where the atom's type does, hydrogens may be heavy.
_SAME_MASS, _LIKE = 0.1, 3.5


def is_universe(item: Any) -> bool:
    """Whether this is a Universe or an AtomGroup of MDAnalysis."""
    names = {f"{one.__module__}.{one.__name__}" for one in type(item).__mro__}
    return bool(names & {"MDAnalysis.core.universe.Universe", "MDAnalysis.core.groups.AtomGroup"})


class UniverseSource(AbstractSource):
    """All atoms of a Universe; of an AtomGroup those of its Universe, from which it selects.

    Parameters
    ----------
    item : MDAnalysis.Universe or MDAnalysis.AtomGroup
    name : str
    reduced : bool
        The numbers have no unit, and stand for themselves.
    """

    def __init__(self, item: Any, name: str, reduced: bool) -> None:
        if type(item).__name__ == "UpdatingAtomGroup":
            raise ValueError(
                f"{name} chooses its atoms anew in each frame, and a model has always the same; leave updating out"
            )
        universe = item.universe
        if not hasattr(universe, "trajectory"):
            raise ValueError(f"{name} has atoms but no trajectory; load one into the Universe")
        self.name, self.dim, self.n_atoms = name, 3, len(universe.atoms)
        self._universe, self._unit = universe, np.float32(1) if reduced else _NM
        if item is not universe:
            self.selection = _ascending(np.asarray(item.indices, np.int64), name)
        self.topology = to_mdtraj(universe)

    @property
    def n_frames(self) -> int:
        """Of the trajectory."""
        return len(self._universe.trajectory)

    def identity(self) -> list[Any]:
        """Digest of all frames, the topology, and the selection."""
        chosen = None if self.selection is None else self.selection.tolist()
        frames = (part for raw in self.raw(None, 100) for part in (raw.positions, raw.cells, raw.time))
        return [
            digest(*(part for part in frames if part is not None)),
            None if self.topology is None else to_plain(self.topology),
            chosen,
        ]

    def raw(self, atom_indices: Int[np.ndarray, " n_selected"] | None, size: int) -> Iterator[Raw]:
        """Read chunk by chunk; afterwards the Universe is at the frame that it was at."""
        trajectory = self._universe.trajectory
        before = trajectory.frame
        try:
            for first in range(0, len(trajectory), size):
                frames = trajectory[first : first + size]
                yield stack([self.single(frame, atom_indices) for frame in frames])
        finally:
            trajectory[before]

    def single(self, frame: Any, atom_indices: Int[np.ndarray, " n_selected"] | None) -> Raw:
        """One time step of the trajectory by itself."""
        positions = frame.positions if atom_indices is None else frame.positions[atom_indices]
        cell = np.zeros((3, 3)) if frame.dimensions is None else frame.triclinic_dimensions.astype(np.float64)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            time = float(frame.time)
        # Where a file holds no times MDAnalysis counts frames, and says so.
        known = None if said else np.array([time])
        return Raw(np.array(positions[None] / self._unit, np.float32), cell[None] / self._unit, known)


def stack(parts: list[Raw]) -> Raw:
    """Consecutive frames as one."""
    times = [part.time for part in parts if part.time is not None]
    cells = [part.cells for part in parts if part.cells is not None]
    time = np.concatenate(times) if len(times) == len(parts) else None
    return Raw(np.concatenate([part.positions for part in parts]), np.concatenate(cells), time)


def _ascending(indices: Int[np.ndarray, " n_selected"], name: str) -> Int[np.ndarray, " n_selected"]:
    if not len(indices):
        raise ValueError(f"{name} holds no atoms; does its selection match any?")
    if (np.diff(indices) <= 0).any():
        raise ValueError(f"the atoms of {name} are not in the order of the Universe, or not unique; use its .unique")
    return indices


def to_mdtraj(universe: Any) -> md.Topology:
    """Topology of all atoms of a Universe, with its bonds and those that residues of these names have.

    Parameters
    ----------
    universe : MDAnalysis.Universe
    """
    atoms, topology = universe.atoms, md.Topology()
    chain_of = _attribute(atoms, "chainIDs", _attribute(atoms, "segids", [""] * len(atoms)))
    residue_of, elements = atoms.resindices, _elements(atoms)
    names = _attribute(atoms, "names", [f"A{i + 1}" for i in range(len(atoms))])
    residue_names = _attribute(atoms, "resnames", ["UNK"] * len(atoms))
    numbers = _attribute(atoms, "resids", residue_of + 1)
    segments = _attribute(atoms, "segids", [""] * len(atoms))
    chain, residue, standard = None, None, {}
    for i in range(len(atoms)):
        if chain is None or chain_of[i] != chain_of[i - 1]:
            chain, residue = topology.add_chain(str(chain_of[i])), None
        if residue is None or residue_of[i] != residue_of[i - 1]:
            name, standard = standard_names(str(residue_names[i]))
            residue = topology.add_residue(name, chain, int(numbers[i]), str(segments[i]))
        topology.add_atom(standard.get(str(names[i]), str(names[i])), elements[i], residue, serial=i + 1)
    topology.create_standard_bonds()
    known = {frozenset((bond[0].index, bond[1].index)) for bond in topology.bonds}
    every = list(topology.atoms)
    for a, b in _bonds(universe):
        if frozenset((a, b)) not in known:
            topology.add_bond(every[a], every[b])
    return topology


def _attribute(atoms: Any, name: str, otherwise: Any) -> Any:
    """What a Universe may know of its atoms, or not."""
    try:
        return getattr(atoms, name)
    except AttributeError:  # MDAnalysis' own error of missing data is one
        return otherwise


def _bonds(universe: Any) -> list[tuple[int, int]]:
    bonds = _attribute(universe, "bonds", None)
    return [] if bonds is None else [(int(a), int(b)) for a, b in bonds.indices]


def _elements(atoms: Any) -> list[Any]:
    """By symbol where the Universe knows it; else by what type an atom is, or by what it weighs."""
    symbols, types = _attribute(atoms, "elements", [""] * len(atoms)), _attribute(atoms, "types", [""] * len(atoms))
    masses = _attribute(atoms, "masses", np.zeros(len(atoms)))
    kinds = zip(map(str, symbols), map(str, types), np.round(np.asarray(masses, float), 3).tolist(), strict=True)
    known: dict[tuple[str, str, float], Any] = {}
    return [known[kind] if kind in known else known.setdefault(kind, _element(*kind)) for kind in kinds]


def _element(symbol: str, kind: str, mass: float) -> Any:
    if (given := _by_symbol(symbol)) is not None:
        return given
    named = _by_symbol(kind)
    if named is not None and (mass == 0 or abs(named.mass - mass) < (_LIKE if named.symbol == "H" else _SAME_MASS)):
        return named
    near = md.element.Element.getByMass(mass)
    return near if near is not None and abs(near.mass - mass) < _SAME_MASS else None


def _by_symbol(symbol: str) -> Any:
    try:
        return md.element.get_by_symbol(symbol.strip())
    except KeyError:
        return None
