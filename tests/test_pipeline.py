"""From files to a model and its outputs."""

import numpy as np
import pytest

import mdvae
from mdvae.plots import save_figure
from mdvae.training import Streamed


@pytest.fixture(scope="module")
def fitted(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    options = {"latent_dim": 2, "hidden": (16,), "epochs": 3, "seed": 1, "length_unit": "reduced"}
    return mdvae.fit([chain[:200], chain[200:]], figures=folder, **options), folder, options


def test_fit_is_read_build_train(fitted, chain):
    model = fitted[0]
    frames = mdvae.read([chain[:200], chain[200:]], length_unit="reduced")
    again = mdvae.train(mdvae.build(frames, latent_dim=2, hidden=(16,), seed=1), frames, epochs=3, seed=1)
    np.testing.assert_array_equal(mdvae.encode(model, chain), mdvae.encode(again, chain))


def test_fit_leaves_figures(fitted):
    _, folder, _ = fitted
    always = {"loss.png", "latent.png", "conformations.png", "distances.png", "search.png"}
    assert always <= {p.name for p in folder.iterdir()} <= always | {"compact.png"}
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in folder.iterdir())


@pytest.mark.parametrize("representation", ["cartesian", "internal"])
def test_a_cache_trains_the_model_that_memory_does(chain, tmp_path, monkeypatch, representation):
    """In many blocks, from the disk, written and found again: the same losses, to rounding."""
    monkeypatch.setattr("mdvae.training.feed._RUN_BYTES", 2**8)
    monkeypatch.setattr("mdvae.training.feed._BLOCK_BYTES", 2**11)
    streamed = []
    take = Streamed.shuffled
    monkeypatch.setattr(Streamed, "shuffled", lambda feed, key: streamed.append(key) or take(feed, key))
    options = {"latent_dim": 2, "hidden": (16,), "epochs": 3, "length_unit": "reduced", "progress": False}
    options |= {"representation": representation, "augment": ["noise=0.01"], "batch_size": 16}
    expected = mdvae.fit([chain[:200], chain[200:]], **options)
    assert not streamed
    for _ in range(2):
        found = mdvae.fit([chain[:200], chain[200:]], cache=tmp_path / "cache", **options)
        for name, values in expected.history.terms.items():
            np.testing.assert_allclose(found.history.terms[name], values, rtol=2e-5, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(mdvae.encode(found, chain), mdvae.encode(expected, chain), atol=1e-4)
        assert found.diagnostics.reconstruction == pytest.approx(expected.diagnostics.reconstruction, rel=1e-4)
    assert len(streamed) == 6


def test_reading_is_on_record(fitted):
    assert "300 frames of 6 atoms from 2 trajectories" in fitted[0].settings["reading"]


def test_one_seed_one_model(fitted, chain):
    model, _, options = fitted
    z = [mdvae.encode(mdvae.fit([chain[:200], chain[200:]], **(options | {"seed": s})), chain) for s in (1, 2)]
    np.testing.assert_array_equal(z[0], mdvae.encode(model, chain))
    assert np.abs(z[1] - z[0]).max() > 1e-3


def test_bad_options_are_refused_before_reading():
    for options in ({"beta": -1.0}, {"latent_dim": 0}, {"learning_rate": 0.0}, {"epochs": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            mdvae.fit("no such file.xtc", **options)


FEW = {
    "one frame": (1, "1 frame is too few to train on; expected at least 10"),
    "two frames": (2, "2 frames are too few"),
}


@pytest.mark.parametrize("case", FEW)
def test_too_few_frames(case, chain):
    n, message = FEW[case]
    with pytest.raises(ValueError, match=message):
        mdvae.fit(chain[:n], epochs=1)


def test_equal_frames(chain):
    with pytest.raises(ValueError, match="all 20 frames are the same structure"):
        mdvae.fit(np.repeat(chain[:1], 20, axis=0), epochs=1)


def test_latents_as_npy_csv_and_colvar(trained, chain, tmp_path):
    source = [chain[:30], chain[30:50]]
    expected = mdvae.encode(trained, source)
    for name in ("z.npy", "z.csv", "COLVAR"):
        assert mdvae.write_latents(trained, source, tmp_path / name) == 50
    np.testing.assert_array_equal(mdvae.read_latents(tmp_path / "z.npy"), expected)
    table = np.genfromtxt(tmp_path / "z.csv", delimiter=",", names=True)
    assert table.dtype.names == ("trajectory", "frame", "time", "z1", "z2", "z3")
    np.testing.assert_array_equal(table["trajectory"], [0] * 30 + [1] * 20)
    np.testing.assert_array_equal(table["frame"], [*range(30), *range(20)])
    np.testing.assert_allclose(table["z2"], expected[:, 1], rtol=1e-6)
    lines = (tmp_path / "COLVAR").read_text().splitlines()
    assert lines[0] == "#! FIELDS time trajectory z1 z2 z3"
    np.testing.assert_allclose(np.loadtxt(lines)[:, 2:], expected, rtol=1e-6)
    for name in ("z.csv", "COLVAR"):
        np.testing.assert_allclose(mdvae.read_latents(tmp_path / name), expected, rtol=1e-6)


def test_colvar_of_one_trajectory_is_plumeds_own(trained, chain, tmp_path):
    """Strided rows carry the numbers of the frames in their file."""
    mdvae.write_latents(trained, chain[:30], tmp_path / "COLVAR", stride=10)
    lines = (tmp_path / "COLVAR").read_text().splitlines()
    assert lines[0] == "#! FIELDS time z1 z2 z3"
    np.testing.assert_array_equal(np.loadtxt(lines)[:, 0], [0, 10, 20])


def test_latents_do_not_replace_what_is_read(trained, chain, tmp_path):
    np.save(tmp_path / "chain.npy", chain)
    with pytest.raises(ValueError, match="is read here; choose another name"):
        mdvae.write_latents(trained, tmp_path / "chain.npy", tmp_path / "chain.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "chain.npy"), chain)


def test_frames_in_another_unit_are_noticed(trained, chain):
    with pytest.warns(UserWarning, match="10 times the size of the training frames"):
        mdvae.encode(trained, 10 * chain)


def test_a_figure_that_fails_does_not_cost_the_model(chain, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("mdvae.plots.save_figure", fail)
    with pytest.warns(UserWarning, match="not all figures could be drawn"):
        model = mdvae.fit(chain, hidden=(8,), epochs=1, length_unit="reduced", figures=tmp_path / "figures")
    assert model.history.n_epochs == 1


def test_frames_of_another_model_are_refused(frames, chain):
    model = mdvae.build(frames, hidden=(8,))
    other = mdvae.read(chain, length_unit="reduced", alignment="principal")
    with pytest.raises(ValueError, match="in another pose than the model's"):
        mdvae.train(model, other, epochs=1)
    with pytest.raises(ValueError, match="the model is of 6 atoms in 2-D and reduced units, the frames are of 5"):
        mdvae.train(model, mdvae.read(chain[:, :5], length_unit="reduced"), epochs=1)


def test_latents_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file of latent points"):
        mdvae.read_latents(tmp_path / "z.npy")
    (tmp_path / "z.npy").write_text("not an array")
    with pytest.raises(ValueError, match="holds no latent points; expected a"):
        mdvae.read_latents(tmp_path / "z.npy")


def test_figures_can_be_drawn_from_a_loaded_model(trained, tmp_path):
    mdvae.save(trained, tmp_path / "m.mdvae")
    figure = mdvae.plots.loss_curves(mdvae.load(tmp_path / "m.mdvae").history)
    save_figure(figure, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").stat().st_size > 10_000


def test_latents_are_read_from_what_engines_print(tmp_path, rng):
    z = rng.normal(size=(7, 2))
    for names in ("cv.node-0 cv.node-1", "z.py-z0 z.py-z1"):
        table = np.column_stack([np.arange(7), z])
        np.savetxt(tmp_path / "COLVAR", table, header=f"#! FIELDS time {names}", comments="")
        np.testing.assert_allclose(mdvae.read_latents(tmp_path / "COLVAR"), z)
    np.savetxt(tmp_path / "COLVAR", table, header="#! FIELDS time phi psi", comments="")
    with pytest.raises(ValueError, match="holds no latent points"):
        mdvae.read_latents(tmp_path / "COLVAR")
