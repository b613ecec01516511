"""An earlier catalog matched to a manifest by id: its answers in the manifest's order, so that a chunk finds its own.

::

    earlier catalog ──> runs by id ┐
                                   ├─> joined on id, a range at a time ──> runs by chunk ──> files by chunk
    manifest's ids ───> runs by id ┘

A catalog is ordered as its sky is, a manifest as it came, and objects may have moved from one to the other: so it is
the ids that are joined, by an external sort (see `exchange`) through files on the output's own store. A task holds some
two million answers, of about 60 bytes each. Every answer is written three times before the first cutout is fetched:
next to its cutout that is nothing, and a chunk then gets its answers with one read.

Each file of the earlier catalog is held against its checksum as it is read.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxy_batch.catalog.files import RowFile
from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError, without_secrets
from galaxy_batch.ids import id_hashes
from galaxy_batch.inputs.manifest import Manifest, read_ids
from galaxy_batch.reuse.predictions import Answers, read_answers, write_answers
from galaxy_batch.reuse.previous import PreviousCatalog
from galaxy_batch.rows import BLANK_FRACTION, CHUNK, MODEL_COLUMNS, ReviewFlag, Status, probability_columns
from galaxy_batch.runtime.tasks import TaskRunner
from galaxy_batch.storage.files import join, read_bytes, remove_tree
from galaxy_batch.storage.sorted_runs import RUN_ROWS, consecutive_groups, read_between, write_run
from galaxy_batch.storage.threads import map_in_threads

__all__ = ["gather_answers"]

_KEY = "_key"
_LOWEST_KEY, _HIGHEST_KEY = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class _Runs:
    """The runs on the way, by step: `earlier`, `ids`, `joined`."""

    folder_uri: str

    def uri(self, step: str, number: int) -> str:
        return join(self.folder_uri, step, f"run-{number:06d}.arrow")

    def between(self, step: str, runs: int, key: str, low: int, last: int) -> pa.Table:
        """The rows of a range of keys, of all runs of a step."""
        uris = [self.uri(step, run) for run in range(runs)]
        return pa.concat_tables(map_in_threads(lambda uri: read_between(uri, key, low, last), uris))

    def write_by_id(self, rows: pa.Table, step: str, number: int) -> None:
        rows = rows.append_column(_KEY, pa.array(id_hashes(rows["object_id"]).view(np.int64)))
        write_run(rows.sort_by(_KEY), _KEY, self.uri(step, number))


def gather_answers(
    earlier: PreviousCatalog,
    manifest: Manifest,
    config: ManifestConfig,
    folder_uri: str,
    spread: TaskRunner,
    run_rows: int = RUN_ROWS,
) -> Answers:
    """Bring the answers of an earlier catalog into the order of a manifest; what a stopped run has finished stays.

    Args:
        earlier: whose answers.
        manifest: in whose order.
        config: how the manifest is read.
        folder_uri: gets the answers.
        spread: runs the tasks.
        run_rows: rows of a run.

    Raises:
        InputError: a file of the earlier catalog is not what its `manifest.json` says.
    """
    gathered = read_answers(folder_uri)
    if gathered is not None and gathered.earlier_id == earlier.content_id:
        return gathered
    remove_tree(folder_uri)
    runs = _Runs(folder_uri)
    chunks = consecutive_groups([chunk.rows for chunk in manifest.chunks], run_rows)
    earlier_runs = _sort_earlier(earlier, runs, spread, run_rows)
    tasks = [{"run": run, "chunks": [manifest.chunks[c].as_item() for c in group]} for run, group in enumerate(chunks)]
    list(spread(_sort_ids, tasks, {"runs": runs, "config": config}))
    shares = _even_shares(-(-(earlier.rows + manifest.rows) // (2 * run_rows)))
    sizes = {"earlier_runs": earlier_runs, "id_runs": len(chunks)}
    known = sum(done["known"] for done in spread(_join_share, shares, {"runs": runs, **sizes}))
    answers = Answers(
        folder_uri=folder_uri,
        catalog_uri=without_secrets(earlier.catalog_uri),
        earlier_id=earlier.content_id,
        vanished=earlier.rows - known,
        first_chunks=tuple(group.start for group in chunks),
    )
    tasks = [{"file": file, "low": group.start, "last": group.stop - 1} for file, group in enumerate(chunks)]
    list(spread(_order_by_chunk, tasks, {"runs": runs, "joined_runs": len(shares), "answers": answers}))
    for step in ("earlier", "ids", "joined"):
        remove_tree(join(folder_uri, step))
    write_answers(answers)
    return answers


def _sort_earlier(earlier: PreviousCatalog, runs: _Runs, spread: TaskRunner, run_rows: int) -> int:
    """The earlier catalog becomes runs; how many."""
    groups = consecutive_groups([file.rows for file in earlier.files], run_rows)
    tasks = [{"run": run, "files": [asdict(earlier.files[f]) for f in group]} for run, group in enumerate(groups)]
    about = {"runs": runs, "catalog_uri": earlier.catalog_uri, "classes": earlier.classes}
    for done in spread(_sort_answers, tasks, about):
        if done["problem"] is not None:
            remedy = f"has changed since it was verified, so nothing is taken from it: {done['problem']}"
            raise InputError("reuse_from", earlier.catalog_uri, remedy)
    return len(groups)


def _sort_answers(group: pa.Table, runs: _Runs, catalog_uri: str, classes: Sequence[str]) -> pa.Table:
    """A task: some files of the earlier catalog become one run, sorted by the ids' hashes."""
    (item,) = group.to_pylist()
    taken = [*probability_columns(classes), *MODEL_COLUMNS]
    columns = ["object_id", "image_hash", "status", "review_flags", *taken]
    found = map_in_threads(lambda file: _read_file(catalog_uri, RowFile(**file), columns), item["files"])
    problems = [file for file in found if isinstance(file, str)]
    if problems:
        return pa.table({"problem": [problems[0]]})
    rows = pa.concat_tables(found)
    flags = rows["review_flags"].to_numpy()
    usable = pc.equal(rows["status"], str(Status.OK))
    answers = {
        "object_id": rows["object_id"],
        "image_hash": pc.if_else(usable, rows["image_hash"], None),
        **{name: rows[name] for name in taken},
        # Not the share itself, which no catalog keeps, but on the same side of the limit, which is the same.
        BLANK_FRACTION: pa.array(np.where(flags & ReviewFlag.BLANK, np.float32(1), np.float32(0))),
    }
    runs.write_by_id(pa.table(answers), "earlier", item["run"])
    return pa.table({"problem": pa.array([None], pa.string())})


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
    """A task: the ids of some chunks become one run, sorted by their hashes."""
    (item,) = group.to_pylist()
    ids = map_in_threads(lambda chunk: read_ids(pa.Table.from_pylist([chunk]), config), item["chunks"])
    numbers = np.repeat([chunk["index"] for chunk in item["chunks"]], [len(column) for column in ids]).astype(np.int64)
    column = pa.chunked_array([piece for column in ids for piece in column.chunks])
    runs.write_by_id(pa.table({"object_id": column, CHUNK: numbers}), "ids", item["run"])
    return pa.table({"rows": [len(numbers)]})


