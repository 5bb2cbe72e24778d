"""What mdvae itself takes, for comparing one version with the next: `pytest -m speed -n 0 tests/benchmarks`."""

import jax.numpy as jnp
import mdtraj as md
import numpy as np
import pytest

import mdvae
from mdvae.alignment import Superposition, pose
from mdvae.latent.encoding import encode_posed
from mdvae.trajectory import bead_topology

pytest.importorskip("pytest_benchmark")
pytestmark = pytest.mark.speed
N_FRAMES = 100_000


@pytest.fixture(scope="module")
def coordinates():
    """Frames of hexane, over and over, (100 000, 6, 3), nm."""
    return np.tile(mdvae.toys.alkane(1000, n_carbons=6, seed=0), (N_FRAMES // 1000, 1, 1))


@pytest.fixture(scope="module")
def frames(coordinates):
    return mdvae.read(coordinates)


@pytest.fixture(scope="module")
def model(frames):
    few = mdvae.read(frames.coordinates[:1000])
    return mdvae.train(mdvae.build(few, hidden=(64, 64), seed=0), few, epochs=2, progress=False)


def test_pose(benchmark, coordinates):
    alignment = Superposition(jnp.ones(6), jnp.asarray(coordinates[0] - coordinates[0].mean(axis=0)))
    benchmark(pose, alignment, coordinates.copy())


def test_read(benchmark, coordinates, tmp_path):
    path, top = tmp_path / "run.xtc", tmp_path / "top.pdb"
    topology = bead_topology(6)
    md.Trajectory(coordinates[:1], topology).save_pdb(str(top))
    md.Trajectory(coordinates, topology).save_xtc(str(path))
    benchmark(mdvae.read, path, top=top, periodic=False)


def test_train_one_epoch(benchmark, frames):
    untrained = mdvae.build(frames, hidden=(64, 64), seed=0)
    vae, x = untrained.vae, frames.coordinates.reshape(N_FRAMES, -1)
    benchmark(mdvae.train_vae, vae, x, epochs=1, batch_size=256, progress=False)


def test_encode(benchmark, model, frames):
    benchmark(encode_posed, model, frames.coordinates)


def test_generate(benchmark, model):
    benchmark(mdvae.generate, model, 1000, seed=0)
