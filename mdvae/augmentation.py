"""Random changes of a posed frame that the physics does not notice: more to learn from than was simulated.

An augmentation is a pure function of one frame and one key, cheap enough for every frame of every training epoch.
`augmentation` makes it from a user's words, and refuses what would teach the model molecules that do not exist: mirror
images of chiral ones, chains read backwards that have a direction.
"""

import abc
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdvae._types import Frame, Key, Number
from mdvae.alignment import AbstractAlignment
from mdvae.geometry.safe import safe_norm
from mdvae.local_geometry import LocalGeometry
from mdvae.trajectory import System

_KNOWN = (
    "'mirror' (or 'mirror=chiral', if a chiral molecule shall be mirrored as well), 'reversal', "
    "'rotation=5' (in degrees) and 'noise=0.005' (in the unit of length)"
)
# A center whose signed volume has its mean so many spreads from zero never inverts. That of an amino acid's Cα has it
# more than ten away, and a planar one less than one.
_ONE_SIDED = 5.0
# Bonds whose lengths differ by no more than this share are alike; single and double ones differ by more.
_ALIKE = 0.05
# Atoms that may be tried on places before we give up: a molecule of a hundred atoms needs little more than a hundred.
_TRIES = 20_000
_NAMED = 3

# Neighbors of an atom, and the mean lengths of the bonds to them.
Bonded = dict[int, float]
# Sign of the signed volume of a center and three of its neighbors, for every order of these.
Four = tuple[int, int, int, int]
Handedness = dict[Four, int]


class AbstractAugmentation(eqx.Module):
    """A posed frame into another that could be one as well."""

    @abc.abstractmethod
    def __call__(self, frame: Frame, key: Key) -> Frame:
        """Change the frame at random.

        Parameters
        ----------
        frame : (n_atoms, dim), nm, posed
        key : PRNG key

        Returns
        -------
        (n_atoms, dim), nm
        """


class Mirror(AbstractAugmentation):
    """With probability one half the mirror image, posed again.

    Parameters
    ----------
    alignment : AbstractAlignment
        A mirror image has another pose than its original.
    order : (n_atoms,), optional
        Which atom of the mirror image comes first, second, ... Equal atoms have numbers all the same: the two hydrogens
        of a methylene must change places, or they stand where they never were.
    """

    alignment: AbstractAlignment
    order: Int[Array, " n_atoms"] | None = None

    def __call__(self, frame: Frame, key: Key) -> Frame:
        """Mirror the frame, or leave it exactly as it is."""
        mirrored = frame.at[:, 0].multiply(-1)
        if self.order is not None:
            mirrored = mirrored[self.order]
        return jnp.where(jax.random.bernoulli(key), self.alignment(mirrored), frame)


class Reversal(AbstractAugmentation):
    """With probability one half the chain read backwards, posed again.

    Parameters
    ----------
    alignment : AbstractAlignment
    """

    alignment: AbstractAlignment

    def __call__(self, frame: Frame, key: Key) -> Frame:
        """Reverse the order of the atoms, or leave the frame exactly as it is."""
        return jnp.where(jax.random.bernoulli(key), self.alignment(frame[::-1]), frame)


class Rotation(AbstractAugmentation):
    """A small rotation about the origin: a pose is never exact.

    Parameters
    ----------
    angle : float
        In degrees: standard deviation of each component of the rotation vector, whose length is the angle; in the plane
        of the one angle.
    """

    angle: Number

    def __call__(self, frame: Frame, key: Key) -> Frame:
        """Turn the frame out of its pose."""
        width = jnp.deg2rad(jnp.asarray(self.angle, frame.dtype))
        if frame.shape[1] == 2:
            return frame @ _planar_rotation(width * jax.random.normal(key, (), frame.dtype)).T
        return frame @ _rotation(width * jax.random.normal(key, (3,), frame.dtype)).T


class Noise(AbstractAugmentation):
    """Independent normal noise on every coordinate.

    Parameters
    ----------
    width : float
        Standard deviation, in nm (or reduced units).
    """

    width: Number

    def __call__(self, frame: Frame, key: Key) -> Frame:
        """Shake the frame."""
        return frame + self.width * jax.random.normal(key, frame.shape, frame.dtype)


