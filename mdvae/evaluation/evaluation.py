"""The whole evaluation of a model on frames that it has not seen."""

import csv
import dataclasses
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mdvae._files import replacing
from mdvae._keys import key_for
from mdvae._types import Whole
from mdvae.evaluation.ensemble import Ensemble, Samples, compare
from mdvae.evaluation.following import Following
from mdvae.evaluation.held_out import HeldOut, Thinned
from mdvae.evaluation.kinetics import Kinetics
from mdvae.evaluation.latent_space import LatentSpace, look_around
from mdvae.evaluation.reconstruction import ASPECTS, Reconstructing, Reconstruction
from mdvae.evaluation.structures import ASPECTS as OF_STRUCTURES
from mdvae.evaluation.structures import Structures, judge
from mdvae.evaluation.verdict import Thresholds, Verdict, conclude
from mdvae.latent.encoding import encode_chunks
from mdvae.latent.generation import generate
from mdvae.model import Model
from mdvae.trajectory import Conformations, to_trajectory
from mdvae.vae import Diagnostics

# Structures that are generated: fewer where they are large.
_GENERATED, _FEWEST_GENERATED, _GENERATED_BYTES = 5000, 200, 64 * 2**20
# A row of the long table: section, what, of which set or method, number, unit, and what it stands beside.
_COLUMNS = ("section", "quantity", "of", "value", "unit", "floor", "low", "high", "blocks")


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What was found of a model; prints as tables, with the verdict at the end.

    Parameters
    ----------
    n_frames : int
        That training never saw, on which everything is computed.
    n_left_out : int
        Frames of the source that training saw, and that were left out.
    latent_dim, n_training : int
    reconstruction : Reconstruction
    ensemble : Ensemble
    structures : Structures
    latent_space : LatentSpace
    kinetics : Kinetics or None
        None where frames are not in time order, or too few: `without_kinetics` says which.
    without_kinetics : str
    diagnostics : Diagnostics or None
        Of the latent space, as training left it.
    verdict : Verdict
    worst : mdtraj.Trajectory
        Up to five generated structures with the most faults.
    how : dict
        Options that were given, for the record.
    """

    n_frames: int
    n_left_out: int
    latent_dim: int
    n_training: int
    reconstruction: Reconstruction
    ensemble: Ensemble
    structures: Structures
    latent_space: LatentSpace
    kinetics: Kinetics | None
    without_kinetics: str
    diagnostics: Diagnostics | None
    verdict: Verdict
    worst: Conformations
    how: dict[str, Any]

    @property
    def unit(self) -> str:
        """Of length: "nm" or "reduced"."""
        return self.reconstruction.unit

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; lengths in `unit`."""
        plain: dict[str, Any] = {
            name: getattr(self, name) for name in ("n_frames", "n_left_out", "latent_dim", "n_training", "unit", "how")
        }
        for name in ("verdict", "reconstruction", "ensemble", "structures", "latent_space"):
            plain[name] = getattr(self, name).to_dict()
        plain["kinetics"] = self.without_kinetics if self.kinetics is None else _plain(self.kinetics)
        plain["diagnostics"] = None if self.diagnostics is None else self.diagnostics.to_dict()
        return plain

    def rows(self) -> Iterator[dict[str, Any]]:
        """A long table of all numbers, one a row, with the columns of the CSV file."""
        for row in _rows(self):
            yield dict(zip(_COLUMNS, row + ("",) * (len(_COLUMNS) - len(row)), strict=True))

    def save(self, path: str | os.PathLike) -> None:
        """Write everything: as a long table where the name ends in ``.csv``, else as JSON.

        Parameters
        ----------
        path : path
        """
        with replacing(path) as temporary:
            if Path(path).suffix == ".csv":
                with temporary.open("w", newline="") as file:
                    writer: Any = csv.DictWriter(file, _COLUMNS)
                    writer.writeheader()
                    writer.writerows(self.rows())
            else:
                temporary.write_text(json.dumps(_finite(self.to_dict())))

    def __str__(self) -> str:
        return "\n".join([*_head(self), *_tables(self), "", str(self.verdict)])


