"""The evaluator against values and forces that PLUMED itself has given."""

import os
from pathlib import Path

import numpy as np
import pytest

from mdvae.export.plumed_evaluator import actions, evaluate

GOLDEN = Path(os.environ.get("MDVAE_DATA", Path(__file__).parents[2].parent / "shared/data")) / "plumed"
NODES = ["ann.node-0", "ann.node-1"]


def read_xyz(path):
    """Frames (n_frames, n_atoms, 3)."""
    lines = path.read_text().splitlines()
    n = int(lines[0])
    blocks = [lines[i : i + n + 2] for i in range(0, len(lines), n + 2)]
    return np.array([[line.split()[1:] for line in block[2:]] for block in blocks], float)


def evaluated(name, frames, text=None):
    text = (GOLDEN / f"{name}.dat").read_text() if text is None else text
    box = np.full(3, 50.0)
    return evaluate(text, NODES, frames, box=box, reference=lambda file: (GOLDEN / file).read_text())


golden = pytest.mark.skipif(not GOLDEN.exists(), reason=f"no golden values at {GOLDEN}; set MDVAE_DATA")


@golden
@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_golden_values_and_forces_of_plumed(name):
    """They are printed with ten decimals."""
    values, gradients = evaluated(name, read_xyz(GOLDEN / "frames.xyz"))
    text = (GOLDEN / f"{name}.dat").read_text()
    restraint = next(action for action in actions(text) if action.name == "RESTRAINT")
    pull = restraint.numbers("KAPPA") * (restraint.numbers("AT") - values)
    forces = np.einsum("fk,fkad->fad", pull, gradients)
    np.testing.assert_allclose(values, np.loadtxt(GOLDEN / f"{name}.colvar")[:, 1:], rtol=0, atol=1e-9)
    np.testing.assert_allclose(forces, read_xyz(GOLDEN / f"{name}.forces.xyz"), rtol=0, atol=1e-9)


SCRIPT = """
WHOLEMOLECULES ENTITY0=1-3  # a comment
d: DISTANCE ATOMS=1,3 NOPBC
a: ANGLE ...
  ATOMS=1,2,3 NOPBC
...
f: CUSTOM ARG=d,a FUNC=x^2-y/2 PERIODIC=NO
ann: ANN ARG=f NUM_LAYERS=2 NUM_NODES=1,2 ACTIVATIONS=Linear WEIGHTS0=1,-2 BIASES0=0.5,0
PRINT ARG=f
"""
FRAME = np.array([[[0.9, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.2, 0.0]]])


def test_values_by_hand_with_a_molecule_split_by_the_box():
    values, gradients = evaluate(SCRIPT, ["d", "a", "f", *NODES], FRAME, box=np.ones(3))
    distance = np.hypot(0.1, 0.2)
    f = 0.05 - np.pi / 4
    np.testing.assert_allclose(values[0], [distance, np.pi / 2, f, f + 0.5, -2 * f], atol=1e-12)
    np.testing.assert_allclose(gradients[0, 0, 0], np.array([-0.1, -0.2, 0]) / distance, atol=1e-12)
    np.testing.assert_allclose(gradients[0].sum(axis=1), 0, atol=1e-12)


def test_without_a_box_nothing_is_made_whole():
    assert evaluate(SCRIPT, ["d"], FRAME)[0] == pytest.approx(np.hypot(0.9, 0.2))


MISTAKES = {
    "unknown action": ("x: COORDINATION GROUPA=1", "COORDINATION is not understood"),
    "unknown argument": ("x: CUSTOM ARG=nothing FUNC=x PERIODIC=NO", "nothing before it is called nothing"),
    "a period": ("t: CUSTOM ARG=d FUNC=x PERIODIC=-pi,pi", "expected PERIODIC=NO"),
    "a function that crashes PLUMED": (
        "n: ANN ARG=d NUM_LAYERS=2 NUM_NODES=1,1 ACTIVATIONS=Relu WEIGHTS0=1 BIASES0=0",
        "not Linear or Tanh",
    ),
    "too few weights": (
        "n: ANN ARG=d NUM_LAYERS=2 NUM_NODES=1,2 ACTIVATIONS=Tanh WEIGHTS0=1 BIASES0=0,0",
        "cannot reshape",
    ),
    "too few layers": (
        "n: ANN ARG=d NUM_LAYERS=3 NUM_NODES=1,1 ACTIVATIONS=Tanh WEIGHTS0=1 BIASES0=0",
        "do not fit together",
    ),
    "a label twice": ("d: DISTANCE ATOMS=1,2 NOPBC", "is given twice"),
    "another atom": ("e: DISTANCE ATOMS=1,4 NOPBC", "speaks of atom 4, but there are 3"),
    "an angle of two": ("e: ANGLE ATOMS=1,2 NOPBC", "ANGLE takes 3 atoms"),
    "a box that matters": ("p: POSITION ATOM=1", "expected NOPBC"),
    "another fit": ("FIT_TO_TEMPLATE REFERENCE=a.pdb TYPE=SIMPLE NOPBC", "with TYPE=OPTIMAL NOPBC only"),
    "no end": ("x: ANN ...", "has no end"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_is_not_understood_is_refused(case):
    line, message = MISTAKES[case]
    with pytest.raises(ValueError, match=message):
        evaluate(f"d: DISTANCE ATOMS=1,2 NOPBC\n{line}\n", ["d"], FRAME)


def test_a_value_that_is_not_there():
    with pytest.raises(ValueError, match="no value 'z'"):
        evaluate(SCRIPT, ["z"], FRAME)
