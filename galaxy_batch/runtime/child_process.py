"""A classifier in a child process, which a cutout may crash without harm to the parent."""

import contextlib
import faulthandler
import multiprocessing
import signal
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from galaxy_batch.model.classifier import Classifier

__all__ = ["ChildProcess", "ProcessEnded", "chunk_limit_s", "exit_after"]

_EXTRA_ROWS = 60  # whose time limit every chunk has beside its own, or small chunks would have hardly any
_START_LIMIT_S = 900.0  # to load the model, and to compile it
_GRACE_S = 30.0  # after its time limit, a child whose parent is gone ends itself
_STDERR = 2


def chunk_limit_s(rows: int, row_limit_s: float) -> float:
    """Seconds after which a process that classifies this number of rows counts as hung."""
    return (rows + _EXTRA_ROWS) * row_limit_s


class ProcessEnded(Exception):  # noqa: N818 - not always an error
    """The child ended before it returned a result; `reason` completes a sentence that starts with "the process"."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class ChildProcess:
    """A process with a `Classifier`, replaced when it dies.

    Args:
        model: arguments of `Classifier`.

    Raises:
        RuntimeError: the process dies, or raises, while it loads the model.
    """

    def __init__(self, model: Mapping[str, Any]) -> None:
        self.model = model
        self._start()

    def classify(self, rows: pa.Table, row_limit_s: float) -> pa.Table:
        """The classified rows.

        Raises:
            ProcessEnded: the process died or hung; a new one has been started.
            RuntimeError: what the classifier raised, with its traceback.
        """
        limit_s = chunk_limit_s(len(rows), row_limit_s)
        try:
            return self._result(limit_s, (rows, limit_s))
        except ProcessEnded:
            self._start()
            raise

    def close(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.kill()
        self.process.join()

    def _start(self) -> None:
        spawning = multiprocessing.get_context("spawn")  # a fork would inherit locks that the parent's threads hold
        self.pipe, childs_end = spawning.Pipe()
        self.process = spawning.Process(target=_serve, args=(childs_end, dict(self.model)), daemon=True)
        self.process.start()
        childs_end.close()  # so that the pipe closes when the child dies
        try:
            self._result(_START_LIMIT_S)
        except ProcessEnded as ended:
            reason = (
                f"a process that loads the model, without any cutout, {ended.reason}: the cutouts are not the cause"
            )
            raise RuntimeError(reason) from None

    def _result(self, limit_s: float, task: tuple[pa.Table, float] | None = None) -> Any:
        """What the child returns for a task, or once the model is loaded."""
        try:
            if task is not None:
                self.pipe.send(task)
            if not self.pipe.poll(limit_s):
                self.close()
                raise ProcessEnded(f"was not done after {limit_s:.0f} s")
            result, failure = self.pipe.recv()
        except (EOFError, OSError):
            self.pipe.close()
            self.process.join(_GRACE_S)
            raise ProcessEnded(_ending(self.process.exitcode)) from None
        if failure:
            raise RuntimeError(f"the child process of a suspected chunk raised:\n{failure}")
        return result


def _serve(pipe: Any, model: Mapping[str, Any]) -> None:
    """The child: load the model, then classify until the parent closes the pipe."""
    try:
        classifier = Classifier(**model)
        pipe.send((None, ""))
        while True:
            rows, limit_s = pipe.recv()
            with exit_after(limit_s + _GRACE_S):
                result = classifier(rows)
            pipe.send((result, ""))
    except EOFError:
        return
    except Exception:  # noqa: BLE001 - the parent raises it, whatever it is
        pipe.send((None, traceback.format_exc()))


@contextlib.contextmanager
def exit_after(seconds: float) -> Iterator[None]:
    """End this process, with a traceback of all threads, if the block takes longer; also where C code hangs."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _ending(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    hint = ", which the system sends when memory runs out" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"
