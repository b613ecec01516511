import numpy as np
import pytest

from train.evaluate.calibration import expected_calibration_error, fit_temperature, review_threshold, softmax

RNG = np.random.default_rng(4)


def overconfident(temperature: float, galaxies: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are right about the classes' order and wrong by a factor about their size."""
    honest = RNG.normal(0, 1.5, (galaxies, 2))
    labels = (RNG.random(galaxies) < softmax(honest)[:, 1]).astype(np.int64)
    return honest * temperature, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found(temperature: float) -> None:
    logits, labels = overconfident(temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.08)


def test_calibration_error_sees_overconfidence_and_its_cure() -> None:
    logits, labels = overconfident(3.0)

    def ece(temperature: float) -> float:
        p = softmax(logits, temperature)
        return expected_calibration_error(p.max(axis=1), p.argmax(axis=1) == labels)

    assert ece(1.0) > 0.08
    assert ece(3.0) < 0.015


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.6, 0.6, 0.9, 0.9])
    correct = np.array([True, False, True, True])
    assert expected_calibration_error(confidence, correct, bins=2) == pytest.approx((0.1 + 0.1) / 2)
    assert np.isnan(expected_calibration_error(np.array([]), np.array([], bool)))


def test_logits_that_separate_perfectly_have_a_finite_temperature() -> None:
    assert 0.05 <= fit_temperature(np.array([[9.0, -9.0], [-9.0, 9.0]]), np.array([0, 1])) < 20


def test_the_review_threshold_reaches_the_accuracy() -> None:
    confidence = np.array([0.99, 0.95, 0.9, 0.8, 0.7, 0.6])
    correct = np.array([True, True, True, False, True, False])
    assert review_threshold(confidence, correct, 0.99) == 0.9
    assert review_threshold(confidence, correct, 0.8) == 0.7
    assert review_threshold(confidence, ~correct, 0.9) == 1.0


def test_no_galaxies_no_temperature() -> None:
    with pytest.raises(ValueError, match="no galaxies"):
        fit_temperature(np.empty((0, 2)), np.empty(0, np.int64))
