"""Export of a part of a published catalog to one file: the rows in a cone, or for which a condition is true.

::

    catalog ─> pixels that overlap the cone ─> rows in the cone ─> verdicts of people ─> rows that meet the condition
            ─> sample ─> order ─> limit ─> FITS, VOTable, CSV, Parquet

Without an order of their own, rows are in that of the sky; those without a position come last, and are in no cone.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from galaxy_batch.catalog import hats
from galaxy_batch.catalog.files import RowFile
from galaxy_batch.catalog.manifest import MANIFEST, CatalogManifest, require_manifest
from galaxy_batch.catalog.read_files import files_in_turn, read_file, read_schema
from galaxy_batch.errors import InputError
from galaxy_batch.export.config import ExportConfig
from galaxy_batch.export.formats import encode_table, exportable_field, format_of
from galaxy_batch.export.query import Condition
from galaxy_batch.export.reviewed_columns import ReviewedColumns
from galaxy_batch.export.selection import Selection
from galaxy_batch.reviewed_objects import REVIEWED_COLUMNS
from galaxy_batch.sky.cone import Cone
from galaxy_batch.sky.healpix import Tile
from galaxy_batch.storage.files import (
    check_outside,
    check_writable,
    without_secrets,
    write_atomically,
)

__all__ = ["FileRange", "export_catalog", "file_ranges"]

logger = logging.getLogger(__name__)

_KEY = "_healpix_29"


@dataclass(frozen=True)
class FileRange:
    """A file of a catalog and a range of keys (pixels of order 29) to read from it."""

    path: str
    """Relative to the catalog's folder."""
    rows: int
    """Rows of the whole file."""
    lowest: int = 0
    highest: int = 2**63 - 1


def export_catalog(config: ExportConfig) -> dict[str, Any]:
    """Write the selected rows; the summary has `catalog_uri`, `output_uri`, `rows`, `format`, `seconds`, `files_read`.

    Raises:
        InputError: there is no such catalog, a column, condition or file ending is invalid, or there are too many rows.
    """
    started = time.monotonic()
    kind = format_of(config.output_uri)
    manifest = require_manifest(config.catalog_uri)
    _check_output(config)
    schema = read_schema(config.catalog_uri)
    verdicts = ReviewedColumns(config.verdicts_uri, schema) if config.verdicts_uri is not None else None
    schema = schema if verdicts is None else verdicts.added_to(schema)
    selected = _select_columns(schema, config.columns)
    exported = pa.schema([exportable_field(column, kind) for column in selected])
    condition = Condition(config.where, schema) if config.where is not None else None
    selection = Selection(config, schema)
    files = file_ranges(manifest.files, config.cone)
    logger.info("%d of %d files may hold matching rows", len(files), len(manifest.files))
    used = {*selected.names, *selection.columns, *(condition.columns if condition else ())}
    used |= {"ra", "dec"} if config.cone else set()
    used |= {"object_id"} if verdicts else set()
    read = pa.schema([column for column in schema if column.name in used])
    rows = selection.of(read, _matching_rows(config, files, read.names, verdicts, condition))
    rows = pa.table([rows[column.name].cast(column.type) for column in exported], schema=exported)
    title = f"Galaxy morphologies of release {manifest.release}, by checkpoint {manifest.model_id}"
    write_atomically(config.output_uri, encode_table(rows, kind, title, _about(config, manifest)))
    logger.info("%d rows, %d columns: %s", len(rows), len(exported), without_secrets(config.output_uri))
    return {
        "catalog_uri": without_secrets(config.catalog_uri),
        "output_uri": without_secrets(config.output_uri),
        "rows": len(rows),
        "format": kind,
        "files_read": len(files),
        "seconds": round(time.monotonic() - started, 3),
    }


