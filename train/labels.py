"""Votes of volunteers to labels at a threshold."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from galaxy_batch.errors import InputError
from train.recipe import LabelConfig

__all__ = ["AMBIGUOUS", "Labels", "label_votes"]

AMBIGUOUS = -1
"""Label of a galaxy on which the volunteers did not agree."""

_SUM_TOLERANCE = 0.01  # published fractions are rounded


@dataclass(frozen=True)
class Labels:
    """One label per galaxy, and the votes behind it."""

    classes: tuple[str, ...]
    label: npt.NDArray[np.int64]
    """``(N,)``: position in `classes`, or AMBIGUOUS."""
    votes: npt.NDArray[np.float64]
    """``(N, classes)``: fraction of the volunteers for each class."""

    def shares(self) -> npt.NDArray[np.float64]:
        """``(N, classes)``: the votes among the classes alone, summing to 1; even where nobody chose any of them."""
        total = self.votes.sum(axis=1, keepdims=True)
        even = np.full_like(self.votes, 1 / len(self.classes))
        shares: npt.NDArray[np.float64] = np.divide(self.votes, total, out=even, where=total > 0)
        return shares

    def counts(self) -> Mapping[str, int]:
        """Galaxies of each class, and the ambiguous ones."""
        counts = {name: int((self.label == number).sum()) for number, name in enumerate(self.classes)}
        return {**counts, "ambiguous": int((self.label == AMBIGUOUS).sum())}


def label_votes(table: pa.Table, config: LabelConfig) -> Labels:
    """Label each galaxy with the class that at least `threshold` of the volunteers chose.

    Args:
        table: one row per galaxy, with `object_id` and the vote columns.
        config: columns, in the order of the classes, and the threshold.

    Raises:
        InputError: votes that cannot be right: missing, negative, over 1, or not summing to about 1; rows are named.
    """
    columns = [*config.columns.values(), *config.other_columns]
    fractions = np.stack([_fraction(table, name) for name in columns], axis=1)
    _check(table, fractions, columns)
    votes = fractions[:, : len(config.columns)]
    best = votes.argmax(axis=1)
    clear = votes.max(axis=1) >= config.threshold
    return Labels(tuple(config.columns), np.where(clear, best, AMBIGUOUS), votes)


def _fraction(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    try:
        values: npt.NDArray[np.float64] = table[name].cast(pa.float64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InputError("labels.columns", name, f"of type {table[name].type}: fractions are needed") from None
    return values


def _check(table: pa.Table, fractions: npt.NDArray[np.float64], columns: list[str]) -> None:
    with np.errstate(invalid="ignore"):
        inside = ((fractions >= 0) & (fractions <= 1)).all(axis=1)
        whole = np.abs(fractions.sum(axis=1) - 1) <= _SUM_TOLERANCE
    wrong = np.flatnonzero(~(inside & whole))
    if len(wrong):
        ids = table["object_id"]
        shown = "; ".join(f"{ids[int(r)]} has {np.round(fractions[r], 4).tolist()}" for r in wrong[:5])
        raise InputError(
            "labels.columns",
            columns,
            f"{len(wrong)} galaxies have votes that are missing, outside 0…1, or do not sum to 1: {shown}",
        )