def evaluate(
    model: Model,
    source: Any,
    *,
    generated: Any = None,
    n_generated: Whole | None = None,
    prior: str = "model",
    noise: bool = False,
    lagtime: Whole | None = None,
    thresholds: Thresholds | None = None,
    seed: Whole = 0,
    **reading: Any,
) -> Evaluation:
    """Say what a model is worth, on frames that training never saw.

    The source is read once, piece by piece. Of its frames 64 MB are kept for comparisons of distributions, evenly
    spaced, and of all of them the latent points and up to 64 principal components of the features (at most 256 MB; the
    last ones are dropped first).

    Parameters
    ----------
    model : Model
        Trained.
    source : path, mdtraj.Trajectory, array (n_frames, n_atoms, dim), or a list of any of these
        Best a run that the model was not trained on. If it is, or begins with, what it was trained on, in the same
        order, only the blocks are used that training held out.
    generated : as `source`, optional
        Conformations to judge in place of some that the model generates.
    n_generated : int, optional
        Structures to generate: 5000, or as many as take 64 MB, if left out.
    prior, noise
        How to generate them: see `generate`.
    lagtime : int, optional
        Of the kinetic scores, in frames: see `mdvae.evaluation.kinetics.kinetics`.
    thresholds : Thresholds, optional
        Where the verdict turns.
    seed : int
    **reading
        ``top``, ``stride``, ``chunk``, ``length_unit``, ``periodic``: see `read`.

    Returns
    -------
    Evaluation
        Prints as tables.

    Raises
    ------
    ValueError, OSError
        For an untrained model, and for a source that cannot be read or is another molecule.
    """
    if model.data is None:
        raise ValueError("this model has not been trained")
    key_for("evaluate", seed)
    if n_generated is not None and n_generated < 1:
        raise ValueError(f"expected at least 1 structure to generate, got n_generated={n_generated}")
    frames = HeldOut(model, source, **reading)
    reconstructing, following, thinned, n_frames = Reconstructing(model), Following(model), Thinned(), 0
    for chunk, z, run in frames:
        n_frames += len(z)
        reconstructing.add(chunk.coordinates, z)
        following.add(chunk, z, run)
        thinned.add(chunk.coordinates, run)
    if not n_frames:
        raise ValueError(f"training saw all {frames.n_read} frames of this source; give another run")
    kinetics, why_not = following.result(lagtime, seed)
    sets = {"held-out": thinned.frames}
    if generated is None:
        sets |= _generated(model, n_generated or _affordable(model), prior, noise, seed)
    else:
        sets["generated"] = np.concatenate([chunk.coordinates for chunk, _ in encode_chunks(model, generated)])
    reconstruction, structures = reconstructing.result(), judge(model, sets)
    ensemble = compare(model, Samples(sets["generated"], sets["held-out"], thinned.run, model.data.frames), int(seed))
    latent_space = look_around(model, sets["generated"], sets["held-out"])
    verdict = conclude(reconstruction, ensemble, structures, latent_space, kinetics, model.diagnostics, thresholds)
    how = {
        "seed": int(seed),
        "prior": prior,
        "noise": noise,
        "generated": "by the model" if generated is None else "given",
    }
    return Evaluation(
        n_frames=n_frames,
        n_left_out=frames.n_read - n_frames,
        latent_dim=model.latent_dim,
        n_training=model.data.n_frames,
        reconstruction=reconstruction,
        ensemble=ensemble,
        structures=structures,
        latent_space=latent_space,
        kinetics=kinetics,
        without_kinetics=why_not,
        diagnostics=model.diagnostics,
        verdict=verdict,
        worst=to_trajectory(model.system, sets["generated"][structures.worst]),
        how=how,
    )


