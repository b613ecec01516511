"""Files of embeddings: beside each file of rows one with the same rows in the same order, in the same row groups.

::

    dataset/Norder=1/Dir=0/Npix=17.parquet    embedding/Norder=1/Dir=0/Npix=17.pq
    without_position/part-000000.parquet      embedding/without_position/part-000000.pq

They are Parquet files. Their names end in another way so that `**/*.parquet` is every object once, as in a catalog
without embeddings, and their folder is not that of the HATS dataset.
"""

import pyarrow as pa

from galaxy_batch.catalog import hats
from galaxy_batch.catalog.files import RowFile, write_row_file
from galaxy_batch.embeddings import embedding_lists, embedding_type
from galaxy_batch.rows import EMBEDDING

__all__ = ["EMBEDDINGS", "embedding_path", "embedding_schema", "write_embedding_file"]

EMBEDDINGS = "embedding"
"""Name of the folder, and of the column in its files."""


def embedding_path(path: str) -> str:
    """The path of the file of embeddings of a file of rows, both below the catalog's folder."""
    return f"{EMBEDDINGS}/{path.removeprefix(f'{hats.DATASET}/').removesuffix('.parquet')}.pq"


def embedding_schema(id_type: pa.DataType, size: int) -> pa.Schema:
    """The columns of a file of embeddings; `embedding` is null in rows without an image."""
    about = {"description": "Principal components of the network's features, the largest first; null without an image"}
    return pa.schema(
        [
            pa.field("object_id", id_type),
            pa.field("_healpix_29", pa.int64()),
            pa.field(EMBEDDINGS, embedding_type(size), metadata=about),
        ]
    )


def write_embedding_file(rows: pa.Table, path: str, catalog_uri: str) -> RowFile:
    """Write the embeddings of the rows of one file, in one atomic step.

    Args:
        rows: in the order of their file.
        path: of their file, below the catalog's folder.
        catalog_uri: the catalog's folder.

    Reads `object_id`, `_healpix_29`, `_embedding`.
    """
    lists = embedding_lists(rows[EMBEDDING])
    schema = embedding_schema(rows.schema.field("object_id").type, lists.type.list_size)
    table = pa.table([rows["object_id"], rows["_healpix_29"], lists], schema=schema)
    options = {"use_dictionary": False, "write_statistics": False}
    file, _ = write_row_file(table, embedding_path(path), catalog_uri, **options)
    return file
