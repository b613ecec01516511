"""Sheets of cutouts with a caption under each, as PNG bytes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from train.plots import BLUE, INK, VERMILION, png_bytes

__all__ = ["Picture", "attention_sheet", "contact_sheet"]

_PICTURE_IN = 1.12
_LINE_IN = 0.125
_LIGHT = "#40E0D0"  # outline of the galaxy: a colour that neither galaxies nor the map have


@dataclass(frozen=True)
class Picture:
    """One cutout and what is written under it."""

    pixels: torch.Tensor
    """``(3, h, w)`` uint8."""
    caption: tuple[str, ...]
    """Lines of text."""
    attention: torch.Tensor | None = None
    """``(h, w)``, not negative: where the network looked."""
    light: torch.Tensor | None = None
    """``(h, w)`` bool: the galaxy's own pixels."""


def contact_sheet(rows: Sequence[tuple[str, Sequence[Picture]]], columns: int = 8) -> bytes:
    """Cutouts in rows, each row with a title at its left; a row with too many for the columns goes on below."""
    lines = []
    for title, pictures in rows:
        for start in range(0, max(len(pictures), 1), columns):
            lines.append((title if start == 0 else "", pictures[start : start + columns]))
    figure, grid = _grid([_caption_lines([p for _, ps in lines for p in ps])] * len(lines), columns)
    for axes, (title, pictures) in zip(grid, lines, strict=True):
        axes[0].set_ylabel(title, fontsize=10, fontweight="bold", color=INK)
        for axis, picture in zip(axes, pictures, strict=False):
            _show(axis, picture, with_attention=False)
        if not pictures:
            _say_none(axes[0])
    return png_bytes(figure)


def attention_sheet(correct: Sequence[Picture], wrong: Sequence[Picture], columns: int = 6) -> bytes:
    """Correct predictions above wrong ones; of each, the plain cutouts above the same with what was looked at."""
    lines = max(_caption_lines(correct), _caption_lines(wrong))
    figure, grid = _grid([0, lines, 0, lines], columns)
    groups = (("correct", correct, BLUE), ("wrong", wrong, VERMILION))
    for number, (name, pictures, colour) in enumerate(groups):
        plain, overlaid = grid[2 * number], grid[2 * number + 1]
        plain[0].set_ylabel(name, fontsize=10, fontweight="bold", color=colour)
        overlaid[0].set_ylabel("attention", fontsize=10, color=colour)
        for top, bottom, picture in zip(plain, overlaid, pictures, strict=False):
            _show(top, Picture(picture.pixels, ()), with_attention=False)
            _show(bottom, picture, with_attention=True)
        if not pictures:
            _say_none(plain[0])
    return png_bytes(figure)


def _grid(caption_lines: Sequence[int], columns: int) -> tuple[Figure, list[list[Axes]]]:
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    heights = [_PICTURE_IN * 8 / columns + _LINE_IN * lines + 0.05 for lines in caption_lines]
    figure = Figure(figsize=(9.4, sum(heights)), layout=layout)
    grid: list[list[Axes]] = figure.subplots(len(heights), columns, squeeze=False).tolist()
    for axis in (axis for row in grid for axis in row):
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    return figure, grid


def _caption_lines(pictures: Sequence[Picture]) -> int:
    return max((len(picture.caption) for picture in pictures), default=0)


def _show(axis: Axes, picture: Picture, with_attention: bool) -> None:
    image = picture.pixels.permute(1, 2, 0).numpy()
    if with_attention and picture.attention is not None:
        image = _overlay(image, picture.attention.numpy())
    axis.imshow(image, interpolation="bilinear")
    if with_attention and picture.light is not None and bool(picture.light.any()) and not bool(picture.light.all()):
        axis.contour(picture.light.numpy(), levels=[0.5], colors=[_LIGHT], linewidths=0.8)
    axis.set_xlabel("\n".join(picture.caption), fontsize=7, color=INK, labelpad=2, linespacing=1.15, parse_math=False)


def _overlay(image: npt.NDArray[np.uint8], attention: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Cutout ``(h, w, 3)`` in grey, with the map ``(h, w)`` laid over in fire colours, opaque where it is strong."""
    top = float(np.nanmax(attention, initial=0))
    strength = np.nan_to_num(attention / top if top > 0 else np.zeros_like(attention))
    grey = np.repeat(image.mean(axis=2, keepdims=True) / 255, 3, axis=2)
    weight = 0.65 * strength[..., None]
    return np.asarray((1 - weight) * grey + weight * colormaps["inferno"](0.25 + 0.75 * strength)[..., :3])


def _say_none(axis: Axes) -> None:
    axis.text(0.5, 0.5, "none", ha="center", va="center", fontsize=10, color=INK, transform=axis.transAxes)
