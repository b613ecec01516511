"""Counts of the answers to the questions of the decision tree, row group by row group."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from galaxy_batch.decision_tree import MOSTLY_ASKED, Question
from galaxy_batch.release_page.sampling import GroupSampler, RowLocation

__all__ = ["BINS", "AnswerCounts"]

BINS = 50
"""Equal bins of a fraction from 0 to 1."""


class AnswerCounts:
    """Distribution of each answer's fraction, and the galaxies where it is largest.

    A galaxy counts for a question where at least `MOSTLY_ASKED` of the volunteers are expected to be asked it.

    Args:
        questions: of the catalog.
        sample_rows: galaxies to keep of each answer.
    """

    def __init__(self, questions: Sequence[Question], sample_rows: int) -> None:
        self.questions = tuple(questions)
        self.histograms = {q.name: np.zeros((len(q.answers), BINS), np.int64) for q in questions}
        """Galaxies by answer and bin of its fraction, by question."""
        self.sums = {q.name: np.zeros(len(q.answers)) for q in questions}
        """Sum of each answer's fractions over these galaxies, by question."""
        answers = [(q.name, place) for q in questions for place in range(len(q.answers))]
        self._groups = {answer: group for group, answer in enumerate(answers)}
        self._sampler = GroupSampler(len(answers), sample_rows, seed=0)

    @property
    def columns(self) -> list[str]:
        """Columns that `add` reads."""
        return [name for q in self.questions for name in (q.asked_column, *q.fraction_columns)]

    def galaxies(self, question: Question) -> int:
        """Galaxies that count for a question."""
        return int(self.histograms[question.name][0].sum())

    def mean(self, question: Question) -> npt.NDArray[np.float64]:
        """Mean fraction of each answer ``(answers,)``; nan without galaxies."""
        with np.errstate(invalid="ignore"):
            mean: npt.NDArray[np.float64] = self.sums[question.name] / self.galaxies(question)
        return mean

    def strongest(self, question: Question, place: int) -> dict[RowLocation, float]:
        """The galaxies with the largest fractions of an answer, and these."""
        kept = self._sampler.keys([self._groups[question.name, place]])
        return {location: -key for location, key in kept.items()}

    def add(self, rows: pa.Table, shown: npt.NDArray[np.bool_], file: int, row_group: int) -> None:
        """Count a row group.

        Args:
            rows: with `columns`.
            shown: ``(N,)``, rows that may be shown as an example.
            file: position of the file in the manifest.
            row_group: its number in the file.
        """
        for question in self.questions:
            counts = rows[question.asked_column].fill_null(0).to_numpy() >= MOSTLY_ASKED
            for place, name in enumerate(question.fraction_columns):
                fractions = rows[name].fill_null(0).to_numpy().astype(np.float64)
                bins = np.clip((fractions[counts] * BINS).astype(np.int64), 0, BINS - 1)
                self.histograms[question.name][place] += np.bincount(bins, minlength=BINS)
                self.sums[question.name][place] += fractions[counts].sum()
                group = np.where(counts & shown, self._groups[question.name, place], -1)
                self._sampler.add(group, file, row_group, -fractions)
