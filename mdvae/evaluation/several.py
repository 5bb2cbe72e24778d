"""The same evaluation of several models that were trained alike: how much a seed decides."""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mdvae._files import write_numbers
from mdvae.evaluation.evaluation import Evaluation, evaluate
from mdvae.evaluation.tables import Table
from mdvae.evaluation.verdict import NAMES
from mdvae.model import Model

_COLUMNS = ("section", "quantity", "of", "unit", "n_models", "mean", "standard_deviation", "smallest", "largest")


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluations:
    """Evaluations of several models on the same frames; prints means and standard deviations over the models.

    Parameters
    ----------
    each : tuple of Evaluation
        In the order of the models.
    """

    each: tuple[Evaluation, ...]

    def rows(self) -> Iterator[dict[str, Any]]:
        """A long table: of every number of the evaluations the mean, standard deviation, and range over the models."""
        found: dict[tuple[str, str, str, str], list[float]] = {}
        for one in self.each:
            for row in one.rows():
                key = row["section"], row["quantity"], row["of"], row["unit"]
                found.setdefault(key, []).append(float(row["value"]))
        for key, values in found.items():
            # Timescales may be none, or without end, and there may be one model with kinetics: no mean, no spread.
            finite = len(values) > 1 and bool(np.isfinite(values).all())
            spread = float(np.std(values, ddof=1)) if finite else float("nan")
            numbers = len(values), float(np.mean(values)), spread, min(values), max(values)
            yield dict(zip(_COLUMNS, (*key, *numbers), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the rows, and each evaluation."""
        return {"rows": list(self.rows()), "each": [one.to_dict() for one in self.each]}

    def save(self, path: str | os.PathLike) -> None:
        """Write the rows as a table where the name ends in ``.csv``, else everything as JSON.

        Parameters
        ----------
        path : path
        """
        write_numbers(path, _COLUMNS, self.rows(), self.to_dict())

    def __str__(self) -> str:
        first = self.each[0]
        sections: dict[str, list[tuple[str, ...]]] = {}
        for row in self.rows():
            if not row["quantity"].startswith("timescale") or _is_slowest(row["quantity"], first):
                sections.setdefault(row["section"], []).append(_cells(row))
        columns = ("mean", "± sd", "smallest", "largest")
        shown = [str(Table(heading, columns, tuple(rows))) for heading, rows in sections.items()]
        return "\n\n".join([f"{len(self.each)} models; of each: {first.head}", *shown, self._answers()])

    def _answers(self) -> str:
        lines = ["Verdicts:"]
        for use, name in NAMES.items():
            counts = Counter(one.verdict.uses[use] for one in self.each)
            lines.append(f"- {name}: " + ", ".join(f"{answer} ({n})" for answer, n in counts.most_common()))
        return "\n".join(lines)


def _is_slowest(quantity: str, found: Evaluation) -> bool:
    return found.kinetics is not None and quantity.startswith(f"timescale 1 at {found.kinetics.lagtime} frames")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    unit = f" ({row['unit']})" if row["unit"] else ""
    of = f"{row['of']}: " if row["of"] else ""
    numbers = (row[name] for name in ("mean", "standard_deviation", "smallest", "largest"))
    return f"{of}{row['quantity']}{unit}", *(f"{value:.4g}" for value in numbers)


def evaluate_ensemble(models: Sequence[Model], source: Any, **options: Any) -> Evaluations:
    """Evaluate several models that were trained alike, such as those of `train_ensemble`, on the same frames.

    Parameters
    ----------
    models : sequence of Model
        At least two, trained.
    source, **options
        As for `evaluate`.

    Returns
    -------
    Evaluations
        Prints as tables of means, standard deviations and ranges over the models.

    Raises
    ------
    ValueError, OSError
        For fewer than two models, for models of different latent sizes, and as `evaluate`.
    """
    if len(models) < 2:
        raise ValueError(f"error bars over models need at least 2 of them, got {len(models)}; see `evaluate` for one")
    sizes = sorted({model.latent_dim for model in models})
    if len(sizes) > 1:
        raise ValueError(
            f"the models have {' and '.join(map(str, sizes))} latent dimensions; compare those of one size"
        )
    return Evaluations(tuple(evaluate(model, source, **options) for model in models))