def _even_shares(count: int) -> list[dict[str, int]]:
    """Even shares of the ids' hashes, which are even over their range."""
    starts = [_LOWEST_KEY + share * 2**64 // count for share in range(count)]
    lasts = [start - 1 for start in starts[1:]] + [_HIGHEST_KEY]
    return [{"run": run, "low": low, "last": last} for run, (low, last) in enumerate(zip(starts, lasts, strict=True))]


def _join_share(share: pa.Table, runs: _Runs, earlier_runs: int, id_runs: int) -> pa.Table:
    """A task: the answers of a share of the ids meet the chunks that their objects are in now; one run, by chunk."""
    (item,) = share.to_pylist()
    ids, answers = (
        runs.between(step, count, _KEY, item["low"], item["last"]).drop_columns([_KEY])
        for step, count in (("ids", id_runs), ("earlier", earlier_runs))
    )
    joined = ids.join(answers, "object_id", join_type="inner")
    write_run(joined.sort_by(CHUNK), CHUNK, runs.uri("joined", item["run"]))
    return pa.table({"known": [len(joined)]})


def _order_by_chunk(group: pa.Table, runs: _Runs, joined_runs: int, answers: Answers) -> pa.Table:
    """A task: all answers of some chunks become one file, by chunk."""
    (item,) = group.to_pylist()
    rows = runs.between("joined", joined_runs, CHUNK, item["low"], item["last"])
    write_run(rows.sort_by(CHUNK), CHUNK, answers.file(item["file"]))
    return pa.table({"rows": [len(rows)]})
