"""Evaluations as tables: to print, to write, to put into a report."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mdvae.evaluation.comparing import Distance
from mdvae.evaluation.ensemble import Ensemble
from mdvae.evaluation.kinetics import Kinetics
from mdvae.evaluation.latent_space import LatentSpace
from mdvae.evaluation.reconstruction import ASPECTS, Reconstruction
from mdvae.evaluation.structures import ASPECTS as OF_STRUCTURES
from mdvae.evaluation.structures import Structures

if TYPE_CHECKING:
    from mdvae.evaluation.evaluation import Evaluation

# Of the long table: section, what, of which set or method, the number, its unit, and what it stands beside.
COLUMNS = ("section", "quantity", "of", "value", "unit", "floor", "low", "high", "blocks")
_CELL = 9


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text under a heading; prints as it stands.

    Parameters
    ----------
    heading : str
    columns : tuple of str
        Names of what follows the first column.
    rows : tuple of tuple of str
        First the label of each row.
    notes : tuple of str
        Sentences to go below.
    """

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        cells = zip(self.columns, *(row[1:] for row in self.rows), strict=True)
        label_width = 2 + max(len(row[0]) for row in (("",), *self.rows))
        widths = [max(_CELL, *(len(cell) for cell in column)) + 2 for column in cells]

        def line(label: str, row: Sequence[str]) -> str:
            return f"{label:{label_width}s}" + "".join(f"{cell:>{n}s}" for cell, n in zip(row, widths, strict=True))

        lines = [line(self.heading, self.columns), *(line("  " + row[0], row[1:]) for row in self.rows)]
        return "\n".join(text.rstrip() for text in [*lines, *self.notes])


def tables(found: "Evaluation") -> list[Table]:
    """Everything that a reader should see.

    Parameters
    ----------
    found : Evaluation
    """
    made = []
    if found.reconstruction is not None:
        made += [_reconstruction(found.reconstruction), _within(found.reconstruction)]
    if found.structures is not None:
        made.append(_structures(found.structures))
    if found.ensemble is not None:
        made.append(_ensemble(found.ensemble))
    made.append(_latent_space(found.latent_space))
    return made if found.kinetics is None else [*made, _kinetics(found.kinetics)]


def _reconstruction(found: Reconstruction) -> Table:
    factor, unit = scale_of(found.unit)
    rows = []
    for name, values in _errors(found).items():
        numbers = _summary(values)
        inside = (f"{numbers['median']:.5f}",) if found.unit == "nm" else ()
        rows.append((name, *(f"{factor * value:.4f}" for value in numbers.values()), *inside))
    far = int(np.sum(found.moved > found.thermal))
    note = f"moved further than the data's thermal spread ({factor * found.thermal:.3g} {unit}): {far}"
    columns = ("mean", "median", "95 %") + (("median, nm",) if found.unit == "nm" else ())
    return Table(f"reconstruction RMSD ({unit})", columns, tuple(rows), (note,))


def _within(found: Reconstruction) -> Table:
    names = {"frames": "the frames themselves", "decoded": "decoded", "restored": "decoded and restored"}
    rows = [(name, *(f"{100 * found.validity[key][aspect]:.1f}" for aspect in ASPECTS)) for key, name in names.items()]
    return Table("reconstructions within the training data (%)", ASPECTS, tuple(rows))


def _errors(found: Reconstruction) -> dict[str, np.ndarray]:
    return {
        "decoded and restored": found.rmsd,
        "decoded": found.rmsd_raw,
        "PCA of the same size": found.rmsd_pca,
        "mean structure": found.rmsd_mean,
        "moved by restoring": found.moved,
    }


def _summary(values: np.ndarray) -> dict[str, float]:
    return {"mean": float(values.mean()), "median": float(np.median(values)), "95 %": float(np.quantile(values, 0.95))}


def _structures(found: Structures) -> Table:
    rows = [
        (text, *(f"{100 * shares[aspect]:.2f}" for shares in found.shares.values()))
        for aspect, text in OF_STRUCTURES.items()
        if aspect in found.shares["generated"]
    ]
    return Table("structures (%)", tuple(found.shares), tuple(rows))


def _ensemble(found: Ensemble) -> Table:
    rows = []
    for name, unit, distance in found.rows:
        text = f"{name} ({unit})" if unit and unit not in name else name
        rows.append((text, *_cells(distance)))
    correlations = (f"{value:.3f}" for value in (found.fluctuations.correlation, found.fluctuations.correlation_floor))
    rows.append(("correlation of fluctuations", *correlations, "", "", ""))
    columns = ("generated", "training", "95 % interval", "halves", "times noise")
    notes = (
        "generated, training: distance from held-out frames, of as many structures; interval: of training's, by blocks",
        "of time; halves: what 97.5 % of halves of the held-out frames stay below, scaled to the whole; noise: the",
        "larger of the two ends. W1: Wasserstein-1 distance; JS: Jensen-Shannon divergence.",
        f"One in {found.memory:.3g} of them is independent, {found.n_independent:.3g} in all; blocks are longer.",
        f"Populations that differ by more than {100 * found.resolution:.2g} %, averaged over a kind, are above noise.",
    )
    return Table("ensemble", columns, tuple(rows), notes)


def _cells(distance: Distance) -> tuple[str, ...]:
    numbers = f"{distance.value:.3g}", f"{distance.floor:.3g}"
    interval = f"{distance.low:.3g}–{distance.high:.3g}"
    times = "at floor" if distance.at_floor else f"{distance.times_noise:.3g}"
    return *numbers, interval, f"{distance.blocks:.3g}", times