def _affordable(model: Model) -> int:
    size = 4 * model.system.n_atoms * model.system.dim
    return int(np.clip(_GENERATED_BYTES // size, _FEWEST_GENERATED, _GENERATED))


def _generated(model: Model, n: Whole, prior: str, noise: bool, seed: Whole) -> dict[str, np.ndarray]:
    """Structures as they are handed out, and as the decoder gives them."""
    dim, found = model.system.dim, {}
    with warnings.catch_warnings():
        # What the warning counts is counted here as well.
        warnings.filterwarnings("ignore", message=".*still not valid once restored")
        for name, restore in (("generated", True), ("as decoded", False)):
            made = generate(model, n, prior=prior, restore=restore, noise=noise, seed=seed)
            found[name] = np.asarray(made.xyz)[..., :dim]
    return found


def _plain(record: Any) -> dict[str, Any]:
    values = dataclasses.asdict(record).items()
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values}


def _finite(plain: Any) -> Any:
    """The same with None for what JSON has no number for."""
    if isinstance(plain, dict):
        return {name: _finite(value) for name, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_finite(value) for value in plain]
    return None if isinstance(plain, float) and not np.isfinite(plain) else plain


# -- the long table


def _rows(found: Evaluation) -> Iterator[tuple[Any, ...]]:
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
    fluctuations = found.ensemble.fluctuations
    beside = (fluctuations.correlation, "", fluctuations.correlation_floor)
    yield "ensemble", "correlation of fluctuations", "generated", *beside
    for name, shares in found.structures.shares.items():
        for aspect, share in shares.items():
            yield "structures", OF_STRUCTURES[aspect], name, share
    for name, value in found.latent_space.to_dict().items():
        yield "latent space", name, "", value, unit if name.startswith("nearest") else ""
    if found.kinetics is not None:
        yield from _kinetic_rows(found.kinetics)


def _kinetic_rows(found: Kinetics) -> Iterator[tuple[Any, ...]]:
    for i, name in enumerate(found.methods):
        score, error = float(found.scores[i]), float(found.errors[i])
        yield "kinetics", f"VAMP-2 at {found.lagtime} frames", name, score, "", "", score - error, score + error
        for k, lag in enumerate(found.lags.tolist()):
            for j, time in enumerate(found.timescales[i, k].tolist()):
                ends = float(found.low[i, k, j]), float(found.high[i, k, j])
                yield "kinetics", f"timescale {j + 1} at {lag} frames", name, time, found.unit, "", *ends
    yield "kinetics", "jumps", "latent trajectory", found.latent_jumps
    yield "kinetics", "jumps", "alignment", found.alignment_jumps


# -- the tables that are printed


def _head(found: Evaluation) -> list[str]:
    several = "s" * (found.n_frames != 1)
    lines = [
        f"{found.n_frames} frame{several} that training never saw, {found.latent_dim} latent dimensions, "
        f"{found.ensemble.n_generated} generated structures"
    ]
    if found.n_left_out:
        lines.append(f"({found.n_left_out} further frames of this source were trained on, and are left out)")
    return lines


def _tables(found: Evaluation) -> Iterator[str]:
    yield from _reconstruction_table(found.reconstruction)
    yield from _structures_table(found.structures)
    yield from _ensemble_table(found.ensemble)
    yield from _latent_table(found.latent_space)
    if found.kinetics is None:
        yield f"\nkinetics left out: {found.without_kinetics}"
    else:
        yield from _kinetics_table(found.kinetics)


def _reconstruction_table(found: Reconstruction) -> Iterator[str]:
    factor, unit = scale_of(found.unit)
    yield f"\n{'reconstruction RMSD (' + unit + ')':34s}{'mean':>9s}{'median':>9s}{'95 %':>9s}"
    for name, values in _errors(found).items():
        yield f"  {name:32s}" + "".join(f"{factor * value:9.4f}" for value in _summary(values).values())
    yield f"{'within the training data (%)':34s}" + "".join(f"{name:>9s}" for name in ASPECTS)
    names = {"frames": "the frames themselves", "decoded": "decoded", "restored": "decoded and restored"}
    for key, name in names.items():
        yield f"  {name:32s}" + "".join(f"{100 * found.validity[key][aspect]:9.1f}" for aspect in ASPECTS)
    far = int(np.sum(found.moved > found.thermal))
    yield f"moved further than the data's thermal spread ({factor * found.thermal:.3g}): {far}"


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


def _structures_table(found: Structures) -> Iterator[str]:
    yield f"\n{'structures (%)':62s}" + "".join(f"{name:>11s}" for name in found.shares)
    for aspect, text in OF_STRUCTURES.items():
        if aspect in found.shares["generated"]:
            yield f"  {text:60s}" + "".join(f"{100 * shares[aspect]:11.2f}" for shares in found.shares.values())


def _ensemble_table(found: Ensemble) -> Iterator[str]:
    columns = f"{'generated':>10s}{'training':>10s}{'95 % interval':>20s}{'halves':>10s}"
    yield f"\n{'ensemble: distance from held-out':44s}{columns}"
    for name, unit, distance in found.rows:
        shown = "reduced" if unit == "reduced" else unit
        text = f"{name} ({shown})" if shown and shown not in name else name
        interval = f"{distance.low:.3g}–{distance.high:.3g}"
        mark = "" if distance.at_floor else f"  {distance.value / max(distance.noise, 1e-12):.1f} x noise"
        numbers = f"{distance.value:10.3g}{distance.floor:10.3g}{interval:>20s}{distance.blocks:10.3g}"
        yield f"  {text:42s}{numbers}{mark}"
    fluctuations = found.fluctuations
    yield f"  {'correlation of fluctuations':42s}{fluctuations.correlation:10.3f}{fluctuations.correlation_floor:10.3f}"


def _latent_table(found: LatentSpace) -> Iterator[str]:
    factor, unit = scale_of(found.unit)
    yield "\nlatent space and neighbors"
    for name, values in (
        ("generated", found.nearest_generated),
        ("held-out", found.nearest_held_out),
        ("training, far in time", found.nearest_training),
    ):
        yield f"  {'nearest training frame of ' + name + ' (' + unit + ')':60s}{factor * np.median(values):9.4f}"
    for text, share in (
        ("generated structures that are training frames (%)", found.copied),
        ("held-out frames with a generated structure nearby (%)", found.coverage),
        ("held-out frames unlike the training data (%)", found.out_of_distribution),
    ):
        yield f"  {text:60s}{100 * share:9.2f}"


def _kinetics_table(found: Kinetics) -> Iterator[str]:
    at = int(np.flatnonzero(found.lags == found.lagtime)[0])
    yield f"\n{f'kinetics at a lag of {found.lagtime} frames':34s}{'VAMP-2':>16s}   slowest timescale ({found.unit})"
    for i, name in enumerate(found.methods):
        score = f"{found.scores[i]:.3f} ± {found.errors[i]:.3f}"
        times = (x[i, at, 0] for x in (found.timescales, found.low, found.high))
        time, low, high = (f"{value:.3g}" for value in times)
        text = "none" if np.isnan(found.timescales[i, at, 0]) else f"{time} ({low}–{high})"
        yield f"  {name:32s}{score:>16s}   {text}"
    yield f"  jumps of the latent trajectory: {found.latent_jumps}, of which the alignment's: {found.alignment_jumps}"


def scale_of(unit: str) -> tuple[float, str]:
    """Factor and name of the unit that lengths are printed in: Å for nm.

    Parameters
    ----------
    unit : {"nm", "reduced"}
    """
    return (10.0, "Å") if unit == "nm" else (1.0, "reduced units")
