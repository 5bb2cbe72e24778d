"""The command line: arguments to one public call each."""

import contextlib
import enum
import functools
import logging
import os
import re
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Annotated, Any

import typer

# Keyword arguments of the library that are options here.
_OPTIONS = (
    "top", "select", "stride", "chunk", "length_unit", "center", "alignment", "representation", "latent_dim",
    "activation", "likelihood", "width", "rank", "beta", "epochs", "batch_size", "learning_rate", "patience",
    "n_starts", "n_steps", "method", "restore", "strain_weight", "prior", "posterior", "contact_radius",
    "n_components", "n_cycles", "free_bits", "importance_samples", "augment", "n_samples",
    "n_devices", "n_models", "cache", "n_generated", "lagtime", "n_bins", "fewest",
    "vamp_weight", "weights", "temperature",
)  # fmt: skip
# What shells expect of a program that SIGINT has ended.
_INTERRUPTED = 130

app = typer.Typer(
    name="mdvae",
    help="Latent coordinates, new conformations and latent optimization from molecular-dynamics trajectories.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class LengthUnit(enum.StrEnum):
    """Unit of the numbers in array files."""

    nm = "nm"
    angstrom = "angstrom"
    reduced = "reduced"


class Alignment(enum.StrEnum):
    """How every frame is turned into a common pose."""

    superposition = "superposition"
    principal = "principal"
    none = "none"


class Center(enum.StrEnum):
    """What every frame is centered on."""

    mass = "mass"
    geometry = "geometry"


class Representation(enum.StrEnum):
    """What the networks see of a frame."""

    cartesian = "cartesian"
    internal = "internal"
    distances = "distances"
    chosen = "chosen"


class Likelihood(enum.StrEnum):
    """How the decoder's output is compared with a frame."""

    gaussian = "gaussian"
    isotropic_gaussian = "isotropic_gaussian"
    low_rank_gaussian = "low_rank_gaussian"
    fixed_gaussian = "fixed_gaussian"
    squared_error = "squared_error"


class Posterior(enum.StrEnum):
    """Covariance of what the encoder gives."""

    diagonal = "diagonal"
    full = "full"


class Prior(enum.StrEnum):
    """Distribution of latent points that a model holds."""

    standard_normal = "standard_normal"
    mixture = "mixture"
    vamp = "vamp"
    flow = "flow"


class Origin(enum.StrEnum):
    """Where the latent points of generated structures come from."""

    model = "model"
    aggregate_posterior = "aggregate_posterior"


class Engine(enum.StrEnum):
    """What an exported coordinate is written for."""

    plumed = "plumed"
    colvars = "colvars"
    pycv = "pycv"
    portable = "portable"


class Method(enum.StrEnum):
    """Optimizer of a latent search."""

    adam = "adam"
    lbfgs = "l-bfgs"


Sources = Annotated[list[Path], typer.Argument(help="Trajectory files, any that mdtraj reads, or .npy/.npz arrays.")]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="Model file, as written by 'mdvae fit'.")]
Top = Annotated[Path | None, typer.Option(help="Topology (PDB, GRO, ...), where the trajectory holds none.")]
Stride = Annotated[int, typer.Option(help="Read every n-th frame.")]
Chunk = Annotated[int | None, typer.Option(help="Frames read at once; chosen by size if left out.")]
Unit = Annotated[LengthUnit | None, typer.Option(help="Unit of array files; nm if left out.")]
Periodic = Annotated[bool, typer.Option(help="Make molecules whole that the periodic box has split.")]
Seed = Annotated[int, typer.Option(help="One seed, one result.")]
Restore = Annotated[
    bool, typer.Option(help="Move decoded structures to the nearest ones with the bonds and contacts of the data.")
]
Noise = Annotated[bool, typer.Option("--noise", help="Sample the likelihood instead of taking its mean.")]
Generated = Annotated[int | None, typer.Option(help="Structures to generate; 5000, or fewer large ones, if left out.")]
Lagtime = Annotated[int | None, typer.Option(help="Of the kinetic scores, in frames; chosen by length if left out.")]
Weights = Annotated[
    list[str] | None,
    typer.Option(help="Of the frames: w.npy, or a bias such as COLVAR:metad.rbias; again for each trajectory."),
]
Temperature = Annotated[float | None, typer.Option(help="In K, where --weights is a bias.")]
Components = Annotated[int | None, typer.Option(help="Of the prior 'mixture' or 'vamp'; 32 if left out.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but warnings and errors.")]


