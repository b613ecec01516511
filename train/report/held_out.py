"""Values of the report's sections on the test galaxies: accuracy, calibration, errors."""

from typing import Any

import numpy as np
import numpy.typing as npt

from galaxy_batch.report.page import count, interval, number, percent
from galaxy_batch.report.pictures import cutout_tile
from train.evaluate.calibration import calibration_verdict, reliability_bins
from train.evaluate.evaluation import median
from train.evaluate.metrics import HeldOutMetrics
from train.evaluate.results import TrainingRun
from train.report.figures import ReportFigures, outcome_histograms, reliability_diagram

__all__ = ["accuracy_values", "calibration_values", "error_values"]

_MAX_ERRORS = 12  # shown
_MAX_BINS, _GALAXIES_PER_BIN = 10, 20


def accuracy_values(run: TrainingRun, held_out: HeldOutMetrics, figures: ReportFigures) -> dict[str, Any]:
    """Confusion matrix, precision and recall, confidence of correct and wrong predictions."""
    classes = run.labels.classes
    confusion = np.array(run.evaluation.confusion)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    correct, wrong = _by_outcome(held_out, held_out.confidence)
    return {
        "correct": int(held_out.correct.sum()),
        "majority": classes[run.evaluation.majority_class],
        "confusion_rows": [
            [name, *(f"{n:,} ({percent(share)})" for n, share in zip(row.tolist(), of_row.tolist(), strict=True))]
            for name, row, of_row in zip(classes, confusion, shares, strict=True)
        ],
        "score_rows": [
            [name, count(s.galaxies), count(s.predicted), percent(s.precision), percent(s.recall)]
            for name, s in zip(classes, held_out.scores, strict=True)
        ],
        "confidence_histograms": figures.embed(
            "confidence_histograms",
            lambda width_px: outcome_histograms(
                width_px, [("confidence", correct, wrong)], [(1 / len(classes), 1)], [None]
            ),
            f"Histograms of the confidence of correct and wrong predictions: medians {number(median(correct), 2)} and "
            f"{number(median(wrong), 2)}.",
        ),
    }


def calibration_values(run: TrainingRun, held_out: HeldOutMetrics, figures: ReportFigures) -> dict[str, Any]:
    """Calibration error before and after the temperature, and the reliability diagram."""
    temperature, evaluation = run.checkpoint.temperature, run.evaluation
    number_of_bins = min(_MAX_BINS, max(1, len(held_out.correct) // _GALAXIES_PER_BIN))
    bins = {
        f"before: ECE {held_out.ece_before:.3f}": held_out.raw_confidence,
        f"after T = {temperature:.2f}: ECE {evaluation.ece:.3f}": held_out.confidence,
    }
    return {
        "overconfident": temperature > 1,
        "verdict": calibration_verdict(evaluation.ece, held_out.ece_by_chance),
        "calibration_rows": [
            ["before", "1", number(held_out.ece_before), "–", number(held_out.brier_before)],
            [
                "after",
                number(temperature),
                number(evaluation.ece),
                interval(held_out.ece_interval),
                number(evaluation.brier),
            ],
        ],
        "reliability": figures.embed(
            "reliability",
            lambda width_px: reliability_diagram(
                width_px,
                {
                    title: reliability_bins(confidence, held_out.correct, number_of_bins)
                    for title, confidence in bins.items()
                },
                len(run.labels.classes),
            ),
            f"Accuracy against confidence in bins, before and after the temperature: ECE {held_out.ece_before:.3f} and "
            f"{evaluation.ece:.3f}.",
        ),
    }


def error_values(run: TrainingRun, held_out: HeldOutMetrics) -> dict[str, Any]:
    """Tiles of the most confident wrong predictions."""
    test, classes = run.parts["test"], run.labels.classes
    wrong = np.flatnonzero(~held_out.correct)
    most_confident = wrong[np.argsort(-held_out.confidence[wrong], kind="stable")][:_MAX_ERRORS]
    return {
        "wrong": len(wrong),
        "error_tiles": [
            cutout_tile(
                test.pixels[row].numpy(),
                (
                    f"{classes[test.labels[row]]}, predicted {classes[held_out.predicted[row]]} "
                    f"{held_out.confidence[row]:.2f}",
                    "votes " + " / ".join(f"{vote:.2f}" for vote in test.votes[row]),
                ),
                test.ids[row],
            )
            for row in most_confident
        ],
    }


def _by_outcome(
    held_out: HeldOutMetrics, values: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return values[held_out.correct], values[~held_out.correct]
