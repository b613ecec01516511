"""Cutouts that crash the process which decodes them: each is isolated, and becomes one row with a status.

Decoders are large C libraries, and a cutout is whatever somebody stored. A segmentation fault, an abort, the kernel's
kill when memory runs out, or an endless loop ends the model's worker. Ray starts another, which gets the chunk again.
After `MAX_UNFINISHED` such starts the chunk is classified in a child process. If the child dies too, the chunk is
bisected until every crashing cutout is isolated, and the other rows are classified together. A chunk that did not
finish for another reason, such as a lost node, has no such cutout and is classified as usual.
"""

import contextlib
import io
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray
from PIL import Image

from galaxy_batch.errors import InputError
from galaxy_batch.model.classifier import Classifier
from galaxy_batch.rows import CHUNK, IMAGE_BYTES, Status
from galaxy_batch.runtime.attempts import MAX_UNFINISHED, Attempts
from galaxy_batch.runtime.child_process import ChildProcess, ProcessEnded, chunk_limit_s, exit_after

__all__ = ["IsolatingClassifier", "classify_in_child_process", "find_crashing_rows"]

logger = logging.getLogger(__name__)

_REPORT_S = 1.0
_CONFIRMATIONS = 2  # crashes on a row alone that mark it as crashing
_MAX_CRASHING = 16  # rows of one chunk; more point to a broken decoder, not to single cutouts


class IsolatingClassifier:
    """A `Classifier` that survives crashing cutouts: suspected chunks are classified in a child process.

    Args:
        attempts: how often each chunk was started.
        row_limit_s: seconds that a chunk may take for each of its rows and 60 more; then its process is ended.
        model: arguments of `Classifier`.
        network: where the converted network is in Ray's object store, if the engine takes one.
    """

    def __init__(
        self,
        attempts: Attempts,
        row_limit_s: float,
        model: Mapping[str, Any],
        network: "ray.ObjectRef[bytes] | None" = None,
    ) -> None:
        self.attempts, self.row_limit_s = attempts, row_limit_s
        self.model = {**model, "network": ray.get(network)} if network is not None else model
        self.problem: InputError | None = None
        try:
            self.classifier = Classifier(**self.model)
        except InputError as problem:  # raised at the first chunk: an actor that cannot start is started again
            self.problem = problem

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Classify the rows of one chunk; reads, adds, changes and drops what `Classifier` does. Reads `_chunk`.

        Raises:
            InputError: the model cannot be used; `Attempts.refusal` gives it too, because Ray wraps what is raised.
        """
        if self.problem is not None:
            self.attempts.refuse(self.problem)
            raise self.problem
        chunk = rows[CHUNK][0].as_py()
        if self.attempts.begin(chunk) < MAX_UNFINISHED:
            with exit_after(chunk_limit_s(len(rows), self.row_limit_s)):
                return self.classifier(rows, _Report(self.attempts, chunk))
        logger.warning(
            "chunk %d was started %d times without finishing: it is now classified in a child process",
            chunk, MAX_UNFINISHED,
        )  # fmt: skip
        return classify_in_child_process(rows, self.row_limit_s, self.model)


class _Report:
    """Reports how many rows of a chunk are classified, at most once in `_REPORT_S`: called with further rows."""

    def __init__(self, attempts: Attempts, chunk: int) -> None:
        self.attempts, self.chunk, self.rows, self.reported = attempts, chunk, 0, time.monotonic()

    def __call__(self, rows: int) -> None:
        self.rows += rows
        if time.monotonic() - self.reported >= _REPORT_S:
            self.reported = time.monotonic()
            self.attempts.report(self.chunk, self.rows)


def classify_in_child_process(rows: pa.Table, row_limit_s: float, model: Mapping[str, Any]) -> pa.Table:
    """What `Classifier` gives for a chunk, computed in a child process; cutouts that crash it are `crashed` rows.

    Args:
        rows: a chunk with its encoded cutouts.
        row_limit_s: as in `IsolatingClassifier`.
        model: arguments of `Classifier`.

    Raises:
        RuntimeError: the child dies without cutouts, with a good one, with too many of them, or only with all of them
            together; or the child raised an error.
    """
    with contextlib.closing(ChildProcess(model)) as child:
        reasons: dict[int, str] = {}

        def survives(positions: Sequence[int]) -> bool:
            try:
                child.classify(rows.take(pa.array(positions, pa.int64())), row_limit_s)
            except ProcessEnded as ended:
                reasons[positions[0]] = ended.reason
                return False
            return True

        try:
            return child.classify(rows, row_limit_s)
        except ProcessEnded as ended:
            _check_good_cutout(child, rows[CHUNK][0].as_py(), row_limit_s, ended.reason)
        crashing = find_crashing_rows(survives, len(rows))
        logger.warning("%d cutouts crash the process that decodes them", len(crashing))
        try:
            return child.classify(_mark_crashed(rows, {row: reasons[row] for row in crashing}), row_limit_s)
        except ProcessEnded as ended:
            without = (
                f"without its {len(crashing)} crashing cutouts" if crashing else "though no cutout alone does this"
            )
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
