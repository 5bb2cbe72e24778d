"""A trained coordinate as a configuration of Colvars, with its network in plain text files.

Colvars knows plain dense layers only, each with one activation for all of its nodes. A layer that adds to the one
before it still fits: far to the right of zero silu, softplus and gelu are the identity to the last digit, so that nodes
with a large bias pass their input on, beside those that act; the next layer subtracts the bias. Only tanh has no such
place, and is given one.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mdvae.alignment import Superposition
from mdvae.export.checking import Exported, check, compare, trial, write
from mdvae.export.colvars_evaluator import evaluate
from mdvae.export.network import (
    FORMULAS,
    Layer,
    Measures,
    Network,
    centering,
    check_exportable,
    measures,
    network,
)
from mdvae.latent import collective_variable
from mdvae.model import Model
from mdvae.representations import Cartesian

# Where activations are the identity: far enough for the last digit, near enough to keep the digits of what is passed,
# and for exponential functions not to overflow.
_FAR = 256.0
_NM_PER_ANGSTROM = 0.1
_RADIANS_PER_DEGREE = float(np.pi / 180)


def export_colvars(model: Model, path: str | os.PathLike) -> Exported:
    """Write a trained coordinate as a configuration for Colvars, and check it.

    The configuration defines one scalar ``cv0``, ``cv1``, … for each latent coordinate, each a ``neuralNetwork``.
    Beside it stand the files of weights and biases, and of a model of superposed positions the reference structure; all
    of them must lie where the engine runs.

    Before anything is written, the texts are evaluated in double precision on training frames that are turned and
    moved.

    Parameters
    ----------
    model : Model
        Trained.
    path : path
        Such as ``cv.colvars``; the other files are then ``cv.layer1.weights.txt`` and so on, and ``cv.xyz``.

    Returns
    -------
    Exported

    Raises
    ------
    ValueError
        For a model that Colvars cannot represent: of the plane, in reduced units, with ``alignment="principal"``, or
        superposed with weights, since Colvars superposes with all atoms alike.
    ValueError
        If the check fails; nothing is written.
    OSError
        If a file cannot be written.
    """
    check_exportable(model, "Colvars")
    _check_weights(model)
    path = Path(path)
    layers, formula = _plain(_of_features(model))
    texts = _files(layers, path.stem)
    if _is_superposed(model):
        texts[f"{path.stem}.xyz"] = _reference(model)
    if path.name in texts:
        raise ValueError(f"{path} is the name of another of its files as well; choose one like cv.colvars")
    text = "\n".join(_lines(model, layers, formula, path.stem)) + "\n"
    frames = trial(model)
    found = evaluate(text, texts.__getitem__, frames.among_all(split=False))
    errors = compare(collective_variable(model), frames, *found)
    check("Colvars", path, *errors)
    files = write({path: text} | {path.with_name(name): content for name, content in texts.items()})
    return Exported(files, len(frames.whole), *errors)


def _is_superposed(model: Model) -> bool:
    return isinstance(model.representation, Cartesian) and isinstance(model.alignment, Superposition)


def _check_weights(model: Model) -> None:
    weights = np.asarray(model.alignment.weights)
    if _is_superposed(model) and np.ptp(weights) > 0:
        raise ValueError(
            "Colvars superposes with all atoms alike, and this model does it by mass; train with center='geometry', or "
            "representation='internal', or export it to PLUMED"
        )


def _of_features(model: Model) -> Network:
    """Layers of the features as Colvars has them: superposed positions stand where the reference does."""
    if not isinstance(model.representation, Cartesian):
        return network(model)
    if not isinstance(model.alignment, Superposition):
        return centering(network(model), np.asarray(model.alignment.weights, np.float64))
    reference = np.asarray(model.alignment.reference, np.float64)
    return network(model, np.tile(reference.mean(axis=0), len(reference)))


def _plain(layers: Network) -> tuple[list[Layer], str]:
    """The same function as plain dense layers, and the activation of all but the last."""
    formula = FORMULAS[layers.activation].format("x")
    if layers.activation == "tanh" and not layers.plain:
        formula = f"select(step(x-{_FAR / 2}),x,{formula})"
    found = []
    # What stands for the input of the next layer: a matrix times what the plain layer gives, and a shift.
    n_inputs = (layers.hidden or (layers.last,))[0].weights.shape[1]
    decode, shift = np.eye(n_inputs), np.zeros(n_inputs)
    for layer in layers.hidden:
        acting = Layer(layer.weights @ decode, layer.biases + layer.weights @ shift)
        one = np.eye(len(layer.biases))
        if layer.residual:
            found.append(Layer(np.vstack([decode, acting.weights]), np.concatenate([shift + _FAR, acting.biases])))
            decode, shift = np.hstack([one, one]), np.full(len(one), -_FAR)
        else:
            found.append(acting)
            decode, shift = one, np.zeros(len(one))
    last = layers.last
    return [*found, Layer(last.weights @ decode, last.biases + last.weights @ shift)], formula


def _files(layers: list[Layer], stem: str) -> dict[str, str]:
    """Names and texts of the files of weights, a row a node, and biases."""
    files = {}
    for i, layer in enumerate(layers):
        files[f"{stem}.layer{i + 1}.weights.txt"] = "".join(_row(row) for row in layer.weights)
        files[f"{stem}.layer{i + 1}.biases.txt"] = "".join(_row([bias]) for bias in layer.biases)
    return files


def _row(numbers) -> str:
    # Whole numbers, of which there are many where inputs are passed on, need no more than themselves.
    return " ".join(repr(int(x)) if x == int(x) else repr(float(x)) for x in numbers) + "\n"


def _lines(model: Model, layers: list[Layer], formula: str, stem: str) -> Iterator[str]:
    yield from _header(model)
    inputs = list(_inputs(model, stem))
    for k in range(model.latent_dim):
        yield ""
        yield "colvar {"
        yield f"  name cv{k}"
        yield "  neuralNetwork {"
        yield f"    output_component {k}"
        for i in range(1, len(layers) + 1):
            yield f"    layer{i}_WeightsFile {stem}.layer{i}.weights.txt"
            yield f"    layer{i}_BiasesFile {stem}.layer{i}.biases.txt"
            linear = i == len(layers)
            yield f"    layer{i}_activation linear" if linear else f"    layer{i}_custom_activation {formula}"
        yield from ("    " + line for line in inputs)
        yield "  }"
        yield "}"


def _header(model: Model) -> Iterator[str]:
    system = model.system
    chosen = f", selected by {system.select!r}" if system.select else ""
    yield "# Latent coordinates of an mdvae model, for Colvars where lengths are in Å (LAMMPS in real or metal units,"
    yield f"# NAMD); where they are in nm (GROMACS), write 1 for every componentCoeff {_NM_PER_ANGSTROM}."
    yield f"# Atoms are numbered from 1 as in the model's topology of {system.n_atoms_in_file} atoms, and must be so in"
    yield f"# the simulation: {system.n_atoms} of them{chosen}."


def _inputs(model: Model, stem: str) -> Iterator[str]:
    """Lines of all features. Colvars sorts them by name."""
    serials = model.system.atom_indices + 1
    if isinstance(model.representation, Cartesian):
        blocks = _positions(model, serials, stem)
    else:
        blocks = _measured(measures(model.representation, "Colvars"), serials)
    for i, (name, lines) in enumerate(blocks):
        yield f"{name} {{"
        yield f"  name c{i:06d}"
        yield from ("  " + line for line in lines)
        yield "}"


def _positions(model: Model, serials: np.ndarray, stem: str) -> Iterator[tuple[str, list[str]]]:
    pose = [
        "  centerToReference on",
        "  rotateToReference on",
        f"  refPositionsFile {stem}.xyz",
        "  fittingGroup {",
        f"    atomNumbers {_spaced(serials)}",
        "  }",
    ]
    for serial in serials:
        for axis in ("(1, 0, 0)", "(0, 1, 0)", "(0, 0, 1)"):
            yield (
                "distanceZ",
                [
                    f"componentCoeff {_NM_PER_ANGSTROM}",
                    "forceNoPBC on",
                    "main {",
                    f"  atomNumbers {serial}",
                    *(pose if isinstance(model.alignment, Superposition) else []),
                    "}",
                    "ref {",
                    "  dummyAtom (0, 0, 0)",
                    "}",
                    f"axis {axis}",
                ],
            )


def _measured(found: Measures, serials: np.ndarray) -> Iterator[tuple[str, list[str]]]:
    for pair in serials[found.distances]:
        yield "distance", _distance(pair)
    for triple in serials[found.angles]:
        yield "angle", [f"componentCoeff {_RADIANS_PER_DEGREE!r}", *_groups(triple)]
    for pair in serials[found.contacts]:
        formula = f"1/(1+(x/{found.contact_radius!r})^6)"
        yield "customColvar", [f"customFunction {formula}", "distance {", "  name x", *_further(_distance(pair)), "}"]
    for function in ("cos", "sin"):
        for four in serials[found.torsions]:
            inner = ["name x", f"componentCoeff {_RADIANS_PER_DEGREE!r}", *_groups(four)]
            yield "customColvar", [f"customFunction {function}(x)", "dihedral {", *_further(inner), "}"]


def _distance(pair: np.ndarray) -> list[str]:
    return [f"componentCoeff {_NM_PER_ANGSTROM}", "forceNoPBC on", *_groups(pair)]


def _groups(atoms: np.ndarray) -> list[str]:
    return [line for i, atom in enumerate(atoms) for line in (f"group{i + 1} {{", f"  atomNumbers {atom}", "}")]


def _further(lines: list[str]) -> list[str]:
    return ["  " + line for line in lines]


def _spaced(numbers: np.ndarray) -> str:
    return " ".join(str(number) for number in numbers)


def _reference(model: Model) -> str:
    """Structure that frames are superposed on, in Å, in full."""
    alignment = model.alignment
    assert isinstance(alignment, Superposition)
    positions = np.asarray(alignment.reference, np.float64) / _NM_PER_ANGSTROM
    rows = [f"X {x!r} {y!r} {z!r}" for x, y, z in positions.tolist()]
    return "\n".join([str(len(rows)), "reference of the superposition, in angstrom", *rows]) + "\n"
