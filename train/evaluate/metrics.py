"""Metrics of a finished training run on its test galaxies, for the report and metrics.json."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from galaxy_batch.stats import Interval
from train.data.labels import AMBIGUOUS
from train.evaluate.calibration import (
    calibration_error_by_chance,
    class_probabilities,
    expected_calibration_error,
    review_threshold,
)
from train.evaluate.evaluation import (
    ClassScore,
    ReviewOutcome,
    bootstrap_interval,
    brier_score,
    class_scores,
    median,
    review_at,
)
from train.evaluate.grad_cam_metrics import GradCamMetrics
from train.evaluate.results import PartResult, TrainingRun
from train.evaluate.review_ranking import REVIEWED_SHARES, FlagOutcome, caught_by_review, flag_outcomes, rankings
from train.evaluate.training_warnings import training_warnings

__all__ = [
    "TARGET_ACCURACIES",
    "HeldOutMetrics",
    "ReviewCost",
    "held_out_metrics",
    "metrics_json",
    "part_counts",
]

Array = npt.NDArray[np.float64]

TARGET_ACCURACIES = (0.95, 0.98)
"""Accuracies for which the report gives the share of galaxies to review."""


@dataclass(frozen=True)
class ReviewCost:
    """Review needed on the test galaxies to reach an accuracy."""

    accuracy: float
    test_threshold: ReviewOutcome | None
    """With the threshold chosen on the test galaxies themselves; None where no threshold reaches the accuracy."""
    calibration_threshold: ReviewOutcome | None
    """With the threshold chosen on the calibration galaxies; None where no threshold reaches the accuracy there."""

    def to_json(self) -> dict[str, Any]:
        """An entry of `review_for_accuracy` in metrics.json."""
        outcomes = {"hindsight": self.test_threshold, "foresight": self.calibration_threshold}
        return {
            "accuracy": self.accuracy,
            **{key: None if outcome is None else dataclasses.asdict(outcome) for key, outcome in outcomes.items()},
        }


@dataclass(frozen=True)
class HeldOutMetrics:
    """Metrics of the test galaxies beyond `TrainingRun.evaluation`."""

    predicted: npt.NDArray[np.int64]
    """``(N,)``: position in the classes."""
    confidence: Array
    """``(N,)``, after the temperature."""
    raw_confidence: Array
    """``(N,)``, before the temperature."""
    correct: npt.NDArray[np.bool_]
    """``(N,)``."""
    ece_interval: Interval
    """95 %, bootstrap."""
    ece_by_chance: float
    """Calibration error of perfect confidences on this number of galaxies."""
    ece_before: float
    """Before the temperature."""
    brier_before: float
    """Before the temperature."""
    scores: list[ClassScore]
    review: ReviewOutcome
    """With the checkpoint's review threshold."""
    review_costs: list[ReviewCost]
    caught: Mapping[str, list[float]]
    """Share of the wrong predictions among the first `REVIEWED_SHARES` of the test galaxies, by ranking."""
    flagged: Mapping[str, FlagOutcome]
    """Test galaxies with LOW_CONFIDENCE, UNFAMILIAR, UNSTABLE, or any of them."""


def held_out_metrics(run: TrainingRun) -> HeldOutMetrics:
    """Metrics of the test galaxies."""
    test = run.parts["test"]
    probabilities = class_probabilities(test.logits, run.checkpoint.temperature)
    raw = class_probabilities(test.logits)
    predicted, confidence, raw_confidence = probabilities.argmax(axis=1), probabilities.max(axis=1), raw.max(axis=1)
    correct = predicted == test.labels
    ece_low, ece_high = bootstrap_interval(
        lambda rows: expected_calibration_error(confidence[rows], correct[rows]),
        np.arange(len(correct)),
        recentre=True,
    )
    return HeldOutMetrics(
        predicted=predicted,
        confidence=confidence,
        raw_confidence=raw_confidence,
        correct=correct,
        ece_interval=(float(np.maximum(ece_low, 0)), ece_high),
        ece_by_chance=calibration_error_by_chance(confidence),
        ece_before=expected_calibration_error(raw_confidence, correct),
        brier_before=brier_score(raw, test.labels),
        scores=class_scores(run.evaluation.confusion),
        review=review_at(confidence, correct, run.checkpoint.min_confidence),
        review_costs=[_review_cost(run, confidence, correct, accuracy) for accuracy in TARGET_ACCURACIES],
        caught=caught_by_review(rankings(confidence, test.unfamiliarity, test.instability), correct),
        flagged=flag_outcomes(run.checkpoint, confidence, test, correct),
    )


