"""The verdicts of an audit: which rows people looked at, what they say, and how probable it was to draw each row."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxy_batch.audit.config import AuditConfig
from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.errors import InputError
from galaxy_batch.review_queue.queue import ReviewQueue, queue_uri, read_queue
from galaxy_batch.storage.files import join, read_bytes

__all__ = ["AuditVerdicts", "read_verdicts", "verdicts_uri"]

_REVIEWED, _VERDICTS = "reviewed.parquet", "verdicts.parquet"
_COLUMNS = ("object_id", "reviewed_class", "reviewed_probability", "inclusion_probability", "release", "model_id")
_GROUP_ROWS = 10  # rows with a verdict that the rate of verdicts of a group is estimated from

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AuditVerdicts:
    """One row for each object that people looked at, of those that count."""

    rows: pa.Table
    """`object_id`, `verdict` (null where undecided), `probability` (of being drawn and looked at)."""
    left_out: Mapping[str, int]
    """Objects that do not count, by reason."""
    queue: ReviewQueue | None
    """None where the folder of the queue is not there."""
    looked_at: int
    """Objects of the queue with a verdict, also `unsure`; of the table where there is no queue."""


def verdicts_uri(config: AuditConfig) -> str:
    """The folder of the imported verdicts."""
    beside = posixpath.dirname(config.catalog_uri.rstrip("/"))
    return config.verdicts_uri or join(beside, "review", "verdicts", "verdicts")


def read_verdicts(config: AuditConfig, manifest: CatalogManifest) -> AuditVerdicts:
    """Read the merged verdicts, and the queue that they belong to.

    Raises:
        InputError: there are none, or they are of several queues.
    """
    uri = verdicts_uri(config)
    table = _table(uri, _REVIEWED, _COLUMNS)
    id_type = pa.string() if manifest.schema["object_id"] == "string" else pa.int64()
    if table["object_id"].type != id_type:
        remedy = f"object_id is {table['object_id'].type} there and {id_type} in the catalog: of another catalog"
        raise InputError("verdicts_uri", uri, remedy)
    left_out = {}
    same = pc.and_(pc.equal(table["release"], manifest.release), pc.equal(table["model_id"], manifest.model_id))
    table, left_out["of another catalog"] = _kept(table, same)
    queue = _queue(config, uri)
    if queue is not None:
        of_queue = pc.is_in(table["object_id"], value_set=queue.rows["object_id"].combine_chunks())
        table, left_out["not of the queue"] = _kept(table, of_queue)
        probability = _drawn_and_looked_at(queue, table)
    else:
        known = pc.and_(pc.greater(table["inclusion_probability"], 0), pc.less_equal(table["inclusion_probability"], 1))
        table, left_out["without an inclusion probability"] = _kept(table, known)
        probability = table["inclusion_probability"].to_numpy().astype(np.float64)
    sure = pc.fill_null(pc.greater(table["reviewed_probability"], config.min_probability), False)
    verdict = pc.if_else(sure, table["reviewed_class"], pa.scalar(None, pa.string()))
    rows = pa.table({"object_id": table["object_id"], "verdict": verdict, "probability": pa.array(probability)})
    return AuditVerdicts(rows, {name: count for name, count in left_out.items() if count}, queue, len(table))


def _table(uri: str, name: str, columns: tuple[str, ...]) -> pa.Table:
    """Columns of a table of the folder."""
    try:
        return pq.read_table(pa.BufferReader(read_bytes(join(uri, name))), columns=list(columns))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError("verdicts_uri", uri, f"no {name} there; import verdicts by import_verdicts") from None
    except (ValueError, OSError) as error:
        raise InputError("verdicts_uri", uri, f"{name} is damaged: {error}") from None


def _kept(table: pa.Table, mask: pa.ChunkedArray) -> tuple[pa.Table, int]:
    """The rows where the mask is true, and how many are not."""
    kept = table.filter(pc.fill_null(mask, False))
    return kept, len(table) - len(kept)


def _queue(config: AuditConfig, uri: str) -> ReviewQueue | None:
    """The queue of the verdicts; None where its folder is not there."""
    if config.queue is not None:
        queue = read_queue(queue_uri(config.catalog_uri, config.queue))
        if queue is None:
            raise InputError("queue", config.queue, "there is no such queue beside the catalog")
        return queue
    names = pc.unique(_table(uri, _VERDICTS, ("queue",))["queue"].drop_null()).to_pylist()
    queues = [read_queue(queue_uri(config.catalog_uri, name)) for name in sorted(names)]
    there = [queue for queue in queues if queue is not None]
    if len(names) > 1:
        remedy = f"the verdicts are of several queues: name one of {', '.join(sorted(names))}"
        raise InputError("queue", None, remedy)
    return there[0] if there else None


def _drawn_and_looked_at(queue: ReviewQueue, table: pa.Table) -> Floats:
    """Probability of each row of the table to be drawn and looked at, ``(N,)``.

    Where only some of the queue has verdicts, the rows that were equally probable to be drawn are taken to have been
    equally probable to be looked at: the queue is shuffled, so that any first part of it is a random part.
    """
    drawn = queue.rows["inclusion_probability"].to_numpy().astype(np.float64)
    place = pc.index_in(table["object_id"], value_set=queue.rows["object_id"].combine_chunks()).to_numpy()
    looked_at = np.zeros(len(drawn), np.bool_)
    looked_at[place] = True
    group = _groups(drawn, looked_at)
    rate = np.bincount(group, looked_at) / np.bincount(group)
    return np.asarray((drawn * rate[group])[place], np.float64)


def _groups(drawn: Floats, looked_at: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Groups of rows with similar probabilities; where all were looked at, one group for each probability."""
    values, place = np.unique(drawn.round(12), return_inverse=True)
    rows = np.bincount(place, looked_at)
    group_of, number, collected, left = np.zeros(len(values), np.int64), 0, 0.0, float(rows.sum())
    for position, count in enumerate(rows.tolist()):
        group_of[position] = number
        collected, left = collected + count, left - count
        if collected >= _GROUP_ROWS and left >= _GROUP_ROWS:
            number, collected = number + 1, 0.0
    return np.asarray(group_of[place], np.int64)
