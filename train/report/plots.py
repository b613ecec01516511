"""Figures of a training run, each a pure function from numbers to the bytes of a PNG."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from galaxy_batch.report.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PERCENT,
    PURPLE,
    SKY,
    SMALL,
    VERMILION,
    WIDTH_IN,
    label_axes,
    png_bytes,
)
from galaxy_batch.stats import wilson_interval
from train.evaluate.calibration import ReliabilityBin
from train.evaluate.evaluation import ReviewOutcome
from train.fit.fit import Epoch

__all__ = [
    "confusion_matrix",
    "coverage_curve",
    "learning_curves",
    "reliability_diagram",
    "threshold_curves",
    "two_histograms",
    "vote_histograms",
]

Array = npt.NDArray[np.float64]

_CLASS_COLOURS = (ORANGE, GREEN, PURPLE, SKY)  # not those of correct and wrong


def vote_histograms(votes: Mapping[str, Array], threshold: float, others: Array | None = None) -> bytes:
    """How many galaxies got which share of the votes, a panel for each answer.

    Args:
        votes: ``(N,)`` fractions by class.
        threshold: what makes a label.
        others: ``(N,)``, of the answers that are no class, if there are any.
    """
    panels = [(f"“{name}”", fractions) for name, fractions in votes.items()]
    panels += [] if others is None else [("other answers", others)]
    figure = Figure(figsize=(WIDTH_IN, 2.7), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for number, (axis, (answer, fractions)) in enumerate(zip(axes, panels, strict=True)):
        labelled = number < len(votes)
        colour = _CLASS_COLOURS[number % len(_CLASS_COLOURS)] if labelled else GREY
        axis.hist(fractions, bins=np.linspace(0, 1, 26), color=colour, edgecolor="white", linewidth=0.4)
        if labelled:
            axis.axvline(threshold, color=INK, linewidth=1, linestyle="--")
        label_axes(axis, f"fraction of the votes for {answer}", "galaxies" if number == 0 else "")
        axis.set_xlim(0, 1)
    axes[0].annotate(
        f"threshold {threshold:g}", (threshold, 1.01), xytext=(0, 0), xycoords=("data", "axes fraction"),
        textcoords="offset points", fontsize=SMALL, color=INK, va="bottom", ha="center",
    )  # fmt: skip
    return png_bytes(figure)


def learning_curves(epochs: Sequence[Epoch]) -> bytes:
    """Loss and accuracy after each epoch of both phases, on training and calibration galaxies."""
    figure = Figure(figsize=(WIDTH_IN, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = np.arange(1, len(epochs) + 1)
    curves = (
        (left, [e.loss for e in epochs], [e.calibration_loss for e in epochs], "loss (cross-entropy, nats)"),
        (right, [e.accuracy for e in epochs], [e.calibration_accuracy for e in epochs], "accuracy"),
    )
    for axis, seen, watched, label in curves:
        axis.plot(steps, seen, color=BLUE, marker="o", markersize=4, label="training galaxies")
        axis.plot(
            steps, watched, color=VERMILION, marker="s", markersize=4, linestyle="--", label="calibration galaxies"
        )
        label_axes(axis, "epoch", label)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.set_xlim(0.5, len(epochs) + 0.5)
        _mark_phases(axis, [epoch.phase for epoch in epochs])
    right.yaxis.set_major_formatter(PERCENT)
    left.legend(frameon=False, fontsize=SMALL)
    return png_bytes(figure)


def confusion_matrix(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> bytes:
    """Galaxies by true class (rows) and predicted class (columns): counts, and their share of the row."""
    counts = np.array(confusion)
    rates = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.2 + 1.25 * len(classes)
    figure = Figure(figsize=(min(WIDTH_IN, side + 1.2), min(WIDTH_IN, side)), layout="constrained")
    axis = figure.subplots()
    axis.imshow(rates, cmap="Blues", vmin=0, vmax=1.15)  # the darkest blue would drown the text
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if rates[row, column] > 0.6 else INK
        share = f"\n{rates[row, column]:.1%}" if counts[row].sum() else ""
        axis.text(column, row, f"{counts[row, column]:,}{share}", ha="center", va="center", color=colour, fontsize=11)
    axis.set_xticks(range(len(classes)), classes)
    axis.set_yticks(range(len(classes)), classes, rotation=90, va="center")
    axis.tick_params(length=0, labelsize=10)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("predicted class", fontsize=10)
    axis.set_ylabel("true class (volunteers)", fontsize=10)
    return png_bytes(figure)


def two_histograms(
    panels: Sequence[tuple[str, Array, Array]], limits: Sequence[tuple[float, float]], marks: Sequence[float | None]
) -> bytes:
    """Correct predictions above wrong ones, a column for each quantity, medians marked.

    Args:
        panels: label of the quantity with its unit, and its values for correct ``(n,)`` and wrong ``(m,)``
            predictions; nan is left out.
        limits: range of each quantity; what lies outside is counted in the outermost bin.
        marks: a value of each quantity to compare with, if any.
    """
    figure = Figure(figsize=(WIDTH_IN, 3.9), layout="constrained")
    grid = figure.subplots(2, len(panels), squeeze=False, sharex="col")
    for column, ((label, *groups), (low, high), mark) in enumerate(zip(panels, limits, marks, strict=True)):
        for axis, values, colour, name in zip(
            grid[:, column], groups, (BLUE, VERMILION), ("correct", "wrong"), strict=True
        ):
            known = values[~np.isnan(values)]
            axis.hist(
                np.clip(known, low, high), bins=np.linspace(low, high, 31), color=colour, edgecolor="white", lw=0.4
            )
            text = f"{name}: n = {len(known):,}"
            if len(known):
                median = float(np.median(known))
                axis.axvline(median, color=INK, linewidth=1.4)
                text += f", median {median:.2f}"
            if mark is not None:
                axis.axvline(mark, color=GREY, linewidth=1, linestyle=":")
            axis.set_title(text, fontsize=9.5, loc="left", color=colour, fontweight="bold")
            axis.set_xlim(low, high)
            axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            label_axes(axis, label if axis is grid[1, column] else "", "galaxies" if column == 0 else "")
    return png_bytes(figure)


def reliability_diagram(panels: Mapping[str, Sequence[ReliabilityBin]], classes: int) -> bytes:
    """Accuracy against confidence, a panel for each way to get the confidence; on the diagonal they agree."""
    figure = Figure(figsize=(WIDTH_IN, 4.3), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    low = 1 / classes
    for number, (axis, (title, bins)) in enumerate(zip(axes, panels.items(), strict=True)):
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        accuracy = np.array([b.right / b.galaxies for b in bins])
        ranges = np.array([wilson_interval(b.right, b.galaxies) for b in bins]).reshape(-1, 2)
        axis.errorbar(
            [b.confidence for b in bins], accuracy,
            yerr=np.maximum([accuracy - ranges[:, 0], ranges[:, 1] - accuracy], 0),
            fmt="o", color=BLUE, ecolor=SKY, markersize=5, elinewidth=1.4, capsize=2,
        )  # fmt: skip
        axis.set_title(title, fontsize=9.5, loc="left", fontweight="bold")
        label_axes(axis, "confidence (probability of the predicted class)", "accuracy" if number == 0 else "")
        axis.set_xlim(low - 0.02, 1.01)
        axis.set_ylim(min(low, float(ranges.min(initial=low))) - 0.02, 1.02)
    return png_bytes(figure)


def coverage_curve(accuracy: Array, wanted: Sequence[float], working: ReviewOutcome) -> bytes:
    """Accuracy of what is kept against the share sent to review.

    Args:
        accuracy: ``(N,)``, of the 1, 2, … N most confident predictions.
        wanted: accuracies to mark.
        working: where the checkpoint's threshold puts us.
    """
    figure = Figure(figsize=(WIDTH_IN, 3.6), layout="constrained")
    axis = figure.subplots()
    galaxies = len(accuracy)
    kept = np.arange(1, galaxies + 1)
    reviewed = 1 - kept / max(galaxies, 1)
    right = np.rint(accuracy * kept).astype(int)
    ranges = np.array([wilson_interval(int(r), int(k)) for r, k in zip(right, kept, strict=True)]).reshape(-1, 2)
    axis.fill_between(reviewed, ranges[:, 0], ranges[:, 1], color=SKY, alpha=0.3, linewidth=0, label="95% interval")
    axis.plot(reviewed, accuracy, color=BLUE, linewidth=1.8, label="kept galaxies")
    for value in wanted:
        axis.axhline(value, color=GREY, linewidth=0.9, linestyle="--")
        axis.annotate(
            f"{value:.0%}", (1, value), xytext=(4, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", fontsize=SMALL, color=GREY, va="center", annotation_clip=False,
        )  # fmt: skip
    if working.kept:
        axis.plot(
            working.reviewed_share, working.accuracy, "D", clip_on=False, color=VERMILION, markersize=7, zorder=3,
            label=f"the checkpoint’s threshold, {working.threshold:.3f}",
        )  # fmt: skip
    lowest = min([*accuracy[galaxies // 20 :].tolist(), *ranges[-1:, 0].tolist(), min(wanted)])
    axis.set_ylim(max(0.0, lowest - 0.01), 1.004)
    axis.set_xlim(-0.005, 1)
    axis.xaxis.set_major_formatter(PERCENT)
    axis.yaxis.set_major_formatter(PERCENT)
    label_axes(axis, "share of the test galaxies sent to review, least confident first", "accuracy of the rest")
    axis.legend(frameon=False, fontsize=SMALL, loc="lower right", bbox_to_anchor=(0.93, 0.02))
    return png_bytes(figure)


def threshold_curves(
    thresholds: Sequence[float], kept: Sequence[float], accuracy: Mapping[str, Sequence[float]]
) -> bytes:
    """What a vote threshold costs and brings: galaxies kept, and accuracy on each test set.

    Args:
        thresholds: ``(T,)``.
        kept: ``(T,)``, share of all galaxies that have a label.
        accuracy: ``(T,)`` by name of the test set.
    """
    figure = Figure(figsize=(WIDTH_IN, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(thresholds, kept, "o-", color=INK)
    left.set_ylim(0, 1)
    label_axes(left, "vote threshold", "galaxies with a label")
    for (name, values), colour in zip(accuracy.items(), (GREY, BLUE), strict=False):
        right.plot(thresholds, values, "o-", color=colour, label=name)
    label_axes(right, "vote threshold", "accuracy")
    right.legend(frameon=False, fontsize=SMALL, loc="lower right")
    for axis in (left, right):
        axis.set_xticks(list(thresholds))
        axis.yaxis.set_major_formatter(PERCENT)
    return png_bytes(figure)


def _mark_phases(axis: Axes, phases: Sequence[str]) -> None:
    """A line where a phase begins, and the phase's name above."""
    for step, phase in enumerate(phases):
        if step and phase == phases[step - 1]:
            continue
        if step:
            axis.axvline(step + 0.5, color=GREY, linewidth=0.9, linestyle=":")
        axis.annotate(
            phase, (step + 0.5, 1.01), xytext=(2, 0), xycoords=("data", "axes fraction"),
            textcoords="offset points", fontsize=SMALL, color=GREY, va="bottom",
        )  # fmt: skip
