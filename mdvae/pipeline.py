"""From a source to a fitted model and its figures."""

import contextlib
import dataclasses
import logging
import operator
import os
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mdvae import plots
from mdvae._compiled import keep_compiled
from mdvae._files import replacing
from mdvae._keys import key_for
from mdvae._memory import picked
from mdvae._types import Number, Whole
from mdvae.augmentation import check_augmentation
from mdvae.latent import Minimum, encode_chunks, generate, minimize
from mdvae.latent.encoding import encode_posed
from mdvae.model import Model, build
from mdvae.observables import radius_of_gyration
from mdvae.spec import ENCODE_ONLY, Spec
from mdvae.training import Settings, check_not_negative, check_way_back, train_ensemble
from mdvae.trajectory import Chunk, Frames, check_temperature, is_bias, read
from mdvae.vae import evenly

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger("mdvae")
_WHICH = ["time", "trajectory"]

# Generated conformations behind the figures: enough for smooth histograms.
_N_SHOWN = 2000
# A search that a figure can wait for, also for a protein.
_SHORT_STARTS, _SHORT_STEPS = 16, 100


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
    representation: str = "cartesian",
    features: Sequence[str] | None = None,
    contact_radius: Number | None = None,
    latent_dim: Whole = 2,
    hidden: Sequence[int] = (256,) * 6,
    activation: str = "silu",
    residual: bool = True,
    likelihood: str | None = None,
    width: Number | None = None,
    rank: Whole | None = None,
    posterior: str = "diagonal",
    prior: str = "standard_normal",
    n_components: Whole | None = None,
    beta: Number = 1.0,
    epochs: Whole | None = None,
    batch_size: Whole | None = None,
    learning_rate: Number = 1e-3,
    warmup_epochs: Whole = 0,
    n_cycles: Whole = 0,
    free_bits: Number = 0.0,
    importance_samples: Whole = 1,
    lagtime: Whole = 0,
    vamp_weight: Number = 0.0,
    weights: Any = None,
    temperature: Number | None = None,
    strain_weight: Number = 0.0,
    augment: Iterable[str] | None = None,
    validation_fraction: Number = 0.1,
    patience: Whole | None = None,
    n_devices: Whole = 1,
    n_models: Whole = 1,
    cache: str | os.PathLike | None = None,
    scratch: str | os.PathLike = ".",
    seed: Whole = 0,
    figures: str | os.PathLike | None = None,
    progress: bool = True,
) -> Model:
    """Read, build and train: the short way from trajectory files to a model.

    Parameters
    ----------
    source : path, mdtraj.Trajectory, MDAnalysis Universe or AtomGroup, array (n_frames, n_atoms, 2 or 3), or a list
        Members of a list are separate trajectories.
    top, select, atom_indices, stride, chunk, length_unit, periodic, center, alignment
        How to read it: see `read`.
    representation, features, contact_radius, latent_dim, hidden, activation, residual, likelihood, width, rank, \
posterior, prior, n_components
        What to build: see `Spec`.
    beta, epochs, batch_size, learning_rate, warmup_epochs, n_cycles, free_bits, importance_samples, lagtime, \
vamp_weight, validation_fraction, patience, n_devices
        How to train it: see `Settings`. `lagtime` is in frames that were read: with a ``stride`` of 10 it counts every
        tenth.
    weights, temperature
        How much each frame counts, by numbers or by the bias of its simulation: see `read`. A bias goes with no
        `lagtime`: it changes how fast things happen, which no weight undoes.
    strain_weight, augment
        See `train`.
    n_models : int
        With more than one, as many are built and trained with successive seeds, up to eight at a time, or as many as
        the machine has cores; what is returned is the one that does best on the held-out frames, and its
        ``settings["ensemble"]`` says how the others did. See `train_ensemble` for all of them.
    cache : path, optional
        Folder that keeps the posed frames for the next time: see `read`. Training streams them from there; memory holds
        a few blocks of 64 MB for each model that is being trained.
    scratch : path
        Folder for frames that are too large for memory, where there is no ``cache``; nothing is left there.
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
        If the loss stops being finite, of any of several models.

    Examples
    --------
    >>> model = mdvae.fit("run.xtc", top="protein.pdb", select="name CA", latent_dim=2)  # doctest: +SKIP
    """
    shape = {"representation": representation, "latent_dim": latent_dim, "hidden": hidden, "activation": activation}
    shape |= {"residual": residual, "likelihood": likelihood, "width": width, "rank": rank}
    shape |= {"posterior": posterior, "prior": prior, "n_components": n_components}
    shape |= {"features": features, "contact_radius": contact_radius}
    schedule = {"beta": beta, "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    schedule |= {"warmup_epochs": warmup_epochs, "n_cycles": n_cycles, "free_bits": free_bits}
    schedule |= {"importance_samples": importance_samples, "lagtime": lagtime, "vamp_weight": vamp_weight}
    schedule |= {"validation_fraction": validation_fraction, "patience": patience, "n_devices": n_devices}
    besides = {"strain_weight": strain_weight, "augment": check_augmentation(augment)}
    # A misspelled option should not cost the reading of a long file: ask for what does not depend on it first.
    if figures is not None:
        Path(figures).mkdir(parents=True, exist_ok=True)
    key_for("fit", seed)
    Spec(n_atoms=10**9, dim=3, alignment=alignment, **shape)
    Settings(**schedule)
    check_not_negative("strain_weight", strain_weight)
    check_way_back(representation not in ENCODE_ONLY, strain_weight, besides["augment"])
    check_temperature(weights, temperature)
    if lagtime and is_bias(weights):
        raise ValueError(
            f"lagtime={lagtime} with the bias of a simulation as weights: they undo what it visited, not how fast it "
            "moved; train without a lagtime, or on frames of unbiased runs"
        )
    keep_compiled()
    if isinstance(n_models, bool) or not hasattr(n_models, "__index__"):
        raise TypeError(f"n_models must be a whole number, got {n_models!r}")
    if n_models < 1:
        raise ValueError(f"n_models must be at least 1, got {n_models}")
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
            cache=cache,
            scratch=scratch,
            weights=weights,
            temperature=temperature,
            progress=count,
        )
    _log.info("%s", frames.report)
    untrained = [build(frames, seed=operator.index(seed) + i, **shape) for i in range(n_models)]
    models = train_ensemble(untrained, frames, **schedule, **besides, seed=seed, progress=progress)
    model = _best(models, len(untrained))
    model = dataclasses.replace(model, settings=model.settings | {"reading": str(frames.report)})
    if figures is not None:
        try:
            with working(progress, "drawing figures"):
                draw_figures(model, frames, figures)
        except (OSError, KeyboardInterrupt) as error:
            # A picture is not worth a trained model.
            warnings.warn(f"not all figures could be drawn in {figures}: {str(error) or 'interrupted'}", stacklevel=2)
    return model


