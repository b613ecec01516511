"""Figures of the training report and of the threshold sweep; see `galaxy_batch.report.figures`."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from galaxy_batch.report.figures import (
    BLUE,
    CLASS_COLOURS,
    GREY,
    INK,
    PERCENT,
    SKY,
    VERMILION,
    Draw,
    embed,
    is_narrow,
    new_figure,
    panels,
    png_bytes,
)
from galaxy_batch.stats import wilson_interval
from train.evaluate.calibration import ReliabilityBin
from train.evaluate.evaluation import ReviewOutcome
from train.fit.fit import Epoch

__all__ = [
    "ReportFigures",
    "accuracy_after_review",
    "learning_curves",
    "outcome_histograms",
    "reliability_diagram",
    "threshold_curves",
    "verdict_curves",
    "vote_histograms",
]

Array = npt.NDArray[np.float64]

_MAX_POINTS = 300  # of a curve


class ReportFigures:
    """Figures of a report: in the page, and as PNG files beside it."""

    def __init__(self) -> None:
        self.png_files: dict[str, bytes] = {}
        """Content by file name."""

    def embed(self, name: str, draw: Draw, label: str) -> Markup:
        """The figure as HTML; see `galaxy_batch.report.figures.embed`. Its file is `<name>.png`."""
        self.png_files[f"{name}.png"] = png_bytes(draw)
        return embed(draw, label)


def vote_histograms(width_px: int, votes: Mapping[str, Array], threshold: float, others: Array | None = None) -> Figure:
    """Number of galaxies by fraction of the votes, one panel per answer.

    Args:
        width_px: of the figure.
        votes: fractions ``(N,)`` by class.
        threshold: vote threshold of a label.
        others: ``(N,)``, of the answers that are not classes, if there are any.
    """
    answers = [*votes.items(), *([] if others is None else [("other answers", others)])]
    figure, axes = panels(width_px, len(answers), 190)
    for number, (axis, (answer, fractions)) in enumerate(zip(axes, answers, strict=True)):
        is_class = number < len(votes)
        colour = CLASS_COLOURS[number % len(CLASS_COLOURS)] if is_class else GREY
        axis.hist(fractions, bins=np.linspace(0, 1, 26).tolist(), color=colour)
        if is_class:
            axis.axvline(threshold, color=INK, linewidth=1, linestyle="--")
        axis.set_title(answer[:40], loc="left", fontweight="bold")
        axis.set(xlabel="fraction of the votes", ylabel="galaxies" if number == 0 else "", xlim=(0, 1))
    return figure


def learning_curves(width_px: int, epochs: Sequence[Epoch]) -> Figure:
    """Loss and accuracy of each epoch, on training and calibration galaxies."""
    figure, axes = panels(width_px, 2, 250)
    steps = np.arange(1, len(epochs) + 1)
    curves = (
        ([e.loss for e in epochs], [e.calibration_loss for e in epochs], "loss (cross entropy)"),
        ([e.accuracy for e in epochs], [e.calibration_accuracy for e in epochs], "accuracy"),
    )
    for axis, (training, calibration, label) in zip(axes, curves, strict=True):
        axis.plot(steps, training, "o-", color=BLUE, markersize=4, label="training galaxies")
        axis.plot(steps, calibration, "s--", color=VERMILION, markersize=4, label="calibration galaxies")
        axis.set(xlabel="epoch", ylabel=label, xlim=(0.5, len(epochs) + 0.5))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _mark_phases(axis, [epoch.phase for epoch in epochs])
    axes[1].yaxis.set_major_formatter(PERCENT)
    axes[1].set_ylim(top=min(1.0, axes[1].get_ylim()[1]))
    axes[0].legend()
    return figure


def outcome_histograms(
    width_px: int,
    quantities: Sequence[tuple[str, Array, Array]],
    limits: Sequence[tuple[float, float]],
    marks: Sequence[float | None],
) -> Figure:
    """Histograms of correct predictions above those of wrong ones, with medians as lines; one column per quantity.

    Args:
        width_px: of the figure.
        quantities: label, values of correct ``(n,)`` and of wrong ``(m,)`` predictions; nan is left out.
        limits: range of each quantity; the outer bins contain the values beyond it.
        marks: reference value of each quantity, if any.
    """
    figure, axes = panels(width_px, 2 * len(quantities), 165, columns=len(quantities))
    for column, ((label, *outcomes), (low, high), mark) in enumerate(zip(quantities, limits, marks, strict=True)):
        places = (2 * column, 2 * column + 1) if is_narrow(width_px) else (column, column + len(quantities))
        for place, values, colour, name in zip(places, outcomes, (BLUE, VERMILION), ("correct", "wrong"), strict=True):
            axis, known = axes[place], values[~np.isnan(values)]
            axis.hist(np.clip(known, low, high), bins=np.linspace(low, high, 31).tolist(), color=colour)
            title = f"{name}: {len(known):,}"
            if len(known):
                axis.axvline(float(np.median(known)), color=INK, linewidth=1.4)
                title += f", median {np.median(known):.2f}"
            if mark is not None:
                axis.axvline(mark, color=GREY, linewidth=1, linestyle=":")
            axis.set_title(title, loc="left", fontweight="bold")
            axis.set(xlim=(low, high), xlabel=label if name == "wrong" else "", ylabel="galaxies")
            axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    return figure


def reliability_diagram(width_px: int, bins: Mapping[str, Sequence[ReliabilityBin]], classes: int) -> Figure:
    """Accuracy against confidence with 95 % intervals, one panel per set of bins; equal on the diagonal."""
    figure, axes = panels(width_px, len(bins), 330)
    low = 1 / classes
    for axis, (title, of_panel) in zip(axes, bins.items(), strict=True):
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        accuracy = np.array([b.right / b.galaxies for b in of_panel])
        ranges = np.array([wilson_interval(b.right, b.galaxies) for b in of_panel]).reshape(-1, 2)
        axis.errorbar(
            [b.confidence for b in of_panel], accuracy,
            yerr=np.maximum([accuracy - ranges[:, 0], ranges[:, 1] - accuracy], 0),
            fmt="o", color=BLUE, ecolor=SKY, markersize=5, elinewidth=1.4, capsize=2,
        )  # fmt: skip
        axis.set_title(title, loc="left", fontweight="bold")
        lowest = min(low, float(ranges.min(initial=low))) - 0.02
        axis.set(xlabel="confidence", ylabel="accuracy", xlim=(low - 0.02, 1.01), ylim=(lowest, 1.02))
    return figure


def accuracy_after_review(
    width_px: int, accuracy: Array, targets: Sequence[float], at_threshold: ReviewOutcome
) -> Figure:
    """Accuracy of the kept predictions against the share that is reviewed, with a 95 % interval.

    Args:
        width_px: of the figure.
        accuracy: ``(N,)``, of the 1, 2, … N most confident predictions.
        targets: accuracies to mark.
        at_threshold: outcome with the checkpoint's review threshold, a dot.
    """
    figure = new_figure(width_px, 260 if is_narrow(width_px) else 320)
    axis = figure.subplots()
    galaxies = len(accuracy)
    kept = np.unique(np.linspace(1, galaxies, min(galaxies, _MAX_POINTS)).round().astype(int))
    accuracy, reviewed = accuracy[kept - 1], 1 - kept / galaxies
    ranges = np.array([wilson_interval(round(a * k), int(k)) for a, k in zip(accuracy, kept, strict=True)])
    axis.fill_between(reviewed, ranges[:, 0], ranges[:, 1], color=SKY, alpha=0.3, linewidth=0)
    axis.plot(reviewed, accuracy, color=BLUE, linewidth=2)
    for target in targets:
        axis.axhline(target, color=GREY, linewidth=0.9, linestyle="--")
    if at_threshold.kept:
        axis.plot(at_threshold.reviewed_share, at_threshold.accuracy, "o", color=VERMILION, markersize=9, clip_on=False)
    lowest = min([*accuracy[len(accuracy) // 20 :].tolist(), *ranges[-1:, 0].tolist(), min(targets)])
    axis.set(
        xlabel="share of the test galaxies reviewed",
        ylabel="accuracy of the rest",
        xlim=(0, 1),
        ylim=(max(0.0, lowest - 0.01), 1),
    )
    axis.xaxis.set_major_formatter(PERCENT)
    axis.yaxis.set_major_formatter(PERCENT)
    return figure


def threshold_curves(
    width_px: int, thresholds: Sequence[float], kept: Sequence[float], accuracy: Mapping[str, Sequence[float]]
) -> Figure:
    """Share of labelled galaxies, and accuracy on each test set, against the vote threshold.

    Args:
        width_px: of the figure.
        thresholds: ``(T,)``.
        kept: ``(T,)``, share of all galaxies that have a label.
        accuracy: ``(T,)`` by name of the test set.
    """
    figure, (left, right) = panels(width_px, 2, 250)
    left.plot(thresholds, kept, "o-", color=INK)
    left.set(ylim=(0, 1), ylabel="galaxies with a label")
    for (name, values), colour in zip(accuracy.items(), (GREY, BLUE), strict=True):
        right.plot(thresholds, values, "o-", color=colour, label=name)
    right.set(ylabel="accuracy", ylim=(None, min(1.0, right.get_ylim()[1])))
    right.legend()
    for axis in (left, right):
        axis.set_xlabel("vote threshold")
        axis.set_xticks(list(thresholds))
        axis.yaxis.set_major_formatter(PERCENT)
    return figure


def verdict_curves(width_px: int, curves: Mapping[str, Sequence[tuple[int, float, float]]]) -> Figure:
    """Accuracy against the number of verdicts.

    Args:
        width_px: of the figure.
        curves: verdicts, mean accuracy and its standard deviation of each round, by strategy.
    """
    figure, (axis,) = panels(width_px, 1, 300)
    colours = (GREY, *CLASS_COLOURS)
    for number, (name, rounds) in enumerate(curves.items()):
        verdicts, accuracy, spread = np.array(rounds).T
        offset = 1 + 0.012 * (number - (len(curves) - 1) / 2)  # so that error bars do not cover each other
        axis.errorbar(verdicts * offset, accuracy, spread, fmt="o-", capsize=3, color=colours[number], label=name)
    axis.set_xscale("log")
    axis.set_xticks(verdicts, [f"{int(count):,}" for count in verdicts])
    axis.minorticks_off()
    axis.set(xlabel="verdicts", ylabel="accuracy")
    axis.yaxis.set_major_formatter(PERCENT)
    axis.legend(loc="lower right")
    return figure


def _mark_phases(axis: Axes, phases: Sequence[str]) -> None:
    """Name of each phase above its first epoch, and a line between phases."""
    for step, phase in enumerate(phases):
        if step and phase == phases[step - 1]:
            continue
        if step:
            axis.axvline(step + 0.5, color=GREY, linewidth=0.9, linestyle=":")
        axis.annotate(
            phase, (step + 0.5, 1.01), xytext=(2, 0), xycoords=("data", "axes fraction"),
            textcoords="offset points", color=GREY, va="bottom",
        )  # fmt: skip
