"""How good a model is, beside the simplest method that it must beat."""

from mdvae.evaluation.likelihood import log_likelihood
from mdvae.evaluation.reconstruction import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate", "log_likelihood"]
