"""Figures into files, whole or not at all."""

import os
import secrets
from pathlib import Path

from mdvae.plots.style import Figure

__all__ = ["save_figure"]

_RESOLUTION = 300  # dots per inch, what journals ask of images
_FORMATS = (".pdf", ".png", ".svg")


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure atomically: the file is either the whole new figure or what was there before.

    Parameters
    ----------
    figure
        The figure.
    path
        Where to; the ending chooses the format: .png (300 dpi), .pdf or .svg.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    ValueError
        For another ending.
    FileNotFoundError
        If the folder does not exist.
    IsADirectoryError
        If the path is a folder.
    """
    import matplotlib

    target = _checked(Path(path))
    partial = target.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        # Journals refuse matplotlib's default Type 3 fonts; the setting is read only while a PDF is written.
        with matplotlib.rc_context({"pdf.fonttype": 42}):
            figure.savefig(partial, format=target.suffix[1:].lower(), dpi=_RESOLUTION)
        os.replace(partial, target)  # noqa: PTH105  (the promise of atomicity is os.replace's)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _checked(path: Path) -> Path:
    if path.is_dir():
        raise IsADirectoryError(f"cannot save a figure to '{path}': it is a folder; add a file name")
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(f"cannot save a figure to '{path}': the name must end in {', '.join(_FORMATS)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot save a figure to '{path}': the folder '{path.parent}' does not exist")
    return path
