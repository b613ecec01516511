"""Changes of the vote fractions, for the questions of the decision tree that both catalogs have."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.catalog.read_files import read_file
from galaxy_batch.compare.class_mix import Pairs
from galaxy_batch.decision_tree import MOSTLY_ASKED, Question
from galaxy_batch.runtime.progress import with_progress

__all__ = ["FractionChange", "QuestionChange", "common_questions", "question_change", "read_fractions"]

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FractionChange:
    """Old and new mean of a fraction over its rows in each catalog, and its change in matched objects; nan for none."""

    old_mean: float
    new_mean: float
    mean_change: float
    """Mean of new − old over the matched objects."""
    rms_change: float
    """Root mean square of the same."""


@dataclass(frozen=True)
class QuestionChange:
    """Change of the answers to one question."""

    name: str
    asked: FractionChange
    """Of the share of the volunteers who are asked, over all rows with an image."""
    old_rows: int
    """Rows where at least `MOSTLY_ASKED` of the volunteers are asked: the answers are compared in these."""
    new_rows: int
    matched: int
    """Matched objects with that in both catalogs."""
    answers: dict[str, FractionChange]
    """By answer, those that both catalogs have."""


def common_questions(old: CatalogManifest, new: CatalogManifest) -> list[tuple[Question, list[str]]]:
    """Questions of both catalogs, in the old one's order, with the names of the answers that both have."""
    answers = {question.name: {answer.name for answer in question.answers} for question in new.questions}
    return [
        (question, [answer.name for answer in question.answers if answer.name in answers[question.name]])
        for question in old.questions
        if question.name in answers
    ]


def read_fractions(
    field: str, uri: str, manifest: CatalogManifest, question: Question, answers: Sequence[str]
) -> Values:
    """Share asked, and the fractions of these answers, of all rows in the order of `read_columns`.

    Args:
        field: the setting with the catalog's URI, for error messages.
        uri: the catalog's folder.
        manifest: of the catalog.
        question: whose columns are read.
        answers: names of its answers.

    Returns:
        ``(1 + answers, N)``; nan without an image.

    Raises:
        InputError: a file is missing or damaged.
    """
    columns = dict(zip((answer.name for answer in question.answers), question.fraction_columns, strict=True))
    names = [question.asked_column, *(columns[answer] for answer in answers)]
    pieces = []
    for entry in with_progress(manifest.files, f"reading {question.name}", manifest.rows, lambda file: file.rows):
        table = read_file(uri, entry.path, lambda parquet: parquet.read(columns=names), field)
        pieces.append(np.stack([table[name].to_numpy() for name in names]).astype(np.float32))
    return np.concatenate(pieces, axis=1)


def question_change(name: str, answers: Sequence[str], values: tuple[Values, Values], pairs: Pairs) -> QuestionChange:
    """Compare the answers to one question.

    Args:
        name: of the question.
        answers: names of the answers.
        values: of the old and the new catalog, as `read_fractions` reads them.
        pairs: matched rows.
    """
    counted = [rows[0] >= MOSTLY_ASKED for rows in values]
    everyone = [np.isfinite(rows[0]) for rows in values]
    return QuestionChange(
        name=name,
        asked=_change((values[0][0], values[1][0]), (everyone[0], everyone[1]), pairs),
        old_rows=int(counted[0].sum()),
        new_rows=int(counted[1].sum()),
        matched=int((counted[0][pairs[0]] & counted[1][pairs[1]]).sum()),
        answers={
            answer: _change((values[0][row], values[1][row]), (counted[0], counted[1]), pairs)
            for row, answer in enumerate(answers, 1)
        },
    )


def _change(
    values: tuple[Values, Values], counted: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]], pairs: Pairs
) -> FractionChange:
    both = counted[0][pairs[0]] & counted[1][pairs[1]]
    change = (values[1][pairs[1]] - values[0][pairs[0]])[both].astype(np.float64)
    old_mean, new_mean = (_mean(rows[which]) for rows, which in zip(values, counted, strict=True))
    return FractionChange(old_mean, new_mean, _mean(change), math.sqrt(_mean(change**2)))


def _mean(values: npt.NDArray[np.floating]) -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else math.nan
