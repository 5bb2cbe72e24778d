import os
import stat

import pytest

from mdvae._files import replacing


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_new_file_appears_under_its_name_and_alone(tmp_path):
    with replacing(tmp_path / "out.npy") as temporary:
        assert temporary.name == "out.npy"  # writers go by the ending
        assert not (tmp_path / "out.npy").exists()
        temporary.write_text("new")
    assert contents(tmp_path) == {"out.npy": "new"}


def test_an_old_file_is_replaced_only_at_the_end(tmp_path):
    path = tmp_path / "out"
    path.write_text("old")
    with replacing(str(path)) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert contents(tmp_path) == {"out": "new"}


def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with replacing("out") as temporary:
        temporary.write_text("new")
    assert contents(tmp_path) == {"out": "new"}


FAILURES = {
    "an error": ValueError("wrong"),
    "Ctrl-C": KeyboardInterrupt(),
    "a full disk": OSError(28, "No space left on device"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failure_leaves_the_old_file_and_no_litter(tmp_path, case):
    path = tmp_path / "out"
    path.write_text("old")
    with pytest.raises(type(FAILURES[case])), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        (temporary.parent / "another").mkdir()
        (temporary.parent / "another" / "file").write_text("left by a writer")
        raise FAILURES[case]
    assert contents(tmp_path) == {"out": "old"}


def test_a_system_error_names_the_file_that_was_asked_for_and_the_reason(tmp_path):
    with pytest.raises(OSError, match=r"cannot write .*out: No space left on device"), replacing(tmp_path / "out"):
        raise OSError(28, "No space left on device")


def test_a_writer_that_wrote_nothing_is_an_error(tmp_path):
    (tmp_path / "out").write_text("old")
    with pytest.raises(FileNotFoundError, match="cannot write"), replacing(tmp_path / "out"):
        pass
    assert contents(tmp_path) == {"out": "old"}


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*missing"), replacing(tmp_path / "missing" / "x"):
        pytest.fail("the body must not run")


def test_folder_as_path(tmp_path):
    with pytest.raises(IsADirectoryError, match="it is a folder; add a file name"), replacing(tmp_path):
        pytest.fail("the body must not run")


def test_a_device_or_pipe_is_not_replaced(tmp_path):
    """As root, writing to /dev/null would otherwise put a regular file in its place."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="not a regular file"), replacing(pipe):
        pytest.fail("the body must not run")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "usual").write_text("")
    with replacing(tmp_path / "out") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode
