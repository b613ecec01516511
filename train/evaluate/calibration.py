"""Calibration of the confidence: temperature, calibration error, review threshold."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.special

__all__ = [
    "CalibrationVerdict",
    "ReliabilityBin",
    "accuracy_by_confidence",
    "calibration_error_by_chance",
    "calibration_verdict",
    "class_probabilities",
    "expected_calibration_error",
    "fit_temperature",
    "reliability_bins",
    "review_threshold",
]

Array = npt.NDArray[np.float64]

CalibrationVerdict = Literal["calibrated", "approximate", "unknown", "miscalibrated"]

_TEMPERATURES = (0.05, 20.0)
_MAX_ECE = 0.1  # of confidences that are described as probabilities


@dataclass(frozen=True)
class ReliabilityBin:
    """Galaxies of similar confidence."""

    galaxies: int
    right: int
    """Number of correct predictions."""
    confidence: float
    """Mean confidence."""


def fit_temperature(logits: Array, labels: npt.NDArray[np.int64]) -> float:
    """The temperature T that minimises the cross entropy of softmax(logits / T) (Guo et al. 2017, ICML).

    Args:
        logits: ``(N, classes)``, of galaxies outside the training set.
        labels: ``(N,)``.

    Raises:
        ValueError: no galaxies.
    """
    if not len(labels):
        raise ValueError("no galaxies to calibrate with")
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        log_probabilities = scipy.special.log_softmax(logits * np.exp(-log_temperature), axis=1)
        return float(1e-4 * log_temperature**2 - log_probabilities[rows, labels].mean())  # finite if separable

    minimum = scipy.optimize.minimize_scalar(
        loss, bounds=np.log(_TEMPERATURES), method="bounded", options={"xatol": 1e-9}
    )
    return float(np.exp(minimum.x))


def class_probabilities(logits: Array, temperature: float = 1.0) -> Array:
    """Probabilities ``(N, classes)`` of logits ``(N, classes)``."""
    probabilities: Array = scipy.special.softmax(logits / temperature, axis=1)
    return probabilities


def expected_calibration_error(confidence: Array, correct: npt.NDArray[np.bool_], bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over bins of equal numbers of galaxies (Naeini et al. 2015, AAAI).

    Args:
        confidence: ``(N,)``: probability of the predicted class.
        correct: ``(N,)``: whether the prediction is correct.
        bins: number of bins, at most N.
    """
    if not len(confidence):
        return float("nan")
    gaps = [b.galaxies * abs(b.confidence - b.right / b.galaxies) for b in reliability_bins(confidence, correct, bins)]
    return float(sum(gaps) / len(confidence))


def calibration_error_by_chance(confidence: Array, draws: int = 200, seed: int = 0) -> float:
    """Mean calibration error of perfectly calibrated confidences ``(N,)``, from the finite number of galaxies alone."""
    if not len(confidence):
        return float("nan")
    generator = np.random.default_rng(seed)
    errors = [
        expected_calibration_error(confidence, generator.random(len(confidence)) < confidence) for _ in range(draws)
    ]
    return float(np.mean(errors))


def calibration_verdict(ece: float, by_chance: float) -> CalibrationVerdict:
    """What a calibration error says about the confidences.

    Args:
        ece: measured calibration error.
        by_chance: `calibration_error_by_chance` of the same confidences.

    Returns:
        `miscalibrated` above 0.1 and above chance; otherwise `unknown` where chance alone gives half of that (few
        galaxies), `calibrated` if not above chance, `approximate` else.
    """
    if ece > max(_MAX_ECE, by_chance):
        return "miscalibrated"
    if by_chance > _MAX_ECE / 2:
        return "unknown"
    return "calibrated" if ece <= by_chance else "approximate"


def reliability_bins(confidence: Array, correct: npt.NDArray[np.bool_], bins: int = 10) -> list[ReliabilityBin]:
    """Predictions in bins of equal numbers, by rising confidence.

    Args:
        confidence: ``(N,)``: probability of the predicted class.
        correct: ``(N,)``: whether the prediction is correct.
        bins: number of bins, at most N.
    """
    if not len(confidence):
        return []
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(bins, len(confidence)))
    return [ReliabilityBin(len(p), int(correct[p].sum()), float(confidence[p].mean())) for p in parts]


def review_threshold(confidence: Array, correct: npt.NDArray[np.bool_], accuracy: float) -> float:
    """Lowest confidence at or above which the share of correct predictions is at least `accuracy`.

    1.0 where no confidence reaches it: every prediction is reviewed.
    """
    reached = np.flatnonzero(accuracy_by_confidence(confidence, correct) >= accuracy)
    return float(-np.sort(-confidence)[reached[-1]]) if len(reached) else 1.0


def accuracy_by_confidence(confidence: Array, correct: npt.NDArray[np.bool_]) -> Array:
    """Accuracy ``(N,)`` of the 1, 2, … N most confident predictions; confidence and correct are ``(N,)``."""
    order = np.argsort(-confidence, kind="stable")
    accuracy: Array = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    return accuracy
