"""Every verb does its job; every mistake is one line and an exit code."""

import json
import signal
import sys
import warnings

import mdtraj as md
import numpy as np
import pytest

import mdvae
from mdvae import cli
from mdvae.validity import check


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command line in a folder of its own; give exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["mdvae", *map(str, arguments)])
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            try:
                cli.main()
                code = 0
            except SystemExit as stop:
                code = stop.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="module")
def files(trained, chain, tmp_path_factory):
    """A model file, its trajectory as an array and as XTC with a PDB; and the like of them gone wrong."""
    folder = tmp_path_factory.mktemp("cli")
    mdvae.save(trained, folder / "chain.mdvae")
    np.save(folder / "chain.npy", chain)
    trajectory = mdvae.to_trajectory(trained.system, chain)
    trajectory[0].save(str(folder / "chain.pdb"))
    trajectory.save(str(folder / "chain.xtc"))
    _spoil(folder, chain, trajectory)
    return folder


def _spoil(folder, chain, trajectory):
    """Write what users will give by mistake."""
    (folder / "empty.xtc").touch()
    whole = (folder / "chain.xtc").read_bytes()
    (folder / "cut.xtc").write_bytes(whole[: len(whole) * 2 // 3 + 10])
    fewer = trajectory[:20].atom_slice(range(5))
    fewer[0].save(str(folder / "fewer.pdb"))
    fewer.save(str(folder / "fewer.xtc"))
    _peptide("ALA")[:5].save(str(folder / "peptide.pdb"))
    _peptide("GLY")[:5].save(str(folder / "mutant.pdb"))
    peptide = mdvae.build(mdvae.read(_peptide("ALA")), latent_dim=2, hidden=(8,), seed=0)
    mdvae.save(peptide, folder / "peptide.mdvae")
    broken = {name: chain.copy() for name in ("nan", "infinite")}
    broken["nan"][7, 2, 1], broken["infinite"][8, 3, 0] = np.nan, np.inf
    line = np.linspace(1, 2, 300)[:, None, None] * np.arange(6.0)[:, None] * np.array([1.0, 2.0, 3.0])
    arrays = broken | {
        "one": chain[:1],
        "twice": chain[[0, 0]],
        "no-frames": chain[:0],
        "point": np.ones((300, 6, 3)),
        "line": line,
        "fewer": chain[:, :5],
    }
    for name, positions in arrays.items():
        np.save(folder / f"{name}.npy", positions)
    np.save(folder / "z.npy", np.random.default_rng(0).normal(size=(50, 3)))
    (folder / "COLVAR").write_text("#! FIELDS time metad.bias\n0 1\n")
    model = (folder / "chain.mdvae").read_bytes()
    (folder / "cut.mdvae").write_bytes(model[: len(model) // 2])
    (folder / "altered.mdvae").write_bytes(model[:-100] + bytes([model[-100] ^ 1]) + model[-99:])


def _peptide(residue):
    """Six alpha carbons in 50 frames; they have names, which those of an array have not."""
    topology = md.Topology()
    chain = topology.add_chain()
    for number in range(1, 7):
        topology.add_atom("CA", md.element.carbon, topology.add_residue(residue, chain, resSeq=number))
    steps = np.array([0.3, 0.1, 0.1]) + 0.1 * np.random.default_rng(0).normal(size=(50, 6, 3))
    return md.Trajectory(np.cumsum(steps, axis=1), topology)


FIT = ("--hidden", "8", "--epochs", "2", "--length-unit", "reduced")


def test_all_verbs_one_after_another(run, files, tmp_path):
    source = (files / "chain.xtc", "--top", files / "chain.pdb")
    code, out, err = run("fit", *source, "-o", "run.mdvae", *FIT, "--figures", "figures")
    assert (code, err) == (0, "")
    assert "300 frames of 6 atoms from 1 trajectory" in out
    assert "wrote run.mdvae" in out
    assert (tmp_path / "figures" / "loss.png").exists()
    for command, made in {
        ("info", "run.mdvae"): None,
        ("encode", "run.mdvae", files / "chain.xtc", "-o", "z.npy"): "z.npy",
        ("decode", "run.mdvae", "z.npy", "-o", "again.dcd"): "again.dcd",
        ("decode", "run.mdvae", "z.npy", "-o", "raw.dcd", "--no-restore"): "raw.dcd",
        ("reconstruct", "run.mdvae", files / "chain.xtc", "-o", "same.dcd"): "same.dcd",
        ("generate", "run.mdvae", "-n", "7", "-o", "new.xtc"): "new.xtc",
        ("generate", "run.mdvae", "-n", "7", "-o", "near.dcd", "--prior", "aggregate_posterior"): "near.dcd",
        ("evaluate", "run.mdvae", files / "chain.xtc", "-o", "e.json", "--n-generated", "50"): "e.json",
    }.items():
        code, out, err = run(*command)
        assert (code, err) == (0, ""), command
        assert out.strip()
        assert made is None or (tmp_path / made).exists()
        assert (" restored: moved by " in out) == (made in ("again.dcd", "same.dcd", "new.xtc", "near.dcd"))
    assert np.load(tmp_path / "z.npy").shape == (300, 2)
    top = md.load_topology(str(files / "chain.pdb"))
    again, same, raw = (md.load(str(tmp_path / f"{name}.dcd"), top=top).xyz for name in ("again", "same", "raw"))
    assert again.shape == (300, 6, 3)
    np.testing.assert_allclose(same, again, atol=1e-4)
    assert np.abs(raw - again).max() > 1e-3
    assert md.load(str(tmp_path / "new.xtc"), top=top).n_frames == 7
    assert not list(tmp_path.glob(".*"))


def test_chosen_features(run, files, tmp_path):
    """The same words as in Python; what needs positions is one line."""
    features = ("--representation", "chosen", "--feature", "distance 0 5", "--feature", "contact 1 -1")
    command = ("fit", files / "chain.npy", "-o", "run.mdvae", *FIT, *features, "--contact-radius", "0.3")
    code, out, err = run(*command, "--figures", "figures")
    assert (code, err) == (0, "")
    assert "features    Chosen, 2 numbers a frame, encode only: distance 0 5, contact 1 5" in out
    assert "figures of structures are left out: the model only encodes" in out
    made = mdvae.load(tmp_path / "run.mdvae")
    assert (made.spec.features, made.spec.contact_radius) == (("distance 0 5", "contact 1 5"), 0.3)
    assert run("info", "run.mdvae")[1].count("encode only") == 1
    assert run("encode", "run.mdvae", files / "chain.npy", "-o", "z.npy")[0] == 0
    code, out, err = run("evaluate", "run.mdvae", files / "chain.xtc", "--worst", "w.pdb")
    assert (code, err) == (0, "")
    assert "it cannot generate" in out
    assert out.endswith("its features have no way back to positions: w.pdb was not written\n")
    for verb in (("generate",), ("minimize",), ("decode", "z.npy"), ("reconstruct", files / "chain.npy")):
        code, out, err = run(verb[0], "run.mdvae", *verb[1:], "-o", "new.pdb")
        assert (code, out) == (1, "")
        assert err == (
            f"mdvae: error: {verb[0]} needs positions, and this model only encodes: its features have no way back to "
            "them; train one with --representation 'cartesian' or 'internal' for that\n"
        )
    assert run("fit-noise", "run.mdvae", "-o", "noisy.mdvae")[0] == 1
    assert not (tmp_path / "new.pdb").exists()


def test_internal_coordinates(run, files):
    code, out, err = run("fit", files / "chain.npy", "-o", "run.mdvae", *FIT, "--representation", "internal")
    assert (code, err) == (0, "")
    assert "features    Internal, 13 numbers a frame" in out
    assert run("generate", "run.mdvae", "-n", "3", "-o", "new.pdb", "--no-restore", "--quiet") == (0, "", "")


def test_undersampled_writes_what_it_found(run, files, tmp_path):
    sizes = ("--n-bins", "8", "--fewest", "5", "-n", "6")
    code, out, err = run("undersampled", files / "chain.mdvae", "-o", "thin.dcd", *sizes)
    assert (code, err) == (0, "")
    assert "hold fewer than 5 of" in out
    assert "generated    6 of 6 conformations" in out
    found = mdvae.undersampled(mdvae.load(files / "chain.mdvae"), n_bins=8, fewest=5, n_frames=6)
    written = md.load(tmp_path / "thin.dcd", top=found.trajectory.topology)
    np.testing.assert_allclose(written.xyz, found.trajectory.xyz, atol=1e-5)


def test_undersampled_in_an_observable_of_other_data(run, files, tmp_path):
    command = ("undersampled", files / "chain.mdvae", "-o", "thin.pdb", "--source", files / "chain.npy")
    code, out, err = run(*command, "--observable", "radius_of_gyration", "-n", "3", "--n-bins", "10")
    assert (code, err) == (0, "")
    assert "bins of radius_of_gyration" in out
    assert (tmp_path / "thin.pdb").exists()


def test_minimize_writes_the_answer(run, files, tmp_path):
    options = ("--observable", "end_to_end_distance", "--n-starts", "4", "--n-steps", "20")
    code, out, err = run("minimize", files / "chain.mdvae", "-o", "ends.pdb", *options)
    assert (code, err) == (0, "")
    assert "starts ended in a valid structure" in out
    assert md.load(str(tmp_path / "ends.pdb")).n_frames == 1


def test_minimize_among_the_decoders_own_structures(run, files):
    options = ("--observable", "end_to_end_distance", "--n-starts", "4", "--n-steps", "20", "--no-restore")
    code, out, err = run("minimize", files / "chain.mdvae", "-o", "ends.pdb", *options)
    assert (code, err) == (0, "")
    assert "moved by restoring" not in out


@pytest.mark.parametrize("restore", [True, False])
def test_generate_only_valid_ones(run, files, trained, tmp_path, restore):
    options = () if restore else ("--no-restore",)
    code, out, err = run("generate", files / "chain.mdvae", "-n", "60", "-o", "new.dcd", "--valid", *options)
    assert (code, err) == (0, "")
    expected = mdvae.generate(trained, 60, valid=True, restore=restore)
    assert f"60 valid of {expected.n_drawn} drawn\n" in out
    assert (expected.n_drawn > 60) == (not restore)
    found = md.load(str(tmp_path / "new.dcd"), top=md.load_topology(str(files / "chain.pdb"))).xyz
    np.testing.assert_allclose(found, expected.xyz, atol=1e-5)


def test_reconstruct_takes_every_third(run, files, tmp_path):
    command = ("reconstruct", files / "chain.mdvae", files / "chain.npy", "-o", "a.pdb", "--stride", "3")
    code, out, err = run(*command)
    assert (code, err) == (0, "")
    assert "100 structures restored: moved by" in out
    assert "wrote a.pdb: 100 conformations" in out
    assert md.load(str(tmp_path / "a.pdb")).n_frames == 100


def test_evaluate_writes_what_was_asked_for(run, files, trained, tmp_path):
    """A table, and the worst structures; or a word that there are none."""
    options = ("--n-generated", "200", "--noise", "--seed", "1")
    code, out, err = run(
        "evaluate", files / "chain.mdvae", files / "chain.xtc", *options, "-o", "e.csv", "--worst", "worst.pdb"
    )
    assert (code, err) == (0, "")
    assert "(270 further frames of this source were trained on, and left out)" in out
    found = mdvae.evaluate(trained, files / "chain.xtc", n_generated=200, noise=True, seed=1)
    assert str(found.verdict) in out
    assert len((tmp_path / "e.csv").read_text().splitlines()) == 1 + len(list(found.rows()))
    if found.worst.n_frames:
        np.testing.assert_allclose(md.load(str(tmp_path / "worst.pdb")).xyz, found.worst.xyz, atol=1e-3)
    else:
        assert "nothing is wrong anywhere: worst.pdb was not written" in out
        assert not (tmp_path / "worst.pdb").exists()


def test_report_writes_a_page(run, files, tmp_path):
    code, out, err = run("report", files / "chain.mdvae", files / "chain.xtc", "--n-generated", "60", "-o", "r.html")
    assert (code, err) == (0, "")
    assert "Verdict: as a coordinate:" in out
    assert "wrote r.html" in out
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")


def test_free_energy_is_that_of_the_library(run, files, trained, chain, tmp_path):
    """Of trajectories that a table tells apart, of one coordinate, weighted by a bias, with states."""
    np.save("first.npy", chain[:180])
    np.save("second.npy", chain[180:])
    mdvae.write_latents(trained, ["first.npy", "second.npy"], "z.csv", length_unit="reduced")
    bias = np.linspace(0, 2, 300)
    rows = "".join(f"{i} {energy}\n" for i, energy in enumerate(bias))
    (tmp_path / "COLVAR").write_text("#! FIELDS time metad.bias\n#! SET a 1\n" + rows)
    options = ("--coordinates", "2", "--state", "low=:0", "--state", "high=0:", "-T", "310", "--weights")
    made = ("-o", "f.csv", "--figure", "f.png")
    code, out, err = run("free-energy", "z.csv", *options, "COLVAR:metad.bias", *made)
    assert (code, err) == (0, "")
    z = mdvae.encode(trained, chain)[:, 1:2]
    states = {"low": (None, 0.0), "high": (0.0, None)}
    weights = np.exp(bias / (8.31446261815324e-3 * 310))
    expected = mdvae.free_energy([z[:180], z[180:]], 310.0, weights=weights, states=states, names=["z2"])
    assert expected.n_trajectories == 2
    assert out == f"{expected}\nwrote f.csv\nwrote f.png\n"
    assert len((tmp_path / "f.csv").read_text().splitlines()) == 1 + expected.values.size
    assert (tmp_path / "f.png").stat().st_size > 10_000


def test_quiet_says_nothing(run, files):
    assert run("generate", files / "chain.mdvae", "-n", "2", "-o", "a.pdb", "--quiet") == (0, "", "")
    assert run("fit", files / "chain.npy", "-o", "b.mdvae", *FIT, "--quiet") == (0, "", "")


def test_evaluate_weighs_frames(run, files, chain, tmp_path):
    later = mdvae.toys.bead_spring_chain(120, n_beads=6, seed=1)
    np.save(tmp_path / "later.npy", later)
    np.save(tmp_path / "w.npy", np.arange(120.0))
    command = ("evaluate", files / "chain.mdvae", "later.npy", "--n-generated", "20", "-o", "e.json")
    code, out, err = run(*command, "--weights", "w.npy")
    assert (code, err) == (0, "")
    assert "the frames are weighted" in out
    assert json.loads((tmp_path / "e.json").read_text())["how"]["weighted"]


def test_export_to_what_runs_python(run, files, tmp_path, hexane):
    pytest.importorskip("flatbuffers")
    frames = mdvae.read(hexane[0])
    model = mdvae.train(mdvae.build(frames, hidden=(8,)), frames, epochs=1, progress=False)
    mdvae.save(model, tmp_path / "run.mdvae")
    for engine, name in (("portable", "cv.jax"), ("pycv", "latent.py")):
        code, out, err = run("export", "run.mdvae", "--to", engine, "-o", name)
        assert (code, err) == (0, "")
        assert out.startswith(f"wrote {name}")
        assert (tmp_path / name).exists()


@pytest.mark.parametrize("engine", ["plumed", "colvars"])
def test_export_is_that_of_the_library(run, tmp_path, engine):
    hexane = mdvae.read(mdvae.toys.alkane(300, n_carbons=6, seed=0))
    model = mdvae.build(hexane, hidden=(8,), representation="chosen", features=["torsion 0 1 2 3", "distance 0 5"])
    mdvae.save(mdvae.train(model, hexane, epochs=1, progress=False), tmp_path / "run.mdvae")
    code, out, err = run("export", "run.mdvae", "--to", engine, "-o", "cv.in")
    assert (code, err) == (0, "")
    assert out.startswith("wrote cv.in")
    assert "values differ by " in out
    getattr(mdvae.export, f"export_{engine}")(mdvae.load("run.mdvae"), "again.in")
    assert (tmp_path / "again.in").read_text().replace("again.", "cv.") == (tmp_path / "cv.in").read_text()


VERBS = (
    "demo", "fit", "encode", "decode", "reconstruct", "generate", "minimize", "undersampled", "evaluate", "report",
    "free-energy", "export", "info",
)  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_help(run, verb):
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert f"Usage: mdvae {verb}" in out


TOP = ("--top", "{files}/chain.pdb")
OUT = ("-o", "m.mdvae")
CHOSEN = ("fit", "{files}/chain.npy", "-o", "m.mdvae", "--representation", "chosen", "--feature")
MISTAKES = {
    "a trajectory's ending for a model": (
        ("fit", "{files}/chain.npy", "-o", "run.xtc"),
        "run.xtc has the ending of a trajectory; a model file is named like run.mdvae",
    ),
    "a structure's ending for a model": (
        ("fit", "{files}/chain.npy", "-o", "run.PDB.gz", "--figures", "figures"),
        "run.PDB.gz has the ending of a trajectory",
    ),
    "a file for figures": (
        ("fit", "{files}/chain.npy", "-o", "m.mdvae", "--figures", "{files}/chain.npy"),
        "is a file; expected a folder",
    ),
    "missing file": (("fit", "nope.xtc", "-o", "m.mdvae"), "nope.xtc does not exist"),
    "directory": (("fit", "{files}", "-o", "m.mdvae"), "is a directory"),
    "no topology": (("fit", "{files}/chain.xtc", "-o", "m.mdvae"), "holds no topology"),
    "misspelled selection": (
        ("fit", "{files}/chain.xtc", "--top", "{files}/chain.pdb", "--select", "nmae CA", "-o", "m.mdvae"),
        "nmae CA",
    ),
    "latent_dim 0": (("fit", "{files}/chain.npy", "--latent-dim", "0", "-o", "m.mdvae"), "must be at least 1"),
    "latent_dim too large": (
        ("fit", "{files}/chain.npy", "--latent-dim", "13", "-o", "m.mdvae"),
        "larger than the number of features: 6 atoms x 2 = 12",
    ),
    "internal coordinates by squares": (
        ("fit", "{files}/chain.npy", "--representation", "internal", "--likelihood", "squared_error", "-o", "m.mdvae"),
        "--representation 'internal' mixes lengths and angles and needs --likelihood 'gaussian'",
    ),
    "a score without a lag": (
        ("fit", "{files}/chain.npy", "--vamp-weight", "10", *OUT),
        "--vamp-weight 10.0 asks how slow coordinates are; give a lagtime",
    ),
    "a lag longer than what is held out": (
        ("fit", "{files}/chain.npy", "--length-unit", "reduced", "--lagtime", "6", *OUT),
        "--lagtime 6 leaves no pair of held-out frames, of which at most 6 follow one another",
    ),
    "a bias without a temperature": (
        ("fit", "{files}/chain.npy", "--weights", "COLVAR:metad.bias", *OUT),
        "--weights 'COLVAR:metad.bias' are energies; give the temperature",
    ),
    "a bias and a lag": (
        ("fit", "{files}/chain.npy", "--weights", "C:bias", "--temperature", "300", "--lagtime", "2", *OUT),
        "they undo what it visited, not how fast it moved",
    ),
    "negative beta": (("fit", "{files}/chain.npy", "--beta", "-1", "-o", "m.mdvae"), "beta must be"),
    "hidden": (("fit", "{files}/chain.npy", "--hidden", "a,b", "-o", "m.mdvae"), "--hidden takes whole numbers"),
    "no folder": (("fit", "{files}/chain.npy", "-o", "none/m.mdvae"), "there is no folder none"),
    "output is input": (
        ("encode", "{files}/chain.mdvae", "{files}/chain.npy", "-o", "{files}/chain.npy"),
        "is an input",
    ),
    "reconstruction is input": (
        ("reconstruct", "{files}/chain.mdvae", "{files}/chain.xtc", "-o", "{files}/chain.xtc"),
        "is an input",
    ),
    "reconstruction of another molecule": (
        ("reconstruct", "{files}/chain.mdvae", "{files}/fewer.npy", "-o", "c.pdb"),
        "the model was trained on 6 of 6: is this another molecule?",
    ),
    "not a model": (("info", "{files}/chain.pdb"), "is not an mdvae model"),
    "format": (("generate", "{files}/chain.mdvae", "-o", "new.doc"), "cannot be written; expected one of"),
    "top of no source": (
        ("undersampled", "{files}/chain.mdvae", "-o", "c.pdb", "--top", "a.pdb"),
        "give one, or leave",
    ),
    "observable": (("minimize", "{files}/chain.mdvae", "--observable", "rg", "-o", "c.pdb"), "Expected one of the obs"),
    "empty file": (("fit", "{files}/empty.xtc", *TOP, *OUT), "empty.xtc is empty (0 bytes)"),
    "truncated file": (("fit", "{files}/cut.xtc", *TOP, *OUT), "cut off in the middle of a frame, after 200 whole"),
    "wrong topology": (
        ("fit", "{files}/chain.xtc", "--top", "{files}/fewer.pdb", *OUT),
        "fewer.pdb has 5: give the topology that belongs to it",
    ),
    "files of different size": (
        ("fit", "{files}/chain.xtc", "{files}/fewer.xtc", *TOP, *OUT),
        "fewer.xtc has 5 atoms a frame, but the topology has 6",
    ),
    "arrays of different size": (
        ("fit", "{files}/chain.npy", "{files}/fewer.npy", *OUT),
        "fewer.npy has 5 atoms a frame, expected 6 as in",
    ),
    "empty selection": (
        ("fit", "{files}/chain.xtc", *TOP, "--select", "name QQ", *OUT),
        "--select 'name QQ' matches none of the 6 atoms",
    ),
    "no frames": (("fit", "{files}/no-frames.npy", *OUT), "no-frames.npy holds no frames"),
    "one frame": (("fit", "{files}/one.npy", *OUT), "1 frame is too few to train on"),
    "two identical frames": (("fit", "{files}/twice.npy", *OUT), "2 frames are too few to train on"),
    "NaN coordinates": (
        ("fit", "{files}/nan.npy", *OUT),
        "NaN or infinite coordinates in 1 frame, the first is frame 7",
    ),
    "infinite coordinates": (
        ("fit", "{files}/infinite.npy", *OUT),
        "NaN or infinite coordinates in 1 frame, the first is frame 8",
    ),
    "NaN coordinates to encode": (
        ("encode", "{files}/chain.mdvae", "{files}/nan.npy", "-o", "z.npy"),
        "NaN or infinite coordinates in 1 frame, the first is frame 7",
    ),
    "all atoms at one point": (("fit", "{files}/point.npy", *OUT), "all atoms lie on one point in every frame"),
    "collinear atoms": (
        ("fit", "{files}/line.npy", *OUT),
        "all atoms lie on one line in every frame, so no orientation is defined; select more atoms, or use --alignment",
    ),
    "NaN beta": (("fit", "{files}/chain.npy", "--beta", "nan", *OUT), "beta must be a finite number"),
    "infinite beta": (("fit", "{files}/chain.npy", "--beta", "inf", *OUT), "beta must be a finite number"),
    "truncated model": (("info", "{files}/cut.mdvae"), "is not an mdvae model, or is cut short or damaged"),
    "altered model": (("generate", "{files}/altered.mdvae", "-o", "c.pdb"), "altered.mdvae was altered or damaged"),
    "model of a larger molecule": (
        ("encode", "{files}/chain.mdvae", "{files}/fewer.npy", "-o", "z.npy"),
        "the model was trained on 6 of 6: is this another molecule?",
    ),
    "model of another molecule": (
        ("encode", "{files}/peptide.mdvae", "{files}/mutant.pdb", "-o", "z.npy"),
        "is GLY1-CA, expected ALA1-CA",
    ),
    "no page": (
        ("report", "{files}/chain.mdvae", "{files}/chain.xtc", "-o", "report.pdf"),
        "report.pdf is not the name of a page; expected one like report.html",
    ),
    "evaluation of another molecule": (
        ("evaluate", "{files}/chain.mdvae", "{files}/fewer.npy"),
        "the model was trained on 6 of 6: is this another molecule?",
    ),
    "a lag that is too long": (
        ("evaluate", "{files}/chain.mdvae", "{files}/chain.xtc", "--lagtime", "900"),
        "--lagtime ",
    ),
    "worst structures in a table": (
        ("evaluate", "{files}/chain.mdvae", "{files}/chain.xtc", "--worst", "worst.csv"),
        "cannot be written; expected one of",
    ),
    "numbers in a page": (
        ("evaluate", "{files}/chain.mdvae", "{files}/chain.xtc", "-o", "e.pdb"),
        "e.pdb is neither JSON nor a table; expected a name like e.json or e.csv",
    ),
    "the worst of several": (
        ("evaluate", "{files}/chain.mdvae", "{files}/chain.xtc", "--also", "{files}/chain.mdvae", "--worst", "w.pdb"),
        "--worst is of one model; leave out --also",
    ),
    "nothing generated": (
        ("evaluate", "{files}/chain.mdvae", "{files}/chain.xtc", "--n-generated", "0"),
        "expected at least 1 structure to generate",
    ),
    "features of positions": (
        ("fit", "{files}/chain.npy", "-o", "m.mdvae", "--feature", "distance 0 5"),
        "features are for --representation 'chosen', got 'cartesian'",
    ),
    "no such feature": (
        (*CHOSEN, "angle 0 1 2"),
        "'angle 0 1 2' is no feature; expected one like 'distance 0 9'",
    ),
    "a feature of an atom that is not there": (
        (*CHOSEN, "distance 0 6", "--latent-dim", "1", "--quiet"),
        "the feature 'distance 0 6' names atom 6, expected 0 to 5",
    ),
    "a radius of no contact": (
        (*CHOSEN, "distance 0 1", "--contact-radius", "0.3"),
        "--contact-radius 0.3 is of contacts, and none is among the features",
    ),
    "no free energy of three coordinates": (
        ("free-energy", "{files}/z.npy"),
        "a free energy is of one or two coordinates, got 3",
    ),
    "a latent coordinate too many": (
        ("free-energy", "{files}/z.npy", "--coordinates", "1,4"),
        "z.npy has 3 latent coordinates, asked for was z1, z4",
    ),
    "a state without an end": (
        ("free-energy", "{files}/z.npy", "--coordinates", "1", "--state", "A=3"),
        "--state takes NAME=low:high, such as A=:0.5 or A=-1:0,2:3; got 'A=3'",
    ),
    "a bias without a column": (
        ("free-energy", "{files}/z.npy", "--coordinates", "1", "--weights", "COLVAR"),
        "--weights 'COLVAR' names no column",
    ),
    "another column": (
        ("free-energy", "{files}/z.npy", "--coordinates", "1", "--weights", "{files}/COLVAR:bias"),
        "COLVAR has no column 'bias'; it has time, metad.bias",
    ),
    "an export from the plane": (
        ("export", "{files}/chain.mdvae", "--to", "plumed", "-o", "cv.dat"),
        "PLUMED works in three dimensions, and this model's frames are in the plane",
    ),
    "zero": (("generate", "{files}/chain.mdvae", "-n", "0", "-o", "c.pdb"), "at least 1 conformation"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line(case, run, files, tmp_path):
    command, message = MISTAKES[case]
    code, _, err = run(*(part.format(files=files) for part in command))
    assert code == 1
    assert message in err
    assert err.startswith("mdvae: error: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


REFUSED = {
    "more components than frames": (
        ("fit-prior", "--n-components", "900"),
        "--n-components 900 must be from 1 to the number of examples, 270",
    ),
    "components of a flow": (("fit-prior", "--prior", "flow", "--n-components", "4"), "--n-components 4 belongs to"),
    "too high a rank": (("fit-noise", "--rank", "12"), "rank must be from 1 to 11"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_fitted_is_one_line_and_no_file(run, files, tmp_path, case):
    (verb, *options), words = REFUSED[case]
    code, out, err = run(verb, files / "chain.mdvae", *options, "-o", "m.mdvae")
    assert (code, out) == (1, "")
    assert err.startswith("mdvae: error: ")
    assert err.count("\n") == 1
    assert words in err
    assert not list(tmp_path.iterdir())


def test_a_squared_error_has_no_likelihood(run, files):
    code, _, err = run("log-likelihood", "none.mdvae", files / "chain.npy", "--length-unit", "reduced")
    assert (code, err.count("\n")) == (1, 1)
    assert "none.mdvae" in err
    code, _, err = run("fit", files / "chain.npy", "-o", "s.mdvae", *FIT, "--likelihood", "squared_error")
    assert code == 0
    code, _, err = run("log-likelihood", "s.mdvae", files / "chain.npy", "--length-unit", "reduced")
    assert (code, err) == (
        1,
        "mdvae: error: a squared error is no density and gives no log-likelihood; use a Gaussian likelihood\n",
    )


def test_wrong_usage_is_exit_code_2(run):
    code, _, err = run("fit", "--no-such-option")
    assert code == 2
    assert "No such option" in err


def test_warnings_are_one_line(run, capsys):
    cli._show_warning("two\nlines", UserWarning, "file", 1)
    assert capsys.readouterr().err == "mdvae: warning: two lines\n"


@pytest.fixture
def interruptible():
    """Where the tests themselves run in the background of a shell, SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_prior_noise_and_likelihood_are_those_of_the_library(run, files, trained, tmp_path):
    code, out, err = run("fit-prior", files / "chain.mdvae", "--n-components", "4", "--seed", "3", "-o", "prior.mdvae")
    assert (code, err) == (0, "")
    assert out.endswith("wrote prior.mdvae\n")
    code, out, err = run("fit-noise", "prior.mdvae", "--rank", "2", "--seed", "4", "-o", "noise.mdvae")
    assert (code, err) == (0, "")
    made = mdvae.load(tmp_path / "noise.mdvae")
    expected = mdvae.fit_noise(mdvae.fit_prior(trained, n_components=4, seed=3, progress=False), rank=2, seed=4)
    assert made.spec == expected.spec
    new, same = (mdvae.generate(model, 5, noise=True, restore=False, seed=5).xyz for model in (made, expected))
    np.testing.assert_array_equal(new, same)
    source = (files / "chain.xtc", "--top", files / "chain.pdb")
    code, out, err = run("log-likelihood", "noise.mdvae", *source, "-n", "20", "--seed", "6")
    assert (code, err) == (0, "")
    reading = {"top": files / "chain.pdb"}
    assert out == f"{mdvae.log_likelihood(expected, files / 'chain.xtc', 20, seed=6, **reading)}\n"


def test_frames_are_kept_in_a_cache_for_the_next_time(run, files, tmp_path):
    command = ("fit", files / "chain.npy", "-o", "m.mdvae", "--cache", "kept", *FIT)
    code, out, err = run(*command)
    assert (code, err) == (0, "")
    assert "writing 0.0 MB of posed frames to kept/" in out
    code, out, err = run(*command)
    assert (code, err) == (0, "")
    assert "posed frames found in kept/" in out
    code, _, err = run("fit", files / "chain.npy", "-o", "m.mdvae", "--cache", files / "chain.npy", *FIT)
    assert code == 1
    assert err.startswith("mdvae: error: --cache ")
    assert "is a file; expected a folder" in err


@pytest.mark.usefixtures("interruptible")
def test_interrupt_in_training_keeps_the_best_model(run, files, monkeypatch, tmp_path):
    def interrupt(self, epoch, n_epochs, terms, model=0):
        if epoch == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("mdvae.training.progress.ProgressBar.__call__", interrupt)
    code, _, err = run("fit", files / "chain.npy", "-o", "m.mdvae", *FIT[:2], "--epochs", "50")
    assert code == 130, err
    assert "interrupted in epoch 4 of 50; the best model so far is in m.mdvae" in err
    assert mdvae.load(tmp_path / "m.mdvae").history.interrupted


@pytest.mark.usefixtures("interruptible")
def test_interrupt_before_training_writes_nothing(run, files, monkeypatch, tmp_path):
    monkeypatch.setattr("mdvae.pipeline.build", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    code, _, err = run("fit", files / "chain.npy", "-o", "m.mdvae", *FIT)
    assert (code, err) == (130, "mdvae: interrupted; nothing is left half-written\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("interruptible")
def test_interrupt_in_figures_keeps_the_model(run, files, monkeypatch, tmp_path):
    monkeypatch.setattr("mdvae.pipeline.draw_figures", lambda *_: signal.raise_signal(signal.SIGINT))
    code, _, err = run("fit", files / "chain.npy", "-o", "m.mdvae", *FIT, "--figures", "figures")
    assert code == 130
    assert err.splitlines() == [
        "mdvae: warning: not all figures could be drawn in figures: interrupted",
        "mdvae: interrupted; the model in m.mdvae is whole",
    ]
    assert not mdvae.load(tmp_path / "m.mdvae").history.interrupted


def test_slow_coordinates_and_weights(run, files, tmp_path):
    """One call each; the files say what was done."""
    options = ["--length-unit", "reduced", "--hidden", "8", "--epochs", "2", "--batch-size", "64"]
    lagged = ["--lagtime", "2", "--vamp-weight", "10", "-o", "slow.mdvae"]
    code, out, err = run("fit", files / "chain.npy", *options, *lagged)
    assert (code, err) == (0, "")
    assert "pairs of frames 2 apart" in out
    assert "10.0 x VAMP-2" in out
    assert mdvae.load(tmp_path / "slow.mdvae").settings["lagtime"] == 2
    rows = "".join(f"{i} {0.05 * i}\n" for i in range(300))
    (tmp_path / "COLVAR").write_text("#! FIELDS time metad.rbias\n" + rows)
    weighted = ["--weights", "COLVAR:metad.rbias", "--temperature", "300", "-o", "weighted.mdvae"]
    with warnings.catch_warnings():
        code, out, err = run("fit", files / "chain.npy", *options, *weighted)
    assert code == 0
    model = mdvae.load(tmp_path / "weighted.mdvae")
    expected = np.exp(0.05 * np.arange(300) / (0.00831446 * 300))
    np.testing.assert_allclose(model.data.weights / model.data.weights[0], expected, rtol=1e-4)
    assert "effective examples" in out
    assert "effective ones: the model will know little" in err


@pytest.mark.usefixtures("interruptible")
def test_interrupt_in_fitting_a_prior_keeps_the_best_one(run, files, monkeypatch, tmp_path):
    def interrupt(self, epoch, n_epochs, terms, model=0):
        if epoch == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("mdvae.training.progress.ProgressBar.__call__", interrupt)
    code, _, err = run("fit-prior", files / "chain.mdvae", "--n-components", "4", "-o", "prior.mdvae")
    assert code == 130, err
    assert err.splitlines()[0] == "mdvae: warning: fitting the prior was interrupted; it is the best so far"
    assert err.splitlines()[1:] == ["mdvae: interrupted; the model in prior.mdvae is whole"]
    assert mdvae.load(tmp_path / "prior.mdvae").spec.n_components == 4


def test_long_work_shows_on_a_terminal(run, files, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    code, _, err = run("generate", files / "chain.mdvae", "-n", "7", "-o", "new.dcd")
    assert code == 0
    assert "generating 7 structures" in err
    code, _, err = run("generate", files / "chain.mdvae", "-n", "7", "-o", "new.dcd", "--quiet")
    assert (code, err) == (0, "")


def test_a_search_without_restoring_gets_its_own_advice(run, files, trained, monkeypatch):
    monkeypatch.setattr("mdvae.latent.search.check", lambda geometry, x: check(geometry, np.full_like(x, np.nan)))
    command = ("minimize", files / "chain.mdvae", "-o", "c.pdb", "--n-starts", "2", "--n-steps", "2", "--quiet")
    for options, advice in {(): "try more starts", ("--no-restore",): "leave out --no-restore"}.items():
        code, _, err = run(*command, *options)
        assert code == 1
        assert "no valid structure was found, so c.pdb was not written; " in err
        assert advice in err


def test_a_full_disk_leaves_nothing(run, files, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    code, _, err = run("fit", files / "chain.npy", "-o", "m.mdvae", *FIT)
    assert code == 1
    assert "cannot write m.mdvae: No space left on device" in err
    assert not list(tmp_path.iterdir())
