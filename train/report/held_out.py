"""The report's sections on held-out galaxies: right and wrong, confidence, the worst mistakes."""

import math

import numpy as np
import numpy.typing as npt

from galaxy_batch.report.html import Album, number, paragraph, percent, range_of, section, side_by_side, table
from train.evaluate.calibration import accuracy_by_confidence, reliability_bins
from train.evaluate.evaluation import ReviewOutcome
from train.evaluate.metrics import TARGET_ACCURACIES, HeldOutMetrics
from train.evaluate.results import TrainingRun
from train.report.plots import confusion_matrix, coverage_curve, reliability_diagram, two_histograms
from train.report.sheets import Picture, contact_sheet

__all__ = ["confidence_section", "mistakes_section", "predictions_section"]

_WORST = 12  # mistakes that are shown


def predictions_section(run: TrainingRun, held_out: HeldOutMetrics, album: Album) -> str:
    """Which galaxies are told apart, and how sure the model is of right and wrong predictions."""
    classes, evaluation = run.labels.classes, run.evaluation
    commonest = max(range(len(classes)), key=lambda c: held_out.scores[c].galaxies)
    baseline = held_out.scores[commonest].galaxies / max(evaluation.galaxies, 1)
    wrong = int((~held_out.correct).sum())
    rows = [
        [name, f"{s.galaxies:,}", f"{s.predicted:,}", percent(s.precision), percent(s.recall)]
        for name, s in zip(classes, held_out.scores, strict=True)
    ]
    medians = [float(np.median(c)) if len(c) else math.nan for c in _by_outcome(held_out, held_out.confidence)]
    return (
        paragraph(
            f"{int(held_out.correct.sum()):,} of {evaluation.galaxies:,} galaxies outside the training set are "
            f"classified as the volunteers did, {wrong:,} otherwise.",
            f"Calling every galaxy “{classes[commonest]}” would be right for {percent(baseline)}.",
        )
        + side_by_side(
            album.figure(
                "confusion_matrix",
                confusion_matrix(evaluation.confusion, classes),
                "Each row holds the galaxies of one true class, split by what the model says: on the diagonal it is "
                "right; the percentages of a row add up to 100.",
            ),
            table(
                ["class", "galaxies", "predicted", "precision", "recall"],
                rows,
                "Precision: share of the predictions of this class that are right. "
                "Recall: share of its galaxies that are held_out.",
            ),
        )
        + section(
            "How sure it is",
            paragraph(
                f"Median confidence is {number(medians[0], 2)} on correct and {number(medians[1], 2)} on wrong "
                "predictions."
                if wrong
                else f"Median confidence is {number(medians[0], 2)}; no prediction is wrong."
            ),
            album.figure(
                "confidence_histograms",
                two_histograms(
                    [("confidence", *_by_outcome(held_out, held_out.confidence))], [(1 / len(classes), 1)], [None]
                ),
                "Confidence of correct (above) and wrong predictions (below, on its own scale), with the median as a "
                "line: the further apart the two, the better confidence tells which predictions to trust.",
            ),
        )
    )


