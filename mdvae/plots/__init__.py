"""Figures of results, fit for a paper."""

from mdvae.plots.compact import compact_structures
from mdvae.plots.comparison import marginal, marginals
from mdvae.plots.contact_map import contact_difference, contact_map
from mdvae.plots.density import latent_density
from mdvae.plots.distances import distance_marginals
from mdvae.plots.files import save_figure
from mdvae.plots.fluctuations import rmsf
from mdvae.plots.free_energy import free_energy
from mdvae.plots.kinetics import autocorrelation, implied_timescales, vamp_scores
from mdvae.plots.latent import latent_trajectory
from mdvae.plots.movie import trajectory_movie
from mdvae.plots.nearest import nearest_training
from mdvae.plots.ramachandran import ramachandran, ramachandran_map
from mdvae.plots.reconstruction import errors_per_atom, reconstruction_errors
from mdvae.plots.search import search_path
from mdvae.plots.structures import conformations
from mdvae.plots.thin import thin_regions
from mdvae.plots.training import loss_curves
from mdvae.plots.walk import latent_walk

__all__ = [
    "autocorrelation",
    "compact_structures",
    "conformations",
    "contact_difference",
    "contact_map",
    "distance_marginals",
    "errors_per_atom",
    "free_energy",
    "implied_timescales",
    "latent_density",
    "latent_trajectory",
    "latent_walk",
    "loss_curves",
    "marginal",
    "marginals",
    "nearest_training",
    "ramachandran",
    "ramachandran_map",
    "reconstruction_errors",
    "rmsf",
    "save_figure",
    "search_path",
    "thin_regions",
    "trajectory_movie",
    "vamp_scores",
]
