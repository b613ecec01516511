"""How far a run is: galaxies done, rate, time left, failed and flagged so far."""

import logging
import time

__all__ = ["Progress"]

logger = logging.getLogger(__name__)


class Progress:
    """Counts finished rows and logs a line every so often; no control characters, so that job logs stay clean.

    Args:
        total: rows of the whole manifest.
        done: rows that an earlier run finished.
        every_s: seconds between two lines.
    """

    def __init__(self, total: int, done: int, every_s: float) -> None:
        self.total, self.done, self.every_s = total, done, every_s
        self.failed = self.flagged = self.new = 0
        self.started = self.logged = time.monotonic()

    def add(self, rows: int, failed: int, flagged: int) -> None:
        """Count a finished chunk; log when it is time, and at the end."""
        self.new += rows
        self.done += rows
        self.failed += failed
        self.flagged += flagged
        now = time.monotonic()
        if now - self.logged >= self.every_s or self.done >= self.total:
            self.logged = now
            logger.info("%s", self)

    def __str__(self) -> str:
        rate = self.new / max(time.monotonic() - self.started, 1e-9)
        left = (self.total - self.done) / rate if rate else float("inf")
        return (
            f"{self.done:,} of {self.total:,} galaxies ({self.done / max(self.total, 1):.0%}), {rate:,.1f} per second, "
            f"{_duration(left)} left; this run: {self.failed:,} failed, {self.flagged:,} flagged"
        )


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
