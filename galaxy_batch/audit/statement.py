"""Whether the stated confidence holds on a survey, in plain words."""

import math

from galaxy_batch.audit.estimate import Estimate
from galaxy_batch.report.page import interval, percent

__all__ = ["holds", "statement"]


def holds(accuracy: Estimate, expected: float, tolerance: float) -> bool | None:
    """Whether the mean confidence is the accuracy; None where the verdicts do not say.

    Args:
        accuracy: estimated, with its interval.
        expected: mean stated confidence.
        tolerance: how far the interval may reach to either side of the accuracy.
    """
    if not accuracy.known:
        return None
    if not accuracy.low <= expected <= accuracy.high:
        return False
    return True if _reach(accuracy) <= tolerance else None


def statement(accuracy: Estimate, expected: float, tolerance: float, not_covered: str) -> str:
    """A sentence or two for people.

    Args:
        accuracy: estimated, with its interval.
        expected: mean stated confidence.
        tolerance: as that of `holds`.
        not_covered: why nothing can be said about the catalog as a whole; empty where it can.
    """
    if not_covered:
        return f"The accuracy over all cannot be estimated: {not_covered}."
    if not accuracy.known:
        return "Too few verdicts to say whether the stated confidence holds: people gave no galaxy a class."
    limits = interval(accuracy.interval, as_percent=True)
    numbers = (
        f"the mean confidence is {percent(expected)}, the accuracy {percent(accuracy.value)} (95% interval {limits})"
    )
    outcome = holds(accuracy, expected, tolerance)
    if outcome is False:
        gap = sorted(abs(expected - limit) for limit in accuracy.interval)
        side = "high" if expected > accuracy.value else "low"
        size = f"{100 * abs(expected - accuracy.value):.1f} points ({100 * gap[0]:.1f} to {100 * gap[1]:.1f})"
        return f"The stated confidence does not hold on this survey: it is too {side} by {size}; {numbers}."
    if outcome:
        largest = max(abs(expected - limit) for limit in accuracy.interval)
        return (
            f"The stated confidence holds on this survey: {numbers}. The verdicts exclude a difference of more than "
            f"{100 * largest:.1f} points."
        )
    wanted = math.ceil(accuracy.rows * (_reach(accuracy) / tolerance) ** 2 / 10) * 10
    return (
        f"Too few verdicts to say whether the stated confidence holds on this survey: {numbers}. About {wanted:,} "
        f"verdicts drawn in this way would narrow the interval to ±{100 * tolerance:g} points."
    )


def _reach(accuracy: Estimate) -> float:
    return max(accuracy.high - accuracy.value, accuracy.value - accuracy.low)
