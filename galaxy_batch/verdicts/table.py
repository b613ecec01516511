"""Tables of verdicts in their folder.

::

    review/verdicts/<name>/    beside the catalog
        verdicts.parquet       one row a person and object
        reviewed.parquet       one row an object: the merged verdict, see `reviewed_objects.py`
        rejected.parquet       records that gave no verdict, each with the reason
        import.json            written last: without it the import did not finish
"""

from typing import Any

import pyarrow as pa

from galaxy_batch.reviewed_objects import IMPORT, IMPORT_FORMAT, REVIEWED, verdicts_folder
from galaxy_batch.storage.files import join, parquet_bytes, remove_tree, write_atomically, write_json

__all__ = ["key_uri", "rejected_schema", "verdicts_schema", "write_tables"]

_VERDICTS, _REJECTED = "verdicts.parquet", "rejected.parquet"
_TIME = pa.timestamp("us", tz="UTC")


def key_uri(catalog_uri: str) -> str:
    """The key of the pseudonyms: above the tables, so that a table can be published without it."""
    return join(verdicts_folder(catalog_uri, ""), "pseudonyms.key")


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
    remove_tree(join(folder, IMPORT))
    for name, table in ((_VERDICTS, verdicts), (REVIEWED, reviewed), (_REJECTED, rejected)):
        write_atomically(join(folder, name), parquet_bytes(table))
    write_json(join(folder, IMPORT), {"format": IMPORT_FORMAT, **record})
