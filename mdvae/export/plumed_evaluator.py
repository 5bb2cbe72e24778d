"""What PLUMED would make of an input file: a second opinion on what we export, after its manual and golden values.

It reads the text that PLUMED reads and shares no code with the rest of the package: expressions, superposition and
derivatives are its own. It knows the actions that `plumed` writes, and refuses any other.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdvae.export.independent import MEASURES, best_rotation, expression

# What says nothing about values.
_IGNORED = ("PRINT", "METAD", "RESTRAINT", "FLUSH")
# Collective variables: atoms, and the names of what they give.
_GEOMETRIES = {"POSITION": (1, (".x", ".y", ".z")), "DISTANCE": (2, ("",)), "ANGLE": (3, ("",)), "TORSION": (4, ("",))}
_NM_PER_ANGSTROM = 0.1

Positions = Float[Array, "n_used 3"]
Values = Float[Array, " n_values"]
Found = Float[Array, " n_found"]
Box = Float[Array, "3"]
# Positions and the values so far, to positions and the values of one action (or several alike).
Step = Callable[[Positions, Values, Box | None], tuple[Positions, Found | None]]


@dataclasses.dataclass(frozen=True)
class Action:
    """One action of an input file.

    Parameters
    ----------
    name, label : str
    options : dict
        Keywords with what stands after their ``=``; None for flags.
    """

    name: str
    label: str
    options: dict[str, str | None]

    def strings(self, key: str) -> list[str]:
        """A list with commas."""
        text = self.options.get(key)
        if not text:
            raise ValueError(f"{self.name} {self.label}: expected {key}=…, found none")
        return text.split(",")

    def numbers(self, key: str) -> Float[np.ndarray, " n"]:
        """A list of numbers."""
        return np.array(self.strings(key), float)

    def atoms(self, key: str) -> list[int]:
        """A list of atoms, from 1; ranges such as 5-9 among them."""
        ends = [[int(end) for end in word.split("-")] for word in self.strings(key)]
        return [atom for first, *last in ends for atom in range(first, (last or [first])[0] + 1)]


def actions(text: str) -> Iterator[Action]:
    """Actions of an input file, one after another.

    Parameters
    ----------
    text : str

    Yields
    ------
    Action
    """
    block: list[str] | None = None
    for number, line in enumerate(text.splitlines()):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if block is None and words[-1] == "...":
            block = words[:-1]
        elif block is not None and words[0] == "...":
            yield _action(block, number)
            block = None
        elif block is not None:
            block += words
        else:
            yield _action(words, number)
    if block is not None:
        raise ValueError(f"the block of {' '.join(block[:2])} has no end")


def _action(words: list[str], number: int) -> Action:
    label = words.pop(0)[:-1] if words[0].endswith(":") else f"@{number}"
    name, *rest = words
    options = {key: value if equals else None for key, equals, value in (word.partition("=") for word in rest)}
    return Action(name, options.get("LABEL") or label, options)


def evaluate(
    text: str,
    labels: Sequence[str],
    positions: Float[np.ndarray, "n_frames n_atoms 3"],
    *,
    box: Float[np.ndarray, "3"] | None = None,
    reference: Callable[[str], str] | None = None,
) -> tuple[Float[np.ndarray, "n_frames n_labels"], Float[np.ndarray, "n_frames n_labels n_atoms 3"]]:
    """Values of a PLUMED input file and their derivatives, in double precision.

    Parameters
    ----------
    text : str
        The input file.
    labels : sequence of str
        Values that are asked for, such as ``cv.node-0``.
    positions : (n_frames, n_atoms, 3), nm
        Of all atoms of the engine.
    box : (3,), nm, optional
        Sides of a rectangular periodic cell.
    reference : callable, optional
        From the name of a template to the text of that PDB file.

    Returns
    -------
    values : (n_frames, n_labels)
    gradients : (n_frames, n_labels, n_atoms, 3), 1/nm

    Raises
    ------
    ValueError
        For what is not understood, or does not fit together.
    """
    script = _Script(text, reference)
    missing = [label for label in labels if label not in script.places]
    if missing:
        raise ValueError(f"the input has no value {missing[0]!r}; it has {', '.join(list(script.places)[-8:])}")
    used = np.array(script.serials) - 1
    if used.max(initial=0) >= positions.shape[1]:
        raise ValueError(f"the input speaks of atom {used.max() + 1}, but there are {positions.shape[1]}")
    asked = np.array([script.places[label] for label in labels])
    with jax.enable_x64(True):
        sides = None if box is None else jnp.asarray(box, jnp.float64)

        def value_and_gradient(frame: Positions) -> tuple[Array, Array]:
            found, pull_back = jax.vjp(lambda x: script.values(x, sides)[asked], frame)
            return found, jax.vmap(pull_back)(jnp.eye(len(asked)))[0]

        frames = jnp.asarray(np.asarray(positions, np.float64)[:, used])
        values, of_used = map(np.asarray, jax.jit(jax.vmap(value_and_gradient))(frames))
    gradients = np.zeros((len(positions), len(labels), *positions.shape[1:]))
    gradients[:, :, used] = of_used
    return values, gradients


class _Script:
    """An input file as steps, each of which moves the atoms or adds values to those before it."""

    def __init__(self, text: str, reference: Callable[[str], str] | None) -> None:
        self.places: dict[str, int] = {}
        self.serials: list[int] = []
        self.steps: list[Step] = []
        self._reference, self._fitted = reference, False
        for alike in _alike(actions(text)):
            name = alike[0].name
            if name in _GEOMETRIES:
                self.steps.append(self._geometry(alike))
            elif name in _STEPS:
                self.steps.append(_STEPS[name](self, alike))
            elif name not in _IGNORED:
                raise ValueError(f"the action {name} is not understood")

    def values(self, positions: Positions, box: Box | None) -> Values:
        """All values of one frame, in the order of `places`."""
        values = jnp.zeros(0, positions.dtype)
        for step in self.steps:
            positions, found = step(positions, values, box)
            values = values if found is None else jnp.concatenate([values, found])
        return values

    def _geometry(self, alike: list[Action]) -> Step:
        name = alike[0].name
        n_atoms, endings = _GEOMETRIES[name]
        key, bare = ("ATOM" if n_atoms == 1 else "ATOMS"), "NOPBC" in alike[0].options
        rows = [action.atoms(key) for action in alike]
        if any(len(row) != n_atoms for row in rows):
            raise ValueError(f"{name} takes {n_atoms} atoms, got {next(r for r in rows if len(r) != n_atoms)}")
        if not bare and (name == "POSITION" or self._fitted):
            raise ValueError(f"{name} {alike[0].label} without NOPBC, here, depends on the box; expected NOPBC")
        atoms = np.array([[self._place(serial) for serial in row] for row in rows])
        for action in alike:
            self._name(*(action.label + ending for ending in endings))

        def step(positions: Positions, values: Values, box: Box | None) -> tuple[Positions, Found]:
            points = positions[atoms]
            if name == "POSITION":
                return positions, points.reshape(-1)
            vectors = points[:, 1:] - points[:, :-1]
            if box is not None and not bare:
                vectors = vectors - box[None, None] * jnp.round(vectors / box[None, None])
            return positions, MEASURES[name.lower()](vectors)

        return step

    def _whole(self, alike: list[Action]) -> Step:
        keys = [key for key in alike[0].options if key.startswith("ENTITY")]
        entities = [np.array([self._place(serial) for serial in alike[0].atoms(key)]) for key in keys]

        def step(positions: Positions, values: Values, box: Box | None) -> tuple[Positions, None]:
            if box is None:
                return positions, None
            for entity in entities:
                moves = positions[entity[1:]] - positions[entity[:-1]]
                shifts = -jnp.cumsum(box[None] * jnp.round(moves / box[None]), axis=0)
                positions = positions.at[entity[1:]].add(shifts)
            return positions, None

        return step

    def _fit(self, alike: list[Action]) -> Step:
        action, self._fitted = alike[0], True
        if action.options.get("TYPE") != "OPTIMAL" or "NOPBC" not in action.options:
            raise ValueError("FIT_TO_TEMPLATE is understood with TYPE=OPTIMAL NOPBC only")
        if self._reference is None:
            raise ValueError(f"FIT_TO_TEMPLATE needs {action.options['REFERENCE']}; expected reference=")
        serials, template, weights = read_template(self._reference(action.strings("REFERENCE")[0]))
        atoms, shares = np.array([self._place(serial) for serial in serials]), weights / weights.sum()
        middle = shares @ template

        def step(positions: Positions, values: Values, box: Box | None) -> tuple[Positions, None]:
            center = (shares @ positions[atoms])[None]
            rotation = best_rotation(positions[atoms] - center, jnp.asarray(template - middle), jnp.asarray(shares))
            return (positions - center) @ rotation.T + middle[None], None

        return step

    def _ann(self, alike: list[Action]) -> Step:
        action = alike[0]
        sizes = [int(size) for size in action.numbers("NUM_NODES")]
        functions = action.strings("ACTIVATIONS")
        inputs = self._arguments(action)
        if action.numbers("NUM_LAYERS").tolist() != [len(sizes)] or len(functions) != len(sizes) - 1:
            raise ValueError(f"ANN {action.label}: NUM_LAYERS, NUM_NODES and ACTIVATIONS do not fit together")
        if len(inputs) != sizes[0] or any(function not in ("Linear", "Tanh") for function in functions):
            raise ValueError(f"ANN {action.label}: {len(inputs)} arguments for {sizes[0]} nodes, or not Linear or Tanh")
        weights = [action.numbers(f"WEIGHTS{i}").reshape(m, n) for i, (n, m) in enumerate(pairwise(sizes))]
        biases = [action.numbers(f"BIASES{i}").reshape(m) for i, m in enumerate(sizes[1:])]
        self._name(*(f"{action.label}.node-{i}" for i in range(sizes[-1])))

        def step(positions: Positions, values: Values, box: Box | None) -> tuple[Positions, Found]:
            x = values[inputs]
            for weight, bias, function in zip(weights, biases, functions, strict=True):
                y = jnp.asarray(weight) @ x + jnp.asarray(bias)
                x = jnp.tanh(y) if function == "Tanh" else y
            return positions, x

        return step

    def _custom(self, alike: list[Action]) -> Step:
        first = alike[0]
        if any(action.options.get("PERIODIC") != "NO" for action in alike):
            raise ValueError(f"CUSTOM {first.label}: expected PERIODIC=NO")
        arguments = np.array([self._arguments(action) for action in alike])
        names = first.strings("VAR") if "VAR" in first.options else ["x", "y", "z"][: arguments.shape[1]]
        if len(names) != arguments.shape[1]:
            raise ValueError(f"CUSTOM {first.label}: {arguments.shape[1]} arguments for the variables {names}")
        function = expression(first.options["FUNC"] or "")
        for action in alike:
            self._name(action.label)

        def step(positions: Positions, values: Values, box: Box | None) -> tuple[Positions, Found]:
            return positions, function(dict(zip(names, values[arguments.T], strict=True)))

        return step

    def _place(self, serial: int) -> int:
        if serial not in self.serials:
            self.serials.append(serial)
        return self.serials.index(serial)

    def _name(self, *names: str) -> None:
        for name in names:
            if name in self.places:
                raise ValueError(f"the label {name} is given twice")
            self.places[name] = len(self.places)

    def _arguments(self, action: Action) -> Int[np.ndarray, " n"]:
        names = action.strings("ARG")
        if unknown := [name for name in names if name not in self.places]:
            raise ValueError(f"{action.name} {action.label}: nothing before it is called {unknown[0]}")
        return np.array([self.places[name] for name in names])


_STEPS = {
    "WHOLEMOLECULES": _Script._whole,
    "FIT_TO_TEMPLATE": _Script._fit,
    "ANN": _Script._ann,
    "CUSTOM": _Script._custom,
}


def _alike(found: Iterator[Action]) -> Iterator[list[Action]]:
    """Runs of actions that one array operation can do: thousands of scalars would take minutes to compile."""
    run: list[Action] = []
    for action in found:
        # What one of them gives the next cannot take from the same run.
        inputs = set((action.options.get("ARG") or "").split(","))
        fits = run and _kind(action) == _kind(run[0]) and not inputs & {other.label for other in run}
        if run and not fits:
            yield run
            run = []
        run.append(action)
    if run:
        yield run


def _kind(action: Action) -> tuple:
    if action.name in _GEOMETRIES:
        return action.name, "NOPBC" in action.options
    if action.name == "CUSTOM":
        n_arguments = len(action.strings("ARG"))
        return action.name, action.options.get("FUNC"), action.options.get("VAR"), n_arguments
    return action.name, action.label


def read_template(
    text: str,
) -> tuple[list[int], Float[np.ndarray, "n_atoms 3"], Float[np.ndarray, " n_atoms"]]:
    """Atoms of a template, as PLUMED reads them from the columns of a PDB file.

    Parameters
    ----------
    text : str

    Returns
    -------
    serials : list of int
        From 1.
    positions : (n_atoms, 3), nm
    weights : (n_atoms,)
        Of centering and turning: the column of the occupancies.
    """
    lines = [line for line in text.splitlines() if line[:6].strip() in ("ATOM", "HETATM")]
    columns = [[float(line[first : first + 8]) for first in (30, 38, 46)] for line in lines]
    weights = np.array([float(line[54:60]) for line in lines])
    return [int(line[6:11]) for line in lines], _NM_PER_ANGSTROM * np.array(columns), weights