def _verb(function: Callable) -> Callable:
    """Make a function a command whose errors are one line and an exit code."""

    @functools.wraps(function)
    def guarded(*arguments, **options) -> None:
        try:
            function(*arguments, **options)
        except KeyboardInterrupt:
            typer.echo("mdvae: interrupted; nothing is left half-written", err=True)
            raise typer.Exit(_INTERRUPTED) from None
        except typer.Exit:
            raise  # a RuntimeError by birth, but no error
        except BrokenPipeError:
            # Whoever read the output has had enough of it; Python must not try to flush the rest.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (ValueError, TypeError, OSError, ArithmeticError, MemoryError, RuntimeError, ImportError) as error:
            typer.echo(f"mdvae: error: {_in_words(error)}", err=True)
            raise typer.Exit(1) from None

    return app.command()(guarded)


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(version_of("mdvae"))
        raise typer.Exit


@_verb
def demo(
    folder: Annotated[Path, typer.Option("--output", "-o", help="Folder for all that it makes.")] = Path("mdvae-demo"),
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Simulate a polymer, learn it, search it: a first look."""
    _engine()
    from mdvae.demo import run

    _say(quiet, run(folder, seed=seed, progress=not quiet))


@_verb
def fit(
    sources: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file to write, such as run.mdvae.")],
    top: Top = None,
    select: Annotated[str | None, typer.Option(help="Atoms, in mdtraj's language: 'protein and name CA'.")] = None,
    atom_indices: Annotated[
        str | None, typer.Option(help="Atoms by number, from 0, such as 4,6,8; or --select.")
    ] = None,
    stride: Stride = 1,
    chunk: Chunk = None,
    length_unit: Unit = None,
    periodic: Periodic = True,
    center: Annotated[Center, typer.Option(help="Center on the center of mass, or of geometry.")] = Center.mass,
    alignment: Annotated[
        Alignment, typer.Option(help="Turn frames onto the mean structure, onto their own principal axes, or not.")
    ] = Alignment.superposition,
    representation: Annotated[
        Representation,
        typer.Option(
            help="Learn positions, or distances, angles and dihedral angles; or, for a coordinate alone, all pair "
            "distances or chosen features."
        ),
    ] = Representation.cartesian,
    features: Annotated[
        list[str] | None,
        typer.Option(
            "--feature",
            help="For --representation chosen: phi, psi, omega, chi1, 'phi ALA2', 'torsion 4 6 8 14', 'distance 0 9', "
            "'contact 3 12', atoms counted from 0 among the selected ones; repeat it.",
        ),
    ] = None,
    contact_radius: Annotated[
        float | None, typer.Option(help="Where a contact counts one half, in nm or reduced units; 0.45 if left out.")
    ] = None,
    latent_dim: Annotated[int, typer.Option(help="Number of latent coordinates.")] = 2,
    hidden: Annotated[str, typer.Option(help="Widths of the hidden layers.")] = "256,256,256,256,256,256",
    activation: Annotated[str, typer.Option(help="silu, tanh, softplus or gelu.")] = "silu",
    likelihood: Annotated[
        Likelihood | None,
        typer.Option(help="What is learned of the noise; isotropic_gaussian if left out, gaussian if not cartesian."),
    ] = None,
    width: Annotated[float | None, typer.Option(help="Width of fixed_gaussian, in nm or reduced units.")] = None,
    rank: Annotated[int | None, typer.Option(help="Shared displacements in the noise of low_rank_gaussian.")] = None,
    posterior: Annotated[Posterior, typer.Option(help="Latent coordinates independent in the posterior, or not.")] = (
        Posterior.diagonal
    ),
    prior: Annotated[Prior, typer.Option(help="Where latent points come from; all but the first are learned.")] = (
        Prior.standard_normal
    ),
    n_components: Components = None,
    beta: Annotated[float, typer.Option(help="Weight of the KL divergence.")] = 1.0,
    epochs: Annotated[int | None, typer.Option(help="Most epochs; chosen by the number of frames if left out.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Frames in one step; by their number if left out.")] = None,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate of Adam.")] = 1e-3,
    warmup_epochs: Annotated[int, typer.Option(help="Epochs over which beta rises from 0.")] = 0,
    n_cycles: Annotated[int, typer.Option(help="How often beta rises from 0, in place of --warmup-epochs.")] = 0,
    free_bits: Annotated[float, typer.Option(help="Nats a latent dimension that cost nothing.")] = 0.0,
    importance_samples: Annotated[int, typer.Option(help="Samples of the importance-weighted bound.")] = 1,
    lagtime: Annotated[int, typer.Option(help="Decode to the frame so many frames later, for slow coordinates.")] = 0,
    vamp_weight: Annotated[
        float, typer.Option(help="With --lagtime: weight of how slow coordinates are; try 100.")
    ] = 0.0,
    weights: Weights = None,
    temperature: Temperature = None,
    strain_weight: Annotated[float, typer.Option(help="Weight of broken bonds and angles in training.")] = 0.0,
    augment: Annotated[
        list[str] | None,
        typer.Option(help="mirror, reversal, rotation=DEGREES, noise=LENGTH: changes of training frames; repeat it."),
    ] = None,
    validation_fraction: Annotated[
        float,
        typer.Option(help="Share of frames held out: whole trajectories where there are many, else blocks of time."),
    ] = 0.1,
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without progress.")] = None,
    n_devices: Annotated[int, typer.Option(help="Accelerators of this machine that share each batch.")] = 1,
    n_models: Annotated[int, typer.Option(help="Train so many, with successive seeds, and keep the best.")] = 1,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps the posed frames for the next time; training streams them.")
    ] = None,
    seed: Seed = 0,
    figures: Annotated[Path | None, typer.Option(help="Folder for figures of what was learned.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train a model on trajectories.

    mdvae fit run.xtc --top protein.pdb --select "name CA" -o run.mdvae
    """
    _check_output(output, [*sources, top])
    if figures is not None and figures.exists() and not figures.is_dir():
        raise NotADirectoryError(f"--figures {figures} is a file; expected a folder")
    mdvae = _engine()
    _check_model_name(mdvae, output)
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
    _show_log(quiet)
    with _interrupts() as interrupts:
        model = mdvae.fit(
            _one_or_many(sources),
            top=top,
            select=select,
            atom_indices=None if atom_indices is None else _whole_numbers("--atom-indices", atom_indices),
            stride=stride,
            chunk=chunk,
            length_unit=length_unit,
            periodic=periodic,
            center=center.value,
            alignment=alignment.value,
            representation=representation.value,
            features=features,
            contact_radius=contact_radius,
            latent_dim=latent_dim,
            hidden=_whole_numbers("--hidden", hidden),
            activation=activation,
            likelihood=None if likelihood is None else likelihood.value,
            width=width,
            rank=rank,
            posterior=posterior.value,
            prior=prior.value,
            n_components=n_components,
            beta=beta,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            warmup_epochs=warmup_epochs,
            n_cycles=n_cycles,
            free_bits=free_bits,
            importance_samples=importance_samples,
            lagtime=lagtime,
            vamp_weight=vamp_weight,
            weights=None if weights is None else _one_or_many(weights),
            temperature=temperature,
            strain_weight=strain_weight,
            augment=augment,
            validation_fraction=validation_fraction,
            patience=patience,
            n_devices=n_devices,
            n_models=n_models,
            cache=cache,
            scratch=output.parent,
            seed=seed,
            figures=figures,
            progress=not quiet,
        )
    mdvae.save(model, output)
    _say(quiet, f"{model}\nwrote {output}" + (f", figures in {figures}" if figures else ""))
    if model.history is not None and model.history.interrupted:
        typer.echo(f"mdvae: {model.history.stopped}; the best model so far is in {output}", err=True)
        raise typer.Exit(_INTERRUPTED)
    _leave_if(interrupts, output)


@_verb
def encode(
    model: ModelFile,
    sources: Sources,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="z.npy, z.csv, or anything else for a PLUMED COLVAR file.")
    ],
    top: Top = None,
    stride: Stride = 1,
    chunk: Chunk = None,
    length_unit: Unit = None,
    periodic: Periodic = True,
    quiet: Quiet = False,
) -> None:
    """Latent coordinates of every frame.

    mdvae encode run.mdvae run.xtc -o z.npy
    """
    _check_output(output, [model, *sources, top])
    mdvae = _engine()

    reading = {"top": top, "stride": stride, "chunk": chunk, "length_unit": length_unit, "periodic": periodic}
    trained = mdvae.load(model)
    with mdvae.pipeline.working(not quiet, "encoding"):
        n_frames = mdvae.write_latents(trained, _one_or_many(sources), output, **reading)
    _say(quiet, f"wrote {output}: {n_frames} frame{'s' * (n_frames != 1)}")


