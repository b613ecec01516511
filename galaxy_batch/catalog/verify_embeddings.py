"""One file of embeddings, checked against its file of rows."""

import io
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxy_batch.catalog.embedding_files import EMBEDDINGS, embedding_schema
from galaxy_batch.catalog.verify_file import UNREADABLE
from galaxy_batch.embeddings import embedding_values
from galaxy_batch.rows import Status

__all__ = ["embedding_problems"]


def embedding_problems(content: bytes, rows_content: bytes, size: int) -> list[str]:
    """What is wrong with a file of embeddings, one row group at a time.

    Checks that it has the rows of its file of rows in the same order and row groups; that embeddings are null exactly
    in rows without an image, and otherwise finite.

    Args:
        content: the file.
        rows_content: the file of rows.
        size: numbers of an embedding.
    """
    try:
        parquet = pq.ParquetFile(io.BytesIO(content))
    except UNREADABLE as error:
        return [f"cannot be read as Parquet: {str(error).splitlines()[0]}"]
    try:
        rows = pq.ParquetFile(io.BytesIO(rows_content))
        id_type = rows.schema_arrow.field("object_id").type
    except (*UNREADABLE, KeyError):
        return []  # said of the file of rows
    if not parquet.schema_arrow.equals(embedding_schema(id_type, size)):
        return [f"its columns are not object_id, _healpix_29 and {EMBEDDINGS} with {size} numbers"]
    if _group_sizes(parquet) != _group_sizes(rows):
        return ["its row groups are not those of the file of rows"]
    broken: Counter[str] = Counter()
    for group in range(parquet.num_row_groups):
        try:
            of_group = rows.read_row_group(group, ["object_id", "_healpix_29", "status"])
            broken += _broken(parquet.read_row_group(group), of_group)
        except UNREADABLE as error:
            return [f"cannot be read as Parquet: {str(error).splitlines()[0]}"]
    return [f"{count} rows with {rule}" for rule, count in broken.items()]


def _group_sizes(parquet: pq.ParquetFile) -> list[int]:
    return [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]


def _broken(embeddings: pa.Table, rows: pa.Table) -> Counter[str]:
    """How many rows break each rule."""
    values, missing = embedding_values(embeddings[EMBEDDINGS])
    seen = pc.equal(rows["status"], str(Status.OK)).to_numpy()
    other = pc.fill_null(pc.not_equal(embeddings["object_id"], rows["object_id"]), True).to_numpy()
    other |= embeddings["_healpix_29"].fill_null(-1).to_numpy() != rows["_healpix_29"].fill_null(-1).to_numpy()
    rules = {
        "another object_id or _healpix_29 than the file of rows": other,
        "an embedding without an image, or the reverse": missing == seen,
        "an embedding that is not finite": ~missing & ~np.isfinite(values).all(axis=1),
    }
    return Counter({rule: int(broken.sum()) for rule, broken in rules.items() if broken.any()})
