"""A decoded frame to the nearest frame with the data's own local geometry.

A decoder that knows a conformation only roughly answers with its average, and averages of structures are no
structures: bonds shorten, side chains collapse, centers flatten. Restoring moves the atoms as little as it can until
every length and every signed volume is what the training data show it to be, and no two atoms are closer than atoms of
their kinds come in the data (see `local_geometry` for the statistics).

The solver is that of constraint dynamics: each length in turn is set right by moving its two atoms half the way each,
each volume by moving its four atoms along its gradient, sweep after sweep (SHAKE, doi:10.1016/0021-9991(77)90098-5;
volumes and contacts as in position-based dynamics, doi:10.1016/j.jvcir.2007.01.005). It needs no step size, no line
search and no linear algebra; a sweep costs a few operations an atom. Constraints without a common atom, which greedy
coloring finds beforehand, are set right at once, and so are all frames of a stack: frames are the last axis, so that
the innermost loops run over them. What lies within the usual range of the data is left alone. That is why a floppy
chain comes out as it went in, and why the answer is near the nearest structure: small moves, and none that need not be.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdvae._chunks import ahead
from mdvae.geometry import safe_norm
from mdvae.local_geometry import CENTER_BONDS, TORSION_BONDS, LocalGeometry, Statistics, pair_codes

Stack = Float[Array, "n_frames n_atoms dim"]
# Inside: atoms and axes first, and rows at the end for the dummy atoms of padded groups.
Sheet = Float[Array, "n_rows dim n_frames"]

# Sweeps over lengths alone; over everything, in rounds that begin with a new look at who is near whom; and over bonds
# alone, which are the stiffest and the last to converge.
_FIRST_SWEEPS, _ROUNDS, _SWEEPS, _BOND_SWEEPS = 5, 4, 10, 10
# Where held lengths and volumes end that the decoder has far off: then they spread as much as in the data, most of them
# at this border and some inside (CONTRIBUTING has the comparison).
_USUAL_SPREADS = 1.25
# Contacts that are watched an atom. There are more only where the raw frame has collapsed; the next round sees those.
_CONTACTS = 8
# Contacts and soft lengths end this far inside their bounds, so that what a last sweep leaves over is inside as well.
_MARGIN = 0.03
# A cell list looks into 9 columns of 3 cells, and at this many atoms in each; a table of all pairs is cheaper for fewer
# atoms than that.
_COLUMN = 28
# Violations are counted in this share of a length, which is about the thermal spread of an angle.
_STRAIN_UNIT = 0.02
# Atoms times frames in one compiled call: large enough to fill the vector units, small enough for many cores at once.
_SHEET = 16_384
# Frames in a stack of few.
_FEW = 8


class Restorer(eqx.Module):
    """Compiled form of a local geometry: which atoms to move for what, in groups that do not touch.

    Parameters
    ----------
    geometry : LocalGeometry
    n_spreads : float, optional
        Held lengths and volumes end within so many spreads of their mean; 1.25, and contacts no nearer than most, if
        left out. Where all of that cannot be had at once more spreads are easier to reach, and contacts then end only a
        little above the closest approach.
    bare : bool
        Aim at no more than `validity` asks: the very limits of the data, for lengths, volumes and contacts.
    n_rounds : int
        Rounds of sweeps. Fewer are for a search, whose answer is restored once more.
    """

    pairs: Int[Array, "n_pair_colors n_pair_slots 2"]
    lengths: Float[Array, "n_pair_colors n_pair_slots 2"]
    bonds: Int[Array, "n_bond_colors n_bond_slots 2"]
    bond_lengths: Float[Array, "n_bond_colors n_bond_slots 2"]
    fours: Int[Array, "n_four_colors n_four_slots 4"]
    volumes: Float[Array, "n_four_colors n_four_slots 2"]
    sizes: Float[Array, "n_four_colors n_four_slots"]
    near: Int[Array, "n_atoms n_near"]
    kinds: Int[Array, " n_atoms"]
    closest: Float[Array, "n_kinds n_kinds"]
    reach: float = eqx.field(static=True)
    n_rounds: int = eqx.field(static=True)

    def __init__(
        self, geometry: LocalGeometry, *, n_spreads: float = _USUAL_SPREADS, bare: bool = False, n_rounds: int = _ROUNDS
    ) -> None:
        n_atoms = len(geometry.kinds)
        self.n_rounds = n_rounds
        margin = 0.0 if bare else _MARGIN

        def bounds(statistics: Statistics) -> np.ndarray:
            limits = statistics.allowed if bare else statistics.within(n_spreads)
            return _drawn_in(limits, np.where(statistics.held, 0.0, margin))

        lengths = bounds(geometry.lengths)
        # Centers and torsions ask the same of four atoms.
        fours = np.concatenate([geometry.torsions, geometry.centers])
        volumes = np.concatenate([bounds(geometry.twists), bounds(geometry.volumes)])
        bonded = geometry.separation == 1
        # Bonds last: what comes last in a sweep is set right best.
        order = np.argsort(-geometry.separation, kind="stable")
        self.pairs, self.lengths = _colored(geometry.pairs[order], lengths[order], n_atoms)
        self.bonds, self.bond_lengths = _colored(geometry.pairs[bonded], lengths[bonded], n_atoms)
        self.fours, self.volumes = _colored(fours, volumes, n_atoms)
        self.sizes = _colored(fours, _sizes(geometry), n_atoms)[1][:, :, 1]
        self.near = jnp.asarray(_partners(geometry.pairs, n_atoms))
        self.kinds = jnp.asarray(geometry.kinds, jnp.int32)
        closest = (1 + margin) * geometry.closest
        if not bare and n_spreads <= _USUAL_SPREADS:
            closest = np.maximum(closest, geometry.touching)
        self.closest = jnp.asarray(closest, jnp.float32)
        self.reach = float(closest.max(initial=0.0))

    def __call__(self, frames: Stack) -> Stack:
        """Restored frames (n_frames, n_atoms, dim); differentiable, with who is near whom held fixed.

        Parameters
        ----------
        frames : (n_frames, n_atoms, dim), nm
        """
        sheet = _with_dummies(jnp.moveaxis(frames, 0, -1))
        n_atoms = frames.shape[1]

        # Going backward every sweep and every round is computed anew: memory then holds a frame for each of them.
        @jax.checkpoint
        def sweep(sheet, contacts):
            if self.reach:
                sheet = _part(sheet, *contacts)
            sheet = _sweep(_set_volumes, sheet, self.fours, self.volumes)
            return _sweep(_set_lengths, sheet, self.pairs, self.lengths)

        @jax.checkpoint
        def round_(sheet, _):
            contacts = self._contacts(jax.lax.stop_gradient(sheet[:n_atoms]))
            return jax.lax.scan(lambda x, _: (sweep(x, contacts), None), sheet, length=_SWEEPS)[0], None

        @jax.checkpoint
        def lengths_alone(sheet, groups, bounds):
            return _sweep(_set_lengths, sheet, groups, bounds)

        # Volumes of collapsed bonds say nothing about where to go, and a torsion in the middle turns to the wrong side
        # unless its distance has told it first.
        sheet, _ = jax.lax.scan(
            lambda x, _: (lengths_alone(x, self.pairs, self.lengths), None), sheet, length=_FIRST_SWEEPS
        )
        sheet, _ = jax.lax.scan(round_, sheet, length=self.n_rounds)
        sheet, _ = jax.lax.scan(
            lambda x, _: (lengths_alone(x, self.bonds, self.bond_lengths), None), sheet, length=_BOND_SWEEPS
        )
        restored = jnp.moveaxis(sheet[:n_atoms], -1, 0)
        # Lengths and volumes keep the center. Contacts of many do not quite, and nothing that counts depends on it.
        return restored - jnp.mean(restored - frames, axis=1, keepdims=True)

    def strain(self, frames: Stack) -> Float[Array, " n_frames"]:
        """How far frames are from what restoring aims at: zero there, and smooth.

        Parameters
        ----------
        frames : (n_frames, n_atoms, dim), nm

        Returns
        -------
        (n_frames,)
            Half the sum of squared relative violations of lengths, volumes and contacts, in units of 2 %, which is
            about the thermal spread of an angle.
        """
        if not self.reach:
            return self.bonded_strain(frames)
        atoms = jnp.moveaxis(frames, 0, -1)
        partners, limits = self._contacts(jax.lax.stop_gradient(atoms))
        overlap = _over(jnp.maximum(limits - _contact_vectors(atoms, partners)[1], 0), limits)
        # Every pair is seen from both sides.
        return self.bonded_strain(frames) + 0.25 * jnp.sum((overlap / _STRAIN_UNIT) ** 2, axis=(0, 1))

    def bonded_strain(self, frames: Stack) -> Float[Array, " n_frames"]:
        """The same for lengths and volumes alone: without a search for contacts, for use in training."""
        sheet = _with_dummies(jnp.moveaxis(frames, 0, -1))
        _, found, wanted = _lengths(sheet, self.pairs.reshape(-1, 2), self.lengths.reshape(-1, 2))
        total = jnp.sum(_over(found - wanted, wanted) ** 2, axis=0)
        fours = self.fours.reshape(-1, 4)
        if len(fours):
            found, wanted, _ = _volumes(sheet, fours, self.volumes.reshape(-1, 2))
            total += jnp.sum(((found - wanted) / self.sizes.reshape(-1, 1)) ** 2, axis=0)
        return 0.5 * total / _STRAIN_UNIT**2

    def _contacts(self, atoms: Sheet) -> tuple[Int[Array, "n_atoms k n_frames"], Float[Array, "n_atoms k n_frames"]]:
        """For each atom the others that are nearest to being too close, and how close they may be."""
        if not self.reach:
            empty = jnp.zeros((len(atoms), 0, atoms.shape[-1]))
            return empty.astype(jnp.int32), empty
        return jax.vmap(self._contacts_of_one, in_axes=-1, out_axes=-1)(atoms)

    def _contacts_of_one(self, frame):
        n_atoms = len(frame)
        candidates, there = _all_atoms(n_atoms) if n_atoms <= 9 * _COLUMN else _cells(frame, self.reach)
        own = jnp.arange(n_atoms, dtype=jnp.int32)[:, None]
        apart = safe_norm(frame[:, None] - frame[candidates])
        limits = self.closest[self.kinds[:, None], self.kinds[candidates]]
        gaps = jnp.where(there & (candidates != own), apart - limits, jnp.inf)
        # Bonded atoms are always among the nearest: look at as many more as there can be of them.
        slots = jax.lax.top_k(-gaps, min(_CONTACTS + self.near.shape[1], gaps.shape[1]))[1]
        nearest, gaps = jnp.take_along_axis(candidates, slots, 1), jnp.take_along_axis(gaps, slots, 1)
        gaps = jnp.where((nearest[:, :, None] == self.near[:, None]).any(axis=-1), jnp.inf, gaps)
        negative, slots = jax.lax.top_k(-gaps, min(_CONTACTS, gaps.shape[1]))
        partners = jnp.take_along_axis(nearest, slots, 1)
        limits = self.closest[self.kinds[:, None], self.kinds[partners]]
        return partners, jnp.where(jnp.isfinite(negative), limits, 0.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Restoration:
    """What restoring did to each of a set of frames.

    Parameters
    ----------
    moved : (n_frames,)
        Root mean square displacement of the atoms from the decoder's own output; nm, or reduced units.
    thermal : float
        The same of the training frames from their mean structure: the data's own thermal spread.
    valid : (n_frames,)
        Lengths, volumes and contacts all within the bounds of the training data (see `validity`).
    unit : str
        Of length: "nm" or "reduced".
    """

    moved: Float[np.ndarray, " n_frames"]
    thermal: float
    valid: Bool[np.ndarray, " n_frames"]
    unit: str

    @property
    def far(self) -> Bool[np.ndarray, " n_frames"]:
        """Moved further than the data's own thermal spread: such a structure is more repair than decoder."""
        return self.moved > self.thermal

    def __str__(self) -> str:
        factor, unit = (10.0, "Å") if self.unit == "nm" else (1.0, "reduced units")
        n = len(self.moved)
        if not n:
            return "no structures to restore"
        mean, high, thermal = (factor * x for x in (self.moved.mean(), np.quantile(self.moved, 0.95), self.thermal))
        return (
            f"{n} structure{'s' * (n != 1)} restored: moved by {mean:.3g} {unit} on average, 95 % by less than "
            f"{high:.3g}; {self.far.sum()} by more than the data's thermal spread ({thermal:.3g}); "
            f"{self.valid.sum()} valid"
        )


