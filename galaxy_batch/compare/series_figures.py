"""Figures of a series of catalogs: releases from left to right, models by colour and marker."""

import functools
import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from galaxy_batch.compare.series_result import CatalogNumbers, Series, Step
from galaxy_batch.report.figures import (
    BLUE,
    GREEN,
    ORANGE,
    PERCENT,
    PURPLE,
    SKY,
    VERMILION,
    is_narrow,
    new_figure,
    panels,
)
from galaxy_batch.stats import Interval

__all__ = ["class_shares", "confidence_quantiles", "drift", "failures_and_flags", "row_counts"]

_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
_MARKERS = ("o", "s", "^", "D", "v", "P")
_SPREAD = 0.5  # of the space of a release, for its models
_LEAST_SPAN = 0.02  # of an axis of shares, so that changes by chance look small
_LETTER_PX = 8.5
_LONGEST_NAME = 16  # of a release or class, in characters

Place = Callable[[str, str], float]


def row_counts(width_px: int, series: Series) -> Figure:
    """Rows of each catalog."""
    figure, axes = panels(width_px, 1, 240)
    _draw(axes[0], series, lambda catalog: catalog.rows)
    _from_zero(axes[0], 1)
    axes[0].yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[0].yaxis.set_major_formatter("{x:,.0f}")
    axes[0].set_title("rows", loc="left")
    _finish(figure, axes, series, width_px)
    return figure


def class_shares(width_px: int, series: Series, classes: Sequence[str]) -> Figure:
    """Share of each class among the rows with a class."""
    figure, axes = panels(width_px, len(classes), 240)
    for axis, name in zip(axes, classes, strict=True):
        _draw(axis, series, functools.partial(_class_share, name))
        axis.set_title(_short(name), loc="left")
        low, high = axis.get_ylim()
        missing = max(0.0, _LEAST_SPAN - (high - low)) / 2
        axis.set_ylim(low - missing, high + missing)
        axis.yaxis.set_major_formatter(PERCENT)
    _finish(figure, axes, series, width_px)
    return figure


def failures_and_flags(width_px: int, series: Series) -> Figure:
    """Shares of the rows without a class and of those with a review flag, with 95% intervals."""
    figure, axes = panels(width_px, 2, 240, columns=2)
    _draw(axes[0], series, lambda catalog: catalog.failed_share, lambda catalog: catalog.failed_interval)
    _draw(axes[1], series, lambda catalog: catalog.flagged_share, lambda catalog: catalog.flagged_interval)
    for axis, title in zip(axes, ("without a class", "flagged for review"), strict=True):
        axis.set_title(title, loc="left")
        _from_zero(axis, _LEAST_SPAN)
        axis.yaxis.set_major_formatter(PERCENT)
    _finish(figure, axes, series, width_px)
    return figure


def confidence_quantiles(width_px: int, series: Series) -> Figure:
    """Median of the confidence, the middle half of the rows as a thick line, nine tenths of them as a thin one."""
    figure = new_figure(width_px, 300 if is_narrow(width_px) else 280)
    axis = figure.subplots()
    place = _places(series)
    for catalog in series.catalogs:
        colour, at = _COLOURS[_number(series, catalog) % len(_COLOURS)], place(catalog.release, catalog.model_id)
        for low, high, width in (("q05", "q95", 1.5), ("q25", "q75", 5)):
            axis.vlines(at, catalog.confidence[low], catalog.confidence[high], color=colour, linewidth=width, alpha=0.6)
    _draw(axis, series, lambda catalog: catalog.confidence["median"])
    axis.set_title("confidence", loc="left")
    axis.set_ylim(None, 1)
    _finish(figure, [axis], series, width_px)
    return figure


