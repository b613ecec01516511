"""The folder of a review queue: its table, its record, and what a person may answer.

::

    review/<name>/           beside the catalog
        queue.parquet        one row a galaxy, in the order to look at
        pictures/000/        their cutouts: 00001.jpg is the galaxy at position 1
        index.html           the page to look at them
        queue.json           written last: without it there is no queue
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.errors import InputError
from galaxy_batch.review_queue.config import FOLDER_NAME
from galaxy_batch.rows import CATALOG_COLUMNS, IMAGE_URI_COLUMN, catalog_schema, column_metadata, probability_columns
from galaxy_batch.storage.files import (
    beside,
    join,
    parquet_bytes,
    read_bytes,
    without_secrets,
    write_atomically,
    write_json,
)

__all__ = [
    "ARTIFACT",
    "QUEUE",
    "UNSURE",
    "NoSuchQueueError",
    "ReviewQueue",
    "catalog_entry",
    "queue_of_catalog",
    "queue_schema",
    "queue_uri",
    "read_queue",
    "verdict_names",
    "write_queue",
]

QUEUE = "queue.json"
FORMAT = 1
ARTIFACT = "artifact"
"""Verdict: the cutout does not show a galaxy. A catalog may have a class of this name, which means the same."""
UNSURE = "unsure"
"""Verdict: looked at, and not decided."""

_TABLE = "queue.parquet"


class NoSuchQueueError(LookupError):
    """A catalog has no queue of a name; the text says why."""


@dataclass(frozen=True)
class ReviewQueue:
    """A review queue as it is in its folder."""

    uri: str
    """Its folder."""
    record: dict[str, Any]
    """Content of `queue.json`."""
    rows: pa.Table
    """As `queue_schema`, sorted by `position`."""

    @property
    def name(self) -> str:
        """Of the queue; that of its folder unless that was renamed."""
        return str(self.record["name"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the catalog, in the checkpoint's order."""
        return tuple(self.record["classes"])

    @property
    def verdicts(self) -> tuple[str, ...]:
        """What a person may answer: the classes, then `artifact` and `unsure`."""
        return tuple(self.record["verdicts"])


def queue_uri(catalog_uri: str, name: str) -> str:
    """The folder of a queue, beside its catalog."""
    return beside(catalog_uri, "review", name)


def verdict_names(classes: Sequence[str]) -> list[str]:
    """What a person may answer about a galaxy of a catalog with these classes.

    Raises:
        InputError: a class is called `unsure`, which a verdict could not be told from.
    """
    if UNSURE in classes:
        raise InputError("catalog_uri", UNSURE, "a class of this catalog has the name of a verdict without a class")
    return [*classes, *(name for name in (ARTIFACT, UNSURE) if name not in classes)]


def queue_schema(id_type: pa.DataType, classes: Sequence[str], image_uri: bool = False) -> pa.Schema:
    """Columns of `queue.parquet`.

    Args:
        id_type: int64 or string, as the catalog has it.
        classes: of the catalog.
        image_uri: whether the catalog has the location of each cutout.
    """
    known = {column.name: column for column in CATALOG_COLUMNS}
    of_catalog, uri = catalog_schema(id_type, classes), IMAGE_URI_COLUMN

    def described(name: str, kind: pa.DataType, description: str) -> pa.Field:
        return pa.field(name, kind, metadata={"description": description})

    names = ["predicted_class", "confidence", *probability_columns(classes), "review_flags", "ra", "dec", "image_hash"]
    return pa.schema(
        [
            described("position", pa.int32(), "Place in the order to look at, from 1"),
            pa.field("object_id", id_type, metadata=column_metadata(known["object_id"])),
            described("reason", pa.string(), "Why the galaxy was drawn: names of flags and of draws, joined by '; '"),
            described("inclusion_probability", pa.float64(), "Probability that the galaxy gets into such a queue"),
            *(of_catalog.field(name) for name in names),
            described("picture", pa.string(), "Path of the picture below the queue's folder; null where there is none"),
            described("picture_error", pa.string(), "Why there is no picture, or what is wrong with it"),
            *([pa.field(uri.name, uri.type, metadata=column_metadata(uri))] if image_uri else []),
        ]
    )


