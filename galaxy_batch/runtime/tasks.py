"""Ray tasks over a list of items, outside the stages of a Ray Data pipeline."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray
from ray.data import TaskPoolStrategy

__all__ = ["TaskRunner", "run_tasks"]

TaskRunner = Callable[
    [Callable[..., pa.Table], Sequence[Mapping[str, Any]], Mapping[str, Any]], Iterable[dict[str, Any]]
]
"""Runs a task on each item: `task_runner(task, items, keywords)` gives the rows of the tasks' tables, in any order.

A task gets its item as a table of one row, and the keywords.
"""


def run_tasks(
    task: Callable[..., pa.Table],
    items: Sequence[Mapping[str, Any]],
    keywords: Mapping[str, Any],
    at_once: int | None = None,
) -> Iterable[dict[str, Any]]:
    """A `TaskRunner`: one Ray task per item, each with one CPU, so that at most one item per CPU is in memory.

    At most `at_once` tasks run at a time; as many as there are CPUs when None.
    """
    if not items:
        return []
    dataset = ray.data.from_items([dict(item) for item in items], override_num_blocks=len(items))
    options = {"batch_size": None, "batch_format": "pyarrow", "num_cpus": 1, "compute": TaskPoolStrategy(at_once)}
    tasks = dataset.map_batches(task, fn_kwargs=dict(keywords), **options)
    rows: Iterable[dict[str, Any]] = tasks.iter_rows()
    return rows
