"""From an untrained VAE and vectors, of whatever they are, to a trained one."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from mdvae._keys import key_for
from mdvae._types import Key, Whole
from mdvae.history import History
from mdvae.training.descent import descend
from mdvae.training.examples import check_weights, lagged_pairs
from mdvae.training.feed import Resident
from mdvae.training.progress import ProgressBar
from mdvae.training.settings import check_density, settings_from
from mdvae.training.splits import split_blocks
from mdvae.trajectory.weights import checked_weights
from mdvae.vae import VAE, Diagnostics, diagnose, reconstruction_error


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedVAE:
    """A trained VAE, and what happened.

    Parameters
    ----------
    vae : VAE
    history : History
    diagnostics : Diagnostics, optional
        None only if Ctrl-C came while they were made.
    settings : dict
        Plain names and numbers, nothing left open.
    """

    vae: VAE
    history: History
    diagnostics: Diagnostics | None
    settings: dict[str, Any]

    def __str__(self) -> str:
        best = self.history.best()
        return "\n".join(
            [
                f"{self.history.n_training} examples, {self.history.n_validation} held out; "
                f"beta {self.settings['beta']}",
                f"{self.history.n_epochs} epochs in {self.history.seconds:.0f} s: {self.history.stopped}",
                f"best epoch {self.history.best_epoch + 1}, held-out loss {best['validation_loss']:.3f}, "
                f"reconstruction {best['validation_reconstruction']:.3f}, KL {best['validation_kl']:.3f}",
                "" if self.diagnostics is None else str(self.diagnostics),
            ]
        )


def train_vae(
    vae: VAE,
    x: Float[Array | np.ndarray, "n n_features"],
    *,
    lengths: Sequence[int] | None = None,
    augment: Callable | None = None,
    weights: Float[np.ndarray, " n"] | None = None,
    key: Key | None = None,
    seed: Whole = 0,
    progress: bool = True,
    **settings: Any,
) -> TrainedVAE:
    """Fit a VAE to vectors.

    Parameters
    ----------
    vae : VAE
        Not changed.
    x : (n, n_features), float32
    lengths : sequence of int, optional
        Numbers of examples that follow one another in time, for the split into training and held-out blocks; all of
        them, if left out.
    augment : callable, optional
        Example and key to an example that could stand for it; applied to training examples, anew in every epoch, and to
        both ends of a pair with the same key.
    weights : (n,), optional
        How much the loss of each example counts, at least 0; only their ratios matter.
    key : PRNG key, optional
        Made from ``seed`` if left out.
    seed : int
    progress : bool
        Show a progress bar (on a terminal only).
    **settings
        See `Settings`.

    Returns
    -------
    TrainedVAE
        With the parameters that did best on the held-out examples. Ctrl-C returns the best so far.

    Raises
    ------
    ValueError, TypeError
        For settings outside their range, and examples that are too few or not finite.
    FloatingPointError
        If the loss stops being finite.

    Examples
    --------
    >>> vae = mdvae.vae.build_vae(x, latent_dim=2, key=jax.random.key(0))  # doctest: +SKIP
    >>> print(mdvae.train_vae(vae, x, beta=0.5))  # doctest: +SKIP
    """
    chosen = settings_from(settings)
    x = np.asarray(x, np.float32)
    if x.ndim != 2:
        raise ValueError(f"expected vectors, an array (n, n_features), got one of shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"{np.sum(~np.isfinite(x).all(axis=1))} of {len(x)} vectors have NaN or infinite entries")
    check_density(vae, chosen)
    if lengths is not None and sum(lengths) != len(x):
        raise ValueError(f"lengths add up to {sum(lengths)}, there are {len(x)} vectors")
    lengths = [len(x)] if lengths is None else lengths
    training, validation = split_blocks(lengths, float(chosen.validation_fraction))
    lagtime = int(chosen.lagtime)
    training, validation = lagged_pairs(lengths, validation, lagtime)
    if weights is not None:
        weights = checked_weights(weights, len(x))
        check_weights(weights, training, validation)
    plan = chosen.plan(len(training))
    key = key_for("train", seed) if key is None else key
    feed = Resident(x, training, validation, plan.batch_size, int(chosen.n_devices), lagtime=lagtime, weights=weights)
    with ProgressBar(progress) as bar:
        trained, history = descend(
            vae, feed, objective=plan.objective(), plan=plan, key=key, augment=augment, progress=bar
        )
    try:
        error = reconstruction_error(trained, x[validation], x[validation + lagtime] if lagtime else None)
        own = None if weights is None else weights[training]
        found = diagnose(trained, x[training], reconstruction=error, key=jax.random.fold_in(key, 2**31), weights=own)
    except KeyboardInterrupt:
        # What is trained is worth more than what is said about it.
        found = None
    return TrainedVAE(trained, history, found, plan.to_dict())