@_verb
def decode(
    model: ModelFile,
    latents: Annotated[Path, typer.Argument(help="Latent points: .npy, .csv or COLVAR, as encode writes.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Trajectory to write; the ending says the format.")],
    restore: Restore = True,
    quiet: Quiet = False,
) -> None:
    """Conformations of given latent points.

    mdvae decode run.mdvae z.npy -o decoded.xtc
    """
    _check_output(output, [model, latents])
    mdvae = _engine()
    mdvae.trajectory.check_output(output)

    trained = mdvae.load(model)
    z = mdvae.read_latents(latents)
    with mdvae.pipeline.working(not quiet, f"decoding {len(z)} points"):
        trajectory = mdvae.decode(trained, z, restore=restore)
    _save_conformations(mdvae, trained, trajectory, output, quiet)


@_verb
def reconstruct(
    model: ModelFile,
    sources: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", help="Trajectory to write; the ending says the format.")],
    top: Top = None,
    stride: Stride = 1,
    chunk: Chunk = None,
    length_unit: Unit = None,
    periodic: Periodic = True,
    restore: Restore = True,
    quiet: Quiet = False,
) -> None:
    """Every frame encoded and decoded again.

    mdvae reconstruct run.mdvae run.xtc -o again.xtc
    """
    _check_output(output, [model, *sources, top])
    mdvae = _engine()
    mdvae.trajectory.check_output(output)

    trained = mdvae.load(model)
    reading = {"top": top, "stride": stride, "chunk": chunk, "length_unit": length_unit, "periodic": periodic}
    with mdvae.pipeline.working(not quiet, "encoding and decoding"):
        trajectory = mdvae.reconstruct(trained, _one_or_many(sources), restore=restore, **reading)
    _save_conformations(mdvae, trained, trajectory, output, quiet)


