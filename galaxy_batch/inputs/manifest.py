"""The manifest: a table of objects, divided deterministically into chunks of rows.

A chunk is the unit of work. A Parquet manifest is read twice, piece by piece: here, to check ids and positions, and
by the worker of each chunk. Other formats are read once and whole; their rows are stored in the chunks.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.ids import id_hashes
from galaxy_batch.inputs.columns import (
    check_columns,
    check_kept,
    column_hashes,
    contains_images,
    exact_ids,
    pipeline_columns,
    wanted_columns,
)
from galaxy_batch.inputs.image_uris import template_columns
from galaxy_batch.inputs.tables import is_parquet, manifest_files, read_table
from galaxy_batch.rows import CHUNK
from galaxy_batch.storage.disk_counter import DiskCounter
from galaxy_batch.storage.files import open_parquet

__all__ = ["Chunk", "Manifest", "find_objects", "open_manifest", "read_chunk", "read_ids", "read_objects"]

_BATCH_ROWS = 1024  # rows with images in memory at a time
_MAX_REPEATED = 1024  # repeated ids to search for
_SHOWN_IDS = 10  # in an error


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of the manifest: a range of a Parquet file, or the rows themselves."""

    index: int
    rows: int
    uri: str = ""
    start: int = 0
    inline: bytes = b""
    """The rows with the pipeline's columns as an Arrow IPC stream; empty for a range of a Parquet file."""

    def as_item(self) -> dict[str, Any]:
        """The chunk as one row of a Ray dataset."""
        return {"index": self.index, "rows": self.rows, "uri": self.uri, "start": self.start, "inline": self.inline}


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


class ManifestScan:
    """Hash, ids and types of the manifest, collected in one pass with constant memory."""

    def __init__(self, ids: DiskCounter) -> None:
        self.digest = hashlib.sha256()
        self.ids = ids
        self.id_types = set[pa.DataType]()
        self.kept: tuple[pa.Field, ...] = ()
        self.with_position = 0

    def add(self, rows: pa.Table, keep_columns: tuple[str, ...]) -> None:
        self.kept = tuple(rows.schema.field(name) for name in keep_columns)
        self.id_types.add(rows["object_id"].type)
        ids = id_hashes(rows["object_id"])
        self.ids.add(ids)
        self.with_position += len(rows) - rows["ra"].null_count
        for name in rows.column_names:
            self.digest.update(name.encode())
            self.digest.update((ids if name == "object_id" else column_hashes(rows[name])).tobytes())


def open_manifest(config: ManifestConfig, chunk_rows: int) -> Manifest:
    """Read and check a manifest, and divide it into chunks of at most `chunk_rows` rows.

    Raises:
        InputError: no such file, a missing column, an unsupported type, no rows, null or repeated ids.
    """
    check_kept(config)
    files = manifest_files(config.uri)
    chunks: list[Chunk] = []
    with DiskCounter(_expected_rows(files)) as ids:
        scan = ManifestScan(ids)
        for uri in files:
            read = _scan_parquet if is_parquet(uri) else _scan_table
            chunks += read(uri, config, chunk_rows, len(chunks), scan)
        if not chunks:
            raise InputError("manifest.uri", config.uri, "the manifest has no rows")
        if len(scan.id_types) > 1:
            raise InputError(
                "manifest.id_column", config.id_column, "integers in one file and text in another: use one type"
            )
        _check_unique(ids, files, config)
    return Manifest(
        rows=sum(chunk.rows for chunk in chunks),
        chunks=tuple(chunks),
        content_id=scan.digest.hexdigest()[:16],
        id_type=scan.id_types.pop(),
        kept=scan.kept,
        with_position=scan.with_position,
    )


def read_chunk(chunk: pa.Table, config: ManifestConfig) -> pa.Table:
    """The rows of one chunk, in the manifest's order.

    Reads one row that describes the chunk (`Chunk.as_item`).
    Adds `object_id`, `ra`, `dec`, `_healpix_29`, `_image_uri` or `_image_bytes`, `_chunk`, the kept columns.
    """
    (item,) = chunk.to_pylist()
    if item["inline"]:
        rows = pa.ipc.open_stream(item["inline"]).read_all()
    else:
        columns = wanted_columns(config, with_image=True)
        rows = pipeline_columns(_read_range(item["uri"], item["start"], item["rows"], columns), config, with_bytes=True)
    if len(rows) != item["rows"]:
        raise RuntimeError(
            f"chunk {item['index']}: {len(rows)} rows read, {item['rows']} expected; did the manifest change?"
        )
    return rows.append_column(CHUNK, pa.array(np.full(len(rows), item["index"], np.int32)))


def read_ids(chunk: pa.Table, config: ManifestConfig) -> pa.ChunkedArray:
    """The ids of one chunk, in the manifest's order; reads no other column of the file."""
    (item,) = chunk.to_pylist()
    if item["inline"]:
        return pa.ipc.open_stream(item["inline"]).read_all()["object_id"]
    table = _read_range(item["uri"], item["start"], item["rows"], [config.id_column])
    return exact_ids(table[config.id_column], config.id_column)


def read_objects(config: ManifestConfig) -> pa.Table:
    """All rows of a manifest that fits in memory, e.g. a training set; columns and errors as `read_chunk`."""
    manifest = open_manifest(config, chunk_rows=1 << 20)
    chunks = [read_chunk(pa.Table.from_pylist([chunk.as_item()]), config) for chunk in manifest.chunks]
    return pa.concat_tables(chunks).drop_columns([CHUNK])


