"""What Colvars would make of a configuration: a second opinion on what we export, after its manual.

It reads the files that Colvars reads and shares no code with what wrote them. Real Colvars has the last word, in the
tests. It knows the components that `colvars` writes, and refuses any other.
"""

import dataclasses
from collections.abc import Callable, Iterator
from itertools import groupby

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdvae.export.independent import MEASURES, best_rotation, expression

_ANGSTROM_PER_NM = 10.0
# Atom groups of each component, and the unit in which it is given.
_KINDS = {"distanceZ": 1.0, "distance": 1.0, "angle": 180 / np.pi, "dihedral": 180 / np.pi}
_NEURAL, _CUSTOM = "neuralNetwork", "customColvar"

Positions = Float[Array, "n_used 3"]


@dataclasses.dataclass(frozen=True)
class Block:
    """Keywords with what follows them, and blocks in braces, in their order."""

    words: dict[str, str]
    blocks: tuple[tuple[str, "Block"], ...]

    def only(self, name: str) -> "Block":
        """The one block of that name."""
        (found,) = [block for key, block in self.blocks if key == name]
        return found

    def numbers(self, key: str) -> tuple[float, ...]:
        """Numbers with spaces between them, or commas within brackets."""
        return tuple(float(word) for word in self.words[key].strip("()").replace(",", " ").split())


def parse(text: str) -> Block:
    """Configuration as nested blocks: a keyword a line, a brace at the end of a line opens, one alone closes.

    Parameters
    ----------
    text : str
    """
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return _block(line for line in lines if line)


def _block(lines: Iterator[str]) -> Block:
    words, blocks = {}, []
    for line in lines:
        if line == "}":
            break
        key, _, value = line.partition(" ")
        if value.strip() == "{":
            blocks.append((key, _block(lines)))
        else:
            words[key] = value.strip()
    return Block(words, tuple(blocks))


@dataclasses.dataclass(frozen=True)
class _Component:
    """One input of a network."""

    name: str
    kind: str
    atoms: tuple[int, ...]
    coefficient: float
    axis: tuple[float, ...] = ()
    fitted: tuple[int, ...] = ()
    reference: str = ""
    function: str = ""

    @property
    def alike(self) -> tuple:
        """What components share that one array operation can do."""
        return self.kind, self.coefficient, self.fitted, self.reference, self.function


def evaluate(
    text: str, files: Callable[[str], str], positions: Float[np.ndarray, "n_frames n_atoms 3"]
) -> tuple[Float[np.ndarray, "n_frames n_colvars"], Float[np.ndarray, "n_frames n_colvars n_atoms 3"]]:
    """Values of the networks in a configuration and their derivatives, in double precision.

    Parameters
    ----------
    text : str
        The configuration, for lengths in Å.
    files : callable
        From the name of a file in it to its content.
    positions : (n_frames, n_atoms, 3), nm
        Of all atoms of the engine; molecules whole, as Colvars gets them.

    Returns
    -------
    values : (n_frames, n_colvars)
    gradients : (n_frames, n_colvars, n_atoms, 3), 1/nm

    Raises
    ------
    ValueError
        For what is not understood.
    """
    networks = [block.only(_NEURAL) for key, block in parse(text).blocks if key == "colvar"]
    inputs = [sorted((_component(*block) for block in net.blocks), key=lambda part: part.name) for net in networks]
    used = np.unique([atom for parts in inputs for part in parts for atom in (*part.atoms, *part.fitted)])
    if used[-1] > positions.shape[1]:
        raise ValueError(f"the configuration speaks of atom {used[-1]}, but there are {positions.shape[1]}")
    functions = [
        (_features(parts, used, files), _layers(net, files)) for parts, net in zip(inputs, networks, strict=True)
    ]
    with jax.enable_x64(True):

        def values(frame: Positions) -> Float[Array, " n_colvars"]:
            return jnp.stack([_forward(features(_ANGSTROM_PER_NM * frame), net) for features, net in functions])

        def value_and_gradient(frame: Positions) -> tuple[Array, Array]:
            found, pull_back = jax.vjp(values, frame)
            return found, jax.vmap(pull_back)(jnp.eye(len(networks)))[0]

        frames = jnp.asarray(np.asarray(positions, np.float64)[:, used - 1])
        found, of_used = map(np.asarray, jax.jit(jax.vmap(value_and_gradient))(frames))
    gradients = np.zeros((len(positions), len(networks), *positions.shape[1:]))
    gradients[:, :, used - 1] = of_used
    return found, gradients


