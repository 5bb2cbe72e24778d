"""What a model can be used for and what not, in plain sentences, from thresholds that are declared here."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mdvae.evaluation.comparing import Distance
from mdvae.evaluation.ensemble import STIFF, Ensemble, Family
from mdvae.evaluation.kinetics import Kinetics
from mdvae.evaluation.latent_space import LatentSpace
from mdvae.evaluation.reconstruction import Reconstruction
from mdvae.evaluation.structures import Structures
from mdvae.vae import Diagnostics

NAMES = {"coordinate": "as a coordinate", "generation": "to generate", "optimization": "to optimize"}
USES = tuple(NAMES)
# What is asked of generated structures is no more than that of the simulation's own, less so much.
_MARGIN = 0.05
_BACKBONE = {"trans": "a cis peptide bond", "ramachandran": "a φ/ψ where no training frame is near"}
_MEANS = ": a decoder gives means, which spread less than atoms that shake. Where that matters, fit_noise and noise."
_WEIGHTED = (
    "The model was trained on weighted frames; the frames here all count the same. What is said of distributions holds "
    "only if these are of the ensemble that the weights stand for; else give weights."
)
_YES, _CARE, _NO = "yes", "with care", "no"
# A VAMP-2 score that is larger by no more than this is none that anybody would notice.
_NO_DIFFERENCE = 0.01


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Where a verdict turns.

    Parameters
    ----------
    fewest : int
        Held-out frames, and generated structures: with fewer nothing is said about distributions.
    reconstruction : float
        Median RMSD over that of the mean structure: above, z says too little.
    valid : float
        Share of generated structures, at least; or five points less than that of held-out frames, if that is smaller.
    inverted : float
        Share of generated structures with a center inverted, beyond that of held-out frames, at most.
    backbone : float
        Share of generated structures with a cis peptide bond, or with φ/ψ where no training frame is near, beyond that
        of held-out frames, at most.
    copied, seen, mirrored : float
        Shares, at most: see `LatentSpace`.
    coverage : float
        Share of held-out frames, at least: see `LatentSpace`.
    out_of_distribution : float
        Share of held-out frames, at most.
    resolution : float
        Difference of populations that the noise floors can hide, at most: see `Ensemble.resolution`.
    independent : float
        Held-out frames that are independent of one another, at least.
    off : float
        A distribution is off where its distance exceeds so many times what the simulation differs from itself; what
        lies between once and that is said, and forgiven.
    foreign : float
        The training data are of another ensemble where their Jensen-Shannon divergence from the held-out frames is
        above this, in bits, and above `off` times that between halves of the latter.
    """

    fewest: int = 100
    reconstruction: float = 0.9
    valid: float = 0.95
    inverted: float = 0.05
    backbone: float = 0.02
    copied: float = 0.05
    seen: float = 0.05
    mirrored: float = 0.5
    coverage: float = 0.75
    out_of_distribution: float = 0.2
    resolution: float = 0.5
    independent: float = 10.0
    off: float = 2.0
    foreign: float = 0.2


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a model can be used for.

    Parameters
    ----------
    uses : dict
        For "coordinate", "generation" and "optimization": "yes", "with care" or "no".
    findings : tuple of str
        Sentences that say why.
    kinds : tuple of str
        Of each finding: "bad" if it forbids a use, "note" if it calls for care, else "good".
    """

    uses: dict[str, str]
    findings: tuple[str, ...]
    kinds: tuple[str, ...]

    def __str__(self) -> str:
        line = "; ".join(f"{NAMES[use]}: {self.uses[use]}" for use in USES)
        return "\n".join([f"Verdict: {line}.", *(f"- {finding}" for finding in self.findings)])

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"uses": dict(self.uses), "findings": list(self.findings), "kinds": list(self.kinds)}


class _Judgement:
    """Collects sentences, and what they mean for each use."""

    def __init__(self) -> None:
        self.uses: dict[str, str] = dict.fromkeys(USES, _YES)
        self.findings: list[str] = []
        self.kinds: list[str] = []

    def say(self, sentence: str, *, no: tuple[str, ...] = (), care: tuple[str, ...] = ()) -> None:
        """Add a finding that forbids some uses and calls for care in others."""
        self.findings.append(sentence)
        self.kinds.append("bad" if no else "note" if care else "good")
        for use in care:
            if self.uses[use] == _YES:
                self.uses[use] = _CARE
        self.uses |= dict.fromkeys(no, _NO)


def conclude(
    reconstruction: Reconstruction,
    ensemble: Ensemble,
    structures: Structures,
    latent_space: LatentSpace,
    kinetics: Kinetics | None,
    diagnostics: Diagnostics | None,
    thresholds: Thresholds | None = None,
    *,
    given: bool = False,
    lagtime: int = 0,
    weighted: bool = False,
) -> Verdict:
    """Draw the conclusion.

    Parameters
    ----------
    reconstruction, ensemble, structures, latent_space, kinetics, diagnostics
        What was found.
    thresholds : Thresholds, optional
    given : bool
        Whether somebody gave the generated structures: advice for the model's own is then left out.
    lagtime : int
        Of a time-lagged model, in frames: what it decodes is not meant to be the frame.
    weighted : bool
        Whether its training frames had weights, which the frames here have not.

    Returns
    -------
    Verdict
    """
    limits, found = thresholds or Thresholds(), _Judgement()
    n_frames = len(reconstruction.rmsd_raw)
    enough = min(n_frames, ensemble.n_generated) >= limits.fewest
    if n_frames < limits.fewest:
        found.say(_few_frames(n_frames, limits), care=USES)
    elif not enough:
        found.say(
            f"With {ensemble.n_generated} generated structure{'s' * (ensemble.n_generated != 1)} nothing can be said "
            f"about distributions; take at least {limits.fewest}.",
            care=("generation",),
        )
    belongs = _about_frames(found, ensemble.families if enough else [], latent_space, limits)
    if weighted:
        found.say(_WEIGHTED, care=("generation",))
    _about_coordinate(found, reconstruction, diagnostics, limits, lagtime)
    _about_structures(found, structures, latent_space, limits)
    if belongs and enough:
        _about_kinetics(found, kinetics)
        _about_distributions(found, ensemble, latent_space, limits, given)
    return Verdict(found.uses, tuple(found.findings), tuple(found.kinds))


def conclude_coordinate(
    n_frames: int,
    latent_space: LatentSpace,
    kinetics: Kinetics | None,
    diagnostics: Diagnostics | None,
    thresholds: Thresholds | None = None,
    *,
    weighted: bool = False,
) -> Verdict:
    """Draw the conclusion on a model that only encodes, which can be a coordinate and nothing else.

    Parameters
    ----------
    n_frames : int
        Held-out frames.
    latent_space, kinetics, diagnostics
        What was found.
    thresholds : Thresholds, optional
    weighted : bool
        As of `conclude`.

    Returns
    -------
    Verdict
    """
    limits, found = thresholds or Thresholds(), _Judgement()
    if weighted:
        found.say(_WEIGHTED, care=("coordinate",))
    if n_frames < limits.fewest:
        found.say(_few_frames(n_frames, limits), care=("coordinate",))
    belongs = _about_frames(found, [], latent_space, limits)
    _about_collapse(found, diagnostics)
    if belongs and n_frames >= limits.fewest:
        _about_kinetics(found, kinetics)
    answer = {_YES: "can be used as a coordinate", _CARE: "can be used as a coordinate, with care"}
    said = answer.get(found.uses["coordinate"], "cannot be used as a coordinate")
    why = "it only encodes, since its features have no way back to positions."
    return Verdict(
        found.uses | dict.fromkeys(("generation", "optimization"), _NO),
        (f"It {said}; it cannot generate, nor optimize: {why}", *found.findings),
        ("note", *found.kinds),
    )


def _few_frames(n_frames: int, limits: Thresholds) -> str:
    return (
        f"With {n_frames} held-out frame{'s' * (n_frames != 1)} nothing can be said about distributions; give at least "
        f"{limits.fewest}, better thousands."
    )


def _about_frames(found: _Judgement, families: Sequence[Family], latent_space: LatentSpace, limits: Thresholds) -> bool:
    """Whether the frames are of the ensemble that the model was trained on; and whether they are the very ones."""
    if latent_space.seen > limits.seen:
        found.say(
            f"{_percent(latent_space.seen)} of these frames are among those that the model was made from: what is said "
            "here flatters it. Give frames of another run.",
            care=USES,
        )
    foreign = [one for one in families if _is_foreign(one.divergence, limits)]
    if latent_space.out_of_distribution > limits.out_of_distribution:
        found.say(
            f"{_percent(latent_space.out_of_distribution)} of these frames are further from all training frames than "
            "99 % of these are from one another: they are of another ensemble, or of another molecule, than the model "
            "was trained on.",
            no=USES,
        )
        return False
    if any(one.name in STIFF for one in foreign):
        found.say(
            f"The training data are not of the ensemble of these frames: {_differ(foreign)}. Was the model trained on "
            "another molecule, on shuffled coordinates, or under other conditions?",
            no=USES,
        )
        # Noise floors of one ensemble say nothing about another.
        return False
    if foreign:
        found.say(
            f"These frames are distributed differently from the training data: {_differ(foreign)}. They are of other "
            "conditions, or a run that is too short to have seen everything.",
            care=USES,
        )
    return True


def _differ(foreign: list[Family]) -> str:
    worst = max(foreign, key=lambda one: one.divergence.floor)
    return (
        f"{', '.join(one.name for one in foreign)} (worst {worst.divergence.floor:.2f} bits; halves of these frames "
        f"differ by {worst.divergence.blocks:.2f})"
    )


def _is_foreign(divergence: Distance, limits: Thresholds) -> bool:
    return divergence.floor > max(limits.foreign, limits.off * divergence.blocks)


def _about_coordinate(
    found: _Judgement,
    reconstruction: Reconstruction,
    diagnostics: Diagnostics | None,
    limits: Thresholds,
    lagtime: int,
) -> None:
    """Whether z says something about the structure."""
    error, pca, mean = (
        float(np.median(x)) for x in (reconstruction.rmsd, reconstruction.rmsd_pca, reconstruction.rmsd_mean)
    )
    # Restoring costs what PCA need not pay.
    raw = float(np.median(reconstruction.rmsd_raw))
    _about_collapse(found, diagnostics)
    if lagtime:
        found.say(
            f"The model is time-lagged: what it decodes is the mean of what comes {lagtime} frames later, and no "
            f"reconstruction ({_length(error, reconstruction.unit)} from the frame, the mean structure "
            f"{_length(mean, reconstruction.unit)}). Its use is as a coordinate.",
            care=("generation", "optimization"),
        )
    elif error > limits.reconstruction * mean:
        found.say(
            f"Reconstructions are hardly nearer to the frames ({_length(error, reconstruction.unit)}) than the mean "
            f"structure is ({_length(mean, reconstruction.unit)}).",
            no=USES,
        )
    elif raw > pca:
        found.say(
            f"PCA of the same size reconstructs better ({_length(pca, reconstruction.unit)} against "
            f"{_length(raw, reconstruction.unit)} as decoded, medians).",
            care=("coordinate", "optimization"),
        )
    else:
        found.say(
            f"z stands for the structure to {_length(error, reconstruction.unit)} (median; PCA of the same size "
            f"{_length(pca, reconstruction.unit)}, no coordinate at all {_length(mean, reconstruction.unit)})."
        )


def _about_collapse(found: _Judgement, diagnostics: Diagnostics | None) -> None:
    """Whether z says anything at all."""
    if diagnostics is None:
        return
    if diagnostics.collapsed:
        found.say(
            f"The posterior has collapsed: z says next to nothing about the structure "
            f"({diagnostics.mutual_information_most:.2f} nats). Train with a smaller beta, warmup_epochs or free_bits.",
            no=USES,
        )
    elif len(dead := np.flatnonzero(~diagnostics.active) + 1):
        found.say(f"Latent dimensions without information: {', '.join(map(str, dead))}.", care=("coordinate",))


def _about_kinetics(found: _Judgement, kinetics: Kinetics | None) -> None:
    if kinetics is None:
        return
    beyond, half = kinetics.beyond
    ours, error = kinetics.scores[0], kinetics.errors[0]
    better = [
        f"{name} by {beyond[i]:.2f} ± {half[i]:.2f}"
        for i, name in enumerate(kinetics.methods)
        if beyond[i] > max(half[i], _NO_DIFFERENCE)
    ]
    if better:
        found.say(
            f"Coordinates as simple keep more of the slow motions (VAMP-2 {ours:.2f}; {', '.join(better)} more, "
            "fold by fold): for kinetics take those.",
            care=("coordinate",),
        )
    else:
        found.say(
            f"As far as can be told slow motions are kept as well as by TICA and PCA of the same size (VAMP-2 "
            f"{ours:.2f} ± {error:.2f}; {', '.join(_against(kinetics))} more, fold by fold)."
        )
    if kinetics.alignment_jumps:
        found.say(
            f"The alignment made {kinetics.alignment_jumps} of {kinetics.latent_jumps} jumps of the latent trajectory. "
            "Try another one.",
            care=("coordinate",),
        )


def _against(kinetics: Kinetics) -> list[str]:
    """How much more the others keep."""
    rows = zip(kinetics.methods, *kinetics.beyond, strict=True)
    return [f"{name} {more:.2f} ± {half:.2f}" for name, more, half in rows if name != "latent"]


def _about_structures(found: _Judgement, structures: Structures, latent_space: LatentSpace, limits: Thresholds) -> None:
    """Whether generated structures could exist, and are new."""
    shares = structures.shares["generated"]
    of_frames = structures.shares["held-out"]
    inverted = of_frames.get("handedness", 1.0) - shares.get("handedness", 1.0)
    if latent_space.mirrored > limits.mirrored:
        found.say(
            f"{_percent(latent_space.mirrored)} of the generated structures are mirror images.",
            no=("generation", "optimization"),
        )
    if inverted > limits.inverted:
        found.say(
            f"{_percent(1 - shares['handedness'])} of the generated structures have an inverted center.",
            no=("generation", "optimization"),
        )
    # What the simulation itself does not keep to, nobody can ask for.
    if shares["valid"] < min(limits.valid, of_frames["valid"] - _MARGIN):
        found.say(
            f"Only {_percent(shares['valid'])} of the generated structures could exist by the bounds of the training "
            f"data ({_percent(of_frames['valid'])} of the simulation's own).",
            no=("generation", "optimization"),
        )
    else:
        found.say(f"{_percent(shares['valid'])} of the generated structures are valid.")
    for aspect, what in _BACKBONE.items():
        ours, theirs = shares.get(aspect, 1.0), of_frames.get(aspect, 1.0)
        if ours < theirs - limits.backbone:
            found.say(
                f"{_percent(1 - ours)} of the generated structures have {what} ({_percent(1 - theirs)} of the "
                "simulation's own).",
                care=("generation", "optimization"),
            )
    if latent_space.copied > limits.copied:
        found.say(
            f"{_percent(latent_space.copied)} of the generated structures are copies of training frames.",
            no=("generation",),
        )


def _about_distributions(
    found: _Judgement, ensemble: Ensemble, latent_space: LatentSpace, limits: Thresholds, given: bool
) -> None:
    """Whether generated structures are distributed as frames that nobody trained on."""
    if latent_space.coverage < limits.coverage:
        found.say(
            f"Only {_percent(latent_space.coverage)} of the held-out frames have a generated structure nearby (95 % "
            "have a training frame as near): the generator misses parts of the ensemble.",
            care=("generation",),
        )
    rough = [row for row in ensemble.rows if not _is_fine(row[0])]
    off = [(name, d.times_noise) for name, _, d in rough if d.value > limits.off * d.noise]
    above = [name for name, _, d in rough if d.noise < d.value <= limits.off * d.noise]
    if off:
        name, times = max(off, key=lambda one: one[1])
        found.say(
            f"{len(off)} of {len(rough)} distributions of conformations are off by more than {limits.off:g} times what "
            f"the simulation differs from itself (worst: {name}, {times:.1f} times): the generated ensemble is not the "
            f"simulation's.{'' if given else ' Try fit_prior, and noise.'}",
            no=("generation",),
        )
    elif above:
        found.say(
            f"{len(above)} of {len(rough)} distributions of conformations are above the noise floor, by less than "
            f"{limits.off:g} times ({'; '.join(above[:3])}{'; …' if len(above) > 3 else ''}).",
            care=("generation",),
        )
    else:
        found.say(f"All {len(rough)} distributions of conformations are at the noise floor.")
    if ensemble.resolution > limits.resolution or ensemble.n_independent < limits.independent:
        found.say(
            f"The noise floor is high: these frames hold about {ensemble.n_independent:.2g} independent samples of "
            f"their slowest motion (one in {ensemble.memory:.3g} of those compared), and populations may differ by "
            f"{_percent(ensemble.resolution)}, on average over torsions or distances, without being above it. Give "
            "longer runs, or more.",
            care=("generation",),
        )
    else:
        found.say(
            f"Populations that differ by more than {_percent(ensemble.resolution)}, on average over torsions or "
            f"distances, would be above the noise floor; these frames hold about {ensemble.n_independent:.2g} "
            "independent samples of their slowest motion."
        )
    fine = [name for name, _, d in ensemble.rows if _is_fine(name) and not d.at_floor]
    if fine:
        found.say(
            f"Widths are not the simulation's ({'; '.join(fine)}){'.' if given else _MEANS}",
            care=("generation",),
        )


def _is_fine(row: str) -> bool:
    """Whether a row is about how far atoms shake rather than about which conformation it is.

    Wasserstein distances of shapes and torsions weigh how much goes how far; divergences of one quantity see any change
    of width, however small.
    """
    name, _, kind = row.partition(", ")
    return name in STIFF or (kind == "JS" and not name.startswith("φ/ψ"))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _length(value: float, unit: str) -> str:
    return f"{10 * value:.3g} Å" if unit == "nm" else f"{value:.3g} reduced units"
