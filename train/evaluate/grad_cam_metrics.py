"""Where correct and wrong predictions look, in numbers: the part of a report's findings that needs attention maps."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from galaxy_batch.stats import Interval
from train.evaluate.evaluation import bootstrap_interval, median
from train.evaluate.grad_cam import Attention

__all__ = ["AttentionFindings", "AttentionGroup", "find_attention"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AttentionGroup:
    """Attention of some predictions; medians of nothing are nan."""

    galaxies: int
    """With a map and a galaxy in the middle."""
    inside: float
    """Median share of the attention on the galaxy's light."""
    area: float
    """Median share of the cutout that this light covers."""
    ratio: float
    """Median of the one over the other: 1 is no better than evenly spread."""


@dataclass(frozen=True)
class AttentionFindings:
    """Where correct and wrong predictions look."""

    looked_at: int
    """Galaxies for which a map was asked."""
    groups: Mapping[str, tuple[AttentionGroup, AttentionGroup]]
    """Correct and wrong predictions, of all classes under "all", and of each predicted class."""
    inside_difference: float
    """Median share on the galaxy, correct less wrong predictions."""
    inside_interval: Interval
    """95 %, bootstrap."""
    ratio_difference: float
    """Median of share over area, correct less wrong: with the galaxy's size taken out."""
    ratio_interval: Interval
    """95 %, bootstrap."""


def find_attention(
    attention: Attention, predicted: npt.NDArray[np.int64], correct: npt.NDArray[np.bool_], classes: tuple[str, ...]
) -> AttentionFindings:
    """Compare where correct and wrong predictions look.

    Args:
        attention: of some of the galaxies.
        predicted: ``(N,)``, of all galaxies.
        correct: ``(N,)``, likewise.
        classes: their names.
    """
    said, right = predicted[attention.rows], correct[attention.rows]
    ratio = attention.inside / attention.area
    members = {"all": np.ones(len(said), bool)} | {name: said == number for number, name in enumerate(classes)}
    groups = {
        name: (_group(attention, ratio, member & right), _group(attention, ratio, member & ~right))
        for name, member in members.items()
    }
    inside = _known(attention.inside[right]), _known(attention.inside[~right])
    ratios = _known(ratio[right]), _known(ratio[~right])
    return AttentionFindings(
        looked_at=len(attention.rows),
        groups=groups,
        inside_difference=_median_difference(*inside),
        inside_interval=bootstrap_interval(_median_difference, *inside),
        ratio_difference=_median_difference(*ratios),
        ratio_interval=bootstrap_interval(_median_difference, *ratios),
    )


def _group(attention: Attention, ratio: Array, member: npt.NDArray[np.bool_]) -> AttentionGroup:
    known = member & ~np.isnan(ratio)
    return AttentionGroup(
        int(known.sum()), median(attention.inside[known]), median(attention.area[known]), median(ratio[known])
    )


def _known(values: Array) -> Array:
    return values[~np.isnan(values)]


def _median_difference(first: Array, second: Array) -> float:
    return median(first) - median(second)
