"""The manifest: a table of objects, cut deterministically into chunks of rows.

A chunk is the unit of work. A Parquet manifest is read twice, never whole: once here, to check ids and
positions, and once in the worker that gets a chunk. Other formats are read once, and their rows travel in
the chunk itself.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.rows import CATALOG_COLUMNS, CHUNK, IMAGE_BYTES, IMAGE_URI
from galaxy_batch.sky.healpix import pixels_at
from galaxy_batch.storage.files import open_parquet
from galaxy_batch.survey.locations import image_uris, template_columns
from galaxy_batch.survey.tables import is_parquet, manifest_files, read_table

__all__ = ["Chunk", "Manifest", "find_objects", "open_manifest", "read_chunk", "read_ids", "read_objects"]

_SHOWN = 10  # ids named in an error
_LOOKED_AT = 1024  # rows held at a time, with their images


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


@dataclass
class _Survey:
    """What is gathered on the one pass over the rows."""

    digest: Any = field(default_factory=hashlib.sha256)
    ids: list[pa.Array] = field(default_factory=list)
    kept: tuple[pa.Field, ...] = ()
    with_position: int = 0

    def add(self, rows: pa.Table, keep_columns: tuple[str, ...]) -> None:
        self.kept = tuple(rows.schema.field(name) for name in keep_columns)
        self.ids += rows["object_id"].chunks
        self.with_position += len(rows) - rows["ra"].null_count
        for name in rows.column_names:
            self.digest.update(name.encode())
            self.digest.update(_column_hashes(rows[name]).tobytes())


def open_manifest(config: ManifestConfig, chunk_rows: int) -> Manifest:
    """Read and check a manifest, and cut it into chunks of at most `chunk_rows` rows.

    Raises:
        InputError: no such file, a column that is not there or of a wrong type, no rows, null or duplicate ids.
    """
    _check_kept(config)
    files = manifest_files(config.uri)
    survey = _Survey()
    chunks: list[Chunk] = []
    for uri in files:
        if is_parquet(uri):
            chunks += _scan_parquet(uri, config, chunk_rows, len(chunks), survey)
        else:
            chunks += _scan_table(uri, config, chunk_rows, len(chunks), survey)
    if not chunks:
        raise InputError("manifest.uri", config.uri, "the manifest has no rows")
    id_types = {array.type for array in survey.ids}
    if len(id_types) > 1:
        raise InputError(
            "manifest.id_column", config.id_column, "integers in one file and text in another: use one type"
        )
    _check_unique(survey.ids, config.id_column)
    return Manifest(
        rows=sum(chunk.rows for chunk in chunks),
        chunks=tuple(chunks),
        content_id=survey.digest.hexdigest()[:16],
        id_type=id_types.pop(),
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
        columns = _wanted_columns(config, with_image=True)
        rows = _prepare(_read_range(item["uri"], item["start"], item["rows"], columns), config, with_bytes=True)
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
    return _ids(table[config.id_column], config.id_column)


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
        _check_columns(table.column_names, config)
        table = table.select(_wanted_columns(config, with_image=True)).filter(_among(table, config, ids))
        found.append(_prepare(table, config, with_bytes=True))
    return pa.concat_tables(found)


def _find_in_parquet(uri: str, config: ManifestConfig, ids: pa.Array) -> list[pa.Table]:
    found = []
    with open_parquet(uri) as parquet:
        _check_columns(parquet.schema_arrow.names, config)
        columns = _wanted_columns(config, with_image=True)
        for group in range(parquet.num_row_groups):
            if not pc.any(_among(parquet.read_row_group(group, [config.id_column]), config, ids)).as_py():
                continue
            for batch in parquet.iter_batches(_LOOKED_AT, row_groups=[group], columns=columns):
                rows = pa.Table.from_batches([batch])
                found.append(_prepare(rows.filter(_among(rows, config, ids)), config, with_bytes=True))
        found.append(_prepare(parquet.schema_arrow.empty_table().select(columns), config, with_bytes=True))
    return found


def _among(table: pa.Table, config: ManifestConfig, ids: pa.Array) -> pa.ChunkedArray:
    own = _ids(table[config.id_column], config.id_column)
    return pc.is_in(own, value_set=ids.cast(own.type))


def _scan_parquet(uri: str, config: ManifestConfig, chunk_rows: int, first: int, survey: _Survey) -> list[Chunk]:
    chunks: list[Chunk] = []
    with open_parquet(uri) as parquet:
        _check_columns(parquet.schema_arrow.names, config)
        embedded = config.image_column is not None and not _is_text(
            parquet.schema_arrow.field(config.image_column).type
        )
        if embedded:
            _check_image_type(parquet.schema_arrow.field(config.image_column).type, config)
        columns = _wanted_columns(config, with_image=not embedded)
        for group in range(parquet.num_row_groups):
            survey.add(_prepare(parquet.read_row_group(group, columns), config, with_bytes=False), config.keep_columns)
            if embedded:  # the images themselves are not read here: their sizes, as the footer has them, stand for them
                survey.digest.update(str(parquet.metadata.row_group(group).to_dict()).encode())
        if embedded:  # jobs.pack_cutouts writes a checksum of all images of a shard there
            survey.digest.update(str(sorted((parquet.metadata.metadata or {}).items())).encode())
        sizes = [parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)]
    for start, rows in _cut(sizes, chunk_rows):
        chunks.append(Chunk(first + len(chunks), rows, uri, start))
    return chunks


def _scan_table(uri: str, config: ManifestConfig, chunk_rows: int, first: int, survey: _Survey) -> list[Chunk]:
    as_text = [config.id_column, *template_columns(config)]
    table = read_table(uri, as_text)
    _check_columns(table.column_names, config)
    rows = _prepare(table.select(_wanted_columns(config, with_image=True)), config, with_bytes=True)
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


def _prepare(table: pa.Table, config: ManifestConfig, with_bytes: bool) -> pa.Table:
    """The manifest's own columns as the pipeline's: exact ids, ICRS degrees or null, locations or bytes."""
    columns: dict[str, Any] = {"object_id": _ids(table[config.id_column], config.id_column)}
    ra, dec = _positions(table, config)
    columns["ra"] = pa.array(ra, from_pandas=True)
    columns["dec"] = pa.array(dec, from_pandas=True)
    columns["_healpix_29"] = _healpix(ra, dec)
    image = config.image_column
    if image is None or (image in table.column_names and _is_text(table[image].type)):
        columns[IMAGE_URI] = image_uris(table, config)
    elif with_bytes:
        columns |= _embedded(table[image], config)
    columns |= {name: table[name] for name in config.keep_columns}
    return pa.table(columns)


def _embedded(column: pa.ChunkedArray, config: ManifestConfig) -> dict[str, Any]:
    """Bytes, or the `{bytes, path}` structs of Hugging Face, where the path serves when there are no bytes."""
    _check_image_type(column.type, config)
    if not pa.types.is_struct(column.type):
        return {IMAGE_BYTES: column.cast(pa.large_binary())}
    content = pc.struct_field(column, "bytes").cast(pa.large_binary())
    if "path" not in _field_names(column.type):
        return {IMAGE_BYTES: content}
    paths = pa.table({"path": pc.if_else(content.is_null(), pc.struct_field(column, "path"), None)})
    return {IMAGE_BYTES: content, IMAGE_URI: image_uris(paths, config, column="path")}


def _check_image_type(kind: pa.DataType, config: ManifestConfig) -> None:
    if pa.types.is_struct(kind) and "bytes" in _field_names(kind):
        return
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(
            "manifest.image_column", config.image_column, f"must hold bytes, {{bytes, path}} or locations, not {kind}"
        )


def _field_names(kind: pa.DataType) -> list[str]:
    return [kind.field(i).name for i in range(kind.num_fields)]


def _ids(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Identifiers as int64 or string, exactly as the table has them."""
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise InputError("manifest.id_column", name, f"{column.null_count} rows have no id (the first is row {row})")
    try:
        if pa.types.is_integer(column.type):
            return column.cast(pa.int64())
        if _is_text(column.type):
            return column.cast(pa.string())
    except pa.ArrowInvalid:
        raise InputError(
            "manifest.id_column", name, "ids over 2**63 - 1 do not fit int64: store them as text"
        ) from None
    raise InputError(
        "manifest.id_column", name, f"ids of type {column.type}: use integers or text, a float is not exact"
    )


