"""The merged verdicts of people on objects of a catalog, as `jobs.import_verdicts` leaves them beside it.

Exports join them, training learns from them, audits compare the catalog with them.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from galaxy_batch.errors import InputError
from galaxy_batch.storage.files import beside, join, read_bytes

__all__ = [
    "IMPORT",
    "IMPORT_FORMAT",
    "REVIEWED",
    "REVIEWED_COLUMNS",
    "ReviewedObjects",
    "read_import",
    "read_reviewed",
    "reviewed_schema",
    "verdicts_folder",
]

IMPORT = "import.json"
"""Record of an import; written last."""
IMPORT_FORMAT = 1
REVIEWED = "reviewed.parquet"
REVIEWED_COLUMNS = {
    "reviewed_class": "Class by the verdicts of people, or artifact; null without a decision",
    "reviewed_by": "Who gave the verdicts, joined by ;",
}
"""Columns that exports join to a catalog, with their descriptions."""


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


def reviewed_schema(id_type: pa.DataType) -> pa.Schema:
    """Columns of `reviewed.parquet`."""
    return pa.schema(
        [
            ("object_id", id_type),
            ("reviewed_class", pa.string()),
            ("reviewed_probability", pa.float64()),
            ("verdicts", pa.int32()),
            ("reviewed_by", pa.string()),
            ("reviewed_at", pa.timestamp("us", tz="UTC")),
            ("inclusion_probability", pa.float64()),
            ("reason", pa.string()),
            ("release", pa.string()),
            ("model_id", pa.string()),
        ]
    )


def verdicts_folder(catalog_uri: str, name: str = "verdicts") -> str:
    """The folder of verdict tables, beside their catalog."""
    return beside(catalog_uri, "review", "verdicts", name)


def read_import(folder: str, field: str = "verdicts_uri") -> dict[str, Any] | None:
    """The record of an import; None where there is none.

    Raises:
        InputError: it is damaged, or of a format that this version does not read.
    """
    try:
        record = json.loads(read_bytes(join(folder, IMPORT)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise InputError(field, folder, f"{IMPORT} is damaged: not JSON") from None
    if not isinstance(record, dict) or record.get("format") != IMPORT_FORMAT:
        form = record.get("format") if isinstance(record, dict) else None
        raise InputError(field, folder, f"{IMPORT}: its format is {form}; this version reads format {IMPORT_FORMAT}")
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
            raise InputError(field, uri, f"holds no verdicts of jobs.import_verdicts: no {IMPORT}")
        record, uri = of_folder, join(uri, REVIEWED)
    try:
        content = read_bytes(uri)
        rows = pq.read_table(pa.BufferReader(content))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(field, uri, "no such file") from None
    except pa.ArrowInvalid as error:
        raise InputError(field, uri, f"is not a Parquet file: {error}") from None
    rows = _typed(rows, uri, field)
    if len(rows["object_id"].unique()) < len(rows):
        raise InputError(field, uri, "has an object twice")
    return ReviewedObjects(uri, rows, hashlib.sha256(content).hexdigest(), record)


def _typed(rows: pa.Table, uri: str, field: str) -> pa.Table:
    """The columns of `reviewed_schema` with its types, which a table that was edited elsewhere may not have."""
    ids = rows.schema.field("object_id").type if "object_id" in rows.column_names else None
    if ids not in (pa.int64(), pa.string(), pa.large_string()):
        raise InputError(field, uri, "has no column object_id of integers or texts: is not a table of merged verdicts")
    schema = reviewed_schema(pa.int64() if ids == pa.int64() else pa.string())
    columns = []
    for column in schema:
        if column.name not in rows.column_names:
            raise InputError(field, uri, f"has no column {column.name}: is not a table of merged verdicts")
        try:
            columns.append(rows[column.name].cast(column.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            kind = rows[column.name].type
            raise InputError(field, uri, f"{column.name} is {kind}: this column is {column.type}") from None
    return pa.table(columns, schema=schema)