def _component(kind: str, block: Block) -> _Component:
    if kind == _CUSTOM:
        ((inner_kind, inner),) = block.blocks
        plain = _component(inner_kind, inner)
        if inner.words["name"] != "x":
            raise ValueError(f"the variable {inner.words['name']} of a customColvar is not understood; expected x")
        return dataclasses.replace(plain, name=block.words["name"], function=block.words["customFunction"])
    if kind not in _KINDS:
        raise ValueError(f"the component {kind} is not understood")
    name, (coefficient,) = block.words["name"], block.numbers("componentCoeff")
    if kind != "distanceZ":
        groups = [block.only(f"group{i + 1}") for i in range(len(block.blocks))]
        return _Component(name, kind, tuple(atom for group in groups for atom in _atoms(group)), coefficient)
    main, axis = block.only("main"), block.numbers("axis")
    if any(block.only("ref").numbers("dummyAtom")):
        raise ValueError("distanceZ is understood from a dummyAtom at the origin only")
    if not main.blocks:
        return _Component(name, kind, _atoms(main), coefficient, axis)
    if main.words["centerToReference"] != "on" or main.words["rotateToReference"] != "on":
        raise ValueError("a fittingGroup is understood with centerToReference and rotateToReference only")
    fitted, reference = _atoms(main.only("fittingGroup")), main.words["refPositionsFile"]
    return _Component(name, kind, _atoms(main), coefficient, axis, fitted, reference)


def _atoms(group: Block) -> tuple[int, ...]:
    return tuple(int(number) for number in group.numbers("atomNumbers"))


def _features(
    parts: list[_Component], used: Int[np.ndarray, " n_used"], files: Callable[[str], str]
) -> Callable[[Positions], Float[Array, " n_inputs"]]:
    """Function of positions in Å that gives the inputs of a network, in the order of their names."""
    runs = [list(run) for _, run in groupby(parts, key=lambda part: part.alike)]
    references = {part.reference: _read_xyz(files(part.reference)) for part in parts if part.reference}

    def features(frame: Positions) -> Float[Array, " n_inputs"]:
        poses: dict[tuple, Positions] = {}
        found = []
        for run in runs:
            first, atoms = run[0], np.searchsorted(used, [part.atoms for part in run])
            if first.kind == "distanceZ":
                key = first.fitted, first.reference
                if key not in poses:
                    poses[key] = _posed(frame, np.searchsorted(used, first.fitted), references.get(first.reference))
                measured = jnp.sum(poses[key][atoms[:, 0]] * np.array([part.axis for part in run]), axis=1)
            else:
                points = frame[atoms]
                measured = MEASURES["torsion" if first.kind == "dihedral" else first.kind](
                    points[:, 1:] - points[:, :-1]
                )
            scaled = first.coefficient * _KINDS[first.kind] * measured
            found.append(expression(first.function)({"x": scaled}) if first.function else scaled)
        return jnp.concatenate(found)

    return features


def _posed(frame: Positions, fitted: Int[np.ndarray, " n"], reference: Float[np.ndarray, "n 3"] | None) -> Positions:
    """Frame superposed on a reference, all atoms of the fit alike."""
    if reference is None:
        return frame
    shares = jnp.full(len(fitted), 1 / len(fitted), frame.dtype)
    center, middle = (shares @ frame[fitted])[None], reference.mean(axis=0)[None]
    rotation = best_rotation(frame[fitted] - center, jnp.asarray(reference - middle), shares)
    return (frame - center) @ rotation.T + middle


def _read_xyz(text: str) -> Float[np.ndarray, "n 3"]:
    return np.array([line.split()[1:4] for line in text.splitlines()[2:]], float)


def _layers(net: Block, files: Callable[[str], str]) -> tuple[list[tuple[np.ndarray, np.ndarray, str]], int]:
    layers = []
    while (key := f"layer{len(layers) + 1}") + "_WeightsFile" in net.words:
        weights = np.array([row.split() for row in files(net.words[f"{key}_WeightsFile"]).splitlines()], float)
        biases = np.array(files(net.words[f"{key}_BiasesFile"]).split(), float)
        formula = net.words.get(f"{key}_custom_activation", "")
        if not formula and net.words[f"{key}_activation"] != "linear":
            raise ValueError(f"the activation {net.words[f'{key}_activation']} is not understood")
        layers.append((weights, biases, formula))
    return layers, int(net.words["output_component"])


def _forward(
    x: Float[Array, " n_inputs"], net: tuple[list[tuple[np.ndarray, np.ndarray, str]], int]
) -> Float[Array, ""]:
    layers, component = net
    for weights, biases, formula in layers:
        x = jnp.asarray(weights) @ x + jnp.asarray(biases)
        x = expression(formula)({"x": x}) if formula else x
    return x[component]
