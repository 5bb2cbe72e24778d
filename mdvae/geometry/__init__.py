"""Pure, differentiable functions of one frame; lengths in nm, angles in radians."""

from mdvae.geometry.centering import center, center_of_mass
from mdvae.geometry.eigen import dominant_eigenvector, largest_eigenvalue, symmetric_eigen
from mdvae.geometry.internal import angles, atoms_from_dihedrals, atoms_from_turns, dihedrals, distances, turns
from mdvae.geometry.principal import gyration_tensor, principal
from mdvae.geometry.rotation import rotate
from mdvae.geometry.safe import safe_arctan2, safe_norm
from mdvae.geometry.superposition import superpose, superposition_rotation

__all__ = [
    "angles",
    "atoms_from_dihedrals",
    "atoms_from_turns",
    "center",
    "center_of_mass",
    "dihedrals",
    "distances",
    "dominant_eigenvector",
    "gyration_tensor",
    "largest_eigenvalue",
    "principal",
    "rotate",
    "safe_arctan2",
    "safe_norm",
    "superpose",
    "superposition_rotation",
    "symmetric_eigen",
    "turns",
]
