"""What happened in training, as plain data."""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class History:
    """Losses by epoch, and why training stopped.

    Parameters
    ----------
    terms : dict of str to (n_epochs,) arrays
        ``loss``, ``reconstruction`` and ``kl`` (nats a frame; means over the epoch's training batches),
        the same three with ``validation_`` before them (over the held-out blocks after the epoch, at the
        final beta), and ``beta``; with a penalty also ``penalty`` and ``validation_penalty``, before their weight,
        and ``vamp`` and ``validation_vamp`` likewise. Of weighted frames all are weighted means.
    best_epoch : int
        Index, from 0, of the epoch whose parameters were kept: the lowest validation loss.
    stopped : str
        Why training ended, in words.
    n_training, n_validation : int
        Examples on either side of the split: frames, or pairs of them.
    seconds : float
        Wall time.
    """

    terms: dict[str, np.ndarray]
    best_epoch: int
    stopped: str
    n_training: int
    n_validation: int
    seconds: float

    @property
    def n_epochs(self) -> int:
        """Epochs that ran."""
        return len(self.terms["loss"])

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended training."""
        return self.stopped.startswith("interrupted")

    def best(self) -> dict[str, float]:
        """Every term at the kept epoch."""
        return {name: float(values[self.best_epoch]) for name, values in self.terms.items()}

    def followed_by(self, other: "History") -> "History":
        """One record of a training that was gone on with from its best epoch.

        Parameters
        ----------
        other : History
            Of the same frames, judged in the same way.
        """
        better = other.best()["validation_loss"] < self.best()["validation_loss"]
        after = f"{other.n_epochs} epochs to cool down"
        return History(
            terms={name: np.concatenate([values, other.terms[name]]) for name, values in self.terms.items()},
            best_epoch=self.n_epochs + other.best_epoch if better else self.best_epoch,
            stopped=f"interrupted after {after}" if other.interrupted else f"{self.stopped}; then {after}",
            n_training=self.n_training,
            n_validation=self.n_validation,
            seconds=self.seconds + other.seconds,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        terms = {name: [float(v) for v in values] for name, values in self.terms.items()}
        return dataclasses.asdict(self) | {"terms": terms}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "History":
        """History from plain data."""
        terms = {name: np.asarray(values, np.float64) for name, values in data["terms"].items()}
        fields: dict[str, Any] = data | {"terms": terms}
        return cls(**fields)
