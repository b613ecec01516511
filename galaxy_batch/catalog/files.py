"""The files of rows of a catalog: where each is, what it says of itself, and how it is written."""

import dataclasses
import hashlib
import io
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxy_batch.catalog.hats import tile_path
from galaxy_batch.catalog.votable import described, text_lengths
from galaxy_batch.ids import id_hashes, ids_checksum
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.sky.healpix import Tile
from galaxy_batch.storage.files import join, write_atomically

__all__ = ["WITHOUT_POSITION", "CatalogFileHeader", "file_path", "write_catalog_file", "write_metadata_file"]

WITHOUT_POSITION = "without_position"
"""Folder of the rows that are nowhere on the sky."""
_ROW_GROUP_ROWS = 65_536  # a cone search reads one or two of them


@dataclasses.dataclass(frozen=True)
class CatalogFileHeader:
    """What every file of a catalog says of itself."""

    schema: pa.Schema
    """Columns, with unit, UCD and description in the metadata of each field."""
    release: str
    model_id: str

    @property
    def columns(self) -> dict[str, str]:
        """Name and type of each column, as readers of the files see them: Parquet renames what is in a list."""
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
        tile: a pixel of the sky, or a share of the rows without a position.
        number: of the share among the shares.
    """
    return tile_path(tile.order, tile.pixel) if tile.on_sky else f"{WITHOUT_POSITION}/part-{number:06d}.parquet"


def write_catalog_file(rows: pa.Table, path: str, heading: CatalogFileHeader, catalog_uri: str) -> dict[str, Any]:
    """Write the rows of one tile, in their order, as one file of the catalog, in one atomic step.

    Reads the catalog's columns; drops what else there is.

    Returns:
        `path`, `rows`, `bytes`, `sha256`; `ids`, the checksum of the ids; `counts`; `footer`, the Parquet metadata.
    """
    schema = heading.schema_of(rows)
    table = pa.table([rows[field.name].cast(field.type) for field in schema], schema=schema)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROW_GROUP_ROWS)
    content = sink.getvalue()
    write_atomically(join(catalog_uri, path), content)
    sink.seek(0)
    footer = io.BytesIO()
    pq.read_metadata(sink).write_metadata_file(footer)
    return {
        "path": path,
        "rows": len(table),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "ids": ids_checksum(id_hashes(table["object_id"])),
        "counts": _counts(table),
        "footer": footer.getvalue(),
    }


def write_metadata_file(content: bytes, path: str, catalog_uri: str) -> dict[str, Any]:
    """Write a file that says something of the others. Gives `path`, `bytes`, `sha256`."""
    write_atomically(join(catalog_uri, path), content)
    return {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _counts(table: pa.Table) -> dict[str, dict[str, int]]:
    flags = table["review_flags"].to_numpy()
    return {
        "status": _value_counts(table["status"]),
        "class": _value_counts(table["predicted_class"].drop_null()),
        "flag": {str(flag.name): int(((flags & flag) != 0).sum()) for flag in ReviewFlag},
        "row": {
            "failed": table["predicted_class"].null_count,
            "flagged": int((flags != 0).sum()),
            "without_position": table["_healpix_29"].null_count,
        },
    }


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column.cast(pa.string())).to_pylist()}
