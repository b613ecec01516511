"""A classifier in a child process, which a cutout may crash without harm to the parent."""

import contextlib
import faulthandler
import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import resource_tracker
from typing import Any

import pyarrow as pa

from galaxy_batch.errors import InputError
from galaxy_batch.model.classifier import Classifier
from galaxy_batch.runtime.progress import ChunkProgress

__all__ = ["ChildProcess", "ProcessEnded", "chunk_limit_s", "exit_after"]

_EXTRA_ROWS = 60  # whose time limit every chunk has beside its own, or small chunks would have hardly any
_START_LIMIT_S = 900.0  # to load the model, and to compile it
_GRACE_S = 30.0  # after its time limit, a child whose parent is gone ends itself
_STDERR = 2
_ROWS, _RESULT, _ERROR = "rows", "result", "error"  # kinds of the child's messages


def chunk_limit_s(rows: int, row_limit_s: float) -> float:
    """Seconds after which a process that classifies this number of rows counts as hung."""
    return (rows + _EXTRA_ROWS) * row_limit_s


class ProcessEnded(Exception):  # noqa: N818 - not always an error
    """The child ended before it returned a result; `reason` completes a sentence that starts with "the process"."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class ChildProcess:
    """A process with a `Classifier`, replaced when it dies. It loads the model while the caller goes on.

    Args:
        model: arguments of `Classifier`.
    """

    def __init__(self, model: Mapping[str, Any]) -> None:
        self.model = model
        self._start()

    def classify(self, rows: pa.Table, row_limit_s: float, report: Callable[[int], None] | None = None) -> pa.Table:
        """The classified rows. Calls `report` about once a second with the number of rows that are classified.

        Raises:
            InputError: the model cannot be used.
            ProcessEnded: the process died or hung; a new one has been started.
            RuntimeError: what the classifier raised, with its traceback; or the process died while it loaded the model.
        """
        self._wait_until_loaded()
        limit_s = chunk_limit_s(len(rows), row_limit_s)
        try:
            return self._result(limit_s, (rows, limit_s), report)
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
        resource_tracker.ensure_running()  # which unblocks SIGINT when it starts
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is for the parent, which ends it
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        childs_end.close()  # so that the pipe closes when the child dies
        self.loaded = False

    def _wait_until_loaded(self) -> None:
        if self.loaded:
            return
        try:
            self._result(_START_LIMIT_S)
        except ProcessEnded as ended:
            reason = (
                f"a process that loads the model, without any cutout, {ended.reason}: the cutouts are not the cause"
            )
            raise RuntimeError(reason) from None
        self.loaded = True

    def _result(
        self,
        limit_s: float,
        task: tuple[pa.Table, float] | None = None,
        report: Callable[[int], None] | None = None,
    ) -> Any:
        """What the child returns for a task, or once the model is loaded."""
        deadline = time.monotonic() + limit_s
        try:
            if task is not None:
                self.pipe.send(task)
            while True:
                if not self.pipe.poll(max(0.0, deadline - time.monotonic())):
                    self.close()
                    raise ProcessEnded(f"was not done after {limit_s:.0f} s")
                kind, content = self.pipe.recv()
                if kind != _ROWS:
                    break
                if report is not None:
                    report(content)
        except (EOFError, OSError):
            self.pipe.close()
            self.process.join(_GRACE_S)
            raise ProcessEnded(_ending(self.process.exitcode)) from None
        if kind == _ERROR:
            raise content
        return content


def _serve(pipe: Any, model: Mapping[str, Any]) -> None:
    """The child: load the model, then classify until the parent closes the pipe."""
    try:
        classifier = Classifier(**model)
        pipe.send((_RESULT, None))
        while True:
            rows, limit_s = pipe.recv()
            with exit_after(limit_s + _GRACE_S):
                result = classifier(rows, ChunkProgress(lambda count: pipe.send((_ROWS, count))))
            pipe.send((_RESULT, result))
    except (EOFError, BrokenPipeError):  # the parent is gone
        return
    except InputError as problem:
        pipe.send((_ERROR, problem))
    except Exception:  # noqa: BLE001 - the parent raises it, whatever it is
        failure = f"the process that classifies raised:\n{traceback.format_exc()}"
        pipe.send((_ERROR, RuntimeError(failure)))


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
