"""The manifest: a table of objects or a folder of cutouts, divided deterministically into chunks of rows.

A chunk is the unit of work. A Parquet manifest is read twice, piece by piece: here, to check ids and positions, and
by the worker of each chunk. Other formats and folders are read once and whole; their rows are stored in the chunks,
and so are the columns that a second table adds to a Parquet file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.columns import (
    check_columns,
    check_kept,
    column_hashes,
    contains_images,
    exact_ids,
    pipeline_columns,
    wanted_columns,
)
from galaxy_batch.inputs.files import is_parquet, manifest_files, manifest_folder
from galaxy_batch.inputs.flux_arrays import is_flux
from galaxy_batch.inputs.folder import VERSION_COLUMNS
from galaxy_batch.inputs.join import SecondTable, read_second_table, with_columns
from galaxy_batch.inputs.parquet import ParquetTable, open_parquet_table
from galaxy_batch.inputs.scan import ManifestScan, check_unique
from galaxy_batch.inputs.tables import read_table
from galaxy_batch.rows import CHUNK
from galaxy_batch.storage.disk_counter import DiskCounter

__all__ = [
    "Chunk",
    "Manifest",
    "divide_rows",
    "find_object_batches",
    "find_objects",
    "open_manifest",
    "read_chunk",
    "read_ids",
    "read_objects",
    "rows_stream",
]

_BATCH_ROWS = 128  # rows with images in memory at a time


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of the manifest: a range of a Parquet file, or the rows themselves."""

    index: int
    rows: int
    uri: str = ""
    start: int = 0
    inline: bytes = b""
    """The rows with the pipeline's columns as an Arrow IPC stream; empty for a range of a Parquet file."""
    folder: str = ""
    """The manifest's folder, to which URIs in a Parquet file are relative."""
    types: bytes = b""
    """Arrow schema of kept columns that have other types in another file; empty where the types are the file's own."""
    joined: bytes = b""
    """The columns of a second table for a range of a Parquet file, as an Arrow IPC stream; empty without one."""

    def as_item(self) -> dict[str, Any]:
        """The chunk as one row of a Ray dataset."""
        return dict(vars(self))

    def as_table(self) -> pa.Table:
        """The chunk as the table of one row that `read_chunk` takes."""
        return pa.Table.from_pylist([self.as_item()])


@dataclass(frozen=True)
class Manifest:
    """An opened and checked manifest."""

    rows: int
    chunks: tuple[Chunk, ...]
    content_id: str
    """Hash of all values that the run uses; part of the fingerprint of the parts."""
    id_type: pa.DataType
    """int64 or string."""
    kept: tuple[pa.Field, ...]
    """Fields of `keep_columns`, in that order."""
    with_position: int
    """Rows with a usable position."""


def open_manifest(config: ManifestConfig, chunk_rows: int) -> Manifest:
    """Read and check a manifest, and divide it into chunks of at most `chunk_rows` rows.

    Raises:
        InputError: no such file, a missing column, types that are unsupported or differ between files, no rows, null
            or repeated ids.
    """
    check_kept(config)
    files, folder = _files(config)
    second = read_second_table(config)
    chunks: list[Chunk] = []
    stored: dict[str, pa.Schema] = {}
    with DiskCounter(_expected_rows(files)) as ids:
        scan = ManifestScan(config, ids)
        for uri in files:
            read = _scan_parquet if is_parquet(uri) else _scan_table
            try:
                new, stored[uri] = read(uri, folder, chunk_rows, len(chunks), scan, second)
            except InputError as error:
                shown = error.remedy if len(files) == 1 or uri in error.remedy else f"{error.remedy}; in {uri}"
                raise InputError(error.field, error.value, shown) from None
            chunks += new
        if not chunks:
            raise InputError("manifest.uri", config.uri, "the manifest has no rows")
        scan.check()
        if second is not None:
            second.check()
        check_unique(ids, files, folder, config)
    kept = scan.types.schema()
    return Manifest(
        rows=sum(chunk.rows for chunk in chunks),
        chunks=tuple(_with_types(chunks, stored, kept)),
        content_id=scan.digest.hexdigest()[:16],
        id_type=next(iter(scan.id_types)),
        kept=tuple(kept),
        with_position=scan.with_position,
    )