def _latent_space(found: LatentSpace) -> Table:
    factor, unit = scale_of(found.unit)
    nearest = {
        "generated structures": found.nearest_generated,
        "held-out frames": found.nearest_held_out,
        "training frames, far in time": found.nearest_training,
    }
    shares = {
        "generated structures that are training frames (%)": found.copied,
        "held-out frames that are training frames (%)": found.seen,
        "generated structures that are mirror images (%)": found.mirrored,
        "held-out frames with a generated structure nearby (%)": found.coverage,
        "held-out frames unlike the training data (%)": found.out_of_distribution,
    }
    rows = [
        (f"nearest training frame of {name} ({unit})", f"{factor * np.median(values):.4f}")
        for name, values in nearest.items()
        if len(values)
    ]
    rows += [(name, f"{100 * share:.2f}") for name, share in shares.items() if not np.isnan(share)]
    return Table("neighbors", ("median",), tuple(rows))


def _kinetics(found: Kinetics) -> Table:
    at = int(np.flatnonzero(found.lags == found.lagtime)[0])
    rows, (beyond, half) = [], found.beyond
    for i, name in enumerate(found.methods):
        time, low, high = (f"{x[i, at, 0]:.3g}" for x in (found.timescales, found.low, found.high))
        text = "none" if np.isnan(found.timescales[i, at, 0]) else f"{time} ({low}–{high})"
        more = "" if i == 0 else f"{beyond[i]:+.3f} ± {half[i]:.3f}"
        rows.append((name, f"{found.scores[i]:.3f} ± {found.errors[i]:.3f}", more, text))
    notes = (
        "VAMP-2: mean over folds, standard error; beyond latent: fold by fold, central 95 %; timescale: central 95 %",
        f"jumps of the latent trajectory: {found.latent_jumps}, made by the alignment: {found.alignment_jumps}",
    )
    heading = f"kinetics at a lag of {found.lagtime} frame{'s' * (found.lagtime != 1)}"
    columns = ("VAMP-2", "beyond latent", f"slowest timescale ({found.unit})")
    return Table(heading, columns, tuple(rows), notes)


def scale_of(unit: str) -> tuple[float, str]:
    """Factor and name of the unit that lengths are printed in: Å for nm.

    Parameters
    ----------
    unit : {"nm", "reduced"}
    """
    return (10.0, "Å") if unit == "nm" else (1.0, "reduced units")


def long_table(found: "Evaluation") -> Iterator[dict[str, Any]]:
    """All numbers, one a row.

    Parameters
    ----------
    found : Evaluation
    """
    for row in _rows(found):
        yield dict(zip(COLUMNS, row + ("",) * (len(COLUMNS) - len(row)), strict=True))


def _rows(found: "Evaluation") -> Iterator[tuple[Any, ...]]:
    if not found.without_structures:
        yield from _structure_rows(found)
    for name, value in found.latent_space.to_dict().items():
        yield "latent space", name, "", value, found.unit if name.startswith("nearest") else ""
    if found.kinetics is not None:
        yield from _kinetic_rows(found.kinetics)


def _structure_rows(found: "Evaluation") -> Iterator[tuple[Any, ...]]:
    assert found.reconstruction is not None
    assert found.ensemble is not None
    assert found.structures is not None
    unit, reconstruction = found.unit, found.reconstruction
    for name, values in _errors(reconstruction).items():
        for what, value in _summary(values).items():
            yield "reconstruction", f"RMSD, {what}", name, value, unit
    for name, shares in reconstruction.validity.items():
        for aspect in ASPECTS:
            yield "reconstruction", f"share with all {aspect} within bounds", name, shares[aspect]
    for name, unit_of, distance in found.ensemble.rows:
        beside = (distance.floor, distance.low, distance.high, distance.blocks)
        yield "ensemble", name, "generated", distance.value, unit_of, *beside
    yield "ensemble", "independent frames", "held-out", found.ensemble.n_independent
    yield "ensemble", "populations told apart", "held-out", found.ensemble.resolution
    fluctuations = found.ensemble.fluctuations
    beside = (fluctuations.correlation, "", fluctuations.correlation_floor)
    yield "ensemble", "correlation of fluctuations", "generated", *beside
    for name, shares in found.structures.shares.items():
        for aspect, share in shares.items():
            yield "structures", OF_STRUCTURES[aspect], name, share


def _kinetic_rows(found: Kinetics) -> Iterator[tuple[Any, ...]]:
    beyond, half = found.beyond
    for i, name in enumerate(found.methods):
        score, error = float(found.scores[i]), float(found.errors[i])
        yield "kinetics", f"VAMP-2 at {found.lagtime} frames", name, score, "", "", score - error, score + error
        if i:
            more, ends = float(beyond[i]), (float(beyond[i] - half[i]), float(beyond[i] + half[i]))
            yield "kinetics", f"VAMP-2 at {found.lagtime} frames, beyond latent", name, more, "", "", *ends
        for k, lag in enumerate(found.lags.tolist()):
            for j, time in enumerate(found.timescales[i, k].tolist()):
                ends = float(found.low[i, k, j]), float(found.high[i, k, j])
                yield "kinetics", f"timescale {j + 1} at {lag} frames", name, time, found.unit, "", *ends
    yield "kinetics", "jumps", "latent trajectory", found.latent_jumps
    yield "kinetics", "jumps", "alignment", found.alignment_jumps