def metrics_json(run: TrainingRun, held_out: HeldOutMetrics, grad_cam: GradCamMetrics) -> dict[str, Any]:
    """The content of metrics.json: plain JSON values, None where undefined."""
    content: dict[str, Any] = _without_nan(
        {
            "checkpoint_id": run.checkpoint.checkpoint_id,
            "galaxies": dict(run.labels.counts()),
            "unusable": dict(run.unusable),
            "split": {name: part_counts(part, run.labels.classes) for name, part in run.parts.items()},
            "temperature": run.checkpoint.temperature,
            "min_confidence": run.checkpoint.min_confidence,
            "test": _test_json(run, held_out),
            "questions": None if run.question_scores is None else dataclasses.asdict(run.question_scores),
            "warnings": training_warnings(run),
            "attention": grad_cam.to_json(),
            "epochs": [dataclasses.asdict(epoch) for epoch in run.epochs],
            "seconds": run.seconds,
        }
    )
    return content


def part_counts(part: PartResult, classes: tuple[str, ...]) -> dict[str, int]:
    """Number of galaxies of each class in a part, and of ambiguous ones if there are any."""
    counts = {name: int((part.all_labels == number).sum()) for number, name in enumerate(classes)}
    ambiguous = int((part.all_labels == AMBIGUOUS).sum())
    return {**counts, "ambiguous": ambiguous} if ambiguous else counts


def _test_json(run: TrainingRun, held_out: HeldOutMetrics) -> dict[str, Any]:
    confidence, correct = held_out.confidence, held_out.correct
    return {
        **dataclasses.asdict(run.evaluation),
        "accuracy_interval": run.evaluation.accuracy_interval,
        "ece_interval": held_out.ece_interval,
        "ece_by_chance": held_out.ece_by_chance,
        "ece_before_temperature": held_out.ece_before,
        "brier_before_temperature": held_out.brier_before,
        "median_confidence": {"correct": median(confidence[correct]), "wrong": median(confidence[~correct])},
        "classes": dict(zip(run.labels.classes, map(dataclasses.asdict, held_out.scores), strict=True)),
        "review": dataclasses.asdict(held_out.review),
        "caught_by_review": {"reviewed": REVIEWED_SHARES, **held_out.caught},
        "flagged": {name: dataclasses.asdict(outcome) for name, outcome in held_out.flagged.items()},
        "review_for_accuracy": [cost.to_json() for cost in held_out.review_costs],
    }


def _review_cost(run: TrainingRun, confidence: Array, correct: npt.NDArray[np.bool_], accuracy: float) -> ReviewCost:
    outcome = review_at(confidence, correct, review_threshold(confidence, correct, accuracy))
    return ReviewCost(
        accuracy,
        test_threshold=outcome if outcome.accuracy >= accuracy else None,
        calibration_threshold=_with_calibration_threshold(run, confidence, correct, accuracy),
    )


def _with_calibration_threshold(
    run: TrainingRun, confidence: Array, correct: npt.NDArray[np.bool_], accuracy: float
) -> ReviewOutcome | None:
    calibration = run.parts.get("calibration")
    if calibration is None or not len(calibration.logits):
        return None
    probabilities = class_probabilities(calibration.logits, run.checkpoint.temperature)
    calibration_confidence = probabilities.max(axis=1)
    calibration_correct = probabilities.argmax(axis=1) == calibration.labels
    threshold = review_threshold(calibration_confidence, calibration_correct, accuracy)
    reached = review_at(calibration_confidence, calibration_correct, threshold).accuracy >= accuracy  # False for nan
    return review_at(confidence, correct, threshold) if reached else None


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
