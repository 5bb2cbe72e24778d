"""The local geometry of the training frames: what bonds, angles, centers, flat torsions and contacts look like in them.

No force field and no table of radii. Passes over the frames, block by block, gather the distances of all pairs up to
three bonds apart, the signed volume at each center with three or more neighbors and along each torsion that stays flat,
and how close pairs that are further apart come.
Everything else that asks whether a structure could exist (`validity`), or makes it one that could (`restoration`), asks
these numbers.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial import KDTree

from mdvae._chunks import ahead
from mdvae._memory import blocks, forget, picked, rows_together

Coordinates = Float[np.ndarray, "n_frames n_atoms dim"]
Pairs = Int[np.ndarray, "_ 2"]
Bounds = Float[np.ndarray, "n 2"]

# Pairs up to this many bonds apart have a distance of their own; all others are contacts.
_NEAR = 3
# A distance that spreads by less than this share of its mean is held: a bond, an angle, a torsion that does not turn.
# Signed volumes are held below this share of the product of the three bonds; a center that flips spreads by more.
_HELD_LENGTH, _HELD_VOLUME = 0.05, 0.3
# A torsion is flat if the root mean square of its sine is below this, 11 degrees: five such spreads are still less than
# a right angle. Elsewhere the distance of three bonds says what there is to say; the sine does not tell 60 from 120.
_FLAT = 0.2
# Evenly spaced ones stand for more frames than this: their range hardly grows any more.
_MOST_FRAMES = 1_000_000
# Frames enough for the mean of a length.
_FEW_FRAMES = 100
# More excess kurtosis than this says two states, such as a few cis bonds among trans ones: what is between the states
# and the mean is then no guide. (A normal distribution has 0, an exponential one to both sides 3.)
_TWO_STATES = 3.0
# Bonds that the simulation constrains spread by what their file rounds off. No use in telling such lengths apart.
_SMALLEST_SPREAD = 0.002
# Bonds that spread by more than this share of their mean are soft.
_SOFT_LENGTH = 0.1
# Where a topology knows no bonds, pairs that are not soft stand for them: among so many nearest ones of each atom those
# that join the atoms up at the smallest lengths, and others hardly longer, which close rings.
_NEAREST, _HARDLY_LONGER = 12, 1.15
# Held lengths that are more spreads off than that are broken.
_BROKEN_SPREADS = 5.0
# Particles with soft bonds now and then come as close as they please, and a search for compact structures goes right
# there. What two of three training frames keep is then the limit that a search has to keep as well.
_USUAL_FRAMES = 1 / 3
# Contacts are looked for within this multiple of the closest of all.
_CONTACT_RANGE = 2.0
# Atoms touch that are within this multiple of the closest of their kinds; this share of them is closer than usual. The
# closest of all is an extreme, and structures with all their contacts there would be no typical ones.
_TOUCHING, _RARE_CONTACTS = 1.3, 0.05
# Contacts so much closer than those of other kinds are none.
_COINCIDENT = 0.01
# Of the histograms of contacts: a hundredth of the closest of all, each.
_BINS = 200
# Atoms times frames, and frames, that the pass over contacts may look at.
_CONTACT_BUDGET, _CONTACT_FRAMES = 2_000_000, 4000
_STATISTICS = ("lengths", "volumes", "twists")
# Which two of four atoms are bonded: at a center, and in a row.
CENTER_BONDS, TORSION_BONDS = ((0, 1), (0, 2), (0, 3)), ((0, 1), (1, 2), (2, 3))


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """Distribution of each of some numbers over the training frames.

    Parameters
    ----------
    mean, spread, smallest, largest : (n,)
        In nm for lengths, nm³ for volumes; the spread is a standard deviation.
    held : (n,)
        Whether the number has one mean that it stays near, so that mean and spread say all about it.
    """

    mean: Float[np.ndarray, " n"]
    spread: Float[np.ndarray, " n"]
    smallest: Float[np.ndarray, " n"]
    largest: Float[np.ndarray, " n"]
    held: Bool[np.ndarray, " n"]

    def within(self, n_spreads: float) -> Bounds:
        """So many spreads around the mean where held, the range of the data elsewhere; (n, 2)."""
        near = np.stack([self.mean - n_spreads * self.spread, self.mean + n_spreads * self.spread], axis=1)
        return np.where(self.held[:, None], near, self._range)

    @property
    def allowed(self) -> Bounds:
        """Five spreads around the mean where held, and the range of the data; (n, 2)."""
        reach = np.where(self.held, _BROKEN_SPREADS * self.spread, 0.0)
        wide = np.stack([self.mean - reach, self.mean + reach], axis=1)
        low, high = self._range.T
        return np.stack([np.minimum(low, wide[:, 0]), np.maximum(high, wide[:, 1])], axis=1)

    @property
    def _range(self) -> Bounds:
        return np.stack([self.smallest, self.largest], axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class LocalGeometry:
    """What the training frames say about structures that could exist; lengths in nm (or reduced units).

    Parameters
    ----------
    pairs : (n_pairs, 2)
        All pairs up to three bonds apart.
    separation : (n_pairs,)
        How many bonds: 1, 2 or 3.
    lengths : Statistics
        Of their distances.
    centers : (n_centers, 4)
        A center and three of its neighbors, all triples of up to four; only those that do not flip, and only in three
        dimensions.
    volumes : Statistics
        Of the signed volume (the triple product) that the three bonds span, nm³.
    torsions : (n_torsions, 4)
        Four atoms in a row whose torsion stays near 0 or 180 degrees: peptide bonds, aromatic rings. Distances say
        little about it, since there they hardly change.
    twists : Statistics
        Of the signed volume that the three successive bonds span, nm³: it grows with the sine of the torsion.
    kinds : (n_atoms,)
        Atoms of one kind have the same mass and neighbors of the same masses, however many: hydrogens on carbon and on
        nitrogen differ, ends and middle of a chain do not.
    closest, touching : (n_kinds, n_kinds)
        Closest approach of atoms of two kinds that are more than three bonds apart, in up to 4000 of the frames, and
        the distance that 95 % of such pairs keep among those within 1.3 times that (and twice the closest approach of
        any kinds); 0 where two kinds never met.
    thermal : float
        Root mean square deviation of the frames from their mean structure.
    soft_compression, soft_contact : float
        Where most bonds are soft: the compression of the most compressed bond, as a share of its mean, and the closest
        approach of atoms without a bond, that two of three frames keep. 0 elsewhere.
    """

    pairs: Pairs
    separation: Int[np.ndarray, " n_pairs"]
    lengths: Statistics
    centers: Int[np.ndarray, "n_centers 4"]
    volumes: Statistics
    torsions: Int[np.ndarray, "n_torsions 4"]
    twists: Statistics
    kinds: Int[np.ndarray, " n_atoms"]
    closest: Float[np.ndarray, "n_kinds n_kinds"]
    touching: Float[np.ndarray, "n_kinds n_kinds"]
    thermal: float
    soft_compression: float
    soft_contact: float

    def to_dict(self) -> dict[str, Any]:
        """Arrays and numbers by name."""
        plain = dataclasses.asdict(self)
        for name in _STATISTICS:
            plain |= {f"{name}.{key}": value for key, value in plain.pop(name).items()}
        return plain

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "LocalGeometry":
        """Inverse of `to_dict`."""
        plain: dict[str, Any] = {key: value for key, value in data.items() if "." not in key}
        for name in _STATISTICS:
            plain[name] = Statistics(**{k.split(".")[1]: v for k, v in data.items() if k.startswith(name + ".")})
        plain |= {name: float(plain[name]) for name in ("thermal", "soft_compression", "soft_contact")}
        return cls(**plain)

    @functools.cached_property
    def codes(self) -> Int[np.ndarray, " n_pairs"]:
        """Near pairs as one whole number each, sorted."""
        return np.sort(pair_codes(self.pairs, len(self.kinds)))

    def strict(self) -> "LocalGeometry":
        """The same with limits for a search: where bonds are soft, those that two of three training frames keep."""
        bonded = self.separation == 1
        least = np.where(bonded, self.soft_compression * self.lengths.mean, self.soft_contact)
        smallest = np.where(self.lengths.held, self.lengths.smallest, np.maximum(self.lengths.smallest, least))
        return dataclasses.replace(
            self,
            lengths=dataclasses.replace(self.lengths, smallest=np.minimum(smallest, self.lengths.largest)),
            closest=np.maximum(self.closest, self.soft_contact),
            touching=np.maximum(self.touching, self.soft_contact),
        )


def fit_local_geometry(
    coordinates: Coordinates, links: Pairs, masses: Float[np.ndarray, " n_atoms"] | None = None
) -> LocalGeometry:
    """Gather the statistics from training frames, block by block.

    Parameters
    ----------
    coordinates : (n_frames, n_atoms, dim), nm
        Of more than a million evenly spaced ones are looked at.
    links : (n_links, 2)
        Bonds, or what stands for them: see `find_links`.
    masses : (n_atoms,), optional
        They tell atoms of different kinds apart; without them all are of one mass.

    Returns
    -------
    LocalGeometry
    """
    coordinates, n_atoms = coordinates[:: math.ceil(len(coordinates) / _MOST_FRAMES)], coordinates.shape[1]
    masses = np.ones(n_atoms) if masses is None else np.asarray(masses)
    links = _ordered(links)
    pairs, separation = _near_pairs(links, n_atoms)
    lengths = _length_statistics(coordinates, pairs)
    centers, volumes = _center_statistics(coordinates, links)
    torsions, twists = _torsion_statistics(coordinates, links)
    kinds = _kinds(links, masses)
    some = _sample(coordinates)
    closest, touching = _contact_distances(some, pairs, kinds)
    bonded = separation == 1
    soft = bonded & (lengths.spread >= _SOFT_LENGTH * lengths.mean)
    is_soft = soft.sum() > bonded.sum() / 2
    return LocalGeometry(
        pairs=pairs,
        separation=separation,
        lengths=lengths,
        centers=centers,
        volumes=volumes,
        torsions=torsions,
        twists=twists,
        kinds=kinds,
        closest=closest,
        touching=touching,
        thermal=_thermal_spread(coordinates),
        soft_compression=_soft_compression(some, pairs[soft], lengths.mean[soft]) if is_soft else 0.0,
        soft_contact=_soft_contact(some, links) if is_soft else 0.0,
    )


def find_links(coordinates: Coordinates, links: Pairs, bonds: Pairs) -> Pairs:
    """Bonds, what stands for them in the data where none are known, and guesses for what is then still apart.

    Parameters
    ----------
    coordinates : (n_frames, n_atoms, dim), nm
    links : (n_links, 2)
        Guesses, such as neighbors in the sequence.
    bonds : (n_bonds, 2)
        Those that are known. Atoms without any are joined to one another where the frames show them at a length that is
        not soft.

    Returns
    -------
    (n_found, 2)
    """
    links, bonds = _ordered(links), _ordered(bonds)
    n_atoms = coordinates.shape[1]
    bare = np.setdiff1d(np.arange(n_atoms), bonds)
    known = np.concatenate([bonds, bare[_stiff_links(_few(coordinates)[:, bare])]])
    # Known bonds first, then the guesses in their order: a smallest tree has those of them that join what was apart.
    guesses = links[~_contained(pair_codes(links, n_atoms), np.sort(pair_codes(known, n_atoms)))]
    ranks = np.concatenate([np.ones(len(known)), 2.0 + np.arange(len(guesses))])
    tree = minimum_spanning_tree(_graph(np.concatenate([known, guesses]), n_atoms, ranks))
    needed = np.sort(tree.data[tree.data > 1]).astype(int) - 2
    return np.concatenate([known, guesses[needed]])


def distances(coordinates: Coordinates, pairs: Pairs) -> Float[np.ndarray, "n_frames n_pairs"]:
    """Distances of pairs, in nm."""
    i, j = pairs.T
    # Axis by axis, here and below: NumPy's inner loops run along the last axis, and one of three makes them short.
    squares = (np.square(coordinates[:, i, axis] - coordinates[:, j, axis]) for axis in range(coordinates.shape[2]))
    return np.sqrt(sum(squares))


def signed_volumes(coordinates: Coordinates, fours: Int[np.ndarray, "n 4"]) -> Float[np.ndarray, "n_frames n"]:
    """Triple product of the vectors from the first of four atoms to the others, in nm³.

    At a center its sign is the handedness; of four atoms in a row it is the triple product of the successive bonds.
    """
    if not len(fours):  # as always in the plane, where there is no such product
        return np.zeros((len(coordinates), 0))
    first = [coordinates[:, fours[:, 0], axis] for axis in range(3)]
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = (
        [coordinates[:, atoms, axis] - first[axis] for axis in range(3)] for atoms in fours.T[1:]
    )
    return ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)


def pair_codes(pairs: Pairs, n_atoms: int) -> Int[np.ndarray, " n_pairs"]:
    """One whole number a pair, for set operations."""
    return pairs[:, 0] * n_atoms + pairs[:, 1]


def contacts(tree: KDTree, radius: float, near_codes: Int[np.ndarray, " n_pairs"]) -> Pairs:
    """Pairs within a radius that are not near pairs."""
    pairs = tree.query_pairs(radius, output_type="ndarray").astype(np.int64)
    return pairs[~_contained(pair_codes(pairs, tree.n), near_codes)]


def _contained(values: np.ndarray, ordered: np.ndarray) -> Bool[np.ndarray, " n"]:
    if not len(ordered):
        return np.zeros(len(values), bool)
    where = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return ordered[where] == values


def _ordered(pairs: Pairs) -> Pairs:
    """Each once, the smaller number first."""
    return np.unique(np.sort(np.asarray(pairs, np.int64).reshape(-1, 2), axis=1), axis=0)


def _stiff_links(frames: Coordinates) -> Pairs:
    """What stands for bonds in frames of atoms of which no bonds are known; grows with the atoms, not their square."""
    n_atoms = frames.shape[1]
    if n_atoms < 2:
        return np.zeros((0, 2), np.int64)
    neighbors = np.asarray(KDTree(frames[0]).query(frames[0], k=min(_NEAREST + 1, n_atoms))[1])
    pairs = np.stack([np.repeat(np.arange(n_atoms), neighbors.shape[1]), neighbors.reshape(-1)], axis=1)
    pairs = _ordered(pairs[pairs[:, 0] != pairs[:, 1]])
    lengths = distances(frames, pairs).astype(np.float64)
    mean = lengths.mean(axis=0)
    stiff = (mean > 0) & (lengths.std(axis=0) < _SOFT_LENGTH * mean)
    pairs, mean = pairs[stiff], mean[stiff]
    if not len(pairs):
        return pairs
    i, j = minimum_spanning_tree(_graph(pairs, n_atoms, mean)).tocoo().coords
    tree, longest = np.stack([i, j], axis=1).astype(np.int64), np.zeros(n_atoms)
    for end in (i, j):
        np.maximum.at(longest, end, distances(frames, tree).mean(axis=0))
    # A long bond must not admit the ends of an angle at it; rings of three have sides of one length.
    graph = _graph(np.concatenate([tree, tree[:, ::-1]]), n_atoms)
    around = np.stack(csr_array(graph @ graph).tocoo().coords, axis=1)
    angle = np.isin(pair_codes(pairs, n_atoms), pair_codes(around.astype(np.int64), n_atoms))
    shorter, longer = np.sort(longest[pairs], axis=1).T
    return pairs[mean <= _HARDLY_LONGER * np.where(angle, shorter, longer)]


def _graph(pairs: Pairs, n_atoms: int, weights: np.ndarray | None = None) -> csr_array:
    weights = np.ones(len(pairs)) if weights is None else weights
    return coo_array((weights, (pairs[:, 0], pairs[:, 1])), shape=(n_atoms, n_atoms)).tocsr()


def _near_pairs(links: Pairs, n_atoms: int) -> tuple[Pairs, Int[np.ndarray, " n_pairs"]]:
    """Pairs up to three bonds apart, and how many bonds that is."""
    if not len(links):
        return links, np.zeros(0, np.int64)
    graph = _graph(links, n_atoms)
    # Powers of the adjacency matrix stay sparse, where a table of all path lengths would not.
    step = (graph + graph.T).astype(bool).astype(np.int32)
    codes = np.zeros(0, np.int64)
    separation = np.zeros(0, np.int64)
    reached = step
    for n_bonds in range(1, _NEAR + 1):
        i, j = (index.astype(np.int64) for index in reached.tocoo().coords)
        new = np.setdiff1d((i * n_atoms + j)[i < j], codes)
        codes = np.concatenate([codes, new])
        separation = np.concatenate([separation, np.full(len(new), n_bonds)])
        reached = ((reached @ step) > 0).astype(np.int32)
    return np.stack([codes // n_atoms, codes % n_atoms], axis=1), separation


def _length_statistics(coordinates: Coordinates, pairs: Pairs) -> Statistics:
    mean, spread, kurtosis, smallest, largest = _moments(lambda x: distances(x, pairs), coordinates, len(pairs))
    # What is within the smallest spread has one state, whatever the rounding of a file makes of its distribution.
    one_state = (kurtosis < _TWO_STATES) | (spread <= _SMALLEST_SPREAD * mean)
    spread = np.maximum(spread, _SMALLEST_SPREAD * mean)
    held = (spread < _HELD_LENGTH * mean) & one_state
    return Statistics(mean, spread, smallest, largest, held)


def _center_statistics(coordinates: Coordinates, links: Pairs) -> tuple[Int[np.ndarray, "n_centers 4"], Statistics]:
    """Centers that keep their handedness or their plane, and the volumes there."""
    # All triples of four neighbors: with one volume alone a mirrored center would sit in a trap that its lengths make.
    some = [
        [i, *three]
        for i, them in enumerate(_neighbors(links, coordinates.shape[1]))
        for three in itertools.combinations(sorted(them)[:4], 3)
    ]
    centers, volumes, size = _volume_statistics(coordinates, some, CENTER_BONDS)
    return _those(volumes.spread < _HELD_VOLUME * size, centers, volumes)


def _torsion_statistics(coordinates: Coordinates, links: Pairs) -> tuple[Int[np.ndarray, "n_torsions 4"], Statistics]:
    """Torsions that stay near 0 or 180 degrees, and the volumes along them."""
    neighbors = _neighbors(links, coordinates.shape[1])
    some = [
        [i, j, k, m] for j, k in links.tolist() for i in neighbors[j] for m in neighbors[k] if len({i, j, k, m}) == 4
    ]
    torsions, twists, _ = _volume_statistics(coordinates, some, TORSION_BONDS)
    # One that has been elsewhere now and then may be anywhere for all we know.
    is_flat = np.hypot(twists.mean, twists.spread) < _FLAT * _sine_units(_few(coordinates), torsions)
    return _those(twists.held & is_flat, torsions, twists)


def _sine_units(frames: Coordinates, torsions: Int[np.ndarray, "n_torsions 4"]) -> Float[np.ndarray, " n_torsions"]:
    """By what the volume is larger than the sine of the torsion: not the bonds alone, since angles may be wide."""
    if not len(torsions):
        return np.zeros(0)
    a, b, c = (frames[:, torsions[:, n + 1]] - frames[:, torsions[:, n]] for n in range(3))
    areas = np.linalg.norm(np.cross(a, b), axis=2) * np.linalg.norm(np.cross(b, c), axis=2)
    return (areas / np.maximum(np.linalg.norm(b, axis=2), np.finfo(np.float32).tiny)).mean(axis=0)


def _volume_statistics(coordinates: Coordinates, fours: list[list[int]], bonds: tuple) -> tuple:
    """Four atoms each, statistics of their signed volumes, and the product of the three bonds."""
    table = np.array(fours if coordinates.shape[2] == 3 else [], np.int64).reshape(-1, 4)
    mean, spread, kurtosis, smallest, largest = _moments(lambda x: signed_volumes(x, table), coordinates, len(table))
    size = np.prod([distances(_few(coordinates), table[:, bond]).mean(axis=0) for bond in bonds], axis=0)
    one_state = (kurtosis < _TWO_STATES) | (spread <= 10 * _SMALLEST_SPREAD * size)
    spread = np.maximum(spread, 10 * _SMALLEST_SPREAD * size)
    return table, Statistics(mean, spread, smallest, largest, one_state), size


def _those(kept: Bool[np.ndarray, " n"], fours: np.ndarray, volumes: Statistics) -> tuple[np.ndarray, Statistics]:
    names = [field.name for field in dataclasses.fields(volumes)]
    return fours[kept], Statistics(**{name: getattr(volumes, name)[kept] for name in names})


def _neighbors(links: Pairs, n_atoms: int) -> list[list[int]]:
    neighbors: list[list[int]] = [[] for _ in range(n_atoms)]
    for i, j in links.tolist():
        neighbors[i].append(j)
        neighbors[j].append(i)
    return neighbors


def _kinds(links: Pairs, masses: Float[np.ndarray, " n_atoms"]) -> Int[np.ndarray, " n_atoms"]:
    """Number of each atom's kind."""
    rounded = np.round(masses.astype(np.float64), 1)
    around: list[set[float]] = [set() for _ in rounded]
    for i, j in links:
        around[i].add(float(rounded[j]))
        around[j].add(float(rounded[i]))
    names = [(float(mass), *sorted(them)) for mass, them in zip(rounded, around, strict=True)]
    number = {name: k for k, name in enumerate(sorted(set(names)))}
    return np.array([number[name] for name in names], np.int64)


