"""The only room that knows mdtraj: sources to frames, and frames to trajectories and files."""

from mdvae.trajectory.backbone import Backbone, alpha_carbons, atom_names, find_backbone
from mdvae.trajectory.frames import Chunk, Frames, Report
from mdvae.trajectory.periodic import Molecules, Wholeness, find_molecules, make_whole
from mdvae.trajectory.reading import read, stream
from mdvae.trajectory.system import System, system_of_array, system_of_file
from mdvae.trajectory.topologies import bead_topology, extension
from mdvae.trajectory.writing import SAVE_FORMATS, Conformations, check_output, save_trajectory, to_trajectory

__all__ = [
    "SAVE_FORMATS",
    "Backbone",
    "Chunk",
    "Conformations",
    "Frames",
    "Molecules",
    "Report",
    "System",
    "Wholeness",
    "alpha_carbons",
    "atom_names",
    "bead_topology",
    "check_output",
    "extension",
    "find_backbone",
    "find_molecules",
    "make_whole",
    "read",
    "save_trajectory",
    "stream",
    "system_of_array",
    "system_of_file",
    "to_trajectory",
]