class Several(AbstractAugmentation):
    """One after the other, in the given order, each with a key of its own.

    Parameters
    ----------
    parts : tuple of AbstractAugmentation
    """

    parts: tuple[AbstractAugmentation, ...]

    def __call__(self, frame: Frame, key: Key) -> Frame:
        """Change the frame by all of them."""
        for part, own in zip(self.parts, jax.random.split(key, len(self.parts)), strict=True):
            frame = part(frame, own)
        return frame


def check_augmentation(names: Iterable[str] | None) -> tuple[str, ...]:
    """Refuse words that `augmentation` does not know, before there is any system to ask about.

    Parameters
    ----------
    names : iterable of str, or None

    Returns
    -------
    tuple of str
        The words; none for None.

    Raises
    ------
    ValueError, TypeError
        For a word that is unknown or comes twice, and for numbers that are missing, out of range or out of place.
    """
    # One word alone would pass as its letters.
    words = tuple(names or ())
    if isinstance(names, str) or not all(isinstance(word, str) for word in words):
        raise TypeError(f"augment must be a list of words such as ['mirror', 'noise=0.005'], got {names!r}")
    _parsed(words)
    return words


def augmentation(
    names: Sequence[str], system: System, alignment: AbstractAlignment, geometry: LocalGeometry
) -> AbstractAugmentation | None:
    """Augmentation that a user's words ask for.

    Parameters
    ----------
    names : sequence of str
        ``"mirror"``: mirror images, unless the molecule is chiral (``"mirror=chiral"``: even so); ``"reversal"``:
        chains read backwards; ``"rotation=5"``: small rotations, so many degrees about each axis; ``"noise=0.005"``:
        noise on every coordinate, in nm (or reduced units). They are applied in this order, whatever that of the words:
        posing a mirror image would undo a rotation before it.
    system : System
    alignment : AbstractAlignment
        What posed the frames.
    geometry : LocalGeometry
        Of the training frames: it knows the bonds, and which centers never invert.

    Returns
    -------
    AbstractAugmentation or None
        None if there are no words.

    Raises
    ------
    ValueError, TypeError
        From `check_augmentation`; for ``"mirror"`` where the molecule is chiral; and for ``"reversal"`` where the chain
        does not read the same from both ends.
    """
    words = _parsed(check_augmentation(names))
    parts: list[AbstractAugmentation] = []
    if "mirror" in words:
        order = None if words["mirror"] == "chiral" else _mirror_order(system, geometry)
        parts.append(Mirror(alignment, order))
    if "reversal" in words:
        _check_reversible(system, geometry)
        parts.append(Reversal(alignment))
    if "rotation" in words:
        parts.append(Rotation(words["rotation"]))
    if "noise" in words:
        parts.append(Noise(words["noise"]))
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else Several(tuple(parts))


def chiral_centers(system: System, geometry: LocalGeometry) -> list[str]:
    """Names of the atoms that make the molecule differ from its mirror image.

    These are centers whose neighbors all differ, however far away (classes of atoms as by Morgan,
    doi:10.1021/c160017a018), and which never invert in the data; and, whatever is selected of them, amino acids (but
    glycine) and nucleotides.

    Parameters
    ----------
    system : System
    geometry : LocalGeometry

    Returns
    -------
    list of str
        Such as "ALA2-CA", in the order of the atoms; a residue alone where its center is not selected. None in the
        plane.
    """
    if system.dim == 2:
        return []
    neighbors = _neighbors(geometry)
    classes = _classes(neighbors, system.masses)
    residues = [residue for residue in system.topology.residues if _is_chiral(residue)]
    names = dict(_center_of(residue) for residue in residues)
    for center in {four[0] for four in _handedness(geometry)}:
        if len({classes[atom] for atom in neighbors[center]}) == len(neighbors[center]):
            names[center] = str(system.topology.atom(center))
    return [names[atom] for atom in sorted(names)]


# -- words


