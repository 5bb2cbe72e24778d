"""Figures of results, fit for a paper."""

from mdvae.plots.compact import compact_structures
from mdvae.plots.files import save_figure
from mdvae.plots.latent import latent_trajectory
from mdvae.plots.marginals import distance_marginals
from mdvae.plots.movie import trajectory_movie
from mdvae.plots.search import search_path
from mdvae.plots.structures import conformations
from mdvae.plots.training import loss_curves

__all__ = [
    "compact_structures",
    "conformations",
    "distance_marginals",
    "latent_trajectory",
    "loss_curves",
    "save_figure",
    "search_path",
    "trajectory_movie",
]
