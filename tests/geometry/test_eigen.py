import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdvae.geometry import dominant_eigenvector, largest_eigenvalue, symmetric_eigen

SIZES = [2, 3, 4]
eigen = jax.jit(symmetric_eigen)


def rotated(values, seed=1):
    """Symmetric matrix with the given eigenvalues, in general position."""
    n = len(values)
    basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))
    return (basis * np.asarray(values, float)) @ basis.T


def random(n, seed=0):
    matrix = np.random.default_rng(seed).normal(size=(n, n))
    return matrix + matrix.T


MATRICES = {
    "random": random,
    "another": lambda n: random(n, seed=7),
    "zero": lambda n: np.zeros((n, n)),
    "identity": np.eye,
    "diagonal, ascending": lambda n: np.diag(np.arange(1.0, n + 1)),
    "diagonal, with negatives": lambda n: np.diag(np.arange(n) - 1.5),
    "two equal": lambda n: rotated([2.0, 2.0, 1.0, -1.0][:n]),
    "all equal but one": lambda n: rotated([3.0] + [1.0] * (n - 1)),
    "rank one": lambda n: np.ones((n, n)),
    "equal diagonal": lambda n: np.ones((n, n)) + np.eye(n),
    "nearly equal": lambda n: rotated([1.0, 1.0 - 1e-6, 0.5, 0.25][:n]),
    "wide range": lambda n: rotated([1.0, 1e-3, 1e-6, 1e-9][:n]),
    "large": lambda n: 1e12 * random(n),
    "small": lambda n: 1e-12 * random(n),
    "denormal off the diagonal": lambda n: np.full((n, n), 1e-40),
}


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("case", MATRICES)
def test_agrees_with_numpy(case, n):
    matrix = MATRICES[case](n).astype(np.float32)
    exact = np.linalg.eigvalsh(matrix.astype(np.float64))[::-1]
    values, vectors = map(np.asarray, eigen(jnp.asarray(matrix)))
    scale = np.abs(exact).max() + 1e-30
    np.testing.assert_allclose(values / scale, exact / scale, atol=2e-6)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(n), atol=2e-6)
    np.testing.assert_allclose(matrix @ vectors / scale, vectors * values / scale, atol=3e-6)
    assert (np.diff(values) <= 0).all()


@pytest.mark.parametrize("n", SIZES)
def test_vectors_agree_with_numpy_up_to_sign(n):
    matrix = rotated([4.0, 3.0, 1.0, -2.0][:n])
    _, vectors = eigen(jnp.asarray(matrix, jnp.float32))
    expected = np.linalg.eigh(matrix)[1][:, ::-1]
    np.testing.assert_allclose(np.abs(np.sum(np.asarray(vectors) * expected, axis=0)), 1, atol=1e-6)


def test_float64_reaches_its_own_rounding():
    matrices = np.stack([random(4, seed) for seed in range(200)])
    with jax.enable_x64(True):
        values, _ = jax.jit(jax.vmap(symmetric_eigen))(jnp.asarray(matrices))
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrices)[:, ::-1], atol=1e-13)


def functional(matrix):
    """A smooth function of values and of vectors that their signs do not change."""
    values, vectors = symmetric_eigen(matrix)
    n = len(values)
    weights = jnp.arange(1.0, n + 1)
    probe = jnp.cos(jnp.arange(n * n) * 1.7).reshape(n, n)
    return jnp.sum(weights * values**2) + jnp.sum(jnp.sin(weights) * jnp.einsum("ik,ij,jk->k", vectors, probe, vectors))


@jax.jit
def value_and_derivatives(matrix):
    """With its derivative in forward and in reverse mode."""
    return functional(matrix), jax.jacfwd(functional)(matrix), jax.grad(functional)(matrix)


@pytest.mark.parametrize("n", SIZES)
def test_derivative_against_finite_differences(n):
    matrix, step = rotated([4.0, 2.5, 1.0, -2.0][:n], seed=3), 1e-6
    # Directions in which the matrix stays symmetric.
    changes = np.array([np.eye(n)[[i]] * np.eye(n)[:, [j]] for i in range(n) for j in range(i + 1)])
    changes = np.maximum(changes, changes.transpose(0, 2, 1))
    with jax.enable_x64(True):
        _, *gradients = value_and_derivatives(jnp.asarray(matrix))
        above, below = ([value_and_derivatives(jnp.asarray(matrix + s * c))[0] for c in changes] for s in (step, -step))
        expected = (np.array(above) - np.array(below)) / (2 * step)
    for gradient in gradients:
        np.testing.assert_allclose(np.sum(np.asarray(gradient) * changes, axis=(1, 2)), expected, atol=1e-7)