def find_objects(config: ManifestConfig, ids: pa.Array) -> pa.Table:
    """The rows with the given ids, in any order; columns and errors as `read_chunk`.

    Of a Parquet manifest, all ids are read, and the other columns only of row groups that contain given ids.
    """
    tables = []
    for uri in manifest_files(config.uri):
        if is_parquet(uri):
            tables += _find_in_parquet(uri, config, ids)
            continue
        table = read_table(uri, [config.id_column, *template_columns(config)])
        check_columns(table.column_names, config)
        table = table.select(wanted_columns(config, with_image=True)).filter(_has_id(table, config, ids))
        tables.append(pipeline_columns(table, config, with_bytes=True))
    return pa.concat_tables(tables)


def _find_in_parquet(uri: str, config: ManifestConfig, ids: pa.Array) -> list[pa.Table]:
    tables = []
    with open_parquet(uri) as parquet:
        check_columns(parquet.schema_arrow.names, config)
        columns = wanted_columns(config, with_image=True)
        for group in range(parquet.num_row_groups):
            if not pc.any(_has_id(parquet.read_row_group(group, [config.id_column]), config, ids)).as_py():
                continue
            for batch in parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns):
                rows = pa.Table.from_batches([batch])
                tables.append(pipeline_columns(rows.filter(_has_id(rows, config, ids)), config, with_bytes=True))
        tables.append(pipeline_columns(parquet.schema_arrow.empty_table().select(columns), config, with_bytes=True))
    return tables


def _has_id(table: pa.Table, config: ManifestConfig, ids: pa.Array) -> pa.ChunkedArray:
    own = exact_ids(table[config.id_column], config.id_column)
    return pc.is_in(own, value_set=ids.cast(own.type))


def _expected_rows(files: Sequence[str]) -> int:
    """Estimate of the number of rows, from the first file; 0 if it is not Parquet."""
    if not files or not is_parquet(files[0]):
        return 0
    with open_parquet(files[0]) as parquet:
        return len(files) * int(parquet.metadata.num_rows)


def _check_unique(hashes: DiskCounter, files: Sequence[str], config: ManifestConfig) -> None:
    """Check that no id is repeated. Ids with equal hashes are read again, since texts may share a hash."""
    repeated = hashes.repeated()[:_MAX_REPEATED]
    if not len(repeated):
        return
    counts = Counter[int | str]()
    for ids in _all_ids(files, config):
        counts.update(ids.filter(pa.array(np.isin(id_hashes(ids), repeated))).to_pylist())
    if doubled := [value for value, count in counts.items() if count > 1]:
        number = f"{'at least ' if len(repeated) == _MAX_REPEATED else ''}{len(doubled)}"
        more = f" and {len(doubled) - _SHOWN_IDS} more" if len(doubled) > _SHOWN_IDS else ""
        shown = ", ".join(map(str, doubled[:_SHOWN_IDS]))
        raise InputError(
            "manifest.id_column", config.id_column, f"{number} ids are in more than one row: {shown}{more}"
        )


def _all_ids(files: Sequence[str], config: ManifestConfig) -> Iterator[pa.ChunkedArray]:
    name = config.id_column
    for uri in files:
        if not is_parquet(uri):
            yield exact_ids(read_table(uri, [name])[name], name)
            continue
        with open_parquet(uri) as parquet:
            for group in range(parquet.num_row_groups):
                yield exact_ids(parquet.read_row_group(group, [name])[name], name)


def _scan_parquet(uri: str, config: ManifestConfig, chunk_rows: int, first: int, scan: ManifestScan) -> list[Chunk]:
    chunks: list[Chunk] = []
    with open_parquet(uri) as parquet:
        check_columns(parquet.schema_arrow.names, config)
        embedded = contains_images(parquet.schema_arrow, config)
        columns = wanted_columns(config, with_image=not embedded)
        for group in range(parquet.num_row_groups):
            rows = pipeline_columns(parquet.read_row_group(group, columns), config, with_bytes=False)
            scan.add(rows, config.keep_columns)
            if embedded:  # images are not read here; their sizes and statistics in the footer identify them
                scan.digest.update(str(parquet.metadata.row_group(group).to_dict()).encode())
        if embedded:  # contains the checksum of all images that jobs.pack_cutouts writes
            scan.digest.update(str(sorted((parquet.metadata.metadata or {}).items())).encode())
        sizes = [parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)]
    for start, count in _divide(sizes, chunk_rows):
        chunks.append(Chunk(first + len(chunks), count, uri, start))
    return chunks


def _scan_table(uri: str, config: ManifestConfig, chunk_rows: int, first: int, scan: ManifestScan) -> list[Chunk]:
    as_text = [config.id_column, *template_columns(config)]
    table = read_table(uri, as_text)
    check_columns(table.column_names, config)
    rows = pipeline_columns(table.select(wanted_columns(config, with_image=True)), config, with_bytes=True)
    if not len(rows):
        return []
    scan.add(rows, config.keep_columns)
    chunks: list[Chunk] = []
    for start, count in _divide([len(rows)], chunk_rows):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows.slice(start, count))
        chunks.append(Chunk(first + len(chunks), count, inline=sink.getvalue().to_pybytes()))
    return chunks


def _divide(group_sizes: list[int], chunk_rows: int) -> Iterator[tuple[int, int]]:
    """(start, rows) of each chunk; whole row groups where they fit, so that no group is read twice."""
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


def _read_range(uri: str, start: int, rows: int, columns: list[str]) -> pa.Table:
    with open_parquet(uri) as parquet:
        ends = np.cumsum([parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)])
        groups = [g for g, end in enumerate(ends) if end > start and (g == 0 or ends[g - 1] < start + rows)]
        table = parquet.read_row_groups(groups, columns)
    skipped = int(ends[groups[0] - 1]) if groups and groups[0] else 0
    return table.slice(start - skipped, rows)