def read_chunk(chunk: pa.Table, config: ManifestConfig) -> pa.Table:
    """The rows of one chunk, in the manifest's order.

    Reads one row that describes the chunk (`Chunk.as_item`).
    Adds `object_id`, `ra`, `dec`, `_healpix_29`, `_image_uri` or `_image_bytes`, `_chunk`, the kept columns; with tiles
    `_side_arcsec`.
    """
    (item,) = chunk.to_pylist()
    if item["inline"]:
        rows = pa.ipc.open_stream(item["inline"]).read_all()
    else:
        rows = pa.concat_tables(_pipeline_rows(item, config))
    if len(rows) != item["rows"]:
        raise RuntimeError(
            f"chunk {item['index']}: {len(rows)} rows read, {item['rows']} expected; did the manifest change?"
        )
    if item["types"]:
        rows = _cast(rows, pa.ipc.read_schema(pa.py_buffer(item["types"])))
    rows = pa.table(rows.columns, names=rows.column_names)  # without metadata, which differs between files
    return rows.append_column(CHUNK, pa.array(np.full(len(rows), item["index"], np.int32)))


def read_ids(chunk: pa.Table, config: ManifestConfig) -> pa.ChunkedArray:
    """The ids of one chunk, in the manifest's order; reads no other column of the file."""
    (item,) = chunk.to_pylist()
    if item["inline"]:
        return pa.ipc.open_stream(item["inline"]).read_all()["object_id"]
    with open_parquet_table(item["uri"]) as parquet:
        table = _read_range(parquet, item["start"], item["rows"], [config.id_column])
    return exact_ids(table[config.id_column], config)


def read_objects(config: ManifestConfig) -> pa.Table:
    """All rows of a manifest that fits in memory, e.g. a training set; columns and errors as `read_chunk`.

    Raises:
        InputError: also where cutouts are to be cut from tiles: these are packed first.
    """
    if config.tiles is not None:
        remedy = "cut and pack these cutouts first, with jobs.pack_cutouts, and give the shards"
        raise InputError("manifest.tiles", config.tiles.band_templates, remedy)
    manifest = open_manifest(config, chunk_rows=1 << 20)
    chunks = [read_chunk(chunk.as_table(), config) for chunk in manifest.chunks]
    return pa.concat_tables(chunks).drop_columns([CHUNK])


def find_objects(config: ManifestConfig, ids: pa.Array) -> pa.Table:
    """The rows with the given ids, in any order; columns and errors as `read_chunk`.

    Of a Parquet manifest, all ids are read, and the other columns only of row groups that contain given ids.
    """
    return pa.concat_tables(find_object_batches(config, ids))


def find_object_batches(config: ManifestConfig, ids: pa.Array) -> Iterator[pa.Table]:
    """The rows of `find_objects`, a few at a time where a Parquet manifest holds the images."""
    config = replace(config, keep_columns=(), keep_image_uri=False)
    files, folder = _files(config)
    second = read_second_table(config)
    for uri in files:
        for table in _find_in_parquet(uri, config, ids) if is_parquet(uri) else _find_in_table(uri, config, ids):
            joined = table if second is None else with_columns(table, second.columns_of(table))
            yield pipeline_columns(joined, config, folder, with_bytes=True)


def _files(config: ManifestConfig) -> tuple[list[str], str]:
    """The files of the manifest, and the folder that URIs in it are relative to."""
    if config.lists_images:
        return [config.uri], ""
    return manifest_files(config.uri), manifest_folder(config.uri)


