"""The index by `object_id`, which LSDB's `id_search` reads: sorted ids, and the HEALPix pixel whose file has each.

Each file has a range of ids. The limits between the files are quantiles of a sample: ids whose hash is small, so that
it does not depend on how the survey was cut into parts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from galaxy_batch.catalog import hats
from galaxy_batch.catalog.files import RowFile, write_row_file
from galaxy_batch.ids import id_hashes
from galaxy_batch.sky.healpix import Tile

__all__ = [
    "index_path",
    "index_rows",
    "index_schema",
    "limits_of",
    "range_of",
    "sampled_ids",
    "write_index_file",
]

_SAMPLED = 1 / 10_000
_IDS_PER_ROW = 4  # an id and its pixel need less than a quarter of the memory of a row


def index_schema(id_type: pa.DataType) -> pa.Schema:
    """The columns of the index, as `hats-import` writes them."""
    columns = {"object_id": id_type, "_healpix_29": pa.int64(), "Norder": pa.uint8(), "Npix": pa.uint64()}
    return pa.schema(columns.items())


def index_path(number: int) -> str:
    """The path of a file, below the folder of the index."""
    return f"{hats.DATASET}/index/part-{number:06d}.parquet"


def sampled_ids(rows: pa.Table) -> pa.ChunkedArray:
    """One in 10,000 ids of rows with a position; which ones depends on the ids only.

    Reads `object_id`, `_healpix_29`.
    """
    ids = rows["object_id"].filter(rows["_healpix_29"].is_valid())
    return ids.filter(pa.array(id_hashes(ids) < np.uint64(_SAMPLED * 2**64)))


def limits_of(sample: Sequence[Any], rows: int, max_rows: int) -> list[Any]:
    """The first id of each file of the index but the first.

    Args:
        sample: ids, in any order.
        rows: of the index.
        max_rows: of a file of the catalog; four times as many ids are about as large.
    """
    ordered, files = sorted(sample), -(-rows // (_IDS_PER_ROW * max_rows))
    limits = [ordered[len(ordered) * number // files] for number in range(1, files)] if ordered else []
    return list(dict.fromkeys(limits))


def range_of(ids: pa.ChunkedArray, limits: Sequence[Any]) -> npt.NDArray[np.int64]:
    """The number of the file that each id is in, ``(N,)``."""
    kind = np.int64 if pa.types.is_integer(ids.type) else object
    numbers = np.searchsorted(np.array(limits, kind), ids.to_numpy().astype(kind), "right")
    return np.asarray(numbers, np.int64)


def index_rows(rows: pa.Table, tile: Tile) -> pa.Table:
    """The rows of the index for the rows of one file of the catalog, in their order."""
    pixel = [pa.array(np.full(len(rows), tile.order, np.uint8)), pa.array(np.full(len(rows), tile.pixel, np.uint64))]
    schema = index_schema(rows.schema.field("object_id").type)
    return pa.table([rows["object_id"], rows["_healpix_29"], *pixel], schema=schema)


def write_index_file(rows: pa.Table, path: str, folder_uri: str) -> tuple[RowFile, bytes]:
    """Write sorted rows of the index as one file, in one atomic step.

    Args:
        rows: in the order of their ids.
        path: below the folder.
        folder_uri: of the collection.

    Returns:
        The file, and its Parquet metadata.
    """
    schema = index_schema(rows.schema.field("object_id").type)
    order = pq.SortingColumn.from_ordering(schema, [("object_id", "ascending")])
    return write_row_file(rows.select(schema.names).cast(schema), path, folder_uri, sorting_columns=order)
