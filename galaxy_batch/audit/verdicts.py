"""The verdicts of an audit: which rows people looked at, what they say, and how probable it was to draw each row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.audit.config import AuditConfig
from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.errors import InputError
from galaxy_batch.review_queue.queue import ARTIFACT, NoSuchQueueError, ReviewQueue, queue_of_catalog
from galaxy_batch.reviewed_objects import read_reviewed, verdicts_folder

__all__ = ["AuditVerdicts", "read_verdicts", "verdicts_uri"]

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
    return config.verdicts_uri or verdicts_folder(config.catalog_uri)


def read_verdicts(config: AuditConfig, manifest: CatalogManifest) -> AuditVerdicts:
    """Read the merged verdicts, and the queue that they belong to.

    Raises:
        InputError: there are none, or they are of several queues.
    """
    uri = verdicts_uri(config)
    reviewed = read_reviewed(uri)
    table = reviewed.rows
    if table["object_id"].type != manifest.id_type:
        remedy = (
            f"object_id is {table['object_id'].type} there and {manifest.id_type} in the catalog: of another catalog"
        )
        raise InputError("verdicts_uri", uri, remedy)
    left_out = {}
    same = pc.and_(pc.equal(table["release"], manifest.release), pc.equal(table["model_id"], manifest.model_id))
    table, left_out["of another catalog"] = _kept(table, same)
    classes = pc.unique(table["reviewed_class"].drop_null()).to_pylist()
    unknown = sorted(set(classes) - {*manifest.classes, ARTIFACT})
    if unknown:
        raise InputError("verdicts_uri", uri, f"the catalog has no class {unknown[0]!r}")
    queue = _queue(config, manifest, reviewed.record.get("queues", []))
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


def _kept(table: pa.Table, mask: pa.ChunkedArray) -> tuple[pa.Table, int]:
    """The rows where the mask is true, and how many are not."""
    kept = table.filter(pc.fill_null(mask, False))
    return kept, len(table) - len(kept)


def _queue(config: AuditConfig, manifest: CatalogManifest, names: Sequence[str]) -> ReviewQueue | None:
    """The queue of the verdicts; None where its folder is not there."""
    if config.queue is None and len(names) > 1:
        raise InputError("queue", None, f"the verdicts are of several queues: name one of {', '.join(sorted(names))}")
    for name in [config.queue] if config.queue is not None else names:
        try:
            return queue_of_catalog(config.catalog_uri, name, manifest)
        except NoSuchQueueError as error:
            if name == config.queue:
                raise InputError("queue", name, str(error)) from None
    return None


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
