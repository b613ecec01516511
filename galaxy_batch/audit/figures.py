"""Figures of an audit."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from galaxy_batch.audit.result import GroupAccuracy
from galaxy_batch.report.figures import BLUE, GREY, PERCENT, is_narrow, new_figure

__all__ = ["reliability_diagram", "share_chart"]


def reliability_diagram(width_px: int, bins: Sequence[GroupAccuracy]) -> Figure:
    """Accuracy by stated confidence with 95% intervals, above the rows of the catalog by confidence.

    Args:
        width_px: of the figure.
        bins: those with an estimate.
    """
    figure = new_figure(min(width_px, 620), 460)
    axis, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    stated = np.array([group.confidence for group in bins])
    value, low, high = (
        np.array([getattr(group.accuracy, name) for group in bins]) for name in ("value", "low", "high")
    )
    lowest = min(0.5, float(stated.min()) - 0.03)
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="confidence = accuracy")
    axis.errorbar(
        stated, value, yerr=np.maximum([value - low, high - value], 0), fmt="o", color=BLUE, markersize=6, capsize=3,
        label="estimated, with 95% interval",
    )  # fmt: skip
    axis.set(ylabel="accuracy", xlim=(lowest, 1.01), ylim=(min(lowest, float(low.min()) - 0.02), 1.01))
    axis.legend(loc="upper left")
    counts.bar(stated, [group.rows for group in bins], width=0.018, color=BLUE)
    counts.set(xlabel="mean stated confidence", ylabel="rows")
    counts.yaxis.set_major_formatter("{x:,g}")
    for shared in (axis.xaxis, axis.yaxis):
        shared.set_major_formatter(PERCENT)
    return figure


def share_chart(width_px: int, groups: Sequence[GroupAccuracy], over_all: float) -> Figure:
    """Accuracy of groups with 95% intervals, and their mean confidence; a dashed line where the accuracy over all is.

    Args:
        width_px: of the figure.
        groups: those with an estimate.
        over_all: nan: not known.
    """
    figure = new_figure(min(width_px, 700), 90 + 36 * len(groups))
    axis = figure.subplots()
    places = np.arange(len(groups))[::-1]
    value, low, high = (
        np.array([getattr(group.accuracy, name) for group in groups]) for name in ("value", "low", "high")
    )
    if not np.isnan(over_all):
        axis.axvline(over_all, color=GREY, linewidth=1, linestyle="--")
    axis.errorbar(
        value, places, xerr=np.maximum([value - low, high - value], 0), fmt="o", color=BLUE, markersize=6, capsize=3,
        label="accuracy",
    )  # fmt: skip
    axis.plot([group.confidence for group in groups], places, "|", color=GREY, markersize=16, markeredgewidth=2,
              label="confidence")  # fmt: skip
    names = [group.name.replace("_", "_\n") if is_narrow(width_px) else group.name for group in groups]
    axis.set_yticks(places, names)
    axis.set(ylim=(-0.6, len(groups) - 0.4))
    axis.xaxis.set_major_formatter(PERCENT)
    figure.legend(ncols=2, loc="outside upper right")
    return figure
