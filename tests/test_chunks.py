from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdvae._chunks import in_chunks, map_rows

# Rows of 2^16 numbers go 16 at a time, so that a few of them make several chunks.
WIDTH = 2**16


def total(x, y):
    return {"sum": jnp.sum(x) + y, "first": x[:2]}


N_ROWS = {"one": 1, "a chunk less one": 15, "one chunk": 16, "one more": 17, "two and a rest": 37}


@pytest.mark.parametrize("case", N_ROWS)
def test_rows_come_in_order_each_once_and_the_padding_never_shows(case):
    n = N_ROWS[case]
    x = np.arange(n, dtype=np.float32)[:, None] * np.ones(WIDTH, np.float32) / WIDTH
    y = 100 * np.arange(n, dtype=np.float32)
    slices, results = zip(*in_chunks(total, x, y), strict=True)
    assert [i for rows in slices for i in range(rows.start, rows.stop)] == list(range(n))
    assert all(len(result["sum"]) == rows.stop - rows.start for rows, result in zip(slices, results, strict=True))
    np.testing.assert_allclose(np.concatenate([r["sum"] for r in results]), 101 * np.arange(n), rtol=1e-5)
    np.testing.assert_array_equal(np.concatenate([r["first"] for r in results]), x[:, :2])
    assert all(isinstance(r["sum"], np.ndarray) for r in results)


def test_one_shape_for_every_chunk():
    """So that a function is traced once, whatever the number of rows."""
    traced = []

    def counted(x):
        traced.append(x.shape)
        return jnp.max(x)

    for n in (1, 16, 40):
        map_rows(counted, np.ones((n, WIDTH), np.float32))
    assert traced == [(WIDTH,)]


def test_numbers_of_a_function_may_change_without_another_compilation(rng):
    traced = []

    class Scaled(eqx.Module):
        factor: jax.Array | np.ndarray | np.float32
        power: int
        before: Callable

        def __call__(self, x):
            traced.append(self.power)
            return self.factor * self.before(x) ** self.power

    x = rng.normal(size=(5, 3)).astype(np.float32)
    for factor in (jnp.float32(2), jnp.float32(3), np.ones(3, np.float32), np.full(3, 7, np.float32), np.float32(5)):
        np.testing.assert_allclose(map_rows(Scaled(factor, 2, jnp.sin), x), factor * np.sin(x) ** 2, rtol=1e-5)
    np.testing.assert_allclose(map_rows(Scaled(factor, 3, jnp.cos), x), 5 * np.cos(x) ** 3, rtol=1e-5)
    # For a number, for one for each of three, and with other fields that are not arrays.
    assert traced == [2, 2, 3]


def test_no_rows_make_no_chunks():
    assert list(in_chunks(total, np.zeros((0, 3), np.float32), np.zeros(0, np.float32))) == []


def test_map_rows(rng):
    x = rng.normal(size=(37, WIDTH)).astype(np.float32)
    np.testing.assert_array_equal(map_rows(lambda row: row[::-1][:5], x), x[:, ::-1][:, :5])
