"""Tasks over a list of items, outside the stages that make parts: in Ray, or one after the other in this process."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

__all__ = ["TaskRunner", "run_in_order", "run_tasks"]

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
    import ray  # noqa: PLC0415 - a second, which `run_in_order` saves
    from ray.data import TaskPoolStrategy  # noqa: PLC0415

    dataset = ray.data.from_items([dict(item) for item in items], override_num_blocks=len(items))
    options = {"batch_size": None, "batch_format": "pyarrow", "num_cpus": 1, "compute": TaskPoolStrategy(at_once)}
    tasks = dataset.map_batches(task, fn_kwargs=dict(keywords), **options)
    rows: Iterable[dict[str, Any]] = tasks.iter_rows()
    return rows


def run_in_order(
    task: Callable[..., pa.Table], items: Sequence[Mapping[str, Any]], keywords: Mapping[str, Any]
) -> Iterable[dict[str, Any]]:
    """A `TaskRunner` without Ray: one task after the other."""
    for item in items:
        yield from task(pa.Table.from_pylist([item]), **keywords).to_pylist()
