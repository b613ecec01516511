"""Confidence that means probability: temperature, calibration error, and the review threshold."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

__all__ = [
    "ReliabilityBin",
    "calibration_error_by_chance",
    "expected_calibration_error",
    "fit_temperature",
    "reliability_bins",
    "review_threshold",
    "softmax",
]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ReliabilityBin:
    """Galaxies of about the same confidence."""

    galaxies: int
    right: int
    confidence: float
    """Their mean confidence."""


def fit_temperature(logits: Array, labels: npt.NDArray[np.int64]) -> float:
    """The temperature T for which softmax(logits / T) fits the labels best (Guo et al. 2017, ICML).

    Args:
        logits: ``(N, classes)``, of galaxies that did not train.
        labels: ``(N,)``.

    Raises:
        ValueError: no galaxies.
    """
    if not len(labels):
        raise ValueError("no galaxies to calibrate with")
    scores, truth = torch.from_numpy(logits).double(), torch.from_numpy(labels)
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = (
            F.cross_entropy(scores / log_temperature.exp(), truth) + 1e-4 * log_temperature**2
        )  # finite if separable
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return float(log_temperature.detach().exp().clamp(0.05, 20))


def softmax(logits: Array, temperature: float = 1.0) -> Array:
    """Probabilities ``(N, classes)`` of logits ``(N, classes)``."""
    scaled = logits / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    result: Array = powers / powers.sum(axis=1, keepdims=True)
    return result


def expected_calibration_error(confidence: Array, correct: npt.NDArray[np.bool_], bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over bins of equal numbers of galaxies (Naeini et al. 2015, AAAI).

    Args:
        confidence: ``(N,)``, the probability of the predicted class.
        correct: ``(N,)``, whether it is the right one.
        bins: how many; fewer where there are not enough galaxies.
    """
    if not len(confidence):
        return float("nan")
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    gaps = [len(part) * abs(confidence[part].mean() - correct[part].mean()) for part in parts]
    return float(sum(gaps) / len(confidence))


def calibration_error_by_chance(confidence: Array, draws: int = 200, seed: int = 0) -> float:
    """The mean calibration error that perfect confidences ``(N,)`` would show, from the luck of so few galaxies."""
    if not len(confidence):
        return float("nan")
    generator = np.random.default_rng(seed)
    errors = [
        expected_calibration_error(confidence, generator.random(len(confidence)) < confidence) for _ in range(draws)
    ]
    return float(np.mean(errors))


def reliability_bins(confidence: Array, correct: npt.NDArray[np.bool_], bins: int = 10) -> list[ReliabilityBin]:
    """Predictions in bins of equal numbers, by rising confidence; fewer bins where there are not enough galaxies.

    Args:
        confidence: ``(N,)``, the probability of the predicted class.
        correct: ``(N,)``, whether it is the right one.
        bins: how many.
    """
    if not len(confidence):
        return []
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(bins, len(confidence)))
    return [ReliabilityBin(len(p), int(correct[p].sum()), float(confidence[p].mean())) for p in parts]


def review_threshold(confidence: Array, correct: npt.NDArray[np.bool_], accuracy: float) -> float:
    """The lowest confidence such that the predictions at or above it are right in at least `accuracy` of the cases.

    Gives 1.0 where no threshold reaches it, so that everything is reviewed.
    """
    order = np.argsort(-confidence, kind="stable")
    running = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    reached = np.flatnonzero(running >= accuracy)
    return float(confidence[order[reached[-1]]]) if len(reached) else 1.0