def test_derivative_of_the_sum_of_values_is_the_identity():
    """The trace is linear, however degenerate the matrix."""
    n = 3
    gradient = jax.jit(jax.grad(lambda m: jnp.sum(symmetric_eigen(m)[0])))
    for matrix in (np.zeros((n, n)), np.eye(n), random(n)):
        np.testing.assert_allclose(gradient(jnp.asarray(matrix, jnp.float32)), np.eye(n), atol=1e-5)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("case", ["zero", "identity", "rank one", "two equal"])
def test_derivatives_are_finite_where_values_coincide(case, n):
    with jax.enable_x64(True):
        assert all(np.isfinite(part).all() for part in value_and_derivatives(jnp.asarray(MATRICES[case](n))))


def test_second_derivative_of_a_known_case():
    """Largest value of [[1, t], [t, -1]] is sqrt(1 + t^2): slope 0 and curvature 1 at t = 0."""

    def largest(t):
        return symmetric_eigen(jnp.stack([jnp.stack([1.0 + 0 * t, t]), jnp.stack([t, -1.0 + 0 * t])]))[0][0]

    slope, curvature = jax.jit(jax.grad(largest)), jax.jit(jax.grad(jax.grad(largest)))
    for t in (0.0, 0.75):
        np.testing.assert_allclose(slope(t), t / np.hypot(1, t), atol=1e-6)
        np.testing.assert_allclose(curvature(t), (1 + t * t) ** -1.5, atol=1e-5)


# -- the dominant eigenvector


dominant = jax.jit(dominant_eigenvector)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("case", MATRICES)
def test_the_dominant_vector_belongs_to_the_largest_value(case, n):
    """Also where others come near it, or are as large: then it lies in their common space."""
    matrix = MATRICES[case](n).astype(np.float32)
    largest = np.linalg.eigvalsh(matrix.astype(np.float64))[-1]
    vector = np.asarray(dominant(jnp.asarray(matrix)), np.float64)
    scale = np.abs(matrix).max() + 1e-30
    np.testing.assert_allclose(np.linalg.norm(vector), 1, atol=1e-6)
    np.testing.assert_allclose(matrix @ vector / scale, largest * vector / scale, atol=3e-6)


@pytest.mark.parametrize("gap", [1.0, 1e-2, 1e-4, 1e-6])
def test_it_is_as_exact_as_the_gap_allows(gap):
    """Not worse than the Jacobi sweeps by more than a few roundings over the gap."""
    matrix = rotated([1.0, 1.0 - gap, -0.3, -0.5]).astype(np.float32)
    expected = np.linalg.eigh(matrix.astype(np.float64))[1][:, -1]
    found = np.asarray(dominant(jnp.asarray(matrix)), np.float64)
    error = np.linalg.norm(found - expected * np.sign(found @ expected))
    assert error < 8 * np.finfo(np.float32).eps / gap


def test_the_dominant_vector_in_float64():
    matrices = np.stack([random(4, seed) for seed in range(200)])
    with jax.enable_x64(True):
        vectors = np.asarray(jax.jit(jax.vmap(dominant_eigenvector))(jnp.asarray(matrices)))
    largest = np.linalg.eigvalsh(matrices)[:, -1:]
    np.testing.assert_allclose(np.einsum("nij,nj->ni", matrices, vectors), largest * vectors, atol=1e-13)


def projector(matrix):
    vector = dominant_eigenvector(matrix)
    return vector[:, None] * vector[None]


def test_derivative_of_the_dominant_vector_against_finite_differences():
    matrix, change, step = rotated([4.0, 2.5, 1.0, -2.0], seed=3), random(4, 5), 1e-6
    with jax.enable_x64(True):
        _, slope = jax.jit(lambda m, c: jax.jvp(projector, (m,), (c,)))(jnp.asarray(matrix), jnp.asarray(change))
        above, below = (np.asarray(jax.jit(projector)(jnp.asarray(matrix + s * change))) for s in (step, -step))
    np.testing.assert_allclose(slope, (above - below) / (2 * step), atol=1e-8)


@pytest.mark.parametrize("case", MATRICES)
def test_the_largest_value_in_closed_form(case):
    matrix = np.asarray(MATRICES[case](3), np.float32)
    expected = np.linalg.eigvalsh(matrix.astype(np.float64))[-1]
    # A double one is known to the root of rounding only.
    np.testing.assert_allclose(jax.jit(largest_eigenvalue)(matrix), expected, atol=5e-4 * np.abs(matrix).max() + 1e-30)


def test_the_largest_value_is_exact_where_it_stands_alone():
    for values in ([3.0, 1.0, 0.5], [3.0, 1e-4, 1e-4], [3.0, 1.0, -3.0]):
        found = jax.jit(largest_eigenvalue)(np.asarray(rotated(values), np.float32))
        np.testing.assert_allclose(found, values[0], rtol=1e-6)
