"""What a model is, as plain frozen data: it builds the model, heads its file, and rebuilds it at load."""

import dataclasses
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any

from mdvae.feature_words import atoms_of, check_features, parse

ALIGNMENTS = ("superposition", "principal", "none")
REPRESENTATIONS = ("cartesian", "internal", "distances", "chosen")
# Those that have no way back to positions.
ENCODE_ONLY = ("distances", "chosen")
LIKELIHOODS = ("gaussian", "isotropic_gaussian", "low_rank_gaussian", "fixed_gaussian", "squared_error")
POSTERIORS = ("diagonal", "full")
PRIORS = ("standard_normal", "mixture", "vamp", "flow")
# Smooth ones only: a coordinate that biases a simulation needs a continuous gradient.
ACTIVATIONS = ("silu", "tanh", "softplus", "gelu")
# Shared displacements of a low-rank Gaussian, where none are asked for; CONTRIBUTING has the comparison.
_RANK = 16
# Priors of several components, and how many these are where no number is given.
MIXTURES = ("mixture", "vamp")
COMPONENTS = 32
# Where two heavy atoms are taken to touch, nm.
_CONTACT_RADIUS = 0.45


@dataclasses.dataclass(frozen=True)
class Spec:
    """Everything that fixes the shape and meaning of a model, but not its numbers.

    Parameters
    ----------
    n_atoms, dim : int
        Of one frame; ``dim`` is 2 or 3.
    alignment : {"superposition", "principal", "none"}
    representation : {"cartesian", "internal", "distances", "chosen"}
        ``"internal"`` (distances, angles, dihedral angles) needs two atoms, an alignment to put frames back into, and
        ``likelihood="gaussian"``. ``"distances"`` (of all pairs of atoms; mirror images have the same) and ``"chosen"``
        (those in ``features``) make a model that only encodes: a coordinate, which cannot generate. They need
        ``likelihood="gaussian"``, too.
    latent_dim : int
        From 1 to the number of features.
    hidden : tuple of int
        Widths of the encoder's hidden layers; the decoder has them in reverse.
    activation : {"silu", "tanh", "softplus", "gelu"}
    residual : bool
        Whether hidden layers add to the one before, where it has the same width.
    likelihood : optional, {"isotropic_gaussian", "gaussian", "low_rank_gaussian", "fixed_gaussian", "squared_error"}
        ``"gaussian"`` learns one width a feature (of an angle that goes round, the concentration of a von Mises
        density), and is what internal coordinates get if left out; ``"isotropic_gaussian"`` learns one for all, and is
        what Cartesian ones get; ``"fixed_gaussian"`` has the given ``width``.
    width : float, optional
        In nm (or reduced units); of the fixed Gaussian only.
    rank : int, optional
        How many shared displacements the noise of the low-rank Gaussian has, of that only: from 1 to the number of
        features; 16, or all of them where there are fewer, if left out.
    posterior : {"diagonal", "full"}
        Whether the posterior's components are independent.
    prior : {"standard_normal", "mixture", "vamp", "flow"}
        All but the first are learned together with the rest: a mixture of normal distributions, a mixture of the
        posteriors of learned pseudo-inputs, a normalizing flow; see `mdvae.vae`.
    n_components : int, optional
        Of the mixture and of the VampPrior only; 32 if left out.
    features : sequence of str, optional
        Of ``representation="chosen"`` only: ``"distance 0 9"``, ``"contact 3 12"`` and ``"torsion 4 6 8 14"`` name
        atoms, counted from 0 among the selected ones, as for `mdvae.observables.distance`. ``"phi"``, ``"psi"``,
        ``"omega"`` and ``"chi1"`` to ``"chi5"`` mean all such torsions of the topology, ``"phi ALA2"`` that of one
        residue; once a model is built they are replaced by their atoms.
    contact_radius : float, optional
        Of contacts among the features only, in nm (or reduced units): where one counts one half; 0.45 if left out.

    Raises
    ------
    ValueError, TypeError
        For a value outside of these, saying what was expected.
    """

    n_atoms: int
    dim: int
    alignment: str = "superposition"
    representation: str = "cartesian"
    latent_dim: int = 2
    hidden: tuple[int, ...] = (256,) * 6
    activation: str = "silu"
    residual: bool = True
    likelihood: str | None = None
    width: float | None = None
    rank: int | None = None
    posterior: str = "diagonal"
    prior: str = "standard_normal"
    n_components: int | None = None
    features: Sequence[str] | None = None
    contact_radius: float | None = None

    def __post_init__(self) -> None:
        for name in ("n_atoms", "dim", "latent_dim"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        if isinstance(self.hidden, str) or not isinstance(self.hidden, Iterable):
            raise TypeError(f"hidden must be the widths of the layers, such as (256, 256), got {self.hidden!r}")
        object.__setattr__(self, "hidden", tuple(_whole("hidden layer size", size) for size in self.hidden))
        if self.likelihood is None:
            # Filled in, so that a file says what it holds also where a later version chooses another default.
            usual = "isotropic_gaussian" if self.representation == "cartesian" else "gaussian"
            object.__setattr__(self, "likelihood", usual)
        if not isinstance(self.residual, bool):
            raise TypeError(f"residual must be True or False, got {self.residual!r}")
        _check_choice("alignment", self.alignment, ALIGNMENTS)
        _check_choice("representation", self.representation, REPRESENTATIONS)
        _check_choice("activation", self.activation, ACTIVATIONS)
        _check_choice("likelihood", self.likelihood, LIKELIHOODS)
        _check_choice("posterior", self.posterior, POSTERIORS)
        _check_choice("prior", self.prior, PRIORS)
        _check_choice("dim", self.dim, (2, 3))
        _check_count("n_atoms", self.n_atoms)
        _check_count("latent_dim", self.latent_dim)
        for size in self.hidden:
            _check_count("hidden layer size", size)
        self._check_representation()
        self._check_features()
        self._check_latent_dim()
        self._check_width()
        self._check_rank()
        self._check_components()

    @property
    def n_features(self) -> int:
        """Length of the vector that the networks see.

        Raises
        ------
        ValueError
            While features are torsions by name, which only a topology can count.
        """
        if self.representation == "cartesian":
            return self.n_atoms * self.dim
        if self.representation == "distances":
            return self.n_atoms * (self.n_atoms - 1) // 2
        if self.representation == "chosen":
            if not self.explicit:
                raise ValueError(
                    f"how many features {', '.join(self.features or ())} are is known once a model is built"
                )
            return sum(2 if parse(text).kind == "torsion" else 1 for text in self.features or ())
        # Distances, and in space angles; then cosines and sines of what goes round.
        n_linear = self.n_atoms - 1 if self.dim == 2 else 2 * self.n_atoms - 3
        return n_linear + 2 * max(0, self.n_atoms - self.dim)

    @property
    def explicit(self) -> bool:
        """Whether all features name their atoms."""
        return all(parse(text).explicit for text in self.features or ())

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        features = None if self.features is None else list(self.features)
        return dataclasses.asdict(self) | {"hidden": list(self.hidden), "features": features}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Spec":
        """Spec from plain data.

        Raises
        ------
        ValueError
            For names that this version does not know.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(data) - known):
            raise ValueError(f"the model's description has unknown entries {unknown}; a newer mdvae may read it")
        # Files of the first version do not say it: there were no residual layers.
        options: dict[str, Any] = {"residual": False} | data | {"hidden": tuple(data["hidden"])}
        return cls(**options)

    def _check_representation(self) -> None:
        name = self.representation
        if name == "cartesian":
            return
        if name != "chosen" and self.n_atoms < 2:
            raise ValueError(f"representation={name!r} needs at least 2 atoms, got {self.n_atoms}; use 'cartesian'")
        if self.likelihood != "gaussian":
            mixed = "has features of many sizes" if name == "distances" else "mixes lengths and angles"
            raise ValueError(
                f"representation={name!r} {mixed} and needs likelihood='gaussian', which learns a width for each of "
                f"them; got {self.likelihood!r}"
            )
        if name == "internal" and self.alignment == "none":
            raise ValueError(
                "representation='internal' forgets how a frame is turned, and alignment='none' cannot turn it back; "
                "use 'superposition' or 'principal'"
            )

    def _check_features(self) -> None:
        if self.representation != "chosen":
            if self.features is not None:
                raise ValueError(
                    f"features are for representation='chosen', got {self.representation!r} with {self.features!r}"
                )
        elif self.features is None:
            raise ValueError("representation='chosen' needs features, such as 'phi' or 'distance 0 9'")
        else:
            object.__setattr__(self, "features", check_features(self.features, self.n_atoms, self.dim))
        if not atoms_of(self.features or (), "contact"):
            if self.contact_radius is not None:
                raise ValueError(f"contact_radius={self.contact_radius} is of contacts, and none is among the features")
            return
        # Filled in, so that a file says what it holds also where a later version chooses another default.
        radius = _CONTACT_RADIUS if self.contact_radius is None else float(self.contact_radius)
        object.__setattr__(self, "contact_radius", radius)
        if not (math.isfinite(radius) and radius > 0):
            raise ValueError(f"contact_radius must be above 0 (in the unit of the lengths), got {radius}")

    def _check_latent_dim(self) -> None:
        if not self.explicit:
            return
        if self.latent_dim > self.n_features:
            cartesian = self.representation == "cartesian"
            counted = f"{self.n_atoms} atoms x {self.dim} =" if cartesian else f"{self.n_atoms} atoms have"
            if self.representation == "chosen":
                counted = "those chosen (cosine and sine of each torsion) are"
            raise ValueError(
                f"latent_dim={self.latent_dim} is larger than the number of features: {counted} {self.n_features}"
            )

    def _check_width(self) -> None:
        if self.likelihood != "fixed_gaussian":
            if self.width is not None:
                raise ValueError(f"width={self.width} belongs to likelihood='fixed_gaussian', got {self.likelihood!r}")
        elif self.width is None or not (math.isfinite(self.width) and self.width > 0):
            raise ValueError(
                f"likelihood='fixed_gaussian' needs width > 0 (in the unit of the lengths), got {self.width}"
            )

    def _check_rank(self) -> None:
        if self.likelihood != "low_rank_gaussian":
            if self.rank is not None:
                raise ValueError(f"rank={self.rank} belongs to likelihood='low_rank_gaussian', got {self.likelihood!r}")
            return
        # Filled in, so that a file says what it holds also where a later version chooses another default.
        rank = min(_RANK, self.n_features) if self.rank is None else _whole("rank", self.rank)
        object.__setattr__(self, "rank", rank)
        _check_count("rank", rank)
        if rank > self.n_features:
            raise ValueError(f"rank={rank} is larger than the number of features, {self.n_features}")

    def _check_components(self) -> None:
        if self.prior not in MIXTURES:
            if self.n_components is not None:
                raise ValueError(
                    f"n_components={self.n_components} belongs to prior='mixture' or 'vamp', got {self.prior!r}"
                )
            return
        count = COMPONENTS if self.n_components is None else _whole("n_components", self.n_components)
        object.__setattr__(self, "n_components", count)
        _check_count("n_components", count)


def _check_choice(name: str, value: Any, choices: tuple) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not known; expected one of {', '.join(map(repr, choices))}")


def _whole(name: str, value: Any) -> int:
    """A whole number, NumPy's included, as a plain one."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    return operator.index(value)


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
