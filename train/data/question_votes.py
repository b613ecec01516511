"""Votes for the questions of the decision tree, as counts."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from galaxy_batch.decision_tree import VOTE_COLUMNS, Question, known_questions, split_answers
from galaxy_batch.errors import InputError
from train.config import LabelConfig
from train.data.labels import numbers_of

__all__ = ["question_columns", "question_counts", "questions_of"]

_FIELD = "labels.questions"
_MAX_SHARE = 1.01  # of a question's shares in a Kaggle table: published with six digits


def questions_of(config: LabelConfig) -> tuple[Question, ...]:
    """The questions that a config names.

    Raises:
        InputError: as `known_questions`, or the vote table does not have one.
    """
    questions = known_questions(config.questions)
    for question in questions:
        if question.name not in VOTE_COLUMNS[config.table]:
            raise InputError(_FIELD, question.name, f"a {config.table} table has no votes for it")
    return questions


def question_columns(config: LabelConfig) -> list[str]:
    """Vote columns of these questions, in the order of their answers; then the column of volunteers, if any."""
    names = [name for question in questions_of(config) for name in VOTE_COLUMNS[config.table][question.name]]
    return [*names, config.volunteers_column] if names and config.volunteers_column else names


def question_counts(table: pa.Table, config: LabelConfig) -> npt.NDArray[np.float32]:
    """Number of votes ``(N, answers of all questions)``, zero where nobody is asked; not whole numbers from shares.

    Args:
        table: one row per galaxy, with `object_id` and `question_columns`.
        config: vote table and questions.

    Raises:
        InputError: votes that are negative, not numbers, or shares above 1.
    """
    questions = questions_of(config)
    if not questions:
        return np.empty((len(table), 0), np.float32)
    names = question_columns(config)
    if config.volunteers_column:
        names = names[:-1]
    votes = np.nan_to_num(np.stack([numbers_of(table, name, _FIELD) for name in names], axis=1))
    invalid = (votes < 0).any(axis=1)
    if config.table == "kaggle":
        totals = [values.sum(axis=1) for values in split_answers(questions, votes).values()]
        invalid |= np.max(totals, axis=0) > _MAX_SHARE
        votes *= _volunteers(table, config)
    if invalid.any():
        example = table["object_id"][int(np.flatnonzero(invalid)[0])]
        problem = f"{invalid.sum()} galaxies have votes below 0, or shares of a question above 1, for example {example}"
        raise InputError(_FIELD, list(config.questions), problem)
    return votes.astype(np.float32)


def _volunteers(table: pa.Table, config: LabelConfig) -> npt.NDArray[np.float64] | float:
    """Number of volunteers, ``(N, 1)`` or one for all."""
    if config.volunteers_column is None:
        return config.volunteers
    return numbers_of(table, config.volunteers_column, _FIELD)[:, None]
