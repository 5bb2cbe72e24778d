import struct

import numpy as np
import pytest

from mdvae import read
from mdvae.trajectory.dcd import dcd_frames, layout_of

N_FRAMES, N_ATOMS = 5, 4


def written(path, xyz, order="<", cell=None, fourth=False, fixed=0, promised=N_FRAMES):
    """A DCD file, record by record; lengths in Å."""

    def record(numbers, letter):
        body = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        mark = struct.pack(f"{order}i", len(body))
        return mark + body + mark

    control = [0] * 20
    control[0], control[8], control[10], control[11], control[19] = promised, fixed, cell is not None, fourth, 24
    start = struct.pack(f"{order}i4s20ii", 84, b"CORD", *control, 84)
    start += struct.pack(f"{order}ii80si", 84, 1, b" " * 80, 84) + record([xyz.shape[1]], "i")
    frames = b""
    for frame in xyz:
        frames += b"" if cell is None else record(cell, "d")
        frames += b"".join(record(plane, "f") for plane in frame.T)
        frames += record([0.0] * len(frame), "f") if fourth else b""
    path.write_bytes(start + frames)
    return path


@pytest.fixture
def xyz(rng):
    return rng.normal(size=(N_FRAMES, N_ATOMS, 3)).astype(np.float32)


@pytest.mark.parametrize("fourth", [False, True])
@pytest.mark.parametrize("cell", [None, [30, 90, 40, 90, 90, 50]])
@pytest.mark.parametrize("order", "<>")
def test_every_layout(order, cell, fourth, xyz, tmp_path):
    path = written(tmp_path / "run.dcd", xyz, order, cell, fourth)
    for size in (1, 2, 5, 100):
        chunks = list(dcd_frames(path, layout_of(path), None, size))
        np.testing.assert_allclose(np.concatenate([c[0] for c in chunks]), 0.1 * xyz, rtol=1e-6)
        assert max(len(c[0]) for c in chunks) <= size
        for _, lengths, angles in chunks:
            assert (lengths is None) == (cell is None)
            if cell is not None:
                np.testing.assert_allclose(lengths, np.tile([3.0, 4.0, 5.0], (len(lengths), 1)))
                np.testing.assert_allclose(angles, 90)


def test_chunks_do_not_share_memory(xyz, tmp_path):
    path = written(tmp_path / "run.dcd", xyz)
    first, second = (c[0] for c in list(dcd_frames(path, layout_of(path), None, 3)))
    np.testing.assert_allclose(first, 0.1 * xyz[:3], rtol=1e-6)
    assert first.flags.writeable
    assert not np.shares_memory(first, second)


def test_some_atoms(xyz, tmp_path):
    path = written(tmp_path / "run.dcd", xyz, ">")
    ((found, _, _),) = dcd_frames(path, layout_of(path), np.array([1, 3]), 10)
    np.testing.assert_allclose(found, 0.1 * xyz[:, [1, 3]], rtol=1e-6)


@pytest.mark.parametrize("angles", [(80.0, 70.0, 60.0), (90.0, 90.0, 120.0)])
@pytest.mark.parametrize("cosines", [False, True])
def test_angles_and_their_cosines(cosines, angles, xyz, tmp_path):
    alpha, beta, gamma = np.cos(np.radians(angles)) if cosines else angles
    path = written(tmp_path / "run.dcd", xyz, cell=[30, gamma, 40, beta, alpha, 50])
    ((_, _, found),) = dcd_frames(path, layout_of(path), None, 10)
    np.testing.assert_allclose(found, np.tile(angles, (N_FRAMES, 1)), rtol=1e-12)


def test_damaged_marks_are_refused(xyz, tmp_path):
    path = written(tmp_path / "run.dcd", xyz)
    layout = layout_of(path)
    whole = bytearray(path.read_bytes())
    whole[layout.start + 3 * layout.frame.itemsize] += 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"run.dcd is damaged, after 3 whole frames"):
        list(dcd_frames(path, layout, None, 2))


def test_rare_layouts_are_left_to_others(xyz, tmp_path):
    assert layout_of(written(tmp_path / "run.dcd", xyz, fixed=2)) is None
    (tmp_path / "long.dcd").write_bytes(struct.pack("<q4s", 84, b"CORD") + bytes(300))
    assert layout_of(tmp_path / "long.dcd") is None


def test_header_cut_off(xyz, tmp_path):
    path = written(tmp_path / "run.dcd", xyz)
    start = layout_of(path).start
    for cut in (20, 95, start - 20, start - 9):
        path.write_bytes(written(path, xyz).read_bytes()[:cut])
        with pytest.raises(ValueError, match="cut off within its header"):
            layout_of(path)


def test_more_atoms_than_the_file_has_room_for(xyz, tmp_path):
    path = written(tmp_path / "run.dcd", xyz)
    whole, start = bytearray(path.read_bytes()), layout_of(path).start
    whole[start - 8 : start - 4] = struct.pack("<i", 2**31 - 1)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="cut off in the middle of a frame, after 0 whole frames"):
        layout_of(path)


def test_without_frames(xyz, tmp_path):
    path = written(tmp_path / "run.dcd", xyz[:0], promised=0)
    assert layout_of(path).n_frames == 0
    with pytest.raises(ValueError, match="holds no frames"):
        read(path)
