"""Whether the stated confidence holds, and how that is said."""

import pytest

from galaxy_batch.audit.estimate import NO_ESTIMATE, Estimate
from galaxy_batch.audit.statement import holds, statement

WIDE, NARROW = Estimate(0.9, 0.8, 0.95, 60), Estimate(0.9, 0.88, 0.92, 900)


@pytest.mark.parametrize(
    ("accuracy", "expected", "outcome", "words"),
    [
        (NARROW, 0.91, True, "holds on this survey: the mean confidence is 91.0%, the accuracy 90.0%"),
        (NARROW, 0.91, True, "exclude a difference of more than 3.0 points"),
        (NARROW, 0.95, False, "does not hold on this survey: it is too high by 5.0 points (3.0 to 7.0)"),
        (WIDE, 0.7, False, "it is too low by 20.0 points (10.0 to 25.0)"),
        (WIDE, 0.91, None, "Too few verdicts to say"),
        (WIDE, 0.91, None, "About 240 verdicts drawn in this way would narrow the interval to ±5 points"),
        (NO_ESTIMATE, 0.91, None, "people gave no galaxy a class"),
    ],
)
def test_outcomes(accuracy: Estimate, expected: float, outcome: bool | None, words: str) -> None:
    assert holds(accuracy, expected, 0.05) is outcome
    assert words in statement(accuracy, expected, 0.05, "")


def test_a_reason_comes_first() -> None:
    assert statement(NO_ESTIMATE, 0.9, 0.05, "nobody was asked") == (
        "The accuracy over all cannot be estimated: nobody was asked."
    )
