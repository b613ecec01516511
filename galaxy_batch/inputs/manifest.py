"""The manifest: a table of objects, cut deterministically into chunks of rows.

A chunk is the unit of work. A Parquet manifest is read twice, never whole: once here, to check ids and
positions, and once in the worker that gets a chunk. Other formats are read once, and their rows travel in
the chunk itself.
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
    exact_ids,
    holds_images,
    pipeline_columns,
    wanted_columns,
)
from galaxy_batch.inputs.image_uris import template_columns
from galaxy_batch.inputs.tables import is_parquet, manifest_files, read_table
from galaxy_batch.rows import CHUNK
from galaxy_batch.storage.disk_counter import DiskCounter
from galaxy_batch.storage.files import open_parquet

__all__ = ["Chunk", "Manifest", "find_objects", "open_manifest", "read_chunk", "read_ids", "read_objects"]

_LOOKED_AT = 1024  # rows held at a time, with their images; repeated ids that are looked for
_SHOWN = 10  # of them, in an error


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of the manifest: a range of rows of a Parquet file, or the rows themselves."""

    index: int
    rows: int
    uri: str = ""
    start: int = 0
    inline: bytes = b""
    """The rows, prepared, as an Arrow IPC stream; empty for a range of a Parquet file."""

    def as_item(self) -> dict[str, Any]:
        """The chunk as one row of a Ray dataset."""
        return {"index": self.index, "rows": self.rows, "uri": self.uri, "start": self.start, "inline": self.inline}


@dataclass(frozen=True)
class Manifest:
    """An opened and checked manifest."""

    rows: int
    chunks: tuple[Chunk, ...]
    content_id: str
    """Hash of all that the manifest says; another content is another catalog."""
    id_type: pa.DataType
    """int64 or string."""
    kept: tuple[pa.Field, ...]
    """Fields of `keep_columns`, in that order."""
    with_position: int
    """Rows with a usable position."""


