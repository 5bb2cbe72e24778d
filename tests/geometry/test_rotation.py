import jax
import numpy as np
import pytest

from mdvae.geometry import rotate

DIMS = [2, 3]


@pytest.mark.parametrize("dim", DIMS)
def test_a_turned_frame_is_the_matrix_product(rng, dim):
    frame, rotation = rng.normal(size=(7, dim)).astype(np.float32), rng.normal(size=(dim, dim)).astype(np.float32)
    np.testing.assert_allclose(jax.jit(rotate)(frame, rotation), frame @ rotation.T, atol=1e-6)
