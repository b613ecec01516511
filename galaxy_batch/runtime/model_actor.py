"""The Ray actor that classifies chunks, and survives cutouts that crash it.

When an actor dies, Ray starts another, which gets the chunk again. After `MAX_UNFINISHED` such starts the chunk is
classified in a child process, see `isolation`. A chunk that did not finish for another reason, such as a lost node, has
no such cutout and is classified as usual.
"""

import contextlib
import functools
import logging
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import ray

from galaxy_batch.errors import InputError
from galaxy_batch.model.classifier import Classifier
from galaxy_batch.rows import CHUNK
from galaxy_batch.runtime.attempts import MAX_UNFINISHED, Attempts
from galaxy_batch.runtime.child_process import ChildProcess, chunk_limit_s, exit_after
from galaxy_batch.runtime.isolation import classify_in_child_process
from galaxy_batch.runtime.progress import ChunkProgress

__all__ = ["IsolatingClassifier"]

logger = logging.getLogger(__name__)


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
                return self.classifier(rows, ChunkProgress(functools.partial(self.attempts.report, chunk)))
        logger.warning(
            "chunk %d was started %d times without finishing: it is now classified in a child process",
            chunk, MAX_UNFINISHED,
        )  # fmt: skip
        with contextlib.closing(ChildProcess(self.model)) as child:
            return classify_in_child_process(rows, self.row_limit_s, child)
