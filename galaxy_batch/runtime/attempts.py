"""Attempts: how often each chunk was begun, counted in one place for all workers of a job.

A chunk that is begun for the third time has twice not come to its end: its worker died with it, or its node was lost.
"""

from collections import Counter

import ray

__all__ = ["TRIES", "Attempts"]

TRIES = 2
"""A chunk that was begun so often without an end is suspected to hold a cutout that ends processes."""


class Attempts:
    """The count of one job. It lives in a small process of Ray's, and as long as this object does.

    Args:
        max_suspects: with more suspected chunks than this, something else than cutouts ends the workers.
    """

    def __init__(self, max_suspects: int) -> None:
        counts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Counts)
        self._counts = counts.remote(max_suspects)

    def begin(self, chunk: int) -> int:
        """Note that a chunk is begun; how often it was begun before.

        Raises:
            RuntimeError: too many chunks are suspects.
        """
        before: int = ray.get(self._counts.begin.remote(chunk))
        return before


class _Counts:
    def __init__(self, max_suspects: int) -> None:
        self.begun, self.max_suspects = Counter[int](), max_suspects

    def begin(self, chunk: int) -> int:
        before = self.begun[chunk]
        self.begun[chunk] += 1
        suspects = sum(times > TRIES for times in self.begun.values())
        if suspects > self.max_suspects:
            raise RuntimeError(
                f"{suspects} chunks have each ended {TRIES} model workers, more than runtime.max_suspect_chunks = "
                f"{self.max_suspects}: that is hardly the cutouts. Look at the workers' memory and logs, then run "
                "again: finished parts are kept"
            )
        return before