def restore_frames(
    restorer: Restorer, coordinates: Float[np.ndarray, "n_frames n_atoms dim"]
) -> Float[np.ndarray, "n_frames n_atoms dim"]:
    """Move each frame to the nearest one with the data's local geometry.

    Parameters
    ----------
    restorer : Restorer
    coordinates : (n_frames, n_atoms, dim), nm

    Returns
    -------
    (n_frames, n_atoms, dim)
        Frames that are not finite come back as they are.
    """
    coordinates = np.asarray(coordinates, np.float32)
    restored = np.concatenate(list(_in_sheets(_restored, restorer, coordinates)))
    return np.where(np.isfinite(coordinates).all(axis=(1, 2), keepdims=True), restored, coordinates)


def _in_sheets(function: Callable, restorer: Restorer, coordinates: np.ndarray) -> Iterator[np.ndarray]:
    """Apply a compiled function to stacks of one shape."""
    if not len(coordinates):
        yield coordinates
        return
    # Two shapes in all, so that compiling is done with soon.
    size = max(_FEW, _SHEET // coordinates.shape[1]) if len(coordinates) > _FEW else _FEW
    stacks = [coordinates[first : first + size] for first in range(0, len(coordinates), size)]
    lengths = [len(stack) for stack in stacks]
    stacks[-1] = np.concatenate([stacks[-1], np.repeat(stacks[-1][-1:], size - lengths[-1], axis=0)])
    results = ahead(lambda stack: np.asarray(function(restorer, stack)), stacks)
    for result, n in zip(results, lengths, strict=True):
        yield result[:n]


@eqx.filter_jit
def _restored(restorer: Restorer, stack: Array) -> Array:
    return restorer(stack)


# -- one group of constraints without common atoms


def _sweep(project: Callable, sheet: Sheet, groups: Array, bounds: Array) -> Sheet:
    """Each color in turn."""
    if not groups.size:
        return sheet
    return jax.lax.scan(lambda x, color: (project(x, *color), None), sheet, (groups, bounds))[0]


def _lengths(sheet: Sheet, pairs: Array, bounds: Array) -> tuple[Array, Array, Array]:
    """Vectors between the atoms of pairs, their lengths, and what the lengths should be."""
    vectors = sheet[pairs[:, 0]] - sheet[pairs[:, 1]]
    lengths = safe_norm(vectors, axis=1)
    return vectors, lengths, jnp.clip(lengths, bounds[:, :1], bounds[:, 1:])


def _set_lengths(sheet: Sheet, pairs: Array, bounds: Array) -> Sheet:
    vectors, lengths, wanted = _lengths(sheet, pairs, bounds)
    half = vectors * _over(0.5 * (wanted - lengths), lengths)[:, None]
    return _moved(sheet, pairs, [half, -half])


def _volumes(sheet: Sheet, fours: Array, bounds: Array) -> tuple[Array, Array, tuple[Array, Array, Array]]:
    """Signed volumes, what they should be, and their gradients with respect to all but the first atom."""
    a, b, c = (sheet[fours[:, k]] - sheet[fours[:, 0]] for k in (1, 2, 3))
    gradients = jnp.cross(b, c, axis=1), jnp.cross(c, a, axis=1), jnp.cross(a, b, axis=1)
    volumes = jnp.sum(a * gradients[0], axis=1)
    return volumes, jnp.clip(volumes, bounds[:, :1], bounds[:, 1:]), gradients


def _set_volumes(sheet: Sheet, fours: Array, bounds: Array) -> Sheet:
    volumes, wanted, (da, db, dc) = _volumes(sheet, fours, bounds)
    gradients = [-(da + db + dc), da, db, dc]
    step = _over(wanted - volumes, jnp.sum(jnp.stack(gradients) ** 2, axis=(0, 2)))
    return _moved(sheet, fours, [step[:, None] * g for g in gradients])


def _moved(sheet: Sheet, groups: Array, steps: list[Array]) -> Sheet:
    return sheet.at[groups.T.reshape(-1)].add(jnp.concatenate(steps))


def _contact_vectors(atoms: Sheet, partners: Array) -> tuple[Array, Array]:
    """Vectors (n_atoms, k, dim, n_frames) from partners to atoms, and their lengths."""
    n_atoms, k, n_frames = partners.shape
    there = jnp.take_along_axis(atoms, partners.reshape(n_atoms * k, 1, n_frames), axis=0)
    vectors = atoms[:, None] - there.reshape(n_atoms, k, -1, n_frames)
    return vectors, safe_norm(vectors, axis=2)


def _part(sheet: Sheet, partners: Array, limits: Array) -> Sheet:
    """Move atoms apart that are too close: half the way each, and the mean way where there are several."""
    n_atoms = len(partners)
    vectors, lengths = _contact_vectors(sheet[:n_atoms], partners)
    overlap = jnp.maximum(limits - lengths, 0)
    steps = jnp.sum(vectors * _over(0.5 * overlap, lengths)[:, :, None], axis=1)
    several = jnp.maximum(0.5 * jnp.sum(overlap > 0, axis=1), 1.0)
    return sheet.at[:n_atoms].add(steps / several[:, None])


def _over(x: Array, y: Array) -> Array:
    """Quotient; zero, with zero derivatives, where the divisor is: atoms at one point have no direction to part in."""
    there = y > 1e-12
    return jnp.where(there, x / jnp.where(there, y, 1), 0)


# -- who is near whom


def _all_atoms(n_atoms: int) -> tuple[Array, Array]:
    everyone = jnp.broadcast_to(jnp.arange(n_atoms, dtype=jnp.int32), (n_atoms, n_atoms))
    return everyone, jnp.ones_like(everyone, bool)


def _cells(frame: Array, reach: float) -> tuple[Array, Array]:
    """Atoms in the 27 cells around each atom's own, of edge ``reach``: 9 columns of 3 cells, each one run of a sort."""
    n_atoms, dim = frame.shape
    cell = jnp.floor((frame - frame.min(axis=0, keepdims=True)) / reach).astype(jnp.int32) + 1
    # In float32 frames of up to a thousand cells an axis fit into one whole number; beyond, cells share a number.
    base = 1024
    cell = jnp.pad(cell % (base - 1), ((0, 0), (0, 3 - dim)))
    number = (cell[:, 0] * base + cell[:, 1]) * base + cell[:, 2]
    order = jnp.argsort(number)
    number_in_order = number[order]
    around = jnp.array([-1, 0, 1], jnp.int32)
    columns = number[:, None] + ((around[:, None] * base + around[None]) * base).reshape(-1)[None]
    first = jnp.searchsorted(number_in_order, columns - 1)
    slots = first[:, :, None] + jnp.arange(_COLUMN, dtype=jnp.int32)[None, None]
    inside = jnp.minimum(slots, n_atoms - 1)
    there = (slots < n_atoms) & (number_in_order[inside] <= (columns + 1)[:, :, None])
    return order[inside].reshape(n_atoms, -1).astype(jnp.int32), there.reshape(n_atoms, -1)


# -- from statistics to groups


def _sizes(geometry: LocalGeometry) -> Float[np.ndarray, "n_fours 2"]:
    """Product of the mean bonds of each torsion and each center, twice."""
    n_atoms = len(geometry.kinds)
    in_order = geometry.lengths.mean[np.argsort(pair_codes(geometry.pairs, n_atoms))]

    def products(fours: np.ndarray, bonds: tuple) -> np.ndarray:
        bonded = [np.sort(fours[:, bond], axis=1) for bond in bonds]
        return np.prod([in_order[np.searchsorted(geometry.codes, pair_codes(b, n_atoms))] for b in bonded], axis=0)

    size = np.concatenate([products(geometry.torsions, TORSION_BONDS), products(geometry.centers, CENTER_BONDS)])
    return np.stack([size, size], axis=1)


def _drawn_in(bounds: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """Bounds drawn in by shares of their width."""
    width = bounds[:, 1] - bounds[:, 0]
    return bounds + (margins * width)[:, None] * np.array([1.0, -1.0])


def _partners(pairs: np.ndarray, n_atoms: int) -> Int[np.ndarray, "n_atoms n_near"]:
    """Near partners of each atom, filled up with the atom itself."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    counts = np.bincount(both[:, 0], minlength=n_atoms)
    table = np.repeat(np.arange(n_atoms, dtype=np.int32)[:, None], max(1, counts.max(initial=0)), axis=1)
    slot = np.arange(len(both)) - np.repeat(np.cumsum(counts) - counts, counts)
    table[both[:, 0], slot] = both[:, 1]
    return table


def _colored(groups: np.ndarray, bounds: np.ndarray, n_atoms: int) -> tuple[Array, Array]:
    """Groups sorted into colors without common atoms, each color padded with dummy atoms that ask for nothing.

    Returns
    -------
    groups : (n_colors, n_slots, n_members)
    bounds : (n_colors, n_slots, 2)
    """
    n_members = groups.shape[1]
    busy = np.zeros((0, n_atoms), bool)
    color = np.zeros(len(groups), np.int64)
    for k, members in enumerate(groups):
        free = np.flatnonzero(~busy[:, members].any(axis=1))
        if not len(free):
            busy, free = np.concatenate([busy, np.zeros((1, n_atoms), bool)]), [len(busy)]
        color[k] = free[0]
        busy[color[k], members] = True
    counts = np.bincount(color, minlength=len(busy))
    shape = (len(busy), int(counts.max(initial=0)))
    padded = np.broadcast_to(np.arange(n_atoms, n_atoms + n_members, dtype=np.int32), (*shape, n_members)).copy()
    limits = np.broadcast_to(np.array([-math.inf, math.inf], np.float32), (*shape, 2)).copy()
    order = np.argsort(color, kind="stable")
    slot = np.arange(len(groups)) - np.repeat(np.cumsum(counts) - counts, counts)
    padded[color[order], slot], limits[color[order], slot] = groups[order], bounds[order]
    return jnp.asarray(padded), jnp.asarray(limits)


def _with_dummies(sheet: Float[Array, "n_atoms dim n_frames"]) -> Float[Array, "n_atoms+4 dim n_frames"]:
    """Four more atoms, apart from one another, for padded groups to pull at."""
    dim, n_frames = sheet.shape[1:]
    corners = np.concatenate([np.zeros((1, 3)), np.eye(3)])[:, :dim] + np.arange(4)[:, None]
    dummies = jnp.broadcast_to(jnp.asarray(corners, sheet.dtype)[:, :, None], (4, dim, n_frames))
    return jnp.concatenate([sheet, dummies])
