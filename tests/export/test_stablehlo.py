import dataclasses
import subprocess
import sys

import jax
import numpy as np
import pytest

import mdvae
from mdvae.export import export_portable, stablehlo
from mdvae.latent import in_double
from mdvae.latent.agreement import moved_frames
from mdvae.local_geometry import fit_local_geometry
from mdvae.model import remember

pytest.importorskip("flatbuffers")

KINDS = {
    "superposed": {"alignment": "superposition"},
    "internal": {"alignment": "superposition", "representation": "internal"},
}


@pytest.fixture(scope="module", params=KINDS)
def model(request, hexane):
    options = dict(KINDS[request.param])
    frames = mdvae.read(hexane[0], alignment=options.pop("alignment"))
    model = mdvae.build(frames, latent_dim=2, hidden=(16, 16), seed=0, **options)
    geometry = fit_local_geometry(frames.coordinates, hexane[1], frames.system.masses)
    return dataclasses.replace(model, data=remember(frames, geometry))


# What the docstring says, in a process that cannot have mdvae.
ELSEWHERE = """
import sys
sys.modules["mdvae"] = None
import jax, pathlib
import numpy as np
frames = np.load("frames.npy")
for name, dtype in ("float32", np.float32), ("float64", np.float64):
    with jax.enable_x64(dtype == np.float64):
        cv = jax.export.deserialize(bytearray(pathlib.Path(name).read_bytes())).call
        z, gradient = jax.jit(cv), jax.jit(jax.grad(lambda frame: cv(frame)[1]))
        answer = [(z(frame), gradient(frame)) for frame in frames.astype(dtype)]
    np.savez(name, z=np.array([z for z, _ in answer]), gradient=np.array([gradient for _, gradient in answer]))
try:
    import mdvae
except ImportError:
    pass
else:
    raise SystemExit("mdvae was there")
"""

TOLERANCES = {"float32": 1e-5, "float64": 1e-12}


def test_it_runs_where_there_is_no_mdvae(model, tmp_path):
    frames = moved_frames(model, seed=1)[:3].astype(np.float32)
    np.save(tmp_path / "frames.npy", frames)
    export_portable(model, tmp_path / "float32")
    export_portable(model, tmp_path / "float64", double=True)
    subprocess.run([sys.executable, "-c", ELSEWHERE], check=True, cwd=tmp_path)
    reference = in_double(mdvae.collective_variable(model))
    for name, tolerance in TOLERANCES.items():
        answer = np.load(tmp_path / f"{name}.npz")
        assert answer["z"].dtype == name
        for frame, z, gradient in zip(frames, answer["z"], answer["gradient"], strict=True):
            ours, jacobian = reference(frame)
            np.testing.assert_allclose(z, ours, rtol=0, atol=tolerance)
            np.testing.assert_allclose(gradient, jacobian[1], rtol=0, atol=tolerance * np.abs(jacobian[1]).max())


def test_it_is_for_all_platforms_and_calls_nobody(model, tmp_path):
    export_portable(model, tmp_path / "cv.jax")
    program = jax.export.deserialize(bytearray((tmp_path / "cv.jax").read_bytes()))
    assert set(program.platforms) == {"cpu", "cuda", "rocm", "tpu"}
    assert "custom_call" not in program.mlir_module()
    assert jax.numpy.zeros(()).dtype == jax.dtypes.canonicalize_dtype(float)


def test_a_plane_can_be_exported_too(trained, tmp_path):
    export_portable(trained, tmp_path / "cv.jax")
    program = jax.export.deserialize(bytearray((tmp_path / "cv.jax").read_bytes()))
    assert program.in_avals[0].shape == (6, 2)
    assert program.out_avals[0].shape == (3,)


def test_what_disagrees_is_not_written(trained, tmp_path, monkeypatch):
    whole = stablehlo.collective_variable(trained)
    monkeypatch.setattr(stablehlo, "collective_variable", lambda model: _Shifted(whole))
    (tmp_path / "cv.jax").write_text("what stood there before")
    with pytest.raises(ValueError, match=r"cv\.jax does not say what the model says"):
        export_portable(trained, tmp_path / "cv.jax")
    assert (tmp_path / "cv.jax").read_text() == "what stood there before"


class _Shifted:
    def __init__(self, cv):
        self.cv, self.n_atoms = cv, cv.n_atoms

    def __call__(self, frame):
        return self.cv(frame) + 0.01
