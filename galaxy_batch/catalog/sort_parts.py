"""The first pass of a publication: the rows of the parts are counted, and sorted by their position on the sky.

::

    parts ─> sort_parts ┬─> runs of rows and runs of image hashes (see `storage.sorted_runs`)
                        └─> PartTotals: counts, rows per cell of the sky

A task holds about three times the rows of a run (a million), however large the survey is.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from galaxy_batch.catalog.counts import CatalogCounts, count_rows, total_counts
from galaxy_batch.catalog.id_index import sampled_ids
from galaxy_batch.catalog.layout import Layout
from galaxy_batch.catalog.parts import origins_of, read_part
from galaxy_batch.errors import without_secrets
from galaxy_batch.rows import CHUNK, EMPTY_FRACTION
from galaxy_batch.runtime.progress import with_progress
from galaxy_batch.runtime.tasks import TaskRunner
from galaxy_batch.sky.healpix import cells_of, empty_histogram, row_keys
from galaxy_batch.storage.files import remove_tree
from galaxy_batch.storage.sorted_runs import RUN_ROWS, consecutive_groups, write_run
from galaxy_batch.storage.threads import map_in_threads

__all__ = ["HASH", "KEY", "PartTotals", "sort_parts"]

KEY = "_key"
"""Column by which the runs of rows are sorted: the cell of the sky, see `healpix.row_keys`."""
HASH = "image_hash"
"""Column by which the runs of hashes are sorted."""


@dataclasses.dataclass
class PartTotals:
    """What the first pass counted in all parts."""

    runs: int
    counts: CatalogCounts
    """REPEATED_IMAGE is not set yet, and not counted."""
    hashes: int = 0
    """Image hashes, each once per run."""
    origins: Counter[str] = dataclasses.field(default_factory=Counter)
    """Rows by `Origin`; none where no previous catalog is used."""
    failures: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    """Rows without a class by `status` and `error`; only of cutouts from tiles, where few errors have many rows."""
    histogram: npt.NDArray[np.int64] = dataclasses.field(default_factory=empty_histogram)
    """Rows in each cell of the sky, and last those without a position."""
    sampled_ids: list[Any] = dataclasses.field(default_factory=list)
    """A few ids, evenly distributed among all."""


def sort_parts(
    layout: Layout, part_rows: Sequence[int], task_runner: TaskRunner, run_rows: int = RUN_ROWS
) -> PartTotals:
    """Sort the parts into runs, and count their rows.

    Args:
        layout: where the parts are and the runs go.
        part_rows: rows that each part must have, by number.
        task_runner: runs the tasks.
        run_rows: rows of a run.

    Raises:
        RuntimeError: a part has another number of rows.
    """
    remove_tree(layout.sorted_runs)
    groups = consecutive_groups(part_rows, run_rows)
    items = [
        {"run": run, "parts": list(group), "rows": [part_rows[part] for part in group]}
        for run, group in enumerate(groups)
    ]
    counts = []
    totals = PartTotals(len(items), total_counts([]))
    tasks = task_runner(_sort_run, items, {"layout": layout})
    for done in with_progress(tasks, "sorting", sum(part_rows), lambda done: int(done["rows"])):
        counts.append(CatalogCounts(**json.loads(done["counts"])))
        totals.hashes += done["hashes"]
        totals.origins.update(json.loads(done["origins"]))
        totals.failures.update({(status, error): rows for status, error, rows in json.loads(done["failures"])})
        totals.sampled_ids += done["sampled_ids"]
        totals.histogram[np.frombuffer(done["cells"], np.int32)] += np.frombuffer(done["cell_rows"], np.int32)
    totals.counts = total_counts(counts)
    return totals


def _sort_run(group: pa.Table, layout: Layout) -> pa.Table:
    """A task: some parts become one run of rows and one run of hashes."""
    (item,) = group.to_pylist()
    tables = map_in_threads(
        lambda part: read_part(pa.table({"index": [part]}), layout.parts).drop_columns([CHUNK]), item["parts"]
    )
    for part, table, expected in zip(item["parts"], tables, item["rows"], strict=True):
        if len(table) != expected:
            raise RuntimeError(
                f"part {part} of {without_secrets(layout.parts)} has {len(table)} rows, not {expected}; "
                "nothing was published"
            )
    origins = sum((Counter(origins_of(table)) for table in tables), Counter())
    rows = pa.concat_tables(tables)
    del tables
    rows = rows.append_column(KEY, pa.array(row_keys(rows)))
    rows = rows.sort_by([(KEY, "ascending"), ("object_id", "ascending")])
    write_run(rows, KEY, layout.sorted_rows(item["run"]))
    hashes, times = np.unique(rows[HASH].drop_null().to_numpy(), return_counts=True)
    write_run(pa.table({HASH: hashes.astype(np.int64), "rows": times}), HASH, layout.sorted_hashes(item["run"]))
    cells, cell_rows = cells_of(rows[KEY].to_numpy())
    return pa.table(
        {
            "rows": [len(rows)],
            "counts": [json.dumps(dataclasses.asdict(count_rows(rows)))],
            "hashes": [len(hashes)],
            "origins": [json.dumps(origins)],
            "failures": [json.dumps(_failures(rows))],
            "sampled_ids": pa.array([sampled_ids(rows).to_pylist()], pa.list_(rows.schema.field("object_id").type)),
            "cells": pa.array([cells.tobytes()], pa.large_binary()),
            "cell_rows": pa.array([cell_rows.tobytes()], pa.large_binary()),
        }
    )


def _failures(rows: pa.Table) -> list[tuple[str, str, int]]:
    """Status, error and number of rows without a class, of cutouts from tiles."""
    if EMPTY_FRACTION.name not in rows.column_names:
        return []
    failed = rows.select(["status", "error"]).filter(rows["error"].is_valid())
    counts = Counter(zip(*(failed[name].to_pylist() for name in ("status", "error")), strict=True))
    return [(status, error, number) for (status, error), number in counts.items()]
