import numpy as np
import pytest

from train.evaluate.calibration import expected_calibration_error
from train.evaluate.evaluation import bootstrap_interval, brier_score, class_scores, evaluate, review_at

CONFIDENCE = np.array([0.99, 0.9, 0.8, 0.7, 0.6])
CORRECT = np.array([True, True, False, True, False])


def test_evaluate_by_hand() -> None:
    logits = np.log([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    evaluation = evaluate(logits, np.array([0, 1, 1]), temperature=1.0, target_accuracy=1.0)
    assert evaluation.accuracy == pytest.approx(2 / 3)
    assert evaluation.confusion == [[1, 0], [1, 1]]
    assert evaluation.brier == pytest.approx((2 * 0.1**2 + 2 * 0.6**2 + 2 * 0.2**2) / 3)
    assert evaluation.review_threshold == pytest.approx(0.8)
    assert brier_score(np.eye(2), np.array([0, 1])) == 0


def test_bootstrap_interval_of_a_mean() -> None:
    sample = np.random.default_rng(1).normal(5, 1, 400)
    low, high = bootstrap_interval(np.mean, sample)
    assert (high - low) / 2 == pytest.approx(1.96 / 20, rel=0.15)
    assert low < 5 < high
    assert bootstrap_interval(np.mean, sample) == (low, high)
    two = bootstrap_interval(lambda a, b: a.mean() - b.mean(), sample, sample + 1)
    assert two[0] < -1 < two[1]
    for too_few in (sample[:0], sample[:1]):
        assert np.isnan(bootstrap_interval(np.mean, sample, too_few)).all()


def test_recentred_interval_of_a_calibration_error_contains_it() -> None:
    """Resampling repeats galaxies, which raises the calibration error: the plain percentile interval lies above it."""
    generator = np.random.default_rng(6)
    confidence = generator.uniform(0.5, 1, 600)
    correct = generator.random(600) < confidence

    def error(rows: np.ndarray) -> float:
        return expected_calibration_error(confidence[rows], correct[rows])

    rows = np.arange(600)
    plain, recentred = (bootstrap_interval(error, rows, resamples=200, recentre=value) for value in (False, True))
    assert recentred[0] < error(rows) < recentred[1]
    assert recentred[1] < plain[1]
    assert recentred[1] - recentred[0] == pytest.approx(plain[1] - plain[0])


def test_class_scores_by_hand() -> None:
    first, second, third = class_scores([[8, 2, 0], [1, 9, 0], [0, 0, 0]])
    assert (first.precision, first.recall) == pytest.approx((8 / 9, 0.8))
    assert (second.precision, second.recall) == pytest.approx((9 / 11, 0.9))
    assert third.galaxies == third.predicted == 0
    assert np.isnan([third.precision, third.recall]).all()


def test_review_outcome_by_hand() -> None:
    outcome = review_at(CONFIDENCE, CORRECT, 0.8)
    assert (outcome.kept, outcome.reviewed_share, outcome.accuracy) == pytest.approx((3, 0.4, 2 / 3))
    nothing_kept = review_at(CONFIDENCE, CORRECT, 1.0)
    assert nothing_kept.kept == 0
    assert np.isnan(nothing_kept.accuracy)
