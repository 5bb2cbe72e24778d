"""Against a stand-in for PLUMED, which is in no package registry: the interface that pycv's documentation describes."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

import mdvae
from mdvae.export import export_pycv, pycv
from mdvae.latent import in_double
from mdvae.local_geometry import fit_local_geometry
from mdvae.model import remember

pytest.importorskip("flatbuffers")

# PLUMED counts atoms from 1, makes whole in the order of the atoms, and takes a tuple for one component, else a dict.
PLUMED = """
import sys
sys.modules["mdvae"] = None
import numpy as np

stand_in = type(sys)("plumedCommunications")
stand_in.defaults = type(sys)("plumedCommunications.defaults")
stand_in.defaults.COMPONENT = {"period": None, "derivative": True}
sys.modules["plumedCommunications"] = stand_in


class PythonCVInterface:
    def __init__(self, positions, box):
        self.positions, self.box = positions, box

    def makeWhole(self):
        for i in range(1, len(self.positions)):
            step = self.positions[i] - self.positions[i - 1]
            self.positions[i] -= self.box * np.round(step / self.box)

    def getPositions(self):
        return self.positions.copy()


sys.path.insert(0, ".")
import latent

init = latent.plumedInit
assert init["NOPBC"] is True
several = "COMPONENTS" in init
assert several != ("Value" in init)
for component in init["COMPONENTS"].values() if several else [init["Value"]]:
    assert component == {"period": None, "derivative": True}
atoms = np.array([int(word) for word in init["ATOMS"].split(",")]) - 1
everything = {}
for number, frame in enumerate(np.load("frames.npy")):
    action = PythonCVInterface(frame[atoms], 1.5)
    answer = latent.plumedCalculate(action)
    assert isinstance(answer, dict if several else tuple)
    rows = [answer[name] for name in init["COMPONENTS"]] if several else [answer]
    for row, (value, gradient, virial) in enumerate(rows):
        assert type(value) is float
        everything |= {f"z{number}{row}": value, f"g{number}{row}": gradient, f"v{number}{row}": virial}
np.savez("answer.npz", **everything)
"""


@pytest.fixture(scope="module", params=[1, 2])
def model(request, hexane):
    """Of one and of two dimensions, and of a frame's own axes, which no other file for PLUMED can hold."""
    frames = mdvae.read(hexane[0], alignment="principal")
    model = mdvae.build(frames, latent_dim=request.param, hidden=(16, 16), seed=0)
    geometry = fit_local_geometry(frames.coordinates, hexane[1], frames.system.masses)
    return dataclasses.replace(model, data=remember(frames, geometry))


def test_plumed_gets_values_gradients_and_virials(model, hexane, tmp_path, rng):
    frames = hexane[0][:3].astype(float) + 3 * rng.normal(size=(3, 1, 3))
    frames[1:] = np.mod(frames[1:], 1.5)
    assert np.linalg.norm(np.diff(frames, axis=1), axis=2).max() > 1
    np.save(tmp_path / "frames.npy", frames)
    export_pycv(model, tmp_path / "latent.py")
    subprocess.run([sys.executable, "-c", PLUMED], check=True, cwd=tmp_path)
    answer, reference = np.load(tmp_path / "answer.npz"), in_double(mdvae.collective_variable(model))
    for number, frame in enumerate(hexane[0][:3].astype(float)):
        z, jacobian = reference(frame)
        for row in range(model.latent_dim):
            assert answer[f"z{number}{row}"] == pytest.approx(z[row], abs=1e-10)
            np.testing.assert_allclose(answer[f"g{number}{row}"], jacobian[row], atol=1e-9)
            # How the value changes when box and molecule are stretched alike.
            stretched = [reference(frame * (1 + sign * 1e-5))[0][row] for sign in (1, -1)]
            slope = (stretched[0] - stretched[1]) / 2e-5
            assert -np.trace(answer[f"v{number}{row}"]) == pytest.approx(slope, abs=1e-6)


def test_the_atoms_are_those_of_the_file(hexane, tmp_path):
    frames = mdvae.read(hexane[0], atom_indices=[1, 2, 4, 5])
    model = mdvae.build(frames, latent_dim=1, hidden=(8,), seed=0)
    geometry = fit_local_geometry(frames.coordinates, np.array([[0, 1], [2, 3]]), frames.system.masses)
    export_pycv(dataclasses.replace(model, data=remember(frames, geometry)), tmp_path / "latent.py")
    script = (tmp_path / "latent.py").read_text()
    assert '"ATOMS": "2,3,5,6"' in script
    assert "IMPORT=latent" in script


def test_refusals(model, trained, tmp_path):
    for name in ("latent.dat", "my-latent.py", "1st.py"):
        with pytest.raises(ValueError, match="expected the path of a Python module"):
            export_pycv(model, tmp_path / name)
    with pytest.raises(ValueError, match="PLUMED needs a model in 3-D"):
        export_pycv(trained, tmp_path / "latent.py")
    assert not list(tmp_path.iterdir())


def test_what_disagrees_is_not_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr(pycv, "_SCRIPT", pycv._SCRIPT.replace("np.array(action", "10 * np.array(action"))
    with pytest.raises(ValueError, match=r"latent\.py does not say what the model says"):
        export_pycv(model, tmp_path / "latent.py")
    assert not list(tmp_path.iterdir())
