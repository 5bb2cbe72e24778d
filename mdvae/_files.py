"""Files that appear whole or not at all."""

import contextlib
import csv
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Path to write to; on success what was written there takes the place of ``path`` in one step.

    Parameters
    ----------
    path : path
        Where the file shall stand. On failure or interruption what stood there before is untouched, and
        nothing else is left behind.

    Yields
    ------
    Path
        Beside the final one, hidden, with the same ending (many writers go by it).

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written to, or the path is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder; add a file name")
    if path.exists() and not path.is_file():
        raise OSError(f"cannot write {path}: it is not a regular file, and would be replaced by one")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    try:
        # A folder of its own, since some writers make further files or insist on making the file themselves.
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise _named(error, path) from error
    temporary = folder / path.name
    try:
        yield temporary
        os.replace(temporary, path)  # noqa: PTH105 (its atomicity is the point)
    except OSError as error:
        raise _named(error, path) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _named(error: OSError, path: Path) -> OSError:
    """The same error, its message about the file that the user asked for."""
    named = type(error)(f"cannot write {path}: {error.strerror or error}")
    named.errno = error.errno
    return named


def write_numbers(
    path: str | os.PathLike, columns: Sequence[str], rows: Iterable[dict[str, Any]], plain: dict[str, Any]
) -> None:
    """Write rows as a table where the name ends in ``.csv``, else plain data as JSON.

    Parameters
    ----------
    path : path
    columns : sequence of str
    rows : iterable of dict
        By column.
    plain : dict
        Numbers that are not finite become null, which JSON has in their place.
    """
    with replacing(path) as temporary:
        if Path(path).suffix == ".csv":
            with temporary.open("w", newline="") as file:
                writer: Any = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(rows)
        else:
            temporary.write_text(json.dumps(_without_infinities(plain)))


def _without_infinities(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {name: _without_infinities(value) for name, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_without_infinities(value) for value in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
