"""Accuracy, calibration and cost of review on held-out galaxies."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats

from galaxy_batch.stats import Interval, wilson_interval
from train.evaluate.calibration import class_probabilities, expected_calibration_error, review_threshold

__all__ = [
    "ClassScore",
    "Evaluation",
    "ReviewOutcome",
    "bootstrap_interval",
    "brier_score",
    "class_scores",
    "evaluate",
    "median",
    "review_at",
]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """Scores on one set of galaxies."""

    galaxies: int
    accuracy: float
    ece: float
    """Expected calibration error, 15 bins of equal numbers."""
    brier: float
    review_threshold: float
    """Predictions of at least this confidence reach the target accuracy."""
    confusion: list[list[int]]
    """Number of galaxies by true class (rows) and predicted class (columns)."""

    @property
    def accuracy_interval(self) -> Interval:
        """95 % Wilson interval of the accuracy."""
        return wilson_interval(round(self.accuracy * self.galaxies), self.galaxies)

    @property
    def majority_class(self) -> int:
        """Position of the most frequent class of the galaxies."""
        return int(np.sum(self.confusion, axis=1).argmax())

    @property
    def majority_accuracy(self) -> float:
        """Accuracy of always predicting the most frequent class."""
        return float(np.sum(self.confusion, axis=1).max() / max(np.sum(self.confusion), 1))


@dataclass(frozen=True)
class ClassScore:
    """Precision and recall of one class; nan where undefined."""

    galaxies: int
    """Number of galaxies of this class."""
    predicted: int
    """Number of predictions of this class."""
    precision: float
    """Share of the predictions of this class that are correct."""
    recall: float
    """Share of the galaxies of this class that are predicted correctly."""


@dataclass(frozen=True)
class ReviewOutcome:
    """Result of sending all predictions below a confidence to review."""

    threshold: float
    kept: int
    """Number of predictions at or above the threshold."""
    reviewed_share: float
    accuracy: float
    """Of the kept predictions; nan if none are kept."""
    interval: Interval
    """95 % Wilson interval of that accuracy."""


def evaluate(logits: Array, labels: npt.NDArray[np.int64], temperature: float, target_accuracy: float) -> Evaluation:
    """Scores of logits ``(N, classes)`` against labels ``(N,)``."""
    probabilities = class_probabilities(logits, temperature)
    classes = probabilities.shape[1]
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    correct = predicted == labels
    confusion = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    return Evaluation(
        galaxies=len(labels),
        accuracy=float(correct.mean()),
        ece=expected_calibration_error(confidence, correct),
        brier=brier_score(probabilities, labels),
        review_threshold=review_threshold(confidence, correct, target_accuracy),
        confusion=confusion.tolist(),
    )


def brier_score(probabilities: Array, labels: npt.NDArray[np.int64]) -> float:
    """Mean squared distance of probabilities ``(N, classes)`` from the labels, summed over classes (Brier 1950)."""
    return float(((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1).mean())


def class_scores(confusion: Sequence[Sequence[int]]) -> list[ClassScore]:
    """Precision and recall of each class, from counts by true class (rows) and predicted class (columns)."""
    counts = np.array(confusion)
    right, true, predicted = counts.diagonal().tolist(), counts.sum(axis=1).tolist(), counts.sum(axis=0).tolist()
    return [
        ClassScore(t, p, r / p if p else math.nan, r / t if t else math.nan)
        for r, t, p in zip(right, true, predicted, strict=True)
    ]


def bootstrap_interval(
    statistic: Callable[..., float],
    *samples: npt.NDArray[Any],
    recentre: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """95 % percentile interval of a statistic of independent samples (Efron 1979, Ann. Statist. 7, 1).

    Args:
        statistic: function of all samples.
        samples: ``(N,)`` each, resampled independently.
        recentre: shift the interval so that the median over resamples is the statistic of the samples. Needed for a
            calibration error, which resampling raises because it repeats galaxies.
        resamples: number of bootstrap resamples.
        seed: of the resampling.

    Returns:
        Two bounds; nan where a sample has fewer than two members.
    """
    if min(len(sample) for sample in samples) < 2:
        return math.nan, math.nan
    bootstrap = scipy.stats.bootstrap(
        samples, statistic, n_resamples=resamples, vectorized=False, method="percentile", rng=seed
    )
    low, high = bootstrap.confidence_interval
    shift = float(statistic(*samples)) - float(np.median(bootstrap.bootstrap_distribution)) if recentre else 0.0
    return float(low) + shift, float(high) + shift


def review_at(confidence: Array, correct: npt.NDArray[np.bool_], threshold: float) -> ReviewOutcome:
    """Result of reviewing all predictions below a confidence; confidence and correct are ``(N,)``."""
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
    """The median; nan for no values."""
    return float(np.median(values)) if len(values) else math.nan
