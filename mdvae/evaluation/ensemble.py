"""Whether what a model generates is distributed as frames that it has not seen."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import pearsonr

from mdvae._blocks import block_labels, drawn_anew, statistical_inefficiency
from mdvae.evaluation.comparing import (
    DRAWS,
    Distance,
    counts,
    find_floor,
    jensen_shannon,
    summed,
    wasserstein,
    wasserstein_of_counts,
)
from mdvae.evaluation.quantities import CIRCULAR, Quantities, torsions
from mdvae.evaluation.reconstruction import principal_directions
from mdvae.latent.encoding import encode_posed
from mdvae.local_geometry import distances
from mdvae.model import Model
from mdvae.trajectory import alpha_carbons, atom_names

# Each set has a size of its own.
Coordinates = Float[np.ndarray, "_ n_atoms dim"]

# Quantities that say how stiff parts spread about their means; the others say which conformation it is.
STIFF = ("bond", "angle")
# Bins of a histogram that is shown and whose divergence is taken; of one that a distance is summed over; of a map.
_BINS, _FINE_BINS, _MAP_BINS = 50, 400, 50
_CIRCLE = (-180.0, 180.0)
# More atoms than this are represented by some of them in the map of contacts.
_MOST_SITES = 200
# Principal components of the frames that say, with the latent coordinates, how long these remember one another; and
# frames that the components are taken of.
_SLOW, _OF_COMPONENTS = 3, 2000
# Structures that contacts are counted in.
_MOST_FOR_CONTACTS = 2000
# Heavy atoms, and Cα, of residues that touch, nm; in units of a bond where there are no nm.
_CONTACT, _CONTACT_OF_CARBONS, _CONTACT_IN_BONDS = 0.45, 0.8, 1.5
# Beads further apart along the chain than atoms can be bonded, nm.
_LONGEST_BOND = 0.25


@dataclasses.dataclass(frozen=True, eq=False)
class Marginal:
    """Distribution of one quantity.

    Parameters
    ----------
    family : str
        "distance", "radius of gyration", "end to end", "bond", "angle" or "torsion".
    name : str
        Which: of atoms, such as "CA1-CA7".
    unit : str
        "nm", "reduced" or "degrees".
    edges : (n_bins + 1,)
        Of the histograms.
    generated, held_out, training : (n_bins,)
        Share of all structures in each bin; what lies outside is in none.
    low, high : (n_bins,)
        Central 95 % of the held-out shares, by a bootstrap over blocks of time.
    wasserstein : Distance
        Wasserstein-1 distance, in `unit`.
    divergence : Distance
        Jensen-Shannon divergence, bits.
    """

    family: str
    name: str
    unit: str
    edges: Float[np.ndarray, " n_edges"]
    generated: Float[np.ndarray, " n_bins"]
    held_out: Float[np.ndarray, " n_bins"]
    training: Float[np.ndarray, " n_bins"]
    low: Float[np.ndarray, " n_bins"]
    high: Float[np.ndarray, " n_bins"]
    wasserstein: Distance
    divergence: Distance


@dataclasses.dataclass(frozen=True, eq=False)
class Family:
    """All quantities of one kind together: means over them.

    Parameters
    ----------
    name, unit : str
    n : int
        How many.
    wasserstein, divergence : Distance
    worst : str
        The one that is furthest off, by its Wasserstein distance.
    """

    name: str
    unit: str
    n: int
    wasserstein: Distance
    divergence: Distance
    worst: str


@dataclasses.dataclass(frozen=True, eq=False)
class Ramachandran:
    """Distribution of the two backbone torsions of one residue.

    Parameters
    ----------
    name : str
        The residue, such as "ALA2".
    edges : (n_bins + 1,)
        Degrees, the same for φ and ψ.
    generated, held_out, training : (n_bins, n_bins)
        Share of all structures in each cell, φ first.
    divergence : Distance
        Jensen-Shannon divergence, bits.
    """

    name: str
    edges: Float[np.ndarray, " n_edges"]
    generated: Float[np.ndarray, "n_bins n_bins"]
    held_out: Float[np.ndarray, "n_bins n_bins"]
    training: Float[np.ndarray, "n_bins n_bins"]
    divergence: Distance


@dataclasses.dataclass(frozen=True, eq=False)
class Fluctuations:
    """Root mean square fluctuation of each atom about its mean position, posed.

    Parameters
    ----------
    unit : str
        "nm" or "reduced".
    names : tuple of str
        Of the atoms, such as "GLU3-CA".
    generated, held_out, training : (n_atoms,)
    correlation, correlation_floor : float
        Pearson's, of generated and of training with held-out fluctuations; NaN for fewer than three atoms.
    difference : Distance
        Mean absolute difference over atoms, in `unit`.
    """

    unit: str
    names: tuple[str, ...]
    generated: Float[np.ndarray, " n_atoms"]
    held_out: Float[np.ndarray, " n_atoms"]
    training: Float[np.ndarray, " n_atoms"]
    correlation: float
    correlation_floor: float
    difference: Distance


@dataclasses.dataclass(frozen=True, eq=False)
class Contacts:
    """How often pairs of atoms more than three bonds apart are within a cutoff.

    Parameters
    ----------
    unit : str
        Of the cutoff.
    cutoff : float
    names : tuple of str
        Of the sites of the map: all atoms, or, where these are more than 200, up to 200 evenly spaced Cα, or atoms.
    pairs : (n_pairs, 2)
        Indices into `names`.
    generated, held_out, training : (n_pairs,)
        Probabilities.
    difference : Distance
        Mean absolute difference over pairs.
    """

    unit: str
    cutoff: float
    names: tuple[str, ...]
    pairs: Int[np.ndarray, "n_pairs 2"]
    generated: Float[np.ndarray, " n_pairs"]
    held_out: Float[np.ndarray, " n_pairs"]
    training: Float[np.ndarray, " n_pairs"]
    difference: Distance


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
    """Everything about how generated structures are distributed.

    Parameters
    ----------
    n_generated, n_held_out, n_training : int
        Structures that were compared.
    memory : float
        Held-out frames for one that is independent, by the slowest of the latent coordinates and of the first principal
        components.
    families : tuple of Family
    marginals : tuple of Marginal
        At most 100 of each family.
    maps : tuple of Ramachandran
        Empty where there is no backbone.
    fluctuations : Fluctuations
    contacts : Contacts or None
        None where all pairs are within three bonds.
    """

    n_generated: int
    n_held_out: int
    n_training: int
    memory: float
    families: tuple[Family, ...]
    marginals: tuple[Marginal, ...]
    maps: tuple[Ramachandran, ...]
    fluctuations: Fluctuations
    contacts: Contacts | None

    @property
    def n_independent(self) -> float:
        """Held-out frames that are independent of one another."""
        return self.n_held_out / self.memory

    @property
    def resolution(self) -> float:
        """Populations that differ by more than this, on average over a kind of quantities, are above the noise floor.

        A share of all structures. Where the Jensen-Shannon divergence of two distributions is D bits, no set of bins
        has populations that differ by more than sqrt(2 ln(2) D), which is Pinsker's inequality for either's distance
        from their mean (doi:10.1109/18.61115); and of several torsions or distances, not on average where D is the mean
        over them. Of the kind with the largest noise. A single one of many may differ by more.
        """
        noise = [one.divergence.noise for one in self.families if one.name not in STIFF]
        return float(min(1.0, np.sqrt(2 * np.log(2) * max(noise, default=0.0))))

    @property
    def rows(self) -> "list[tuple[str, str, Distance]]":
        """What was compared, the unit of the distance, and the distance: everything that has a noise floor."""
        found = [(f"{one.name}, W1", one.unit, one.wasserstein) for one in self.families]
        found += [(f"{one.name}, JS", "bits", one.divergence) for one in self.families]
        found += [(f"φ/ψ of {one.name}, JS", "bits", one.divergence) for one in self.maps]
        found.append(("fluctuation of atoms", self.fluctuations.unit, self.fluctuations.difference))
        if self.contacts is not None:
            found.append(("contact probability", "", self.contacts.difference))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the histograms."""
        plain: dict[str, Any] = {
            "n_generated": self.n_generated,
            "n_held_out": self.n_held_out,
            "n_training": self.n_training,
            "n_independent": self.n_independent,
            "resolution": self.resolution,
            "rmsf_correlation": self.fluctuations.correlation,
            "rmsf_correlation_floor": self.fluctuations.correlation_floor,
            "rows": {name: {"unit": unit} | distance.to_dict() for name, unit, distance in self.rows},
        }
        plain["marginals"] = [
            {"family": one.family, "name": one.name, "unit": one.unit}
            | {"wasserstein": one.wasserstein.to_dict(), "divergence": one.divergence.to_dict()}
            for one in self.marginals
        ]
        return plain


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """Posed structures to compare, in nm or reduced units.

    Parameters
    ----------
    generated : (n_generated, n_atoms, dim)
    held_out : (n_held_out, n_atoms, dim)
        In order of time.
    run : (n_held_out,)
        Which uninterrupted run each held-out frame is of, ascending.
    training : (n_training, n_atoms, dim)
        Best as many as generated ones: distances of small samples are larger.
    weights : (n_held_out,), optional
        Of the held-out frames, above 0.
    """

    generated: Coordinates
    held_out: Float[np.ndarray, "n_held_out n_atoms dim"]
    run: Int[np.ndarray, " n_held_out"]
    training: Coordinates
    weights: Float[np.ndarray, " n_held_out"] | None = None

    def of(self, function: Any) -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
        """A function of an array of structures, of the three of them."""
        return function(self.generated), function(self.held_out), function(self.training)


