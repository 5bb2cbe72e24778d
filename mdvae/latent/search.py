"""Search latent space for the conformation with the smallest value of an observable.

A bare gradient search leaves the data: the decoder is asked about points that it has never seen and answers
with overlapping atoms. So the search minimizes

    (observable - mean) / spread   +   distance of z from the encoded data   +   strain of the structure

where the observable is that of the restored structure (see `restoration`), so that nothing can be had by overlaps or
broken bonds; mean and spread are those of the training frames; the second term is zero wherever 99 % of the encoded
frames lie, and the third wherever restoring has kept the bounds of the training data. Both are only nudges: what counts
is the check at the end (see `validity`), and the best structure that passes it is the answer.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from jaxtyping import Array, Bool, Float
from scipy.spatial import KDTree

from mdvae._chunks import map_rows
from mdvae._keys import key_for
from mdvae._types import Frame, Key, Latent, Number, Scalar, Whole
from mdvae.latent.encoding import encode_posed
from mdvae.latent.generation import decode_coordinates, restore_decoded
from mdvae.model import Decoder, Model, check_decodes
from mdvae.observables import LENGTHS
from mdvae.restoration import Restoration, Restorer
from mdvae.trajectory import Conformations, to_trajectory
from mdvae.validity import check

if TYPE_CHECKING:
    import mdtraj

Observable = Callable[[Frame], Scalar]

# Latent points whose density counts, and those whose densities set the limit.
_CENTERS = 1000
_INSIDE = 0.99
# Both penalties against one spread of the observable.
_DATA_WEIGHT, _STRAIN_WEIGHT = 10.0, 1.0
# Rounds of restoring at each step; what is found is restored in full.
_ROUNDS = 2
# Training frames among which the search looks for its starts, and how many of them are decoded at once.
_CANDIDATES, _BLOCK = 1024, 128


@dataclasses.dataclass(frozen=True, eq=False)
class Minimum:
    """What a search found.

    Parameters
    ----------
    name : str
        Of the observable.
    unit : str
        Of length: "nm" or "reduced".
    found : bool
        Whether any start ended in a valid structure.
    index : int
        The start that gave the answer: the lowest valid one (the lowest of all where none is valid).
    values : (n_starts,)
        Observable of the best structure on each start's way: the lowest valid one, or its last.
    starts : (n_starts, latent_dim)
        Latent points that the search set out from.
    z : (n_starts, latent_dim)
        Where those structures are.
    valid : (n_starts,)
        Lengths, centers, torsions and contacts within the strict limits of the training data (see
        `LocalGeometry.strict`), and z where 99 % of the encoded frames lie.
    paths : (n_starts, n_steps)
        Observable along the way, valid or not.
    candidates : mdtraj.Trajectory
        The structure of each start.
    restoration : Restoration, optional
        How far restoring moved each of them; None for a search among the decoder's own structures.
    best_training : mdtraj.Trajectory
        The training frame with the lowest value.
    best_training_value : float
    best_training_valid : bool
        Whether that frame passes the same check, which is stricter than the data's own extremes.
    best_valid_training_value : float
        The lowest value among training frames that do; NaN if none does.
    n_compared, n_training : int
        Frames that were compared, of how many the model was fitted to, held-out ones included.
    distance : (n_starts,)
        From each z to the nearest encoded training frame, in latent standard deviations.
    typical_distance : float
        The same between training frames (median).
    """

    name: str
    unit: str
    found: bool
    index: int
    values: Float[np.ndarray, " n_starts"]
    starts: Float[np.ndarray, "n_starts latent_dim"]
    z: Float[np.ndarray, "n_starts latent_dim"]
    valid: Bool[np.ndarray, " n_starts"]
    paths: Float[np.ndarray, "n_starts n_steps"]
    candidates: Conformations
    restoration: Restoration | None
    best_training: "mdtraj.Trajectory"
    best_training_value: float
    best_training_valid: bool
    best_valid_training_value: float
    n_compared: int
    n_training: int
    distance: Float[np.ndarray, " n_starts"]
    typical_distance: float

    @property
    def value(self) -> float:
        """Observable of the answer; NaN if no valid structure was found."""
        return float(self.values[self.index]) if self.found else float("nan")

    @property
    def path(self) -> Float[np.ndarray, " n_steps"]:
        """Observable along the way of the start that gave the answer."""
        return self.paths[self.index]

    @property
    def trajectory(self) -> "mdtraj.Trajectory":
        """The answer, one frame.

        Raises
        ------
        ValueError
            If no valid structure was found; `candidates` holds what was.
        """
        if not self.found:
            raise ValueError(
                f"none of the {len(self.values)} starts ended in a valid structure; see .candidates for what they "
                "gave, and try more starts, a larger latent_dim or a smaller beta"
            )
        return self.candidates[self.index]

    def __str__(self) -> str:
        compared = f"{self.n_compared} training frames"
        if self.n_compared < self.n_training:
            compared = f"{self.n_compared} of {self.n_training} training frames, those kept in the model"
        mark = "" if self.best_training_valid else "; not valid by the same check"
        lines = [
            f"minimize {self.name}: {self.valid.sum()} of {len(self.values)} starts ended in a valid structure",
            f"  answer                 {self.value:.4f}{self._unit}" if self.found else "  answer                 none",
            f"  best training frame    {self.best_training_value:.4f}{self._unit} (of {compared}{mark})",
        ]
        if not self.best_training_valid:
            lines.append(f"  best valid one         {self.best_valid_training_value:.4f}{self._unit}")
        if self.found and self.restoration is not None:
            moved, thermal = self.restoration.moved[self.index], self.restoration.thermal
            lines.append(f"  moved by restoring     {moved:.4f}{self._length} (thermal spread {thermal:.4f})")
        if self.found:
            lines.append(
                f"  distance from the data {self.distance[self.index]:.3f} latent standard deviations "
                f"(between training frames {self.typical_distance:.3f})"
            )
            if self.value > self.best_valid_training_value:
                lines.append("  no better than the data: the best valid training frame has a lower value")
        return "\n".join(lines)

    @property
    def _unit(self) -> str:
        """Of the value, where the observable is known to be a length."""
        return self._length if self.name in LENGTHS else ""

    @property
    def _length(self) -> str:
        return " nm" if self.unit == "nm" else " reduced units"


def minimize(
    model: Model,
    observable: Observable,
    *,
    restore: bool = True,
    n_starts: Whole = 64,
    n_steps: Whole = 200,
    method: str = "adam",
    learning_rate: Number = 0.1,
    key: Key | None = None,
    seed: Whole = 0,
) -> Minimum:
    """Search latent space for the smallest value of an observable, from many starts at once.

    Parameters
    ----------
    model : Model
        Trained: it remembers where the data are.
    observable : callable
        Any JAX function of one frame (n_atoms, dim), in nm, to a scalar; see `mdvae.observables`.
    restore : bool
        Minimize the observable of the restored structure, and return that; False: of the decoder's own.
    n_starts : int
        Half of them at the training frames that do best once decoded, half at random ones.
    n_steps : int
    method : {"adam", "l-bfgs"}
        Adam (Optax), all starts in one compiled loop; or L-BFGS (SciPy), one start after another.
    learning_rate : float
        Of Adam, in latent standard deviations.
    key : PRNG key, optional
        made from ``seed`` if left out.
    seed : int

    Returns
    -------
    Minimum

    Raises
    ------
    ValueError
        For an untrained model or one that only encodes, an unknown method, or an observable that is not a finite
        scalar.
    """
    check_decodes(model, "minimize")
    if model.data is None:
        raise ValueError("this model has not been trained: it remembers no frames to start from")
    if method not in ("adam", "l-bfgs"):
        raise ValueError(f"method={method!r} is not known; expected 'adam' or 'l-bfgs'")
    if n_starts < 1 or n_steps < 1:
        raise ValueError(f"n_starts and n_steps must be at least 1, got {n_starts} and {n_steps}")
    n_starts, n_steps, learning_rate = int(n_starts), int(n_steps), float(learning_rate)
    kept = model.data.frames
    values = _training_values(observable, kept)
    z = encode_posed(model, kept)
    problem = _Problem.fit(model, observable, values, z, restore)
    key = key_for("minimize", seed) if key is None else key
    starts = _starts(problem, np.asarray(problem.to_unit(z)), values, n_starts, key)
    if method == "adam":
        found, paths = _adam(problem, starts, n_steps, learning_rate)
    else:
        found, paths = _lbfgs(problem, starts, n_steps)
    ends = problem.from_unit(found)
    return _judge(model, observable, problem, values, z, problem.from_unit(starts), ends, np.asarray(paths))


class _Problem(eqx.Module):
    """The loss of one latent point, in units in which encoded data have unit spread."""

    decoder: Decoder
    observable: Observable
    restorer: Restorer | None
    limits: Restorer
    center: Latent
    spread: Latent
    value_mean: Scalar
    value_spread: Scalar
    neighbors: Float[Array, "n_centers latent_dim"]
    bandwidth: float = eqx.field(static=True)
    limit: Scalar

    @classmethod
    def fit(cls, model: Model, observable: Observable, values: np.ndarray, z: np.ndarray, restore: bool) -> "_Problem":
        """Scales and limits from the training frames."""
        assert model.data is not None
        center, spread = z.mean(axis=0), np.maximum(z.std(axis=0), 1e-6)
        unit = (z - center) / spread
        # Density at points that made the estimate would flatter it: centers and judges take turns.
        chosen = unit[:: max(2, len(unit) // _CENTERS)]
        judges = unit[1 :: max(2, len(unit) // _CENTERS)]
        bandwidth = float(len(chosen) ** (-1 / (z.shape[1] + 4)))  # Scott's rule, doi:10.1002/9780470316849
        strict = model.data.geometry.strict()
        value_spread = max(float(values.std()), 1e-6 * abs(float(values.mean())), 1e-12)
        problem = cls(
            decoder=model.decoder,
            observable=observable,
            restorer=Restorer(strict, n_rounds=_ROUNDS) if restore else None,
            limits=Restorer(strict, bare=True),
            center=jnp.asarray(center),
            spread=jnp.asarray(spread),
            value_mean=jnp.asarray(values.mean()),
            value_spread=jnp.asarray(value_spread, jnp.float32),
            neighbors=jnp.asarray(chosen),
            bandwidth=bandwidth,
            limit=jnp.zeros((), jnp.float32),
        )
        rarity = map_rows(problem.rarity, judges)
        return eqx.tree_at(lambda p: p.limit, problem, jnp.asarray(np.quantile(rarity, _INSIDE), jnp.float32))

    def to_unit(self, z: np.ndarray) -> Array:
        return (jnp.asarray(z) - self.center[None]) / self.spread[None]

    def from_unit(self, unit: Array) -> np.ndarray:
        return np.asarray(unit * self.spread[None] + self.center[None])

    def rarity(self, unit: Latent) -> Scalar:
        """Minus the log of the data's kernel density, up to a constant."""
        squared = jnp.sum((self.neighbors - unit[None]) ** 2, axis=1)
        return -jax.nn.logsumexp(-squared / (2 * self.bandwidth**2))

    def __call__(self, units: Float[Array, "n latent_dim"]) -> tuple[Array, tuple[Array, Array]]:
        """Losses of some points; and their observables, with whether the points look acceptable."""
        frames = jax.vmap(self.decoder)(units * self.spread[None] + self.center[None])
        if self.restorer is not None:
            frames = self.restorer(frames)
        values = jax.vmap(self.observable)(frames)
        excess = jnp.maximum(jax.vmap(self.rarity)(units) - self.limit, 0.0)
        strain = self.limits.strain(frames)
        penalty = _DATA_WEIGHT * excess**2 + _STRAIN_WEIGHT * strain
        acceptable = (strain == 0) & (excess == 0)
        return (values - self.value_mean) / self.value_spread + penalty, (values, acceptable)