def _best(models: list[Model], n_models: int) -> Model:
    """The one that does best on the held-out frames, with a record of how all of them did."""
    histories = [model.history for model in models if model.history is not None]
    losses = [history.best()["validation_loss"] for history in histories]
    index = int(np.argmin(losses))
    best, history = models[index], histories[index]
    if n_models == 1:
        return best
    interrupted = len(models) < n_models or any(one.interrupted for one in histories)
    if interrupted and not history.interrupted:
        history = dataclasses.replace(history, stopped=f"interrupted in another of {n_models} models")
    return dataclasses.replace(best, history=history, settings=best.settings | {"ensemble": losses})


@contextlib.contextmanager
def _counting(enabled: bool) -> Iterator[Callable[[int], None]]:
    """Frames read so far."""
    with working(enabled, "reading") as say:
        yield lambda n_frames: say(f"reading and aligning: {n_frames} frames")


@contextlib.contextmanager
def working(enabled: bool, text: str) -> Iterator[Callable[[str], None]]:
    """Show what goes on, and for how long, in a line that goes away; nothing where standard error is not a terminal.

    Parameters
    ----------
    enabled : bool
    text : str

    Yields
    ------
    callable
        Replaces the text.
    """
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    disable = not (enabled and sys.stderr.isatty())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=disable) as progress:
        task = progress.add_task(text, total=None)
        yield lambda text: progress.update(task, description=text)


