"""What MDAnalysis holds gives the numbers that the files themselves give."""

import gzip
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import mdtraj as md
import numpy as np
import pytest

import mdvae
from mdvae.trajectory import System

mda = pytest.importorskip("MDAnalysis")
from mdvae.adapters.mdanalysis import LatentAnalysis  # noqa: E402 (it needs MDAnalysis)

DATA = Path(os.environ.get("MDVAE_DATA", Path(__file__).parents[2].parent / "shared/data"))
CELL = np.array([[2.4, 0, 0], [0.6, 2.3, 0], [-0.5, 0.7, 2.2]])
NAMES = ("N", "CA", "C", "O", "CB")


def universe(*files, **options):
    """Without what MDAnalysis says about files of few words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mda.Universe(*map(str, files), **options)


def peptides(rng, n_frames=30):
    """Five alanines that shake, and 20 waters around them; every atom wrapped into a triclinic cell by itself."""
    topology = md.Topology()
    chain = topology.add_chain()
    for i in range(5):
        residue = topology.add_residue("ALA", chain, resSeq=i + 1)
        for name in NAMES:
            topology.add_atom(name, md.element.get_by_symbol(name[0]), residue)
    waters = topology.add_chain()
    for i in range(20):
        topology.add_atom("O", md.element.oxygen, topology.add_residue("HOH", waters, resSeq=i + 6))
    alpha = np.array([[0, 0, 0], [0.12, 0.08, 0], [0.24, 0, 0], [0.26, -0.12, 0], [0.12, 0.16, 0.12]])
    turns = 0.7 * np.arange(5)
    arc = 0.55 * np.stack([np.sin(turns), 1 - np.cos(turns), 0.3 * turns], axis=1)
    c, s, zero = np.cos(turns), np.sin(turns), np.zeros(5)
    turn = np.stack([np.stack([c, -s, zero], -1), np.stack([s, c, zero], -1), np.stack([zero, zero, zero + 1], -1)], -2)
    strand = (np.einsum("rij,aj->rai", turn, alpha) + arc[:, None]).reshape(25, 3)
    whole = strand + rng.normal(0, 0.01, (n_frames, 25, 3))
    whole[..., 2] += 0.1 * np.sin(np.arange(n_frames) / 5)[:, None] * np.arange(25) / 5
    water = rng.uniform(0, 2.4, (n_frames, 20, 3))
    xyz = np.concatenate([whole + rng.uniform(-3, 3, (n_frames, 1, 3)), water], axis=1)
    fractions = xyz @ np.linalg.inv(CELL)
    wrapped = md.Trajectory(((fractions - np.floor(fractions)) @ CELL).astype(np.float32), topology)
    wrapped.unitcell_vectors = np.repeat(CELL[None].astype(np.float32), n_frames, axis=0)
    wrapped.time = 2.0 * np.arange(n_frames)
    return wrapped


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mda")
    trajectory = peptides(np.random.default_rng(0))
    trajectory[0].save(str(folder / "top.pdb"))
    trajectory[0].save(str(folder / "top.gro"))
    trajectory.save(str(folder / "run.xtc"))
    return folder


@pytest.fixture(scope="module")
def model(files):
    frames = mdvae.read(files / "run.xtc", top=files / "top.pdb", select="protein")
    assert frames.report.n_made_whole > 20
    return mdvae.build(frames, latent_dim=2, hidden=(16, 16), seed=0)


SELECTIONS = {"everything": None, "the atoms of the model": "protein"}


@pytest.mark.parametrize("top", ["top.pdb", "top.gro"])
@pytest.mark.parametrize("name", SELECTIONS)
def test_an_analysis_gives_the_numbers_of_encode(name, top, files, model):
    u = universe(files / top, files / "run.xtc")
    atoms = u if SELECTIONS[name] is None else u.select_atoms(SELECTIONS[name])
    analysis = LatentAnalysis(model, atoms).run()
    expected = mdvae.encode(model, files / "run.xtc")
    np.testing.assert_allclose(analysis.results.latent, expected, atol=2e-5)
    np.testing.assert_allclose(analysis.results.time, 2.0 * np.arange(30))
    # The same source, by itself: bit for bit, whatever comes together.
    np.testing.assert_array_equal(mdvae.encode(model, atoms, chunk=7), analysis.results.latent)
    assert u.trajectory.frame == 0


def test_start_stop_and_step(files, model):
    u = universe(files / "top.pdb", files / "run.xtc")
    analysis = LatentAnalysis(model, u)
    every = analysis.run().results.latent
    np.testing.assert_array_equal(analysis.run(start=3, stop=24, step=5).results.latent, every[3:24:5])
    np.testing.assert_allclose(analysis.results.time, [6.0, 16.0, 26.0, 36.0, 46.0])
    np.testing.assert_array_equal(analysis.run(frames=[8, 2]).results.latent, every[[8, 2]])
    assert analysis.run(start=5, stop=5).results.latent.shape == (0, 2)


def test_many_chunks_are_one(files, model, monkeypatch):
    u = universe(files / "top.pdb", files / "run.xtc")
    every = LatentAnalysis(model, u).run().results.latent
    monkeypatch.setattr("mdvae.trajectory.universe.UniverseSource.chunk_size", lambda *_: 4)
    np.testing.assert_array_equal(LatentAnalysis(model, u).run().results.latent, every)


def test_what_has_no_bonds_to_wrap_by_is_linked_by_the_whole_universe(files):
    """Alpha carbons alone are made whole along the atoms between them."""
    frames = mdvae.read(files / "run.xtc", top=files / "top.pdb", select="name CA")
    u = universe(files / "top.pdb", files / "run.xtc")
    same = mdvae.read(u.select_atoms("name CA"))
    np.testing.assert_allclose(same.coordinates, frames.coordinates, atol=1e-5)
    assert same.report.n_made_whole == frames.report.n_made_whole > 0
    model = mdvae.build(frames, latent_dim=1, hidden=(8,), seed=0)
    latent = LatentAnalysis(model, u.select_atoms("name CA")).run().results.latent
    np.testing.assert_allclose(latent, mdvae.encode(model, files / "run.xtc"), atol=2e-5)


@pytest.mark.parametrize("top", ["top.pdb", "top.gro"])
def test_reading_is_that_of_the_files(top, files):
    u = universe(files / top, files / "run.xtc")
    expected = mdvae.read(files / "run.xtc", top=files / top, select="protein", stride=2)
    for frames in (mdvae.read(u.select_atoms("protein"), stride=2), mdvae.read(u, select="protein", stride=2)):
        np.testing.assert_allclose(frames.coordinates, expected.coordinates, atol=1e-5)
        np.testing.assert_allclose(frames.time, expected.time)
        np.testing.assert_array_equal(frames.system.masses, expected.system.masses)
        np.testing.assert_array_equal(frames.system.bonds, expected.system.bonds)
        assert list(map(str, frames.system.topology.atoms)) == list(map(str, expected.system.topology.atoms))
        assert System.from_dict(frames.system.to_dict()).n_atoms == 25


def test_every_verb_takes_a_universe(files, model):
    u = universe(files / "top.pdb", files / "run.xtc")
    protein = u.select_atoms("protein")
    with pytest.warns(UserWarning, match="training frames are few"):
        made = mdvae.fit([protein, protein], latent_dim=1, hidden=(8,), epochs=2, progress=False)
    assert mdvae.encode(made, [u, protein]).shape == (60, 1)
    assert mdvae.reconstruct(made, protein).n_frames == 30
    assert mdvae.evaluate(made, u, n_generated=20).reconstruction.rmsd.shape[0] > 0


def test_in_memory_and_named_otherwise(files, model):
    """Coordinates in memory; names, elements and bonds as other programs give them."""
    u = universe(files / "top.pdb", files / "run.xtc", in_memory=True)
    protein = u.select_atoms("protein")
    expected = mdvae.encode(model, files / "run.xtc")
    np.testing.assert_allclose(mdvae.encode(model, protein), expected, atol=2e-5)
    u.add_TopologyAttr("bonds", [(0, 1), (1, 2)])
    np.testing.assert_allclose(mdvae.encode(model, protein), expected, atol=2e-5)
    protein.residues.resnames = "GLY"
    with pytest.raises(ValueError, match="is GLY1-N, expected ALA1-N"):
        mdvae.encode(model, protein)


def test_a_cache_knows_a_universe(files, tmp_path):
    u = universe(files / "top.pdb", files / "run.xtc")
    first = mdvae.read(u.select_atoms("protein"), cache=tmp_path)
    again = mdvae.read(u.select_atoms("protein"), cache=tmp_path)
    assert len(list(tmp_path.glob("*.npy")) or list(tmp_path.iterdir())) >= 1
    np.testing.assert_array_equal(again.coordinates, first.coordinates)
    other = mdvae.read(u.select_atoms("name CA"), cache=tmp_path)
    assert other.system.n_atoms == 5


REFUSED = {
    "other atoms": (lambda u: u.select_atoms("name CA"), {}, "has 5 atoms a frame|matches 5"),
    "no atoms": (lambda u: u.select_atoms("name XX"), {}, "holds no atoms"),
    "another order": (lambda u: u.atoms[[3, 1, 2]], {}, "not in the order of the Universe"),
    "a unit": (lambda u: u, {"length_unit": "angstrom"}, "MDAnalysis is always in Å"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mistakes_are_refused_at_the_door(case, files, model):
    choose, options, message = REFUSED[case]
    u = universe(files / "top.pdb", files / "run.xtc")
    with pytest.raises(ValueError, match=message):
        mdvae.encode(model, choose(u), **options)
    if not options:
        with pytest.raises(ValueError, match=message):
            LatentAnalysis(model, choose(u))


def test_what_is_no_universe_is_refused(files, model):
    u = universe(files / "top.pdb", files / "run.xtc")
    with pytest.raises(ValueError, match="is a selection of atoms already"):
        mdvae.read(u.select_atoms("protein"), select="name CA")
    with pytest.raises(TypeError, match="an MDAnalysis Universe or AtomGroup"):
        mdvae.read(u.residues)
    with pytest.raises(ValueError, match="no trajectory"):
        mdvae.read(mda.Universe.empty(3))


def test_reading_files_does_not_import_it():
    code = "import sys, mdvae; mdvae.read; assert 'MDAnalysis' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not DATA.exists(), reason=f"no trajectories at {DATA}; set MDVAE_DATA")
def test_split_protein_of_a_real_universe(tmp_path):
    """Adenylate kinase, split over a triclinic box in all of its ten frames."""
    with gzip.open(DATA / "adk_pbc/adk_oplsaa.gro.gz") as packed, (tmp_path / "adk.gro").open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    run = DATA / "adk_pbc/adk_oplsaa.xtc"
    frames = mdvae.read(run, top=tmp_path / "adk.gro", select="protein and not element H")
    model = mdvae.build(frames, latent_dim=2, hidden=(16, 16), seed=0)
    u = universe(tmp_path / "adk.gro", run)
    latent = LatentAnalysis(model, u.select_atoms("protein and not name H*")).run().results.latent
    np.testing.assert_allclose(latent, mdvae.encode(model, run), atol=1e-5)
