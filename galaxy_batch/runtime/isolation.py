"""Cutouts that crash the process which decodes them: each is isolated, and becomes one row with a status.

Decoders are large C libraries, and a cutout is whatever somebody stored. A segmentation fault, an abort, the kernel's
kill when memory runs out, or an endless loop ends the process that classifies. A chunk that may do that is classified
in a child process: if it dies, the chunk is bisected until every crashing cutout is isolated, and the other rows are
classified together.
"""

import io
import logging
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
from PIL import Image

from galaxy_batch.rows import CHUNK, IMAGE_BYTES, Status
from galaxy_batch.runtime.child_process import ChildProcess, ProcessEnded

__all__ = ["classify_in_child_process", "find_crashing_rows"]

logger = logging.getLogger(__name__)

_CONFIRMATIONS = 2  # crashes on a row alone that mark it as crashing
_MAX_CRASHING = 16  # rows of one chunk; more point to a broken decoder, not to single cutouts


def classify_in_child_process(
    rows: pa.Table, row_limit_s: float, child: ChildProcess, report: Callable[[int], None] | None = None
) -> pa.Table:
    """What `Classifier` gives for a chunk, computed in a child process; cutouts that crash it are `crashed` rows.

    Args:
        rows: a chunk with its encoded cutouts.
        row_limit_s: seconds that a chunk may take for each of its rows and 60 more; then the process is ended.
        child: the process; replaced when it dies.
        report: is called about once a second with the number of rows that are classified.

    Raises:
        InputError: the model cannot be used.
        RuntimeError: the child dies without cutouts, with a good one, with too many of them, or only with all of them
            together; or the child raised an error.
    """
    reasons: dict[int, str] = {}

    def survives(positions: Sequence[int]) -> bool:
        try:
            child.classify(rows.take(pa.array(positions, pa.int64())), row_limit_s)
        except ProcessEnded as ended:
            reasons[positions[0]] = ended.reason
            return False
        return True

    try:
        return child.classify(rows, row_limit_s, report)
    except ProcessEnded as ended:
        _check_good_cutout(child, rows[CHUNK][0].as_py(), row_limit_s, ended.reason)
    crashing = find_crashing_rows(survives, len(rows))
    logger.warning("%d cutouts crash the process that decodes them", len(crashing))
    try:
        return child.classify(_mark_crashed(rows, {row: reasons[row] for row in crashing}), row_limit_s, report)
    except ProcessEnded as ended:
        without = f"without its {len(crashing)} crashing cutouts" if crashing else "though no cutout alone does this"
        raise RuntimeError(
            f"the process that classifies chunk {rows[CHUNK][0]} {ended.reason}, {without}: it needs more memory "
            "or time (runtime.row_limit_s) than there is, or the machine is faulty"
        ) from None


def find_crashing_rows(survives: Callable[[Sequence[int]], bool], rows: int) -> list[int]:
    """The rows that crash a process on their own, by bisection.

    Args:
        survives: whether a process survives these rows, given by their numbers.
        rows: their number; together they crash a process.

    Raises:
        RuntimeError: there are more than `_MAX_CRASHING`.
    """
    crashing: list[int] = []

    def search(part: Sequence[int], crashes: bool) -> None:
        if len(part) == 1:
            if not any(survives(part) for _ in range(_CONFIRMATIONS)):
                crashing.extend(part)
            if len(crashing) > _MAX_CRASHING:
                raise RuntimeError(
                    f"more than {_MAX_CRASHING} cutouts of one chunk crash the process that decodes them: the cause "
                    "is not single cutouts but a faulty decoder or machine"
                )
            return
        if not crashes and survives(part):
            return
        before, middle = len(crashing), len(part) // 2
        search(part[:middle], crashes=False)
        search(part[middle:], crashes=len(crashing) == before)  # one half crashes: if not the first, the second

    search(range(rows), crashes=True)
    return crashing


def _check_good_cutout(child: ChildProcess, chunk: int, row_limit_s: float, reason: str) -> None:
    """Classify a cutout that is known to be good; if that crashes too, the cutouts are not the cause."""
    image = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(image, "JPEG")
    content = pa.array([image.getvalue()], pa.large_binary())
    good = pa.table({IMAGE_BYTES: content, "status": [str(Status.OK)], "error": pa.nulls(1, pa.string())})
    try:
        child.classify(good, row_limit_s)
    except ProcessEnded:
        raise RuntimeError(
            f"the process that classifies chunk {chunk} {reason}, also with a cutout that is known to be good: the "
            "cause is not the cutouts but the model's libraries or the machine"
        ) from None


def _mark_crashed(rows: pa.Table, reasons: Mapping[int, str]) -> pa.Table:
    status, error = rows["status"].to_pylist(), rows["error"].to_pylist()
    for row, reason in reasons.items():
        status[row], error[row] = str(Status.CRASHED), f"the process that read this image {reason}"
    for name, values in (("status", status), ("error", error)):
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(values, pa.string()))
    return rows