def confidence_section(run: TrainingRun, held_out: HeldOutMetrics, album: Album) -> str:
    """Whether a confidence of 0.8 is right four times in five, and what review buys."""
    temperature, evaluation = run.checkpoint.temperature, run.evaluation
    kind = "too sure of itself" if temperature > 1 else "not sure enough of itself"
    change = "down from" if evaluation.ece < held_out.ece_before else "and was"
    verdict = "no more than the" if evaluation.ece <= held_out.ece_by_chance else "against the"
    bins = min(10, max(1, len(held_out.correct) // 20))
    panels = {
        f"before: ECE {held_out.ece_before:.3f}": reliability_bins(held_out.raw_confidence, held_out.correct, bins),
        f"after temperature {temperature:.2f}: ECE {evaluation.ece:.3f}": reliability_bins(
            held_out.confidence, held_out.correct, bins
        ),
    }
    rows = [
        ["before", "1", number(held_out.ece_before), "", number(held_out.brier_before)],
        [
            "after",
            number(temperature, 3),
            number(evaluation.ece),
            range_of(held_out.ece_interval),
            number(evaluation.brier),
        ],
    ]
    return (
        paragraph(
            f"On the calibration galaxies the network is {kind}, so its scores are divided by the temperature "
            f"{temperature:.3f} that fits them best.",
            "On the test galaxies the gap between confidence and accuracy (expected calibration error, ECE) is then "
            f"{evaluation.ece:.3f} on average, {change} {held_out.ece_before:.3f}; that is {verdict} "
            f"{number(held_out.ece_by_chance)} that perfect confidences would show on so few galaxies, by luck.",
        )
        + table(
            ["temperature", "value", "ECE", "95% interval", "Brier score"],
            rows,
            "Measured on the test galaxies, in 15 bins of equal numbers. Brier score: mean squared distance of the "
            "probabilities from the truth, 0 at best.",
        )
        + album.figure(
            "reliability",
            reliability_diagram(panels, len(run.labels.classes)),
            "Bins of equally many test galaxies, with 95% intervals: on the dashed line confidence equals "
            "accuracy, below it the model is too sure of itself.",
        )
        + section("What review buys", *_review(held_out, album))
    )


def mistakes_section(run: TrainingRun, held_out: HeldOutMetrics, album: Album) -> str:
    """The most confident wrong predictions."""
    wrong = np.flatnonzero(~held_out.correct)
    if not len(wrong):
        return paragraph("No prediction on the test galaxies is wrong.")
    test, classes = run.parts["test"], run.labels.classes
    worst = wrong[np.argsort(-held_out.confidence[wrong], kind="stable")][:_WORST]
    pictures = [
        Picture(
            test.pixels[row],
            (
                f"{classes[test.labels[row]]}, said {classes[held_out.predicted[row]]} {held_out.confidence[row]:.2f}",
                "votes " + " / ".join(f"{vote:.2f}" for vote in test.votes[row]),
                test.ids[row],
            ),
        )
        for row in worst
    ]
    return paragraph(
        "A confident mistake may be the model’s, the label’s, or the cutout’s: look at what is in it, and at how "
        "far the volunteers agreed."
    ) + album.figure(
        "worst_mistakes",
        contact_sheet([("", pictures)], columns=6),
        f"The {len(pictures)} most confident of {len(wrong):,} wrong predictions: under each the volunteers’ class, "
        f"the predicted one and its confidence, the votes for {' / '.join(classes)}, and the galaxy’s id.",
    )


def _review(held_out: HeldOutMetrics, album: Album) -> list[str]:
    rows = []
    for target in held_out.review_costs:
        rows.append([f"{target.accuracy:.0%} at best", *_outcome(target.test_threshold)])
        rows.append([f"{target.accuracy:.0%} as planned", *_outcome(target.calibration_threshold)])
    rows.append(["with the checkpoint’s threshold", *_outcome(held_out.review)])
    return [
        album.figure(
            "coverage",
            coverage_curve(
                accuracy_by_confidence(held_out.confidence, held_out.correct), TARGET_ACCURACIES, held_out.review
            ),
            "Accuracy of the predictions that stand when the least confident are sent to a person: the steeper the "
            "rise at the left, the less review an accuracy costs.",
        ),
        table(
            ["accuracy of the rest", "review under", "sent to review", "kept", "accuracy", "95% interval"],
            rows,
            "“At best” picks the threshold on the very test galaxies and flatters; “as planned” picks it on the "
            "calibration galaxies, as one has to for a new survey.",
        ),
    ]


def _outcome(outcome: ReviewOutcome | None) -> list[str]:
    if outcome is None:
        return ["not reached", "–", "–", "–", "–"]
    return [
        number(outcome.threshold),
        percent(outcome.reviewed_share),
        f"{outcome.kept:,}",
        percent(outcome.accuracy),
        range_of(outcome.interval, as_percent=True) if outcome.kept else "–",
    ]


def _by_outcome(
    held_out: HeldOutMetrics, values: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return values[held_out.correct], values[~held_out.correct]
