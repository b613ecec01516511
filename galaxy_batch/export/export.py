"""A piece of a published catalog as one file: those rows in a cone, or that a condition holds for.

::

    catalog ─> pixels that the cone touches ─> rows in the cone ─> rows that the condition keeps ─> FITS, VOTable, CSV

Rows come in the order of the sky, and those without a position last: they are in no cone, and in everything else.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from galaxy_batch.catalog import hats
from galaxy_batch.catalog.files import RowFile
from galaxy_batch.catalog.manifest import MANIFEST, CatalogManifest, require_manifest
from galaxy_batch.errors import InputError
from galaxy_batch.export.formats import encoded, exchangeable, format_of
from galaxy_batch.export.query import Condition
from galaxy_batch.settings import Range, Uri
from galaxy_batch.sky.cone import Cone
from galaxy_batch.storage.files import check_writable, join, open_parquet, read_bytes, without_secrets, write_atomically
from galaxy_batch.storage.retries import with_retries
from galaxy_batch.storage.threads import map_in_threads

__all__ = ["ExportConfig", "Piece", "export_catalog", "pieces_of"]

logger = logging.getLogger(__name__)

_KEY = "_healpix_29"
_LOWEST_KEY, _HIGHEST_KEY = 0, (12 << 58) - 1
_FILES_AT_ONCE = 4


@dataclass(frozen=True)
class ExportConfig:
    """Which rows and columns of which catalog, and the file that gets them."""

    catalog_uri: Annotated[str, Uri]
    """A published catalog: the folder with `manifest.json` in it."""
    output_uri: Annotated[str, Uri]
    """The file to write: `.fits`, `.vot` (VOTable) or `.csv`. One that is there is replaced."""
    cone: Cone | None = None
    """Only rows in this cone; all when not given, those without a position too."""
    where: str | None = None
    """Only rows for which this SQL condition is true, e.g. `confidence > 0.9 and predicted_class = 'smooth'`."""
    columns: tuple[str, ...] = ()
    """The columns to write, in this order; all when not given."""
    max_rows: Annotated[int, Range(1, 50_000_000)] = 1_000_000
    """More rows than this are an error, found before anything is written: they are all held in memory."""


@dataclass(frozen=True)
class Piece:
    """A file of a catalog, and the keys (pixels of order 29) of the rows to look for in it."""

    path: str
    """Below the catalog's folder."""
    rows: int
    lowest: int = _LOWEST_KEY
    highest: int = _HIGHEST_KEY


def export_catalog(config: ExportConfig) -> dict[str, Any]:
    """Write the chosen rows; the summary has `catalog_uri`, `output_uri`, `rows`, `format`, `seconds`, `files_read`.

    Raises:
        InputError: there is no such catalog, a column, condition or ending that is not possible, or too many rows.
    """
    started = time.monotonic()
    kind = format_of(config.output_uri)
    manifest = require_manifest(config.catalog_uri)
    _check_output(config)
    schema = pq.read_schema(pa.BufferReader(read_bytes(join(config.catalog_uri, hats.COMMON_METADATA))))
    chosen = _chosen(schema, config.columns)
    wanted = pa.schema([exchangeable(column, kind) for column in chosen])
    condition = Condition(config.where, schema) if config.where is not None else None
    pieces = pieces_of(manifest.files, config.cone)
    logger.info("%d of %d files may hold such rows", len(pieces), len(manifest.files))
    found, tables = 0, []
    for table in _matching(config, pieces, chosen.names, condition):
        found += len(table)
        if found > config.max_rows:
            raise InputError(
                "max_rows", config.max_rows,
                "more rows match: choose fewer by [cone] or where, or raise max_rows if they fit in memory",
            )  # fmt: skip
        tables.append(table)
    rows = pa.concat_tables(tables) if tables else chosen.empty_table()
    rows = pa.table([rows[column.name].cast(column.type) for column in wanted], schema=wanted)
    title = f"Galaxy morphologies of release {manifest.release}, by checkpoint {manifest.model_id}"
    write_atomically(config.output_uri, encoded(rows, kind, title, _about(config, manifest)))
    logger.info("%d rows, %d columns: %s", found, len(wanted), without_secrets(config.output_uri))
    return {
        "catalog_uri": without_secrets(config.catalog_uri),
        "output_uri": without_secrets(config.output_uri),
        "rows": found,
        "format": kind,
        "files_read": len(pieces),
        "seconds": round(time.monotonic() - started, 3),
    }


