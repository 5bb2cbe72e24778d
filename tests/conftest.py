"""What every test may rely on: strict shapes, a key, a small system and a small model of it."""

import jax
import numpy as np
import pytest

import mdvae

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    """Keep what is compiled, which is most of the work, for the other process and the next run."""
    jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@pytest.fixture(scope="module", autouse=True)
def _forget_what_was_compiled():
    """Each compiled function keeps pieces of memory mapped, of which a process may have 65 530: all tests have more."""
    yield
    jax.clear_caches()


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def chain():
    """Bead-spring chain of 6 beads in the plane, (300, 6, 2), reduced units."""
    return mdvae.toys.bead_spring_chain(300, n_beads=6, seed=0)


@pytest.fixture(scope="session")
def frames(chain):
    return mdvae.read(chain, length_unit="reduced")


@pytest.fixture(scope="session")
def trained(frames):
    """A model of the chain, trained briefly."""
    model = mdvae.build(frames, latent_dim=3, hidden=(32, 32), seed=0)
    return mdvae.train(model, frames, epochs=60, batch_size=32, learning_rate=3e-3, seed=0)


@pytest.fixture(scope="session")
def chiral():
    """Frames of six atoms that shake, in nm, and their bonds: a chain of five whose third atom is a chiral center."""
    a, b = 0.15 * np.sin(0.97), 0.15 * np.cos(0.97)
    shape = np.array([[0, 0, 0], [a, b, 0], [2 * a, 0, 0], [3 * a, b, 0], [4 * a, 0, 0], [2 * a, -0.08, 0.12]])
    links = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [2, 5]])
    noise = 0.003 * np.random.default_rng(0).normal(size=(300, 6, 3))
    return (shape + noise).astype(np.float32), links


@pytest.fixture(scope="session")
def hexane():
    """Frames of hexane, (400, 6, 3), nm, whose torsions turn; and its bonds."""
    return mdvae.toys.alkane(400, n_carbons=6, seed=0), np.array([[i, i + 1] for i in range(5)])


@pytest.fixture(scope="session")
def butanes():
    """Function of torsions in degrees (n,): frames (n, 4, 3) of four atoms, bonds of 0.15 nm, angles of 120 degrees."""

    def frames(torsion):
        angle, torsion = np.deg2rad(120), np.deg2rad(np.asarray(torsion, float))
        x = np.zeros((len(torsion), 4, 3))
        x[:, 0, 0], x[:, 0, 1], x[:, 2, 0] = np.cos(angle), np.sin(angle), 1
        x[:, 3, 0] = 1 - np.cos(angle)
        x[:, 3, 1], x[:, 3, 2] = np.sin(angle) * np.cos(torsion), np.sin(angle) * np.sin(torsion)
        return 0.15 * x

    return frames
