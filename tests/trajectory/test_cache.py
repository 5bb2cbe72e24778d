"""Frames on the disk are the frames in memory."""

import os

import jax
import numpy as np
import pytest

import mdvae
from mdvae._memory import is_mapped
from mdvae.trajectory import gathering

ALIGNMENTS = ("superposition", "principal", "none")


def equal(one, other):
    np.testing.assert_array_equal(one.coordinates, other.coordinates)
    assert (one.lengths, str(one.report)) == (other.lengths, str(other.report))
    assert one.system.to_dict() == other.system.to_dict()
    assert type(one.alignment) is type(other.alignment)
    for a, b in zip(jax.tree.leaves(one.alignment), jax.tree.leaves(other.alignment), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one.time is None) == (other.time is None)
    if one.time is not None:
        np.testing.assert_array_equal(one.time, other.time)


@pytest.fixture
def xtc(trajectory, tmp_path):
    path = tmp_path / "run.xtc"
    trajectory.save(str(path))
    return path


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_cache_holds_what_memory_would(xtc, top, tmp_path, alignment):
    options = {"top": top, "alignment": alignment, "stride": 2, "chunk": 2}
    expected = mdvae.read([xtc, xtc], **options)
    written = mdvae.read([xtc, xtc], cache=tmp_path / "cache", **options)
    found = mdvae.read([xtc, xtc], cache=tmp_path / "cache", **options)
    for frames in (written, found):
        assert is_mapped(frames.coordinates)
        assert not frames.coordinates.flags.writeable
        equal(frames, expected)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_what_is_in_the_cache_is_not_read_again(xtc, top, tmp_path, monkeypatch):
    first = mdvae.read(xtc, top=top, cache=tmp_path / "cache")
    monkeypatch.setattr("mdvae.trajectory.reading._gather", None)
    equal(mdvae.read(xtc, top=top, cache=tmp_path / "cache"), first)


CHANGES = {
    "select": lambda xtc: {"select": "name CA"},
    "stride": lambda xtc: {"stride": 2},
    "alignment": lambda xtc: {"alignment": "principal"},
    "center": lambda xtc: {"center": "geometry"},
    "periodic": lambda xtc: {"periodic": False},
    "unit": lambda xtc: {"length_unit": "reduced"},
    "file": lambda xtc: os.utime(xtc, (1, 1)) or {},
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_was_read_otherwise_is_read_anew(xtc, top, tmp_path, case):
    mdvae.read(xtc, top=top, cache=tmp_path / "cache")
    changed = CHANGES[case](xtc)
    equal(mdvae.read(xtc, top=top, cache=tmp_path / "cache", **changed), mdvae.read(xtc, top=top, **changed))
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_arrays_and_trajectories_are_known_by_their_content(trajectory, tmp_path):
    other = trajectory[:]
    other.xyz = trajectory.xyz + np.float32(0.001) * (np.arange(5 * 3) % 5 == 2)[:, None]
    for source in (trajectory, other, trajectory.xyz, other.xyz, trajectory):
        equal(mdvae.read(source, cache=tmp_path), mdvae.read(source))
    assert len(list(tmp_path.iterdir())) == 8


def test_a_cache_that_is_not_whole_is_written_anew(xtc, top, tmp_path):
    cache = tmp_path / "cache"
    expected = mdvae.read(xtc, top=top)
    mdvae.read(xtc, top=top, cache=cache)
    (coordinates,), (record,) = cache.glob("*.frames"), cache.glob("*.safetensors")

    def damage_frames():
        os.truncate(coordinates, 100)

    def damage_record():
        record.write_bytes(record.read_bytes()[:-20])

    for damage in (damage_frames, damage_record, record.unlink, coordinates.unlink):
        damage()
        equal(mdvae.read(xtc, top=top, cache=cache), expected)


def test_an_interrupted_cache_is_not_taken_for_whole(xtc, top, tmp_path):
    def interrupt(n_frames):
        if n_frames > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mdvae.read(xtc, top=top, chunk=2, cache=tmp_path / "cache", progress=interrupt)
    assert not list((tmp_path / "cache").iterdir())
    equal(mdvae.read(xtc, top=top, cache=tmp_path / "cache"), mdvae.read(xtc, top=top))


def test_who_writes_the_same_at_the_same_time_is_not_disturbed(xtc, top, tmp_path):
    """Another process comes to its end while this one reads, and has its frames mapped."""
    expected, others = mdvae.read(xtc, top=top), []

    def other(n_frames):
        if not others:
            others.append(None)
            others.append(mdvae.read(xtc, top=top, cache=tmp_path / "cache"))

    equal(mdvae.read(xtc, top=top, chunk=2, cache=tmp_path / "cache", progress=other), expected)
    equal(others[1], expected)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_plane_is_cached_as_a_plane(tmp_path, rng):
    plane = rng.normal(size=(50, 5, 3)).astype(np.float32) * np.array([1, 1, 0], np.float32)
    expected = mdvae.read(plane, length_unit="reduced")
    for _ in range(2):
        frames = mdvae.read(plane, length_unit="reduced", cache=tmp_path)
        assert frames.system.dim == 2
        equal(frames, expected)
    assert next(tmp_path.glob("*.frames")).stat().st_size == 50 * 5 * 2 * 4


def test_a_cache_of_a_format_whose_frames_nobody_counts(top, trajectory, tmp_path):
    path = tmp_path / "run.pdb"
    trajectory.save(str(path))
    equal(mdvae.read(path, cache=tmp_path / "cache"), mdvae.read(path))


def test_a_full_disk_is_refused_before_anything_is_written(xtc, top, tmp_path, monkeypatch):
    monkeypatch.setattr(gathering.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(
        OSError, match=r"has 0\.0 MB of free space, and the posed frames take 0\.0 MB: choose another folder"
    ):
        mdvae.read(xtc, top=top, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_file_in_the_place_of_the_folder_is_refused(xtc, top):
    with pytest.raises(OSError, match="is a file; expected a folder"):
        mdvae.read(xtc, top=top, cache=top)


def test_frames_too_many_for_memory_go_to_a_file_without_a_name(xtc, top, tmp_path, monkeypatch, caplog):
    expected = mdvae.read(xtc, top=top)
    monkeypatch.setattr(gathering, "available_memory", lambda: 3 * expected.coordinates.nbytes)
    assert not is_mapped(mdvae.read(xtc, top=top, scratch=tmp_path).coordinates)
    monkeypatch.setattr(gathering, "available_memory", lambda: 3 * expected.coordinates.nbytes - 1)
    before = sorted(tmp_path.iterdir())
    frames = mdvae.read(xtc, top=top, scratch=tmp_path)
    assert is_mapped(frames.coordinates)
    equal(frames, expected)
    assert sorted(tmp_path.iterdir()) == before
    assert "too many for the" in caplog.text


def test_an_interrupted_reading_leaves_nothing(xtc, top, tmp_path, monkeypatch):
    monkeypatch.setattr(gathering, "available_memory", lambda: 0)
    before = sorted(tmp_path.iterdir())

    def interrupt(n_frames):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mdvae.read(xtc, top=top, scratch=tmp_path, progress=interrupt)
    assert sorted(tmp_path.iterdir()) == before
