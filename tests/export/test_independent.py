import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mdvae.export.independent import MEASURES, best_rotation, expression
from mdvae.export.network import FORMULAS

ACTIVATIONS = {"tanh": jnp.tanh, "silu": jax.nn.silu, "softplus": jax.nn.softplus, "gelu": jax.nn.gelu}


def test_the_best_rotation_is_scipys(rng):
    points, onto, weights = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), rng.uniform(1, 16, 5)
    points, onto = (x - weights @ x / weights.sum() for x in (points, onto))
    expected = Rotation.align_vectors(onto, points, weights)[0].as_matrix()
    with jax.enable_x64(True):
        found = best_rotation(*map(jnp.asarray, (points, onto, weights / weights.sum())))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_measures_of_a_known_shape():
    corner = np.array([[1.0, 0, 0], [0, 0, 0], [0, 2, 0], [0, 2, 3]])
    moves = jnp.asarray(corner[None, 1:] - corner[None, :-1])
    assert MEASURES["distance"](moves[:, 1:2]) == pytest.approx([2])
    assert MEASURES["angle"](moves[:, :2]) == pytest.approx([np.pi / 2])
    # Seen along the axis, from the second atom to the third, the turn from x to z is anticlockwise: negative.
    assert MEASURES["torsion"](moves) == pytest.approx([-np.pi / 2])


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_are_the_activations_of_jax(name):
    with jax.enable_x64(True):
        x = jnp.linspace(-20, 20, 401)
        np.testing.assert_allclose(
            expression(FORMULAS[name].format("y"))({"y": x}), ACTIVATIONS[name](x), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("text", ["__import__('os')", "x.real", "erf(x)", "x+", "y", "x if x else 1", "[x][0]"])
def test_nothing_but_formulas_is_evaluated(text):
    with pytest.raises(ValueError, match="formula"):
        expression(text)({"x": jnp.ones(1)})
