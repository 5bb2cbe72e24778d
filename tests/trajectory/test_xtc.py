import importlib.util
import itertools
import struct
import sys
import threading

import mdtraj as md
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdvae import read
from mdvae._compiled import by_numba
from mdvae.trajectory import _xtc_decoder, files, xtc
from mdvae.trajectory.files import count_frames, raw_frames
from mdvae.trajectory.xtc import frame_starts, xtc_frames

from .conftest import DATA, make_peptide

# Half a step of 0.001 nm, and five roundings to float32.
ROUNDED = {"atol": 5.01e-4, "rtol": 5 * 2**-24}
MAGIC, N_ATOMS, AGAIN, PRECISION, LOWEST, HIGHEST, SHORT, PACKED = 0, 4, 52, 56, 60, 72, 84, 88


def written(path, xyz, box=None, time=None):
    with md.formats.XTCTrajectoryFile(str(path), "w") as file:
        file.write(np.asarray(xyz, np.float32), box=box, time=time)
    return path


def by_mdtraj(path):
    with md.open(str(path)) as file:
        xyz, time, _, box = file.read()
    return xyz, time, np.zeros((len(xyz), 3, 3)) if box is None else box


def decoded(path, atoms=None, size=100):
    chunks = list(xtc_frames(path, frame_starts(path), atoms, size))
    assert all(len(chunk.time) == size for chunk in chunks[:-1])
    return tuple(np.concatenate(parts) for parts in zip(*chunks, strict=True))


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32)


def patched(whole, place, number, code=">i"):
    changed = bytearray(whole)
    struct.pack_into(code, changed, place, number)
    return bytes(changed)


def walk(rng, n_atoms, step=0.1, n_frames=6):
    return np.cumsum(rng.normal(scale=step, size=(n_frames, n_atoms, 3)), axis=1)


def waters(rng, n_molecules, size=8.0, n_frames=6):
    """Three atoms close together, anywhere in a box."""
    oxygens = rng.uniform(-size / 2, size / 2, (n_frames, n_molecules, 1, 3))
    return (oxygens + rng.normal(scale=0.06, size=(n_frames, n_molecules, 3, 3))).reshape(n_frames, -1, 3)


def mixed(rng):
    """Clusters whose width changes along the chain: short steps of many lengths."""
    widths = 10.0 ** rng.uniform(-3, 3, (6, 100, 1, 1))
    return (rng.uniform(-900, 900, (6, 100, 1, 3)) + rng.normal(size=(6, 100, 7, 3)) * widths).reshape(6, -1, 3)


def corners(rng):
    """Boxes of up to 2**24 steps along each axis, waters and their corners in them."""
    sizes = 2.0 ** np.repeat([[20, 21, 23], [21, 21, 22], [22, 22, 22], [23.9, 23.9, 23.9]], 3, axis=0)[:, None] / 1000
    inside = rng.uniform(0, 1, (12, 50, 1, 3)) * sizes[:, None] + rng.normal(scale=0.06, size=(12, 50, 3, 3))
    return np.concatenate([np.zeros_like(sizes), sizes, inside.reshape(12, 150, 3), sizes], axis=1)


FRAMES = {
    **{f"{n} atoms": lambda rng, n=n: walk(rng, n) for n in (*range(1, 13), 214)},
    "waters": lambda rng: waters(rng, 300),
    "far from the origin": lambda rng: walk(rng, 40) - 1e5,
    "all in one place": lambda rng: np.full((3, 20, 3), -0.5),
    "in a plane": lambda rng: walk(rng, 30) * [1, 1, 0],
    "along a line": lambda rng: walk(rng, 30) * [0, 0, 1],
    "one axis far longer": lambda rng: rng.normal(size=(5, 60, 3)) * [1e-2, 1e4, 1],
    "axes of their own bits": lambda rng: rng.normal(size=(5, 60, 3)) * [2e4, 1e4, 10],
    "waters spread over more than 2**24 steps": lambda rng: waters(rng, 50, 5e4),
    "packed numbers of up to 72 bits": corners,
    "steps of all lengths": mixed,
}


@pytest.mark.parametrize("name", FRAMES)
def test_as_mdtraj_reads_it(name, rng, tmp_path):
    xyz = FRAMES[name](rng)
    box, time = rng.normal(size=(len(xyz), 3, 3)).astype(np.float32), rng.normal(size=len(xyz)).astype(np.float32)
    path = written(tmp_path / "run.xtc", xyz, box, time)
    expected, positions_cells_time = by_mdtraj(path), decoded(path)
    np.testing.assert_array_equal(bits(positions_cells_time[0]), bits(expected[0]))
    np.testing.assert_array_equal(positions_cells_time[1], box)
    np.testing.assert_array_equal(positions_cells_time[2], time)
    np.testing.assert_allclose(expected[0], xyz, **ROUNDED)