def file_ranges(files: Sequence[RowFile], cone: Cone | None) -> list[FileRange]:
    """The files that may hold rows in a cone, in the order of the sky; all files if there is no cone.

    Args:
        files: files of the catalog's manifest.
        cone: None stands for all rows, including those without a position.
    """
    tiles, without_position = [], []
    for file in files:
        pixel = hats.pixel_of(file.path)
        if pixel is None:
            without_position.append(FileRange(file.path, file.rows))
        else:
            tiles.append((Tile(*pixel, file.rows), file.path))
    tiles.sort(key=lambda entry: entry[0].first_key)
    if cone is None:
        return [*(FileRange(path, tile.rows) for tile, path in tiles), *without_position]
    ranges = []
    for tile, path in tiles:
        (lowest,), (highest,) = cone.keys_within(tile.order, np.array([tile.pixel]))
        if lowest <= highest:
            ranges.append(FileRange(path, tile.rows, int(lowest), int(highest)))
    return ranges


def _matching_rows(
    config: ExportConfig,
    files: Sequence[FileRange],
    columns: Sequence[str],
    verdicts: ReviewedColumns | None,
    condition: Condition | None,
) -> Iterator[pa.Table]:
    """The given columns of the matching rows, file by file; a few files are read concurrently."""
    of_catalog = [name for name in columns if verdicts is None or name not in REVIEWED_COLUMNS]

    def read(_: int, file: FileRange) -> pa.Table:
        rows = _read(config.catalog_uri, file, of_catalog)
        if config.cone is not None:
            rows = rows.filter(pa.array(config.cone.contains(rows["ra"].to_numpy(), rows["dec"].to_numpy())))
        return rows if verdicts is None else verdicts.joined_to(rows).select(columns)

    for rows in files_in_turn(files, "reading", read):
        yield condition.filter(rows) if condition else rows


def _read(catalog_uri: str, file: FileRange, columns: list[str]) -> pa.Table:
    """Read the row groups of a file that may hold its range of keys; little else is fetched."""

    def read(parquet: pq.ParquetFile) -> pa.Table:
        footer = parquet.metadata
        if footer.num_rows != file.rows:
            raise ValueError(f"{footer.num_rows} rows, but {MANIFEST} says {file.rows}")
        key = [footer.schema.column(leaf).path for leaf in range(footer.num_columns)].index(_KEY)
        groups = [g for g in range(footer.num_row_groups) if _may_hold(footer.row_group(g).column(key), file)]
        return parquet.read_row_groups(groups, columns=columns)

    return read_file(catalog_uri, file.path, read)


def _may_hold(keys: pq.ColumnChunkMetaData, file: FileRange) -> bool:
    limits = keys.statistics
    return limits is None or not limits.has_min_max or (limits.min <= file.highest and limits.max >= file.lowest)


def _select_columns(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    for number, name in enumerate(columns):
        if name not in schema.names:
            raise InputError(f"columns[{number}]", name, f"no such column; the columns are {', '.join(schema.names)}")
        if name in columns[:number]:
            raise InputError(f"columns[{number}]", name, "is named twice")
    return pa.schema([schema.field(name) for name in columns or schema.names])


def _check_output(config: ExportConfig) -> None:
    check_outside("output_uri", config.output_uri, config.catalog_uri)
    check_writable(config.output_uri.rpartition("/")[0] or "/", config.output_uri)


def _about(config: ExportConfig, manifest: CatalogManifest) -> dict[str, str]:
    """Metadata of the exported table."""
    about = {
        "release": manifest.release,
        "model_id": manifest.model_id,
        "catalog": without_secrets(config.catalog_uri),
    }
    if config.cone is not None:
        about["cone"] = f"ra {config.cone.ra}, dec {config.cone.dec}, radius {config.cone.radius_deg} deg, ICRS"
    if config.where is not None:
        about["where"] = config.where
    if config.verdicts_uri is not None:
        about["verdicts"] = without_secrets(config.verdicts_uri)
    if config.sample is not None:
        about["sample"] = f"{config.sample} rows, by a hash of the id"
    return {name: str(value) for name, value in about.items()}
