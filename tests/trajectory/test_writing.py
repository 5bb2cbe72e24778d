import os
import shutil
import subprocess
from pathlib import Path

import mdtraj as md
import numpy as np
import pytest

from mdvae.trajectory import SAVE_FORMATS, read, save_trajectory, to_trajectory

from .conftest import make_peptide


@pytest.mark.parametrize("ending", SAVE_FORMATS)
def test_what_is_saved_is_read_back(ending, rng, tmp_path, top):
    known = make_peptide(rng, n_frames=4)
    path = tmp_path / f"new{ending}"
    path.write_text("an older file")
    save_trajectory(known, path)
    frames = read(path, top=top, alignment="none", center="geometry")
    centered = known.xyz - known.xyz.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(frames.coordinates[-4:], centered, atol=1.1e-3)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([f"new{ending}", "top.pdb"])


def test_a_plane_lies_at_zero(rng):
    frames = read(rng.normal(size=(5, 4, 2)), alignment="none")
    made = to_trajectory(frames.system, frames.coordinates, np.arange(5) * 3.0)
    np.testing.assert_array_equal(made.xyz[:, :, :2], frames.coordinates)
    np.testing.assert_array_equal(made.xyz[:, :, 2], 0)
    np.testing.assert_array_equal(made.time, np.arange(5) * 3.0)
    assert [atom.name for atom in made.topology.atoms] == ["B1", "B2", "B3", "B4"]


def test_other_shapes_are_refused(rng):
    frames = read(rng.normal(size=(5, 4, 2)), alignment="none")
    with pytest.raises(ValueError, match=r"shape \(5, 3, 2\), expected \(n_frames, 4, 2\)"):
        to_trajectory(frames.system, frames.coordinates[:, :3])


@pytest.mark.parametrize("ending", ["xyz", "lammpstrj"])
def test_reduced_numbers_stay_themselves(ending, rng, tmp_path, top):
    known = make_peptide(rng, n_frames=2)
    save_trajectory(known, tmp_path / f"r.{ending}", unit="reduced")
    frames = read(tmp_path / f"r.{ending}", top=top, length_unit="reduced", alignment="none", center="geometry")
    np.testing.assert_allclose(frames.coordinates, known.xyz - known.xyz.mean(1, keepdims=True), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("new.txt", ValueError, r"files of type .txt cannot be written; expected one of .xtc, .trr"),
        ("new", ValueError, r"files of type \(none\) cannot be written"),
        ("nowhere/new.xtc", FileNotFoundError, r"the folder .*nowhere does not exist"),
        ("folder.pdb", IsADirectoryError, "it is a directory"),
    ],
)
def test_errors_before_writing(name, error, message, trajectory, tmp_path):
    (tmp_path / "folder.pdb").mkdir()
    with pytest.raises(error, match=message):
        save_trajectory(trajectory, tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.pdb"]


def test_failure_leaves_the_older_file(trajectory, tmp_path, monkeypatch):
    def half(self, name, **options):
        Path(name).write_text("half")
        raise RuntimeError("the pen broke\nand more")

    path = tmp_path / "new.pdb"
    path.write_text("older")
    monkeypatch.setattr(md.Trajectory, "save", half)
    with pytest.raises(OSError, match=r"new.pdb: the pen broke$"):
        save_trajectory(trajectory, path)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_silent_loss_of_frames_is_noticed(trajectory, tmp_path, monkeypatch):
    whole = md.Trajectory.save
    monkeypatch.setattr(md.Trajectory, "save", lambda self, name, **options: whole(self[:-1], name))
    with pytest.raises(OSError, match="incomplete"):
        save_trajectory(trajectory, tmp_path / "new.xtc")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["xtc", "trr", "dcd", "pdb", "nc", "h5"])
def test_full_disk(ending, rng, tmp_path):
    """On a small file system of its own, where this machine lets us mount one."""
    disk = tmp_path / "small"
    disk.mkdir()
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("mounting needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine mounts no tmpfs")
    try:
        with pytest.raises(OSError, match=r"no space left|incomplete|[Nn]o space"):
            save_trajectory(make_peptide(rng, n_frames=2000), disk / f"new.{ending}")
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)
