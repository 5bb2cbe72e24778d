import dataclasses
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import mdtraj as md
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import mdvae
from mdvae.alignment import Superposition
from mdvae.export import export_plumed, plumed
from mdvae.export.plumed_evaluator import actions, evaluate
from mdvae.latent import in_double
from mdvae.networks import MLPEncoder

from .conftest import ATOMS, KINDS, N_ATOMS, remembering


def rounded(model, template):
    """The coordinate with the reference that the template holds, read by mdtraj, and its weights."""
    positions = np.round(md.load(template).xyz[0].astype(float), 4)
    weights = np.array([float(line[54:60]) for line in template.read_text().splitlines() if line[:4] == "ATOM"])
    with jax.enable_x64(True):
        reference = jnp.asarray(positions - weights @ positions / weights.sum())
        alignment = Superposition(jnp.asarray(weights), reference)
    return dataclasses.replace(mdvae.collective_variable(model), alignment=alignment)


def nodes(model):
    return [f"cv.node-{i}" for i in range(model.latent_dim)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_the_coordinate_wherever_the_molecule_is(kind, make, unseen, tmp_path, rng):
    model = make(kind)
    exported = export_plumed(model, tmp_path / "cv.dat")
    superposed = kind.startswith("superposed")
    assert [path.name for path in exported.files] == ["cv.dat", "cv.pdb"][: 1 + superposed]
    assert max(exported.value_error, exported.gradient_error) <= 1e-6
    cv = rounded(model, tmp_path / "cv.pdb") if superposed else mdvae.collective_variable(model)
    frames = np.stack(
        [frame @ turn for frame, turn in zip(unseen, Rotation.random(5, rng=rng).as_matrix(), strict=True)]
    )
    box = np.array([2.5, 2.7, 3.0])
    values, gradients = evaluate(
        (tmp_path / "cv.dat").read_text(), nodes(model), frames % box, box=box,
        reference=lambda name: (tmp_path / name).read_text(),
    )  # fmt: skip
    for z, gradient, frame in zip(values, gradients, frames, strict=True):
        expected, slopes = in_double(cv)(frame[list(ATOMS)])
        np.testing.assert_allclose(z, expected, rtol=0, atol=1e-10)
        np.testing.assert_allclose(gradient[:, ATOMS], slopes, rtol=0, atol=1e-9 * np.abs(slopes).max())
        assert not gradient[:, [atom for atom in range(N_ATOMS) if atom not in ATOMS]].any()
    # What the template rounds is small beside what the coordinate tells apart.
    np.testing.assert_allclose(values, mdvae.encode(model, frames), atol=0.02 * values.std() + 1e-5)


def test_what_nobody_named_is_not_overwritten(make, tmp_path):
    model, topology = make("superposed, plain tanh"), tmp_path / "cv.pdb"
    topology.write_text("mine")
    with pytest.raises(ValueError, match=r"cv.pdb would be written beside .*cv.dat, and is there already"):
        export_plumed(model, tmp_path / "cv.dat")
    assert [path.name for path in tmp_path.iterdir()] == ["cv.pdb"]
    assert topology.read_text() == "mine"
    topology.unlink()
    export_plumed(model, tmp_path / "cv.dat")
    # The template of an earlier export may go.
    assert export_plumed(model, tmp_path / "cv.dat").files == (tmp_path / "cv.dat", topology)


def test_a_template_that_rounds_too_much_is_refused(make, tmp_path, monkeypatch):
    monkeypatch.setattr(plumed, "_MOST_OFF", 1e-9)
    with pytest.raises(ValueError, match="a template of three decimals moves the latent coordinates"):
        export_plumed(make("superposed, plain tanh"), tmp_path / "cv.dat")
    assert not list(tmp_path.iterdir())


def test_words_of_the_file(make, tmp_path):
    model = make("superposed, plain tanh")
    export_plumed(model, tmp_path / "cv.dat")
    text = (tmp_path / "cv.dat").read_text()
    found = list(actions(text))
    assert [action.name for action in found[:2]] == ["WHOLEMOLECULES", "FIT_TO_TEMPLATE"]
    assert found[0].atoms("ENTITY0") == [atom + 1 for atom in ATOMS]
    (ann,) = [action for action in found if action.name == "ANN"]
    assert ann.strings("ACTIVATIONS") == ["Tanh", "Tanh", "Tanh", "Linear"]
    assert f"topology of {N_ATOMS} atoms" in text
    template = (tmp_path / "cv.pdb").read_text().splitlines()
    assert [int(line[6:11]) for line in template[:-1]] == [atom + 1 for atom in ATOMS]
    assert {line[54:60].strip() for line in template[:-1]} == {"12.011", "14.007", "15.999"}


@pytest.mark.parametrize(("latent_dim", "gridded"), {2: True, 3: False}.items())
def test_metadynamics_is_ready_once_it_is_uncommented(latent_dim, gridded, heteroalkane):
    model = remembering(mdvae.read(heteroalkane), latent_dim=latent_dim, representation="internal")
    text = "\n".join(plumed._lines(model, None, ""))
    assert not [action for action in actions(text) if action.name == "METAD"]
    block = text[text.index("# cv_metad") :]
    metad, printed = actions(re.sub("^# ", "", block, flags=re.MULTILINE))
    assert "CALC_RCT" in metad.options
    assert printed.strings("ARG") == [*nodes(model), "cv_metad.rbias"]
    assert metad.strings("ARG") == nodes(model)
    z = mdvae.encode(model, heteroalkane)
    np.testing.assert_allclose(metad.numbers("SIGMA"), z.std(axis=0) / 10, rtol=1e-3)
    assert ("GRID_MIN" in metad.options) == gridded
    if gridded:
        low, high = metad.numbers("GRID_MIN"), metad.numbers("GRID_MAX")
        assert (low < z.min(axis=0)).all()
        assert (high > z.max(axis=0)).all()
        assert ((high - low) / metad.numbers("GRID_BIN") <= 0.21 * metad.numbers("SIGMA")).all()


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_a_file_that_is_not_the_coordinate_is_not_written(part, make, tmp_path, monkeypatch):
    model = make("chosen, softplus")
    spoiled = eqx.tree_at(
        lambda vae: getattr(vae.encoder.layers[1], part), model.vae, replace_fn=lambda x: x.at[0].add(1e-3)
    )
    cv = mdvae.collective_variable(dataclasses.replace(model, vae=spoiled))
    monkeypatch.setattr("mdvae.export.plumed.collective_variable", lambda _: cv)
    with pytest.raises(ValueError, match=r"does not give the model's coordinate.*cv.dat was not written"):
        export_plumed(model, tmp_path / "cv.dat")
    assert not list(tmp_path.iterdir())


def test_derivatives_that_are_not_numbers_are_refused(make, tmp_path):
    model = make("chosen, softplus")
    # A distance has no derivative where its atoms are at one point.
    frames = model.data.frames.copy()
    frames[:, 5] = frames[:, 0]
    model = dataclasses.replace(model, data=dataclasses.replace(model.data, frames=frames))
    with pytest.raises(ValueError, match="nan"):
        export_plumed(model, tmp_path / "cv.dat")
    assert not list(tmp_path.iterdir())


def test_a_template_in_the_place_of_the_file(make, tmp_path):
    with pytest.raises(ValueError, match=r"choose one like cv\.dat"):
        export_plumed(make("superposed, silu"), tmp_path / "cv.pdb")
    with pytest.raises(FileNotFoundError, match="no folder"):
        export_plumed(make("superposed, silu"), tmp_path / "nowhere" / "cv.dat")
    assert not list(tmp_path.iterdir())


def _relu(model):
    encoder = MLPEncoder(21, 2, (8,), "relu", shift=jnp.zeros(21), scale=jnp.ones(()), key=jax.random.key(0))
    return dataclasses.replace(model, vae=eqx.tree_at(lambda vae: vae.encoder, model.vae, encoder))


def _far(model):
    atoms = model.system.atom_indices + 100_000
    return dataclasses.replace(model, system=dataclasses.replace(model.system, atom_indices=atoms))


REFUSED = {
    "activation": (_relu, "the activation is none of tanh, silu, softplus, gelu"),
    "untrained": (lambda model: dataclasses.replace(model, data=None), "train it first"),
    "too many atoms": (_far, "counts atoms up to 99999, and the model has atom 100009"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_plumed_cannot_represent_is_refused(case, make, tmp_path):
    spoil, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        export_plumed(spoil(make("superposed, silu")), tmp_path / "cv.dat")
    assert not list(tmp_path.iterdir())


def test_principal_axes_are_refused_for_positions_only(heteroalkane, tmp_path):
    frames = mdvae.read(heteroalkane, alignment="principal")
    with pytest.raises(ValueError, match="cannot turn a frame onto its own principal axes; train with alignment='sup"):
        export_plumed(remembering(frames), tmp_path / "cv.dat")
    assert export_plumed(remembering(frames, representation="internal"), tmp_path / "cv.dat").gradient_error <= 1e-6


def test_planes_and_reduced_units_are_refused(model_of_plane, tmp_path):
    with pytest.raises(ValueError, match="in the plane"):
        export_plumed(model_of_plane, tmp_path / "cv.dat")
    frames = mdvae.read(mdvae.toys.alkane(50, n_carbons=5, seed=0), length_unit="reduced")
    with pytest.raises(ValueError, match="needs lengths in nm or Å"):
        export_plumed(mdvae.build(frames, hidden=(8,)), tmp_path / "cv.dat")


@pytest.fixture
def model_of_plane(frames):
    return mdvae.build(frames, hidden=(8,))
