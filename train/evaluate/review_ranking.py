"""How well confidence, unfamiliarity and instability rank wrong predictions first, and what their flags select."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.stats

from galaxy_batch.model.checkpoint import Checkpoint
from galaxy_batch.review.flags import ReviewFlag, ReviewLimits
from train.evaluate.results import PartResult

__all__ = ["REVIEWED_SHARES", "FlagOutcome", "caught_by_review", "flag_outcomes", "rankings"]

Array = npt.NDArray[np.float64]

REVIEWED_SHARES = (0.1, 0.2, 0.3)
"""Shares of the galaxies sent to review."""


@dataclass(frozen=True)
class FlagOutcome:
    """Effect of a flag on held-out galaxies; nan where undefined."""

    flagged_share: float
    caught: float
    """Share of the wrong predictions that are flagged."""
    wrong_share: float
    """Share of the flagged predictions that are wrong."""


def rankings(confidence: Array, unfamiliarity: Array, instability: Array) -> dict[str, Array]:
    """Scores ``(N,)`` that rank galaxies for review, highest first, by name of the ranking.

    Args:
        confidence: ``(N,)``.
        unfamiliarity: ``(N,)``; left out of the rankings if empty or with nan.
        instability: ``(N,)``; likewise.
    """
    scores = {"confidence": -confidence}
    for name, values in (("unfamiliarity", unfamiliarity), ("instability", instability)):
        if len(values) == len(confidence) and not np.isnan(values).any():
            scores[name] = values
    ranks = {name: scipy.stats.rankdata(values) for name, values in scores.items()}
    if "instability" in ranks:
        scores["confidence and instability, ranks added"] = ranks["confidence"] + ranks["instability"]
    if len(ranks) > 1:
        scores["any of them, worst rank"] = np.max(list(ranks.values()), axis=0)
    return scores


def caught_by_review(ranked: Mapping[str, Array], correct: npt.NDArray[np.bool_]) -> dict[str, list[float]]:
    """Share of the wrong predictions among the first `REVIEWED_SHARES` of the galaxies, by ranking."""
    wrong = ~correct
    counts = [round(share * len(correct)) for share in REVIEWED_SHARES]
    if not wrong.any():
        return {name: [math.nan] * len(counts) for name in ranked}
    orders = {name: np.argsort(-values, kind="stable") for name, values in ranked.items()}
    return {
        name: [float(wrong[order[:count]].sum() / wrong.sum()) for count in counts] for name, order in orders.items()
    }


def flag_outcomes(
    checkpoint: Checkpoint, confidence: Array, test: PartResult, correct: npt.NDArray[np.bool_]
) -> dict[str, FlagOutcome]:
    """Effect of each flag with the checkpoint's limits; flags without a limit or a measurement are left out."""
    columns = {"confidence": confidence, "unfamiliarity": test.unfamiliarity, "instability": test.instability}
    limits = ReviewLimits(
        min_confidence=checkpoint.min_confidence,
        max_unfamiliarity=checkpoint.max_unfamiliarity,
        max_instability=checkpoint.max_instability,
    )
    flags = {}
    for flag in (flag for flag in ReviewFlag if flag.condition.column in columns):
        values = columns[flag.condition.column]
        has_limit = all(getattr(limits, name) is not None for name in flag.condition.settings)
        if has_limit and len(values) == len(correct) and not np.isnan(values).any():
            flags[str(flag.name)] = flag.holds(pa.table({flag.condition.column: values}), limits)
    flags["any of them"] = np.any(list(flags.values()), axis=0)
    return {
        name: FlagOutcome(_share(flag), _share(flag[~correct]), _share(~correct[flag])) for name, flag in flags.items()
    }


def _share(members: npt.NDArray[np.bool_]) -> float:
    return float(members.mean()) if len(members) else math.nan
