"""The look that all figures share: sizes, colors, labels.

Everything is set on the objects of one figure. Neither pyplot nor `rcParams` is touched, so drawing needs no
display, is safe beside a user's own plots, and leaves their settings alone. matplotlib itself is imported
only when a figure is made.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Num

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:  # the runtime type checker of the tests must not need matplotlib to read a signature
    Artist = Axes = Figure = Any

__all__ = [
    "BLACK",
    "BLUE",
    "COLORMAP",
    "DASHES",
    "GRAY",
    "LABEL_SIZE",
    "LEGEND_SIZE",
    "LINE_WIDTH",
    "OKABE_ITO",
    "THIN_LINE_WIDTH",
    "VERMILION",
    "Artist",
    "Axes",
    "Figure",
    "add_colorbar",
    "capitalized",
    "figure_of",
    "label_axes",
    "legend_above",
    "new_figure",
    "quantity",
    "robust_limits",
    "unit_name",
]

# Okabe and Ito's palette, told apart with every common color vision (https://jfly.uni-koeln.de/color/).
BLACK = "#000000"
BLUE = "#0072B2"
VERMILION = "#D55E00"
GRAY = "#7F7F7F"
# All eight of it, those that are best seen on white first.
OKABE_ITO = (BLUE, VERMILION, "#009E73", "#E69F00", "#56B4E9", "#CC79A7", BLACK, "#F0E442")
# Perceptually uniform, and still ordered in gray print.
COLORMAP = "viridis"

# Journals print one column about 85 mm wide, two about 175 mm.
_COLUMN_MM = {1: 85.0, 2: 175.0}
_MM_PER_INCH = 25.4

LABEL_SIZE = 8.0  # points
TICK_SIZE = 7.0
LEGEND_SIZE = 7.0
LINE_WIDTH = 1.2
THIN_LINE_WIDTH = 0.5
DASHES = (0, (4, 2))
SPINE_WIDTH = 0.6

_UNIT_NAMES = {"angstrom": "Å", "reduced": "reduced units"}


def new_figure(columns: int, height_mm: float | int) -> Figure:
    """Make an empty figure of a journal's width that needs no display.

    Parameters
    ----------
    columns
        Width in columns of a journal: 1 (85 mm) or 2 (175 mm).
    height_mm
        Height in mm.

    Returns
    -------
    Figure
        On an Agg canvas, with constrained layout.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (_COLUMN_MM[columns] / _MM_PER_INCH, height_mm / _MM_PER_INCH)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def figure_of(ax: Axes) -> Figure:
    """Find the whole figure that an axes is part of, also through subfigures."""
    # The figure of a subfigure is the whole one, and a whole figure's is itself; newer matplotlib has
    # `get_figure(root=True)` for it.
    root: Any = ax.figure
    return root.figure


def unit_name(unit: str) -> str:
    """Spell a unit as it is printed: "angstrom" is Å, "reduced" is reduced units."""
    return _UNIT_NAMES.get(unit, unit)


def quantity(name: str, unit: str = "", power: int = 1) -> str:
    """Make an axis label of a quantity and its unit.

    Parameters
    ----------
    name
        The quantity, e.g. "Distance".
    unit
        Its unit, e.g. "nm"; empty for a pure number.
    power
        Power of the unit: -1 for a density over a length.

    Returns
    -------
    str
        e.g. "Distance (nm)"; just the name of a pure number.
    """
    if not unit:
        return name
    exponent = "" if power == 1 else f"$^{{{power}}}$"
    return f"{name} ({unit_name(unit)}{exponent})"


def capitalized(text: str) -> str:
    """Capitalize the first letter and leave the others (RMSD stays RMSD)."""
    return text[:1].upper() + text[1:]


