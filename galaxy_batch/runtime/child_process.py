"""A classifier in a process of its own, which a cutout may end without harm to the one that asks."""

import contextlib
import faulthandler
import multiprocessing
import signal
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from galaxy_batch.model.classifier import Classifier

__all__ = ["ChildProcess", "Ended", "ended_after", "time_limit_s"]

_ROWS_MORE = 60  # that every chunk has time for, however few its rows
_START_S = 900.0  # that a child may take to load the model, and to compile it
_GRACE_S = 30.0  # after which a child ends itself, should nobody be left to end it
_STDERR = 2


def time_limit_s(rows: int, row_limit_s: float) -> float:
    """Seconds that so many rows may take, after which their process is taken for one that never ends."""
    return (rows + _ROWS_MORE) * row_limit_s


class Ended(Exception):  # noqa: N818 - a fact about a process
    """The child did not live to give an answer; `reason` is the end of a sentence about it."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class ChildProcess:
    """A process with a `Classifier`, which is replaced when it dies."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        self.model = model
        self._start()

    def classify(self, rows: pa.Table, row_limit_s: float) -> pa.Table:
        """The classified rows; raises `Ended`, and has another process ready then."""
        limit_s = time_limit_s(len(rows), row_limit_s)
        try:
            return self._asked((rows, limit_s), limit_s)
        except Ended:
            self._start()
            raise

    def close(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.kill()
        self.process.join()

    def _start(self) -> None:
        spawning = multiprocessing.get_context("spawn")  # a fork would inherit the parent's threads' locks
        self.pipe, theirs = spawning.Pipe()
        self.process = spawning.Process(target=_serve, args=(theirs, dict(self.model)), daemon=True)
        self.process.start()
        theirs.close()  # or the end of the process would not be the end of the pipe
        try:
            self._asked(None, _START_S)
        except Ended as ended:
            reason = f"a process with the model in it, and no cutout yet, {ended.reason}: it is not the cutouts"
            raise RuntimeError(reason) from None

    def _asked(self, question: object, limit_s: float) -> Any:
        try:
            if question is not None:
                self.pipe.send(question)
            if not self.pipe.poll(limit_s):
                self.close()
                raise Ended(f"was not done after {limit_s:.0f} s")
            answer, failure = self.pipe.recv()
        except (EOFError, OSError):
            self.close_after_death()
            raise Ended(_ending(self.process.exitcode)) from None
        if failure:
            raise RuntimeError(f"in the process of a suspected chunk:\n{failure}")
        return answer

    def close_after_death(self) -> None:
        """Wait until the process has an exit code."""
        self.pipe.close()
        self.process.join(_GRACE_S)


def _serve(pipe: Any, model: Mapping[str, Any]) -> None:
    """The child: load the model, then answer until nobody asks any more."""
    try:
        classifier = Classifier(**model)
        pipe.send((None, ""))
        while True:
            rows, limit_s = pipe.recv()
            with ended_after(limit_s + _GRACE_S):
                answer = classifier(rows)
            pipe.send((answer, ""))
    except EOFError:
        return
    except Exception:  # noqa: BLE001 - whatever it is, the parent raises it
        pipe.send((None, traceback.format_exc()))


@contextlib.contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """End this process, with a traceback of all threads, if the block takes longer: also where C code never returns."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _ending(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    hint = ", which is what the system sends when memory is short" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"
