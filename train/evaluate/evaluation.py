"""How good the predictions are on galaxies that the model has not seen."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from galaxy_batch.stats import Interval, wilson_interval
from train.evaluate.calibration import expected_calibration_error, review_threshold, softmax

__all__ = [
    "ClassScore",
    "Evaluation",
    "ReviewOutcome",
    "accuracy_by_confidence",
    "bootstrap_interval",
    "class_scores",
    "evaluate",
    "median",
    "review_at",
]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """Numbers of one set of galaxies."""

    galaxies: int
    accuracy: float
    ece: float
    """Expected calibration error, 15 bins of equal numbers."""
    brier: float
    """Mean squared distance of the probabilities from the truth, summed over classes (Brier 1950)."""
    review_threshold: float
    """Predictions with at least this confidence reach the wanted accuracy."""
    confusion: list[list[int]]
    """Galaxies by true class (rows) and predicted class (columns)."""


@dataclass(frozen=True)
class ClassScore:
    """How one class fares; a share of nothing is nan."""

    galaxies: int
    """That truly are of this class."""
    predicted: int
    """That are said to be."""
    precision: float
    """Share of the predictions of this class that are right."""
    recall: float
    """Share of this class's galaxies that are found."""


@dataclass(frozen=True)
class ReviewOutcome:
    """What sending the predictions under a confidence to review leaves."""

    threshold: float
    kept: int
    """Galaxies at or above the threshold, whose prediction stands."""
    reviewed_share: float
    accuracy: float
    """Of the kept ones; nan where there are none."""
    interval: Interval
    """95 % Wilson interval of that accuracy."""


def evaluate(
    logits: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], temperature: float, accuracy_wanted: float
) -> Evaluation:
    """Evaluate logits ``(N, classes)`` against labels ``(N,)``."""
    probabilities = softmax(logits, temperature)
    classes = probabilities.shape[1]
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    correct = predicted == labels
    truth = np.eye(classes)[labels]
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (labels, predicted), 1)
    return Evaluation(
        galaxies=len(labels),
        accuracy=float(correct.mean()),
        ece=expected_calibration_error(confidence, correct),
        brier=float(((probabilities - truth) ** 2).sum(axis=1).mean()),
        review_threshold=review_threshold(confidence, correct, accuracy_wanted),
        confusion=confusion.tolist(),
    )


def class_scores(confusion: Sequence[Sequence[int]]) -> list[ClassScore]:
    """Precision and recall of each class, from galaxies by true class (rows) and predicted class (columns)."""
    counts = np.array(confusion)
    right, true, predicted = counts.diagonal().tolist(), counts.sum(axis=1).tolist(), counts.sum(axis=0).tolist()
    return [
        ClassScore(t, p, r / p if p else math.nan, r / t if t else math.nan)
        for r, t, p in zip(right, true, predicted, strict=True)
    ]


def bootstrap_interval(
    statistic: Callable[..., float],
    *samples: npt.NDArray[Any],
    unbiased: bool = True,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """95 % percentile interval of a statistic of one or more independent samples (Efron 1979, Ann. Statist. 7, 1).

    Args:
        statistic: of as many samples as are given.
        samples: ``(N, …)`` each, resampled with replacement, each on its own.
        unbiased: False for a statistic that resampling itself raises, as it does a calibration error, because it
            repeats galaxies: the interval is moved so that its median is the statistic of the samples.
        resamples: how often.
        seed: the same seed, the same interval.

    Returns:
        Two bounds; nan where a sample is empty.
    """
    if not all(len(sample) for sample in samples):
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    values = [
        statistic(*(sample[generator.integers(0, len(sample), len(sample))] for sample in samples))
        for _ in range(resamples)
    ]
    low, median, high = np.quantile(values, [0.025, 0.5, 0.975])
    shift = 0.0 if unbiased else float(statistic(*samples)) - float(median)
    return float(low) + shift, float(high) + shift


def accuracy_by_confidence(confidence: Array, correct: npt.NDArray[np.bool_]) -> Array:
    """Accuracy ``(N,)`` of the 1, 2, … N most confident predictions, from ``(N,)`` confidences and hits."""
    order = np.argsort(-confidence, kind="stable")
    running: Array = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    return running


def review_at(confidence: Array, correct: npt.NDArray[np.bool_], threshold: float) -> ReviewOutcome:
    """What is left when all predictions under a confidence go to review; confidences and hits are ``(N,)``."""
    kept = confidence >= threshold
    total, right = int(kept.sum()), int(correct[kept].sum())
    return ReviewOutcome(
        threshold=threshold,
        kept=total,
        reviewed_share=1 - total / len(kept) if len(kept) else math.nan,
        accuracy=right / total if total else math.nan,
        interval=wilson_interval(right, total),
    )


def median(values: Array) -> float:
    """The median; nan of nothing."""
    return float(np.median(values)) if len(values) else math.nan