def label_axes(ax: Axes, x: str = "", y: str = "", title: str = "", *, right_spine: bool = False) -> None:
    """Give an axes its labels, readable sizes, and thin spines on the sides that carry a scale.

    Parameters
    ----------
    ax
        The axes to dress.
    x, y, title
        Labels with units, and a title; the empty ones are left as they are.
    right_spine
        Keep the right spine, for a second scale.
    """
    if x:
        ax.set_xlabel(x, fontsize=LABEL_SIZE)
    if y:
        ax.set_ylabel(y, fontsize=LABEL_SIZE)
    if title:
        ax.set_title(title, fontsize=LABEL_SIZE)
    ax.tick_params(labelsize=TICK_SIZE, width=SPINE_WIDTH, length=2.5, pad=2.0)
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_offset_text().set_fontsize(TICK_SIZE)
    for side, spine in ax.spines.items():
        spine.set_linewidth(SPINE_WIDTH)
        spine.set_visible(side in ("left", "bottom") or (side == "right" and right_spine))


def legend_above(ax: Axes, n_columns: int = 3, handles: Sequence[Artist] | None = None) -> None:
    """Add a small legend above the axes, where it cannot cover data."""
    options: dict[str, Any] = {} if handles is None else {"handles": handles}
    ax.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=n_columns,
        fontsize=LEGEND_SIZE,
        frameon=False,
        handlelength=1.4,
        columnspacing=1.2,
        labelspacing=0.3,
        borderaxespad=0.2,
        **options,
    )


def add_colorbar(
    ax: Axes, mappable: Any, label: str, *, integer: bool = False, width: float = 0.04, **options: Any
) -> None:
    """Put a thin, labeled colorbar on the right of an axes, as high as the axes whatever its aspect.

    Parameters
    ----------
    ax
        The axes.
    mappable
        What is colored.
    label
        Of the scale, with its unit.
    integer
        Only whole numbers.
    width
        As a share of the width of the axes.
    **options
        As for Matplotlib's `Figure.colorbar`.
    """
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    place = ax.inset_axes((1 + 0.75 * width, 0.0, width, 1.0))
    bar: Any = ax.figure.colorbar(mappable, cax=place, label=label, **options)
    # Points may be translucent; their scale should not be.
    bar.set_alpha(1.0)
    bar.solids.set_alpha(1.0)
    bar.outline.set_linewidth(SPINE_WIDTH)
    place.minorticks_off()
    place.tick_params(labelsize=TICK_SIZE, width=SPINE_WIDTH, length=2.5, pad=2.0)
    place.yaxis.label.set_fontsize(LABEL_SIZE)
    if integer:
        bar.locator = MaxNLocator(integer=True)
    # Logarithmic scales write their powers by themselves.
    if isinstance(bar.formatter, ScalarFormatter):
        bar.formatter.set_useMathText(True)
    offset = place.yaxis.get_offset_text()
    offset.set_fontsize(TICK_SIZE)
    offset.set_horizontalalignment("left")


def robust_limits(values: Num[np.ndarray, " n"], margin: float = 0.08, tolerance: float = 2.0) -> tuple[float, float]:
    """Choose axis limits that a few extreme values cannot spoil.

    What lies farther outside of the bulk (the 2nd to 95th percentile) than `tolerance` times its range is cut
    off, just outside of the bulk. Negative values are welcome.

    Parameters
    ----------
    values
        What will be drawn; NaN and infinities are left out.
    margin
        Free space on each side, as a fraction of the shown range.
    tolerance
        How much room the extremes may take, as a multiple of the range of the bulk.

    Returns
    -------
    tuple of float
        Lower and upper limit, never equal.
    """
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = _cut(finite, tolerance)
    space = margin * (high - low) or 0.05 * max(abs(high), 1.0)
    return low - space, high + space


def _cut(finite: Float[np.ndarray, " n"], tolerance: float) -> tuple[float, float]:
    bulk_low, bulk_high = np.percentile(finite, [2.0, 95.0])
    bulk = bulk_high - bulk_low
    if bulk == 0.0:
        return float(finite.min()), float(finite.max())
    low = finite.min() if bulk_low - finite.min() <= tolerance * bulk else bulk_low - 0.1 * bulk
    high = finite.max() if finite.max() - bulk_high <= tolerance * bulk else bulk_high + 0.1 * bulk
    return float(low), float(high)
