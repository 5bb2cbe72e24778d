"""The collective variable as a Python script for PLUMED's pycv, with a program beside it that needs JAX alone."""

import importlib.metadata
import os
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from mdvae._files import replacing
from mdvae.export.checking import Exported, check_companions
from mdvae.export.stablehlo import serialized
from mdvae.latent.agreement import check_agreement, moved_frames
from mdvae.model import Model

# Both sides compute in float64.
_TOLERANCE = 1e-9

_SCRIPT = '''\
"""Latent coordinates of an mdvae model for PLUMED 2.10 or newer with pycv; written by mdvae {version}.

In plumed.dat, where this file and {program} can be imported from:

    z: PYCVINTERFACE IMPORT={module}
    PRINT ARG={arguments} FILE=COLVAR

It needs NumPy and JAX 0.8 or newer, and PLUMED's own units (nm). Each atom is put beside the one before it by its
nearest image, so that the molecule is whole as long as these are closer than half the box.
"""

from pathlib import Path

import jax
import numpy as np
import plumedCommunications

NAMES = {names}

plumedInit = {{
    {kind},
    "ATOMS": "{atoms}",
    "NOPBC": True,
}}

_program = jax.export.deserialize(bytearray(Path(__file__).with_suffix(".jax").read_bytes())).call


@jax.jit
def _evaluate(positions):
    z, pull_back = jax.vjp(_program, positions)
    return z, [pull_back(row)[0] for row in np.eye(len(NAMES))]


def plumedCalculate(action):
    action.makeWhole()
    positions = np.array(action.getPositions())
    with jax.enable_x64(True):
        z, gradients = jax.tree.map(np.asarray, _evaluate(positions))
    answer = {{
        name: (float(value), gradient, -positions.T @ gradient)
        for name, value, gradient in zip(NAMES, z, gradients, strict=True)
    }}
    return answer if len(NAMES) > 1 else answer[NAMES[0]]
'''


def export_pycv(model: Model, path: str | os.PathLike) -> Exported:
    """Write a script that PLUMED's pycv imports, and beside it the program that the script runs.

    What the script says at its top goes into ``plumed.dat``. Every kind of model can be exported, those on each frame's
    own principal axes included. pycv itself is in no package registry: the script was run against its interface as
    its documentation and source describe it, not inside of PLUMED.

    Parameters
    ----------
    model : Model
        Trained, in 3-D, with lengths in nm.
    path : path
        Of the script, such as ``latent.py``; the program is written beside it, as ``latent.jax``.

    Returns
    -------
    Exported

    Raises
    ------
    ValueError
        If the path is not that of a Python module, if the program's name is taken by another file, if the model is not
        of a molecule in nm, if it keeps no training frames, and if the script does not give what the model gives on
        those frames, moved and turned.
    OSError
        If a file cannot be written.

    Notes
    -----
    Needs flatbuffers (``pip install "mdvae[export]"``).

    Examples
    --------
    >>> mdvae.export.export_pycv(model, "latent.py")  # doctest: +SKIP
    """
    path = Path(path)
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise ValueError(f"expected the path of a Python module, such as latent.py, got {path.name!r}")
    if model.system.dim != 3 or model.system.unit != "nm":
        raise ValueError(
            f"PLUMED needs a model in 3-D with lengths in nm, got {model.system.dim}-D, {model.system.unit}"
        )
    check_companions(path, path.with_suffix(".jax"))
    program = serialized(model, double=True)
    with replacing(path.with_suffix(".jax")) as beside, replacing(path) as script:
        beside.write_bytes(program)
        script.with_suffix(".jax").write_bytes(program)
        script.write_text(_script(model, path))
        errors = _check(model, script)
    return Exported((path, path.with_suffix(".jax")), len(moved_frames(model)), *errors)


def _script(model: Model, path: Path) -> str:
    names = [f"z{i}" for i in range(model.latent_dim)]
    component = "plumedCommunications.defaults.COMPONENT"
    one = len(names) == 1
    return _SCRIPT.format(
        version=importlib.metadata.version("mdvae"),
        program=path.with_suffix(".jax").name,
        module=path.stem,
        names=names,
        arguments="z" if one else ",".join(f"z.py-{name}" for name in names),
        kind=f'"Value": {component}' if one else f'"COMPONENTS": {{name: {component} for name in NAMES}}',
        # PLUMED counts from 1.
        atoms=",".join(str(i + 1) for i in model.system.atom_indices),
    )


class _Action:
    """What the script sees of PLUMED."""

    def __init__(self, positions: np.ndarray) -> None:
        self._positions = positions

    def makeWhole(self) -> None:
        """Training frames are whole."""

    def getPositions(self) -> np.ndarray:
        """Of the atoms that the script asked for."""
        return self._positions


def _check(model: Model, script: Path) -> tuple[float, float]:
    """Run the script where PLUMED would."""
    module: Any = ModuleType("plumedCommunications")
    module.defaults = SimpleNamespace(COMPONENT={"period": None, "derivative": True})
    before = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module
    try:
        calculate = runpy.run_path(str(script))["plumedCalculate"]
    finally:
        del sys.modules[module.__name__]
        if before is not None:
            sys.modules[module.__name__] = before

    def evaluate(frame: np.ndarray) -> tuple[Any, Any]:
        answer = calculate(_Action(frame))
        rows = list(answer.values()) if isinstance(answer, dict) else [answer]
        return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])

    return check_agreement(model, evaluate, name=script.name, tolerance=_TOLERANCE)
