"""The numbers that a training report states, worked out from a finished run."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from galaxy_batch.stats import Interval, wilson_interval
from train.data.labels import AMBIGUOUS
from train.evaluate.calibration import (
    calibration_error_by_chance,
    expected_calibration_error,
    review_threshold,
    softmax,
)
from train.evaluate.evaluation import ClassScore, ReviewOutcome, bootstrap_interval, class_scores, median, review_at
from train.evaluate.grad_cam_metrics import AttentionFindings
from train.evaluate.results import PartResult, TrainingRun
from train.evaluate.review_ranking import REVIEWED, FlagOutcome, caught_by_review, flag_outcomes, rankings

__all__ = [
    "WANTED",
    "Findings",
    "Target",
    "find",
    "metrics",
    "part_counts",
]

Array = npt.NDArray[np.float64]

WANTED = (0.95, 0.98)
"""Accuracies for which the cost in reviewed galaxies is stated."""


@dataclass(frozen=True)
class Target:
    """What an accuracy costs in reviewed galaxies."""

    accuracy: float
    hindsight: ReviewOutcome | None
    """The least review that reaches it on the test galaxies, chosen on the same; None where none does."""
    foresight: ReviewOutcome | None
    """What the threshold that reaches it on the calibration galaxies does to the test galaxies; None without one."""


@dataclass(frozen=True)
class Findings:
    """What the test galaxies show, beside `TrainingRun.evaluation`."""

    predicted: npt.NDArray[np.int64]
    """``(N,)``: position in the classes."""
    confidence: Array
    """``(N,)``, after the temperature."""
    raw_confidence: Array
    """``(N,)``, before it."""
    correct: npt.NDArray[np.bool_]
    """``(N,)``."""
    accuracy_interval: Interval
    """95 %, Wilson."""
    ece_interval: Interval
    """95 %, bootstrap."""
    ece_by_chance: float
    """What perfect confidences would show on so few galaxies."""
    ece_before: float
    """Before the temperature."""
    brier_before: float
    """Before the temperature."""
    scores: list[ClassScore]
    review: ReviewOutcome
    """What the checkpoint's review threshold does to the test galaxies."""
    targets: list[Target]
    caught: Mapping[str, list[float]]
    """Share of the wrong predictions among the `REVIEWED` worst of the test galaxies, by what they are ranked by."""
    flagged: Mapping[str, FlagOutcome]
    """Test galaxies with LOW_CONFIDENCE, UNFAMILIAR, UNSTABLE, or any of them."""


def find(run: TrainingRun) -> Findings:
    """Work out what the test galaxies show."""
    test = run.parts["test"]
    probabilities, raw = softmax(test.logits, run.checkpoint.temperature), softmax(test.logits)
    predicted, confidence, raw_confidence = probabilities.argmax(axis=1), probabilities.max(axis=1), raw.max(axis=1)
    correct = predicted == test.labels
    truth = np.eye(len(run.labels.classes))[test.labels]
    ece_low, ece_high = bootstrap_interval(
        lambda rows: expected_calibration_error(confidence[rows], correct[rows]),
        np.arange(len(correct)),
        unbiased=False,
    )
    return Findings(
        predicted=predicted,
        confidence=confidence,
        raw_confidence=raw_confidence,
        correct=correct,
        accuracy_interval=wilson_interval(int(correct.sum()), len(correct)),
        ece_interval=(max(0.0, ece_low), ece_high),
        ece_by_chance=calibration_error_by_chance(confidence),
        ece_before=expected_calibration_error(raw_confidence, correct),
        brier_before=float(((raw - truth) ** 2).sum(axis=1).mean()),
        scores=class_scores(run.evaluation.confusion),
        review=review_at(confidence, correct, run.checkpoint.min_confidence),
        targets=[_target(run, confidence, correct, wanted) for wanted in WANTED],
        caught=caught_by_review(rankings(confidence, test.unfamiliarity, test.instability), correct),
        flagged=flag_outcomes(run.checkpoint, confidence, test, correct),
    )


def metrics(run: TrainingRun, found: Findings, attention: AttentionFindings) -> dict[str, Any]:
    """Everything the report states, for machines: plain JSON values, None for what cannot be known."""
    correct, wrong = found.confidence[found.correct], found.confidence[~found.correct]
    test = {
        **dataclasses.asdict(run.evaluation),
        "accuracy_interval": found.accuracy_interval,
        "ece_interval": found.ece_interval,
        "ece_by_chance": found.ece_by_chance,
        "ece_before_temperature": found.ece_before,
        "brier_before_temperature": found.brier_before,
        "median_confidence": {"correct": median(correct), "wrong": median(wrong)},
        "classes": dict(zip(run.labels.classes, map(dataclasses.asdict, found.scores), strict=True)),
        "review": dataclasses.asdict(found.review),
        "caught_by_review": {"reviewed": REVIEWED, **found.caught},
        "flagged": {name: dataclasses.asdict(outcome) for name, outcome in found.flagged.items()},
        "review_for_accuracy": [dataclasses.asdict(target) for target in found.targets],
    }
    everything = {
        "checkpoint_id": run.checkpoint.checkpoint_id,
        "galaxies": dict(run.labels.counts()),
        "unusable": dict(run.unusable),
        "split": {name: part_counts(part, run.labels.classes) for name, part in run.parts.items()},
        "temperature": run.checkpoint.temperature,
        "min_confidence": run.checkpoint.min_confidence,
        "test": test,
        "attention": {
            **dataclasses.asdict(attention),
            "groups": {
                name: {"correct": dataclasses.asdict(right), "wrong": dataclasses.asdict(wrong_ones)}
                for name, (right, wrong_ones) in attention.groups.items()
            },
        },
        "epochs": [dataclasses.asdict(epoch) for epoch in run.epochs],
        "seconds": run.seconds,
    }
    plain: dict[str, Any] = _without_nan(everything)
    return plain


def part_counts(part: PartResult, classes: tuple[str, ...]) -> dict[str, int]:
    """Galaxies of each class in one part, and ambiguous ones where it has any."""
    counts = {name: int((part.all_labels == number).sum()) for number, name in enumerate(classes)}
    ambiguous = int((part.all_labels == AMBIGUOUS).sum())
    return {**counts, "ambiguous": ambiguous} if ambiguous else counts


def _target(run: TrainingRun, confidence: Array, correct: npt.NDArray[np.bool_], wanted: float) -> Target:
    hindsight = review_at(confidence, correct, review_threshold(confidence, correct, wanted))
    foresight = None
    calibration = run.parts.get("calibration")
    clear = calibration is not None and len(calibration.logits) == len(calibration.labels) > 0
    if calibration is not None and clear:
        known = softmax(calibration.logits, run.checkpoint.temperature)
        hits = known.argmax(axis=1) == calibration.labels
        threshold = review_threshold(known.max(axis=1), hits, wanted)
        if review_at(known.max(axis=1), hits, threshold).accuracy >= wanted:  # False for nan: not reached
            foresight = review_at(confidence, correct, threshold)
    return Target(wanted, hindsight if hindsight.accuracy >= wanted else None, foresight)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