def _find_in_table(uri: str, config: ManifestConfig, ids: pa.Array) -> Iterator[pa.Table]:
    table = read_table(uri, config)
    yield table.filter(_has_id(table, config, ids))


def _find_in_parquet(uri: str, config: ManifestConfig, ids: pa.Array) -> Iterator[pa.Table]:
    with open_parquet_table(uri, in_pieces=True) as parquet:
        check_columns(parquet.schema.names, config, uri)
        columns = wanted_columns(config)
        yield parquet.empty(columns)
        for group in range(len(parquet.group_rows)):
            if pc.any(_has_id(parquet.read([group], [config.id_column]), config, ids)).as_py():
                for rows in parquet.batches(group, columns, _BATCH_ROWS):
                    yield rows.filter(_has_id(rows, config, ids))


def _has_id(table: pa.Table, config: ManifestConfig, ids: pa.Array) -> pa.ChunkedArray:
    own = exact_ids(table[config.id_column], config)
    return pc.is_in(own, value_set=ids.cast(own.type))


def _expected_rows(files: Sequence[str]) -> int:
    """Estimate of the number of rows, from the first file; 0 if it is not Parquet."""
    if not files or not is_parquet(files[0]):
        return 0
    with open_parquet_table(files[0]) as parquet:
        return len(files) * sum(parquet.group_rows)


def _scan_parquet(
    uri: str, folder: str, chunk_rows: int, first: int, scan: ManifestScan, second: SecondTable | None
) -> tuple[list[Chunk], pa.Schema]:
    """Chunks of one file, and the types of its kept columns."""
    config = scan.config
    with open_parquet_table(uri) as parquet:
        check_columns(parquet.schema.names, config, uri)
        embedded = contains_images(parquet.schema, config)
        columns = wanted_columns(config, with_image=not embedded)
        joined: list[pa.Table] = []
        for group in range(len(parquet.group_rows)):
            table = parquet.read([group], columns)
            if second is not None:
                joined.append(second.columns_of(table))
                table = with_columns(table, joined[-1])
            rows = pipeline_columns(table, config, folder, with_bytes=False)
            scan.add(table, rows, uri)
            if embedded:  # images are not read here; their sizes and statistics in the footer identify them
                scan.digest.update(str(parquet.file.metadata.row_group(group).to_dict()).encode())
        if embedded:  # contains the checksum of all images that jobs.pack_cutouts writes
            _check_bands(parquet, config)
            scan.digest.update("".join(config.image_bands).encode())
            scan.digest.update(str(sorted((parquet.file.metadata.metadata or {}).items())).encode())
        ranges = divide_rows(parquet.group_rows, chunk_rows)
        chunks = [Chunk(first + n, count, uri, start, folder=folder) for n, (start, count) in enumerate(ranges)]
        if joined:
            added = pa.concat_tables(joined)
            chunks = [replace(chunk, joined=rows_stream(added.slice(chunk.start, chunk.rows))) for chunk in chunks]
        return chunks, rows.select(scan.kept).schema if chunks else pa.schema([])


def _scan_table(
    uri: str, folder: str, chunk_rows: int, first: int, scan: ManifestScan, second: SecondTable | None
) -> tuple[list[Chunk], pa.Schema]:
    """Chunks of one file, and the types of its kept columns."""
    table = read_table(uri, scan.config)
    if second is not None:
        table = with_columns(table, second.columns_of(table))
    rows = pipeline_columns(table, scan.config, folder, with_bytes=True)
    if not len(rows):
        return [], pa.schema([])
    scan.add(table, rows, uri)
    if scan.config.lists_images:  # the images are not read here
        for name in VERSION_COLUMNS:
            scan.digest.update(column_hashes(table[name]).tobytes())
    chunks: list[Chunk] = []
    for start, count in divide_rows([len(rows)], chunk_rows):
        chunks.append(Chunk(first + len(chunks), count, uri, inline=rows_stream(rows.slice(start, count))))
    return chunks, rows.select(scan.kept).schema