def _positions(table: pa.Table, config: ManifestConfig) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Right ascension in [0, 360) and declination, in degrees; NaN in both where either is missing or out of range."""
    if config.ra_column is None or config.dec_column is None:
        nothing = np.full(len(table), np.nan)
        return nothing, nothing.copy()
    degrees = []
    for name in (config.ra_column, config.dec_column):
        try:
            degrees.append(table[name].cast(pa.float64()).to_numpy().astype(np.float64))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise InputError(
                "manifest.ra_column", name, f"of type {table[name].type}: decimal degrees are needed"
            ) from None
    ra, dec = degrees
    with np.errstate(invalid="ignore"):
        usable = (ra >= -180) & (ra <= 360) & (np.abs(dec) <= 90)  # false for NaN, and for the -999 of many surveys
    wrapped = np.where(ra < 0, ra + 360, ra)
    wrapped = np.where(wrapped >= 360, 0.0, wrapped)
    return np.where(usable, wrapped, np.nan), np.where(usable, dec, np.nan)


def _healpix(ra: npt.NDArray[np.float64], dec: npt.NDArray[np.float64]) -> pa.Array:
    usable = ~np.isnan(ra)
    pixels = np.zeros(len(ra), np.int64)
    if usable.any():
        pixels[usable] = pixels_at(ra[usable], dec[usable])
    return pa.array(pixels, mask=~usable)


def _column_hashes(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """64-bit hash of each value, exact for integers whether or not some are null."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if (pa.types.is_integer(column.type) and not column.null_count) or pa.types.is_floating(column.type):
        return pd.util.hash_array(column.to_numpy())
    if not _is_text(column.type):
        try:
            column = column.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # nested or binary values
            return pd.util.hash_array(np.array([repr(value) for value in column.to_pylist()], object))
    return pd.util.hash_array(column.fill_null("\0null").to_numpy().astype(object))