@_verb
def generate(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Trajectory to write; the ending says the format.")],
    n_frames: Annotated[int, typer.Option("-n", "--n-frames", help="How many conformations.")] = 1000,
    prior: Annotated[
        Origin, typer.Option(help="Where latent points come from: the model's prior, or near its training frames.")
    ] = Origin.model,
    restore: Restore = True,
    noise: Noise = False,
    valid: Annotated[bool, typer.Option("--valid", help="Draw until so many are valid, and write those only.")] = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """New conformations, from the prior.

    mdvae generate run.mdvae -n 1000 -o new.xtc
    """
    _check_output(output, [model])
    mdvae = _engine()
    mdvae.trajectory.check_output(output)

    trained = mdvae.load(model)
    with mdvae.pipeline.working(not quiet, f"generating {n_frames} structures"):
        options = {"prior": prior.value, "restore": restore, "noise": noise, "valid": valid}
        trajectory = mdvae.generate(trained, n_frames, **options, seed=seed)
    if valid:
        _say(quiet, f"{trajectory.n_frames} valid of {trajectory.n_drawn} drawn")
    _save_conformations(mdvae, trained, trajectory, output, quiet)


@_verb
def undersampled(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Trajectory to write; the ending says the format.")],
    source: Annotated[
        list[Path] | None, typer.Option(help="The data, if not the training frames that the model keeps.")
    ] = None,
    top: Top = None,
    observable: Annotated[
        str | None, typer.Option(help="Divide its range in place of the latent plane: see 'mdvae minimize'.")
    ] = None,
    n_bins: Annotated[int, typer.Option(help="Cells along each axis.")] = 20,
    fewest: Annotated[int, typer.Option(help="Cells with fewer frames are thin.")] = 10,
    n_frames: Annotated[int, typer.Option("-n", "--n-frames", help="How many conformations.")] = 100,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Find where the data are thin, and write valid conformations from there.

    mdvae undersampled run.mdvae -o thin.xtc
    """
    _check_output(output, [model, *(source or [])])
    mdvae = _engine()
    mdvae.trajectory.check_output(output)

    trained = mdvae.load(model)
    chosen = None if observable is None else mdvae.observables.by_name(observable, masses=trained.system.masses)
    sizes = {"n_bins": n_bins, "fewest": fewest, "n_frames": n_frames}
    with mdvae.pipeline.working(not quiet, "looking where the data are thin"):
        reading = {} if top is None else {"top": top}
        found = mdvae.undersampled(trained, source, observable=chosen, **sizes, seed=seed, **reading)
    _say(quiet, str(found))
    if not found.trajectory.n_frames:
        raise ValueError(f"no conformation was found there, so {output} was not written")
    mdvae.save_trajectory(found.trajectory, output, unit=trained.system.unit)


@_verb
def minimize(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Structure to write; the ending says the format.")],
    observable: Annotated[
        str,
        typer.Option(
            help="radius_of_gyration, radius_of_gyration:mass, end_to_end_distance, distance:0,5, contacts:0.45."
        ),
    ] = "radius_of_gyration",
    n_starts: Annotated[int, typer.Option(help="Starting points.")] = 64,
    n_steps: Annotated[int, typer.Option(help="Most steps from each.")] = 200,
    restore: Restore = True,
    method: Annotated[Method, typer.Option(help="Optimizer.")] = Method.adam,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Find the valid structure with the smallest observable.

    mdvae minimize run.mdvae --observable radius_of_gyration -o compact.pdb
    """
    _check_output(output, [model])
    mdvae = _engine()
    mdvae.trajectory.check_output(output)

    trained = mdvae.load(model)
    with mdvae.pipeline.working(not quiet, f"searching from {n_starts} starts"):
        result = mdvae.minimize(
            trained,
            mdvae.observables.by_name(observable, masses=trained.system.masses),
            n_starts=n_starts,
            n_steps=n_steps,
            restore=restore,
            method=method.value,
            seed=seed,
        )
    _say(quiet, str(result))
    if not result.found:
        advice = (
            "try more starts, a larger latent_dim or a smaller beta, and see 'mdvae evaluate' for how well this model "
            "reconstructs"
        )
        if not restore:
            advice = "the decoder's own structures are seldom valid; leave out --no-restore"
        raise ValueError(f"no valid structure was found, so {output} was not written; {advice}")
    mdvae.save_trajectory(result.trajectory, output, unit=trained.system.unit)
    _say(quiet, f"wrote {output}")


@_verb
def evaluate(
    model: ModelFile,
    sources: Sources,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write all numbers: .csv for a long table, else JSON.")
    ] = None,
    worst: Annotated[
        Path | None, typer.Option(help="Write the five generated structures with the most faults to this trajectory.")
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(help="A further model, trained alike: print means and deviations over all; repeat it."),
    ] = None,
    n_generated: Generated = None,
    prior: Annotated[Origin, typer.Option(help="Where the latent points of generated structures come from.")] = (
        Origin.model
    ),
    noise: Noise = False,
    lagtime: Lagtime = None,
    weights: Weights = None,
    temperature: Temperature = None,
    top: Top = None,
    stride: Stride = 1,
    chunk: Chunk = None,
    length_unit: Unit = None,
    periodic: Periodic = True,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Say what a model is worth, on frames that training never saw: tables, and a verdict.

    mdvae evaluate run.mdvae held-out.xtc
    """
    if output is not None and output.suffix.lower() not in (".json", ".csv"):
        raise ValueError(f"{output} is neither JSON nor a table; expected a name like e.json or e.csv")
    if output is not None and output == worst:
        raise ValueError(f"{output} cannot hold both the numbers and the worst structures; choose two names")
    if also and worst is not None:
        raise ValueError("--worst is of one model; leave out --also")
    for path in (output, worst):
        if path is not None:
            _check_output(path, [model, *sources, *(also or []), top])
    mdvae = _engine()
    if worst is not None:
        mdvae.trajectory.check_output(worst)

    options: dict[str, Any] = {"n_generated": n_generated, "prior": prior.value, "noise": noise, "lagtime": lagtime}
    options |= {"weights": None if weights is None else _one_or_many(weights), "temperature": temperature}
    reading = {"top": top, "stride": stride, "chunk": chunk, "length_unit": length_unit, "periodic": periodic}
    trained, others = mdvae.load(model), [mdvae.load(path) for path in also or []]
    with mdvae.pipeline.working(not quiet, "encoding, decoding, generating and judging"):
        judge, judged = (mdvae.evaluate_ensemble, [trained, *others]) if others else (mdvae.evaluate, trained)
        found = judge(judged, _one_or_many(sources), **options, **reading, seed=seed)
    _say(quiet, str(found))
    if output is not None:
        found.save(output)
        _say(quiet, f"wrote {output}")
    if worst is not None:
        if found.worst.n_frames:
            mdvae.save_trajectory(found.worst, worst, unit=trained.system.unit)
        reason = found.without_structures or "nothing is wrong anywhere"
        _say(quiet, f"wrote {worst}" if found.worst.n_frames else f"{reason}: {worst} was not written")


@_verb
def report(
    model: ModelFile,
    sources: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")] = Path("report.html"),
    n_generated: Generated = None,
    prior: Annotated[Origin, typer.Option(help="Where the latent points of generated structures come from.")] = (
        Origin.model
    ),
    noise: Noise = False,
    lagtime: Lagtime = None,
    weights: Weights = None,
    temperature: Temperature = None,
    top: Top = None,
    stride: Stride = 1,
    chunk: Chunk = None,
    length_unit: Unit = None,
    periodic: Periodic = True,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Evaluate, and write one HTML file with the verdict, tables, figures, and a latent space to walk about in.

    mdvae report run.mdvae held-out.xtc -o report.html
    """
    _check_output(output, [model, *sources, top])
    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{output} is not the name of a page; expected one like report.html")
    mdvae = _engine()

    options: dict[str, Any] = {"n_generated": n_generated, "prior": prior.value, "noise": noise, "lagtime": lagtime}
    options |= {"weights": None if weights is None else _one_or_many(weights), "temperature": temperature}
    reading = {"top": top, "stride": stride, "chunk": chunk, "length_unit": length_unit, "periodic": periodic}
    trained = mdvae.load(model)
    command = shlex.join(["mdvae", *sys.argv[1:]])
    with mdvae.pipeline.working(not quiet, "evaluating, and drawing what was found"):
        found = mdvae.write_report(
            trained, _one_or_many(sources), output, command=command, **options, **reading, seed=seed
        )
    _say(quiet, f"{found.head}\n{found.verdict}\nwrote {output}")


@_verb
def log_likelihood(
    model: ModelFile,
    sources: Sources,
    top: Top = None,
    n_samples: Annotated[int, typer.Option("-n", "--n-samples", help="Latent points a frame.")] = 100,
    stride: Stride = 1,
    chunk: Chunk = None,
    length_unit: Unit = None,
    periodic: Periodic = True,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """How likely frames are under a model, in nats; best held-out ones.

    mdvae log-likelihood run.mdvae held-out.xtc
    """
    mdvae = _engine()
    trained = mdvae.load(model)
    reading = {"top": top, "stride": stride, "chunk": chunk, "length_unit": length_unit, "periodic": periodic}
    with mdvae.pipeline.working(not quiet, "sampling"):
        found = mdvae.log_likelihood(trained, _one_or_many(sources), n_samples, seed=seed, **reading)
    _say(quiet, str(found))


@_verb
def free_energy(
    latents: Annotated[
        list[Path], typer.Argument(help="Latent points, as encode writes them: .npy, .csv or COLVAR; one a trajectory.")
    ],
    temperature: Annotated[float, typer.Option("--temperature", "-T", help="In K.")] = 300.0,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="Of the frames: w.npy, or a bias such as COLVAR:metad.rbias; again for each file."),
    ] = None,
    coordinates: Annotated[
        str | None, typer.Option(help="Which of the latent coordinates, from 1: 2 or 1,3; all if left out.")
    ] = None,
    state: Annotated[
        list[str] | None, typer.Option(help="Region: NAME=low:high, or NAME=low:high,low:high; repeat it.")
    ] = None,
    n_bins: Annotated[int | None, typer.Option(help="Along each coordinate; by the number of frames if left out.")] = (
        None
    ),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the bins to a .csv table, or everything to JSON.")
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw it: .png, .pdf or .svg.")] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Free energy over one or two latent coordinates: minima, barriers and states, with errors.

    mdvae free-energy z.csv --state "A=:0" --state "B=0:" -o free-energy.csv --figure free-energy.png
    """
    if output is not None and output.suffix.lower() not in (".json", ".csv"):
        raise ValueError(f"{output} is neither JSON nor a table; expected a name like f.json or f.csv")
    for path in (output, figure):
        if path is not None:
            _check_output(path, [*latents])
    regions = None if not state else dict(_region(text) for text in state)
    mdvae = _engine()

    dims = None if coordinates is None else [i - 1 for i in _whole_numbers("--coordinates", coordinates)]
    names = None if dims is None else [f"z{dim + 1}" for dim in dims]
    runs = [run for path in latents for run in mdvae.pipeline.read_latent_trajectories(path, dims)]
    weighting = None
    if weights is not None:
        lengths, kelvins = [len(run) for run in runs], temperature if mdvae.trajectory.is_bias(weights) else None
        weighting = mdvae.trajectory.frame_weights(_one_or_many(weights), lengths, temperature=kelvins)
    with mdvae.pipeline.working(not quiet, "counting and drawing anew"):
        found = mdvae.free_energy(
            runs, temperature, weights=weighting, states=regions, names=names, n_bins=n_bins, seed=seed
        )
    _say(quiet, str(found))
    if output is not None:
        found.save(output)
        _say(quiet, f"wrote {output}")
    if figure is not None:
        mdvae.plots.save_figure(mdvae.plots.free_energy(found), figure)
        _say(quiet, f"wrote {figure}")


@_verb
def fit_prior(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file to write.")],
    prior: Annotated[Prior, typer.Option(help="What to fit to the encoded training frames.")] = Prior.mixture,
    n_components: Components = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Give a trained model a prior that is where its encoded frames are.

    mdvae fit-prior run.mdvae --prior flow -o better.mdvae
    """
    _check_output(output, [model])
    mdvae = _engine()
    _check_model_name(mdvae, output)
    trained = mdvae.load(model)
    with _interrupts() as interrupts:
        fitted = mdvae.fit_prior(trained, prior.value, n_components=n_components, seed=seed, progress=not quiet)
    mdvae.save(fitted, output)
    _say(quiet, f"{fitted}\nwrote {output}")
    _leave_if(interrupts, output)


@_verb
def fit_noise(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file to write.")],
    rank: Annotated[int | None, typer.Option(help="Shared displacements; all, but at most 64, if left out.")] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Give a trained model the noise that its reconstructions leave out, for 'mdvae generate --noise'.

    mdvae fit-noise run.mdvae -o noisy.mdvae
    """
    _check_output(output, [model])
    mdvae = _engine()
    _check_model_name(mdvae, output)
    with mdvae.pipeline.working(not quiet, "fitting the noise"):
        fitted = mdvae.fit_noise(mdvae.load(model), rank=rank, seed=seed)
    mdvae.save(fitted, output)
    _say(quiet, f"{fitted}\nwrote {output}")


@_verb
def export(
    model: ModelFile,
    to: Annotated[Engine, typer.Option(help="What shall read it; portable: JAX by itself.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write, such as cv.dat; others are put beside it.")
    ],
    quiet: Quiet = False,
) -> None:
    """Write the latent coordinates for a simulation engine, and check what was written.

    mdvae export run.mdvae --to plumed -o cv.dat
    """
    _check_output(output, [model])
    mdvae = _engine()
    trained = mdvae.load(model)
    with mdvae.pipeline.working(not quiet, "exporting and checking"):
        exported = getattr(mdvae.export, f"export_{to.value}")(trained, output)
    _say(quiet, str(exported))


@_verb
def info(model: ModelFile) -> None:
    """What a model file holds."""
    mdvae = _engine()

    trained = mdvae.load(model)
    typer.echo(str(trained))
    typer.echo(trained.settings.get("reading", ""))


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 an error (in one line), 2 wrong usage, 130 interrupted."""
    warnings.showwarning = _show_warning
    app(prog_name="mdvae")


def entry() -> None:
    """What the command ``mdvae`` runs: `main`, with an exit after Ctrl-C that no library's teardown can spoil."""
    try:
        main()
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            sys.stdout.flush()
            os._exit(_INTERRUPTED)
        raise


def _engine() -> ModuleType:
    """The package with all that is heavy imported; a Ctrl-C that falls into it ends the program at once.

    Left to itself it might vanish: some libraries swallow every exception in parts of their import.
    """
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    try:
        import mdvae
        import mdvae.pipeline
        import mdvae.saving
        from mdvae._compiled import keep_compiled

        keep_compiled()
    finally:
        signal.signal(signal.SIGINT, usual)
    return mdvae


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Ctrl-C as usual, and a note of it for those who are not told: a library may keep it to itself."""
    noted: list[int] = []
    usual = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        signal.default_int_handler(number, frame)

    if usual is signal.default_int_handler:
        signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, usual)


def _leave_if(interrupts: list[int], output: Path) -> None:
    """End with the exit code of an interrupt, where there was one that cost no more than what it interrupted."""
    if interrupts:
        typer.echo(f"mdvae: interrupted; the model in {output} is whole", err=True)
        raise typer.Exit(_INTERRUPTED)


def _leave(*_) -> None:
    os.write(2, b"mdvae: interrupted; nothing is left half-written\n")
    os._exit(_INTERRUPTED)


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    typer.echo(f"mdvae: warning: {' '.join(str(message).split())}", err=True)


def _in_words(error: Exception) -> str:
    """One line, in the words of the command line: ``--top 'a.pdb'`` where the library says ``top='a.pdb'``."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    words = re.sub(rf"\b({'|'.join(_OPTIONS)})=", lambda match: f"--{match[1].replace('_', '-')} ", text)
    return " ".join(words.split()) or type(error).__name__


def _save_conformations(mdvae: ModuleType, model: Any, trajectory: Any, output: Path, quiet: bool) -> None:
    """Write what a model made, and say what restoring did to it."""
    mdvae.save_trajectory(trajectory, output, unit=model.system.unit)
    if trajectory.restoration is not None:
        _say(quiet, str(trajectory.restoration))
    _say(quiet, f"wrote {output}: {trajectory.n_frames} conformations")


def _say(quiet: bool, text: str) -> None:
    if not quiet:
        typer.echo(text)


class _Echo(logging.Handler):
    """What the library tells its logger, on standard output."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(record.getMessage())


def _show_log(quiet: bool) -> None:
    log = logging.getLogger("mdvae")
    log.handlers = [_Echo()]
    log.setLevel(logging.WARNING if quiet else logging.INFO)


def _one_or_many(sources: list[Any]) -> Any:
    return sources[0] if len(sources) == 1 else sources


def _whole_numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError(f"{option} takes whole numbers with commas between them, such as 4,6; got {text!r}") from None


def _region(text: str) -> tuple[str, tuple]:
    """Name and interval, or name and one interval for each coordinate."""
    name, _, intervals = text.partition("=")
    try:
        ends = [tuple(float(end) if end else None for end in part.split(":")) for part in intervals.split(",")]
        if not name or any(len(pair) != 2 for pair in ends):
            raise ValueError
    except ValueError:
        raise ValueError(f"--state takes NAME=low:high, such as A=:0.5 or A=-1:0,2:3; got {text!r}") from None
    return name, ends[0] if len(ends) == 1 else tuple(ends)


def _check_model_name(mdvae: ModuleType, output: Path) -> None:
    if mdvae.trajectory.extension(output) in mdvae.trajectory.SAVE_FORMATS:
        raise ValueError(f"{output} has the ending of a trajectory; a model file is named like run.mdvae")


def _check_output(output: Path, inputs: list[Path | None]) -> None:
    """Refuse an output that cannot be, before any work is done for it."""
    for path in inputs:
        if path is not None and output.exists() and path.exists() and output.samefile(path):
            raise ValueError(f"{output} is an input of this command; choose another name for the output")
    if output.is_dir():
        raise IsADirectoryError(f"cannot write {output}: it is a folder; add a file name")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"cannot write {output}: there is no folder {output.parent}")
    if not os.access(output.parent, os.W_OK):
        raise PermissionError(f"cannot write {output}: no permission to write in {output.parent}")


if __name__ == "__main__":
    entry()