def pieces_of(files: Sequence[RowFile], cone: Cone | None) -> list[Piece]:
    """The files that may hold rows in a cone, in the order of the sky; all where there is no cone.

    Args:
        files: as the catalog's manifest lists them.
        cone: none stands for everywhere, rows without a position included.
    """
    pixels = {file.path: hats.pixel_of(file.path) for file in files}
    pieces: dict[str, tuple[int, Piece]] = {}
    for order in sorted({place[0] for place in pixels.values() if place}):
        of_order = [file for file in files if (pixels[file.path] or (-1,))[0] == order]
        numbers = np.array([pixels[file.path][1] for file in of_order], np.int64)  # type: ignore[index]
        first = numbers << 2 * (29 - order)
        ranges = (first, first + (1 << 2 * (29 - order)) - 1) if cone is None else cone.keys_within(order, numbers)
        for file, start, low, high in zip(of_order, first.tolist(), *(r.tolist() for r in ranges), strict=True):
            if low <= high:
                pieces[file.path] = (start, Piece(file.path, file.rows, low, high))
    nowhere = [Piece(file.path, file.rows) for file in files if pixels[file.path] is None]
    on_sky = [piece for _, piece in sorted(pieces.values(), key=lambda entry: entry[0])]
    return on_sky if cone is not None else [*on_sky, *nowhere]


def _matching(
    config: ExportConfig, pieces: Sequence[Piece], chosen: Sequence[str], condition: Condition | None
) -> Iterator[pa.Table]:
    """The chosen columns of the rows that match, a file after the other; a few files are read at once."""
    used = {*chosen, *(condition.columns if condition else ()), *(("ra", "dec") if config.cone else ())}

    def read(piece: Piece) -> pa.Table:
        rows = _read(config.catalog_uri, piece, sorted(used))
        if config.cone is None:
            return rows
        return rows.filter(pa.array(config.cone.contains(rows["ra"].to_numpy(), rows["dec"].to_numpy())))

    for start in range(0, len(pieces), _FILES_AT_ONCE):
        for rows in map_in_threads(read, pieces[start : start + _FILES_AT_ONCE]):
            yield (condition.kept(rows) if condition else rows).select(list(chosen))


def _read(catalog_uri: str, piece: Piece, columns: list[str]) -> pa.Table:
    """Rows of a file, from those row groups that may hold the keys; little else of it is fetched."""

    def read() -> pa.Table:
        with open_parquet(join(catalog_uri, piece.path)) as file:
            footer = file.metadata
            if footer.num_rows != piece.rows:
                raise ValueError(f"{footer.num_rows} rows, and {MANIFEST} says {piece.rows}")
            key = [footer.schema.column(leaf).path for leaf in range(footer.num_columns)].index(_KEY)
            groups = [g for g in range(footer.num_row_groups) if _may_hold(footer.row_group(g).column(key), piece)]
            return file.read_row_groups(groups, columns=columns).replace_schema_metadata(None)

    try:
        return with_retries(read)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError):
            raise  # the disk's or the store's trouble; pyarrow's own has no number
        raise InputError(
            "catalog_uri", catalog_uri, f"{piece.path} is not whole, verify the catalog: {error}"
        ) from None


def _may_hold(keys: pq.ColumnChunkMetaData, piece: Piece) -> bool:
    known = keys.statistics
    return known is None or not known.has_min_max or (known.min <= piece.highest and known.max >= piece.lowest)


def _chosen(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    for number, name in enumerate(columns):
        if name not in schema.names:
            raise InputError(f"columns[{number}]", name, f"no such column; there are {', '.join(schema.names)}")
        if name in columns[:number]:
            raise InputError(f"columns[{number}]", name, "is named twice")
    return pa.schema([schema.field(name) for name in columns or schema.names])


def _check_output(config: ExportConfig) -> None:
    if f"{config.output_uri}/".startswith(join(config.catalog_uri, "")):
        raise InputError("output_uri", config.output_uri, "is in the catalog's folder, where it would be a stray file")
    check_writable(config.output_uri.rpartition("/")[0] or "/", config.output_uri)


def _about(config: ExportConfig, manifest: CatalogManifest) -> dict[str, str]:
    """What the file says of itself."""
    about = {
        "release": manifest.release,
        "model_id": manifest.model_id,
        "catalog": without_secrets(config.catalog_uri),
    }
    if config.cone is not None:
        about["cone"] = f"ra {config.cone.ra}, dec {config.cone.dec}, radius {config.cone.radius_deg} deg, ICRS"
    if config.where is not None:
        about["where"] = config.where
    return {name: str(value) for name, value in about.items()}
