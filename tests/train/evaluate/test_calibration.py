import numpy as np
import pytest

from train.evaluate.calibration import (
    accuracy_by_confidence,
    calibration_error_by_chance,
    calibration_verdict,
    class_probabilities,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
    review_threshold,
)

RNG = np.random.default_rng(4)
CONFIDENCE = np.array([0.99, 0.9, 0.8, 0.7, 0.6])
CORRECT = np.array([True, True, False, True, False])


def overconfident(temperature: float, galaxies: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated logits times a factor, with their labels."""
    calibrated = RNG.normal(0, 1.5, (galaxies, 2))
    labels = (RNG.random(galaxies) < class_probabilities(calibrated)[:, 1]).astype(np.int64)
    return calibrated * temperature, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_fit_temperature_recovers_the_factor(temperature: float) -> None:
    logits, labels = overconfident(temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.08)


def test_calibration_error_before_and_after_the_temperature() -> None:
    logits, labels = overconfident(3.0)

    def ece(temperature: float) -> float:
        p = class_probabilities(logits, temperature)
        return expected_calibration_error(p.max(axis=1), p.argmax(axis=1) == labels)

    assert ece(1.0) > 0.08
    assert ece(3.0) < 0.015


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.6, 0.6, 0.9, 0.9])
    correct = np.array([True, False, True, True])
    assert expected_calibration_error(confidence, correct, bins=2) == pytest.approx((0.1 + 0.1) / 2)
    assert np.isnan(expected_calibration_error(np.array([]), np.array([], bool)))


def test_temperature_is_finite_for_separable_logits() -> None:
    assert 0.05 <= fit_temperature(np.array([[9.0, -9.0], [-9.0, 9.0]]), np.array([0, 1])) < 20


def test_review_threshold_reaches_the_accuracy() -> None:
    confidence = np.array([0.99, 0.95, 0.9, 0.8, 0.7, 0.6])
    correct = np.array([True, True, True, False, True, False])
    assert review_threshold(confidence, correct, 0.99) == 0.9
    assert review_threshold(confidence, correct, 0.8) == 0.7
    assert review_threshold(confidence, ~correct, 0.9) == 1.0


def test_fit_temperature_needs_galaxies() -> None:
    with pytest.raises(ValueError, match="no galaxies"):
        fit_temperature(np.empty((0, 2)), np.empty(0, np.int64))


def test_accuracy_of_the_most_confident_predictions() -> None:
    accuracy = accuracy_by_confidence(CONFIDENCE, CORRECT)
    assert accuracy.tolist() == pytest.approx([1, 1, 2 / 3, 0.75, 0.6])


def test_reliability_bins_contain_every_galaxy_once() -> None:
    bins = reliability_bins(CONFIDENCE, CORRECT, bins=2)
    assert [b.galaxies for b in bins] == [3, 2]
    assert [b.right for b in bins] == [1, 2]
    assert bins[0].confidence == pytest.approx(0.7)
    assert reliability_bins(CONFIDENCE[:0], CORRECT[:0]) == []


def test_calibration_error_by_chance_shrinks_with_the_number_of_galaxies() -> None:
    confidence = np.random.default_rng(2).uniform(0.5, 1, 600)
    chance = calibration_error_by_chance(confidence)
    assert 0.02 < chance < 0.08
    correct = np.random.default_rng(3).random(600) < confidence
    assert expected_calibration_error(confidence, correct) == pytest.approx(chance, abs=0.025)
    assert calibration_error_by_chance(np.tile(confidence, 20)) < chance / 3
    assert np.isnan(calibration_error_by_chance(confidence[:0]))


@pytest.mark.parametrize(
    ("ece", "by_chance", "verdict"),
    [
        (0.22, 0.13, "miscalibrated"),
        (0.22, 0.03, "miscalibrated"),
        (0.12, 0.13, "unknown"),
        (0.04, 0.06, "unknown"),
        (0.02, 0.03, "calibrated"),
        (0.05, 0.03, "approximate"),
    ],
)
def test_calibration_verdict(ece: float, by_chance: float, verdict: str) -> None:
    assert calibration_verdict(ece, by_chance) == verdict