def catalog_entry(catalog_uri: str, manifest: CatalogManifest) -> dict[str, Any]:
    """Which catalog a queue was drawn from, as its record has it."""
    return {
        "catalog_uri": without_secrets(catalog_uri),
        "release": manifest.release,
        "model_id": manifest.model_id,
        "run_id": manifest.run_id,
        "fingerprint": manifest.fingerprint,
        "rows": manifest.rows,
    }


def write_queue(queue: ReviewQueue) -> None:
    """Write the table, then the record, which makes the folder a queue."""
    write_atomically(join(queue.uri, _TABLE), parquet_bytes(queue.rows))
    write_json(join(queue.uri, QUEUE), {"format": FORMAT, **queue.record})


def read_queue(uri: str, field: str = "queue") -> ReviewQueue | None:
    """The queue in a folder; None where there is none.

    Args:
        uri: the folder.
        field: the setting that names the queue, for the error.

    Raises:
        InputError: it is damaged, or of a format that this version does not read.
    """
    try:
        content = read_bytes(join(uri, QUEUE))
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        record = json.loads(content)
        form = record.get("format")
        if form != FORMAT:
            raise InputError(field, uri, f"{QUEUE}: its format is {form}; this version reads format {FORMAT}")
        rows = pq.read_table(pa.BufferReader(read_bytes(join(uri, _TABLE))))
        queue = ReviewQueue(uri, {name: value for name, value in record.items() if name != "format"}, rows)
        problem = _damage(queue)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(field, uri, f"is damaged: {without_secrets(str(error))}") from None
    if problem:
        raise InputError(field, uri, f"is damaged: {problem}")
    return queue


def _damage(queue: ReviewQueue) -> str | None:
    """What is wrong with a queue; None where nothing is."""
    record, rows = queue.record, queue.rows
    if len(rows) != record["rows"]:
        return f"{len(rows)} rows, but {QUEUE} says {record['rows']}"
    _ = queue.name, queue.verdicts
    for name, kind in (("catalog", dict), ("settings", dict), ("links", dict), ("draws", list)):
        if not isinstance(record.get(name, kind()), kind):
            return f"{name} in {QUEUE}"
    if any(not {"reason", "population", "probability"} <= set(draw) for draw in record.get("draws", [])):
        return f"draws in {QUEUE}"
    id_type = rows.schema.field("object_id").type
    for column in queue_schema(id_type if id_type == pa.int64() else pa.string(), queue.classes):
        if column.name not in rows.column_names or rows.schema.field(column.name).type != column.type:
            return f"{_TABLE} has no column {column.name} of type {column.type}"
    if len(pc.unique(rows["object_id"])) < len(rows):
        return f"{_TABLE} has an object twice"
    probability = rows["inclusion_probability"]
    valid = pc.and_(pc.greater(probability, 0), pc.less_equal(probability, 1))
    return (
        None if pc.all(pc.fill_null(valid, False), min_count=0).as_py() else "an inclusion probability is not in (0, 1]"
    )


def queue_of_catalog(catalog_uri: str, name: str, manifest: CatalogManifest) -> ReviewQueue:
    """The queue of a name beside a catalog.

    Args:
        catalog_uri: folder of the catalog.
        name: any text, also that of a file of verdicts.
        manifest: of the catalog.

    Raises:
        NoSuchQueueError: there is none, or it was drawn from another catalog.
        InputError: it is damaged.
    """
    queue = read_queue(queue_uri(catalog_uri, name)) if FOLDER_NAME.fullmatch(name) else None
    if queue is None:
        raise NoSuchQueueError("there is no such queue beside the catalog")
    drawn_from = queue.record.get("catalog", {})
    if (drawn_from.get("release"), drawn_from.get("model_id")) != (manifest.release, manifest.model_id):
        raise NoSuchQueueError("was drawn from another catalog")
    if queue.rows["object_id"].type != manifest.id_type:
        raise NoSuchQueueError("its ids are of another type than those of the catalog")
    return queue