def draw_figures(
    model: Model,
    frames: Frames,
    folder: str | os.PathLike,
    *,
    noise: bool = False,
    compact: Minimum | None = None,
) -> list[Path]:
    """Draw a trained model beside the frames it was trained on.

    Loss curves, latent trajectory coloured by time, training beside generated conformations, marginals of pair
    distances, the search for the most compact structure, and that structure beside the most compact training frame
    (left out where no valid one was found). Of a model that only encodes the first two; the logger "mdvae" is told so.

    Parameters
    ----------
    model : Model
    frames : Frames
    folder : path
        Made if need be.
    noise : bool
        Whether the generated conformations are samples of the likelihood: see `generate`.
    compact : Minimum, optional
        Search for the smallest radius of gyration; a short one is made if it is left out.

    Returns
    -------
    list of Path
    """
    if model.history is None:
        raise ValueError("this model has not been trained: there is nothing to draw")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Reduced units have no picoseconds.
    time = frames.time if model.system.unit == "nm" else None
    run = np.repeat(np.arange(len(frames.lengths)), frames.lengths)
    drawn = {
        "loss.png": plots.loss_curves(model.history),
        "latent.png": plots.latent_trajectory(encode_posed(model, frames.coordinates), time=time, trajectory=run),
    }
    if model.representation.invertible:
        drawn |= _structure_figures(model, frames, noise, compact)
    else:
        _log.info("figures of structures are left out: the model only encodes")
    for name, figure in drawn.items():
        plots.save_figure(figure, folder / name)
    return [folder / name for name in drawn]


