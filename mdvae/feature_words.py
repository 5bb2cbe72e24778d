"""Chosen features in words, one spelling for Python, the command line and the model file.

``"distance 0 9"``, ``"contact 3 12"`` and ``"torsion 4 6 8 14"`` name atoms; ``"phi"`` means every φ that the topology
has, ``"phi ALA2"`` that of one residue.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

# How many atoms each has; and torsions that only a topology can find.
KINDS = {"distance": 2, "contact": 2, "torsion": 4}
TORSIONS = ("phi", "psi", "omega", "chi1", "chi2", "chi3", "chi4", "chi5")
_EXAMPLES = "'distance 0 9', 'contact 3 12', 'torsion 4 6 8 14', 'phi' or 'phi ALA2'"


@dataclasses.dataclass(frozen=True)
class Feature:
    """What a feature's words say.

    Parameters
    ----------
    kind : str
        One of `KINDS`, or of `TORSIONS`.
    atoms : tuple of int
        None of those that a topology has yet to find.
    residue : str, optional
        To which such a torsion is confined.
    """

    kind: str
    atoms: tuple[int, ...] = ()
    residue: str | None = None

    @property
    def explicit(self) -> bool:
        """Whether it names its atoms."""
        return self.kind in KINDS

    def __str__(self) -> str:
        return " ".join(map(str, [self.kind, *self.atoms, *([] if self.residue is None else [self.residue])]))


def check_features(features: Any, n_atoms: int, dim: int) -> tuple[str, ...]:
    """Features in their plain spelling.

    Parameters
    ----------
    features : iterable of str
    n_atoms, dim : int
        Of a frame.

    Returns
    -------
    tuple of str
        In the given order; negative numbers of atoms, which count from the end, replaced.

    Raises
    ------
    TypeError, ValueError
        For what cannot be read, atoms that are not there, an atom twice in one feature, a feature twice, none at all,
        and torsions in the plane.
    """
    if isinstance(features, str) or not isinstance(features, Iterable):
        raise TypeError(f"features must be a list of words, such as ['phi', 'distance 0 9'], got {features!r}")
    found: dict[Any, str] = {}
    for text in features:
        feature = _checked(text, n_atoms, dim)
        # Either way round a distance or a torsion is the same.
        same = feature.kind, min(feature.atoms, feature.atoms[::-1]), feature.residue
        if same in found:
            raise ValueError(f"the feature {found[same]!r} is named twice; leave one of them out")
        found[same] = str(feature)
    if not found:
        raise ValueError(f"no features were chosen; expected some like {_EXAMPLES}")
    return tuple(found.values())


def parse(text: str) -> Feature:
    """A feature from its words.

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(text, str):
        raise TypeError(f"a feature is given in words, such as 'distance 0 9', got {text!r}")
    kind, *rest = text.split() or [""]
    if kind in TORSIONS and len(rest) <= 1:
        return Feature(kind, residue=rest[0] if rest else None)
    if kind not in KINDS:
        raise ValueError(f"{text!r} is no feature; expected one like {_EXAMPLES} (psi, omega, chi1 to chi5 likewise)")
    try:
        atoms = tuple(int(atom) for atom in rest)
    except ValueError:
        atoms = ()
    if len(atoms) != KINDS[kind]:
        example = f"{kind} " + " ".join(str(4 + 2 * i) for i in range(KINDS[kind]))
        raise ValueError(f"{text!r} is no feature: a {kind} is of {KINDS[kind]} atoms by number, such as {example!r}")
    return Feature(kind, atoms)


def atoms_of(features: Iterable[str], kind: str) -> list[tuple[int, ...]]:
    """Atoms of all features of one kind."""
    parsed = map(parse, features)
    return [feature.atoms for feature in parsed if feature.kind == kind]


def _checked(text: str, n_atoms: int, dim: int) -> Feature:
    feature = parse(text)
    if dim == 2 and (feature.kind == "torsion" or not feature.explicit):
        raise ValueError(f"the feature {text!r} needs three dimensions, and the frames are in the plane")
    if outside := [atom for atom in feature.atoms if not -n_atoms <= atom < n_atoms]:
        raise ValueError(
            f"the feature {text!r} names atom {outside[0]}, expected 0 to {n_atoms - 1}: count from 0 among the "
            "selected atoms, not in the whole file"
        )
    atoms = tuple(atom % n_atoms for atom in feature.atoms)
    if len(set(atoms)) < len(atoms):
        raise ValueError(f"the feature {text!r} names an atom twice; expected {len(atoms)} different ones")
    return dataclasses.replace(feature, atoms=atoms)