def _check_unique(arrays: list[pa.Array], name: str) -> None:
    if pa.types.is_integer(arrays[0].type):
        ids = np.sort(np.concatenate([array.to_numpy() for array in arrays]))
        doubled = np.unique(ids[1:][ids[1:] == ids[:-1]]).tolist()
    else:
        counts = pc.value_counts(pa.chunked_array(arrays))
        doubled = [entry["values"] for entry in counts.filter(pc.greater(counts.field("counts"), 1)).to_pylist()]
    if doubled:
        more = f" and {len(doubled) - _SHOWN} more" if len(doubled) > _SHOWN else ""
        shown = ", ".join(map(str, doubled[:_SHOWN]))
        raise InputError("manifest.id_column", name, f"{len(doubled)} ids stand in more than one row: {shown}{more}")


def _check_columns(present: list[str], config: ManifestConfig) -> None:
    named: dict[str, Iterable[str | None]] = {
        "id_column": [config.id_column],
        "ra_column": [config.ra_column],
        "dec_column": [config.dec_column],
        "image_column": [config.image_column],
        "band_templates" if config.band_templates else "uri_template": template_columns(config),
        "keep_columns": config.keep_columns,
    }
    for key, names in named.items():
        for name in names:
            if name is not None and name not in present:
                raise InputError(
                    f"manifest.{key}", name, f"no such column in {config.uri}; it has {', '.join(present)}"
                )


def _check_kept(config: ManifestConfig) -> None:
    own = {column.name for column in CATALOG_COLUMNS}
    for name in config.keep_columns:
        if name in own or name.startswith(("p_", "_")):
            raise InputError(
                "manifest.keep_columns", name, "the catalog has a column of this name; rename it in the manifest"
            )
    if len(set(config.keep_columns)) < len(config.keep_columns):
        raise InputError("manifest.keep_columns", config.keep_columns, "names a column twice")


def _wanted_columns(config: ManifestConfig, with_image: bool) -> list[str]:
    names = [config.id_column, config.ra_column, config.dec_column, *template_columns(config)]
    names += [config.image_column] if with_image else []
    return list(dict.fromkeys(name for name in [*names, *config.keep_columns] if name is not None))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
