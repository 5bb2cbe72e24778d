"""One frame to one number: differentiable functions that the latent space can be searched for.

The first argument is the frame ``(n_atoms, dim)``, in 2-D or 3-D; what else an observable needs is a
keyword, bound with `functools.partial`::

    partial(distance, i=0, j=5)          # a function of one frame again
    jax.vmap(partial(contacts, cutoff=0.6))(frames)

Lengths are in nm, or in whatever unit the frames are in. Gradients are finite everywhere, also where all
atoms lie at one point or the frame equals its reference.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdvae._types import Frame, Scalar
from mdvae.geometry.safe import safe_norm, safe_sqrt
from mdvae.geometry.superposition import superposition_rotation

__all__ = [
    "Observable",
    "by_name",
    "contacts",
    "distance",
    "end_to_end_distance",
    "radius_of_gyration",
    "rmsd",
]

Observable = Callable[[Frame], Scalar]

_Number = TypeVar("_Number", int, float)

# Names of those whose value is a length.
LENGTHS = ("radius_of_gyration", "distance", "end_to_end_distance", "rmsd")

# Nearer pairs are always in contact along a chain and would only add a constant.
_SEQUENCE_SEPARATION = 3


def radius_of_gyration(frame: Frame, *, masses: Float[Array | np.ndarray, " n_masses"] | None = None) -> Scalar:
    """Root mean square distance of the atoms from their center of mass.

    ``Rg = sqrt(sum_i m_i |r_i - r_com|^2 / sum_i m_i)``, so that masses 1 and 9 one apart give 0.3. (mdtraj's
    ``compute_rg`` with masses measures from the geometric center instead, and gives 0.5.)

    Parameters
    ----------
    frame
        Positions ``(n_atoms, dim)``, nm.
    masses
        ``(n_atoms,)``, in any unit; equal masses by default.

    Returns
    -------
    Scalar
        In the unit of `frame`.

    Raises
    ------
    ValueError
        If there is not one mass an atom.
    """
    weights = jnp.ones(frame.shape[0], frame.dtype) if masses is None else jnp.asarray(masses, frame.dtype)
    if weights.shape != frame.shape[:1]:
        raise ValueError(
            f"Expected one mass for each of {frame.shape[0]} atoms, got {weights.shape[0]}; "
            "give the masses of the selected atoms only."
        )
    weights = weights / weights.sum()
    from_center = frame - (weights @ frame)[None, :]
    return safe_sqrt(weights @ jnp.sum(from_center**2, axis=1))


def distance(frame: Frame, *, i: int, j: int) -> Scalar:
    """Distance between two atoms.

    Parameters
    ----------
    frame
        Positions ``(n_atoms, dim)``, nm.
    i, j
        Two different atoms, counted from 0 among the atoms of the frame; negative ones count from the end.

    Returns
    -------
    Scalar
        In the unit of `frame`.

    Raises
    ------
    ValueError
        If the frame has no such atoms, or they are one and the same.
    """
    ((i, j),) = _checked_pairs(np.array([[i, j]]), frame.shape[0])
    return safe_norm(frame[j] - frame[i])


def end_to_end_distance(frame: Frame) -> Scalar:
    """Distance between the first and the last atom.

    Parameters
    ----------
    frame
        Positions ``(n_atoms, dim)``, nm, of at least two atoms.

    Returns
    -------
    Scalar
        In the unit of `frame`.

    Raises
    ------
    ValueError
        If the frame has fewer than two atoms.
    """
    return distance(frame, i=0, j=frame.shape[0] - 1)


def rmsd(frame: Frame, *, reference: Float[Array | np.ndarray, "n_reference dim_reference"]) -> Scalar:
    """Root mean square deviation from a reference, after centering and the best proper rotation.

    All atoms count equally. Mirror images differ: reflections are not allowed.

    Parameters
    ----------
    frame
        Positions ``(n_atoms, dim)``, nm.
    reference
        The frame to compare with, equal in shape.

    Returns
    -------
    Scalar
        In the unit of `frame`.

    Raises
    ------
    ValueError
        If the two frames differ in shape.
    """
    if reference.shape != frame.shape:
        raise ValueError(
            f"Expected a reference of shape {frame.shape} (n_atoms, dim), got {reference.shape}; "
            "select the same atoms in both."
        )
    target = jnp.asarray(reference, frame.dtype)
    return safe_sqrt(_superposed_square_deviation(frame - frame.mean(0)[None, :], target - target.mean(0)[None, :]))


@jax.custom_jvp
def _superposed_square_deviation(frame: Frame, reference: Frame) -> Scalar:
    """Mean square deviation of centered frames after the best proper rotation."""
    return jnp.mean(jnp.sum(_superposed_difference(frame, reference)[0] ** 2, axis=1))


@_superposed_square_deviation.defjvp
def _superposed_square_deviation_jvp(primals: tuple, tangents: tuple) -> tuple[Scalar, Scalar]:
    # The rotation minimizes the deviation, so to first order the deviation does not change with it (the
    # envelope theorem). The rotation itself has no derivative where two rotations are equally good; its
    # derivative is therefore left out of the first derivative, exactly, and enters from the second one on.
    difference, rotation = _superposed_difference(*primals)
    difference_dot = tangents[0] @ rotation.T - tangents[1]
    return jnp.mean(jnp.sum(difference**2, axis=1)), 2 * jnp.mean(jnp.sum(difference * difference_dot, axis=1))


def _superposed_difference(frame: Frame, reference: Frame) -> tuple[Frame, Float[Array, "dim dim"]]:
    rotation = superposition_rotation(frame, reference, jnp.ones(frame.shape[0], frame.dtype))
    return frame @ rotation.T - reference, rotation


def contacts(
    frame: Frame, *, pairs: Int[Array | np.ndarray, "n_pairs two"] | None = None, cutoff: float = 0.45
) -> Scalar:
    """Smooth number of pairs of atoms within a cutoff.

    Each pair counts ``(1 - x^6) / (1 - x^12) = 1 / (1 + x^6)`` with ``x = r / cutoff``: 1 at contact, one
    half at the cutoff, 0.015 at twice the cutoff (DOI 10.1103/PhysRevLett.90.238302).

    Parameters
    ----------
    frame
        Positions ``(n_atoms, dim)``, nm.
    pairs
        Atom indices ``(n_pairs, 2)``; by default all pairs three or more apart in sequence.
    cutoff
        The distance at which a pair counts one half, in the unit of `frame`: 0.45 suits heavy atoms in nm.

    Returns
    -------
    Scalar
        From 0 to the number of pairs.

    Raises
    ------
    ValueError
        If the cutoff is not positive, there is no pair, or a pair is not two different atoms of the frame.
    """
    if not 0 < cutoff < np.inf:
        raise ValueError(f"Expected a positive cutoff, got {cutoff}; give it in the length unit of the frames.")
    n_atoms = frame.shape[0]
    pairs = _pairs_apart_in_sequence(n_atoms) if pairs is None else _checked_pairs(np.asarray(pairs), n_atoms)
    squares = jnp.sum((frame[pairs[:, 0]] - frame[pairs[:, 1]]) ** 2, axis=1) / cutoff**2
    # In r^2 no root needs care at r = 0. Beyond a hundred cutoffs a pair counts 1e-12; clipped there, its
    # derivative does not overflow in 32 bits.
    return jnp.sum(1 / (1 + jnp.minimum(squares, 1e4) ** 3))


def _pairs_apart_in_sequence(n_atoms: int) -> np.ndarray:
    pairs = np.stack(np.triu_indices(n_atoms, _SEQUENCE_SEPARATION), axis=1)
    if not len(pairs):
        raise ValueError(
            f"Expected at least {_SEQUENCE_SEPARATION + 1} atoms, got {n_atoms}: "
            f"no pair is {_SEQUENCE_SEPARATION} or more apart in sequence; name the pairs with pairs=."
        )
    return pairs


def _checked_pairs(pairs: np.ndarray, n_atoms: int) -> np.ndarray:
    """Refuse, at trace time, what JAX would silently clamp into range."""
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs) or not np.issubdtype(pairs.dtype, np.integer):
        raise ValueError(f"Expected integer pairs of shape (n_pairs, 2), got {pairs.dtype} of shape {pairs.shape}.")
    outside = pairs[(pairs < -n_atoms) | (pairs >= n_atoms)]
    if len(outside):
        raise ValueError(
            f"Expected atoms from 0 to {n_atoms - 1}, got {outside[0]}; "
            "count from 0 among the selected atoms, not in the whole file."
        )
    pairs = pairs % n_atoms
    equal = pairs[pairs[:, 0] == pairs[:, 1]]
    if len(equal):
        raise ValueError(f"Expected two different atoms, got atom {equal[0, 0]} twice; the distance is always zero.")
    return pairs


def by_name(text: str, *, masses: Float[np.ndarray, " n_masses"] | None = None) -> Observable:
    """Observable from its name on the command line.

    Parameters
    ----------
    text
        ``"radius_of_gyration"`` (of equal masses), ``"radius_of_gyration:mass"``, ``"end_to_end_distance"``,
        ``"distance:0,5"`` (two atoms), ``"contacts"`` or ``"contacts:0.45"`` (the cutoff).
    masses
        ``(n_atoms,)``, for observables that are weighted by mass.

    Returns
    -------
    Observable
        A function of one frame.

    Raises
    ------
    ValueError
        If there is no such observable, or its argument cannot be read. Observables that need more than
        numbers, such as `rmsd`, have no name here.
    """
    name, colon, argument = (part.strip() for part in text.partition(":"))
    if name not in _PARSERS:
        raise ValueError(
            f"Expected one of the observables {_choices()} (radius_of_gyration:mass weighs by mass); got {text!r}. "
            "Others, such as rmsd with its reference, are given in Python as functions of one frame."
        )
    parse, example = _PARSERS[name]
    if name == "radius_of_gyration" and argument == "mass" and masses is not None:
        return partial(radius_of_gyration, masses=masses)
    try:
        return parse(argument if colon else None)
    except ValueError as error:
        raise ValueError(f"Expected an observable like {example!r}, got {text!r}: {error}.") from error


def _choices() -> str:
    return ", ".join(example for _, example in _PARSERS.values())


def _parse_plain(function: Observable, argument: str | None) -> Observable:
    if argument is not None:
        raise ValueError("it takes no argument")
    return function


def _parse_distance(argument: str | None) -> Observable:
    atoms = (argument or "").split(",")
    if len(atoms) != 2:
        raise ValueError("it needs two atoms, counted from 0")
    i, j = (_number(int, atom, "a whole number") for atom in atoms)
    if i == j:
        raise ValueError("it needs two different atoms")
    return partial(distance, i=i, j=j)


def _parse_contacts(argument: str | None) -> Observable:
    if argument is None:
        return contacts
    cutoff = _number(float, argument, "a number")
    if not 0 < cutoff < np.inf:
        raise ValueError("the cutoff must be positive")
    return partial(contacts, cutoff=cutoff)


def _number(kind: Callable[[str], _Number], text: str, what: str) -> _Number:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{text!r} is not {what}") from None


_PARSERS: dict[str, tuple[Callable[[str | None], Observable], str]] = {
    "radius_of_gyration": (partial(_parse_plain, radius_of_gyration), "radius_of_gyration"),
    "end_to_end_distance": (partial(_parse_plain, end_to_end_distance), "end_to_end_distance"),
    "distance": (_parse_distance, "distance:0,5"),
    "contacts": (_parse_contacts, "contacts:0.45"),
}
