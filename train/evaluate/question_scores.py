"""How well predicted vote fractions agree with the votes of held-out galaxies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats

from galaxy_batch.decision_tree import Question, answer_fractions, asked_fractions, split_answers

__all__ = ["MIN_VOTES", "QuestionScore", "QuestionScores", "interval_coverage", "question_scores"]

Array = npt.NDArray[np.float64]

MIN_VOTES = 10
"""Votes of a galaxy for a question that counts: with fewer, the fractions are mostly noise of the volunteers."""
_INTERVALS = (0.68, 0.95)


@dataclass(frozen=True)
class QuestionScore:
    """Scores of one question, over the galaxies where at least `MIN_VOTES` volunteers were asked it."""

    name: str
    galaxies: int
    rmse: float
    """Root mean square of predicted minus voted fraction, over galaxies and answers; nan without galaxies."""
    mean_deviation: float
    """Mean absolute value of the same."""
    coverage_68: float
    """Share of the votes within the predicted central 68% intervals."""
    coverage_95: float


@dataclass(frozen=True)
class QuestionScores:
    """Scores of all questions on one set of galaxies."""

    questions: tuple[QuestionScore, ...]
    galaxies: int
    rmse: float
    """Root mean square error over all galaxies and columns of the shares of all volunteers, that is, fractions
    multiplied with the share asked: the score of Kaggle's Galaxy Challenge, over the columns at hand."""
    coverage_68: float
    """As of each question, over all of them."""
    coverage_95: float


def question_scores(questions: Sequence[Question], concentrations: Array, counts: Array) -> QuestionScores | None:
    """Compare concentrations with votes, both ``(N, answers of all questions)``; None without questions or galaxies."""
    if not questions or not len(counts):
        return None
    fractions = answer_fractions(questions, concentrations)
    asked = asked_fractions(questions, fractions)
    alphas, votes = split_answers(questions, concentrations), split_answers(questions, counts.astype(np.float64))
    volunteers = np.maximum(votes[questions[0].name].sum(axis=1, keepdims=True), 1)
    errors = [asked[q.name][:, None] * fractions[q.name] - votes[q.name] / volunteers for q in questions]
    covered = {}
    scores = []
    for question in questions:
        enough = votes[question.name].sum(axis=1) >= MIN_VOTES
        of_question = votes[question.name][enough]
        deviation = fractions[question.name][enough] - of_question / of_question.sum(axis=1, keepdims=True)
        covered[question.name] = [interval_coverage(alphas[question.name][enough], of_question, i) for i in _INTERVALS]
        scores.append(
            QuestionScore(
                question.name,
                int(enough.sum()),
                _root_mean_square(deviation),
                _mean(np.abs(deviation)),
                *map(_mean, covered[question.name]),
            )
        )
    pooled = [_mean(np.concatenate([covered[q.name][place].ravel() for q in questions])) for place in (0, 1)]
    return QuestionScores(tuple(scores), len(counts), _root_mean_square(np.concatenate(errors, axis=1)), *pooled)


def interval_coverage(concentrations: Array, votes: Array, level: float) -> Array:
    """How much of each vote count lies in the predicted central interval, ``(N, answers)``, 0 to 1.

    A count follows a beta-binomial distribution. Counts are discrete, so that no interval has exactly the level: the
    part of the count's own probability between the quantiles is taken, whose mean is the level where the prediction is
    true (randomised quantiles, Dunn & Smyth 1996, J. Comput. Graph. Stat. 5, 236).

    Args:
        concentrations: ``(N, answers)`` of one question.
        votes: ``(N, answers)``, rounded to whole numbers here.
        level: of the interval, such as 0.68.
    """
    counts = np.rint(votes).astype(np.int64)
    asked = counts.sum(axis=1, keepdims=True)
    rest = concentrations.sum(axis=1, keepdims=True) - concentrations
    possible = np.arange(int(asked.max(initial=0)) + 1)
    probability = scipy.stats.betabinom.pmf(
        possible, asked[..., None], concentrations[..., None], np.maximum(rest, 1e-9)[..., None]
    )
    upper = np.cumsum(probability, axis=-1)
    of_count = np.take_along_axis(probability, counts[..., None], axis=-1)[..., 0]
    above = np.take_along_axis(upper, counts[..., None], axis=-1)[..., 0]
    low, high = 0.5 - level / 2, 0.5 + level / 2
    inside = np.minimum(above, high) - np.maximum(above - of_count, low)
    covered: Array = np.clip(inside, 0, None) / np.maximum(of_count, 1e-300)
    return covered


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else float("nan")


def _root_mean_square(values: Array) -> float:
    return float(np.sqrt(np.square(values).mean())) if values.size else float("nan")
