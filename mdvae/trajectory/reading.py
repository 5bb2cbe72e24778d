"""Sources to frames: chunk by chunk, molecules made whole, posed, and a report of what happened."""

import contextlib
import dataclasses
import logging
import math
import operator
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mdtraj as md
import numpy as np
from jaxtyping import Float, Int

from mdvae._memory import forget, rows_together
from mdvae._types import Number
from mdvae.alignment import AbstractAlignment, count_jumps, fit_alignment, pose
from mdvae.trajectory.cache import Cache, fingerprint
from mdvae.trajectory.files import Raw
from mdvae.trajectory.frames import Chunk, Frames, Report
from mdvae.trajectory.gathering import AbstractStore, choose_store, flattened, is_flat
from mdvae.trajectory.periodic import Molecules, Wholeness, find_molecules, make_whole
from mdvae.trajectory.sources import AbstractSource, open_sources
from mdvae.trajectory.system import LENGTH_UNITS, System, system_of_array, system_of_file
from mdvae.trajectory.topologies import (
    bond_indices,
    check_indices,
    check_same_atoms,
    choose,
    masses_of,
    read_topology,
    subset,
)
from mdvae.trajectory.universe import UniverseSource, stack
from mdvae.trajectory.weights import check_temperature, frame_weights

Source = Any
Posed = Float[np.ndarray, "n_frames n_atoms _"]
Top = str | os.PathLike | md.Topology | md.Trajectory

# Frames whose other pose is tried at a time, so that no second copy of all the data is needed.
_TRIAL = 20_000
_log = logging.getLogger("mdvae")


