"""How many times each chunk was started, and how far it is, counted in one place for all workers of a job.

A chunk that is started for the third time failed to finish twice: its worker crashed on it, or its node was lost.
"""

from collections import Counter

import ray

from galaxy_batch.errors import InputError

__all__ = ["MAX_UNFINISHED", "Attempts"]

MAX_UNFINISHED = 2
"""A chunk that was started this often without finishing is suspected of a cutout that crashes its worker."""


class Attempts:
    """The count of one job, in a small Ray actor that lives as long as this object.

    Args:
        max_suspects: with more suspected chunks than this, the cause is not the cutouts.
    """

    def __init__(self, max_suspects: int) -> None:
        counts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Counts)
        self._counts = counts.remote(max_suspects)

    def begin(self, chunk: int) -> int:
        """Count the start of a chunk; gives how often it was started before.

        Raises:
            RuntimeError: too many chunks are suspected.
        """
        before: int = ray.get(self._counts.begin.remote(chunk))
        return before

    def report(self, chunk: int, rows: int) -> None:
        """Say how many rows of a chunk are classified by now; does not wait."""
        self._counts.report.remote(chunk, rows)

    def refuse(self, problem: InputError) -> None:
        """Say that a worker cannot use the model, which no other worker can either."""
        ray.get(self._counts.refuse.remote(problem))

    def refusal(self) -> InputError | None:
        """Why the model cannot be used; None if no worker said so, or if that cannot be read."""
        try:
            problem: InputError | None = ray.get(self._counts.refusal.remote(), timeout=5)
        except ray.exceptions.RayError:
            return None
        return problem

    def rows_classified(self) -> dict[int, int]:
        """Rows by chunk, as last reported, of chunks finished or not; empty if the count cannot be read."""
        try:
            rows: dict[int, int] = ray.get(self._counts.rows_classified.remote(), timeout=5)
        except ray.exceptions.RayError:
            return {}
        return rows


class _Counts:
    def __init__(self, max_suspects: int) -> None:
        self.started, self.max_suspects = Counter[int](), max_suspects
        self.rows: dict[int, int] = {}
        self.problem: InputError | None = None

    def begin(self, chunk: int) -> int:
        before = self.started[chunk]
        self.started[chunk] += 1
        self.rows.pop(chunk, None)
        suspects = sum(times > MAX_UNFINISHED for times in self.started.values())
        if suspects > self.max_suspects:
            raise RuntimeError(
                f"{suspects} chunks have each crashed {MAX_UNFINISHED} model workers, more than "
                f"runtime.max_suspect_chunks = {self.max_suspects}: the cutouts are probably not the cause. Check the "
                "workers' memory and logs, then run again: finished parts are kept"
            )
        return before

    def report(self, chunk: int, rows: int) -> None:
        self.rows[chunk] = rows

    def refuse(self, problem: InputError) -> None:
        self.problem = problem

    def refusal(self) -> InputError | None:
        return self.problem

    def rows_classified(self) -> dict[int, int]:
        return self.rows
