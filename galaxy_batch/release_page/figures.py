"""Charts of the page of a release."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from galaxy_batch.report.figures import (
    BLUE,
    CLASS_COLOURS,
    GREY,
    INK,
    PERCENT,
    VERMILION,
    is_narrow,
    new_figure,
    panels,
)

__all__ = ["answer_distributions", "confidence_histograms", "review_curve"]

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

_LONGEST_NAME = 20  # of an answer, in characters


def confidence_histograms(width_px: int, counts: Mapping[str, Counts], low: float, min_confidence: float) -> Figure:
    """Confidence of each class, each on its own scale.

    Args:
        width_px: of the figure.
        counts: rows ``(bins,)`` in equal bins from `low` to 1, by class.
        low: lower edge of the first bin.
        min_confidence: review threshold, a dashed line.
    """
    figure, axes = panels(width_px, len(counts), 190, columns=1)
    for number, (axis, (name, rows)) in enumerate(zip(axes, counts.items(), strict=True)):
        colour = CLASS_COLOURS[number % len(CLASS_COLOURS)]
        axis.stairs(rows, np.linspace(low, 1, len(rows) + 1), fill=True, color=colour)
        axis.set_title(f"{name[:40]}: {rows.sum():,}", loc="left", fontweight="bold")
        axis.set_xlim(low, 1)
        axis.set_ylim(0, None)
        axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axis.yaxis.set_major_formatter("{x:,.0f}")
        if low <= min_confidence <= 1:
            axis.axvline(min_confidence, color=INK, linewidth=1, linestyle="--")
    axes[-1].set_xlabel("confidence")
    return figure


def answer_distributions(width_px: int, counts: Mapping[str, Counts]) -> Figure:
    """Galaxies by fraction of each answer, one above the other; heights are square roots, so that few are visible.

    Args:
        width_px: of the figure.
        counts: galaxies ``(bins,)`` in equal bins from 0 to 1, by answer.
    """
    figure = new_figure(width_px, 44 * len(counts) + 46)
    axis = figure.subplots()
    lines = np.arange(len(counts))[::-1]
    for line, rows in zip(lines, counts.values(), strict=True):
        heights = 0.85 * np.sqrt(rows / max(rows.max(), 1))
        edges = np.linspace(0, 1, len(rows) + 1)
        axis.stairs(line + heights, edges, baseline=line, fill=True, color=BLUE, linewidth=0)
        axis.axhline(line, color=GREY, linewidth=0.8)
    names = [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name in counts]
    axis.set(xlim=(0, 1), ylim=(-0.05, len(counts)), xlabel="fraction of the volunteers asked")
    axis.set_yticks(lines + 0.3, names)
    axis.tick_params(axis="y", length=0)
    axis.grid(visible=False, axis="y")
    axis.xaxis.set_major_formatter(PERCENT)
    axis.spines["left"].set_visible(False)
    return figure


def review_curve(width_px: int, reviewed: Array, accuracy: Array, flagged: tuple[float, float] | None) -> Figure:
    """Expected accuracy of the remaining rows against the share that is reviewed.

    Args:
        width_px: of the figure.
        reviewed: shares of the classified rows, ``(N,)``.
        accuracy: of the others, ``(N,)``.
        flagged: both where all flagged rows are reviewed, a dot.
    """
    figure = new_figure(width_px, 260 if is_narrow(width_px) else 320)
    axis = figure.subplots()
    axis.plot(reviewed, accuracy, color=BLUE, linewidth=2)
    if flagged is not None:
        right = flagged[0] > 0.5
        axis.plot(*flagged, "o", color=VERMILION, markersize=9, clip_on=False)
        axis.annotate(
            "all flagged rows", flagged, xytext=(-10 if right else 10, -16), textcoords="offset points",
            ha="right" if right else "left",
        )  # fmt: skip
    lowest = min([*accuracy.tolist(), *([] if flagged is None else flagged[1:]), 0.95])
    axis.set(
        xlabel="share of the classified rows reviewed",
        ylabel="expected accuracy of the rest",
        xlim=(0, 1),
        ylim=(math.floor(20 * lowest) / 20, 1),
    )
    axis.xaxis.set_major_formatter(PERCENT)
    axis.yaxis.set_major_formatter(PERCENT)
    return figure
