"""What every test may rely on: strict shapes, a key, a small system and a small model of it."""

import jax
import numpy as np
import pytest

import mdvae

jax.config.update("jax_numpy_rank_promotion", "raise")


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
