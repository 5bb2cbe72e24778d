"""What is measured of every structure: distances, sizes, bonds, angles and torsions."""

import dataclasses
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdvae._chunks import map_rows
from mdvae._types import Frame, Weights
from mdvae.geometry.internal import angles, dihedrals, distances
from mdvae.local_geometry import LocalGeometry
from mdvae.observables import radius_of_gyration
from mdvae.trajectory import Backbone, System, alpha_carbons, atom_names, find_backbone

Coordinates = Float[np.ndarray, "n_frames n_atoms dim"]
Indices = Int[np.ndarray, "_ _"]

# Members of one family: more of them say the same again.
_MOST = 100
# Torsions about bonds, on a circle.
CIRCULAR = "torsion"


@dataclasses.dataclass(frozen=True)
class Quantity:
    """One number of a structure.

    Parameters
    ----------
    family : str
        "distance", "radius of gyration", "end to end", "bond", "angle" or "torsion".
    name : str
        Of the atoms; empty where there is one of its family.
    unit : str
        "nm", "reduced" or "degrees".
    """

    family: str
    name: str
    unit: str


class _Measure(eqx.Module):
    """All quantities of one frame, family by family."""

    pairs: Int[Array, "n_pairs 2"]
    triples: Int[Array, "n_triples 3"]
    quadruples: Int[Array, "n_quadruples 4"]
    masses: Weights

    def __call__(self, frame: Frame) -> Float[Array, " n_quantities"]:
        parts = [radius_of_gyration(frame, masses=self.masses)[None], distances(frame, self.pairs)]
        parts.append(jnp.degrees(angles(frame, self.triples)))
        if frame.shape[1] == 3:
            parts.append(jnp.degrees(dihedrals(frame, self.quadruples)))
        return jnp.concatenate(parts)


@dataclasses.dataclass(frozen=True, eq=False)
class Quantities:
    """What can be measured of a system, at most 100 of each family, and a compiled way to do it.

    Parameters
    ----------
    names : tuple of Quantity
    backbone : Backbone
    """

    names: tuple[Quantity, ...]
    backbone: Backbone
    _measure: _Measure

    @classmethod
    def of(cls, system: System, geometry: LocalGeometry) -> "Quantities":
        """Those of a system whose bonds are known.

        Parameters
        ----------
        system : System
        geometry : LocalGeometry
        """
        bonds = geometry.pairs[geometry.separation == 1]
        ends, apart = _ends(system), _apart(geometry, system.n_atoms)
        apart = apart[~(apart == ends).all(axis=1)] if len(ends) else apart
        triples, quadruples = _triples(bonds), _quadruples(bonds) if system.dim == 3 else np.zeros((0, 4), np.int64)
        of_atoms = {"end to end": ends, "distance": _few(apart), "bond": _few(bonds)}
        of_atoms |= {"angle": _few(triples), "torsion": _few(quadruples)}
        labels, names = atom_names(system.topology), [Quantity("radius of gyration", "", system.unit)]
        for family, rows in of_atoms.items():
            unit = "degrees" if family in ("angle", "torsion") else system.unit
            names += [Quantity(family, "–".join(labels[i] for i in row), unit) for row in rows.tolist()]
        pairs = np.concatenate([of_atoms[family] for family in ("end to end", "distance", "bond")])
        measure = _Measure(
            jnp.asarray(pairs, jnp.int32),
            jnp.asarray(of_atoms["angle"], jnp.int32),
            jnp.asarray(of_atoms["torsion"], jnp.int32),
            jnp.asarray(system.masses, jnp.float32),
        )
        return cls(tuple(names), find_backbone(system.topology), measure)

    @property
    def families(self) -> dict[str, slice]:
        """Columns of each family, in order."""
        found: dict[str, slice] = {}
        for i, one in enumerate(self.names):
            found[one.family] = slice(found[one.family].start if one.family in found else i, i + 1)
        return found

    def measured(self, coordinates: Coordinates) -> Float[np.ndarray, "n_frames n_quantities"]:
        """Every quantity of every frame, in its unit.

        Parameters
        ----------
        coordinates : (n_frames, n_atoms, dim), nm or reduced units
        """
        return map_rows(self._measure, coordinates)


class _Torsions(eqx.Module):
    """Some torsions of one frame, degrees."""

    quadruples: Int[Array, "n_quadruples 4"]

    def __call__(self, frame: Frame) -> Float[Array, " n_quadruples"]:
        return jnp.degrees(dihedrals(frame, self.quadruples))


def torsions(coordinates: Coordinates, quadruples: Indices) -> Float[np.ndarray, "n_frames n_quadruples"]:
    """Torsions of every frame, degrees.

    Parameters
    ----------
    coordinates : (n_frames, n_atoms, 3)
    quadruples : (n_quadruples, 4)
    """
    if not len(quadruples):
        return np.zeros((len(coordinates), 0), np.float32)
    return map_rows(_Torsions(jnp.asarray(quadruples, jnp.int32)), coordinates)


def _few(rows: Indices) -> Indices:
    """Evenly chosen ones of many."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST)).astype(int))] if len(rows) else rows


def _ends(system: System) -> Indices:
    """First and last Cα where there are several, else first and last atom."""
    carbons = alpha_carbons(system.topology)
    ends = carbons[[0, -1]] if len(carbons) > 1 else np.array([0, system.n_atoms - 1])
    return ends[None] if ends[0] != ends[1] else np.zeros((0, 2), np.int64)


def _apart(geometry: LocalGeometry, n_atoms: int) -> Indices:
    """Pairs more than three bonds apart, some of them where there are very many."""
    # Every second, third, ... atom: a table of all pairs of a protein would be large.
    atoms = np.arange(0, n_atoms, max(1, n_atoms // 200))
    pairs = np.stack(np.triu_indices(len(atoms), 1), axis=1)
    pairs = atoms[pairs]
    near = np.isin(pairs @ [n_atoms, 1], geometry.codes)
    return pairs[~near]


def _neighbors(bonds: Indices) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for i, j in bonds.tolist():
        found.setdefault(i, []).append(j)
        found.setdefault(j, []).append(i)
    return found


def _triples(bonds: Indices) -> Indices:
    """All pairs of neighbors of each atom, with it between them."""
    found = [
        (first, vertex, last)
        for vertex, around in sorted(_neighbors(bonds).items())
        for k, first in enumerate(around)
        for last in around[k + 1 :]
    ]
    return np.array(found, np.int64).reshape(-1, 3)


def _quadruples(bonds: Indices) -> Indices:
    """One torsion about each bond that has neighbors at both ends."""
    around = _neighbors(bonds)
    found = []
    for i, j in bonds.tolist():
        before, after = _others(around[i], j), _others(around[j], i)
        if before and after and before[0] != after[0]:
            found.append((before[0], i, j, after[0]))
    return np.array(found, np.int64).reshape(-1, 4)


def _others(atoms: Sequence[int], left_out: int) -> list[int]:
    return [atom for atom in atoms if atom != left_out]
