"""A trained coordinate as an input file of stock PLUMED, whose ANN and CUSTOM can say all that perceptrons do.

PLUMED's own networks (module annfunc) know tanh only. A layer with another activation, or one that adds to the layer
before it, becomes a linear ANN followed by one CUSTOM a node.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mdvae.alignment import Superposition
from mdvae.export.checking import Exported, check, compare, deviation, trial, write
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
from mdvae.export.plumed_evaluator import evaluate, read_template
from mdvae.latent import CollectiveVariable, collective_variable
from mdvae.latent.encoding import encode_posed
from mdvae.model import Model
from mdvae.representations import Cartesian

# Every label begins with it, so that the file may be included in another.
_LABEL = "cv"
# Of the suggested hills: a tenth of the spread over all training frames is narrower than a basin, as a rule.
_SIGMAS = 10
# The suggested grid goes so far beyond the training frames, as a share of their range.
_BEYOND = 1.0
# A grid of more coordinates does not fit into memory.
_MOST_GRID = 2
# Standard deviations of a latent coordinate by which the template's rounding may move it.
_MOST_OFF = 0.05
# The columns of a PDB file have room for no more.
_MOST_ATOMS = 99_999


def export_plumed(model: Model, path: str | os.PathLike) -> Exported:
    """Write a trained coordinate as an input file for PLUMED, and check it.

    The file works with stock PLUMED (with its module annfunc). It ends with a line that prints the latent coordinates,
    ``cv.node-0`` and so on, and with a commented block of metadynamics. A model of superposed positions has a second
    file, the template, which must lie where the engine runs.

    Before anything is written, the text is evaluated in double precision, by an evaluator that agrees with PLUMED's
    values and forces, on training frames that are turned, moved and split by a periodic box.

    Parameters
    ----------
    model : Model
        Trained.
    path : path
        Such as ``cv.dat``; the template is then ``cv.pdb``.

    Returns
    -------
    Exported

    Raises
    ------
    ValueError
        For a model that PLUMED cannot represent: of the plane, in reduced units, with ``alignment="principal"``.
    ValueError
        If the check fails; nothing is written.
    OSError
        If a file cannot be written.
    """
    check_exportable(model, "PLUMED")
    path = Path(path)
    frames, template, cv = trial(model), None, collective_variable(model)
    if isinstance(model.representation, Cartesian) and isinstance(model.alignment, Superposition):
        template, cv = _template(model)
    template_path = path.with_suffix(".pdb")
    if template is not None and template_path == path:
        raise ValueError(f"{path} is the name of the template as well; choose one like cv.dat")
    text = "\n".join(_lines(model, template, template_path.name)) + "\n"
    labels = _outputs(_LABEL, model.latent_dim)
    found = evaluate(text, labels, frames.among_all(split=True), box=frames.box, reference=lambda _: template or "")
    errors = compare(cv, frames, *found)
    check("PLUMED", path, *errors)
    off = 0.0 if template is None else deviation(model, frames, found[0], _latents(model).std(axis=0))
    if off > _MOST_OFF:
        raise ValueError(
            f"a template of three decimals moves the latent coordinates by up to {off:.2g} standard deviations, more "
            f"than {_MOST_OFF}; {path} was not written. Use representation='internal', or the coordinate in OpenMM"
        )
    files = write({path: text} | ({} if template is None else {template_path: template}))
    return Exported(files, len(frames.whole), *errors, deviation=off)


def _latents(model: Model) -> Float[np.ndarray, "n_frames latent_dim"]:
    assert model.data is not None
    return encode_posed(model, model.data.frames)


def _template(model: Model) -> tuple[str, CollectiveVariable]:
    """Template of the superposition as a PDB file; and the coordinate with the numbers as the file rounds them."""
    alignment, system = model.alignment, model.system
    assert isinstance(alignment, Superposition)
    serials = system.atom_indices + 1
    if serials.max() > _MOST_ATOMS:
        raise ValueError(f"a PDB file counts atoms up to {_MOST_ATOMS}, and the model has atom {serials.max()}")
    rows = zip(
        serials.tolist(), system.topology.atoms, np.asarray(alignment.reference), _six(alignment.weights), strict=True
    )
    lines = [_pdb_line(*row) for row in rows]
    text = "\n".join([*lines, "END"]) + "\n"
    _, positions, weights = read_template(text)
    centered = positions - weights @ positions / weights.sum()
    with jax.enable_x64(True):
        rounded = Superposition(jnp.asarray(weights), jnp.asarray(centered))
    return text, CollectiveVariable(rounded, model.representation, model.vae.encoder)


def _pdb_line(serial: int, atom: Any, position: Float[np.ndarray, "3"], weight: str) -> str:
    """Columns of the format; the weight stands for centering and turning, and for a deviation that nobody asks for."""
    x, y, z = (f"{10 * float(value):8.3f}" for value in position)
    name, residue = atom.name[:4], atom.residue
    name = f" {name:<3}" if len(name) < 4 else name
    return f"ATOM  {serial:5d} {name} {residue.name[:3]:>3} A{residue.resSeq % 10000:4d}    {x}{y}{z}{weight}{weight}"


def _six(weights: Float[np.ndarray | jax.Array, " n_atoms"]) -> list[str]:
    """Numbers with as many digits as fit into the six columns that the format has for them."""
    return [next(text for n in range(6, 0, -1) if len(text := f"{w:.{n}g}") <= 6).rjust(6) for w in map(float, weights)]


def _lines(model: Model, template: str | None, template_name: str) -> Iterator[str]:
    serials = model.system.atom_indices + 1
    yield from _header(model)
    yield f"WHOLEMOLECULES ENTITY0={_commas(serials)}"
    if isinstance(model.representation, Cartesian):
        inputs, offset = [], _middle(model, template)
        if template is not None:
            yield f"FIT_TO_TEMPLATE REFERENCE={template_name} TYPE=OPTIMAL NOPBC"
        for i, serial in enumerate(serials):
            yield f"{_LABEL}_p{i}: POSITION ATOM={serial} NOPBC"
            inputs += [f"{_LABEL}_p{i}.{axis}" for axis in "xyz"]
        layers = network(model, offset)
        if template is None:
            layers = centering(layers, np.asarray(model.alignment.weights, np.float64))
    else:
        inputs, layers = [], network(model)
        for label, line in _measured(measures(model.representation, "PLUMED"), serials):
            yield line
            inputs += label
    yield from _network(layers, inputs)
    yield from _footer(model)


def _middle(model: Model, template: str | None) -> Float[np.ndarray, " n_features"]:
    """Where PLUMED puts the center: that of the template, whose rounding has moved it."""
    if template is None:
        return np.zeros(model.representation.n_features)
    _, positions, weights = read_template(template)
    return np.tile(weights @ positions / weights.sum(), len(positions))


def _measured(found: Measures, serials: np.ndarray) -> Iterator[tuple[list[str], str]]:
    """Labels of features, in their order, with the lines that make them."""
    for key, rows, name in (
        ("d", found.distances, "DISTANCE"),
        ("a", found.angles, "ANGLE"),
        ("r", found.contacts, "DISTANCE"),
    ):
        for i, row in enumerate(rows):
            # Of a contact the distance is a stage only.
            yield [] if key == "r" else [f"{_LABEL}_{key}{i}"], _geometry(f"{key}{i}", name, serials[row])
    for i in range(len(found.contacts)):
        yield [f"{_LABEL}_k{i}"], _custom(f"k{i}", [f"{_LABEL}_r{i}"], f"1/(1+(x/{found.contact_radius!r})^6)")
    for i, row in enumerate(found.torsions):
        yield [], _geometry(f"t{i}", "TORSION", serials[row])
    for key, function in (("c", "cos(x)"), ("s", "sin(x)")):
        for i in range(len(found.torsions)):
            yield [f"{_LABEL}_{key}{i}"], _custom(f"{key}{i}", [f"{_LABEL}_t{i}"], function)


def _geometry(label: str, name: str, atoms: np.ndarray) -> str:
    return f"{_LABEL}_{label}: {name} ATOMS={_commas(atoms)} NOPBC"


def _custom(label: str, arguments: list[str], function: str) -> str:
    return f"{_LABEL}_{label}: CUSTOM ARG={','.join(arguments)} FUNC={function} PERIODIC=NO"


def _network(layers: Network, inputs: list[str]) -> Iterator[str]:
    if layers.activation == "tanh" and layers.plain:
        functions = ["Tanh"] * len(layers.hidden) + ["Linear"]
        yield from _ann(_LABEL, inputs, [*layers.hidden, layers.last], functions)
        return
    formula = FORMULAS[layers.activation]
    for i, layer in enumerate(layers.hidden):
        yield from _ann(f"{_LABEL}_l{i}", inputs, [layer], ["Linear"])
        outputs = _outputs(f"{_LABEL}_l{i}", len(layer.biases))
        for j, output in enumerate(outputs):
            if layer.residual:
                yield _custom(f"h{i}_{j}", [inputs[j], output], f"x+{formula.format('y')}")
            else:
                yield _custom(f"h{i}_{j}", [output], formula.format("x"))
        inputs = [f"{_LABEL}_h{i}_{j}" for j in range(len(outputs))]
    yield from _ann(_LABEL, inputs, [layers.last], ["Linear"])


def _ann(label: str, inputs: list[str], layers: list[Layer], functions: list[str]) -> Iterator[str]:
    sizes = [len(inputs), *(len(layer.biases) for layer in layers)]
    yield f"{label}: ANN ..."
    yield f"  ARG={','.join(inputs)}"
    yield f"  NUM_LAYERS={len(sizes)} NUM_NODES={_commas(sizes)} ACTIVATIONS={','.join(functions)}"
    for i, layer in enumerate(layers):
        yield f"  WEIGHTS{i}={_commas(layer.weights.reshape(-1))}"
        yield f"  BIASES{i}={_commas(layer.biases)}"
    yield "..."


def _outputs(label: str, n: int) -> list[str]:
    return [f"{label}.node-{i}" for i in range(n)]


def _commas(numbers: Sequence | np.ndarray) -> str:
    return ",".join(repr(number.item() if isinstance(number, np.generic) else number) for number in numbers)


def _header(model: Model) -> Iterator[str]:
    system = model.system
    chosen = f", selected by {system.select!r}" if system.select else ""
    yield "# Latent coordinates of an mdvae model, for PLUMED with the module annfunc, in its own units (nm, kJ/mol)."
    yield f"# Atoms are numbered from 1 as in the model's topology of {system.n_atoms_in_file} atoms, and must be so in"
    yield f"# the simulation: {system.n_atoms} of them{chosen}."
    yield "# Atoms that follow one another in ENTITY0 must be nearer than half the box."


def _footer(model: Model) -> Iterator[str]:
    z = _latents(model)
    low, high = z.min(axis=0), z.max(axis=0)
    margin = _BEYOND * (high - low)
    arguments = ",".join(_outputs(_LABEL, model.latent_dim))
    sigma = z.std(axis=0) / _SIGMAS
    yield f"PRINT ARG={arguments} FILE=COLVAR STRIDE=500"
    yield ""
    yield "# Metadynamics along them: uncomment, and look at every number. SIGMA is a tenth of the standard deviation"
    yield "# over the training frames, the grid their range and as much again on either side; HEIGHT is kT/2 at TEMP."
    yield "# What the last line prints can be given to mdvae: --weights COLVAR.metad:cv_metad.rbias --temperature 300."
    yield f"# {_LABEL}_metad: METAD ..."
    yield f"#   ARG={arguments}"
    yield f"#   SIGMA={_rounded(sigma)} HEIGHT=1.2 PACE=500 BIASFACTOR=10 TEMP=300 CALC_RCT"
    if model.latent_dim <= _MOST_GRID:
        bins = np.ceil((high - low + 2 * margin) / sigma * 5).astype(int)
        yield f"#   GRID_MIN={_rounded(low - margin)} GRID_MAX={_rounded(high + margin)} GRID_BIN={_commas(bins)}"
    yield "#   FILE=HILLS"
    yield "# ..."
    yield f"# PRINT ARG={arguments},{_LABEL}_metad.rbias FILE=COLVAR.metad STRIDE=500"


def _rounded(numbers: np.ndarray) -> str:
    return ",".join(f"{number:.4g}" for number in numbers)
