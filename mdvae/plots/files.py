"""Figures into files, whole or not at all."""

import os
from pathlib import Path

from mdvae._files import replacing
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
    OSError
        If the folder does not exist or cannot be written to, or the path is a folder.
    """
    import matplotlib

    target = Path(path)
    # A folder has no ending; what is wrong with it is better said by `replacing`.
    if target.suffix.lower() not in _FORMATS and not target.is_dir():
        raise ValueError(f"cannot save a figure to '{target}': the name must end in {', '.join(_FORMATS)}")
    # Journals refuse matplotlib's default Type 3 fonts; the setting is read only while a PDF is written.
    with replacing(target) as temporary, matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(temporary, format=target.suffix[1:].lower(), dpi=_RESOLUTION)
    return target
