"""Parts: the classified rows of one chunk in one Parquet file. A part that exists is complete.

Where a store did not respond for some of the rows, or some cutouts did not exist, the name of the part says so:
`-unreachable` or `-missing`. Another run computes the former again, and the latter when cutouts are there by then.
"""

import contextlib
import io
import json
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxy_batch.rows import CHUNK, EMBEDDING, ORIGIN, Status
from galaxy_batch.storage.files import join, list_names, parquet_bytes, read_bytes, write_atomically

__all__ = ["finished_parts", "origins_of", "part_uri", "read_part", "write_part"]

_ORIGINS = b"origins"

_RETRIED = (Status.UNREACHABLE, Status.MISSING)
"""Statuses that the name of a part shows; the first of them if there are rows of both."""
_NAME = re.compile(rf"part-(\d+)(?:-({'|'.join(_RETRIED)}))?\.parquet")


def part_uri(folder_uri: str, chunk: int, status: Status | None = None) -> str:
    """The URI of the part of a chunk; a part with `unreachable` or `missing` rows has another name."""
    return join(folder_uri, f"part-{chunk:06d}{f'-{status}' if status else ''}.parquet")


def finished_parts(folder_uri: str, keep_unreachable: bool = False) -> dict[int, Status | None]:
    """Numbers of the chunks whose parts exist: the only state that a resumed run needs.

    Args:
        folder_uri: the folder of this fingerprint.
        keep_unreachable: whether a part with `unreachable` rows counts.

    Returns:
        By chunk, the status in the name of the part that `read_part` reads.
    """
    names = filter(None, map(_NAME.fullmatch, list_names(folder_uri)))
    parts = [(int(name[1]), Status(name[2]) if name[2] else None) for name in names]
    best: dict[int, Status | None] = {}
    for status in (*_RETRIED, None):
        best |= {chunk: status for chunk, written in parts if written == status}
    return {chunk: status for chunk, status in best.items() if keep_unreachable or status != Status.UNREACHABLE}


def write_part(rows: pa.Table, folder_uri: str, schema: pa.Schema, release: str, model_id: str) -> pa.Table:
    """Write the rows of one chunk in one atomic step; a retry writes the same file.

    Args:
        rows: all rows of one chunk.
        folder_uri: the folder of this fingerprint.
        schema: the catalog's schema, which gives the columns their order and types.
        release: name of the survey release.
        model_id: content id of the checkpoint.

    Reads all catalog columns, `_chunk`, `_embedding` where it exists, which is the last column of the part, and
    `_origin` where it exists, whose values are counted in the part's metadata.
    Adds `release`, `model_id` in the part.
    Drops all columns: returns one row with the `chunk`, and its `rows`, `failed`, `flagged`.
    """
    (chunk,) = pc.unique(rows[CHUNK]).to_pylist()
    for name, value in (("release", release), ("model_id", model_id)):
        rows = rows.append_column(name, _constant(value, len(rows)))
    table = pa.table([rows[field.name].cast(field.type) for field in schema], schema=schema)
    if EMBEDDING in rows.column_names:
        table = table.append_column(EMBEDDING, rows[EMBEDDING])
    if ORIGIN in rows.column_names:
        origins = {entry["values"]: entry["counts"] for entry in pc.value_counts(rows[ORIGIN]).to_pylist()}
        table = table.replace_schema_metadata({**(schema.metadata or {}), _ORIGINS: json.dumps(origins)})
    statuses = set(pc.unique(rows["status"]).to_pylist())
    status = next((status for status in _RETRIED if status in statuses), None)
    write_atomically(part_uri(folder_uri, chunk, status), parquet_bytes(table))
    return pa.table(
        {
            "chunk": [chunk],
            "rows": [len(table)],
            "failed": [table["predicted_class"].null_count],
            "flagged": [pc.sum(table["needs_review"]).as_py()],
        }
    )


def read_part(chunk: pa.Table, folder_uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a part, all columns or those named; of several parts of a chunk, the one with the fewest failures.

    That is one without `unreachable` and `missing` rows, else one without `unreachable` rows.

    Reads `index`, the chunk's number, in a table of one row.
    Adds the catalog columns, `_chunk`.
    """
    index = chunk["index"][0].as_py()
    rows = pq.read_table(io.BytesIO(_read_best(folder_uri, index)), columns=columns)
    return rows.append_column(CHUNK, pa.array(np.full(len(rows), index, np.int32)))


def origins_of(part: pa.Table) -> Mapping[str, int]:
    """Rows by origin, of a part that `read_part` has read; empty where no previous catalog was used."""
    origins: dict[str, int] = json.loads((part.schema.metadata or {}).get(_ORIGINS, b"{}"))
    return origins


def _read_best(folder_uri: str, chunk: int) -> bytes:
    for status in (None, Status.MISSING):
        with contextlib.suppress(FileNotFoundError):
            return read_bytes(part_uri(folder_uri, chunk, status))
    return read_bytes(part_uri(folder_uri, chunk, Status.UNREACHABLE))


def _constant(value: str, rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value], pa.string()))
