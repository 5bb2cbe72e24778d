"""Whether an exported coordinate is the model's: on training frames, turned and moved and split by a periodic box."""

import contextlib
import dataclasses
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float

from mdvae._files import replacing
from mdvae.latent import CollectiveVariable, collective_variable, in_double
from mdvae.latent.agreement import moved_frames
from mdvae.model import Model
from mdvae.trajectory import System

# What an exported file may differ by, in values and, as a share of the largest, in derivatives.
TOLERANCE = 1e-6
_N_FRAMES = 20
# Sides of the periodic box, as multiples of the largest extent of any frame.
_ROOM = 2.5

Frames = Float[np.ndarray, "n_frames n_atoms 3"]
Latents = Float[np.ndarray, "n_frames latent_dim"]
Jacobians = Float[np.ndarray, "n_frames latent_dim n_atoms 3"]


@dataclasses.dataclass(frozen=True)
class Exported:
    """What an export has written, and what its check has found.

    Parameters
    ----------
    files : tuple of Path
        The one to give to the engine first.
    n_frames : int
        Training frames that it was checked on.
    value_error, gradient_error : float
        Largest difference from JAX in double precision; of derivatives as a share of the largest.
    deviation : float
        Largest difference of a latent coordinate from what `encode` gives, because of what the engine's file formats
        round; as a share of its standard deviation over the training frames.
    """

    files: tuple[Path, ...]
    n_frames: int
    value_error: float
    gradient_error: float
    deviation: float = 0.0

    def __str__(self) -> str:
        rounded = (
            f"; off the model's own values by up to {self.deviation:.1e} standard deviations, since the file rounds"
            if self.deviation
            else ""
        )
        return (
            f"wrote {', '.join(map(str, self.files))}\nchecked on {self.n_frames} training frames, turned and moved: "
            f"values differ by {self.value_error:.1e}, gradients by {self.gradient_error:.1e} of the largest{rounded}"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """Frames to check an export on.

    Parameters
    ----------
    whole : (n_frames, n_atoms, 3), nm
        Of the model's atoms.
    box : (3,), nm
        Sides of a periodic cell with room for them.
    system : System
    """

    whole: Frames
    box: Float[np.ndarray, "3"]
    system: System

    def among_all(self, *, split: bool) -> Frames:
        """The same among all atoms of an engine, (n_frames, n_atoms_in_file, 3), split by the periodic box or whole."""
        found = np.zeros((len(self.whole), self.system.n_atoms_in_file, 3))
        found[:, self.system.atom_indices] = self.whole - split * self.box * np.floor(self.whole / self.box)
        return found


def trial(model: Model) -> Trial:
    """Some of a model's training frames, turned and moved at random, the same ones each time.

    Parameters
    ----------
    model : Model
        With training frames.
    """
    whole = moved_frames(model, _N_FRAMES)
    extent = np.linalg.norm(np.ptp(whole, axis=1), axis=1).max()
    return Trial(whole, np.full(3, _ROOM * extent), model.system)


def compare(cv: CollectiveVariable, frames: Trial, values: Latents, jacobians: Jacobians) -> tuple[float, float]:
    """Largest differences of values, and of derivatives as a share of the largest.

    Parameters
    ----------
    cv : CollectiveVariable
        What should come out.
    frames : Trial
    values : (n_frames, latent_dim)
    jacobians : (n_frames, latent_dim, n_atoms_in_file, 3), 1/nm
        Zero for all atoms that are not the model's.

    Returns
    -------
    value_error, gradient_error : float
    """
    double, chosen = in_double(cv), frames.system.atom_indices
    value_error, gradient_error, largest = 0.0, 0.0, 0.0
    for frame, z, jacobian in zip(frames.whole, values, jacobians, strict=True):
        expected, of_chosen = double(frame)
        slopes = np.zeros_like(jacobian)
        slopes[:, chosen] = of_chosen
        # NumPy's maximum, unlike Python's, passes NaN on.
        value_error = np.maximum(value_error, np.abs(z - expected).max())
        gradient_error = np.maximum(gradient_error, np.abs(jacobian - slopes).max())
        largest = np.maximum(largest, np.abs(slopes).max())
    return float(value_error), float(gradient_error / largest)


def check(engine: str, path: Path, *errors: float) -> None:
    """Refuse an export that is not the model's coordinate.

    Raises
    ------
    ValueError
    """
    # Written so that NaN is refused as well.
    if not all(error <= TOLERANCE for error in errors):
        raise ValueError(
            f"the {engine} file does not give the model's coordinate: values and gradients are off by "
            f"{' and '.join(f'{error:.1e}' for error in errors)}, more than {TOLERANCE}; {path} was not written. This "
            "is a defect of mdvae, or angles or poses of training frames are not defined"
        )


def deviation(model: Model, frames: Trial, values: Latents, spread: Float[np.ndarray, " latent_dim"]) -> float:
    """How far values of a coordinate with rounded numbers are off the model's, in standard deviations.

    Parameters
    ----------
    model : Model
    frames : Trial
    values : (n_frames, latent_dim)
        What the engine gives.
    spread : (latent_dim,)
        Standard deviations over the training frames.
    """
    cv = jax.jit(jax.vmap(collective_variable(model)))
    with jax.enable_x64(True):
        ours = np.asarray(cv(frames.whole))
    return float((np.abs(values - ours) / spread).max())


def write(texts: dict[Path, str]) -> tuple[Path, ...]:
    """Write files that belong together; the first comes last, so that it never stands without the others.

    Files beside the first are named by it, and their names were not asked for: one that is there already is replaced
    only if the first one is, too, and names it.

    Parameters
    ----------
    texts : dict
        From path to content.

    Returns
    -------
    tuple of Path

    Raises
    ------
    ValueError
        If a file beside the first is there already and is not of an earlier export.
    """
    check_companions(*texts)
    with contextlib.ExitStack() as stack:
        # All of them are written before any takes its place.
        for path, text in texts.items():
            stack.enter_context(replacing(path)).write_text(text, "utf-8")
    return tuple(texts)


def check_companions(path: Path, *companions: Path) -> None:
    """Refuse to replace what the user has not named and no earlier export has made.

    Raises
    ------
    ValueError
    """
    before = path.read_text("utf-8", errors="replace") if path.is_file() else ""
    for companion in companions:
        if companion.exists() and companion.name not in before:
            raise ValueError(
                f"{companion} would be written beside {path}, and is there already, but not of an earlier export; "
                "choose another name"
            )