def _moments(function, coordinates: Coordinates, n: int) -> tuple[np.ndarray, ...]:
    """Mean, standard deviation, excess kurtosis, smallest and largest of each number, in one streaming pass."""
    low, high, sums = np.full(n, np.inf), np.full(n, -np.inf), np.zeros((4, n))
    if not n:
        return (*sums[:3], low, high)
    # Around the first frame, not around zero: powers of nearly equal numbers would cancel.
    origin = function(coordinates[:1])[0].astype(np.float64)

    def of_block(rows: slice) -> tuple[np.ndarray, ...]:
        values = function(coordinates[rows]).astype(np.float64)
        forget(coordinates)
        off = values - origin
        squares = np.square(off)
        powers = [np.einsum("ij,ij->j", *pair) for pair in ((off, off), (squares, off), (squares, squares))]
        return values.min(axis=0), values.max(axis=0), np.stack([off.sum(axis=0), *powers])

    for smallest, largest, of_powers in ahead(of_block, _row_blocks(coordinates, n)):
        low, high = np.minimum(low, smallest), np.maximum(high, largest)
        sums += of_powers
    m1, m2, m3, m4 = sums / len(coordinates)
    variance = np.maximum(m2 - m1**2, 0.0)
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    kurtosis = fourth / np.maximum(variance**2, np.finfo(float).tiny) - 3
    return origin + m1, np.sqrt(variance), kurtosis, low, high


