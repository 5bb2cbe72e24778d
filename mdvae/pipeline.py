"""From a source to a fitted model and its figures."""

import contextlib
import dataclasses
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.console import Console

from mdvae import plots
from mdvae._files import replacing
from mdvae.latent import encode_chunks, generate
from mdvae.latent.encoding import encode_posed
from mdvae.model import Model, build
from mdvae.spec import Spec
from mdvae.training import check_settings, train
from mdvae.trajectory import Chunk, Frames, read

_log = logging.getLogger("mdvae")

# Generated conformations behind the figures: enough for smooth histograms.
_N_SHOWN = 2000


def fit(
    source: Any,
    *,
    top: Any = None,
    select: str | None = None,
    atom_indices: Sequence[int] | None = None,
    stride: int = 1,
    chunk: int | None = None,
    length_unit: str | None = None,
    periodic: bool = True,
    center: str = "mass",
    alignment: str = "superposition",
    latent_dim: int = 2,
    hidden: Sequence[int] = (256, 256, 256),
    activation: str = "silu",
    likelihood: str = "gaussian",
    width: float | None = None,
    beta: float = 1.0,
    epochs: int | None = None,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    warmup_epochs: int = 0,
    validation_fraction: float = 0.1,
    patience: int | None = None,
    seed: int = 0,
    figures: str | os.PathLike | None = None,
    progress: bool = True,
) -> Model:
    """Read, build and train: the short way from trajectory files to a model.

    Parameters
    ----------
    source : path, mdtraj.Trajectory, array (n_frames, n_atoms, 2 or 3), or a list of any of these
        Members of a list are separate trajectories.
    top, select, atom_indices, stride, chunk, length_unit, periodic, center, alignment
        How to read it: see `read`.
    latent_dim, hidden, activation, likelihood, width
        What to build: see `Spec`.
    beta, epochs, batch_size, learning_rate, warmup_epochs, validation_fraction, patience
        How to train it: see `train`.
    seed : int
        One seed, one model: bit for bit on the same machine.
    figures : path, optional
        Folder for figures of what was learned; made if need be.
    progress : bool
        Show a progress bar (on a terminal only).

    Returns
    -------
    Model
        Ctrl-C during training returns the best so far, with ``history.interrupted``. What was found while reading
        is told to the logger "mdvae" and kept in ``settings["reading"]``.

    Raises
    ------
    ValueError, TypeError, OSError
        For bad input, in one line.
    FloatingPointError
        If the loss stops being finite.

    Examples
    --------
    >>> model = mdvae.fit("run.xtc", top="protein.pdb", select="name CA", latent_dim=2)  # doctest: +SKIP
    """
    shape = {"latent_dim": latent_dim, "hidden": tuple(hidden), "activation": activation}
    shape |= {"likelihood": likelihood, "width": width}
    schedule = {"beta": beta, "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    schedule |= {"warmup_epochs": warmup_epochs, "validation_fraction": validation_fraction, "patience": patience}
    # A misspelled option should not cost the reading of a long file: ask for what does not depend on it first.
    Spec(n_atoms=10**9, dim=3, alignment=alignment, **shape)
    check_settings(**schedule)
    with _counting(progress) as count:
        frames = read(
            source,
            top=top,
            select=select,
            atom_indices=atom_indices,
            stride=stride,
            chunk=chunk,
            length_unit=length_unit,
            periodic=periodic,
            center=center,
            alignment=alignment,
            progress=count,
        )
    _log.info("%s", frames.report)
    model = train(build(frames, seed=seed, **shape), frames, **schedule, seed=seed, progress=progress)
    model = dataclasses.replace(model, settings=model.settings | {"center": center, "reading": str(frames.report)})
    if figures is not None:
        draw_figures(model, frames, figures)
    return model


@contextlib.contextmanager
def _counting(enabled: bool) -> Iterator[Callable[[int], None]]:
    """Frames read so far, in a line that goes away; nothing where standard error is not a terminal."""
    if not (enabled and sys.stderr.isatty()):
        yield lambda n_frames: None
        return
    with Console(stderr=True).status("reading") as status:
        yield lambda n_frames: status.update(f"reading: {n_frames} frames")


def draw_figures(model: Model, frames: Frames, folder: str | os.PathLike, *, noise: bool = False) -> list[Path]:
    """Draw a trained model beside the frames it was trained on.

    Loss curves, latent trajectory coloured by time, training beside generated conformations, and marginals of
    pair distances.

    Parameters
    ----------
    model : Model
    frames : Frames
    folder : path
        Made if need be.
    noise : bool
        Whether the generated conformations are samples of the likelihood: see `generate`.

    Returns
    -------
    list of Path
    """
    if model.history is None:
        raise ValueError("this model has not been trained: there is nothing to draw")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    unit, dim = model.system.unit, model.system.dim
    training = frames.coordinates[:: max(1, len(frames.coordinates) // _N_SHOWN)]
    generated = np.asarray(generate(model, _N_SHOWN, noise=noise, seed=0).xyz)[..., :dim]
    # Reduced units have no picoseconds.
    time = frames.time if unit == "nm" else None
    drawn = {
        "loss.png": plots.loss_curves(model.history),
        "latent.png": plots.latent_trajectory(encode_posed(model, frames.coordinates), time=time),
        "conformations.png": plots.conformations(training, generated, model.system.links, unit=unit),
        "distances.png": plots.distance_marginals(training, generated, unit=unit),
    }
    for name, figure in drawn.items():
        plots.save_figure(figure, folder / name)
    return [folder / name for name in drawn]


def write_latents(model: Model, source: Any, path: str | os.PathLike, **reading) -> int:
    """Encode a source and write its latent trajectory.

    Parameters
    ----------
    model : Model
    source : as for `encode`
    path : path
        ``.npy``: the array (n_frames, latent_dim). ``.csv``: columns trajectory, frame, time, z1, z2, ... Any other
        name: a PLUMED COLVAR file. Time is in ps; where the trajectory holds none, it is the number of the frame.
    **reading
        As for `encode`.

    Returns
    -------
    int
        Frames written.
    """
    origin, time, z = _latent_table(encode_chunks(model, source, **reading))
    names = [f"z{i + 1}" for i in range(z.shape[1])]
    with replacing(path) as temporary:
        if Path(path).suffix == ".npy":
            np.save(temporary, z)
        elif Path(path).suffix == ".csv":
            table = np.column_stack([origin, time, z])
            formats = ["%d", "%d", "%.10g"] + ["%.9g"] * z.shape[1]
            header = ",".join(["trajectory", "frame", "time", *names])
            np.savetxt(temporary, table, fmt=formats, delimiter=",", header=header, comments="")
        else:
            header = " ".join(["#! FIELDS", "time", *names])
            np.savetxt(temporary, np.column_stack([time, z]), fmt="%.9g", header=header, comments="")
    return len(z)


def _latent_table(chunks: Iterable[tuple[Chunk, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trajectory and frame numbers (n, 2), times (n,), and latent points (n, latent_dim)."""
    origins, times, points, done = [], [], [], Counter()
    for chunk, z in chunks:
        frame = done[chunk.trajectory] + np.arange(len(z))
        done[chunk.trajectory] += len(z)
        origins.append(np.column_stack([np.full(len(z), chunk.trajectory), frame]))
        times.append(frame.astype(float) if chunk.time is None else chunk.time)
        points.append(z)
    return np.concatenate(origins), np.concatenate(times), np.concatenate(points)


def read_latents(path: str | os.PathLike) -> Float[np.ndarray, "n_frames latent_dim"]:
    """Latent points from an ``.npy`` file.

    Parameters
    ----------
    path : path

    Returns
    -------
    (n_frames, latent_dim)

    Raises
    ------
    ValueError, OSError
        If there is no such array.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of latent points at {path}")
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not an .npy array of latent points ({error})") from error