def compare(model: Model, samples: Samples, seed: int = 0) -> Ensemble:
    """Compare how structures are distributed, each number beside its noise floor.

    Parameters
    ----------
    model : Model
        Trained.
    samples : Samples
    seed : int
        Of the bootstrap.

    Returns
    -------
    Ensemble
    """
    assert model.data is not None
    quantities = Quantities.of(model.system, model.data.geometry)
    memory = _memory(model, samples)
    labels = block_labels(samples.run, memory)
    measured, families, marginals = samples.of(quantities.measured), [], []
    for name, columns in quantities.families.items():
        family, members = _compare_family(
            quantities, name, columns, [part[:, columns] for part in measured], labels, samples.weights, seed
        )
        families.append(family)
        marginals += members
    return Ensemble(
        len(samples.generated),
        len(samples.held_out),
        len(samples.training),
        memory,
        tuple(families),
        tuple(marginals),
        tuple(_compare_maps(quantities, samples, labels, seed)),
        _compare_fluctuations(model, samples, labels, seed),
        _compare_contacts(model, samples, memory, seed),
    )


def _memory(model: Model, samples: Samples) -> float:
    """Held-out frames for one that is independent."""
    frames = samples.held_out.reshape(len(samples.held_out), -1)
    mean, axes = principal_directions(frames[:: -(-len(frames) // _OF_COMPONENTS)], _SLOW)
    slow = np.hstack([encode_posed(model, samples.held_out), (frames - mean) @ axes])
    borders = np.flatnonzero(np.diff(samples.run)) + 1
    deviations = slow - np.average(slow.astype(np.float64), axis=0, weights=samples.weights)
    # What a weighted mean scatters by are the weighted deviations from it.
    weighted = deviations if samples.weights is None else samples.weights[:, None] * deviations
    return statistical_inefficiency(np.split(weighted, borders))


def _compare_family(
    quantities: Quantities,
    name: str,
    columns: slice,
    measured: list[np.ndarray],
    labels: np.ndarray,
    weights: np.ndarray | None,
    seed: int,
) -> tuple[Family, list[Marginal]]:
    circular, names = name == CIRCULAR, quantities.names[columns]
    generated, held_out, training = measured
    period = 360.0 if circular else None
    pairs = zip(generated.T, held_out.T, strict=True)
    apart = np.array([wasserstein(one, other, period, weights) for one, other in pairs])
    fine = _edges(held_out, training, _FINE_BINS, circular)
    metric = wasserstein_of_counts(fine[:, 1] - fine[:, 0], circular)
    of_fine = find_floor(counts(held_out, fine, labels, weights), counts(training, fine)[0], metric, seed)
    edges = _edges(held_out, training, _BINS, circular)
    blocks = counts(held_out, edges, labels, weights)
    others, ours = counts(training, edges)[0], counts(generated, edges)[0]
    of_coarse = find_floor(blocks, others, jensen_shannon, seed, squared=True)
    divergent = jensen_shannon(ours, blocks.sum(axis=0))
    low, high = np.quantile(
        [_shares(draw) for draw in drawn_anew(blocks, DRAWS, np.random.default_rng(seed))], (0.025, 0.975), axis=0
    )
    members = [
        Marginal(one.family, one.name, one.unit, *parts)
        for one, *parts in zip(
            names, edges, _shares(ours), _shares(blocks.sum(axis=0)), _shares(others), low, high,
            of_fine.beside(apart), of_coarse.beside(divergent), strict=True,
        )
    ]  # fmt: skip
    worst = names[int(np.argmax(apart))].name
    means = of_fine.mean_beside(apart), of_coarse.mean_beside(divergent)
    return Family(name, names[0].unit, len(names), *means, worst), members


def _edges(held_out: np.ndarray, training: np.ndarray, n_bins: int, circular: bool) -> Float[np.ndarray, "n n_edges"]:
    """Evenly spaced edges over what the simulation shows of each quantity."""
    if circular:
        return np.tile(np.linspace(*_CIRCLE, n_bins + 1), (held_out.shape[1], 1))
    low = np.minimum(held_out.min(axis=0), training.min(axis=0)).astype(np.float64)
    high = np.maximum(held_out.max(axis=0), training.max(axis=0)).astype(np.float64)
    # A length that is constrained has a range all the same.
    high = np.maximum(high, low + 1e-6 * np.maximum(np.abs(low), 1e-3))
    return np.linspace(low, high, n_bins + 1, axis=1)


def _shares(found: Float[np.ndarray, "n n_counts"]) -> Float[np.ndarray, "n n_bins"]:
    """Shares of all that was counted, without what lies outside."""
    return found[:, 1:-1] / found.sum(axis=1, keepdims=True)


def _compare_maps(quantities: Quantities, samples: Samples, labels: np.ndarray, seed: int) -> Iterator[Ramachandran]:
    backbone = quantities.backbone
    edges = np.linspace(*_CIRCLE, _MAP_BINS + 1)

    def cells(coordinates: Coordinates) -> np.ndarray:
        """Number of the cell of each residue of each structure."""
        phi, psi = (
            np.clip(np.searchsorted(edges, torsions(coordinates, rows), side="right") - 1, 0, _MAP_BINS - 1)
            for rows in (backbone.phi, backbone.psi)
        )
        return (phi * _MAP_BINS + psi).astype(np.float64)

    if not backbone.residues:
        return
    shape = (_MAP_BINS, _MAP_BINS)
    of_each = np.tile(np.arange(_MAP_BINS**2 + 1.0), (1, 1))
    for name, *columns in zip(backbone.residues, *(part.T for part in samples.of(cells)), strict=True):
        ours, theirs, others = (column[:, None] for column in columns)
        blocks, training = (
            counts(theirs, of_each, labels, samples.weights)[..., 1:-1],
            counts(others, of_each)[0, :, 1:-1],
        )
        generated = counts(ours, of_each)[0, :, 1:-1]
        floor = find_floor(blocks, training, jensen_shannon, seed, squared=True)
        (distance,) = floor.beside(jensen_shannon(generated, blocks.sum(axis=0)))
        ours, theirs, others = (x.reshape(shape) / x.sum() for x in (generated, blocks.sum(axis=0), training))
        yield Ramachandran(name, edges, ours, theirs, others, distance)


def _compare_fluctuations(model: Model, samples: Samples, labels: np.ndarray, seed: int) -> Fluctuations:
    def moments(coordinates: Coordinates) -> np.ndarray:
        """Of each atom in each structure: one, position, and its square."""
        x = coordinates.astype(np.float64)
        return np.concatenate([np.ones((*x.shape[:2], 1)), x, (x**2).sum(axis=2, keepdims=True)], axis=2)

    def apart(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, " one"]:
        return np.abs(_rmsf(a) - _rmsf(b)).mean(keepdims=True)

    blocks = summed(moments, samples.held_out, labels, samples.weights)
    generated, training = (summed(moments, part)[0] for part in (samples.generated, samples.training))
    held_out = blocks.sum(axis=0)
    (distance,) = find_floor(blocks, training, apart, seed).beside(apart(generated, held_out))
    ours, theirs, others = _rmsf(generated), _rmsf(held_out), _rmsf(training)
    return Fluctuations(
        unit=model.system.unit,
        names=atom_names(model.system.topology),
        generated=ours,
        held_out=theirs,
        training=others,
        correlation=_correlation(ours, theirs),
        correlation_floor=_correlation(others, theirs),
        difference=distance,
    )


def _rmsf(moments: Float[np.ndarray, "n_atoms n"]) -> Float[np.ndarray, " n_atoms"]:
    n, total, squares = moments[:, 0], moments[:, 1:-1], moments[:, -1]
    return np.sqrt(np.maximum(squares / n - ((total / n[:, None]) ** 2).sum(axis=1), 0.0))


def _correlation(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.asarray(pearsonr(a, b))[0])


def _compare_contacts(model: Model, samples: Samples, memory: float, seed: int) -> Contacts | None:
    assert model.data is not None
    geometry, n_atoms = model.data.geometry, model.system.n_atoms
    sites = _sites(model)
    pairs = np.stack(np.triu_indices(len(sites), 1), axis=1)
    pairs = pairs[~np.isin(sites[pairs] @ [n_atoms, 1], geometry.codes)]
    if not len(pairs):
        return None
    cutoff, of_atoms = _cutoff(model, sites), sites[pairs]

    def touching(coordinates: Coordinates) -> np.ndarray:
        """Of each pair in each structure: one, and whether it is in contact."""
        near = distances(coordinates, of_atoms) < cutoff
        return np.stack([np.ones(near.shape, np.float32), near], axis=2)

    def apart(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, " one"]:
        return np.abs(_probability(a) - _probability(b)).mean(keepdims=True)

    rows = [
        np.unique(np.linspace(0, len(part) - 1, _MOST_FOR_CONTACTS).astype(int)) for part in samples.of(lambda x: x)
    ]
    weights = None if samples.weights is None else samples.weights[rows[1]]
    few = Samples(
        samples.generated[rows[0]], samples.held_out[rows[1]], samples.run[rows[1]], samples.training[rows[2]], weights
    )
    memory *= len(few.held_out) / len(samples.held_out)
    blocks = summed(touching, few.held_out, block_labels(few.run, max(1.0, memory)), few.weights)
    generated, training = (summed(touching, part)[0] for part in (few.generated, few.training))
    held_out = blocks.sum(axis=0)
    (distance,) = find_floor(blocks, training, apart, seed).beside(apart(generated, held_out))
    names = np.array(atom_names(model.system.topology))[sites]
    return Contacts(
        unit=model.system.unit,
        cutoff=cutoff,
        names=tuple(names.tolist()),
        pairs=pairs,
        generated=_probability(generated),
        held_out=_probability(held_out),
        training=_probability(training),
        difference=distance,
    )


def _probability(sums: Float[np.ndarray, "n_pairs 2"]) -> Float[np.ndarray, " n_pairs"]:
    return sums[:, 1] / sums[:, 0]


def _sites(model: Model) -> Int[np.ndarray, " n_sites"]:
    """All atoms, or Cα, or every second, third, ... atom of many."""
    n_atoms, carbons = model.system.n_atoms, alpha_carbons(model.system.topology)
    if n_atoms <= _MOST_SITES:
        return np.arange(n_atoms)
    few = carbons if len(carbons) > 1 else np.arange(n_atoms)
    return few[:: -(-len(few) // _MOST_SITES)]


def _cutoff(model: Model, sites: np.ndarray) -> float:
    """Distance at which sites touch: 0.45 nm, 0.8 nm for Cα, one and a half bonds of beads."""
    assert model.data is not None
    geometry = model.data.geometry
    bond = float(geometry.lengths.mean[geometry.separation == 1].mean()) if (geometry.separation == 1).any() else 0.0
    if model.system.unit == "reduced":
        return _CONTACT_IN_BONDS * bond
    return _CONTACT if len(sites) == model.system.n_atoms and bond < _LONGEST_BOND else _CONTACT_OF_CARBONS
