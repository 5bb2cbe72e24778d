"""How good a model is, each number beside its noise floor and beside the simplest method that it must beat."""

from mdvae.evaluation.evaluation import Evaluation, evaluate
from mdvae.evaluation.likelihood import log_likelihood
from mdvae.evaluation.several import Evaluations, evaluate_ensemble
from mdvae.evaluation.verdict import Thresholds, Verdict

__all__ = ["Evaluation", "Evaluations", "Thresholds", "Verdict", "evaluate", "evaluate_ensemble", "log_likelihood"]
