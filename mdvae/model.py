"""A model: system, alignment, representation and VAE, which together are one map from positions to z and back."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdvae._keys import key_for
from mdvae._memory import blocks, picked
from mdvae._types import Features, Frame, Key, Latent, Whole
from mdvae.alignment import ALIGNMENTS, AbstractAlignment, Unaligned, alignment_name
from mdvae.feature_words import KINDS, atoms_of
from mdvae.history import History
from mdvae.local_geometry import LocalGeometry, find_links
from mdvae.representations import (
    AbstractRepresentation,
    Cartesian,
    Chosen,
    FeatureStatistics,
    Internal,
    feature_statistics,
    references,
)
from mdvae.spec import Spec
from mdvae.trajectory import Frames, System, explicit_features
from mdvae.vae import (
    VAE,
    AbstractLikelihood,
    Diagnostics,
    Gaussian,
    GaussianVonMises,
    LowRankGaussian,
    SquaredError,
    named_prior,
    perceptrons,
)

# Fewer frames than this have no statistics to speak of.
_FEWEST_FRAMES = 10
# Training frames that go into the model: all of them where they fit, else evenly spaced ones.
_KEPT_BYTES = 16 * 2**20
# Distances of more pairs, those of 100 atoms, make networks that learn slowly and say little more.
_MOST_PAIRS = 4950
# Features that are named where a model is described.
_NAMED = 6

PseudoInputs = Float[Array, "n_components n_features"]


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingData:
    """What a model remembers of the frames that it was trained on.

    Parameters
    ----------
    frames : (n_kept, n_atoms, dim), float32
        Posed training frames: all of them up to 16 MB, else evenly spaced ones.
    n_frames : int
        How many there were, the held-out ones included.
    geometry : LocalGeometry
        Statistics of bonds, angles, centers, torsions and contacts, from all of them: what decoded frames are restored
        to.
    """

    frames: Float[np.ndarray, "n_kept n_atoms dim"]
    n_frames: int
    geometry: LocalGeometry

    @property
    def rows(self) -> Int[np.ndarray, " n_kept"]:
        """Places of the kept frames among all of them."""
        return _evenly(self.n_frames, len(self.frames))


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """From positions to latent coordinates and back.

    A frozen record, not a module: jit its parts, so that a topology is never hashed.

    Parameters
    ----------
    system : System
        Which atoms, their masses and topology, the unit of length.
    alignment : AbstractAlignment
    representation : AbstractRepresentation
    vae : VAE
    spec : Spec, optional
        What built it; a model composed by hand has none.
    data : TrainingData, optional
        There once it is trained.
    history : History, optional
        There once it is trained.
    diagnostics : Diagnostics, optional
        Of its latent space, once it is trained.
    settings : dict
        How it was trained: plain names and numbers, for the record.
    """

    system: System
    alignment: AbstractAlignment
    representation: AbstractRepresentation
    vae: VAE
    spec: Spec | None = None
    data: TrainingData | None = None
    history: History | None = None
    diagnostics: Diagnostics | None = None
    settings: dict = dataclasses.field(default_factory=dict)

    @property
    def coordinate(self) -> "Coordinate":
        """The map from one frame to its latent point."""
        return Coordinate(self.alignment, self.representation, self.vae)

    @property
    def decoder(self) -> "Decoder":
        """The map from one latent point to its frame."""
        return Decoder(self.alignment, self.representation, self.vae)

    @property
    def latent_dim(self) -> int:
        """Number of latent coordinates."""
        x = jax.ShapeDtypeStruct((self.representation.n_features,), jnp.float32)
        return len(eqx.filter_eval_shape(self.vae.encode, x))

    def __str__(self) -> str:
        system, weights = self.system, np.asarray(self.alignment.weights)
        chosen = f" (select {system.select!r})" if system.select else ""
        unit = "reduced units" if system.unit == "reduced" else "nm"
        arrays = "; arrays are taken to be in angstrom" if system.length_unit == "angstrom" else ""
        center = "mass" if np.array_equal(weights, system.masses) else "geometry"
        parameters = jax.tree.leaves(eqx.filter((self.vae.encoder, self.vae.decoder), eqx.is_inexact_array))
        lines = [
            f"system      {system.n_atoms} of {system.n_atoms_in_file} atoms{chosen}, {system.dim}-D, "
            f"lengths in {unit}{arrays}",
            f"alignment   {type(self.alignment).__name__}, centered on the center of {center}",
            f"features    {_features_line(self.representation)}",
            f"networks    {self.latent_dim} latent dimensions, {sum(leaf.size for leaf in parameters)} numbers",
            f"densities   likelihood {_described(self.vae.likelihood)}, prior {type(self.vae.prior).__name__}"
            + "".join(
                f"; {name} fitted afterwards" for name in ("prior", "noise") if f"fitted_{name}" in self.settings
            ),
        ]
        if self.history is not None:
            # That of the training, which may have been given another noise since.
            trained_with = self.settings.get("likelihood", type(self.vae.likelihood).__name__)
            density = trained_with != SquaredError.__name__
            lines += _history_lines(self.history, self.settings, "nats" if density else "squared lengths, nats for KL")
        if self.diagnostics is not None:
            first, *others = str(self.diagnostics).splitlines()
            lines += [f"latent      {first}", *(f"            {line}" for line in others)]
        return "\n".join(lines)


def check_decodes(model: Model, what: str) -> None:
    """Refuse a model that only encodes, where positions are asked for.

    Parameters
    ----------
    model : Model
    what : str
        What asks for them, in the user's words.

    Raises
    ------
    ValueError
    """
    if not model.representation.invertible:
        raise ValueError(
            f"{what} needs positions, and this model only encodes: its features have no way back to them; train one "
            "with representation='cartesian' or 'internal' for that"
        )


def _features_line(representation: AbstractRepresentation) -> str:
    line = f"{type(representation).__name__}, {representation.n_features} numbers a frame"
    if not isinstance(representation, Chosen):
        return line
    words = representation.words
    more = f", and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return f"{line}, encode only: {', '.join(words[:_NAMED])}{more}"


def _described(likelihood: AbstractLikelihood) -> str:
    rank = f" of rank {likelihood.relative.shape[1]}" if isinstance(likelihood, LowRankGaussian) else ""
    return type(likelihood).__name__ + rank


def _history_lines(history: History, settings: dict, unit: str) -> list[str]:
    best = history.best()
    weight = settings.get("strain_weight")
    # The importance-weighted bound and free bits are no such sum.
    sums = settings.get("importance_samples", 1) == 1 and not settings.get("free_bits")
    equals, plus = (" =", " + beta x") if sums else (";", ",")
    augmented = "".join(f", {word}" for word in settings.get("augment", ()))
    strain = f" + {weight} x strain {best['validation_penalty']:.3f}" if weight else ""
    return [
        f"training    {history.n_training} frames, {history.n_validation} held out in blocks of time; "
        f"beta {settings.get('beta')}, seed {settings.get('seed')}{augmented}",
        f"            {history.n_epochs} epochs in {history.seconds:.0f} s: {history.stopped}",
        *_ensemble_lines(settings.get("ensemble", [])),
        f"            best epoch {history.best_epoch + 1}, held-out loss {best['validation_loss']:.3f}{equals} "
        f"reconstruction {best['validation_reconstruction']:.3f}{plus} KL {best['validation_kl']:.3f}{strain} ({unit})",
    ]


def _ensemble_lines(losses: list[float]) -> list[str]:
    if not losses:
        return []
    return [
        f"            the best of {len(losses)} models, with held-out losses {min(losses):.3f} to {max(losses):.3f}"
    ]


class Coordinate(eqx.Module):
    """Align, represent, encode: one frame (n_atoms, dim) in nm to its latent point (latent_dim,)."""

    alignment: AbstractAlignment
    representation: AbstractRepresentation
    vae: VAE

    def __call__(self, frame: Frame) -> Latent:
        """Posterior mean: deterministic and differentiable."""
        return self.encode_posed(self.alignment(frame) if self.representation.keeps_pose else frame)

    def encode_posed(self, frame: Frame) -> Latent:
        """The same for a frame that is in its pose already, if that matters."""
        return self.vae.encode(self.representation.to_features(frame))

    def sample_from_data(self, posed: Frame, key_data: Array) -> Latent:
        """Sample of the posterior of a posed frame; the key as plain numbers, which NumPy can hold."""
        posterior = self.vae.encoder(self.representation.to_features(posed))
        return posterior.sample(jax.random.wrap_key_data(key_data))


class Decoder(eqx.Module):
    """Decode and represent: one latent point (latent_dim,) to a frame (n_atoms, dim) in the standard pose."""

    alignment: AbstractAlignment
    representation: AbstractRepresentation
    vae: VAE

    def __call__(self, z: Latent) -> Frame:
        """Mean of the likelihood."""
        return self._posed(self.vae.decode(z))

    def sample(self, z: Latent, key: Key) -> Frame:
        """Sample of the likelihood."""
        return self._posed(self.vae.sample(z, key))

    def sample_from_data(self, z: Latent, key_data: Array) -> Frame:
        """The same with the key as plain numbers, which NumPy can hold."""
        return self.sample(z, jax.random.wrap_key_data(key_data))

    def _posed(self, features: Features) -> Frame:
        frame = self.representation.to_coordinates(features)
        return frame if self.representation.keeps_pose else self.alignment(frame)


def build(frames: Frames, *, key: Key | None = None, seed: Whole = 0, **spec) -> Model:
    """Untrained model for frames: networks scaled to the data, alignment taken over from them.

    Parameters
    ----------
    frames : Frames
        As returned by `read`.
    key : PRNG key, optional
        For the initial weights; made from ``seed`` if left out.
    seed : int
    **spec
        Fields of `Spec`, such as ``latent_dim`` and ``likelihood``.

    Returns
    -------
    Model

    Raises
    ------
    ValueError, TypeError
        From `Spec`, and for frames that are too few or do not differ from one another.
    """
    check_enough(frames)
    description = Spec(frames.system.n_atoms, frames.system.dim, alignment=alignment_name(frames.alignment), **spec)
    if description.features is not None:
        explicit = explicit_features(frames.system.topology, description.features)
        description = dataclasses.replace(description, features=explicit)
    representation = _representation(description, frames)
    sums = [block.sum(axis=0, dtype=np.float64) for block in blocks(frames.coordinates)]
    mean = np.sum(sums, axis=0) / len(frames.coordinates)
    spread = _spread(frames.coordinates, mean)
    # Positions share one unit, and their larger motions shall count for more; other features each have their own.
    cartesian = isinstance(representation, Cartesian)
    statistics = (
        FeatureStatistics(mean.reshape(-1), spread, spread)
        if cartesian
        else feature_statistics(representation, frames.coordinates)
    )
    key = key_for("build", seed) if key is None else key
    pseudo_inputs = _pseudo_inputs(description, representation, frames)
    skeleton = assemble(description, frames.system, key, representation, statistics, pseudo_inputs)
    return dataclasses.replace(skeleton, alignment=frames.alignment)


def check_enough(frames: Frames) -> None:
    """Refuse frames that are too few to learn from.

    Raises
    ------
    ValueError
    """
    n_frames = len(frames.coordinates)
    if n_frames < _FEWEST_FRAMES:
        count = "1 frame is" if n_frames == 1 else f"{n_frames} frames are"
        raise ValueError(f"{count} too few to train on; expected at least {_FEWEST_FRAMES}")


def assemble(
    spec: Spec,
    system: System,
    key: Key,
    representation: AbstractRepresentation | None = None,
    statistics: FeatureStatistics | None = None,
    pseudo_inputs: PseudoInputs | None = None,
) -> Model:
    """Model of the shape that a spec describes, with fresh weights.

    Parameters
    ----------
    spec : Spec
    system : System
    key : PRNG key
    representation : AbstractRepresentation, optional
        The one that the spec names; one without content, to be filled, if left out.
    statistics : FeatureStatistics, optional
        Of the features; mean zero and deviation one if left out.
    pseudo_inputs : (n_components, n_features), optional
        Where those of a VampPrior start; zeros if left out.

    Returns
    -------
    Model
    """
    representation = _representation(spec) if representation is None else representation
    if statistics is None:
        one = 1.0 if isinstance(representation, Cartesian) else np.ones(spec.n_features)
        statistics = FeatureStatistics(np.zeros(spec.n_features), one, one)
    values = statistics.mean, statistics.deviation, statistics.unit
    mean, deviation, unit = (jnp.asarray(value, jnp.float32) for value in values)
    # Folded in, not split off: the weights of the other models are to stay what they were for a seed.
    likelihood = _likelihood(spec, representation.n_linear, deviation, jax.random.fold_in(key, 2))
    prior = named_prior(
        spec.prior,
        spec.latent_dim,
        n_components=spec.n_components,
        pseudo_inputs=_pseudo_inputs(spec) if pseudo_inputs is None else pseudo_inputs,
        unit=unit,
        key=jax.random.fold_in(key, 3),
    )
    vae = perceptrons(
        spec.latent_dim,
        likelihood,
        prior,
        hidden=spec.hidden,
        activation=spec.activation,
        residual=spec.residual,
        posterior=spec.posterior,
        shift=mean,
        unit=unit,
        output_shift=mean,
        output_scale=deviation,
        key=key,
    )
    return Model(system, _alignment(spec), representation, vae, spec)


def _pseudo_inputs(
    spec: Spec, representation: AbstractRepresentation | None = None, frames: Frames | None = None
) -> PseudoInputs | None:
    """Features of evenly spaced frames, for the VampPrior; without frames of the right shape only."""
    if spec.prior != "vamp" or spec.n_components is None:
        return None
    if representation is None or frames is None:
        return jnp.zeros((spec.n_components, spec.n_features), jnp.float32)
    if spec.n_components > len(frames.coordinates):
        raise ValueError(
            f"n_components={spec.n_components} is larger than the number of frames, {len(frames.coordinates)}"
        )
    rows = np.linspace(0, len(frames.coordinates) - 1, spec.n_components).astype(int)
    return jax.vmap(representation.to_features)(jnp.asarray(picked(frames.coordinates, rows)))


def remember(frames: Frames, geometry: LocalGeometry) -> TrainingData:
    """What a model keeps of its training frames.

    Parameters
    ----------
    frames : Frames
    geometry : LocalGeometry
    """
    n_frames = len(frames.coordinates)
    n_kept = int(np.clip(_KEPT_BYTES // frames.coordinates[0].nbytes, 1, n_frames))
    return TrainingData(picked(frames.coordinates, _evenly(n_frames, n_kept)), n_frames, geometry)


def _evenly(n: int, n_chosen: int) -> Int[np.ndarray, " n_chosen"]:
    return np.unique(np.linspace(0, n - 1, n_chosen).astype(int))


def _spread(coordinates: np.ndarray, mean: np.ndarray) -> float:
    """Root mean square deviation of one coordinate from the mean structure, in nm."""
    total = sum(float(((block - mean) ** 2).sum()) for block in blocks(coordinates))
    spread = float(np.sqrt(total / coordinates.size))
    # Not an exact zero: float32 rounding of the pose tells equal frames apart by a little.
    if spread <= 1e-6 * float(np.abs(mean).max()):
        raise ValueError(f"all {len(coordinates)} frames are the same structure; there is nothing to learn")
    return spread


def _representation(spec: Spec, frames: Frames | None = None) -> AbstractRepresentation:
    """Representation of a spec: learned from frames, or, without them, of the right shape only."""
    if spec.representation == "cartesian":
        return Cartesian(spec.n_atoms, spec.dim)
    if spec.representation == "distances":
        return Chosen(distances=_all_pairs(spec.n_atoms))
    if spec.features is not None:
        found = {kind: atoms_of(spec.features, kind) for kind in KINDS}
        radius = {} if spec.contact_radius is None else {"contact_radius": spec.contact_radius}
        return Chosen(found["distance"], found["contact"], found["torsion"], **radius)
    shape = (spec.n_atoms, spec.dim + 1)
    if frames is None:
        return Internal(jnp.zeros(shape, jnp.int32))
    links = find_links(frames.coordinates, frames.system.links, frames.system.bonds)
    return Internal(jnp.asarray(references(links, frames.coordinates), jnp.int32))


def _all_pairs(n_atoms: int) -> Int[np.ndarray, "n_pairs 2"]:
    first, second = np.triu_indices(n_atoms, 1)
    if len(first) > _MOST_PAIRS:
        raise ValueError(
            f"representation='distances' of {n_atoms} atoms has {len(first)} pairs, more than {_MOST_PAIRS}: select at "
            "most 100 atoms, such as 'name CA', or name the distances that matter with representation='chosen'"
        )
    return np.stack([first, second], axis=1)


def _likelihood(
    spec: Spec, n_linear: int, scale: Float[Array, "*n_features"], key: Key
) -> Gaussian | GaussianVonMises | LowRankGaussian | SquaredError:
    if spec.likelihood == "squared_error":
        return SquaredError()
    if spec.representation != "cartesian":
        n_circular = (spec.n_features - n_linear) // 2
        return GaussianVonMises(scale[:n_linear], scale[n_linear : n_linear + n_circular])
    width = scale if spec.width is None else spec.width
    if spec.rank is not None:
        return LowRankGaussian(jnp.full(spec.n_features, width, jnp.float32), spec.rank, key=key)
    widths = jnp.full(spec.n_features, width, jnp.float32)
    shared = spec.likelihood == "isotropic_gaussian"
    return Gaussian(widths, learned=spec.likelihood != "fixed_gaussian", shared=shared)


def _alignment(spec: Spec) -> AbstractAlignment:
    weights, reference = jnp.ones(spec.n_atoms, jnp.float32), jnp.zeros((spec.n_atoms, spec.dim), jnp.float32)
    if spec.alignment == "none":
        return Unaligned(weights)
    return ALIGNMENTS[spec.alignment](weights, reference)
