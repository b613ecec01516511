import dataclasses
import math

import numpy as np
import pytest

from tests.train.report.test_report import run_of
from train.evaluate.review_ranking import caught_by_review, doubt_section, flag_outcomes, rankings

N = 100
CONFIDENCE = np.linspace(1, 0.5, N)
CORRECT = np.ones(N, bool)
CORRECT[[3, 95, 96, 99]] = False  # three doubtful ones, and one that only its instability betrays
INSTABILITY = np.where(np.arange(N) == 3, 0.4, 0.0)
NOTHING = np.empty(0)


def test_the_share_of_mistakes_that_review_sees() -> None:
    ranked = rankings(CONFIDENCE, NOTHING, INSTABILITY)
    caught = caught_by_review(ranked, CORRECT)
    assert caught["confidence"] == [0.75, 0.75, 0.75]
    assert caught["any of them, worst rank"] == [1.0, 1.0, 1.0]
    assert caught["instability"][0] >= 0.25
    assert "unfamiliarity" not in caught


def test_rankings_leave_out_what_is_not_known() -> None:
    assert list(rankings(CONFIDENCE, np.full(N, np.nan), NOTHING)) == ["confidence"]
    assert list(rankings(CONFIDENCE, INSTABILITY, NOTHING)) == [
        "confidence", "unfamiliarity", "any of them, worst rank"
    ]  # fmt: skip


def test_a_constant_tells_nothing() -> None:
    ranked = rankings(CONFIDENCE, np.ones(N), np.ones(N))
    alone = caught_by_review({"confidence": ranked["confidence"]}, CORRECT)["confidence"]
    both = caught_by_review(ranked, CORRECT)["confidence and instability, ranks added"]
    assert both == alone


def test_no_mistakes_no_shares() -> None:
    caught = caught_by_review(rankings(CONFIDENCE, NOTHING, NOTHING), np.ones(N, bool))
    assert all(math.isnan(share) for share in caught["confidence"])


def test_what_each_flag_does() -> None:
    run = run_of()
    correct = np.arange(24) >= 5
    test = dataclasses.replace(
        run.parts["test"], unfamiliarity=np.where(correct, 1.0, 3.0), instability=np.full(24, np.nan)
    )
    checkpoint = dataclasses.replace(run.checkpoint, max_unfamiliarity=2.0, max_instability=0.1)
    found = flag_outcomes(checkpoint, np.full(24, 0.9), test, correct)
    assert set(found) == {"LOW_CONFIDENCE", "UNFAMILIAR", "any of them"}
    assert found["UNFAMILIAR"].flagged_share == pytest.approx(5 / 24)
    assert (found["UNFAMILIAR"].caught, found["UNFAMILIAR"].wrong_share) == (1.0, 1.0)
    assert math.isnan(found["LOW_CONFIDENCE"].wrong_share)
    html = doubt_section(caught_by_review(rankings(np.full(24, 0.9), test.unfamiliarity, NOTHING), correct), found)
    assert "UNFAMILIAR" in html
    assert "100" in html
