"""The only room that knows mdtraj: sources to frames, and frames to trajectories and files."""

from mdvae.trajectory.backbone import Backbone, alpha_carbons, atom_names, explicit_features, find_backbone
from mdvae.trajectory.frames import Chunk, Frames, Report
from mdvae.trajectory.periodic import Molecules, Wholeness, find_molecules, make_whole
from mdvae.trajectory.reading import Preparation, read, stream
from mdvae.trajectory.system import System, system_of_array, system_of_file
from mdvae.trajectory.topologies import bead_topology, extension
from mdvae.trajectory.weights import GAS_CONSTANT, check_temperature, frame_weights, is_bias
from mdvae.trajectory.writing import SAVE_FORMATS, Conformations, check_output, save_trajectory, to_trajectory

__all__ = [
    "GAS_CONSTANT",
    "SAVE_FORMATS",
    "Backbone",
    "Chunk",
    "Conformations",
    "Frames",
    "Molecules",
    "Preparation",
    "Report",
    "System",
    "Wholeness",
    "alpha_carbons",
    "atom_names",
    "bead_topology",
    "check_output",
    "check_temperature",
    "explicit_features",
    "extension",
    "find_backbone",
    "find_molecules",
    "frame_weights",
    "is_bias",
    "make_whole",
    "read",
    "save_trajectory",
    "stream",
    "system_of_array",
    "system_of_file",
    "to_trajectory",
]
