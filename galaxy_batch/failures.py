"""Cutouts without a class: how many may fail, in a catalog run, its dry run and packing, and an example of them."""

from collections import Counter
from collections.abc import Mapping

import pyarrow as pa

from galaxy_batch.rows import IMAGE_URI, Status

__all__ = ["failure_example", "failure_problem", "main_failure"]


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


def main_failure(status_counts: Mapping[str, int], keep_unreachable: bool) -> Status:
    """The status to give an example of: `unreachable` where that alone fails the run, else the most frequent one."""
    failed = Counter({Status(status): count for status, count in status_counts.items() if status != Status.OK})
    if not keep_unreachable and failed[Status.UNREACHABLE]:
        return Status.UNREACHABLE
    return failed.most_common(1)[0][0]


def failure_example(rows: pa.Table, classified: pa.Table, status: Status) -> str | None:
    """The first row with this status, for example "object 12 at images/12.jpg: no such file"; None if there is none.

    Args:
        rows: of the manifest, as `read_chunk` reads them.
        classified: the same rows with `object_id`, `status`, `error`.
        status: wanted.
    """
    statuses = classified["status"].to_pylist()
    if status not in statuses:
        return None
    first = statuses.index(status)
    uri = rows[IMAGE_URI][first].as_py() if IMAGE_URI in rows.column_names else None
    where = ", ".join(map(str, uri)) if isinstance(uri, list) else uri or "the manifest"
    return f"object {classified['object_id'][first]} at {where}: {classified['error'][first]}"