class ManifestScan:
    """What is gathered on the one pass over the rows; its memory does not grow with their number."""

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
    """Read and check a manifest, and cut it into chunks of at most `chunk_rows` rows.

    Raises:
        InputError: no such file, a column that is not there or of a wrong type, no rows, null or duplicate ids.
    """
    check_kept(config)
    files = manifest_files(config.uri)
    chunks: list[Chunk] = []
    with DiskCounter(_expected_rows(files)) as ids:
        survey = ManifestScan(ids)
        for uri in files:
            scan = _scan_parquet if is_parquet(uri) else _scan_table
            chunks += scan(uri, config, chunk_rows, len(chunks), survey)
        if not chunks:
            raise InputError("manifest.uri", config.uri, "the manifest has no rows")
        if len(survey.id_types) > 1:
            raise InputError(
                "manifest.id_column", config.id_column, "integers in one file and text in another: use one type"
            )
        _check_unique(ids, files, config)
    return Manifest(
        rows=sum(chunk.rows for chunk in chunks),
        chunks=tuple(chunks),
        content_id=survey.digest.hexdigest()[:16],
        id_type=survey.id_types.pop(),
        kept=survey.kept,
        with_position=survey.with_position,
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
    """The ids of one chunk, in the manifest's order; reads what `read_chunk` does, and no other column of the file."""
    (item,) = chunk.to_pylist()
    if item["inline"]:
        return pa.ipc.open_stream(item["inline"]).read_all()["object_id"]
    table = _read_range(item["uri"], item["start"], item["rows"], [config.id_column])
    return exact_ids(table[config.id_column], config.id_column)


def read_objects(config: ManifestConfig) -> pa.Table:
    """All rows of a manifest that fits in memory, such as a training set; columns and errors as above."""
    manifest = open_manifest(config, chunk_rows=1 << 20)
    chunks = [read_chunk(pa.Table.from_pylist([chunk.as_item()]), config) for chunk in manifest.chunks]
    return pa.concat_tables(chunks).drop_columns([CHUNK])


def find_objects(config: ManifestConfig, ids: pa.Array) -> pa.Table:
    """The rows of a manifest with these few ids, in no particular order; columns and errors as `read_chunk`.

    All ids are looked through; of a Parquet manifest nothing else is read but the row groups that have some of them.
    """
    found = []
    for uri in manifest_files(config.uri):
        if is_parquet(uri):
            found += _find_in_parquet(uri, config, ids)
            continue
        table = read_table(uri, [config.id_column, *template_columns(config)])
        check_columns(table.column_names, config)
        table = table.select(wanted_columns(config, with_image=True)).filter(_among(table, config, ids))
        found.append(pipeline_columns(table, config, with_bytes=True))
    return pa.concat_tables(found)


def _find_in_parquet(uri: str, config: ManifestConfig, ids: pa.Array) -> list[pa.Table]:
    found = []
    with open_parquet(uri) as parquet:
        check_columns(parquet.schema_arrow.names, config)
        columns = wanted_columns(config, with_image=True)
        for group in range(parquet.num_row_groups):
            if not pc.any(_among(parquet.read_row_group(group, [config.id_column]), config, ids)).as_py():
                continue
            for batch in parquet.iter_batches(_LOOKED_AT, row_groups=[group], columns=columns):
                rows = pa.Table.from_batches([batch])
                found.append(pipeline_columns(rows.filter(_among(rows, config, ids)), config, with_bytes=True))
        found.append(pipeline_columns(parquet.schema_arrow.empty_table().select(columns), config, with_bytes=True))
    return found


def _among(table: pa.Table, config: ManifestConfig, ids: pa.Array) -> pa.ChunkedArray:
    own = exact_ids(table[config.id_column], config.id_column)
    return pc.is_in(own, value_set=ids.cast(own.type))


def _expected_rows(files: Sequence[str]) -> int:
    """About how many rows there are, as if all files were like the first; 0 where that does not tell."""
    if not files or not is_parquet(files[0]):
        return 0
    with open_parquet(files[0]) as parquet:
        return len(files) * int(parquet.metadata.num_rows)


def _check_unique(hashes: DiskCounter, files: Sequence[str], config: ManifestConfig) -> None:
    """No id stands in two rows. Where hashes agree, the ids themselves are read again: texts may share a hash."""
    repeated = hashes.repeated()[:_LOOKED_AT]
    if not len(repeated):
        return
    found = Counter[int | str]()
    for ids in _all_ids(files, config):
        found.update(ids.filter(pa.array(np.isin(id_hashes(ids), repeated))).to_pylist())
    if doubled := [value for value, count in found.items() if count > 1]:
        count = f"{'at least ' if len(repeated) == _LOOKED_AT else ''}{len(doubled)}"
        more = f" and {len(doubled) - _SHOWN} more" if len(doubled) > _SHOWN else ""
        shown = ", ".join(map(str, doubled[:_SHOWN]))
        raise InputError(
            "manifest.id_column", config.id_column, f"{count} ids stand in more than one row: {shown}{more}"
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


def _scan_parquet(uri: str, config: ManifestConfig, chunk_rows: int, first: int, survey: ManifestScan) -> list[Chunk]:
    chunks: list[Chunk] = []
    with open_parquet(uri) as parquet:
        check_columns(parquet.schema_arrow.names, config)
        embedded = holds_images(parquet.schema_arrow, config)
        columns = wanted_columns(config, with_image=not embedded)
        for group in range(parquet.num_row_groups):
            rows = pipeline_columns(parquet.read_row_group(group, columns), config, with_bytes=False)
            survey.add(rows, config.keep_columns)
            if embedded:  # the images themselves are not read here: their sizes, as the footer has them, stand for them
                survey.digest.update(str(parquet.metadata.row_group(group).to_dict()).encode())
        if embedded:  # jobs.pack_cutouts writes a checksum of all images of a shard there
            survey.digest.update(str(sorted((parquet.metadata.metadata or {}).items())).encode())
        sizes = [parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)]
    for start, count in _cut(sizes, chunk_rows):
        chunks.append(Chunk(first + len(chunks), count, uri, start))
    return chunks


def _scan_table(uri: str, config: ManifestConfig, chunk_rows: int, first: int, survey: ManifestScan) -> list[Chunk]:
    as_text = [config.id_column, *template_columns(config)]
    table = read_table(uri, as_text)
    check_columns(table.column_names, config)
    rows = pipeline_columns(table.select(wanted_columns(config, with_image=True)), config, with_bytes=True)
    if not len(rows):
        return []
    survey.add(rows, config.keep_columns)
    chunks: list[Chunk] = []
    for start, count in _cut([len(rows)], chunk_rows):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows.slice(start, count))
        chunks.append(Chunk(first + len(chunks), count, inline=sink.getvalue().to_pybytes()))
    return chunks


def _cut(group_sizes: list[int], chunk_rows: int) -> Iterator[tuple[int, int]]:
    """(start, rows) of each chunk: whole row groups while they fit, so that no group is read twice."""
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
