"""The whole evaluation of a model on frames that it has not seen."""

import dataclasses
import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from mdvae._files import write_numbers
from mdvae._keys import key_for
from mdvae._types import Number, Whole
from mdvae.alignment import Unaligned
from mdvae.evaluation.ensemble import Ensemble, Samples, compare
from mdvae.evaluation.following import Following
from mdvae.evaluation.held_out import HeldOut, Thinned
from mdvae.evaluation.kinetics import Kinetics
from mdvae.evaluation.latent_space import LatentSpace, look_around
from mdvae.evaluation.reconstruction import Reconstructing, Reconstruction
from mdvae.evaluation.structures import Structures, judge
from mdvae.evaluation.tables import COLUMNS, long_table, tables
from mdvae.evaluation.verdict import Thresholds, Verdict, conclude, conclude_coordinate
from mdvae.latent.encoding import encode_chunks
from mdvae.latent.generation import check_generation, generate
from mdvae.latent.undersampling import Undersampled, undersampled
from mdvae.model import Model
from mdvae.trajectory import Conformations, check_temperature, frame_weights, to_trajectory
from mdvae.vae import Diagnostics, evenly

# Structures that are generated, and held-out frames that are restored: fewer where they are large.
_MADE, _FEWEST_MADE, _MADE_BYTES = 5000, 200, 64 * 2**20


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
    turned : bool
        Whether every frame is turned into a common pose; if not, all that compares structures compares how they lie.
    reconstruction : Reconstruction or None
    ensemble : Ensemble or None
    structures : Structures or None
        None of these three for a model that only encodes: see `without_structures`.
    without_structures : str
    latent_space : LatentSpace
    undersampled : Undersampled
        Cells of latent space that are thin in the training data, and conformations that were generated there, unless
        the model only encodes; None where all latent points are one.
    kinetics : Kinetics or None
        None where frames are not in time order, or too few: `without_kinetics` says which.
    without_kinetics : str
    diagnostics : Diagnostics or None
        Of the latent space, as training left it.
    verdict : Verdict
    worst : mdtraj.Trajectory
        Up to five generated structures with the most faults; without generated ones it is empty.
    how : dict
        Options that were given, for the record.
    """

    n_frames: int
    n_left_out: int
    latent_dim: int
    n_training: int
    turned: bool
    reconstruction: Reconstruction | None
    ensemble: Ensemble | None
    structures: Structures | None
    without_structures: str
    latent_space: LatentSpace
    undersampled: Undersampled | None
    kinetics: Kinetics | None
    without_kinetics: str
    diagnostics: Diagnostics | None
    verdict: Verdict
    worst: Conformations
    how: dict[str, Any]

    @property
    def unit(self) -> str:
        """Of length: "nm" or "reduced"."""
        return self.latent_space.unit

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; lengths in `unit`."""
        plain: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("n_frames", "n_left_out", "latent_dim", "n_training", "turned", "unit", "how")
        }
        for name in ("verdict", "reconstruction", "ensemble", "structures", "latent_space"):
            part = getattr(self, name)
            plain[name] = self.without_structures if part is None else part.to_dict()
        plain["undersampled"] = None if self.undersampled is None else self.undersampled.to_dict()
        plain["kinetics"] = self.without_kinetics if self.kinetics is None else self.kinetics.to_dict()
        plain["diagnostics"] = None if self.diagnostics is None else self.diagnostics.to_dict()
        return plain

    def rows(self) -> Iterator[dict[str, Any]]:
        """A long table of all numbers, one a row, with the columns of the CSV file."""
        yield from long_table(self)

    def save(self, path: str | os.PathLike) -> None:
        """Write everything: as a long table where the name ends in ``.csv``, else as JSON.

        Parameters
        ----------
        path : path
        """
        write_numbers(path, COLUMNS, self.rows(), self.to_dict())

    def __str__(self) -> str:
        parts = [self.head, *map(str, tables(self))]
        if self.without_structures:
            parts.insert(1, f"reconstruction, structures and ensemble left out: {self.without_structures}")
        if self.undersampled is not None:
            parts.append(str(self.undersampled))
        if self.kinetics is None:
            parts.append(f"kinetics left out: {self.without_kinetics}")
        return "\n\n".join([*parts, str(self.verdict)])

    @property
    def n_generated(self) -> int:
        """Generated structures that were judged."""
        return 0 if self.structures is None else self.structures.n["generated"]

    @property
    def head(self) -> str:
        """What was looked at."""
        named = {"held-out frame": self.n_frames, "latent dimension": self.latent_dim}
        named |= {} if self.structures is None else {"generated structure": self.n_generated}
        text = ", ".join(f"{n} {name}{'s' * (n != 1)}" for name, n in named.items())
        if self.n_left_out:
            frames = "frame of this source was" if self.n_left_out == 1 else "frames of this source were"
            text += f"\n({self.n_left_out} further {frames} trained on, and left out)"
        if not self.turned:
            text += "\n(alignment='none': errors, fluctuations and neighbors are of structures as they lie)"
        return text


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
    weights: Any = None,
    temperature: Number | None = None,
    seed: Whole = 0,
    **reading: Any,
) -> Evaluation:
    """Say what a model is worth, on frames that training never saw.

    The source is read once, piece by piece. Of its frames 100 000, or 64 MB, are kept for comparisons of distributions,
    evenly spaced, of which up to 5000 are restored; and of all of them the latent points and up to 64 principal
    components of the features (at most 256 MB; the last ones are dropped first).

    Parameters
    ----------
    model : Model
        Trained.
    source : path, mdtraj.Trajectory, MDAnalysis Universe or AtomGroup, array (n_frames, n_atoms, dim), or a list
        Best a run that the model was not trained on. If it is, or begins with, what it was trained on, in the same
        order, only the blocks are used that training held out.
    generated : as `source`, optional
        Conformations to judge in place of some that the model generates; read with the same ``top``, ``length_unit``
        and ``periodic``.
    n_generated : int, optional
        Structures to generate: 5000, or as many as take 64 MB, if left out.
    prior, noise
        How to generate them: see `generate`.
    lagtime : int, optional
        Of the kinetic scores, in frames: see `mdvae.evaluation.kinetics.kinetics`.
    thresholds : Thresholds, optional
        Where the verdict turns.
    weights, temperature : optional
        How much each frame of the source counts in distributions, structures and neighbors, such as the bias of its
        simulation: see `read`. Errors of reconstruction are those of the frames as they come, and kinetics are left
        out, which no weight undoes.
    seed : int
    **reading
        ``top``, ``stride``, ``chunk``, ``length_unit``, ``periodic``: see `read`.

    Returns
    -------
    Evaluation
        Prints as tables. Of a model that only encodes all is left out that needs positions.

    Raises
    ------
    ValueError, OSError
        For an untrained model, for options of generation where the model only encodes, and for a source that cannot be
        read or is another molecule.
    """
    if model.data is None:
        raise ValueError("this model has not been trained")
    key_for("evaluate", seed)
    if lagtime is not None and not lagtime >= 1:
        raise ValueError(f"lagtime must be a whole number of frames, at least 1, got {lagtime!r}")
    # Whatever can be wrong with these should be said before a long source is read.
    check_temperature(weights, temperature)
    if weights is not None and lagtime is not None:
        raise ValueError(f"lagtime={lagtime} is of kinetics, which weighted frames say nothing about; leave it out")
    sets = {}
    decodes = model.representation.invertible
    if not decodes:
        if generated is not None or n_generated is not None or noise or prior != "model":
            raise ValueError(
                "generated, n_generated, prior and noise are about generated structures, of which this model makes "
                "none: it only encodes. Leave them out"
            )
    elif generated is None:
        if n_generated is not None and n_generated < 1:
            raise ValueError(f"expected at least 1 structure to generate, got n_generated={n_generated}")
        check_generation(model, prior, noise)
    else:
        if n_generated is not None or noise or prior != "model":
            raise ValueError(
                "n_generated, prior and noise say how to generate; leave them out where generated is given"
            )
        own = {name: value for name, value in reading.items() if name not in ("stride", "chunk")}
        sets["generated"] = np.concatenate([x.coordinates for x, _ in encode_chunks(model, generated, **own)])
    frames = HeldOut(model, source, **reading)
    reconstructing = Reconstructing(model) if decodes else None
    following, thinned, n_frames = Following(model), Thinned(), 0
    for chunk, z, run in frames:
        n_frames += len(z)
        if reconstructing is not None:
            reconstructing.add(chunk.coordinates, z)
        following.add(chunk, z, run)
        thinned.add(chunk.coordinates, run, frames.numbers)
    if not n_frames:
        raise ValueError(f"training saw all {frames.n_read} frames of this source; give another run")
    everything, runs, of_kept = thinned.frames, thinned.run, None
    kept = everything
    if weights is None:
        kinetics, why_not = following.result(lagtime, seed)
    else:
        kinetics, why_not = None, "the frames are weighted, and weights do not undo how a bias changes motion"
        lengths, stride = list(frames.lengths.values()), reading.get("stride", 1)
        of_all = frame_weights(weights, lengths, stride=stride, temperature=temperature)
        counting = of_all[thinned.number] > 0
        if not counting.any():
            raise ValueError("all weights of the held-out frames are 0: there is nothing to compare with")
        kept, runs, of_kept = kept[counting], runs[counting], of_all[thinned.number[counting]]
    # Where frames can only be counted, what weighs much is taken several times.
    alike = kept if of_kept is None else kept[evenly(len(kept), of_kept, len(kept))]
    common: dict[str, Any] = {
        "n_frames": n_frames,
        "n_left_out": frames.n_read - n_frames,
        "latent_dim": model.latent_dim,
        "n_training": model.data.n_frames,
        "turned": not isinstance(model.alignment, Unaligned),
        "kinetics": kinetics,
        "without_kinetics": why_not,
        "diagnostics": model.diagnostics,
    }
    how: dict[str, Any] = {"seed": int(seed)} | ({} if weights is None else {"weighted": True})
    weighted = weights is None and model.data.weights is not None
    if reconstructing is None:
        latent_space = look_around(model, None, alike)
        found = latent_space, kinetics, model.diagnostics
        verdict = conclude_coordinate(n_frames, *found, thresholds, weighted=weighted)
        return _of_coordinate(model, latent_space, verdict, common | {"how": how}, seed)
    if generated is None:
        sets |= _generated(model, n_generated or _affordable(model), prior, noise, seed)
    sets = {"held-out": alike} | sets
    reconstruction = reconstructing.result(everything[evenly(len(everything), most=_affordable(model))])
    structures = judge(model, sets)
    # As many of either: distances of small samples are larger.
    n_even = min(len(sets["generated"]), len(model.data.frames))
    ours = sets["generated"][evenly(len(sets["generated"]), most=n_even)]
    others = model.data.frames[evenly(len(model.data.frames), model.data.weights, n_even)]
    ensemble = compare(model, Samples(ours, kept, runs, others, of_kept), int(seed))
    latent_space = look_around(model, sets["generated"], sets["held-out"])
    parts = reconstruction, ensemble, structures, latent_space, kinetics, model.diagnostics
    trained = {"lagtime": model.settings.get("lagtime", 0), "weighted": weighted}
    verdict = conclude(*parts, thresholds, given=generated is not None, **trained)
    how |= (
        {"generated": "by the model", "prior": prior, "noise": noise} if generated is None else {"generated": "given"}
    )
    return Evaluation(
        reconstruction=reconstruction,
        ensemble=ensemble,
        structures=structures,
        without_structures="",
        latent_space=latent_space,
        undersampled=_thin(model, latent_space, seed),
        verdict=verdict,
        worst=to_trajectory(model.system, sets["generated"][structures.worst]),
        how=how,
        **common,
    )


def _of_coordinate(
    model: Model, latent_space: LatentSpace, verdict: Verdict, common: dict[str, Any], seed: Whole
) -> Evaluation:
    """What is left to say of a model that only encodes."""
    return Evaluation(
        reconstruction=None,
        ensemble=None,
        structures=None,
        without_structures="the model only encodes, since its features have no way back to positions",
        latent_space=latent_space,
        undersampled=_thin(model, latent_space, seed, n_frames=0),
        verdict=verdict,
        worst=to_trajectory(model.system, np.zeros((0, model.system.n_atoms, model.system.dim), np.float32)),
        **common,
    )


def _thin(model: Model, latent_space: LatentSpace, seed: Whole, **options: Any) -> Undersampled | None:
    return undersampled(model, seed=seed, **options) if np.ptp(latent_space.training, axis=0).any() else None


def _affordable(model: Model) -> int:
    size = 4 * model.system.n_atoms * model.system.dim
    return int(np.clip(_MADE_BYTES // size, _FEWEST_MADE, _MADE))


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
