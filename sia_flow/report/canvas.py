"""How every picture looks: size, colours, axes, the file.

Invariant: figures are our own, on the Agg backend; no global state of matplotlib is touched, and equal
data give equal bytes.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from sia_flow.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#555555"
SIZE = (9.0, 5.0)
"""Inches; at DPI the picture is 1350 pixels wide and still reads at 900."""
DPI = 150


def canvas(x: str, y: str, *, whole: bool = False) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes; `whole` puts ticks at whole numbers of x only."""
    figure = figure_of(SIZE)
    axes = figure.add_subplot()
    dress(axes, x, whole=whole)
    axes.set_ylabel(y, fontsize=11)
    return figure, axes


def figure_of(size: tuple[float, float]) -> Figure:
    """Return an empty figure of `size` inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, x: str, *, whole: bool) -> None:
    """Give axes their label, grid and ticks."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(x, fontsize=11)
    axes.tick_params(labelsize=10)
    axes.grid(visible=True, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    if whole:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def save(figure: Figure, axes: Axes, path: Path, note: str) -> Path:
    """Add the legend and the note, write the picture, return `path`."""
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=10)
    figure.text(0.995, 0.005, note, ha="right", va="bottom", fontsize=8.5, color=GREY)
    return write(figure, path)


def write(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG and return `path`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomic(path, buffer.getvalue(), sync=False)
    return path
