"""Sorting: the first pass of a publication, which brings the rows of the parts into the sky's order and counts them.

::

    parts ─> sort_parts ┬─> runs of rows and runs of image hashes (see `exchange`)
                        └─> PartTotals: rows per cell of the sky, statuses, ids

A task holds some three times a run (a million rows), however large the survey is.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray

from galaxy_batch.catalog.parts import origins_of, read_part
from galaxy_batch.errors import without_secrets
from galaxy_batch.ids import id_hashes, ids_checksum
from galaxy_batch.sky.healpix import cells_of, empty_histogram, row_keys
from galaxy_batch.storage.files import join, remove_tree
from galaxy_batch.storage.sorted_runs import RUN_ROWS, all_at_once, consecutive_groups, write_run

__all__ = ["HASH", "KEY", "PartTotals", "Places", "TaskRunner", "run_tasks", "sort_parts"]

TaskRunner = Callable[
    [Callable[..., pa.Table], Sequence[Mapping[str, Any]], Mapping[str, Any]], Iterable[dict[str, Any]]
]
"""Runs a task on each item: `spread(task, items, keywords)` gives the rows of the tasks' tables, in any order.

A task gets its item as a table of one row, and the keywords.
"""

KEY = "_key"
"""Column of the runs of rows: each row's place on the sky, which they are sorted by."""
HASH = "image_hash"
"""Column of the runs of hashes, which they are sorted by."""


@dataclasses.dataclass(frozen=True)
class Places:
    """Where a publication reads and writes."""

    parts_uri: str
    exchange_uri: str
    """Folder of the runs: emptied before, and after."""
    catalog_uri: str

    def run(self, number: int) -> str:
        """A run of rows, sorted by key."""
        return join(self.exchange_uri, f"rows-{number:06d}.arrow")

    def hashes(self, number: int) -> str:
        """The image hashes of the same rows, sorted, and how many rows have each."""
        return join(self.exchange_uri, f"hashes-{number:06d}.arrow")


@dataclasses.dataclass
class PartTotals:
    """What the first pass counted."""

    runs: int = 0
    rows: int = 0
    ids: int = 0
    """Checksum of the ids."""
    hashes: int = 0
    """Image hashes, each once per run."""
    statuses: Counter[str] = dataclasses.field(default_factory=Counter)
    flagged: int = 0
    origins: Counter[str] = dataclasses.field(default_factory=Counter)
    """Where the answers come from, of the rows for which an earlier catalog was looked into."""
    histogram: npt.NDArray[np.int64] = dataclasses.field(default_factory=empty_histogram)
    """Rows in each cell of the sky, and of the pixel that is nowhere on it."""


def sort_parts(places: Places, part_rows: Sequence[int], spread: TaskRunner, run_rows: int = RUN_ROWS) -> PartTotals:
    """The first pass: parts become runs, and are counted.

    Args:
        places: where the parts are and the runs go.
        part_rows: rows that each part must have, by number.
        spread: runs the tasks.
        run_rows: rows of a run.

    Raises:
        RuntimeError: a part has other rows.
    """
    remove_tree(places.exchange_uri)
    groups = consecutive_groups(part_rows, run_rows)
    items = [
        {"run": run, "parts": list(group), "rows": [part_rows[part] for part in group]}
        for run, group in enumerate(groups)
    ]
    survey = PartTotals(runs=len(items))
    for done in spread(_sort_parts, items, {"places": places}):
        survey.rows += done["rows"]
        survey.ids = (survey.ids + int(done["ids"])) % 2**64
        survey.hashes += done["hashes"]
        survey.statuses.update(json.loads(done["statuses"]))
        survey.flagged += done["flagged"]
        survey.origins.update(json.loads(done["origins"]))
        survey.histogram[np.frombuffer(done["cells"], np.int32)] += np.frombuffer(done["counts"], np.int32)
    return survey


def run_tasks(
    task: Callable[..., pa.Table], items: Sequence[Mapping[str, Any]], keywords: Mapping[str, Any]
) -> Iterable[dict[str, Any]]:
    """A `TaskRunner`: one Ray task for each item, on a CPU of its own, so that no more of them hold rows than CPUs."""
    if not items:
        return []
    dataset = ray.data.from_items([dict(item) for item in items], override_num_blocks=len(items))
    tasks = dataset.map_batches(task, fn_kwargs=dict(keywords), batch_size=None, batch_format="pyarrow", num_cpus=1)
    rows: Iterable[dict[str, Any]] = tasks.iter_rows()
    return rows


def _sort_parts(group: pa.Table, places: Places) -> pa.Table:
    """A task of the first pass: some parts become one run of rows and one of hashes."""
    (item,) = group.to_pylist()
    tables = all_at_once(
        lambda part: read_part(pa.table({"index": [part]}), places.parts_uri).drop_columns(["_chunk"]), item["parts"]
    )
    for part, table, wanted in zip(item["parts"], tables, item["rows"], strict=True):
        if len(table) != wanted:
            raise RuntimeError(
                f"part {part} of {without_secrets(places.parts_uri)} has {len(table)} rows, not {wanted}; "
                "nothing was published"
            )
    origins = sum((Counter(origins_of(table)) for table in tables), Counter())
    rows = pa.concat_tables(tables)
    del tables
    rows = rows.append_column(KEY, pa.array(row_keys(rows)))
    rows = rows.sort_by([(KEY, "ascending"), ("object_id", "ascending")])
    write_run(rows, KEY, places.run(item["run"]))
    hashes, counts = np.unique(rows[HASH].drop_null().to_numpy(), return_counts=True)
    write_run(pa.table({HASH: hashes.astype(np.int64), "rows": counts}), HASH, places.hashes(item["run"]))
    cells, in_cells = cells_of(rows[KEY].to_numpy())
    statuses = {entry["values"]: entry["counts"] for entry in pc.value_counts(rows["status"]).to_pylist()}
    return pa.table(
        {
            "rows": [len(rows)],
            "ids": [str(ids_checksum(id_hashes(rows["object_id"])))],
            "hashes": [len(hashes)],
            "statuses": [json.dumps(statuses)],
            "origins": [json.dumps(origins)],
            "flagged": [pc.sum(rows["needs_review"]).as_py() or 0],
            "cells": pa.array([cells.tobytes()], pa.large_binary()),
            "counts": pa.array([in_cells.tobytes()], pa.large_binary()),
        }
    )