@settings(deadline=None, max_examples=60)
@given(
    n_atoms=st.integers(1, 40),
    scale=st.floats(-4, 5),
    step=st.floats(-4, 3),
    at=st.floats(-1e5, 1e5),
    seed=st.integers(0, 2**32 - 1),
)
def test_as_mdtraj_reads_anything(n_atoms, scale, step, at, seed, tmp_path_factory):
    rng = np.random.default_rng(seed)
    xyz = at + 10**scale * rng.normal(size=(3, 1, 3)) + walk(rng, n_atoms, 10**step, 3)
    path = written(tmp_path_factory.mktemp("xtc") / "run.xtc", xyz)
    np.testing.assert_array_equal(bits(decoded(path)[0]), bits(by_mdtraj(path)[0]))


def test_axis_of_32_bits(rng, tmp_path):
    """There mdtraj's reader finds the lowest number everywhere, and its writer spoils what is 2**31 above it."""
    xyz = walk(rng, 400)
    xyz[:, :, 1] += np.linspace(-1.2e6, 1.2e6, 400)
    found = decoded(written(tmp_path / "run.xtc", xyz))[0]
    np.testing.assert_allclose(found[:, :350], xyz[:, :350], **ROUNDED)


@pytest.mark.parametrize("n_bits", range(9, 73))
def test_every_length_of_short_steps(n_bits, rng, tmp_path):
    side = int(_xtc_decoder.SIDES[n_bits])
    numbers = rng.integers(-2 * side, 2 * side, (3, 40, 1, 3)) + np.zeros((1, 1, 4, 1), int)
    # A third of the side along each axis: a step that fits into this cube, and in its sum into no smaller one.
    numbers[:, :, 1::2] += rng.choice([-1, 1], (3, 40, 2, 3)) * (side // 3)
    xyz = numbers.reshape(3, -1, 3) / 1000
    path = written(tmp_path / "run.xtc", xyz)
    assert struct.unpack_from(">i", path.read_bytes(), SHORT) == (n_bits,)
    np.testing.assert_allclose(decoded(path)[0], xyz, **ROUNDED)
    np.testing.assert_array_equal(bits(decoded(path)[0]), bits(by_mdtraj(path)[0]))


def test_short_steps_that_are_longer_than_any(rng, tmp_path):
    """As mdtraj writes them, and then refuses to read them: there are none in such a file."""
    xyz = walk(rng, 30) + 3e4 * np.arange(30)[:, None]
    path = written(tmp_path / "run.xtc", xyz)
    assert struct.unpack_from(">i", path.read_bytes(), SHORT) == (73,)
    np.testing.assert_allclose(decoded(path)[0], xyz, **ROUNDED)


def in_words(number, n_bits):
    """Bytes of a number from the lowest on, the last of them as short as it may be; in words, and zeros behind."""
    n_whole, n_last = (n_bits - 1) // 8, (n_bits - 1) % 8 + 1
    stream = f"{number >> 8 * n_whole:0{n_last}b}"
    stream = "".join(f"{byte:08b}" for byte in number.to_bytes(10, "little")[:n_whole]) + stream
    return np.frombuffer(int(stream.ljust(256, "0"), 2).to_bytes(32, "big"), np.uint64)


def numbers_below(size, rng):
    return sorted({0, 1 % size, size // 2, size - 1, *(int(rng.integers(size)) for _ in range(3))})


@pytest.mark.parametrize("n_bits", range(9, 73))
def test_three_numbers_from_one(n_bits, rng):
    side = int(_xtc_decoder.SIDES[n_bits])
    widths = 2 ** (rng.dirichlet([3, 3, 3], 4) * (n_bits - 1) + 0.3)
    for sizes in ([side] * 3, *(np.clip(width, 2, 2**24 - 1).astype(int).tolist() for width in widths)):
        by_float = np.divide(1, sizes[1:])
        for a, b, c in itertools.product(*(numbers_below(size, rng) for size in sizes)):
            number = (a * sizes[1] + b) * sizes[2] + c
            assert number < 2**n_bits
            given = in_words(number, n_bits), np.uint64(0), np.uint64(n_bits)
            of_sizes = np.uint64(sizes[1]), np.uint64(sizes[2])
            found = [_xtc_decoder._triple(*given, *of_sizes)]
            if n_bits <= _xtc_decoder._MIDDLE:
                found.append(_xtc_decoder._middle_triple(*given, *of_sizes, *by_float))
            if n_bits <= _xtc_decoder._SHORT and sizes == [side] * 3:
                reciprocal, shift = _xtc_decoder.RECIPROCALS[n_bits], _xtc_decoder.SHIFTS[n_bits]
                found.append(_xtc_decoder._short_triple(*given, of_sizes[0], reciprocal, shift))
            assert all(three == (a, b, c) for three in found)


@pytest.mark.parametrize("precision", [1.0, 100.0, 123.456, 1e6])
def test_other_precisions(precision, rng, tmp_path):
    path = written(tmp_path / "run.xtc", walk(rng, 50))
    whole = path.read_bytes()
    for start in frame_starts(path)[:-1]:
        whole = patched(whole, int(start) + PRECISION, precision, ">f")
    path.write_bytes(whole)
    np.testing.assert_array_equal(bits(decoded(path)[0]), bits(by_mdtraj(path)[0]))


@pytest.mark.parametrize("n_atoms", [5, 50])
def test_wide_frames(n_atoms, rng, tmp_path):
    path = written(tmp_path / "run.xtc", walk(rng, n_atoms))
    expected, starts, whole = decoded(path), frame_starts(path), path.read_bytes()
    wide = b""
    for first, last in itertools.pairwise(starts):
        frame = patched(whole[first:last], MAGIC, 2023)
        wide += frame if n_atoms == 5 else frame[:PACKED] + bytes(4) + frame[PACKED:]
    other = tmp_path / "wide.xtc"
    other.write_bytes(wide)
    for found, known in zip(decoded(other), expected, strict=True):
        np.testing.assert_array_equal(found, known)


@pytest.mark.parametrize("atoms", [[0], [3, 4, 5], [29], [0, 17, 29], list(range(30))])
def test_some_atoms(atoms, rng, tmp_path):
    path = written(tmp_path / "run.xtc", waters(rng, 10))
    np.testing.assert_array_equal(decoded(path, np.array(atoms))[0], by_mdtraj(path)[0][:, atoms])
    few = written(tmp_path / "few.xtc", walk(rng, 8))
    atoms = [atom for atom in atoms if atom < 8]
    np.testing.assert_array_equal(decoded(few, np.array(atoms, int))[0], by_mdtraj(few)[0][:, atoms])


def test_atoms_that_are_not_there(rng, tmp_path):
    path = written(tmp_path / "run.xtc", walk(rng, 30))
    for atoms in ([30], [-1, 2]):
        with pytest.raises(ValueError, match=r"run.xtc has 30 atoms a frame, and atoms"):
            decoded(path, np.array(atoms))


@pytest.mark.parametrize("size", [1, 2, 5, 6, 7, 1000])
def test_order_of_what_threads_decode(size, rng, tmp_path, monkeypatch):
    path = written(tmp_path / "run.xtc", walk(rng, 20, n_frames=60), time=np.arange(60, dtype=np.float32))
    monkeypatch.setattr(xtc, "_PART", 150)
    positions, _, time = decoded(path, size=size)
    np.testing.assert_array_equal(positions, by_mdtraj(path)[0])
    np.testing.assert_array_equal(time, np.arange(60))


def test_whoever_stops_early_leaves_no_thread(rng, tmp_path):
    path = written(tmp_path / "run.xtc", walk(rng, 20, n_frames=60))
    before = threading.active_count()
    chunks = xtc_frames(path, frame_starts(path), None, 7)
    next(chunks)
    chunks.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(("block", "far"), [(96, 2**16), (1000, 2**16), (2**20, 2**16), (2**20, 100)])
@pytest.mark.parametrize("n_atoms", [1, 9, 10, 200])
def test_frames_are_found(n_atoms, block, far, rng, tmp_path, monkeypatch):
    path = written(tmp_path / "run.xtc", walk(rng, n_atoms, n_frames=30))
    monkeypatch.setattr(xtc, "_BLOCK", block)
    monkeypatch.setattr(xtc, "_FAR", far)
    size = (56 + 12 * n_atoms) * np.arange(30)
    with md.open(str(path)) as file:
        expected = size if n_atoms <= 9 else file.offsets
    np.testing.assert_array_equal(frame_starts(path), [*expected, path.stat().st_size])


@pytest.mark.parametrize("n_atoms", [4, 30])
def test_cut_anywhere(n_atoms, rng, tmp_path):
    whole = written(tmp_path / "run.xtc", walk(rng, n_atoms, n_frames=4)).read_bytes()
    starts = frame_starts(tmp_path / "run.xtc").tolist()
    for cut in range(1, len(whole) + 1):
        path = tmp_path / f"{cut}.xtc"
        path.write_bytes(whole[:cut])
        n_whole = sum(start <= cut for start in starts) - 1
        if cut in starts:
            assert len(frame_starts(path)) - 1 == n_whole
        else:
            with pytest.raises(ValueError, match=f"cut off in the middle of a frame, after {n_whole} whole frames"):
                frame_starts(path)


def test_file_that_changes_while_it_is_read(rng, tmp_path):
    path = written(tmp_path / "run.xtc", walk(rng, 30, n_frames=10))
    starts = frame_starts(path)
    path.write_bytes(path.read_bytes()[: starts[6]])
    with pytest.raises(ValueError, match="cut off in the middle of a frame, after 6 whole frames"):
        list(xtc_frames(path, starts, None, 3))
    written(path, walk(rng, 20, n_frames=20))
    with pytest.raises(ValueError, match=r"run.xtc cannot be read"):
        list(xtc_frames(path, starts, None, 3))


DAMAGED = {
    "magic": (MAGIC, 1996),
    "other number of atoms": (N_ATOMS, 29),
    "other number of atoms inside": (AGAIN, 31),
    "no atoms": (N_ATOMS, 0),
    "fewer atoms than none": (N_ATOMS, -5),
    "highest below lowest": (HIGHEST, -(2**31)),
    "larger cells than bits": (LOWEST + 4, -(2**31)),
    "short steps of no length": (SHORT, 2),
    "short steps too long": (SHORT, 80),
    "fewer bits than none": (PACKED, -8),
    "fewer bits": (PACKED, 9),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_frames_are_named(name, rng, tmp_path):
    place, number = DAMAGED[name]
    path = written(tmp_path / "run.xtc", walk(rng, 30, n_frames=8))
    path.write_bytes(patched(path.read_bytes(), int(frame_starts(path)[5]) + place, number))
    with pytest.raises(
        ValueError, match=r"run.xtc cannot be read from frame [56] on as a file of type .xtc: "
    ) as caught:
        list(raw_frames(path, None, 3))
    assert "\n" not in str(caught.value)


def test_fewer_bits_than_the_atoms_need(rng, tmp_path):
    """Where the next frame starts stays the same: nobody sees it but who unpacks."""
    path = written(tmp_path / "run.xtc", walk(rng, 30, n_frames=8))
    data, starts = path.read_bytes(), frame_starts(path)[:-1].tolist()
    n_bytes = [struct.unpack(">i", data[start + PACKED : start + PACKED + 4])[0] for start in starts]
    number = next(i for i in range(1, 8) if n_bytes[i] % 4 != 1)
    fewer = (n_bytes[number] - 1) // 4 * 4 + 1
    path.write_bytes(patched(data, starts[number] + PACKED, fewer))
    np.testing.assert_array_equal(frame_starts(path)[:-1], starts)
    with pytest.raises(ValueError, match=f"run.xtc cannot be read from frame {number} on"):
        list(raw_frames(path, None, 3))


def test_more_atoms_than_the_file_has_room_for(rng, tmp_path):
    path = written(tmp_path / "run.xtc", walk(rng, 30, n_frames=3))
    path.write_bytes(patched(path.read_bytes(), N_ATOMS, 2**31 - 1))
    with pytest.raises(ValueError, match=r"run.xtc cannot be read as a file of type .xtc"):
        next(raw_frames(path, None, 3))


def test_foreign_files(tmp_path):
    path = tmp_path / "run.xtc"
    path.write_text("this is something else\n" * 50)
    with pytest.raises(ValueError, match=r"run.xtc cannot be read as a file of type .xtc"):
        count_frames(path)
    path.write_bytes(struct.pack(">2i", 1995, 2**31 - 1) + b"\1" * 8)
    with pytest.raises(ValueError, match=r"run.xtc is cut off in the middle of a frame, after 0 whole frames"):
        count_frames(path)


def what_is_refused(path):
    try:
        list(raw_frames(path, None, 4))
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", ["5 atoms", "11 atoms", "waters", "axes of their own bits", "steps of all lengths"])
def test_damage_is_decoded_or_refused(name, rng, tmp_path):
    whole = written(tmp_path / "run.xtc", FRAMES[name](rng)[:, :60]).read_bytes()
    outcomes = set()
    for i in range(150):
        damaged = bytearray(whole[: rng.integers(1, len(whole))] if i % 5 == 0 else whole)
        for place in rng.integers(min(len(damaged), rng.choice([100, len(damaged)])), size=3):
            damaged[place] ^= 1 << rng.integers(8)
        path = tmp_path / f"{i}.xtc"
        path.write_bytes(damaged)
        error = what_is_refused(path)
        outcomes.add("decoded" if error is None else "refused")
        assert error is None or (str(path) in error and "\n" not in error)
    assert outcomes == {"decoded", "refused"}


@pytest.mark.parametrize("cell", [None, 4 * np.eye(3)])
def test_read_as_before(cell, rng, tmp_path, monkeypatch):
    known = make_peptide(rng, n_frames=30, cell=cell)
    path = written(tmp_path / "run.xtc", known.xyz, known.unitcell_vectors, known.time)
    options = {"top": known.topology, "select": "name CA", "stride": 3, "chunk": 7}
    found = read(path, **options)
    monkeypatch.setattr(files, "decoder", lambda: None)
    expected = read(path, **options)
    np.testing.assert_array_equal(found.coordinates, expected.coordinates)
    np.testing.assert_array_equal(found.time, expected.time)
    assert str(found.report) == str(expected.report)
    assert found.lengths == (10,)


def test_a_run_may_go_on_writing_while_it_is_read(rng, tmp_path):
    """As many frames are read as were counted, whatever has come since, whole or not."""
    path = written(tmp_path / "run.xtc", walk(rng, 20, n_frames=10))
    n_frames, whole = count_frames(path), path.read_bytes()
    path.write_bytes(whole + whole[:50])
    assert sum(len(raw.positions) for raw in raw_frames(path, None, 4, n_frames=n_frames)) == 10
    with pytest.raises(ValueError, match="after 10 whole frames"):
        count_frames(path)


def test_many_files_are_looked_at_once_each(rng, tmp_path, monkeypatch):
    paths = [written(tmp_path / f"{i}.xtc", walk(rng, 12)) for i in range(20)]
    looked, look = [], xtc._look
    monkeypatch.setattr(xtc, "_look", lambda path: [looked.append(path), look(path)][1])
    counts = [count_frames(path) for path in paths]
    for path, n_frames in zip(paths, counts, strict=True):
        list(raw_frames(path, None, 4, n_frames=n_frames))
    assert looked == paths


@pytest.mark.parametrize("kind", [np.int32, np.int16])
def test_atoms_may_be_numbers_of_any_kind(kind, rng, tmp_path):
    path = written(tmp_path / "run.xtc", walk(rng, 20))
    atoms = np.arange(0, 20, 3).astype(kind)
    atoms.flags.writeable = False
    (found,) = xtc_frames(path, frame_starts(path), atoms, 100)
    np.testing.assert_array_equal(found.positions, by_mdtraj(path)[0][:, ::3])


@pytest.fixture
def forgotten(monkeypatch):
    """The decoder is imported anew."""
    monkeypatch.delitem(sys.modules, "mdvae.trajectory._xtc_decoder")
    monkeypatch.delattr("mdvae.trajectory._xtc_decoder")
    by_numba.cache_clear()
    yield
    by_numba.cache_clear()


def test_without_numba(forgotten, rng, tmp_path, monkeypatch, caplog):
    path = written(tmp_path / "run.xtc", walk(rng, 20))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert xtc.decoder() is None
    assert count_frames(path) == 6
    found = np.concatenate([raw.positions for raw in raw_frames(path, None, 4)])
    np.testing.assert_array_equal(found, by_mdtraj(path)[0])
    assert not caplog.records


def test_numba_that_fails(forgotten, rng, tmp_path, monkeypatch, caplog):
    path = written(tmp_path / "run.xtc", walk(rng, 20))
    monkeypatch.setattr(numba, "njit", lambda *_, **__: 1 / 0)
    assert [count_frames(path) for _ in range(3)] == [6, 6, 6]
    (said,) = caplog.messages
    assert said == (
        "numba cannot be used for mdvae.trajectory._xtc_decoder, and what is slower takes its place: division by zero"
    )


@pytest.mark.skipif(not DATA.is_dir(), reason="MDVAE_DATA is not set")
@pytest.mark.parametrize("name", ["glu7/glu7.xtc", "adk_pbc/adk_oplsaa.xtc"])
def test_real_files(name):
    xyz, time, box = by_mdtraj(DATA / name)
    for found, expected in zip(decoded(DATA / name, size=700), (xyz, box, time), strict=True):
        np.testing.assert_array_equal(found, expected)
