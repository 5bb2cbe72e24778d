"""Pure, differentiable functions of one frame; lengths in nm, angles in radians."""

from mdvae.geometry.centering import center, center_of_mass
from mdvae.geometry.eigen import symmetric_eigen
from mdvae.geometry.principal import gyration_tensor, principal_axes, principal_gap
from mdvae.geometry.safe import safe_norm
from mdvae.geometry.superposition import superposition_gap, superposition_rotation

__all__ = [
    "center",
    "center_of_mass",
    "gyration_tensor",
    "principal_axes",
    "principal_gap",
    "safe_norm",
    "superposition_gap",
    "superposition_rotation",
    "symmetric_eigen",
]
