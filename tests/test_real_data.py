"""The main job on real trajectories, which are no part of the repository.

They are looked for in ``shared/data`` beside the checkout, or in ``MDVAE_DATA``. The long ones run on
``pytest -m slow -n 0 -s tests/test_real_data.py`` and print their figures.
"""

import os
from pathlib import Path

import mdtraj as md
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

import mdvae
from mdvae._chunks import map_rows
from mdvae.alignment import count_jumps
from mdvae.local_geometry import signed_volumes
from mdvae.validity import check

DATA = Path(os.environ.get("MDVAE_DATA", Path(__file__).parents[1].parent / "shared/data"))
pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"no trajectories at {DATA}; set MDVAE_DATA")


def bond_lengths(system, coordinates):
    i, j = system.links.T
    return np.linalg.norm(coordinates[:, i] - coordinates[:, j], axis=-1)


# RMSD in Å that a plain sketch of the same model reached, rounded up.
ALANINE = {2: 0.11, 8: 0.08}


@pytest.mark.slow
@pytest.mark.parametrize("latent_dim", ALANINE)
def test_alanine_dipeptide(latent_dim):
    """Heavy atoms, four runs for training, two held out."""
    runs = [DATA / f"ala2/trajectory-{i}.dcd" for i in range(6)]
    model = mdvae.fit(runs[:4], top=DATA / "ala2/ala2.pdb", select="symbol != H", latent_dim=latent_dim, seed=0)
    held_out = np.concatenate([chunk.coordinates for chunk in mdvae.stream(runs[4:], system=model.system)])
    evaluation = mdvae.evaluate(model, runs[4:])
    rmsd = 10 * evaluation.rmsd.mean()
    reference = bond_lengths(model.system, held_out)
    generated = bond_lengths(model.system, mdvae.generate(model, 10_000, seed=1).xyz)
    inside = np.abs(generated - reference.mean(axis=0)) < 5 * reference.std(axis=0)
    print(f"\n{evaluation}\nall bonds within 5 sd: {100 * inside.all(axis=1).mean():.2f} % of 10 000 generated")
    assert rmsd <= ALANINE[latent_dim]
    assert inside.all()


def test_torsions_of_alanine_dipeptide_by_name(tmp_path):
    """Features, kept in the file by their atoms, are φ and ψ as mdtraj finds them among all atoms."""
    source, top = DATA / "ala2/trajectory-0.dcd", DATA / "ala2/ala2.pdb"
    frames = mdvae.read(source, top=top, select="symbol != H", stride=100)
    model = mdvae.build(frames, representation="chosen", features=["phi", "psi"], hidden=(8,))
    assert model.spec.features == ("torsion 1 3 4 6", "torsion 3 4 6 8")
    mdvae.save(model, tmp_path / "m.mdvae")
    features = map_rows(mdvae.load(tmp_path / "m.mdvae").representation.to_features, frames.coordinates)
    whole = md.load(source, top=top, stride=100)
    angles = np.concatenate([md.compute_phi(whole)[1], md.compute_psi(whole)[1]], axis=1)
    np.testing.assert_allclose(features, np.concatenate([np.cos(angles), np.sin(angles)], axis=1), atol=1e-4)


JUMPS = {"principal": 1, "superposition": 0}


@pytest.mark.parametrize("alignment", JUMPS)
def test_jumps_of_a_smooth_polymer(alignment):
    chain = np.load(DATA / "polymer/paths.npz")["arr"]
    frames = mdvae.read(chain, length_unit="reduced", alignment=alignment)
    assert frames.report.n_jumps == JUMPS[alignment]
    assert count_jumps(frames.alignment, frames.coordinates, frames.lengths).n == JUMPS[alignment]


@pytest.mark.slow
@pytest.mark.parametrize("latent_dim", [2, 8])
def test_no_valid_compact_polymer_overlaps(latent_dim):
    """The textbook's search for the smallest Rg ends in overlapping beads."""
    chain = np.load(DATA / "polymer/long_paths.npz")["arr"]
    model = mdvae.fit(chain, length_unit="reduced", latent_dim=latent_dim, seed=0)
    found = mdvae.minimize(model, mdvae.observables.radius_of_gyration, n_starts=64, seed=0)
    print(f"\nlatent_dim {latent_dim}\n{found}")
    structures = found.candidates.xyz[found.valid][..., :2]
    distances = np.linalg.norm(structures[:, :, None] - structures[:, None], axis=-1)
    assert len(structures)
    assert distances[:, *np.triu_indices(12, 2)].min() >= 1 / 6
    bonds, seen = bond_lengths(model.system, structures), bond_lengths(model.system, chain)
    assert np.all((bonds >= seen.min(axis=0)) & (bonds <= seen.max(axis=0)))