def _thermal_spread(coordinates: Coordinates) -> float:
    total, squares = np.zeros(coordinates.shape[1:]), np.zeros(coordinates.shape[1:])
    for block in blocks(coordinates):
        total += block.sum(axis=0, dtype=np.float64)
        squares += np.square(block, dtype=np.float64).sum(axis=0)
    variance = squares / len(coordinates) - (total / len(coordinates)) ** 2
    return float(np.sqrt(max(variance.sum(axis=1).mean(), 0.0)))


def _row_blocks(coordinates: Coordinates, width: int) -> Iterator[slice]:
    size = min(max(1, 2**21 // max(width, 1)), rows_together(coordinates))
    return (slice(first, first + size) for first in range(0, len(coordinates), size))


def _few(coordinates: Coordinates) -> Float[np.ndarray, "n_few n_atoms dim"]:
    return picked(coordinates, slice(None, None, max(1, len(coordinates) // _FEW_FRAMES)))


def _sample(coordinates: Coordinates) -> Float[np.ndarray, "n_sampled n_atoms dim"]:
    n = int(np.clip(_CONTACT_BUDGET // coordinates.shape[1], 100, _CONTACT_FRAMES))
    return picked(coordinates, np.unique(np.linspace(0, len(coordinates) - 1, n).astype(int)))


def _contact_distances(
    frames: Coordinates, near: Pairs, kinds: Int[np.ndarray, " n_atoms"]
) -> tuple[Float[np.ndarray, "n_kinds n_kinds"], Float[np.ndarray, "n_kinds n_kinds"]]:
    """Closest approach of two kinds, and what most of their contacts keep."""
    n_kinds, codes = int(kinds.max()) + 1, np.sort(pair_codes(near, frames.shape[1]))
    table = np.full((n_kinds, n_kinds), np.inf)
    nearest = np.min([_nearest_contacts(frame, codes) for frame in _few(frames)], axis=0)
    own = np.full(n_kinds, np.inf)
    np.minimum.at(own, kinds, nearest)
    # Kinds that lie on one another, such as virtual sites on their atoms, say nothing about how far to look.
    apart = own[np.isfinite(own) & (own > _COINCIDENT * own[np.isfinite(own)].max(initial=0))]
    if not len(apart):
        return np.zeros_like(table), np.zeros_like(table)
    reach = _CONTACT_RANGE * float(apart.min())
    counts = np.zeros((n_kinds, n_kinds, _BINS), np.int64)
    for frame in frames:
        pairs = contacts(KDTree(frame), reach, codes)
        apart = distances(frame[None], pairs)[0]
        a, b = np.sort(kinds[pairs], axis=1).T
        np.minimum.at(table, (a, b), apart)
        np.add.at(counts, (a, b, np.minimum((apart / reach * _BINS).astype(int), _BINS - 1)), 1)
    usual = _low_quantiles(counts, np.linspace(0, reach, _BINS + 1), table)
    return _of_all_kinds(table), _of_all_kinds(usual)


def _low_quantiles(counts: np.ndarray, edges: np.ndarray, closest: np.ndarray) -> np.ndarray:
    """Distance that is rarely undercut, from histograms of distances; infinity where there are none."""
    found = closest.copy()
    for kind in zip(*np.nonzero(np.isfinite(closest)), strict=True):
        touching = np.where(edges[:-1] < _TOUCHING * closest[kind], counts[kind], 0)
        below = np.concatenate([[0], np.cumsum(touching)])
        if below[-1]:
            found[kind] = max(closest[kind], np.interp(_RARE_CONTACTS * below[-1], below, edges))
    return found


def _of_all_kinds(table: np.ndarray) -> np.ndarray:
    """Both orders of two kinds; two that never met come no closer than either did to anything; 0 if to nothing."""
    table = np.minimum(table, table.T)
    own = table.min(axis=1)
    never = np.maximum(own[:, None], own[None])
    return np.where(np.isfinite(table), table, np.where(np.isfinite(never), never, 0.0))


def _nearest_contacts(frame: np.ndarray, near_codes: np.ndarray) -> Float[np.ndarray, " n_atoms"]:
    """Distance of each atom to the nearest one that is not near along the bonds; infinity if there is none."""
    n_atoms = len(frame)
    if n_atoms < 2:
        return np.full(n_atoms, np.inf)
    # Beside itself and all that can be near it, one more is a contact.
    most = int(np.bincount(np.concatenate(np.divmod(near_codes, n_atoms)), minlength=1).max())
    apart, partner = KDTree(frame).query(frame, k=min(n_atoms, most + 2))
    pairs = np.stack([np.broadcast_to(np.arange(n_atoms)[:, None], partner.shape), partner], axis=-1)
    codes = pair_codes(np.sort(pairs.reshape(-1, 2), axis=1), n_atoms).reshape(partner.shape)
    excluded = _contained(codes.reshape(-1), near_codes).reshape(partner.shape) | (pairs[..., 0] == pairs[..., 1])
    return np.where(excluded, np.inf, apart).min(axis=1)


def _soft_compression(frames: Coordinates, bonds: Pairs, mean: np.ndarray) -> float:
    return float(np.quantile((distances(frames, bonds) / mean).min(axis=1), _USUAL_FRAMES))


def _soft_contact(frames: Coordinates, links: Pairs) -> float:
    codes = np.sort(pair_codes(links, frames.shape[1]))
    closest = np.array([_nearest_contacts(frame, codes).min() for frame in frames])
    finite = closest[np.isfinite(closest)]
    return float(np.quantile(finite, _USUAL_FRAMES)) if len(finite) else 0.0
