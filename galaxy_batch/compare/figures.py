"""Figures of a comparison of two catalogs."""

from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from galaxy_batch.compare.class_mix import Mix
from galaxy_batch.compare.drift import HISTOGRAM_BINS, Shift
from galaxy_batch.report.figures import (
    BLUE,
    CLASS_COLOURS,
    COUNT_COLOURS,
    GREY,
    PERCENT,
    POINTS,
    VERMILION,
    is_narrow,
    new_figure,
    panels,
)
from galaxy_batch.report.sky_map import SkyRegion, draw_sky

__all__ = ["distributions", "mix_by_bins", "old_against_new", "sky_map"]

_COLOURS = (*CLASS_COLOURS, BLUE, VERMILION)
_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)
_MARKERS = ("o", "s", "^", "D", "v", "P")


def distributions(width_px: int, shifts: Mapping[str, Shift]) -> Figure:
    """Old and new distribution of the confidence and of each probability."""
    figure, axes = panels(width_px, len(shifts), 200)
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    for axis, (name, shift) in zip(axes, shifts.items(), strict=True):
        for label, counts, colour, style in (
            ("old", shift.old_histogram, BLUE, "-"),
            ("new", shift.new_histogram, VERMILION, "--"),
        ):
            shares = counts / max(counts.sum(), 1)
            axis.stairs(shares, edges, color=colour, linewidth=1.6, linestyle=style, label=label)
        axis.set(xlabel=name, xlim=(0, 1), ylim=(0, None))
        axis.yaxis.set_major_formatter(PERCENT)
    axes[0].set_ylabel("share of the rows")
    axes[0].legend(loc="upper left")
    return figure


def old_against_new(width_px: int, shifts: Mapping[str, Shift]) -> Figure:
    """Matched objects by old and new value; unchanged ones are on the diagonal."""
    figure, axes = panels(width_px, len(shifts), 310)
    highest = max(2, *(int(shift.joint_histogram.max()) for shift in shifts.values()))
    for axis, (name, shift) in zip(axes, shifts.items(), strict=True):
        drawn = axis.imshow(
            np.ma.masked_equal(shift.joint_histogram.T, 0), origin="lower", extent=(0, 1, 0, 1), cmap=COUNT_COLOURS,
            norm=LogNorm(1, highest), interpolation="none",
        )  # fmt: skip
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--")
        axis.set(xlabel=f"{name}, old", ylabel=f"{name}, new", xticks=_TICKS, yticks=_TICKS)
    bar = figure.colorbar(drawn, ax=axes, orientation="horizontal", shrink=0.6, aspect=30, format="{x:,g}")
    bar.minorticks_off()
    bar.set_label("objects")
    return figure


def mix_by_bins(width_px: int, mix: Mix, classes: Mapping[str, int]) -> Figure:
    """Change of the class shares in the bins of a column, with 95% intervals.

    Args:
        width_px: of the figure.
        mix: with bins for groups.
        classes: label in the mix of each class that is shown.
    """
    figure = new_figure(width_px, 340 if is_narrow(width_px) else 280)
    axis = figure.subplots()
    bins = np.arange(len(mix.groups))
    axis.axhline(0, color=GREY, linewidth=1)
    for number, (name, label) in enumerate(classes.items()):
        offset = (number - (len(classes) - 1) / 2) * 0.5 / len(classes)
        axis.errorbar(
            bins + offset, mix.difference[:, label], yerr=1.96 * mix.error[:, label], capsize=2, markersize=5,
            fmt=_MARKERS[number % len(_MARKERS)], color=_COLOURS[number % len(_COLOURS)], label=name,
        )  # fmt: skip
    axis.set(xlabel=mix.of, ylabel="new − old share (points)")
    axis.set_xticks(bins, mix.groups, rotation=90 if is_narrow(width_px) else 20 if len(bins) > 6 else 0)
    axis.yaxis.set_major_formatter(POINTS)
    axis.legend(ncols=2 if is_narrow(width_px) else len(classes), loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def sky_map(width_px: int, mix: Mix, region: SkyRegion, label: int, name: str) -> Figure:
    """Change of one class's share in sky cells.

    Args:
        width_px: of the figure.
        mix: with cells for groups.
        region: what the map shows.
        label: of the class in the mix.
        name: of the class.
    """
    values = np.full(12 << 2 * (mix.order or 0), np.nan)
    values[[int(cell) for cell in mix.groups]] = mix.difference[:, label]
    limit = max(float(np.nanmax(np.abs(values))), 0.01)
    colours = colormaps["RdBu_r"], Normalize(-limit, limit)
    return draw_sky(width_px, values, region, colours, f"“{name}”: new − old share (points)", format=POINTS)
