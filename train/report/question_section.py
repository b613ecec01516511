"""Values of the report's section on the questions of the decision tree."""

from typing import Any

from galaxy_batch.report.page import count, number, percent
from train.evaluate.question_scores import MIN_VOTES, QuestionScores

__all__ = ["question_values"]


def question_values(scores: QuestionScores | None) -> dict[str, Any]:
    """Errors and interval coverage of the predicted vote fractions, one row a question; None without questions."""
    if scores is None:
        return {"question_scores": None}
    rows = [
        [
            question.name.replace("_", " "),
            count(question.galaxies),
            number(question.rmse),
            percent(question.mean_deviation),
            percent(question.coverage_68),
            percent(question.coverage_95),
        ]
        for question in scores.questions
    ]
    overall = ["all", count(scores.galaxies), "–", "–", percent(scores.coverage_68), percent(scores.coverage_95)]
    return {"question_scores": scores, "min_votes": MIN_VOTES, "question_rows": [*rows, overall]}
