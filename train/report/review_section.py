"""Values of the report's section on review: what it costs, and how well rankings and flags select wrong predictions."""

from typing import Any

from galaxy_batch.report.page import count, interval, number, percent
from train.evaluate.calibration import accuracy_by_confidence
from train.evaluate.evaluation import ReviewOutcome
from train.evaluate.metrics import TARGET_ACCURACIES, HeldOutMetrics
from train.evaluate.review_ranking import REVIEWED_SHARES
from train.report.figures import ReportFigures, accuracy_after_review

__all__ = ["review_values"]


def review_values(held_out: HeldOutMetrics, figures: ReportFigures) -> dict[str, Any]:
    """Accuracy after review, cost of an accuracy, wrong predictions caught by ranking and by flag."""
    cost_rows = [["checkpoint's threshold", *_outcome(held_out.review)]]
    for cost in held_out.review_costs:
        cost_rows.append([f"{cost.accuracy:.0%}, calibration galaxies", *_outcome(cost.calibration_threshold)])
        cost_rows.append([f"{cost.accuracy:.0%}, test galaxies", *_outcome(cost.test_threshold)])
    accuracy = accuracy_by_confidence(held_out.confidence, held_out.correct)
    return {
        "review_curve": figures.embed(
            "coverage",
            lambda width_px: accuracy_after_review(width_px, accuracy, TARGET_ACCURACIES, held_out.review),
            "Accuracy of the remaining test galaxies by the share reviewed. Checkpoint's threshold: "
            f"{percent(held_out.review.reviewed_share)} reviewed, accuracy {percent(held_out.review.accuracy)}.",
        ),
        "cost_rows": cost_rows,
        "ranking_header": ["ranked by", *(f"first {share:.0%}" for share in REVIEWED_SHARES)],
        "ranking_rows": [[name, *map(percent, shares)] for name, shares in held_out.caught.items()],
        "flag_rows": [
            [name, percent(outcome.flagged_share), percent(outcome.caught), percent(outcome.wrong_share)]
            for name, outcome in held_out.flagged.items()
        ],
    }


def _outcome(outcome: ReviewOutcome | None) -> list[str]:
    if outcome is None:
        return ["not reached", "–", "–", "–", "–"]
    return [
        number(outcome.threshold),
        percent(outcome.reviewed_share),
        count(outcome.kept),
        percent(outcome.accuracy),
        interval(outcome.interval, as_percent=True) if outcome.kept else "–",
    ]
