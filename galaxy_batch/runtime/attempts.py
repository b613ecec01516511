"""How many times each chunk was started, counted in one place for all workers of a job.

A chunk that is started for the third time failed to finish twice: its worker crashed on it, or its node was lost.
"""

from collections import Counter

import ray

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


class _Counts:
    def __init__(self, max_suspects: int) -> None:
        self.started, self.max_suspects = Counter[int](), max_suspects

    def begin(self, chunk: int) -> int:
        before = self.started[chunk]
        self.started[chunk] += 1
        suspects = sum(times > MAX_UNFINISHED for times in self.started.values())
        if suspects > self.max_suspects:
            raise RuntimeError(
                f"{suspects} chunks have each crashed {MAX_UNFINISHED} model workers, more than "
                f"runtime.max_suspect_chunks = {self.max_suspects}: the cutouts are probably not the cause. Check the "
                "workers' memory and logs, then run again: finished parts are kept"
            )
        return before