# Held-out RMSD in Å of restored reconstructions, and where to generate from.
HEPTAGLUTAMATE = {2: (1.75, "model"), 16: (1.05, "aggregate_posterior")}


@pytest.mark.slow
@pytest.mark.parametrize("latent_dim", HEPTAGLUTAMATE)
def test_flexible_peptide(latent_dim):
    """Heavy atoms of seven residues between helix and coil; the last fifth of the run is held out."""
    whole = md.load(DATA / "glu7/glu7.xtc", top=DATA / "glu7/glu7.pdb")
    whole = whole.atom_slice(whole.topology.select("symbol != H"))
    border = int(0.8 * whole.n_frames)
    model = mdvae.fit(whole[:border], latent_dim=latent_dim, seed=0)
    evaluation = mdvae.evaluate(model, whole[border:])
    largest, prior = HEPTAGLUTAMATE[latent_dim]
    new = mdvae.generate(model, 10_000, prior=prior, seed=0)
    alphas = model.system.topology.select("name CA")
    ends = [np.linalg.norm(xyz[:, alphas[0]] - xyz[:, alphas[-1]], axis=1) for xyz in (new.xyz, whole[border:].xyz)]
    distance = wasserstein_distance(*ends)
    print(f"\n{evaluation}\n{new.restoration}\nend-to-end distance, W1 to held-out {distance:.4f} nm")
    assert 10 * evaluation.rmsd.mean() <= largest
    assert distance <= 0.07
    omega = [md.compute_omega(md.Trajectory(xyz, model.system.topology))[1] for xyz in (whole.xyz, new.xyz)]
    twisted = [(np.abs(np.sin(angle)) > 0.5).mean() for angle in omega]
    assert twisted[1] <= twisted[0]
    assert evaluation.validity["decoded"]["lengths"] == 0.0
    assert new.restoration.valid.all()
    bonds, seen = (bond_lengths(model.system, xyz) for xyz in (new.xyz, whole[:border].xyz))
    assert np.all(np.abs(bonds - seen.mean(axis=0)) < 5 * seen.std(axis=0))
    geometry = model.data.geometry
    is_alpha = np.isin(geometry.centers[:, 0], alphas)
    assert is_alpha.sum() == 7
    handedness = [np.sign(signed_volumes(xyz, geometry.centers[is_alpha])) for xyz in (whole.xyz, new.xyz, -new.xyz)]
    assert np.all(handedness[0] == handedness[0][0])
    assert np.all(handedness[1] == handedness[0][0])
    assert np.all(handedness[2] != handedness[0][0])
    assert np.all(check(geometry, -new.xyz).n_wrong >= 7)


@pytest.mark.slow
def test_compact_peptide_is_valid():
    model = mdvae.fit(DATA / "glu7/glu7.xtc", top=DATA / "glu7/glu7.pdb", select="symbol != H", seed=0)
    found = mdvae.minimize(model, mdvae.observables.radius_of_gyration, seed=0)
    print(f"\n{found}")
    assert found.valid.all()


def test_split_protein_is_whole():
    files = DATA / "adk_pbc/adk_oplsaa.xtc", DATA / "adk_pbc/adk_oplsaa.gro.gz"
    frames = mdvae.read(files[0], top=files[1], select="protein and name CA")
    assert frames.report.n_made_whole == 10
    steps = np.linalg.norm(np.diff(frames.coordinates, axis=1), axis=-1)
    assert steps.max() < 0.45


SYSTEMS = {
    "glu7": ("glu7/glu7.xtc", "glu7/glu7.pdb", "symbol != H"),
    "adk": ("adk/*/*.dcd", "adk/GOdMD/top.pdb", "name CA"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_verb(name, tmp_path):
    pattern, top, select = SYSTEMS[name]
    files = sorted(DATA.glob(pattern))
    model = mdvae.fit(files, top=DATA / top, select=select, epochs=20, figures=tmp_path / "figures")
    mdvae.save(model, tmp_path / "model.mdvae")
    model = mdvae.load(tmp_path / "model.mdvae")
    z = mdvae.encode(model, files)
    assert z.shape == (model.data.n_frames, 2)
    assert mdvae.decode(model, z[:10]).n_frames == mdvae.generate(model, 10).n_frames == 10
    evaluation = mdvae.evaluate(model, files)
    found = mdvae.minimize(model, mdvae.observables.radius_of_gyration, n_starts=8)
    print(f"\n{name}\n{evaluation}\n{found}")
    assert evaluation.rmsd.mean() < evaluation.rmsd_pca.mean()
