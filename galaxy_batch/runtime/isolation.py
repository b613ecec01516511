"""Cutouts that end the process which reads them: each is found, and becomes one row with a status.

A decoder is a large C library, and a cutout is whatever somebody stored. A segmentation fault, an abort, the kernel's
kill for want of memory, or an endless loop takes the model's worker with it. Ray starts another, which gets the chunk
again; when that has happened `TRIES` times, the chunk is classified in a child process, which may die. If it does,
the chunk is bisected, until every crashing row is found; then the other rows are classified together. A
chunk whose worker was lost for another reason, such as a node, has no culprit, and is just classified.
"""

import contextlib
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa
from PIL import Image

from galaxy_batch.model.classifier import Classifier
from galaxy_batch.rows import CHUNK, IMAGE_BYTES, Status
from galaxy_batch.runtime.attempts import TRIES
from galaxy_batch.runtime.child_process import ChildProcess, Ended, ended_after, time_limit_s

__all__ = ["IsolatingClassifier", "classify_apart", "find_crashing_rows"]

logger = logging.getLogger(__name__)

_DEATHS = 2  # with one row alone, before that row is a culprit
_MOST_CULPRITS = 16  # in one chunk; more are not single cutouts but a broken decoder


class Counting(Protocol):
    """What counts attempts: `Attempts`."""

    def begin(self, chunk: int) -> int:
        """Note that a chunk is begun; how often it was begun before."""


class IsolatingClassifier:
    """A `Classifier` that a cutout may kill: what it was doing is done again, and at last in a child process.

    Args:
        attempts: knows how often a chunk was begun.
        row_limit_s: a chunk may take so many seconds for each of its rows and 60 more; then its process is ended.
        model: arguments of `Classifier`.
    """

    def __init__(self, attempts: Counting, row_limit_s: float, model: Mapping[str, Any]) -> None:
        self.attempts, self.row_limit_s, self.model = attempts, row_limit_s, model
        self.classifier = Classifier(**model)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Classify the rows of one chunk; reads, adds, changes and drops what `Classifier` does. Reads `_chunk`."""
        chunk = rows[CHUNK][0].as_py()
        if self.attempts.begin(chunk) < TRIES:
            with ended_after(time_limit_s(len(rows), self.row_limit_s)):
                return self.classifier(rows)
        logger.warning("chunk %d was begun %d times without an end: now in a process of its own", chunk, TRIES)
        return classify_apart(rows, self.row_limit_s, self.model)


def classify_apart(rows: pa.Table, row_limit_s: float, model: Mapping[str, Any]) -> pa.Table:
    """What `Classifier` gives for a chunk, computed in a child process; cutouts that end it are `crashed` rows.

    Args:
        rows: a chunk with its encoded cutouts.
        row_limit_s: as in `IsolatingClassifier`.
        model: arguments of `Classifier`.

    Raises:
        RuntimeError: the child dies without cutouts, with a good one, with too many of them, or with none in
            particular; or what it raised itself.
    """
    with contextlib.closing(ChildProcess(model)) as child:
        reasons: dict[int, str] = {}

        def survives(positions: Sequence[int]) -> bool:
            try:
                child.classify(rows.take(pa.array(positions, pa.int64())), row_limit_s)
            except Ended as ended:
                reasons[positions[0]] = ended.reason
                return False
            return True

        try:
            return child.classify(rows, row_limit_s)
        except Ended as ended:
            _check_good_cutout(child, rows[CHUNK][0].as_py(), row_limit_s, ended.reason)
        found = find_crashing_rows(survives, len(rows))
        logger.warning("found %d cutouts that end the process that reads them", len(found))
        try:
            return child.classify(_crashed(rows, {row: reasons[row] for row in found}), row_limit_s)
        except Ended as ended:
            shown = f"its {len(found)} find_crashing_rows left out" if found else "though no single cutout does this"
            raise RuntimeError(
                f"the process that classifies chunk {rows[CHUNK][0]} {ended.reason}, {shown}: it is too large for the "
                "memory or the time (runtime.row_limit_s) that there is, or the machine is broken"
            ) from None


def find_crashing_rows(survives: Callable[[Sequence[int]], bool], rows: int) -> list[int]:
    """The rows that end a process by themselves, found by bisection.

    Args:
        survives: whether a process is done with these rows, given by their numbers.
        rows: how many there are; together they do not survive.

    Raises:
        RuntimeError: more than `_MOST_CULPRITS` are found.
    """
    found: list[int] = []

    def search(part: Sequence[int], known: bool) -> None:
        if len(part) == 1:
            if not any(survives(part) for _ in range(_DEATHS)):
                found.extend(part)
            if len(found) > _MOST_CULPRITS:
                raise RuntimeError(
                    f"more than {_MOST_CULPRITS} cutouts of one chunk end the process that reads them: that is not "
                    "single cutouts but a decoder or a machine that is broken"
                )
            return
        if not known and survives(part):
            return
        before, middle = len(found), len(part) // 2
        search(part[:middle], known=False)
        search(part[middle:], known=len(found) == before)  # if not the first half, then it is the second

    search(range(rows), known=True)
    return found


def _check_good_cutout(child: ChildProcess, chunk: int, row_limit_s: float, reason: str) -> None:
    """A cutout that nothing is wrong with; a child that dies of it as well says nothing about the others."""
    image = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(image, "JPEG")
    content = pa.array([image.getvalue()], pa.large_binary())
    good = pa.table({IMAGE_BYTES: content, "status": [str(Status.OK)], "error": pa.nulls(1, pa.string())})
    try:
        child.classify(good, row_limit_s)
    except Ended:
        raise RuntimeError(
            f"the process that classifies chunk {chunk} {reason}, and so it does with a cutout that is known "
            "to be good: it is not the cutouts but the model's libraries or the machine"
        ) from None


def _crashed(rows: pa.Table, reasons: Mapping[int, str]) -> pa.Table:
    status, error = rows["status"].to_pylist(), rows["error"].to_pylist()
    for row, reason in reasons.items():
        status[row], error[row] = str(Status.CRASHED), f"the process that read this image {reason}"
    rows = _replaced(rows, "status", pa.array(status, pa.string()))
    return _replaced(rows, "error", pa.array(error, pa.string()))


def _replaced(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)
