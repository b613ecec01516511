"""Sheets of cutouts with a caption under each, as PNG bytes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from galaxy_batch.report.style import BLUE, INK, VERMILION, png_bytes

__all__ = ["Picture", "contact_sheet", "grad_cam_sheet"]

_WIDTH_IN = 9.4
_TITLE_IN = 0.24  # at the left of a row
_GAP_IN = 0.05
_LINE_IN = 0.122  # of a caption
_LIGHT = "#40E0D0"  # outline of the galaxy: a colour that neither galaxies nor the map have


@dataclass(frozen=True)
class Picture:
    """One cutout and what is written under it."""

    pixels: torch.Tensor
    """``(3, h, w)`` uint8."""
    caption: tuple[str, ...] = ()
    """Lines of text."""
    attention: torch.Tensor | None = None
    """``(h, w)``, not negative: where the network looked; the cutout is shown in grey under it."""
    light: torch.Tensor | None = None
    """``(h, w)`` bool: the galaxy's own pixels, to be outlined."""


@dataclass(frozen=True)
class _Row:
    title: str
    colour: str
    weight: str
    pictures: Sequence[Picture]
    says_none: bool = True
    """Whether an empty row says so."""


def contact_sheet(rows: Sequence[tuple[str, Sequence[Picture]]], columns: int = 8) -> bytes:
    """Cutouts in rows, each row with a title at its left; a row with too many for the columns goes on below."""
    lines = [
        _Row(title if start == 0 else "", INK, "bold", pictures[start : start + columns])
        for title, pictures in rows
        for start in range(0, max(len(pictures), 1), columns)
    ]
    return _sheet(lines, columns)


def grad_cam_sheet(correct: Sequence[Picture], wrong: Sequence[Picture], columns: int = 6) -> bytes:
    """Correct predictions above wrong ones; of each, the plain cutouts above the same with what was looked at."""
    rows = []
    for name, pictures, colour in (("correct", correct, BLUE), ("wrong", wrong, VERMILION)):
        rows.append(_Row(name, colour, "bold", [Picture(picture.pixels) for picture in pictures[:columns]]))
        rows.append(_Row("attention", colour, "normal", pictures[:columns], says_none=False))
    return _sheet(rows, columns)


def _sheet(rows: Sequence[_Row], columns: int) -> bytes:
    """Draw rows of pictures: one pair of axes in inches from the upper left, so that nothing needs laying out."""
    left = _TITLE_IN if any(row.title for row in rows) else 0.0
    side = (_WIDTH_IN - left) / columns - _GAP_IN
    heights = [side + _GAP_IN + _LINE_IN * max([0, *(len(p.caption) for p in row.pictures)]) for row in rows]
    figure = Figure(figsize=(_WIDTH_IN, sum(heights)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    top = 0.0
    for row, height in zip(rows, heights, strict=True):
        axes.text(
            0.04, top + side / 2, row.title, rotation=90, ha="left", va="center", fontsize=10, color=row.colour,
            fontweight=row.weight,
        )  # fmt: skip
        for place, picture in enumerate(row.pictures):
            _show(axes, picture, left + place * (side + _GAP_IN), top, side)
        if not row.pictures and row.says_none:
            axes.text(left + side / 2, top + side / 2, "none", ha="center", va="center", fontsize=10, color=INK)
        top += height
    axes.set(xlim=(0, _WIDTH_IN), ylim=(top, 0))
    return png_bytes(figure)


def _show(axes: Axes, picture: Picture, left: float, top: float, side: float) -> None:
    image = picture.pixels.permute(1, 2, 0).numpy()
    shown = image if picture.attention is None else _overlay(image, picture.attention.numpy())
    extent = (left, left + side, top + side, top)
    axes.imshow(shown, extent=extent, interpolation="bilinear", aspect="auto")
    if picture.light is not None and bool(picture.light.any()) and not bool(picture.light.all()):
        height, width = picture.light.shape
        x, y = left + (np.arange(width) + 0.5) / width * side, top + (np.arange(height) + 0.5) / height * side
        axes.contour(x, y, picture.light.numpy(), levels=[0.5], colors=[_LIGHT], linewidths=0.8)
    axes.text(
        left + side / 2, top + side + 0.02, "\n".join(picture.caption), ha="center", va="top", fontsize=7, color=INK,
        linespacing=1.15, parse_math=False,
    )  # fmt: skip


def _overlay(image: npt.NDArray[np.uint8], attention: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Cutout ``(h, w, 3)`` in grey, with the map ``(h, w)`` laid over in fire colours, opaque where it is strong."""
    top = float(np.nanmax(attention, initial=0))
    strength = np.nan_to_num(attention / top if top > 0 else np.zeros_like(attention))
    grey = np.repeat(image.mean(axis=2, keepdims=True) / 255, 3, axis=2)
    weight = 0.65 * strength[..., None]
    return np.asarray((1 - weight) * grey + weight * colormaps["inferno"](0.25 + 0.75 * strength)[..., :3])
