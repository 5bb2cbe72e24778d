import jax.numpy as jnp
import numpy as np
import pytest

from mdvae.representations import Cartesian


@pytest.mark.parametrize("dim", [2, 3])
def test_there_and_back(rng, dim):
    cartesian = Cartesian(4, dim)
    frame = jnp.asarray(rng.normal(size=(4, dim)), jnp.float32)
    features = cartesian.to_features(frame)
    assert features.shape == (cartesian.n_features,) == (4 * dim,)
    np.testing.assert_array_equal(cartesian.to_coordinates(features), frame)
    np.testing.assert_array_equal(cartesian.to_features(cartesian.to_coordinates(features)), features)


def test_features_are_the_atoms_one_after_another():
    frame = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(Cartesian(2, 2).to_features(frame), [1, 2, 3, 4])


def test_a_vector_of_another_length_is_refused():
    with pytest.raises(TypeError):
        Cartesian(2, 2).to_coordinates(jnp.zeros(5))