def rows_stream(rows: pa.Table, compression: str | None = None) -> bytes:
    """Rows as an Arrow IPC stream, as chunks hold them."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(rows)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _with_types(chunks: Sequence[Chunk], stored: dict[str, pa.Schema], agreed: pa.Schema) -> Iterator[Chunk]:
    """The chunks, with the agreed types of kept columns for those whose file has others."""
    types = agreed.serialize().to_pybytes()
    for chunk in chunks:
        yield chunk if stored[chunk.uri].equals(agreed) else replace(chunk, types=types)


def _cast(rows: pa.Table, types: pa.Schema) -> pa.Table:
    for field in types:
        if field.name in rows.column_names:
            column = rows[field.name].cast(field.type)
            rows = rows.set_column(rows.column_names.index(field.name), field, column)
    return rows


def divide_rows(group_sizes: Sequence[int], chunk_rows: int) -> Iterator[tuple[int, int]]:
    """(start, rows) of each chunk; whole groups of rows where they fit, so that no group is read twice."""
    start, held = 0, 0
    for size in group_sizes:
        if held and held + size > chunk_rows:
            yield start, held
            start, held = start + held, 0
        held += size
        while held > chunk_rows:
            yield start, chunk_rows
            start, held = start + chunk_rows, held - chunk_rows
    if held:
        yield start, held


def _check_bands(parquet: ParquetTable, config: ManifestConfig) -> None:
    """Check that the first image of a file has the bands that are drawn, where its images are arrays of fluxes."""
    column = str(config.image_column)
    if not is_flux(parquet.schema.field(column).type):
        return
    present = parquet.bands(column)
    missing = [name for name in config.image_bands if name not in present]
    if present and (missing or not config.image_bands):
        remedy = f"name three bands of {column!r}, the reddest first; it has {', '.join(present)}"
        raise InputError("manifest.image_bands", list(config.image_bands), remedy)


def _pipeline_rows(item: dict[str, Any], config: ManifestConfig) -> Iterator[pa.Table]:
    """The rows of a range of a Parquet file with the pipeline's columns; a few at a time where it holds the images."""
    columns = wanted_columns(config)
    added = pa.ipc.open_stream(item["joined"]).read_all() if item["joined"] else None
    with open_parquet_table(item["uri"], in_pieces=True) as parquet:
        read = _read_batches if contains_images(parquet.schema, config) else _read_whole
        done = 0
        for table in read(parquet, item["start"], item["rows"], columns):
            joined = table if added is None else with_columns(table, added.slice(done, len(table)))
            yield pipeline_columns(joined, config, item["folder"], with_bytes=True)
            done += len(table)


def _read_batches(parquet: ParquetTable, start: int, rows: int, columns: Sequence[str]) -> Iterator[pa.Table]:
    groups, done = _groups_of(parquet, start, rows)
    for batch in parquet.batches_of(groups, columns, _BATCH_ROWS):
        wanted = batch.slice(max(0, start - done), max(0, start + rows - max(start, done)))
        done += len(batch)
        if len(wanted):
            yield wanted
        if done >= start + rows:
            return


def _read_whole(parquet: ParquetTable, start: int, rows: int, columns: Sequence[str]) -> Iterator[pa.Table]:
    yield _read_range(parquet, start, rows, columns)


def _read_range(parquet: ParquetTable, start: int, rows: int, columns: Sequence[str]) -> pa.Table:
    groups, skipped = _groups_of(parquet, start, rows)
    return parquet.read(groups, columns).slice(start - skipped, rows)


def _groups_of(parquet: ParquetTable, start: int, rows: int) -> tuple[list[int], int]:
    """The row groups that hold some rows, and the number of rows before them."""
    ends = np.cumsum(parquet.group_rows)
    groups = [g for g, end in enumerate(ends) if end > start and (g == 0 or ends[g - 1] < start + rows)]
    return groups, int(ends[groups[0] - 1]) if groups and groups[0] else 0
