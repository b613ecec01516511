"""Doubt: which of confidence, unfamiliarity and instability finds the wrong predictions, and what their flags cost."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from galaxy_batch.model.checkpoint import Checkpoint
from galaxy_batch.report.html import paragraph, percent, table
from train.evaluate.results import PartResult

__all__ = ["REVIEWED", "FlagOutcome", "caught_by_review", "doubt_section", "flag_outcomes", "rankings"]

Array = npt.NDArray[np.float64]

REVIEWED = (0.1, 0.2, 0.3)
"""Shares of the galaxies that are sent to review."""


@dataclass(frozen=True)
class FlagOutcome:
    """What a flag does to held-out galaxies; a share of nothing is nan."""

    flagged_share: float
    caught: float
    """Share of the wrong predictions that have the flag."""
    wrong_share: float
    """Share of the flagged predictions that are wrong."""


def rankings(confidence: Array, unfamiliarity: Array, instability: Array) -> dict[str, Array]:
    """Ways to rank galaxies for review, the highest first, from three numbers ``(N,)`` of each.

    Those that are not known (empty, or nan) are left out. The combinations add up a galaxy's ranks in each, or take
    the worst of them.
    """
    found = {"confidence": -confidence}
    for name, values in (("unfamiliarity", unfamiliarity), ("instability", instability)):
        if len(values) == len(confidence) and not np.isnan(values).any():
            found[name] = values
    ranks = {name: _ranks(values) for name, values in found.items()}
    if "instability" in ranks:
        found["confidence and instability, ranks added"] = ranks["confidence"] + ranks["instability"]
    if len(ranks) > 1:
        found["any of them, worst rank"] = np.max(list(ranks.values()), axis=0)
    return found


def caught_by_review(ranked: Mapping[str, Array], correct: npt.NDArray[np.bool_]) -> dict[str, list[float]]:
    """Share of the wrong predictions among the `REVIEWED` galaxies of highest rank, by the way they are ranked."""
    wrong = ~correct
    counts = [round(share * len(correct)) for share in REVIEWED]
    if not wrong.any():
        return {name: [math.nan] * len(counts) for name in ranked}
    orders = {name: np.argsort(-values, kind="stable") for name, values in ranked.items()}
    return {
        name: [float(wrong[order[:count]].sum() / wrong.sum()) for count in counts] for name, order in orders.items()
    }


def flag_outcomes(
    checkpoint: Checkpoint, confidence: Array, test: PartResult, correct: npt.NDArray[np.bool_]
) -> dict[str, FlagOutcome]:
    """What the flags do with the limits of the checkpoint; those that it cannot set are left out."""
    flags = {"LOW_CONFIDENCE": confidence < checkpoint.min_confidence}
    for name, values, limit in (
        ("UNFAMILIAR", test.unfamiliarity, checkpoint.max_unfamiliarity),
        ("UNSTABLE", test.instability, checkpoint.max_instability),
    ):
        if limit is not None and len(values) == len(correct) and not np.isnan(values).any():
            flags[name] = values > limit
    flags["any of them"] = np.any(list(flags.values()), axis=0)
    return {
        name: FlagOutcome(_share(flag), _share(flag[~correct]), _share(~correct[flag])) for name, flag in flags.items()
    }


def doubt_section(caught: Mapping[str, list[float]], flagged: Mapping[str, FlagOutcome]) -> str:
    """The section of the report."""
    rows = [[name, *(percent(share) for share in shares)] for name, shares in caught.items()]
    flags = [
        [name, percent(outcome.flagged_share), percent(outcome.caught), percent(outcome.wrong_share)]
        for name, outcome in flagged.items()
    ]
    return (
        paragraph(
            "Unfamiliarity tells how far a cutout is from the training galaxies, and instability how far the answer "
            "changes when the cutout is flipped and turned. Unfamiliarity is meant for what is no galaxy, or of "
            "another survey: of these there are next to none among the test galaxies.",
        )
        + table(
            ["sent to review by", *(f"worst {share:.0%}" for share in REVIEWED)],
            rows,
            "Share of the wrong predictions on the test galaxies that such a review would see. A random choice would "
            "see as many per cent of them as it sees galaxies.",
        )
        + table(
            ["flag", "galaxies", "of the wrong predictions", "wrong among them"],
            flags,
            "The test galaxies that have a flag, with the limits of the checkpoint.",
        )
    )


def _ranks(values: Array) -> Array:
    """From 0 for the lowest to 1 for the highest, equal values alike."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    ranks: Array = middle[places] / max(len(values) - 1, 1)
    return ranks


def _share(members: npt.NDArray[np.bool_]) -> float:
    return float(members.mean()) if len(members) else math.nan
