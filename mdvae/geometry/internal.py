"""Internal coordinates: distances, angles and dihedral angles of a frame, and its atoms back from them.

A row of indices names the atom that is measured first, then those that it is measured against. Where a dihedral angle
is not defined, because three of its atoms lie on one line, it is zero, and so are its derivatives.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdvae._types import Frame
from mdvae.geometry.safe import safe_angle, safe_arctan2, safe_norm

Vector = Float[Array, " dim"]

# Shares of a length below this many roundings are rounding.
_ROUNDINGS = 16


def distances(frame: Frame, pairs: Int[Array, "n_pairs 2"]) -> Float[Array, " n_pairs"]:
    """Distances of pairs of atoms.

    Parameters
    ----------
    frame : (n_atoms, dim), nm
    pairs : (n_pairs, 2)

    Returns
    -------
    (n_pairs,), nm
    """
    first, second = frame[pairs.T]
    return safe_norm(first - second)


def angles(frame: Frame, triples: Int[Array, "n_triples 3"]) -> Float[Array, " n_triples"]:
    """Angles at the middle atoms of triples.

    Parameters
    ----------
    frame : (n_atoms, dim), nm
    triples : (n_triples, 3)

    Returns
    -------
    (n_triples,), radians, from 0 to pi
    """
    first, vertex, last = frame[triples.T]
    return safe_angle(first - vertex, last - vertex)


def dihedrals(frame: Float[Array, "n_atoms 3"], quadruples: Int[Array, "n_quads 4"]) -> Float[Array, " n_quads"]:
    """Dihedral angles about the line through the two middle atoms of quadruples, with the sign of IUPAC.

    Parameters
    ----------
    frame : (n_atoms, 3), nm
    quadruples : (n_quads, 4)

    Returns
    -------
    (n_quads,), radians, from -pi to pi
        A mirror image has the opposite signs.
    """
    a, b, c, d = frame[quadruples.T]
    first, axis, last = b - a, c - b, d - c
    normal = jnp.cross(axis, last)
    sine = safe_norm(axis) * jnp.sum(first * normal, axis=-1)
    return safe_arctan2(sine, jnp.sum(jnp.cross(first, axis) * normal, axis=-1))


def turns(frame: Float[Array, "n_atoms 2"], triples: Int[Array, "n_triples 3"]) -> Float[Array, " n_triples"]:
    """Signed angles by which the way from the last to the first atom of triples turns at the middle one.

    Parameters
    ----------
    frame : (n_atoms, 2), nm
    triples : (n_triples, 3)

    Returns
    -------
    (n_triples,), radians, from -pi to pi
        0 is straight on, positive is to the left.
    """
    first, vertex, last = frame[triples.T]
    before, after = vertex - last, first - vertex
    sine = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return safe_arctan2(sine, jnp.sum(before * after, axis=-1))


def atoms_from_dihedrals(
    distances: Float[Array, " n_distances"],
    angles: Float[Array, " n_angles"],
    dihedrals: Float[Array, " n_dihedrals"],
    references: Int[Array, "n_atoms 4"],
) -> Float[Array, "n_atoms 3"]:
    """Atoms in space, placed one after another (doi:10.1002/jcc.20237).

    Parameters
    ----------
    distances : (n_atoms - 1,), nm
        Of the first two atoms in every row of `references` but the first.
    angles : (n_atoms - 2,), radians
        Of the first three atoms in every row but two.
    dihedrals : (n_atoms - 3,), radians
        Of the rows but three; none for two atoms.
    references : (n_atoms, 4), at least two atoms
        In each row an atom, then three that stand first in rows before it. The first three rows have no, one and two
        such atoms; what else is in them does not matter.

    Returns
    -------
    (n_atoms, 3), nm
        The first atom at the origin, the second on the x-axis, the third in the xy-plane.
    """
    frame = jnp.zeros((len(references), 3), distances.dtype).at[references[1, 0], 0].set(distances[0])
    if len(references) == 2:
        return frame
    atom, parent, grandparent, _ = references[2]
    along = _unit(frame[parent] - frame[grandparent])
    bend = jnp.stack([-jnp.cos(angles[0]) * along[0], jnp.sin(angles[0]), jnp.zeros_like(angles[0])])
    frame = frame.at[atom].set(frame[parent] + distances[1] * bend)

    def place(frame, row):
        (atom, parent, grandparent, reference), distance, angle, dihedral = row
        x, y, z = _axes(frame[parent], frame[grandparent], frame[reference])
        side = jnp.cos(dihedral) * y + jnp.sin(dihedral) * z
        position = frame[parent] + distance * (jnp.sin(angle) * side - jnp.cos(angle) * x)
        return frame.at[atom].set(position), None

    return jax.lax.scan(place, frame, (references[3:], distances[2:], angles[1:], dihedrals))[0]


def atoms_from_turns(
    distances: Float[Array, " n_distances"], turns: Float[Array, " n_turns"], references: Int[Array, "n_atoms 3"]
) -> Float[Array, "n_atoms 2"]:
    """Atoms in the plane, placed one after another.

    Parameters
    ----------
    distances : (n_atoms - 1,), nm
        Of the first two atoms in every row of `references` but the first.
    turns : (n_atoms - 2,), radians
        Of every row but two.
    references : (n_atoms, 3), at least two atoms
        In each row an atom, then two that stand first in rows before it. The first two rows have no and one such
        atom; what else is in them does not matter.

    Returns
    -------
    (n_atoms, 2), nm
        The first atom at the origin, the second on the x-axis.
    """

    def place(frame, row):
        (atom, parent, grandparent), distance, turn = row
        x = _unit(frame[parent] - frame[grandparent])
        y = jnp.stack([-x[1], x[0]])
        return frame.at[atom].set(frame[parent] + distance * (jnp.cos(turn) * x + jnp.sin(turn) * y)), None

    frame = jnp.zeros((len(references), 2), distances.dtype).at[references[1, 0], 0].set(distances[0])
    return jax.lax.scan(place, frame, (references[2:], distances[1:], turns))[0]


def _axes(parent: Vector, grandparent: Vector, reference: Vector) -> tuple[Vector, Vector, Vector]:
    """Unit vectors: from grandparent to parent, across to the side of the reference, and their cross product."""
    x, offset = _unit(parent - grandparent), reference - grandparent
    across = offset - jnp.dot(offset, x) * x
    # Three atoms on a line have no side: any will do, as long as lengths and angles come out right.
    other = jnp.eye(3, dtype=x.dtype)[jnp.argmin(jnp.abs(x))]
    y = _unit(jnp.where(_is_rounding(across, offset), other - jnp.dot(other, x) * x, across))
    return x, y, jnp.cross(x, y)


def _unit(vector: Vector) -> Vector:
    """Vector of length one; that of the x-axis for zero."""
    zero = jnp.all(vector == 0)
    vector = jnp.where(zero, jnp.eye(len(vector), dtype=vector.dtype)[0], vector)
    return vector / safe_norm(vector)


def _is_rounding(part: Vector, whole: Vector) -> Bool[Array, ""]:
    return jnp.sum(part**2) <= (_ROUNDINGS * jnp.finfo(whole.dtype).eps) ** 2 * jnp.sum(whole**2)
