"""Whether structures could exist: bonds, angles, clashes, chirality, cis peptides, Ramachandran outliers."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import maximum_filter

from mdvae.evaluation.quantities import torsions
from mdvae.model import Model
from mdvae.trajectory import Backbone, find_backbone
from mdvae.validity import Validity, check

# Each set has a size of its own.
Coordinates = Float[np.ndarray, "_ n_atoms dim"]

# What is looked for, in words.
ASPECTS = {
    "valid": "nothing wrong by the bounds of the training data",
    "bonds": "all bonds within bounds",
    "angles": "all pairs two bonds apart within bounds",
    "torsions": "all pairs three bonds apart within bounds, flat torsions flat",
    "centers": "all centers as in the data",
    "handedness": "no center inverted",
    "contacts": "no clash",
    "trans": "no cis peptide bond",
    "ramachandran": "no φ/ψ where no training frame is near",
}
# Degrees: cells of the map of what the training data show, which count together with those around them.
_CELL = 10
# Fewer frames than this say little about where φ and ψ may be.
_FEWEST_FOR_MAP = 500
# The worst that are kept.
_WORST = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Structures:
    """What was found in sets of structures.

    Parameters
    ----------
    shares : dict
        By name of the set, "held-out", "generated" and, unless generated structures were given, "as decoded": by
        aspect the share of structures in which nothing is wrong with it. Aspects that the molecule does not have are
        left out.
    counts : dict
        The same: how many faults there are in all.
    n : dict
        Structures in each set.
    worst : (n_worst,)
        Indices of up to five generated structures with the most faults, those first that have more.
    worst_faults : (n_worst,)
    """

    shares: dict[str, dict[str, float]]
    counts: dict[str, dict[str, int]]
    n: dict[str, int]
    worst: Int[np.ndarray, " n_worst"]
    worst_faults: Int[np.ndarray, " n_worst"]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        plain = dataclasses.asdict(self)
        return plain | {name: plain[name].tolist() for name in ("worst", "worst_faults")}


def judge(model: Model, sets: dict[str, Coordinates]) -> Structures:
    """Judge every structure of some sets, "generated" among them.

    Parameters
    ----------
    model : Model
        Trained.
    sets : dict of (n_frames, n_atoms, dim), nm or reduced units

    Returns
    -------
    Structures
    """
    judges = _Judge(model)
    shares, counts, validities = {}, {}, {}
    for name, frames in sets.items():
        faults, validities[name] = judges(frames)
        shares[name] = {aspect: float(np.mean(found == 0)) for aspect, found in faults.items()}
        counts[name] = {aspect: int(found.sum()) for aspect, found in faults.items()}
    faults = validities["generated"].n_faults
    worst = np.argsort(-faults, kind="stable")[:_WORST]
    worst = worst[faults[worst] > 0]
    return Structures(shares, counts, {name: len(x) for name, x in sets.items()}, worst, faults[worst])


class _Judge:
    """Counts faults, aspect by aspect."""

    def __init__(self, model: Model) -> None:
        assert model.data is not None
        self.geometry = model.data.geometry
        self.backbone: Backbone = find_backbone(model.system.topology)
        self.known = _known_cells(model.data.frames, self.backbone)

    def __call__(
        self, frames: Float[np.ndarray, "n_frames n_atoms dim"]
    ) -> tuple[dict[str, Int[np.ndarray, " n_frames"]], Validity]:
        found = check(self.geometry, frames)
        faults = {"valid": (~found.valid).astype(np.int64), "bonds": found.n_lengths[:, 0]}
        if len(self.geometry.kinds) > 2:
            faults |= {"angles": found.n_lengths[:, 1], "torsions": found.n_lengths[:, 2] + found.n_twisted}
        if len(self.geometry.centers):
            faults |= {"centers": found.n_wrong, "handedness": found.n_inverted}
        faults["contacts"] = found.n_overlaps
        if len(self.backbone.omega):
            faults["trans"] = (np.abs(torsions(frames, self.backbone.omega)) < 90).sum(axis=1)
        if self.known is not None:
            faults["ramachandran"] = _n_outliers(frames, self.backbone, self.known)
        return faults, found


def _known_cells(training: Coordinates, backbone: Backbone) -> Bool[np.ndarray, "n_residues n_cells n_cells"] | None:
    """Cells of each residue's map with training frames in them or next to them."""
    if not backbone.residues or len(training) < _FEWEST_FOR_MAP:
        return None
    n = 360 // _CELL
    known = np.zeros((len(backbone.residues), n, n), bool)
    phi, psi = _cells(training, backbone)
    known[np.arange(phi.shape[1]), phi, psi] = True
    return np.stack([maximum_filter(one, size=3, mode="wrap") for one in known])


def _n_outliers(
    frames: Float[np.ndarray, "n_frames n_atoms dim"], backbone: Backbone, known: np.ndarray
) -> Int[np.ndarray, " n_frames"]:
    phi, psi = _cells(frames, backbone)
    return (~known[np.arange(phi.shape[1]), phi, psi]).sum(axis=1)


def _cells(frames: Coordinates, backbone: Backbone) -> tuple[np.ndarray, np.ndarray]:
    n = 360 // _CELL
    phi, psi = (((torsions(frames, rows) + 180) // _CELL).astype(int) % n for rows in (backbone.phi, backbone.psi))
    return phi, psi
