"""How many cutouts may fail: the gate of a catalog run, of its dry run, and of packing."""

from collections import Counter
from collections.abc import Mapping

from galaxy_batch.rows import Status

__all__ = ["failure_problem"]


def failure_problem(
    status_counts: Mapping[str, int],
    max_failed_fraction: float,
    keep_unreachable: bool = True,
    subject: str = "cutouts have no class",
) -> str | None:
    """Why rows with these statuses do not pass, as the beginning of a sentence; None where they pass.

    For example: "4 of 40 cutouts have no class (3 unreadable, 1 missing), more than max_failed_fraction = 0.05".
    """
    statuses = Counter(status_counts)
    rows, failed = statuses.total(), statuses.total() - statuses[Status.OK]
    if not keep_unreachable and statuses[Status.UNREACHABLE]:
        reason = "and keep_unreachable = false"
    elif failed > max_failed_fraction * rows:
        reason = f"more than max_failed_fraction = {max_failed_fraction}"
    else:
        return None
    counts = ", ".join(f"{count} {status}" for status, count in statuses.most_common() if status != Status.OK)
    return f"{failed} of {rows} {subject} ({counts}), {reason}"
