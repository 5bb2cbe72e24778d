"""Conformations on the host, with the borders between trajectories, and what reading them met."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from mdvae.alignment import AbstractAlignment
from mdvae.trajectory.system import System

# Below this gap a small motion may turn a frame by a large angle.
_ILL_DEFINED = 0.01


@dataclass
class Report:
    """What happened while conformations were read and posed.

    Attributes
    ----------
    n_frames, n_atoms, n_trajectories : int
    n_made_whole : int
        Frames in which a molecule was split by the periodic box and is whole now.
    n_broken : int
        Frames in which that was needed and could not be done.
    n_jumps : int
        Steps between consecutive frames that the alignment made, not the molecule.
    largest_jump : float
        In nm, or in reduced units.
    spectral_gap : float
        Smallest over the frames: near 0, some frame's orientation is not defined.
    better_alignment : str, optional
        Another alignment that would make fewer jumps.
    unit : {"nm", "reduced"}
        Of lengths.
    messages : list of str
        What else should be known.
    """

    n_frames: int
    n_atoms: int
    n_trajectories: int
    n_made_whole: int = 0
    n_broken: int = 0
    n_jumps: int = 0
    largest_jump: float = 0.0
    spectral_gap: float = 1.0
    better_alignment: str | None = None
    unit: str = "nm"
    messages: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        trajectories = "1 trajectory" if self.n_trajectories == 1 else f"{self.n_trajectories} trajectories"
        frames = "1 frame" if self.n_frames == 1 else f"{self.n_frames} frames"
        lines = [f"{frames} of {self.n_atoms} atoms from {trajectories}"]
        if self.n_made_whole:
            lines.append(f"molecules made whole across the periodic box in {self.n_made_whole} frames")
        unit = "nm" if self.unit == "nm" else "reduced units"
        jumps = f", the largest {self.largest_jump:.3g} {unit}" if self.n_jumps else ""
        lines.append(f"jumps made by the alignment: {self.n_jumps}{jumps}")
        meaning = ": the orientation of some frames is hardly defined" if self.spectral_gap < _ILL_DEFINED else ""
        lines.append(f"smallest spectral gap: {self.spectral_gap:.3g} of 1{meaning}")
        if self.better_alignment:
            lines.append(f"alignment={self.better_alignment!r} would make fewer jumps")
        return "\n".join(lines + self.messages)


@dataclass(frozen=True, eq=False)
class Frames:
    """Posed conformations of one system.

    Attributes
    ----------
    coordinates : (n_frames, n_atoms, dim), float32, nm or reduced units
    lengths : tuple of int
        Frames of each trajectory, in order: the borders.
    time : (n_frames,), ps, optional
        None where the source has none, or it does not increase within each trajectory.
    system : System
    alignment : AbstractAlignment
        What posed them.
    report : Report
    weights : (n_frames,), optional
        How much each counts, at least 0; only their ratios matter. All the same if left out.
    """

    coordinates: Float[np.ndarray, "n_frames n_atoms dim"]
    lengths: tuple[int, ...]
    time: Float[np.ndarray, " n_frames"] | None
    system: System
    alignment: AbstractAlignment
    report: Report
    weights: Float[np.ndarray, " n_frames"] | None = None

    @property
    def n_frames(self) -> int:
        """Number of frames of all trajectories."""
        return len(self.coordinates)


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive frames of one trajectory.

    Attributes
    ----------
    coordinates : (n_frames, n_atoms, dim), float32, nm or reduced units
    trajectory : int
        Which of the sources, counted from 0.
    time : (n_frames,), ps, optional
        None where the source has none, and from where they stop to increase until the end of the trajectory.
    frames : (n_frames,)
        Their numbers in the source, counted from 0.
    """

    coordinates: Float[np.ndarray, "n_frames n_atoms dim"]
    trajectory: int
    time: Float[np.ndarray, " n_frames"] | None
    frames: Int[np.ndarray, " n_frames"]
