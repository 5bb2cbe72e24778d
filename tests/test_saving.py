"""A model file gives back the same model, or says what is wrong with it."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

import mdvae
from mdvae import saving
from mdvae.latent.encoding import encode_posed


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "chain.mdvae"
    mdvae.save(trained, path)
    return path


def test_loaded_model_encodes_bit_for_bit(trained, saved, chain):
    np.testing.assert_array_equal(mdvae.encode(mdvae.load(saved), chain), mdvae.encode(trained, chain))


def test_another_process_encodes_bit_for_bit(trained, saved, chain, tmp_path):
    np.save(tmp_path / "chain.npy", chain)
    code = (
        "import mdvae, sys, numpy; m = mdvae.load(sys.argv[1]); numpy.save(sys.argv[3], mdvae.encode(m, sys.argv[2]))"
    )
    files = [str(saved), str(tmp_path / "chain.npy"), str(tmp_path / "z.npy")]
    subprocess.run([sys.executable, "-c", code, *files], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), mdvae.encode(trained, chain))


def test_everything_comes_back(trained, saved):
    model = mdvae.load(saved)
    assert model.data.weights is None
    assert model.spec == trained.spec
    assert model.settings == trained.settings
    assert model.system.to_dict() == trained.system.to_dict()
    assert model.history.to_dict() == trained.history.to_dict()
    assert model.data.n_frames == trained.data.n_frames
    np.testing.assert_array_equal(model.data.frames, trained.data.frames)
    for name, value in trained.data.geometry.to_dict().items():
        np.testing.assert_array_equal(model.data.geometry.to_dict()[name], value)
    for a, b in zip(jax.tree.leaves(model.vae), jax.tree.leaves(trained.vae), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_come_back_and_older_programs_do_not_misread_them(trained, tmp_path):
    weights = np.linspace(0, 1, len(trained.data.frames))
    weighted = dataclasses.replace(trained, data=dataclasses.replace(trained.data, weights=weights))
    mdvae.save(weighted, tmp_path / "weighted.mdvae")
    np.testing.assert_array_equal(mdvae.load(tmp_path / "weighted.mdvae").data.weights, weights)
    assert saving._read(tmp_path / "weighted.mdvae")[0]["format"] == saving.FORMAT_VERSION == 5


def test_description_names_versions_and_units(saved):
    document = saving._read(saved)[0]
    assert document["format"] == 4
    assert document["length_unit"] == "reduced"
    assert {"mdvae", "jax", "equinox"} <= set(document["versions"])


def _first_format(path):
    """A file as mdvae 0.1 wrote it: ranges of bonds and one contact distance, and a spec without later fields."""
    document, arrays = saving._read(path)
    arrays = {name: array for name, array in arrays.items() if not name.startswith("data.geometry.")}
    pairs = np.array([[i, i + 1] for i in range(5)])
    old = {"pairs": pairs, "shortest": np.full(5, 0.1), "longest": np.full(5, 0.9), "contact": np.array(0.2)}
    arrays |= {f"data.geometry.{name}": array for name, array in (old | {"watched": pairs[:0]}).items()}
    document["format"] = 1
    document["spec"] = {name: value for name, value in document["spec"].items() if name not in ("residual", "rank")}
    text = json.dumps(document)
    return safetensors.numpy.save(arrays, {"mdvae": text, "sha256": saving._digest(text, arrays)})


def test_models_of_the_first_format_can_be_read(frames, chain, tmp_path):
    """They encode as ever, and take the statistics that restoring needs from the frames that they keep."""
    path = tmp_path / "old.mdvae"
    model = mdvae.build(frames, latent_dim=3, hidden=(8, 8), residual=False)
    model = mdvae.train(model, frames, epochs=2, seed=0)
    mdvae.save(model, path)
    path.write_bytes(_first_format(path))
    old = mdvae.load(path)
    np.testing.assert_array_equal(mdvae.encode(old, chain), mdvae.encode(model, chain))
    for name, value in model.data.geometry.to_dict().items():
        np.testing.assert_allclose(old.data.geometry.to_dict()[name], value, rtol=1e-5)
    assert mdvae.generate(old, 5).restoration.valid.all()
    mdvae.save(old, path)
    np.testing.assert_array_equal(mdvae.encode(mdvae.load(path), chain), mdvae.encode(model, chain))


def test_untrained_model_round_trips(frames, tmp_path):
    model = mdvae.build(frames, latent_dim=3, hidden=(8,), likelihood="squared_error")
    mdvae.save(model, tmp_path / "m.mdvae")
    again = mdvae.load(tmp_path / "m.mdvae")
    assert again.data is None
    assert again.history is None
    np.testing.assert_array_equal(encode_posed(again, frames.coordinates), encode_posed(model, frames.coordinates))


def test_model_without_spec_needs_like(trained, tmp_path, chain):
    mdvae.save(dataclasses.replace(trained, spec=None), tmp_path / "m.mdvae")
    with pytest.raises(ValueError, match="composed by hand; load it with like="):
        mdvae.load(tmp_path / "m.mdvae")
    again = mdvae.load(tmp_path / "m.mdvae", like=trained)
    np.testing.assert_array_equal(mdvae.encode(again, chain[:5]), mdvae.encode(trained, chain[:5]))


def _truncated(content):
    return content[: len(content) // 2]


def _altered(content):
    return content[:-1] + bytes([content[-1] ^ 1])


def _foreign(content):
    del content
    return safetensors.numpy.save({"x": np.zeros(2)}, {"made_by": "someone"})


def _newer(content):
    arrays = safetensors.numpy.load(content)
    document = json.dumps({"format": NEWER, "versions": {"mdvae": "9.0"}})
    return safetensors.numpy.save(arrays, {"mdvae": document})


NEWER = saving.FORMAT_VERSION + 1
BAD_FILES = {
    "truncated": (_truncated, "is not an mdvae model, or is cut short or damaged"),
    "empty": (lambda content: b"", "is not an mdvae model, or is cut short or damaged"),
    "text": (lambda content: b"hello\n" * 100, "is not an mdvae model, or is cut short or damaged"),
    "altered": (_altered, "altered or damaged: its checksum does not fit"),
    "foreign": (_foreign, "safetensors file of another program"),
    "newer": (_newer, f"was written by mdvae 9.0 in format {NEWER}; this version reads up to {NEWER - 1}"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_refused(case, saved, tmp_path):
    spoil, message = BAD_FILES[case]
    path = tmp_path / "bad.mdvae"
    path.write_bytes(spoil(saved.read_bytes()))
    with pytest.raises(ValueError, match=message):
        mdvae.load(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model file at"):
        mdvae.load(tmp_path / "none.mdvae")
    with pytest.raises(IsADirectoryError, match="is a directory"):
        mdvae.load(tmp_path)


def test_failed_save_leaves_the_old_file(trained, saved, monkeypatch, tmp_path):
    path = tmp_path / "m.mdvae"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left on device"):
        mdvae.save(trained, path)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.mdvae"]


def test_a_pattern_that_contradicts_the_file_is_refused(trained, frames, saved):
    other = mdvae.build(frames, latent_dim=3, hidden=(32, 32), activation="gelu")
    with pytest.raises(ValueError, match="another spec than like="):
        mdvae.load(saved, like=other)


def test_statistics_of_format_2_are_kept_and_completed(trained, saved, tmp_path):
    """Its flat torsions and usual contacts were not there yet; all else was of all training frames."""
    content = saved.read_bytes()
    arrays = safetensors.numpy.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    document = json.loads(header["__metadata__"]["mdvae"]) | {"format": 2}
    arrays = {k: v for k, v in arrays.items() if not k.startswith("data.geometry.t")}
    arrays |= {"data.geometry.thermal": np.array(7.0), "data.geometry.closest": arrays["data.geometry.closest"] / 2}
    text = json.dumps(document)
    metadata = {"mdvae": text, "sha256": saving._digest(text, arrays)}
    (tmp_path / "old.mdvae").write_bytes(safetensors.numpy.save(arrays, metadata))
    geometry = mdvae.load(tmp_path / "old.mdvae").data.geometry
    assert geometry.thermal == 7.0
    np.testing.assert_array_equal(geometry.closest, trained.data.geometry.closest / 2)
    np.testing.assert_allclose(geometry.touching, trained.data.geometry.touching)


def test_numpy_numbers_can_be_saved(frames, tmp_path):
    model = mdvae.build(frames, latent_dim=2, hidden=(8, 8), seed=np.int64(1))
    options = {"learning_rate": np.float32(1e-3), "beta": np.float64(1), "epochs": np.int32(2), "seed": np.int64(1)}
    model = mdvae.train(model, frames, batch_size=np.int64(64), **options)
    mdvae.save(model, tmp_path / "m.mdvae")
    assert mdvae.load(tmp_path / "m.mdvae").settings["seed"] == 1