def read(
    source: Source,
    *,
    top: Top | None = None,
    select: str | None = None,
    atom_indices: Sequence[int] | np.ndarray | None = None,
    stride: int = 1,
    chunk: int | None = None,
    length_unit: str | None = None,
    periodic: bool = True,
    center: str = "mass",
    alignment: str = "superposition",
    cache: str | os.PathLike | None = None,
    scratch: str | os.PathLike | None = None,
    weights: Any = None,
    temperature: Number | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Frames:
    """Read conformations and lay them in a standard pose that is learned from them.

    A source in which every z is zero is a system in the plane, as `save_trajectory` writes it.

    Parameters
    ----------
    source : path, md.Trajectory, MDAnalysis Universe or AtomGroup, array (n_frames, n_atoms, 2 or 3), or list of these
        A list means separate trajectories.
    top : path, md.Topology or md.Trajectory, optional
        Needed where the files hold no topology.
    select : str, optional
        Atoms, in mdtraj's selection language.
    atom_indices : sequence of int, optional
        Atoms counted from 0, instead of `select`; they are used in ascending order.
    stride : int
        Every how many frames of each trajectory one is kept, from the first on.
    chunk : int, optional
        Frames read at a time; by default what decodes to 8 MB.
    length_unit : {"nm", "angstrom", "reduced"}, optional
        Of arrays, "nm" by default. Files are in nm; "reduced" says that their lengths have no unit.
    periodic : bool
        Whether molecules that a periodic box has split are made whole.
    center : {"mass", "geometry"}
    alignment : {"superposition", "principal", "none"}
    cache : path, optional
        Folder in which the posed frames are kept, float32 as they stand. The same sources, read in the same way, are
        found there again; memory holds no more of them than what is looked at, and training streams them.
    scratch : path, optional
        Folder for frames that would take more than a third of the memory that is free, where their number is known
        beforehand (not in text files): without a name there, and gone with the array. What is written is told to the
        logger "mdvae".
    weights : array (n_frames,), path, column of a COLVAR file, or list of these with one for each trajectory, optional
        How much each frame counts wherever something is learned or counted, such as ``"COLVAR:metad.rbias"``: see
        `mdvae.trajectory.frame_weights`. The common pose, and which bond lengths are possible, do not depend on them.
    temperature : float, optional
        In K, where weights are a bias energy.
    progress : callable, optional
        Called with the number of frames read so far.

    Returns
    -------
    Frames

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        Anything about the source that does not fit, in one line.
    """
    stride, chunk = _positive(stride, "stride"), None if chunk is None else _positive(chunk, "chunk")
    unit = _unit(length_unit)
    check_temperature(weights, temperature)
    if center not in ("mass", "geometry"):
        raise ValueError(f"center={center!r} is not known; expected 'mass' or 'geometry'")
    topology = None if top is None else read_topology(top)
    sources = open_sources(source, length_unit, topology)
    system, messages = _describe(sources[0], topology, select, atom_indices, unit, top)
    first = sources[0].name
    for other in sources:
        if other.dim != system.dim:
            raise ValueError(f"{other.name} is {other.dim}-dimensional, expected {system.dim} dimensions as in {first}")
    plans = [_plan(s, system, topology, f"expected {system.n_atoms_in_file} as in {first}") for s in sources]
    kept = None
    if cache is not None:
        how = {"stride": stride, "periodic": periodic, "center": center, "alignment": alignment}
        kept = Cache(Path(cache), fingerprint([plan.source.identity() for plan in plans], system, **how))
        if (known := kept.load()) is not None:
            _log.info("posed frames found in %s", kept.frames_path)
            if known.report.n_broken:
                warnings.warn("; ".join(known.report.messages), stacklevel=2)
            return _weighted(known, weights, stride, temperature)
    store = choose_store(
        _expected(plans, stride), 4 * system.n_atoms * system.dim, kept, None if scratch is None else Path(scratch)
    )
    try:
        found = Wholeness()
        with contextlib.closing(store):
            coordinates, lengths, time = _gather(plans, store, stride, chunk, periodic, found, progress)
        if system.dim == 3 and is_flat(coordinates):
            # Trajectory files have three coordinates; a system in the plane is written with the third one zero.
            coordinates, system = flattened(coordinates), dataclasses.replace(system, dim=2)
            messages.append("every z is 0: read as a system in the plane")
        masses = system.masses if center == "mass" else np.ones_like(system.masses)
        fitted = fit_alignment(alignment, coordinates, masses)
        gap = pose(fitted, coordinates)
        messages += _tell(found, stacklevel=3)
        report = _report(fitted, alignment, coordinates, lengths, masses, found, messages, system.unit, gap)
        frames = Frames(coordinates, lengths, time, system, fitted, report)
        return _weighted(frames if kept is None else kept.save(frames), weights, stride, temperature)
    finally:
        if kept is not None:
            kept.discard()


def _weighted(frames: Frames, weights: Any, stride: int, temperature: Number | None) -> Frames:
    """The same frames, with weights if there are any."""
    if weights is None:
        return frames
    found = frame_weights(weights, frames.lengths, stride=stride, temperature=temperature)
    return dataclasses.replace(frames, weights=found)


def stream(
    source: Source,
    *,
    system: System,
    alignment: AbstractAlignment | None = None,
    top: Top | None = None,
    stride: int = 1,
    chunk: int | None = None,
    length_unit: str | None = None,
    periodic: bool = True,
) -> Iterator[Chunk]:
    """Yield conformations of a known system, chunk by chunk; memory holds a few chunks.

    Parameters
    ----------
    source : path, md.Trajectory, MDAnalysis Universe or AtomGroup, array (n_frames, n_atoms, 2 or 3), or list of these
        With all atoms of the file that the system was read from, or only with the selected ones.
    system : System
    alignment : AbstractAlignment, optional
        Poses the frames; without it they are as they stand, made whole.
    top : path, md.Topology or md.Trajectory, optional
        Only needed where the files hold other atoms than the first ones did; `system.select` is applied.
    stride, chunk, periodic
        As in `read`.
    length_unit : {"nm", "angstrom", "reduced"}, optional
        Of arrays; by default that of the system.

    Yields
    ------
    Chunk

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        All that can be known before the first frame is refused before it is read.
    """
    stride, chunk = _positive(stride, "stride"), None if chunk is None else _positive(chunk, "chunk")
    unit = _stream_unit(length_unit, system)
    topology = None if top is None else read_topology(top)
    sources = open_sources(source, unit, topology, arrays_only=length_unit is None)
    plans = [_plan(s, system, topology, _trained(system)) for s in sources]
    return _streamed(plans, system.dim, alignment, stride, chunk, periodic)


def _streamed(
    plans: "list[_Plan]",
    dim: int,
    alignment: AbstractAlignment | None,
    stride: int,
    chunk: int | None,
    periodic: bool,
) -> Iterator[Chunk]:
    """Do the work of `stream`, whose arguments are checked when it is called."""
    found = Wholeness()
    for index, plan in enumerate(plans):
        n_frames, times = 0, []
        for raw, numbers in _prepared(plan, stride, chunk, periodic, found):
            n_frames += len(raw.positions)
            # Of the chunks before, their last time says enough; None stays None.
            time = _increasing([*times, raw.time])
            times = [None if time is None else time[-1:]]
            positions = _posed(raw.positions, plan.source.name, dim, alignment)
            yield Chunk(positions, index, None if time is None else time[-len(positions) :], numbers)
        if n_frames == 0:
            raise ValueError(f"{plan.source.name} holds no frames")
    _tell(found, stacklevel=3)


def _posed(positions: Posed, name: str, dim: int, alignment: AbstractAlignment | None) -> Posed:
    """Frames of a known system in its dimensions and pose; overwritten."""
    if positions.shape[2] > dim:
        if not is_flat(positions):
            raise ValueError(f"{name} leaves the plane z = 0, in which the model's system lies")
        positions = flattened(positions)
    if alignment is not None:
        pose(alignment, positions)
    return positions


class Preparation:
    """Atoms of a known system out of what MDAnalysis holds, frame by frame, as `stream` gives them.

    Parameters
    ----------
    source : MDAnalysis Universe or AtomGroup
        With all atoms of the file that the system was read from, or only with the selected ones.
    system : System
    alignment : AbstractAlignment
        Poses the frames.
    periodic : bool
        Whether molecules that a periodic box has split are made whole.

    Raises
    ------
    ValueError, TypeError
        For atoms that are others.
    """

    def __init__(self, source: Any, system: System, alignment: AbstractAlignment, periodic: bool = True) -> None:
        (opened,) = open_sources([source], system.length_unit, arrays_only=True)
        if not isinstance(opened, UniverseSource):
            raise TypeError(f"{opened.name} is none of MDAnalysis; expected a Universe or an AtomGroup")
        self._plan = _plan(opened, system, None, _trained(system))
        self._source, self._dim, self._alignment, self._periodic = opened, system.dim, alignment, periodic
        self._found = Wholeness()
        self.chunk_size = opened.chunk_size(None)

    def take(self, frame: Any) -> Raw:
        """Copy what is needed of a time step of the trajectory."""
        return self._source.single(frame, self._plan.needed)

    def finish(self, taken: list[Raw], numbers: Int[np.ndarray, " n_frames"]) -> Posed:
        """Make whole, and pose, what was taken of the frames with these numbers."""
        raw = stack(taken)
        _check_finite(raw.positions, numbers, self._source.name, iter(()))
        positions = _selected(raw, self._plan.molecules, self._periodic, self._found)
        return _posed(positions, self._source.name, self._dim, self._alignment)

    def tell(self) -> None:
        """Warn of what could not be made whole."""
        _tell(self._found, stacklevel=3)


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """How to get the atoms of a system from one source."""

    source: AbstractSource
    molecules: Molecules

    @property
    def needed(self) -> Int[np.ndarray, " n_needed"] | None:
        """Atoms to read; None for all."""
        every = len(self.molecules.atom_indices) == self.source.n_atoms
        return None if every else self.molecules.atom_indices


def _trained(system: System) -> str:
    return f"the model was trained on {system.n_atoms} of {system.n_atoms_in_file}: is this another molecule?"


def _positive(value: Any, name: str) -> int:
    """Check a count of frames."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r} is not a whole number; expected 1 or more") from None
    if isinstance(value, bool) or number < 1:
        raise ValueError(f"{name}={value!r}; expected a whole number, 1 or more")
    return number


def _unit(length_unit: str | None) -> str:
    """Check a length unit."""
    if length_unit is not None and length_unit not in LENGTH_UNITS:
        raise ValueError(f"length_unit={length_unit!r} is not known; expected 'nm', 'angstrom' or 'reduced'")
    return length_unit or "nm"


def _stream_unit(length_unit: str | None, system: System) -> str | None:
    """Choose the unit of what is streamed; None leaves it to what the source is."""
    if length_unit is not None and (_unit(length_unit) == "reduced") != (system.unit == "reduced"):
        raise ValueError(f"length_unit={length_unit!r}, but the model is in {system.unit} units: these do not convert")
    return length_unit or system.length_unit


def _describe(
    source: AbstractSource,
    topology: md.Topology | None,
    select: str | None,
    atom_indices: Any,
    unit: str,
    top: Top | None,
) -> tuple[System, list[str]]:
    """System of the first source; all others must agree with it."""
    topology = source.topology if topology is None else topology
    if topology is None:
        return _describe_nameless(source, select, atom_indices, unit), []
    given = str(top) if isinstance(top, str | os.PathLike) else "the topology" if top is not None else source.name
    if topology.n_atoms != source.n_atoms:
        raise ValueError(
            f"{source.name} has {source.n_atoms} atoms a frame, but {given} has {topology.n_atoms}: "
            "give the topology that belongs to it"
        )
    if source.topology is not None and topology is not source.topology:
        check_same_atoms(source.topology, topology, source.name)
    if source.selection is not None:
        if select is not None or atom_indices is not None:
            raise ValueError(f"{source.name} is a selection of atoms already: leave out select and atom_indices")
        atom_indices = source.selection
    chosen = choose(topology, select, atom_indices, given)
    system = dataclasses.replace(system_of_file(topology, chosen, select, unit), dim=source.dim)
    n_unknown = masses_of(system.topology)[1]
    if 0 < n_unknown < system.n_atoms:
        return system, [f"{n_unknown} of {system.n_atoms} atoms are of unknown element: their mass is taken as 1"]
    return system, []


def _describe_nameless(source: AbstractSource, select: str | None, atom_indices: Any, unit: str) -> System:
    """System of an array without a topology."""
    if source.is_file:
        raise ValueError(f"{source.name} holds no topology: give one, for example top='protein.pdb'")
    if select is not None:
        raise ValueError(f"select={select!r} needs a topology, and {source.name} has none: give top=, or atom_indices=")
    atoms = np.arange(source.n_atoms)
    if atom_indices is not None:
        atoms = check_indices(atom_indices, source.n_atoms, source.name)
    return system_of_array(source.n_atoms, atoms, source.dim, unit)


def _plan(source: AbstractSource, system: System, top: md.Topology | None, expected: str) -> _Plan:
    """Find the atoms of the system in a source.

    Parameters
    ----------
    source : AbstractSource
    system : System
    top : md.Topology, optional
        Given by the user; what a source brings along is used without it.
    expected : str
        Ends the message when the number of atoms does not fit.
    """
    if source.dim < system.dim:
        raise ValueError(f"{source.name} is {source.dim}-dimensional, expected {system.dim} dimensions")
    topology = source.topology if source.topology is not None else top
    if topology is not None and topology.n_atoms == source.n_atoms:
        return _plan_by_topology(source, system, topology, expected)
    # A file of the selection only may come with the topology of all atoms.
    selection_only = (source.n_atoms, system.n_atoms_in_file) == (system.n_atoms, None if top is None else top.n_atoms)
    if top is not None and not selection_only:
        raise ValueError(
            f"{source.name} has {source.n_atoms} atoms a frame, but the topology has {top.n_atoms}: "
            "give the topology that belongs to it"
        )
    if source.n_atoms == system.n_atoms_in_file:
        molecules = system.molecules or _without_bonds(source.n_atoms, system.atom_indices)
    elif source.n_atoms == system.n_atoms:
        # Someone has written the selection only, as our own outputs do.
        bonds = system.bonds if system.molecules else np.zeros((0, 2), np.int64)
        molecules = find_molecules(system.n_atoms, bonds, np.arange(system.n_atoms))
    else:
        raise ValueError(f"{source.name} has {source.n_atoms} atoms a frame, {expected}")
    return _Plan(source, molecules)


def _plan_by_topology(source: AbstractSource, system: System, topology: md.Topology, expected: str) -> _Plan:
    """Find the atoms by their number, or by the selection, and compare their names."""
    among = np.arange(source.n_atoms) if source.selection is None else source.selection
    if len(among) == system.n_atoms_in_file:
        atoms = among[system.atom_indices]
    elif len(among) == system.n_atoms:
        atoms = among
    elif system.select is not None:
        atoms = among[choose(subset(topology, among), system.select, None, source.name)]
    else:
        raise ValueError(f"{source.name} has {len(among)} atoms a frame, {expected}")
    if len(atoms) != system.n_atoms:
        raise ValueError(
            f"{source.name}: select={system.select!r} matches {len(atoms)} of its {len(among)} atoms, "
            f"expected {system.n_atoms}: is this another molecule?"
        )
    check_same_atoms(subset(topology, atoms), system.topology, source.name)
    if system.molecules is not None and source.selection is None and topology.n_atoms == system.n_atoms_in_file:
        return _Plan(source, system.molecules)
    return _Plan(source, find_molecules(topology.n_atoms, bond_indices(topology), atoms))


def _without_bonds(n_atoms: int, atoms: Int[np.ndarray, " n_atoms"]) -> Molecules:
    return find_molecules(n_atoms, np.zeros((0, 2), np.int64), atoms)


def _prepared(
    plan: _Plan, stride: int, chunk: int | None, periodic: bool, found: Wholeness
) -> Iterator[tuple[Raw, Int[np.ndarray, " n_frames"]]]:
    """Yield the selected atoms, chunk by chunk: strided, checked and made whole; and the frames' numbers."""
    done = 0
    chunks = plan.source.raw(plan.needed, plan.source.chunk_size(chunk))
    for raw in chunks:
        # The stride goes on across chunks: mdtraj's own, together with a skip, repeats frames.
        keep = slice(-done % stride, None, stride)
        numbers = np.arange(done, done + len(raw.positions))[keep]
        done += len(raw.positions)
        if len(numbers) == 0:
            continue
        positions = raw.positions if stride == 1 else np.ascontiguousarray(raw.positions[keep])
        _check_finite(positions, numbers, plan.source.name, chunks)
        kept = Raw(positions, None if raw.cells is None else raw.cells[keep])
        positions = _selected(kept, plan.molecules, periodic, found)
        yield Raw(positions, None, None if raw.time is None else raw.time[keep]), numbers


def _selected(raw: Raw, molecules: Molecules, periodic: bool, found: Wholeness) -> Posed:
    """The selected atoms among those that were needed, made whole."""
    positions = raw.positions
    if periodic and positions.shape[2] == 3:
        make_whole(positions, raw.cells, molecules, found)
    if len(molecules.selected) < len(molecules.atom_indices):
        positions = np.ascontiguousarray(positions[:, molecules.selected])
    return positions


def _check_finite(
    positions: Float[np.ndarray, "n_frames n_atoms dim"],
    numbers: Int[np.ndarray, " n_frames"],
    name: str,
    rest: Iterator[Raw],
) -> None:
    """Refuse NaN and infinity; the rest of the source is counted for the message."""
    # No product with ones, which is as fast alone: BLAS has threads that wait for one another, and others are decoding.
    if np.isfinite(positions).all():
        return
    bad = ~np.isfinite(positions).all(axis=(1, 2))
    n_bad = int(bad.sum()) + sum(int(np.sum(~np.isfinite(r.positions).all(axis=(1, 2)))) for r in rest)
    count = "1 frame" if n_bad == 1 else f"{n_bad} frames"
    raise ValueError(
        f"{name}: NaN or infinite coordinates in {count}, the first is frame {numbers[bad][0]} "
        "(counted from 0); remove these frames, or choose other atoms"
    )


def _expected(plans: list[_Plan], stride: int) -> int | None:
    """Frames that are going to be read; None where only reading tells."""
    known = [plan.source.n_frames for plan in plans]
    return None if None in known else sum(math.ceil(n / stride) for n in known if n is not None)


def _gather(
    plans: list[_Plan],
    store: AbstractStore,
    stride: int,
    chunk: int | None,
    periodic: bool,
    found: Wholeness,
    progress: Callable[[int], Any] | None,
) -> tuple[np.ndarray, tuple[int, ...], np.ndarray | None]:
    """Read all sources: coordinates, frames of each, times."""
    lengths, times, n_frames = [], [], 0
    for plan in plans:
        start, time = n_frames, []
        for raw, _ in _prepared(plan, stride, chunk, periodic, found):
            store.add(raw.positions)
            time.append(raw.time)
            n_frames += len(raw.positions)
            if progress is not None:
                progress(n_frames)
        if n_frames == start:
            raise ValueError(f"{plan.source.name} holds no frames")
        lengths.append(n_frames - start)
        times.append(_increasing(time))
    every = None if any(time is None for time in times) else np.concatenate(times)
    return store.all(), tuple(lengths), every


def _increasing(parts: list[np.ndarray | None]) -> np.ndarray | None:
    """Join the times of one trajectory; None where some are missing or they do not increase."""
    if any(part is None for part in parts):
        return None
    time = np.concatenate([part for part in parts if part is not None])
    return time if np.isfinite(time).all() and np.all(np.diff(time) > 0) else None


def _report(
    fitted: AbstractAlignment,
    name: str,
    coordinates: Float[np.ndarray, "n_frames n_atoms dim"],
    lengths: tuple[int, ...],
    weights: Float[np.ndarray, " n_atoms"],
    found: Wholeness,
    messages: list[str],
    unit: str,
    gap: float,
) -> Report:
    """Measure what the pose did to the data."""
    jumps = count_jumps(fitted, coordinates, lengths)
    better = _better(name, jumps.n, coordinates, lengths, weights) if jumps.n else None
    return Report(
        n_frames=len(coordinates),
        n_atoms=coordinates.shape[1],
        n_trajectories=len(lengths),
        n_made_whole=found.n_made_whole,
        n_broken=found.n_broken + found.n_split_without_bonds + found.n_split_without_box,
        n_jumps=jumps.n,
        largest_jump=jumps.largest,
        spectral_gap=gap,
        better_alignment=better,
        unit=unit,
        messages=messages,
    )


def _better(
    name: str, n_jumps: int, coordinates: np.ndarray, lengths: tuple[int, ...], weights: np.ndarray
) -> str | None:
    """Another alignment that makes fewer jumps, if there is one."""
    fewest, best = n_jumps, None
    for other in ("superposition", "principal"):
        if other == name:
            continue
        try:
            n = _jumps_of(fit_alignment(other, coordinates, weights), coordinates, lengths)
        except ValueError:
            continue  # these atoms, all on one line, have no such pose
        if n < fewest:
            fewest, best = n, other
    return best


def _jumps_of(alignment: AbstractAlignment, coordinates: np.ndarray, lengths: tuple[int, ...]) -> int:
    """Jumps that another pose would make, on a copy of some frames at a time."""
    total, start = 0, 0
    for length in lengths:
        size = min(_TRIAL, rows_together(coordinates))
        for first in range(0, length, size):
            # One frame of overlap: the step from one block to the next counts as well.
            block = slice(start + max(0, first - 1), start + min(length, first + size))
            trial = np.array(coordinates[block])
            forget(coordinates)
            pose(alignment, trial)
            total += count_jumps(alignment, trial, [len(trial)]).n
        start += length
    return total


def _tell(found: Wholeness, stacklevel: int) -> list[str]:
    """Messages about periodic boxes; what could not be repaired is also said loudly, once."""
    loud = []
    if found.n_broken:
        loud.append(
            f"{found.n_broken} frames could not be made whole: a molecule is bonded to its own image; "
            "is the box the right one? (periodic=False leaves molecules as they are)"
        )
    if found.n_split_without_bonds:
        loud.append(
            f"in {found.n_split_without_bonds} frames the molecule looks split by the periodic box, "
            "and there are no bonds to make it whole by: give a topology with bonds, select more atoms, "
            "or prepare the file (gmx trjconv -pbc whole); periodic=False if it is whole"
        )
    if found.n_split_without_box:
        loud.append(
            f"in about {found.n_split_without_box} frames a molecule looks split by a periodic box, and the "
            "file has no box to make it whole by: prepare the file (gmx trjconv -pbc whole); periodic=False "
            "if it is whole"
        )
    for message in loud:
        warnings.warn(message, UserWarning, stacklevel=stacklevel)
    if found.n_dummy:
        return [
            f"the box of {found.n_dummy} frames is smaller than the molecule's bonds allow: ignored",
            *loud,
        ]
    return loud