def _training_values(observable: Observable, frames: np.ndarray) -> Float[np.ndarray, " n_frames"]:
    try:
        shape = jax.eval_shape(observable, jax.ShapeDtypeStruct(frames.shape[1:], frames.dtype)).shape
    except (jax.errors.JAXTypeError, AttributeError) as error:
        raise ValueError(
            "an observable must be a JAX function of one frame to one number: write it with jax.numpy"
        ) from error
    if shape != ():
        raise ValueError(f"an observable must return one number for one frame, got an array of shape {shape}")
    values = map_rows(observable, frames)
    if not np.isfinite(values).all():
        raise ValueError(
            f"the observable is not finite on {np.sum(~np.isfinite(values))} of {len(values)} training frames"
        )
    return values


def _starts(problem: _Problem, unit: np.ndarray, frame_values: np.ndarray, n_starts: int, key: Key) -> Array:
    """Encoded frames to start from: half among the best once decoded, half anywhere."""
    # Frames that are low themselves are the ones that can be low once decoded.
    candidates = np.argsort(frame_values, kind="stable")[:_CANDIDATES]
    losses, values, acceptable = _evaluated(problem, unit[candidates])
    # Acceptable ones first, by value; then the others, by loss.
    order = candidates[np.lexsort((np.where(acceptable, values, losses), ~acceptable))]
    low_key, any_key = jax.random.split(key)
    n_low = (n_starts + 1) // 2
    lowest = order[: max(n_low, len(order) // 5)]
    low = jax.random.choice(low_key, lowest, (n_low,), replace=n_low > len(lowest))
    anywhere = jax.random.choice(any_key, len(unit), (n_starts - n_low,), replace=n_starts > len(unit))
    # The very best is always among them, so that the answer is never worse than that frame once decoded.
    return jnp.asarray(unit[np.concatenate([lowest[:1], np.asarray(low)[1:], np.asarray(anywhere)]).astype(int)])


def _evaluated(problem: _Problem, units: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses, observables and acceptance of many points, in blocks of one shape."""
    parts = []
    for first in range(0, len(units), _BLOCK):
        block = units[first : first + _BLOCK]
        filled = np.concatenate([block, np.repeat(block[-1:], _BLOCK - len(block), axis=0)])
        loss, (value, acceptable) = _compiled(problem, jnp.asarray(filled))
        parts.append([np.asarray(x)[: len(block)] for x in (loss, value, acceptable)])
    losses, values, acceptable = (np.concatenate(part) for part in zip(*parts, strict=True))
    return losses, values, acceptable


@eqx.filter_jit
def _compiled(problem: _Problem, units: Array) -> tuple[Array, tuple[Array, Array]]:
    return problem(units)


@eqx.filter_jit
def _adam(problem: _Problem, starts: Array, n_steps: int, learning_rate: float) -> tuple[Array, Array]:
    """Best acceptable point on each way (else the last point), and the observable along it."""
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, n_steps, alpha=0.01))

    def total(unit):
        # No start's loss depends on another start: one gradient of the sum is the gradient of each.
        losses, rest = problem(unit)
        return jnp.sum(losses), rest

    def step(carry, _):
        unit, state, best, lowest = carry
        (_, (value, acceptable)), gradient = jax.value_and_grad(total, has_aux=True)(unit)
        better = acceptable & (value < lowest)
        best, lowest = jnp.where(better[:, None], unit, best), jnp.where(better, value, lowest)
        updates, state = optimizer.update(gradient, state)
        return (unit + updates, state, best, lowest), value

    lowest = jnp.full(len(starts), jnp.inf, starts.dtype)
    carry, values = jax.lax.scan(step, (starts, optimizer.init(starts), starts, lowest), None, n_steps)
    last, _, best, lowest = carry
    return jnp.where(jnp.isfinite(lowest)[:, None], best, last), values.T


def _lbfgs(problem: _Problem, starts: Array, n_steps: int) -> tuple[Array, np.ndarray]:
    """Same as `_adam`, by SciPy; shorter ways are filled up with their last value."""

    def one(unit):
        loss, (value, acceptable) = problem(unit[None])
        return loss[0], (value[0], acceptable[0])

    evaluate = jax.jit(jax.value_and_grad(one, has_aux=True))
    found, paths = [], []
    for start in np.asarray(starts):
        best, lowest, path = None, np.inf, []

        def loss(unit):
            nonlocal best, lowest
            unit = jnp.asarray(unit, jnp.float32)
            (total, (value, acceptable)), gradient = evaluate(unit)
            path.append(float(value))  # noqa: B023 (called before the loop goes on)
            if acceptable and value < lowest:
                best, lowest = unit, float(value)
            return float(total), np.asarray(gradient, np.float64)

        options = {"maxiter": n_steps, "maxfun": n_steps}
        result = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
        found.append(best if best is not None else result.x)
        path = path[:n_steps]
        paths.append(path + [path[-1]] * (n_steps - len(path)))
    return jnp.asarray(np.array(found), jnp.float32), np.array(paths)


def _judge(model, observable, problem, training_values, training_z, starts, z, paths) -> Minimum:
    """Decode what was found, check it, and set it beside the training frames."""
    data = model.data
    coordinates, restoration, strict = decode_coordinates(model, z), None, data.geometry.strict()
    if problem.restorer is not None:
        coordinates, restoration = restore_decoded(model, coordinates, strict)
    values = map_rows(observable, coordinates)
    near = KDTree(np.asarray(problem.to_unit(training_z)))
    inside = map_rows(problem.rarity, np.asarray(problem.to_unit(z))) <= float(problem.limit) + 1e-4
    valid = check(strict, coordinates).valid & inside
    index = int(np.argmin(np.where(valid, values, np.inf) if valid.any() else values))
    best = int(np.argmin(training_values))
    training_valid = check(strict, data.frames[np.argsort(training_values)[:1000]]).valid
    lowest_values = np.sort(training_values)[:1000]
    name = getattr(observable, "__name__", None) or getattr(getattr(observable, "func", None), "__name__", "observable")
    return Minimum(
        name=name,
        unit=model.system.unit,
        found=bool(valid.any()),
        index=index,
        values=values,
        starts=starts,
        z=z,
        valid=valid,
        paths=paths,
        candidates=to_trajectory(model.system, coordinates, restoration=restoration),
        restoration=restoration,
        best_training=to_trajectory(model.system, data.frames[best : best + 1]),
        best_training_value=float(training_values[best]),
        best_training_valid=bool(training_valid[0]),
        best_valid_training_value=float(lowest_values[training_valid][0]) if training_valid.any() else float("nan"),
        n_compared=len(data.frames),
        n_training=data.n_frames,
        distance=near.query(np.asarray(problem.to_unit(z)))[0],
        typical_distance=float(np.median(near.query(near.data[:: max(1, near.n // 1000)], k=2)[0][:, 1])),
    )
