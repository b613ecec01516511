import dataclasses
import math

import numpy as np
import pytest

from tests.support.training import run_of
from train.evaluate.review_ranking import caught_by_review, flag_outcomes, rankings

N = 100
CONFIDENCE = np.linspace(1, 0.5, N)
CORRECT = np.ones(N, bool)
CORRECT[[3, 95, 96, 99]] = False  # three of low confidence, and one of high confidence and high instability
INSTABILITY = np.where(np.arange(N) == 3, 0.4, 0.0)
UNKNOWN = np.empty(0)


def test_share_of_wrong_predictions_caught_by_review() -> None:
    ranked = rankings(CONFIDENCE, UNKNOWN, INSTABILITY)
    caught = caught_by_review(ranked, CORRECT)
    assert caught["confidence"] == [0.75, 0.75, 0.75]
    assert caught["any of them, worst rank"] == [1.0, 1.0, 1.0]
    assert caught["instability"][0] >= 0.25
    assert "unfamiliarity" not in caught


def test_rankings_leave_out_unknown_values() -> None:
    assert list(rankings(CONFIDENCE, np.full(N, np.nan), UNKNOWN)) == ["confidence"]
    assert list(rankings(CONFIDENCE, INSTABILITY, UNKNOWN)) == [
        "confidence", "unfamiliarity", "any of them, worst rank"
    ]  # fmt: skip


def test_a_constant_score_does_not_change_the_ranking() -> None:
    ranked = rankings(CONFIDENCE, np.ones(N), np.ones(N))
    alone = caught_by_review({"confidence": ranked["confidence"]}, CORRECT)["confidence"]
    both = caught_by_review(ranked, CORRECT)["confidence and instability, ranks added"]
    assert both == alone


def test_shares_are_nan_without_wrong_predictions() -> None:
    caught = caught_by_review(rankings(CONFIDENCE, UNKNOWN, UNKNOWN), np.ones(N, bool))
    assert all(math.isnan(share) for share in caught["confidence"])


def test_flag_outcomes_by_hand() -> None:
    run = run_of()
    correct = np.arange(24) >= 5
    test = dataclasses.replace(
        run.parts["test"], unfamiliarity=np.where(correct, 1.0, 3.0), instability=np.full(24, np.nan)
    )
    checkpoint = dataclasses.replace(run.checkpoint, max_unfamiliarity=2.0, max_instability=0.1)
    outcomes = flag_outcomes(checkpoint, np.full(24, 0.9), test, correct)
    assert set(outcomes) == {"LOW_CONFIDENCE", "UNFAMILIAR", "any of them"}
    assert outcomes["UNFAMILIAR"].flagged_share == pytest.approx(5 / 24)
    assert (outcomes["UNFAMILIAR"].caught, outcomes["UNFAMILIAR"].wrong_share) == (1.0, 1.0)
    assert math.isnan(outcomes["LOW_CONFIDENCE"].wrong_share)
