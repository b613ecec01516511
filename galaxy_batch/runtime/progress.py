"""Progress of a run: galaxies done, failed and flagged, rate and time left; and the time of each step."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["CLEAR_LINE", "ChunkProgress", "Progress", "Stopwatch", "log_interruption", "with_progress"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

CLEAR_LINE = "\r\x1b[K"
"""Clears the line of a terminal, so that the next text replaces the progress line."""
_REDRAW_S = 0.2
_STEP_EVERY_S = 10.0
_REPORT_S = 1.0
_MEASURED_S = 1.0  # least time for a rate


class Progress:
    """Counts finished rows. On a terminal it redraws one line; elsewhere it logs plain lines at intervals.

    Args:
        total: rows of the whole manifest.
        done: rows that previous runs finished.
        every_s: seconds between two log lines.
        workers: chunks computed at the same time. The steady rate is measured after this many are finished: before,
            workers are still starting.
    """

    def __init__(self, total: int, done: int, every_s: float, workers: int = 1) -> None:
        self.total, self.done, self.every_s, self.workers = total, done, every_s, workers
        self.failed = self.flagged = self.new = self.chunks = 0
        self.in_progress = 0
        """Rows already classified of chunks that are not finished."""
        self.started = self.shown = time.monotonic()
        self.steady_since: tuple[float, int] | None = None
        self.followed_since: tuple[float, int] | None = None
        """When `following` first saw classified rows, and their number."""
        self.estimated = False
        self.lock = threading.Lock()

    def add(self, rows: int, failed: int, flagged: int) -> None:
        """Count a finished chunk; report the first one, the first estimate, at intervals, and the end."""
        with self.lock:
            self.new += rows
            self.done += rows
            self.in_progress = max(0, self.in_progress - rows)
            self.failed += failed
            self.flagged += flagged
            self.chunks += 1
            if self.chunks == self.workers:
                self.steady_since = (time.monotonic(), self.new)
            self._show(now=self.chunks == 1 or self.done >= self.total)

    @contextmanager
    def following(self, rows_in_progress: Callable[[], int]) -> Iterator[None]:
        """Within the context, also report the rows of unfinished chunks, at intervals.

        Args:
            rows_in_progress: counts these rows; called in another thread.
        """
        stop = threading.Event()

        def follow() -> None:
            while not stop.wait(1 if sys.stderr.isatty() else self.every_s):
                rows = rows_in_progress()
                with self.lock:
                    if not stop.is_set() and rows != self.in_progress:
                        self.in_progress = rows
                        self.followed_since = self.followed_since or (time.monotonic(), self.new + rows)
                        self._show()

        thread = threading.Thread(target=follow, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=2)

    @property
    def steady_rate(self) -> float | None:
        """Galaxies per second since all workers have started; None until that is known."""
        if self.steady_since is None or self.chunks <= self.workers:
            return None
        since, rows = self.steady_since
        return (self.new - rows) / max(time.monotonic() - since, 1e-9)

    @property
    def rate(self) -> float | None:
        """Galaxies per second: the steady rate, else that of unfinished chunks, without the start of workers.

        None until one of these is known; at the end, if neither ever was, the rate since the start.
        """
        if (steady := self.steady_rate) is not None:
            return steady
        now = time.monotonic()
        if self.followed_since is not None and now - self.followed_since[0] >= _MEASURED_S:
            since, rows = self.followed_since
            return (self.new + self.in_progress - rows) / (now - since) or None
        return self.new / max(now - self.started, 1e-9) if self.done >= self.total else None

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None while that is unknown."""
        return (self.total - self._classified) / rate if (rate := self.rate) else None

    @property
    def _classified(self) -> int:
        return min(self.done + self.in_progress, self.total)

    def _show(self, now: bool = False) -> None:
        terminal, time_s = sys.stderr.isatty(), time.monotonic()
        if not self.estimated and self.seconds_left is not None:
            self.estimated = now = True
        if not now and time_s - self.shown < (_REDRAW_S if terminal else self.every_s):
            return
        self.shown = time_s
        if terminal:
            sys.stderr.write(f"{CLEAR_LINE}{self}" + ("\n" if self.done >= self.total else ""))
            sys.stderr.flush()
        else:
            logger.info("%s", self)

    def __str__(self) -> str:
        classified, rate, left = self._classified, self.rate, self.seconds_left
        estimate = f", {rate:,.1f} per second, {_duration(left)} left" if rate and left is not None else ""
        return (
            f"{classified:,} of {self.total:,} galaxies ({classified / max(self.total, 1):.0%}){estimate}; "
            f"this run: {self.failed:,} failed, {self.flagged:,} flagged"
        )


class ChunkProgress:
    """Counts the rows of a chunk that are classified; called with the number of further ones.

    Args:
        report: is called with the rows so far, at most once in `_REPORT_S`.
    """

    def __init__(self, report: Callable[[int], None]) -> None:
        self.report, self.rows, self.reported = report, 0, time.monotonic()

    def __call__(self, rows: int) -> None:
        """Count further rows."""
        self.rows += rows
        if time.monotonic() - self.reported >= _REPORT_S:
            self.reported = time.monotonic()
            self.report(self.rows)


class Stopwatch:
    """Seconds of each named step of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, step: str) -> Iterator[None]:
        """Add the time of the block to the step."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = round(self.seconds.get(step, 0.0) + time.monotonic() - started, 3)


def with_progress(items: Iterable[T], step: str, total: int, each: Callable[[T], int] = len) -> Iterator[T]:  # type: ignore[assignment]
    """Yield the items; at intervals, log how many galaxies of them are done, the rate, and the time left.

    Args:
        items: batches of galaxies.
        step: name of the step, for the log.
        total: galaxies in all batches.
        each: galaxies in one batch.
    """
    done, started = 0, time.monotonic()
    shown = started
    for item in items:
        yield item
        done += each(item)
        now = time.monotonic()
        if now - shown >= _STEP_EVERY_S and done < total:
            shown, rate = now, done / (now - started)
            left = _duration((total - done) / rate)
            logger.info("%s: %s of %s galaxies, %.1f per second, %s left", step, f"{done:,}", f"{total:,}", rate, left)


def log_interruption(done: int, total: int) -> None:
    """Log the one line that an interrupted run ends with."""
    message = "interrupted: %s of %s galaxies are done and kept; run the same command again to go on"
    logger.warning(message, f"{done:,}", f"{total:,}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
