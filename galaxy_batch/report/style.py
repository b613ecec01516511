"""The style that all figures share: colours, sizes, labelled axes, and PNG files that are the same every time."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "ORANGE",
    "PERCENT",
    "PURPLE",
    "SKY",
    "SMALL",
    "VERMILION",
    "WIDTH_IN",
    "label_axes",
    "png_bytes",
]

# Okabe & Ito's palette: told apart by colour-blind readers, and in grey print.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
INK, GREY = "#222222", "#767676"
WIDTH_IN = 9.0
SMALL = 8.5
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:g}%")
_PALE = "#DDDDDD"
_DPI = 150


def png_bytes(figure: Figure) -> bytes:
    """A figure as PNG; the same figure, the same bytes."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return content.getvalue()


def label_axes(axis: Axes, x: str, y: str) -> None:
    """Label an axis pair, in the style that all figures share."""
    axis.set_xlabel(x, fontsize=9.5, color=INK)
    axis.set_ylabel(y, fontsize=9.5, color=INK)
    axis.tick_params(labelsize=SMALL, colors=INK, length=3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, color=_PALE, linewidth=0.5)
    axis.set_axisbelow(True)
