"""Joins a previous catalog with a manifest by id, and writes its predictions in the order of the manifest's chunks.

::

    previous catalog ──> runs by id ┐
                                    ├─> joined by id, a range of hashes at a time ──> runs by chunk ──> files by chunk
    manifest's ids ────> runs by id ┘

A catalog is ordered by position on the sky and a manifest is not, and positions may have changed between the two: so
this is an external sort by id, through sorted runs in the output's own storage. A task holds about two million rows of
60 bytes, and their embeddings where these are reused. Every row is written three times before the first cutout is
fetched, which is little compared with the cutout; each chunk then needs one read. Every file of the previous catalog is
checked against its checksum when it is read.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxy_batch.catalog.embedding_files import EMBEDDINGS
from galaxy_batch.catalog.files import RowFile
from galaxy_batch.config import ManifestConfig
from galaxy_batch.embeddings import embedding_values, packed_embeddings
from galaxy_batch.errors import InputError, without_secrets
from galaxy_batch.ids import id_hashes
from galaxy_batch.inputs.manifest import Manifest, read_ids
from galaxy_batch.reuse.predictions import PreviousPredictions, read_predictions, write_predictions
from galaxy_batch.reuse.previous import PreviousCatalog
from galaxy_batch.review.flags import PIXEL_FLAGS, pixel_flags
from galaxy_batch.rows import CHUNK, EMBEDDING, Status
from galaxy_batch.runtime.tasks import TaskRunner
from galaxy_batch.storage.files import join, read_bytes, remove_tree
from galaxy_batch.storage.sorted_runs import RUN_ROWS, consecutive_groups, read_all_between, write_run
from galaxy_batch.storage.threads import map_in_threads

__all__ = ["join_previous"]

_KEY = "_key"  # int64: hash of the id
_LOWEST_KEY, _HIGHEST_KEY = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class _Runs:
    """Sorted runs by step: `previous`, `ids`, `joined`."""

    folder_uri: str

    def uri(self, step: str, number: int) -> str:
        return join(self.folder_uri, step, f"run-{number:06d}.arrow")

    def between(self, step: str, runs: int, key: str, low: int, last: int) -> pa.Table:
        """The rows of a range of keys, from all runs of a step."""
        return read_all_between([self.uri(step, run) for run in range(runs)], key, low, last)

    def write_by_id(self, rows: pa.Table, step: str, number: int) -> None:
        rows = rows.append_column(_KEY, pa.array(id_hashes(rows["object_id"]).view(np.int64)))
        write_run(rows.sort_by(_KEY), _KEY, self.uri(step, number))


def join_previous(
    previous: PreviousCatalog,
    manifest: Manifest,
    config: ManifestConfig,
    folder_uri: str,
    task_runner: TaskRunner,
    run_rows: int = RUN_ROWS,
) -> PreviousPredictions:
    """Write the predictions of a previous catalog in the order of a manifest, unless an interrupted run has done it.

    Args:
        previous: the previous catalog.
        manifest: the manifest that gives the order.
        config: how the manifest is read.
        folder_uri: where the predictions are written.
        task_runner: runs the tasks.
        run_rows: rows of a sorted run.

    Raises:
        InputError: a file of the previous catalog differs from its entry in `manifest.json`.
    """
    complete = read_predictions(folder_uri)
    if complete is not None and complete.content_id == previous.content_id:
        return complete
    remove_tree(folder_uri)
    runs = _Runs(folder_uri)
    chunks = consecutive_groups([chunk.rows for chunk in manifest.chunks], run_rows)
    previous_runs = _sort_previous(previous, runs, task_runner, run_rows)
    tasks = [{"run": run, "chunks": [manifest.chunks[c].as_item() for c in group]} for run, group in enumerate(chunks)]
    list(task_runner(_sort_ids, tasks, {"runs": runs, "config": config}))
    ranges = _hash_ranges(-(-(previous.rows + manifest.rows) // (2 * run_rows)))
    sizes = {"previous_runs": previous_runs, "id_runs": len(chunks)}
    matched = sum(done["matched"] for done in task_runner(_join_range, ranges, {"runs": runs, **sizes}))
    predictions = PreviousPredictions(
        folder_uri=folder_uri,
        catalog_uri=without_secrets(previous.catalog_uri),
        content_id=previous.content_id,
        vanished=previous.rows - matched,
        first_chunks=tuple(group.start for group in chunks),
    )
    tasks = [{"file": file, "low": group.start, "last": group.stop - 1} for file, group in enumerate(chunks)]
    list(task_runner(_sort_by_chunk, tasks, {"runs": runs, "joined_runs": len(ranges), "predictions": predictions}))
    for step in ("previous", "ids", "joined"):
        remove_tree(join(folder_uri, step))
    write_predictions(predictions)
    return predictions


def _sort_previous(previous: PreviousCatalog, runs: _Runs, task_runner: TaskRunner, run_rows: int) -> int:
    """Write the previous catalog as runs; their number."""
    groups = consecutive_groups([file.rows for file in previous.files], run_rows)
    files = [
        {"rows": asdict(file), "embeddings": asdict(previous.embeddings[file.path]) if previous.embeddings else None}
        for file in previous.files
    ]
    tasks = [{"run": run, "files": [files[f] for f in group]} for run, group in enumerate(groups)]
    keywords = {"runs": runs, "catalog_uri": previous.catalog_uri, "reused": previous.predictions}
    for done in task_runner(_sort_predictions, tasks, keywords):
        if done["problem"] is not None:
            remedy = f"has changed since it was verified, so nothing is reused: {done['problem']}"
            raise InputError("reuse_from", previous.catalog_uri, remedy)
    return len(groups)


def _sort_predictions(group: pa.Table, runs: _Runs, catalog_uri: str, reused: Sequence[str]) -> pa.Table:
    """A task: write the predictions of some files of the previous catalog as one run, sorted by hashes of the ids."""
    (item,) = group.to_pylist()
    columns = ["object_id", "image_hash", "status", "review_flags", *reused]
    tables = map_in_threads(lambda files: _read_files(catalog_uri, files, columns), item["files"])
    problems = [table for table in tables if isinstance(table, str)]
    if problems:
        return pa.table({"problem": [problems[0]]})
    rows = pa.concat_tables(tables)
    usable = pc.equal(rows["status"], str(Status.OK))
    predictions = {
        "object_id": rows["object_id"],
        "image_hash": pc.if_else(usable, rows["image_hash"], None),
        **{name: rows[name] for name in (*reused, EMBEDDING) if name in rows.column_names},
        PIXEL_FLAGS: pc.bit_wise_and(rows["review_flags"], pa.scalar(sum(pixel_flags()), pa.int32())),
    }
    runs.write_by_id(pa.table(predictions), "previous", item["run"])
    return pa.table({"problem": pa.array([None], pa.string())})


def _read_files(catalog_uri: str, files: Mapping[str, Any], columns: list[str]) -> pa.Table | str:
    """As `_read_file`, with the embeddings of the rows, where there is a file of them."""
    rows = _read_file(catalog_uri, RowFile(**files["rows"]), columns)
    if files["embeddings"] is None or isinstance(rows, str):
        return rows
    embeddings = _read_file(catalog_uri, RowFile(**files["embeddings"]), [EMBEDDINGS])
    if isinstance(embeddings, str):
        return embeddings
    return rows.append_column(EMBEDDING, packed_embeddings(*embedding_values(embeddings[EMBEDDINGS])))


def _read_file(catalog_uri: str, file: RowFile, columns: list[str]) -> pa.Table | str:
    """Rows of a file whose checksum is as listed; else what is wrong with it."""
    try:
        content = read_bytes(join(catalog_uri, file.path))
    except FileNotFoundError:
        return f"{file.path} is missing"
    if hashlib.sha256(content).hexdigest() != file.sha256:
        return f"{file.path}: its content has changed (sha256)"
    return pq.read_table(io.BytesIO(content), columns=columns).replace_schema_metadata(None)


def _sort_ids(group: pa.Table, runs: _Runs, config: ManifestConfig) -> pa.Table:
    """A task: write the ids of some chunks as one run, sorted by their hashes."""
    (item,) = group.to_pylist()
    ids = map_in_threads(lambda chunk: read_ids(pa.Table.from_pylist([chunk]), config), item["chunks"])
    numbers = np.repeat([chunk["index"] for chunk in item["chunks"]], [len(column) for column in ids]).astype(np.int64)
    column = pa.chunked_array([piece for column in ids for piece in column.chunks])
    runs.write_by_id(pa.table({"object_id": column, CHUNK: numbers}), "ids", item["run"])
    return pa.table({"rows": [len(numbers)]})


def _hash_ranges(count: int) -> list[dict[str, int]]:
    """Equal ranges of the ids' hashes, which are uniform."""
    starts = [_LOWEST_KEY + number * 2**64 // count for number in range(count)]
    lasts = [start - 1 for start in starts[1:]] + [_HIGHEST_KEY]
    return [{"run": run, "low": low, "last": last} for run, (low, last) in enumerate(zip(starts, lasts, strict=True))]


def _join_range(hash_range: pa.Table, runs: _Runs, previous_runs: int, id_runs: int) -> pa.Table:
    """A task: join the predictions in a range of hashes with the chunks of their objects; one run, sorted by chunk."""
    (item,) = hash_range.to_pylist()
    ids, predictions = (
        runs.between(step, count, _KEY, item["low"], item["last"]).drop_columns([_KEY])
        for step, count in (("ids", id_runs), ("previous", previous_runs))
    )
    joined = ids.join(predictions, "object_id", join_type="inner")
    write_run(joined.sort_by(CHUNK), CHUNK, runs.uri("joined", item["run"]))
    return pa.table({"matched": [len(joined)]})


def _sort_by_chunk(group: pa.Table, runs: _Runs, joined_runs: int, predictions: PreviousPredictions) -> pa.Table:
    """A task: write all predictions for some chunks as one file, sorted by chunk."""
    (item,) = group.to_pylist()
    rows = runs.between("joined", joined_runs, CHUNK, item["low"], item["last"])
    write_run(rows.sort_by(CHUNK), CHUNK, predictions.file(item["file"]))
    return pa.table({"rows": [len(rows)]})