def _parsed(names: Sequence[str]) -> dict[str, Any]:
    """What each word asks for: a number, or what stands behind its equals sign."""
    found: dict[str, Any] = {}
    for word in names:
        name, _, value = word.partition("=")
        if name in found:
            raise ValueError(f"augment has {name!r} twice; give each of {_KNOWN} at most once")
        if name in ("rotation", "noise"):
            found[name] = _width(word, value)
        elif word in ("mirror", "mirror=chiral", "reversal"):
            found[name] = value
        else:
            raise ValueError(f"augment {word!r} is not known; expected any of {_KNOWN}")
    return found


def _width(word: str, value: str) -> float:
    try:
        width = float(value)
    except ValueError:
        width = math.nan
    if not (math.isfinite(width) and width > 0):
        raise ValueError(f"augment {word!r} needs a finite number above 0 behind an equals sign; known are {_KNOWN}")
    return width


# -- rotations


def _planar_rotation(angle: Float[Array, ""]) -> Float[Array, "2 2"]:
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([c, -s]), jnp.stack([s, c])])


def _rotation(vector: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Rodrigues' formula (doi:10.1080/10867651.1998.10487493), with sinc(x) = sin(πx)/πx, which is exact at zero."""
    x, y, z = vector
    zero = jnp.zeros_like(x)
    cross = jnp.stack([jnp.stack([zero, -z, y]), jnp.stack([z, zero, -x]), jnp.stack([-y, x, zero])])
    turns = safe_norm(vector) / (2 * jnp.pi)
    return jnp.eye(3, dtype=vector.dtype) + jnp.sinc(2 * turns) * cross + jnp.sinc(turns) ** 2 / 2 * (cross @ cross)


# -- mirror images


def _mirror_order(system: System, geometry: LocalGeometry) -> Int[Array, " n_atoms"] | None:
    """Order in which the atoms of the mirror image are the molecule again; None where they are so as they stand."""
    handedness = {} if system.dim == 2 else _handedness(geometry)
    chiral, order = chiral_centers(system, geometry), None
    if not chiral and handedness:
        order = _relabeled(_neighbors(geometry), system.masses, handedness)
        if order is None:
            chiral = [str(system.topology.atom(atom)) for atom in sorted({four[0] for four in handedness})]
    if chiral:
        centers = f"{chiral[0]} is a chiral center" if len(chiral) == 1 else f"{_listed(chiral)} are chiral centers"
        raise ValueError(
            f"augment 'mirror' would teach the model molecules that do not exist: {centers}; "
            "leave it out, or say 'mirror=chiral' if you mean it"
        )
    return None if order is None else jnp.asarray(order)


def _relabeled(
    neighbors: list[Bonded], masses: Float[np.ndarray, " n_atoms"], handedness: Handedness
) -> list[int] | None:
    """Places for the atoms, each that of an equal one, such that the mirror image has the handedness of the original.

    A search in depth. Atoms come in the order of the bonds, so that a wrong choice is soon found out.
    """
    classes, walk = _classes(neighbors, masses), _breadth_first(neighbors)
    step = {atom: k for k, atom in enumerate(walk)}
    due: list[list[Four]] = [[] for _ in walk]
    for four in handedness:
        due[max(step[atom] for atom in four)].append(four)
    unfinished: list[list[int]] = [[]]
    for _ in range(_TRIES):
        if not unfinished:
            break
        chosen = unfinished.pop()
        if len(chosen) == len(walk):
            return [chosen[step[atom]] for atom in range(len(walk))]
        atom, place, taken = walk[len(chosen)], dict(zip(walk, chosen, strict=False)), set(chosen)
        bonded = {place[other]: length for other, length in neighbors[atom].items() if other in place}
        # The last is tried first: an atom stays where it is, if it can.
        for other in [*(k for k in range(len(walk)) if k != atom), atom]:
            if other in taken or classes[other] != classes[atom]:
                continue
            if not _alike(bonded, {k: length for k, length in neighbors[other].items() if k in taken}):
                continue
            place[atom] = other
            if all(handedness.get(operator.itemgetter(*four)(place)) == -handedness[four] for four in due[step[atom]]):
                unfinished.append([*chosen, other])
    return None


def _alike(one: Bonded, other: Bonded) -> bool:
    return one.keys() == other.keys() and all(abs(one[k] - other[k]) <= _ALIKE * one[k] for k in one)


def _handedness(geometry: LocalGeometry) -> Handedness:
    """Of the centers that never invert."""
    volumes = geometry.volumes
    kept = np.abs(volumes.mean) > _ONE_SIDED * volumes.spread
    found: Handedness = {}
    for (center, a, b, c), mean in zip(geometry.centers[kept].tolist(), volumes.mean[kept], strict=True):
        sign = 1 if mean > 0 else -1
        for x, y, z in ((a, b, c), (b, c, a), (c, a, b)):
            found[center, x, y, z], found[center, z, y, x] = sign, -sign
    return found


def _neighbors(geometry: LocalGeometry) -> list[Bonded]:
    neighbors: list[Bonded] = [{} for _ in geometry.kinds]
    is_bond = geometry.separation == 1
    for (i, j), length in zip(geometry.pairs[is_bond].tolist(), geometry.lengths.mean[is_bond].tolist(), strict=True):
        neighbors[i][j] = neighbors[j][i] = length
    return neighbors


def _classes(neighbors: list[Bonded], masses: Float[np.ndarray, " n_atoms"]) -> list[int]:
    """Number of each atom's class: by mass, then by the classes of its neighbors, again until no class splits."""
    classes = np.unique(_rounded(masses), return_inverse=True)[1].tolist()
    while True:
        names = [(own, *sorted(classes[atom] for atom in them)) for own, them in zip(classes, neighbors, strict=True)]
        number = {name: k for k, name in enumerate(sorted(set(names)))}
        if len(number) == len(set(classes)):
            return classes
        classes = [number[name] for name in names]


def _breadth_first(neighbors: list[Bonded]) -> list[int]:
    """All atoms, each soon after the first of its neighbors."""
    walk: list[int] = []
    seen: set[int] = set()
    for start in range(len(neighbors)):
        piece = [] if start in seen else [start]
        seen.update(piece)
        for atom in piece:  # which grows meanwhile
            new = sorted(neighbors[atom].keys() - seen)
            seen.update(new)
            piece += new
        walk += piece
    return walk


def _is_chiral(residue: Any) -> bool:
    # What caps a chain has no letter of its own.
    return residue.is_nucleic or (residue.is_protein and residue.code not in (None, "G"))


def _center_of(residue: Any) -> tuple[int, str]:
    for atom in residue.atoms:
        if atom.name in ("CA", "C1'"):
            return atom.index, str(atom)
    return residue.atom(0).index, str(residue)


def _listed(names: list[str]) -> str:
    some, rest = names[:_NAMED], len(names) - _NAMED
    return f"{', '.join(some)} (and {rest} more)" if rest > 0 else f"{', '.join(some[:-1])} and {some[-1]}"


def _rounded(masses: Float[np.ndarray, " n_atoms"]) -> Float[np.ndarray, " n_atoms"]:
    return np.round(masses.astype(np.float64), 1)


# -- reversed chains


def _check_reversible(system: System, geometry: LocalGeometry) -> None:
    """Refuse a chain that does not read the same from both ends."""
    for residue in system.topology.residues:
        if residue.is_protein or residue.is_nucleic:
            raise ValueError(f"augment 'reversal': {residue} is part of a chain that has a direction; leave it out")
    masses, neighbors, last = _rounded(system.masses), _neighbors(geometry), system.n_atoms - 1
    handedness, backwards = _handedness(geometry), range(last, -1, -1)
    bent = {four[0] for four in handedness if handedness.get(operator.itemgetter(*four)(backwards)) != handedness[four]}
    for i in range(system.n_atoms):
        j = last - i
        same_bonds = {last - other for other in neighbors[i]} == neighbors[j].keys()
        what = "mass" if masses[i] != masses[j] else "bonds" if not same_bonds else "handedness" if i in bent else None
        if what:
            raise ValueError(
                "augment 'reversal' needs a chain that reads the same from both ends: "
                f"{system.topology.atom(i)} and {system.topology.atom(j)} differ in their {what}; leave it out"
            )
