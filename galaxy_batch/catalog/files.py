"""The files of a catalog: where each is, what its header says, and how it is written."""

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from galaxy_batch.catalog.counts import CatalogCounts, count_rows
from galaxy_batch.catalog.hats import tile_path
from galaxy_batch.catalog.votable import described, text_lengths
from galaxy_batch.sky.healpix import Tile
from galaxy_batch.storage.files import join, write_atomically

__all__ = [
    "ROW_GROUP_ROWS",
    "WITHOUT_POSITION",
    "CatalogFileHeader",
    "MetadataFile",
    "RowFile",
    "WrittenFile",
    "file_path",
    "write_catalog_file",
    "write_metadata_file",
    "write_row_file",
]

WITHOUT_POSITION = "without_position"
"""Folder of the rows without a position."""
ROW_GROUP_ROWS = 65_536
"""Rows of a row group, of which a cone search reads one or two."""


@dataclass(frozen=True)
class RowFile:
    """A Parquet file of rows, as `manifest.json` lists it."""

    path: str
    """Below the catalog's folder, as that of every file here."""
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class MetadataFile:
    """A file that describes the others, as `manifest.json` lists it."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class WrittenFile:
    """A file of rows that was just written, and what the manifest and the metadata files need from it."""

    file: RowFile
    counts: CatalogCounts
    footer: bytes
    """Its Parquet metadata."""
    embeddings: RowFile | None = None
    """The file of their embeddings; None where the rows have none."""


@dataclass(frozen=True)
class CatalogFileHeader:
    """What is the same in the header of every file of a catalog."""

    schema: pa.Schema
    """Columns, with unit, UCD and description in the metadata of each field."""
    release: str
    model_id: str

    @property
    def columns(self) -> dict[str, str]:
        """Name and type of each column, as readers of the files see them: Parquet renames the items of lists."""
        sink = io.BytesIO()
        pq.write_metadata(self.schema, sink)
        return {column.name: str(column.type) for column in pq.read_schema(sink)}

    def schema_of(self, rows: pa.Table | None = None) -> pa.Schema:
        """The schema with the VOTable header that fits these rows; without rows, the header of the whole dataset."""
        title = f"Galaxy morphologies of release {self.release}, by checkpoint {self.model_id}"
        about = {"release": self.release, "model_id": self.model_id}
        return described(self.schema, title, about, text_lengths(rows) if rows is not None else {})


def file_path(tile: Tile, number: int) -> str:
    """Where the file of a tile is, below the catalog's folder.

    Args:
        tile: a HEALPix pixel, or a share of the rows without a position.
        number: of the share among the shares.
    """
    return tile_path(tile.order, tile.pixel) if tile.on_sky else f"{WITHOUT_POSITION}/part-{number:06d}.parquet"


def write_catalog_file(rows: pa.Table, path: str, header: CatalogFileHeader, catalog_uri: str) -> WrittenFile:
    """Write the rows of one tile, in their order, as one file of the catalog, in one atomic step.

    Reads the catalog's columns; drops all others.
    """
    schema = header.schema_of(rows)
    table = pa.table([rows[field.name].cast(field.type) for field in schema], schema=schema)
    file, footer = write_row_file(table, path, catalog_uri)
    return WrittenFile(file, count_rows(table), footer)


def write_row_file(table: pa.Table, path: str, folder_uri: str, **options: Any) -> tuple[RowFile, bytes]:
    """Write a table as one Parquet file, in one atomic step.

    Args:
        table: columns and rows, as they are written.
        path: below the folder.
        folder_uri: of the catalog or the collection.
        options: further ones of `pyarrow.parquet.write_table`.

    Returns:
        The file, and its Parquet metadata.
    """
    sink, footer = io.BytesIO(), io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=ROW_GROUP_ROWS, **options)
    content = sink.getvalue()
    write_atomically(join(folder_uri, path), content)
    sink.seek(0)
    pq.read_metadata(sink).write_metadata_file(footer)
    return RowFile(path, len(table), len(content), hashlib.sha256(content).hexdigest()), footer.getvalue()


def write_metadata_file(content: bytes, path: str, catalog_uri: str) -> MetadataFile:
    """Write a file that describes the others."""
    write_atomically(join(catalog_uri, path), content)
    return MetadataFile(path, len(content), hashlib.sha256(content).hexdigest())
