import contextlib
import gc
from pathlib import Path

import numpy as np
import pytest

from mdvae import _memory
from mdvae._memory import available_memory, blocks, forget, is_mapped, picked, rows_together, uncollected


@pytest.fixture
def mapped(tmp_path):
    """Ten million numbers in a file, and whatever it takes to see whether they are in memory."""
    array = np.memmap(tmp_path / "numbers", np.float32, "w+", shape=(1000, 10_000))
    array[:] = np.arange(1000, dtype=np.float32)[:, None]
    return array


def resident():
    """Kilobytes of mapped files in the memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))


def test_views_of_a_file_are_known():
    assert not is_mapped(np.zeros((3, 3))[1:])


def test_views_of_mapped_files_are_known(mapped):
    assert is_mapped(mapped)
    assert is_mapped(np.asarray(mapped[5:, ::2]))
    assert not is_mapped(mapped[[1, 2]])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not say what is in memory")
def test_what_is_forgotten_takes_no_memory_and_is_still_there(mapped):
    before = resident()
    forget(mapped[3:5])
    assert resident() <= before - 35_000
    np.testing.assert_array_equal(mapped[:, 7], np.arange(1000))


def test_what_is_in_memory_is_not_forgotten(rng):
    array = rng.normal(size=(100, 100))
    copy = array.copy()
    forget(array[1:])
    np.testing.assert_array_equal(array, copy)


def test_blocks_are_everything_in_order(monkeypatch, rng):
    monkeypatch.setattr(_memory, "_BLOCK", 8 * 30 * 7)
    array = rng.normal(size=(100, 30))
    parts = list(blocks(array))
    assert {len(part) for part in parts} == {7, 2}
    np.testing.assert_array_equal(np.concatenate(parts), array)
    rows = np.array([3, 50, 4])
    np.testing.assert_array_equal(np.concatenate(list(blocks(array, rows))), array[rows])


def test_of_every_tenth_row_the_others_count_as_well(mapped):
    assert rows_together(mapped) == 2**26 // 40_000
    assert rows_together(mapped[::10]) == 2**26 // 400_000


def test_rows_that_are_picked_are_in_memory(mapped):
    rows = np.array([700, 3, 999])
    for found in (picked(mapped, rows), picked(mapped, slice(3, None, 300))):
        assert not is_mapped(found)
    np.testing.assert_array_equal(picked(mapped, rows), mapped[rows])
    np.testing.assert_array_equal(picked(mapped, slice(3, None, 300)), mapped[3::300])
    array = np.arange(12.0).reshape(6, 2)
    assert picked(array, slice(None, None, 2)).base is array.base


def test_there_is_some_memory():
    assert 2**20 < available_memory() < 2**50


@pytest.mark.parametrize(
    ("line", "limit", "used"),
    [
        ("0::/batch/job", "batch/memory.max", "batch/memory.current"),
        ("7:memory:/batch/job", "memory/batch/job/memory.limit_in_bytes", "memory/batch/job/memory.usage_in_bytes"),
    ],
)
def test_a_control_group_may_allow_less(monkeypatch, tmp_path, line, limit, used):
    """The own one, or one that it is in."""
    (tmp_path / "self").write_text(f"3:cpu:/elsewhere\n{line}\n")
    monkeypatch.setattr(_memory, "_MEMBERSHIP", tmp_path / "self")
    monkeypatch.setattr(_memory, "_CONTROL_GROUPS", tmp_path)
    free = available_memory()
    (tmp_path / limit).parent.mkdir(parents=True)
    (tmp_path / used).write_text("500000")
    (tmp_path / limit).with_name("memory.stat").write_text("anon 7\ninactive_file 100000\n")
    for text, expected in (("1000000", 600_000), ("max", free), ("200000", 0)):
        (tmp_path / limit).write_text(text)
        assert available_memory() == pytest.approx(expected, rel=0.5)


def test_a_copy_of_a_file_keeps_what_was_written_to_it(mapped, tmp_path):
    copy = np.memmap(tmp_path / "numbers", np.float32, "c", shape=mapped.shape)
    copy += 1
    forget(np.asarray(copy)[3:])
    np.testing.assert_array_equal(copy[:, 0], np.arange(1000) + 1)


def test_a_row_of_a_transposed_array_is_as_large_as_its_numbers():
    assert rows_together(np.zeros((2, 10_000), np.float32).T) == 2**26 // 8


@pytest.mark.parametrize("looking", [True, False])
def test_garbage_is_looked_for_afterwards_as_before(looking):
    before = gc.isenabled()
    try:
        (gc.enable if looking else gc.disable)()
        with contextlib.suppress(KeyError), uncollected:
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() == looking
        # As where one thread comes out while another is in.
        with uncollected:
            with uncollected:
                pass
            assert not gc.isenabled()
        assert gc.isenabled() == looking
    finally:
        (gc.enable if before else gc.disable)()
