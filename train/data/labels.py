"""Labels from volunteers' votes, at a vote threshold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from galaxy_batch.errors import InputError
from train.config import LabelConfig

__all__ = ["AMBIGUOUS", "Labels", "Question", "label_votes", "numbers_of", "question_of"]

AMBIGUOUS = -1
"""Label of a galaxy where no class reaches the vote threshold."""

_SUM_TOLERANCE = 0.01  # published fractions are rounded to three digits
_MAX_EXAMPLES = 5  # galaxies named in an error

_GZ2_ANSWERS = {"smooth": "a01_smooth", "featured": "a02_features_or_disk", "artifact": "a03_star_or_artifact"}
_COUNTED_ANSWERS = {"smooth": "smooth", "featured": "featured-or-disk", "artifact": "artifact"}


@dataclass(frozen=True)
class Question:
    """Columns of the question "smooth or featured?" in a vote table."""

    classes: Mapping[str, str]
    """Vote column of each class, in order."""
    others: tuple[str, ...] = ()
    """Vote columns of the answers that are not classes."""
    counts: bool = False
    """Whether the columns hold vote counts, not fractions."""
    sums_to_one: bool = True
    """False for debiased fractions, which are corrected independently: in Willett et al. 2013, table 5, they sum to
    0.67…1.46."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All vote columns of the question."""
        return (*self.classes.values(), *self.others)


@dataclass(frozen=True)
class Labels:
    """Label and vote fractions of each galaxy."""

    classes: tuple[str, ...]
    label: npt.NDArray[np.int64]
    """``(N,)``: position in `classes`, or AMBIGUOUS."""
    votes: npt.NDArray[np.float64]
    """``(N, classes)``: fraction of the volunteers for each class, or the probability by verdicts."""
    weights: npt.NDArray[np.float32] | None = None
    """``(N,)``: weight of each galaxy in the loss of the class; zero: does not train. None: all have 1."""
    verdicts: tuple[Mapping[str, Any], ...] = ()
    """Origin of the verdicts among the labels."""

    def shares(self) -> npt.NDArray[np.float64]:
        """``(N, classes)``: votes renormalised over the classes, summing to 1; uniform where no class has votes."""
        total = self.votes.sum(axis=1, keepdims=True)
        uniform = np.full_like(self.votes, 1 / len(self.classes))
        shares: npt.NDArray[np.float64] = np.divide(self.votes, total, out=uniform, where=total > 0)
        return shares

    def counts(self) -> Mapping[str, int]:
        """Number of galaxies of each class, and of ambiguous ones."""
        counts = {name: int((self.label == number).sum()) for number, name in enumerate(self.classes)}
        return {**counts, "ambiguous": int((self.label == AMBIGUOUS).sum())}


def question_of(config: LabelConfig) -> Question:
    """Vote columns that a config selects."""
    if config.table == "columns":
        return Question(config.columns, config.other_columns, config.counts)
    if config.table == "kaggle":
        answers = {"smooth": "Class1.1", "featured": "Class1.2", "artifact": "Class1.3"}
    elif config.table == "gz2":
        answers = {k: f"t01_smooth_or_features_{v}_{config.votes}" for k, v in _GZ2_ANSWERS.items()}
    else:
        answers = {k: f"{config.question}_{v}" for k, v in _COUNTED_ANSWERS.items()}
    classes = answers if config.artifact_class else {k: answers[k] for k in ("smooth", "featured")}
    return Question(
        classes,
        others=() if config.artifact_class else (answers["artifact"],),
        counts=config.table == "galaxy-datasets",
        sums_to_one=not (config.table == "gz2" and config.votes == "debiased"),
    )


def label_votes(table: pa.Table, config: LabelConfig) -> Labels:
    """Label each galaxy with the class that at least `threshold` of the volunteers chose.

    Args:
        table: one row per galaxy, with `object_id` and the vote columns.
        config: names of the vote columns, and the threshold.

    Raises:
        InputError: invalid votes (missing, negative, above 1, or not summing to 1); names the galaxies.
    """
    question = question_of(config)
    numbers = np.stack([numbers_of(table, name) for name in question.columns], axis=1)
    fractions = _fractions_of(numbers) if question.counts else numbers
    _check_votes(table, numbers, fractions, question)
    votes = fractions[:, : len(question.classes)]
    clear = votes.max(axis=1) >= config.threshold
    return Labels(tuple(question.classes), np.where(clear, votes.argmax(axis=1), AMBIGUOUS), votes)


def numbers_of(table: pa.Table, name: str, field: str = "labels.columns") -> npt.NDArray[np.float64]:
    """A column of votes ``(N,)``. Raises InputError, for this setting, where it is not of numbers."""
    try:
        values: npt.NDArray[np.float64] = table[name].cast(pa.float64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InputError(field, name, f"of type {table[name].type}: votes are numbers") from None
    return values


def _fractions_of(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Counts divided by their sum; zeros, hence ambiguous, where there are no votes."""
    total = counts.sum(axis=1, keepdims=True)
    fractions: npt.NDArray[np.float64] = np.divide(counts, total, out=np.zeros_like(counts), where=total != 0)
    return fractions


def _check_votes(
    table: pa.Table, numbers: npt.NDArray[np.float64], fractions: npt.NDArray[np.float64], question: Question
) -> None:
    with np.errstate(invalid="ignore"):
        valid = ((fractions >= 0) & (fractions <= 1)).all(axis=1)
        if question.sums_to_one and not question.counts:
            valid &= np.abs(fractions.sum(axis=1) - 1) <= _SUM_TOLERANCE
    invalid = np.flatnonzero(~valid)
    if len(invalid):
        ids = table["object_id"]
        examples = "; ".join(f"{ids[int(r)]} has {np.round(numbers[r], 4).tolist()}" for r in invalid[:_MAX_EXAMPLES])
        raise InputError(
            "labels.columns",
            list(question.columns),
            f"{len(invalid)} galaxies have votes that are missing, negative, above 1, or do not sum to 1: {examples}",
        )
