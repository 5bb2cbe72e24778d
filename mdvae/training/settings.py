"""How to train, as plain data that is checked when it is made."""

import dataclasses
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from mdvae._types import Number, Whole
from mdvae.training.schedules import cyclical, elbo_by_step, slow_by_step, warmup
from mdvae.vae import VAE, AbstractObjective, ImportanceWeighted, SquaredError

# Gradient steps that training takes where the number of epochs is left open, and the bounds on its epochs.
_STEPS, _FEWEST_EPOCHS, _MOST_EPOCHS = 5000, 20, 1000
# Of a batch whose VAMP-2 score is taken: of fewer pairs it is far too high.
_FEWEST_PAIRS = 256


@dataclasses.dataclass(frozen=True)
class Settings:
    """What training minimizes, and for how long.

    Parameters
    ----------
    beta : float
        Weight of the KL divergence. With a Gaussian likelihood 1 is the evidence lower bound; smaller
        reconstructs better, larger brings encoded frames nearer to the prior.
    epochs : int, optional
        At most this many. Left out, as many as make 5000 gradient steps, but at least 20 and at most 1000.
    batch_size : int, optional
        Frames in one gradient step; a 64th of the training frames, but at least 32 and at most 512, if left out.
    learning_rate : float
        Peak of the schedule for Adam: a short rise, then a cosine.
    warmup_epochs : int
        Epochs over which beta rises from zero. None by default: it helps where a latent dimension dies, but the
        latent space then first spreads without restraint, and what it keeps of that are gaps between regions, from
        which the decoder makes broken structures.
    n_cycles : int
        How often beta rises from zero, each time over half of a cycle, in place of ``warmup_epochs``
        (doi:10.48550/arXiv.1903.10145).
    free_bits : float
        Nats a latent dimension that cost nothing: see `mdvae.vae.NegativeELBO`.
    importance_samples : int
        With more than 1 the importance-weighted bound with that many samples is trained, in place of the evidence lower
        bound (doi:10.48550/arXiv.1509.00519); it knows no beta but 1.
    lagtime : int
        In frames: the latent point of each frame is decoded to the frame so much later in the same trajectory, which a
        coordinate can only do by what lasts as long (time-lagged autoencoder, doi:10.1063/1.5011399). By default each
        frame is its own target. Longer than what is fast, shorter than what is slow is a good choice.
    vamp_weight : float
        Nats, weight of a score of how slow the latent coordinates are, with a `lagtime` only: see `mdvae.vae.Slow`.
        Without it a coordinate may follow what moves much rather than what is slow, or collapse, since what nobody can
        foresee makes what is foreseen worth little. Its weight hardly matters once it is well above the nats that the
        latent point is worth, such as 100; batches should hold some hundred frames.
    validation_fraction : float
        Share of frames held out: whole trajectories where there are many, else blocks of time; see `split_blocks`.
    patience : int, optional
        Stop after this many epochs without a better validation loss; a fifth of the epochs, and at least 10,
        if left out. Training then goes back to the best epoch and cools down: for half as many epochs as that took, at
        least 10 but no more than are left, with a learning rate that falls to nothing.
    n_devices : int
        Accelerators of this machine that share each batch; what is learned is the same to rounding. It pays where a
        step of one of them takes milliseconds.

    Raises
    ------
    ValueError, TypeError
        Naming the setting, what was expected and what was given.
    """

    beta: Number = 1.0
    epochs: Whole | None = None
    batch_size: Whole | None = None
    learning_rate: Number = 1e-3
    warmup_epochs: Whole = 0
    n_cycles: Whole = 0
    free_bits: Number = 0.0
    importance_samples: Whole = 1
    lagtime: Whole = 0
    vamp_weight: Number = 0.0
    validation_fraction: Number = 0.1
    patience: Whole | None = None
    n_devices: Whole = 1

    def __post_init__(self) -> None:
        for name in ("beta", "free_bits", "vamp_weight", "learning_rate", "validation_fraction"):
            value = getattr(self, name)
            if not hasattr(value, "__float__"):
                raise TypeError(f"{name} must be a number, got {value!r}")
            object.__setattr__(self, name, float(value))
        for name in ("beta", "free_bits", "vamp_weight"):
            check_not_negative(name, getattr(self, name))
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be a finite number above 0, got {self.learning_rate}")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must lie between 0 and 1, got {self.validation_fraction}")
        smallest = {"epochs": 1, "batch_size": 1, "patience": 1, "importance_samples": 1, "n_devices": 1}
        for name, least in (smallest | {"warmup_epochs": 0, "n_cycles": 0, "lagtime": 0}).items():
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not hasattr(value, "__index__"):
                raise TypeError(f"{name} must be a whole number, got {value!r}")
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
            object.__setattr__(self, name, operator.index(value))
        if self.n_devices > 1 and self.n_devices > jax.local_device_count():
            raise ValueError(f"n_devices={self.n_devices}, but JAX sees {jax.local_device_count()} on this machine")
        if self.batch_size is not None and self.batch_size % self.n_devices:
            raise ValueError(f"batch_size={self.batch_size} cannot be shared by n_devices={self.n_devices} evenly")
        if self.warmup_epochs and self.n_cycles:
            raise ValueError("warmup_epochs and n_cycles both say how beta rises; give one of them")
        if self.vamp_weight and not self.lagtime:
            raise ValueError(f"vamp_weight={self.vamp_weight} asks how slow coordinates are; give a lagtime, in frames")
        if self.importance_samples > 1 and (self.beta != 1 or self.free_bits or self.warmup_epochs or self.n_cycles):
            raise ValueError(
                "importance_samples trains a bound on the likelihood itself, which knows no beta but 1, no free_bits, "
                "warmup_epochs or n_cycles; leave them out"
            )

    def plan(self, n_training: int) -> "Plan":
        """What they come to for so many training examples.

        Parameters
        ----------
        n_training : int
        """
        # A score of correlations needs more pairs at a time than a gradient does.
        fewest = _FEWEST_PAIRS if self.vamp_weight else 32
        size = int(np.clip(n_training // 64, fewest, 512)) if self.batch_size is None else int(self.batch_size)
        size = min(size, max(n_training, 1)) if self.vamp_weight else size
        n_devices = int(self.n_devices)
        size = max(size // n_devices, 1) * n_devices
        steps = max(1, n_training // size)
        usual = int(np.clip(math.ceil(_STEPS / steps), _FEWEST_EPOCHS, _MOST_EPOCHS))
        epochs = usual if self.epochs is None else int(self.epochs)
        patience = max(10, epochs // 5) if self.patience is None else int(self.patience)
        return Plan(self, epochs, size, patience, steps)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings with nothing left open.

    Parameters
    ----------
    settings : Settings
    epochs, batch_size, patience : int
    steps_per_epoch : int
        Gradient steps.
    """

    settings: Settings
    epochs: int
    batch_size: int
    patience: int
    steps_per_epoch: int

    def objective(self) -> Callable[..., AbstractObjective]:
        """Training step to what is minimized."""
        settings = self.settings
        bound = self._bound()
        return slow_by_step(bound, float(settings.vamp_weight)) if settings.vamp_weight else bound

    def _bound(self) -> Callable[..., AbstractObjective]:
        settings = self.settings
        if settings.importance_samples > 1:
            weighted = ImportanceWeighted(int(settings.importance_samples))
            return lambda step: weighted
        beta, free_bits = float(settings.beta), float(settings.free_bits)
        if settings.n_cycles:
            schedule = cyclical(beta, self.epochs * self.steps_per_epoch, int(settings.n_cycles))
        else:
            schedule = warmup(beta, int(settings.warmup_epochs) * self.steps_per_epoch)
        return elbo_by_step(schedule, free_bits)

    @property
    def settled(self) -> int:
        """Epoch by which beta has risen for the last time."""
        settings = self.settings
        if settings.n_cycles:
            return math.ceil(self.epochs * (1 - 0.5 / settings.n_cycles))
        return min(int(settings.warmup_epochs), self.epochs - 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain names and numbers, for the record."""
        found = {"epochs": self.epochs, "batch_size": self.batch_size, "patience": self.patience}
        return dataclasses.asdict(self.settings) | found


def settings_from(words: dict[str, Any]) -> Settings:
    """Settings from keyword arguments.

    Raises
    ------
    TypeError
        For a name that is none of theirs.
    """
    known = [field.name for field in dataclasses.fields(Settings)]
    if unknown := sorted(set(words) - set(known)):
        raise TypeError(f"training knows no setting {', '.join(unknown)}; expected some of {', '.join(known)}")
    return Settings(**words)


def check_density(vae: VAE, settings: Settings) -> None:
    """Refuse to bound the likelihood of what states none.

    Raises
    ------
    ValueError
    """
    if settings.importance_samples > 1 and isinstance(vae.likelihood, SquaredError):
        raise ValueError("importance_samples bounds a likelihood, and a squared error states none; use a Gaussian one")


def check_not_negative(name: str, value: Number) -> None:
    """Refuse a weight that is negative or not finite.

    Raises
    ------
    TypeError, ValueError
    """
    if not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number of at least 0, got {value}")


def check_way_back(invertible: bool, strain_weight: Number, augment: Sequence[str]) -> None:
    """Refuse to train through positions where features have no way back to them.

    Raises
    ------
    ValueError
    """
    if not invertible and (strain_weight or augment):
        raise ValueError(
            f"{'strain_weight' if strain_weight else 'augment'} works on positions, to which chosen features and "
            "distances have no way back; leave it out, or train with representation='cartesian' or 'internal'"
        )