def drift(width_px: int, series: Series) -> Figure:
    """What changed from the catalog before to each one: class changes with 95% intervals, PSI and KS of confidence."""
    numbers: dict[str, Callable[[Step], float]] = {
        "class changed": lambda step: step.flip_rate,
        "PSI of the confidence": lambda step: step.psi["confidence"],
        "KS of the confidence": lambda step: step.ks["confidence"],
    }
    figure, axes = panels(width_px, len(numbers), 240)
    steps = {step.new: step for step in series.steps}
    of = {id(catalog): steps.get(number) for number, catalog in enumerate(series.catalogs)}

    def value(measure: Callable[[Step], float], catalog: CatalogNumbers) -> float:
        step = of[id(catalog)]
        return math.nan if step is None else measure(step)

    def limits(catalog: CatalogNumbers) -> Interval:
        step = of[id(catalog)]
        return (math.nan, math.nan) if step is None or not step.compared else step.flip_interval

    for axis, (title, measure) in zip(axes, numbers.items(), strict=True):
        interval = limits if title == "class changed" else None
        _draw(axis, series, functools.partial(value, measure), interval)
        axis.set_title(title, loc="left")
        _from_zero(axis, _LEAST_SPAN)
    axes[0].yaxis.set_major_formatter(PERCENT)
    _finish(figure, axes, series, width_px)
    return figure


def _draw(
    axis: Axes,
    series: Series,
    value: Callable[[CatalogNumbers], float],
    interval: Callable[[CatalogNumbers], Interval] | None = None,
) -> None:
    """A line for each model over the releases that it has."""
    place = _places(series)
    for number, model in enumerate(series.models):
        catalogs = [catalog for catalog in series.catalogs if catalog.model_id == model]
        at = [place(catalog.release, model) for catalog in catalogs]
        values = [value(catalog) for catalog in catalogs]
        limits = [interval(catalog) if interval else (v, v) for catalog, v in zip(catalogs, values, strict=True)]
        below = [max(0.0, v - low) for v, (low, _) in zip(values, limits, strict=True)]
        above = [max(0.0, high - v) for v, (_, high) in zip(values, limits, strict=True)]
        axis.errorbar(
            at, values, yerr=(below, above) if interval else None, capsize=2, markersize=6, linewidth=1.4,
            marker=_MARKERS[number % len(_MARKERS)], color=_COLOURS[number % len(_COLOURS)], label=model,
        )  # fmt: skip


def _from_zero(axis: Axes, least: float) -> None:
    """Let an axis begin at 0, with room for the markers at its top, and reach `least` at least."""
    axis.set_ylim(0, max(1.04 * axis.dataLim.y1, least))


def _class_share(name: str, catalog: CatalogNumbers) -> float:
    return catalog.class_shares.get(name, math.nan)


def _places(series: Series) -> Place:
    """Where a catalog is from left to right: at its release, the models of one beside each other."""
    step = _SPREAD / len(series.models)

    def place(release: str, model: str) -> float:
        number = series.models.index(model)
        return series.releases.index(release) + (number - (len(series.models) - 1) / 2) * step

    return place


def _number(series: Series, catalog: CatalogNumbers) -> int:
    return series.models.index(catalog.model_id)


def _finish(figure: Figure, axes: Sequence[Axes], series: Series, width_px: int) -> None:
    """The names of the releases below each panel, those of the models above the figure."""
    names = [_short(release) for release in series.releases]
    columns = 1 if is_narrow(width_px) else min(len(axes), 3)
    room = width_px / columns / len(names)
    upright = max(map(len, names)) * _LETTER_PX > room
    if upright:
        rows = -(-len(axes) // columns)
        figure.set_figheight(figure.get_figheight() + rows * max(map(len, names)) * _LETTER_PX / 72)
    for axis in axes:
        axis.set_xticks(range(len(names)), names, rotation=90 if upright else 0)
        axis.set_xlim(-0.6, len(names) - 0.4)
        axis.grid(visible=False, axis="x")
    if len(series.models) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=1 if is_narrow(width_px) else 4)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
