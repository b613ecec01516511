"""How good the predictions are on galaxies that the model has not seen."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.calibration import expected_calibration_error, review_threshold, softmax

__all__ = ["Evaluation", "evaluate"]


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
