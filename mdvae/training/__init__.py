"""Fitting."""

from mdvae.training.fitting import check_settings, train
from mdvae.training.loop import optimize
from mdvae.training.splits import split_blocks

__all__ = ["check_settings", "optimize", "split_blocks", "train"]
