"""The report's section on which predictions to review: rankings and flags."""

from collections.abc import Mapping

from galaxy_batch.report.html import paragraph, percent, table
from train.evaluate.review_ranking import REVIEWED_SHARES, FlagOutcome

__all__ = ["review_section"]


def review_section(caught: Mapping[str, list[float]], flagged: Mapping[str, FlagOutcome]) -> str:
    """Share of the wrong predictions that a review of a given size sees, by ranking and by flag."""
    return (
        paragraph(
            "Unfamiliarity is the distance of a cutout from the training galaxies; instability is the change of the "
            "class probabilities when the cutout is flipped and turned. Unfamiliarity is meant to flag cutouts that "
            "show no galaxy or come from another survey; the test galaxies contain almost none of these.",
        )
        + table(
            ["ranked by", *(f"first {share:.0%}" for share in REVIEWED_SHARES)],
            [[name, *(percent(share) for share in shares)] for name, shares in caught.items()],
            "Share of the wrong predictions on the test galaxies among the galaxies reviewed. A random choice of 10% "
            "of the galaxies would contain 10% of them.",
        )
        + table(
            ["flag", "galaxies flagged", "wrong predictions flagged", "wrong among the flagged"],
            [
                [name, percent(outcome.flagged_share), percent(outcome.caught), percent(outcome.wrong_share)]
                for name, outcome in flagged.items()
            ],
            "Test galaxies with each flag, at the limits of the checkpoint.",
        )
    )
