"""The only room that knows mdtraj: sources to frames, and frames to trajectories and files."""

from mdvae.trajectory.backbone import Backbone, alpha_carbons, atom_names, explicit_features, find_backbone
from mdvae.trajectory.frames import Chunk, Frames, Report
from mdvae.trajectory.periodic import Molecules
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
    "alpha_carbons",
    "atom_names",
    "bead_topology",
    "check_output",
    "explicit_features",
    "extension",
    "find_backbone",
    "read",
    "save_trajectory",
    "stream",
    "system_of_array",
    "system_of_file",
    "to_trajectory",
]
