"""Tables of verdicts in their folder, and how the other walks read them.

::

    review/verdicts/<name>/    beside the catalog
        verdicts.parquet       one row a person and object
        reviewed.parquet       one row an object: the merged verdict
        rejected.parquet       records that gave no verdict, each with the reason
        import.json            written last: without it the import did not finish
"""

import hashlib
import json
import posixpath
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from galaxy_batch.errors import InputError
from galaxy_batch.storage.files import join, parquet_bytes, read_bytes, remove_tree, write_atomically, write_json

__all__ = [
    "REVIEWED",
    "REVIEWED_COLUMNS",
    "ReviewedObjects",
    "key_uri",
    "read_import",
    "read_reviewed",
    "rejected_schema",
    "reviewed_schema",
    "verdicts_folder",
    "verdicts_schema",
    "write_tables",
]

REVIEWED = "reviewed.parquet"
REVIEWED_COLUMNS = {
    "reviewed_class": "Class by the verdicts of people, or artifact; null without a decision",
    "reviewed_by": "Who gave the verdicts, joined by ;",
}
"""Columns that exports join to a catalog, with their descriptions."""

_VERDICTS, _REJECTED, _IMPORT = "verdicts.parquet", "rejected.parquet", "import.json"
_FORMAT = 1
_TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class ReviewedObjects:
    """The merged verdicts of one import."""

    uri: str
    """Of the file."""
    rows: pa.Table
    """As `reviewed_schema`."""
    sha256: str
    record: dict[str, Any]
    """Content of `import.json`; empty where the file is alone."""


def verdicts_folder(catalog_uri: str, name: str) -> str:
    """The folder of verdict tables, beside their catalog."""
    return join(posixpath.dirname(catalog_uri.rstrip("/")), "review", "verdicts", name)


def key_uri(catalog_uri: str) -> str:
    """The key of the pseudonyms: above the tables, so that a table can be published without it."""
    return join(posixpath.dirname(verdicts_folder(catalog_uri, "")), "pseudonyms.key")


def verdicts_schema(id_type: pa.DataType) -> pa.Schema:
    """Columns of `verdicts.parquet`."""
    return pa.schema(
        [
            ("object_id", id_type),
            ("verdict", pa.string()),
            ("reviewer", pa.string()),
            ("time", _TIME),
            ("source", pa.string()),
            ("queue", pa.string()),
            ("release", pa.string()),
            ("model_id", pa.string()),
            ("inclusion_probability", pa.float64()),
            ("reason", pa.string()),
        ]
    )


def reviewed_schema(id_type: pa.DataType) -> pa.Schema:
    """Columns of `reviewed.parquet`."""
    return pa.schema(
        [
            ("object_id", id_type),
            ("reviewed_class", pa.string()),
            ("reviewed_probability", pa.float64()),
            ("verdicts", pa.int32()),
            ("reviewed_by", pa.string()),
            ("reviewed_at", _TIME),
            ("inclusion_probability", pa.float64()),
            ("reason", pa.string()),
            ("release", pa.string()),
            ("model_id", pa.string()),
        ]
    )


def rejected_schema() -> pa.Schema:
    """Columns of `rejected.parquet`; `record` is the line of a CSV, or the number of an annotation from 1."""
    return pa.schema(
        [
            ("file", pa.string()),
            ("record", pa.int64()),
            ("object_id", pa.string()),
            ("problem", pa.string()),
            ("reason", pa.string()),
            ("content", pa.string()),
        ]
    )


def write_tables(
    folder: str, verdicts: pa.Table, reviewed: pa.Table, rejected: pa.Table, record: dict[str, Any]
) -> None:
    """Write the tables of an import, then its record; while they are replaced, there is no record."""
    remove_tree(join(folder, _IMPORT))
    for name, table in ((_VERDICTS, verdicts), (REVIEWED, reviewed), (_REJECTED, rejected)):
        write_atomically(join(folder, name), parquet_bytes(table))
    write_json(join(folder, _IMPORT), {"format": _FORMAT, **record})


def read_import(folder: str, field: str = "verdicts_uri") -> dict[str, Any] | None:
    """The record of an import; None where there is none.

    Raises:
        InputError: it is damaged, or of a format that this version does not read.
    """
    try:
        record = json.loads(read_bytes(join(folder, _IMPORT)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise InputError(field, folder, f"{_IMPORT} is damaged: not JSON") from None
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        form = record.get("format") if isinstance(record, dict) else None
        raise InputError(field, folder, f"{_IMPORT}: its format is {form}; this version reads format {_FORMAT}")
    return record


def read_reviewed(uri: str, field: str = "verdicts_uri") -> ReviewedObjects:
    """The merged verdicts of a folder of verdict tables, or of a `reviewed.parquet`.

    Args:
        uri: the folder, or a file that ends in `.parquet`.
        field: the setting that names it, for the error.

    Raises:
        InputError: there are none, they are damaged, or an object is in them twice.
    """
    record: dict[str, Any] = {}
    if not uri.endswith(".parquet"):
        of_folder = read_import(uri, field)
        if of_folder is None:
            raise InputError(field, uri, f"holds no verdicts of jobs.import_verdicts: no {_IMPORT}")
        record, uri = of_folder, join(uri, REVIEWED)
    try:
        content = read_bytes(uri)
        rows = pq.read_table(pa.BufferReader(content))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(field, uri, "no such file") from None
    except pa.ArrowInvalid as error:
        raise InputError(field, uri, f"is not a Parquet file: {error}") from None
    id_type = rows.schema.field("object_id").type if "object_id" in rows.column_names else None
    if id_type not in (pa.int64(), pa.string()):
        raise InputError(field, uri, "has no column object_id of integers or texts: is not a table of merged verdicts")
    missing = [name for name in reviewed_schema(id_type).names if name not in rows.column_names]
    if missing:
        raise InputError(field, uri, f"has no column {missing[0]}: is not a table of merged verdicts")
    if len(rows["object_id"].unique()) < len(rows):
        raise InputError(field, uri, "has an object twice")
    return ReviewedObjects(uri, rows, hashlib.sha256(content).hexdigest(), record)