def _structure_figures(model: Model, frames: Frames, noise: bool, compact: Minimum | None) -> "dict[str, Figure]":
    """Figures of what the model generates and finds, beside training frames."""
    unit, dim = model.system.unit, model.system.dim
    if frames.weights is None:
        training = frames.coordinates[:: max(1, len(frames.coordinates) // _N_SHOWN)]
    else:
        training = picked(frames.coordinates, evenly(len(frames.coordinates), frames.weights))
    generated = np.asarray(generate(model, _N_SHOWN, noise=noise, seed=0).xyz)[..., :dim]
    if compact is None:
        compact = minimize(model, radius_of_gyration, n_starts=_SHORT_STARTS, n_steps=_SHORT_STEPS)
    return {
        "conformations.png": plots.conformations(training, generated, model.system.links, unit=unit),
        "distances.png": plots.distance_marginals(training, generated, unit=unit),
        **_compact_figures(model, compact),
    }


def _compact_figures(model: Model, compact: Minimum) -> "dict[str, Figure]":
    """Figures of a search for the smallest radius of gyration."""
    unit, dim = model.system.unit, model.system.dim
    reference = compact.best_valid_training_value
    search = plots.search_path(
        compact.paths,
        reference if np.isfinite(reference) else None,
        answer=compact.index if compact.found else None,
        valid=compact.valid,
        unit=unit,
    )
    if not compact.found:
        return {"search.png": search}
    best, answer = (np.asarray(found.xyz)[0, :, :dim] for found in (compact.best_training, compact.trajectory))
    values = (compact.best_training_value, compact.value)
    pair = plots.compact_structures(best, answer, model.system.links, values, unit=unit)
    return {"search.png": search, "compact.png": pair}


def write_latents(model: Model, source: Any, path: str | os.PathLike, **reading) -> int:
    """Encode a source and write its latent trajectory.

    Parameters
    ----------
    model : Model
    source : as for `encode`
    path : path
        ``.npy``: the array (n_frames, latent_dim). ``.csv``: columns trajectory, frame, time, z1, z2, ... Any other
        name: a PLUMED COLVAR file, with a column for the trajectory if there are several. Time is in ps; where a
        trajectory holds none, it is the number of the frame in its file, counted from 0.
    **reading
        As for `encode`.

    Returns
    -------
    int
        Frames written.
    """
    _check_other(path, source)
    origin, time, z = latent_table(encode_chunks(model, source, **reading))
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
            # Times start again with each trajectory: with several of them, say which.
            columns, labels = ([time, z], ["time"]) if not origin[:, 0].any() else ([time, origin[:, 0], z], _WHICH)
            header = " ".join(["#! FIELDS", *labels, *names])
            np.savetxt(temporary, np.column_stack(columns), fmt="%.9g", header=header, comments="")
    return len(z)


def latent_table(chunks: Iterable[tuple[Chunk, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trajectory and frame numbers (n, 2), times (n,), and latent points (n, latent_dim), of `encode_chunks`."""
    origins, times, points = [], [], []
    for chunk, z in chunks:
        origins.append(np.column_stack([np.full(len(z), chunk.trajectory), chunk.frames]))
        times.append(chunk.time)
        points.append(z)
    origin = np.concatenate(origins)
    # Picoseconds of some trajectories and frame numbers of others would not go together in one column.
    timed = not any(time is None for time in times)
    return origin, np.concatenate(times) if timed else origin[:, 1].astype(float), np.concatenate(points)


def _check_other(path: str | os.PathLike, source: Any) -> None:
    """Refuse to write over what is read."""
    for one in source if isinstance(source, list | tuple) else [source]:
        is_file = isinstance(one, str | os.PathLike) and Path(one).exists()
        if is_file and Path(path).exists() and Path(path).samefile(one):
            raise ValueError(f"{path} is read here; choose another name for the output")


def read_latents(path: str | os.PathLike) -> Float[np.ndarray, "n_frames latent_dim"]:
    """Latent points from a file that `write_latents` wrote.

    Parameters
    ----------
    path : path
        ``.npy``, ``.csv``, or a PLUMED COLVAR file; of the latter two the columns z1, z2, ...

    Returns
    -------
    (n_frames, latent_dim)

    Raises
    ------
    ValueError, OSError
        If there are no such points.
    """
    return _read_latents(Path(path))[0]


def read_latent_trajectories(
    path: str | os.PathLike, dims: Sequence[int] | None = None
) -> list[Float[np.ndarray, "_ n_dims"]]:
    """Latent points as `read_latents` gives them, each trajectory by itself.

    Parameters
    ----------
    path : path
        As for `read_latents`; where a column says which trajectory a frame is of, the file is divided by it.
    dims : sequence of int, optional
        The latent coordinates to take, counted from 0; all of them if left out.

    Returns
    -------
    list of (n_i, n_dims)

    Raises
    ------
    ValueError, OSError
        If there are no such points, or coordinates.
    """
    z, run = _read_latents(Path(path))
    if dims is not None:
        n = z.shape[1] if z.ndim == 2 else 1
        if not all(0 <= dim < n for dim in dims):
            raise ValueError(f"{path} has {n} latent coordinates, asked for was {', '.join(f'z{d + 1}' for d in dims)}")
        z = z.reshape(len(z), n)[:, list(dims)]
    return [z] if run is None else np.split(z, np.flatnonzero(np.diff(run)) + 1)


# As `write_latents` names them, as PLUMED names those of an exported model, and as pycv does.
_LATENT = re.compile(r"z\d+|.+\.node-\d+|.+\.py-z\d+")


def _read_latents(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Points, and which trajectory each is of."""
    if not path.is_file():
        raise FileNotFoundError(f"no file of latent points at {path}")
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False), None
        with path.open() as file:
            header = file.readline().replace("#! FIELDS", "").replace(",", " ").split()
            columns = [i for i, name in enumerate(header) if _LATENT.fullmatch(name)]
            if not columns:
                raise ValueError("none of its columns is that of a latent coordinate")
            which = [i for i, name in enumerate(header) if name == "trajectory"]
            delimiter = "," if path.suffix == ".csv" else None
            table = np.loadtxt(file, delimiter=delimiter, usecols=columns + which, ndmin=2)
            return table[:, : len(columns)], table[:, -1] if which else None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        expected = "a .npy array, or columns z1, z2, ... (or cv.node-0, ...) in a .csv or COLVAR file"
        raise ValueError(f"{path} holds no latent points; expected {expected}") from error
