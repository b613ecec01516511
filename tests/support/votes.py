"""Simulated vote fractions of catalog rows."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from galaxy_batch.decision_tree import (
    GALAXY_ZOO_2,
    Question,
    answer_fractions,
    asked_fractions,
    known_questions,
    split_answers,
)

__all__ = ["FEW_QUESTIONS", "questions_in", "with_votes"]

FEW_QUESTIONS = known_questions(["smooth_or_featured", "disk_edge_on", "how_rounded", "something_odd"])


def with_votes(
    rows: pa.Table, questions: Sequence[Question] = FEW_QUESTIONS, seed: int = 0, concentrations: bool = False
) -> pa.Table:
    """The rows with random columns of the questions, null where there is no class."""
    missing = rows["predicted_class"].is_null().to_numpy()
    alphas = np.random.default_rng((seed, len(rows))).lognormal(
        0, 1.5, (len(rows), sum(len(question.answers) for question in questions))
    )
    alphas = alphas.astype(np.float32)
    fractions, split = answer_fractions(questions, alphas), split_answers(questions, alphas)
    asked = asked_fractions(questions, fractions)
    for question in questions:
        columns = {question.asked_column: asked[question.name]}
        columns |= dict(zip(question.fraction_columns, fractions[question.name].T, strict=True))
        if concentrations:
            columns |= dict(zip(question.dirichlet_columns, split[question.name].T, strict=True))
        for name, values in columns.items():
            rows = rows.append_column(name, pa.array(values, pa.float32(), mask=missing))
    return rows


def questions_in(names: Sequence[str]) -> tuple[Question, ...]:
    """The questions whose columns are among these."""
    return known_questions(question.name for question in GALAXY_ZOO_2 if question.asked_column in names)
