"""Figures of pages: matplotlib's, as SVG elements inside the page, for wide and narrow, light and dark screens.

A figure is a function ``draw(width_px) -> Figure``. `embed` calls it for both widths; it lays out its panels by the
width, `is_narrow` tells which one it is. Heights and font sizes are pixels as well. The neutral colours `INK`, `GREY`
and `PALE` follow the page's colour scheme; the others are Okabe & Ito's (2008), which colour-blind readers tell apart.
"""

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

__all__ = [
    "BLUE", "CLASS_COLOURS", "COUNT_COLOURS", "GREEN", "GREY", "INK", "ORANGE", "PALE", "PERCENT", "POINTS", "PURPLE",
    "SKY", "VERMILION", "WIDE_PX", "Draw", "embed", "is_narrow", "new_figure", "panels", "png_bytes",
]  # fmt: skip

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
CLASS_COLOURS = (ORANGE, GREEN, PURPLE, SKY)
COUNT_COLOURS = ListedColormap(colormaps["viridis"](np.linspace(0.25, 0.9, 256)))  # seen on dark and light pages
INK, GREY, PALE = "#222222", "#767676", "#dddddd"
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:g}%")
POINTS = FuncFormatter(lambda share, _: f"{100 * share:+g}".replace("-", "−") if share else "0")
WIDE_PX, _NARROW_PX = 900, 358  # the text column of a desktop page, and of a phone's
_TEXT_PX = 14  # more than 11 where the page is narrower than the layout: 320 and 801 pixels
_SCHEME = {INK: "var(--ink)", GREY: "var(--soft)", PALE: "var(--line)", BLUE.lower(): "var(--accent)"}
_STYLE: dict[Any, Any] = {
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor", "svg.fonttype"), "none"),
    **dict.fromkeys(("axes.spines.right", "axes.spines.top", "legend.frameon", "text.parse_math"), False),
    **dict.fromkeys(("axes.axisbelow", "axes.grid"), True),
    "font.family": "DejaVu Sans",
    "grid.color": PALE,
}

Draw = Callable[[int], Figure]


def embed(draw: Draw, label: str, kind: str = "") -> Markup:
    """A figure for a page: both layouts, of which the page's style shows one.

    Args:
        draw: makes the figure for a width in pixels.
        label: what it shows, for readers who do not see it.
        kind: further CSS class, e.g. "sky".
    """
    return Markup("").join(
        _svg(draw, width, label, f"{layout} {kind}".strip())
        for layout, width in (("wide", WIDE_PX), ("narrow", _NARROW_PX))
    )


def png_bytes(draw: Draw) -> bytes:
    """The wide layout as a PNG file on white; the same figure gives the same bytes."""
    content = io.BytesIO()
    with rc_context(_style(WIDE_PX)):
        draw(WIDE_PX).savefig(content, format="png", dpi=144, facecolor="white", metadata={"Software": None})
    return content.getvalue()


def is_narrow(width_px: int) -> bool:
    """Whether this is the layout for phones."""
    return width_px < WIDE_PX


def new_figure(width_px: float, height_px: float) -> Figure:
    """An empty figure that lays itself out; points are pixels."""
    return Figure(figsize=(width_px / 72, height_px / 72), layout="constrained")


def panels(width_px: int, number: int, height_px: float, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure with panels of this height, in rows; below each other where it is narrow."""
    columns = 1 if is_narrow(width_px) else min(columns, number)
    rows = -(-number // columns)
    figure = new_figure(width_px, rows * height_px)
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for unused in grid[number:]:
        unused.set_axis_off()
    return figure, grid[:number]


def _style(width_px: int, label: str = "") -> dict[Any, Any]:
    sizes = ("axes.labelsize", "axes.titlesize", "font.size", "legend.fontsize", "xtick.labelsize", "ytick.labelsize")
    return {**_STYLE, **dict.fromkeys(sizes, _TEXT_PX), "svg.hashsalt": f"{label} {width_px}"}


def _svg(draw: Draw, width_px: int, label: str, kind: str) -> Markup:
    """One layout as an SVG element."""
    content = io.BytesIO()
    with rc_context(_style(width_px, label)):
        figure = draw(width_px)
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    width, height = 72 * figure.get_size_inches()
    body = content.getvalue().decode().partition("<defs>")[2]
    used = set(re.findall(r"#([\w-]+)", body))
    body = re.sub(r' id="([\w-]+)"', lambda match: match[0] if match[1] in used else "", body)
    for colour, variable in _SCHEME.items():
        body = body.replace(colour, variable)
    scale = 1.4 if is_narrow(width_px) else 1
    opening = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'class="{kind}" viewBox="0 0 {width:g} {height:g}" style="max-width: {scale * width:g}px" '
        f'aria-label="{escape(label)}"><defs>'
    )
    return Markup(opening + body)  # noqa: S704 - matplotlib escapes the texts of a figure
