import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdvae.training import Resident, Streamed, feed, loop, optimize
from mdvae.training.feed import order
from mdvae.vae import Gaussian, NegativeELBO, build_vae

# (n, batch_size, row_bytes): one block; runs and blocks with rests; whole runs; a batch larger than a run; a last block
# that is smaller than a batch.
ORDERS = {
    "one block": (1000, 32, 16),
    "blocks": (5003, 32, 160),
    "whole": (4096, 64, 64),
    "wide": (700, 100, 4000),
    "short": (53, 16, 1000),
}


@pytest.fixture
def small_blocks(monkeypatch):
    """Runs of 1 kB and blocks of 16 kB, so that there are some."""
    monkeypatch.setattr(feed, "_RUN_BYTES", 2**10)
    monkeypatch.setattr(feed, "_LONGEST_RUN_BYTES", 2**12)
    monkeypatch.setattr(feed, "_BLOCK_BYTES", 2**14)


def blocks_of(n, batch_size, row_bytes, key):
    return [rows[places] for rows, places in order(n, batch_size, row_bytes, key)]


@pytest.mark.parametrize("case", ORDERS)
def test_an_order_has_every_example_once_but_for_an_incomplete_batch(small_blocks, case):
    n, batch_size, row_bytes = ORDERS[case]
    blocks = blocks_of(n, batch_size, row_bytes, jax.random.key(0))
    rows = np.concatenate(blocks)
    assert len(np.unique(rows)) == len(rows) == n // batch_size * batch_size
    assert rows.min() >= 0
    assert rows.max() < n
    assert all(len(block) and len(block) % batch_size == 0 for block in blocks)
    assert (len(blocks) > 1) == (case != "one block")


def test_an_order_hangs_on_its_key(small_blocks):
    one, same, other = (np.concatenate(blocks_of(5003, 32, 160, jax.random.key(i))) for i in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_block_comes_from_everywhere(small_blocks):
    """Of successive examples no block and no batch has more than chance gives it, but for those of one run."""
    n, batch_size = 20_000, 50
    first = blocks_of(n, batch_size, 20, jax.random.key(0))[0]
    quarters = np.bincount(first * 4 // n, minlength=4) / len(first)
    np.testing.assert_allclose(quarters, 0.25, atol=0.15)
    # Within a block the order is any: neighbors in the block are not neighbors in time.
    assert np.mean(np.abs(np.diff(first)) == 1) < 0.05


def test_batches_of_large_examples_come_from_everywhere_as_well():
    """A batch would be a run of its own: 512 successive frames of 20 kB."""
    batch = next(iter(order(100_000, 512, 20_000, jax.random.key(0))))
    rows = batch[0][batch[1]][:512]
    assert len(np.unique(rows // 1000)) > 50
    assert len(batch[1]) % 512 == 0


def examples(n=2500):
    return np.random.default_rng(0).normal(size=(n, 2, 3)).astype(np.float32) * [[1.0], [0.1]]


def flattened(frame):
    return frame.reshape(-1)


def trained(kind, x, **changes):
    rows = np.arange(len(x))
    training, validation = rows[rows % 5 > 0], rows[rows % 5 == 0]
    if kind == "resident":
        fed = Resident(x.reshape(len(x), -1), training, validation, 32)
    else:
        fed = Streamed(x, training, validation, 32, flattened)
    settings = {"objective": lambda step: NegativeELBO(0.5), "optimizer": optax.adam(3e-3), "n_epochs": 3}
    settings |= {"patience": 3, "key": jax.random.key(1)} | changes
    vae = build_vae(x.reshape(len(x), -1), 2, likelihood=Gaussian(jnp.ones(6)), hidden=(8,), key=jax.random.key(0))
    return optimize(vae, fed, **settings)


def test_what_is_streamed_trains_as_what_is_in_memory(small_blocks):
    """The same batches in the same order with the same noise: the same losses, to rounding."""
    x = examples().astype(np.float32)
    (_, resident), (_, streamed) = trained("resident", x), trained("streamed", x)
    for name, values in resident.terms.items():
        np.testing.assert_allclose(streamed.terms[name], values, rtol=1e-5, err_msg=name)
    assert resident.terms["loss"][-1] < resident.terms["loss"][0]


@pytest.mark.parametrize("kind", ["resident", "streamed"])
def test_rows_that_are_picked_step_by_step_train_as_all_at_once(small_blocks, monkeypatch, kind):
    """Whether they are hangs on their length alone, and on their number."""
    x, losses, at_once = examples().astype(np.float32), [], []
    pick = loop._picked

    def watched(data, rows):
        at_once.append(rows.ndim == 2)
        return pick(data, rows)

    monkeypatch.setattr(loop, "_picked", watched)
    for short in (loop._SHORT, 0):
        monkeypatch.setattr(loop, "_SHORT", short)
        at_once.clear()
        # It is traced anew, or neither of the two would be seen.
        jax.clear_caches()
        losses.append(trained(kind, x)[1].terms)
        assert any(at_once) == (short > 0)
    for name, values in losses[0].items():
        np.testing.assert_allclose(losses[1][name], values, rtol=1e-5, err_msg=name)


def test_few_features_of_many_coordinates_are_read_in_pieces(small_blocks, monkeypatch):
    x = np.random.default_rng(0).normal(size=(2500, 50, 3)).astype(np.float32)
    sizes, pick = [], feed.picked

    def watched(array, rows, together):
        found = pick(array, rows, together)
        sizes.append(found.nbytes)
        return found

    monkeypatch.setattr(feed, "picked", watched)
    fed = Streamed(x, np.arange(500, 2500), np.arange(500), 32, lambda frame: frame[0, :2])
    blocks = [*fed.shuffled(jax.random.key(0)), *fed.held_out(100)]
    seen = np.concatenate([np.asarray(data)[np.asarray(rows).ravel()] for data, rows in blocks])
    seen, held_out = seen[:-500], seen[-500:]
    assert max(sizes) <= 2 * 2**14 < x.nbytes
    assert {row.tobytes() for row in seen} <= {row.tobytes() for row in x[500:, 0, :2]}
    np.testing.assert_array_equal(held_out, x[:500, 0, :2])


def test_what_is_streamed_is_never_held_as_a_whole(small_blocks):
    """No block is larger than was said, and together they are everything."""
    x = examples().astype(np.float32)
    rows = np.arange(len(x))
    fed = Streamed(x, rows[500:], rows[:500], 32, flattened)
    blocks = list(fed.shuffled(jax.random.key(0)))
    assert len(blocks) > 2
    assert all(data.nbytes <= 2**14 + 2**10 for data, _ in blocks)
    seen = np.concatenate([np.asarray(data)[np.asarray(rows).ravel()] for data, rows in blocks])
    known = {row.tobytes() for row in x.reshape(len(x), -1)[500:]}
    assert {row.tobytes() for row in seen} <= known
    assert len(seen) == fed.n_steps * 32 == 2000 // 32 * 32
    held_out = np.concatenate([np.asarray(data)[np.asarray(rows)] for data, rows in fed.held_out(100)])
    np.testing.assert_array_equal(held_out, x.reshape(len(x), -1)[:500])
