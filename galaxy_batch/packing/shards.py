"""Shards: Parquet files with the encoded cutouts of many objects, one row per object.

A shard is written atomically, so one that exists is complete. One row group is one chunk of the manifest.
"""

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxy_batch.config import ManifestConfig
from galaxy_batch.inputs.manifest import Chunk, read_chunk, read_ids
from galaxy_batch.packing.config import PackConfig
from galaxy_batch.rows import CATALOG_COLUMNS, IMAGE_BYTES, IMAGE_URI_COLUMN, Column, Status, column_metadata
from galaxy_batch.storage.files import join, list_names, read_bytes, write_atomically
from galaxy_batch.tiles.cutouts import read_cutouts

__all__ = [
    "IMAGE",
    "SHARDS",
    "Shard",
    "check_shard",
    "finished_shards",
    "pack_shard",
    "shard_name",
    "shard_schema",
]

SHARDS = "shards"
"""Folder of the shards in the output."""
IMAGE = "image"
"""Column of the encoded cutouts."""

_NAME = re.compile(r"shard-(\d+)\.parquet")
_OWN_COLUMNS = ("object_id", "ra", "dec", IMAGE, "status", "error")
_IMAGES_KEY = "galaxy_batch.images"  # footer entry: SHA-256 of all image hashes, which makes files differ with images


@dataclass(frozen=True)
class Shard:
    """Consecutive chunks of the manifest that form one file."""

    index: int
    chunks: tuple[Chunk, ...]

    @property
    def rows(self) -> int:
        """Rows of all its chunks."""
        return sum(chunk.rows for chunk in self.chunks)

    def as_item(self) -> dict[str, Any]:
        """The shard as one row of a Ray dataset."""
        return {"index": self.index, "chunks": [chunk.as_item() for chunk in self.chunks]}


def shard_name(index: int) -> str:
    """The shard's file name."""
    return f"shard-{index:06d}.parquet"


def finished_shards(output_uri: str) -> set[int]:
    """Numbers of the existing shards, from which a run resumes."""
    return {int(name[1]) for name in map(_NAME.fullmatch, list_names(join(output_uri, SHARDS))) if name}


def shard_schema(id_type: pa.DataType, kept: Iterable[pa.Field] = (), image_uri: bool = False) -> pa.Schema:
    """Schema of a shard: id, position, image, its status when it was packed, and the kept columns.

    Args:
        id_type: int64 or string, as the manifest has it.
        kept: the manifest's fields named in `keep_columns`.
        image_uri: whether the location of each cutout is kept.
    """
    known = {column.name: column for column in CATALOG_COLUMNS}
    known[IMAGE] = Column(IMAGE, pa.large_binary(), "The encoded cutout, exactly as it was stored; null without one")
    columns = [known[name] for name in _OWN_COLUMNS] + [IMAGE_URI_COLUMN] * image_uri
    fields = [
        pa.field(c.name, id_type if c.name == "object_id" else c.type, metadata=column_metadata(c)) for c in columns
    ]
    return pa.schema([*fields, *kept])


def pack_shard(shard: pa.Table, config: PackConfig, schema: pa.Schema, requests_per_host: int = 1) -> pa.Table:
    """Fetch the cutouts of one shard, chunk by chunk, and write them as one file atomically.

    If a store does not respond for one of the cutouts, the rest is skipped and the shard left to the next run, unless
    `config.keep_unreachable`.

    Args:
        shard: one row that describes the shard (`Shard.as_item`).
        config: manifest, output and size limit of images.
        schema: `shard_schema` of this manifest.
        requests_per_host: largest number of simultaneous requests of this task to one http(s) host.

    Returns one row: `shard`, `rows` and `bytes` written, `status_counts` as JSON, and `lost`, the first cutout that was
    not reached.
    """
    (item,) = shard.to_pylist()
    sink, images, statuses = io.BytesIO(), hashlib.sha256(), Counter[str]()
    with _writer(sink, schema) as writer:
        for chunk in item["chunks"]:
            objects = read_chunk(pa.Table.from_pylist([chunk]), config.manifest)
            rows = read_cutouts(objects, config.manifest, config.max_image_bytes, requests_per_host)
            statuses.update(rows["status"].to_pylist())
            if statuses[Status.UNREACHABLE] and not config.keep_unreachable:
                return _result(item["index"], 0, 0, statuses, _first_unreachable(rows))
            images.update(rows["image_hash"].fill_null(0).to_numpy().tobytes())
            writer.write_table(_columns(rows, schema), row_group_size=len(rows))
        writer.add_key_value_metadata({_IMAGES_KEY: images.hexdigest()})
    content = sink.getvalue()
    write_atomically(join(config.output_uri, SHARDS, shard_name(item["index"])), content)
    return _result(item["index"], statuses.total(), len(content), statuses, None)


def check_shard(shard: pa.Table, config: PackConfig, schema: pa.Schema) -> pa.Table:
    """Read a whole shard back and compare its ids and their order with the manifest.

    Args: the first three of `pack_shard`.

    Returns one row: `path` relative to the output, `rows`, `bytes`, `sha256`, `status_counts` as JSON, and `problem`,
    null for a valid shard.
    """
    (item,) = shard.to_pylist()
    path = f"{SHARDS}/{shard_name(item['index'])}"
    rows, statuses, problem, content = 0, Counter[str](), None, b""
    try:
        content = read_bytes(join(config.output_uri, path))
        parquet = pq.ParquetFile(pa.BufferReader(content))
        rows = parquet.metadata.num_rows
        problem = next(_problems(parquet, item["chunks"], config.manifest, schema, statuses), None)
    except FileNotFoundError:
        problem = "is missing"
    except (pa.ArrowException, OSError) as error:
        problem = f"cannot be read as Parquet: {str(error).splitlines()[0]}"
    sha256, statuses_json = hashlib.sha256(content).hexdigest(), json.dumps(statuses)
    columns = [[path], [rows], [len(content)], [sha256], [statuses_json], pa.array([problem], pa.string())]
    return pa.table(columns, ["path", "rows", "bytes", "sha256", "status_counts", "problem"])


def _columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    named = rows.rename_columns([IMAGE if name == IMAGE_BYTES else name for name in rows.column_names])
    return pa.table([named[field.name].cast(field.type) for field in schema], schema=schema)


def _writer(sink: io.BytesIO, schema: pa.Schema) -> pq.ParquetWriter:
    """Compression, statistics and dictionaries for all columns but the images, which gain nothing from them."""
    probe = io.BytesIO()
    pq.write_table(schema.empty_table(), probe)
    columns = pq.ParquetFile(probe).schema
    others = [columns.column(i).path for i in range(len(columns)) if columns.column(i).path != IMAGE]
    return pq.ParquetWriter(
        sink,
        schema,
        compression={**dict.fromkeys(others, "zstd"), IMAGE: "none"},
        use_dictionary=others,
        write_statistics=others,
        write_batch_size=1,  # a page holds whole batches in less than 2 GiB: too little for 1024 large images
    )


def _problems(
    parquet: pq.ParquetFile,
    chunks: list[Mapping[str, Any]],
    manifest: ManifestConfig,
    schema: pa.Schema,
    statuses: Counter[str],
) -> Iterator[str]:
    """Problems of a shard, worst first; also counts the statuses."""
    actual = parquet.schema_arrow
    if actual.names != schema.names or any(actual.field(n).type != schema.field(n).type for n in _OWN_COLUMNS):
        yield f"has the columns {', '.join(actual.names)}, not {', '.join(schema.names)}, or other types"
        return
    expected = [chunk["rows"] for chunk in chunks]
    groups = [parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)]
    if groups != expected:
        yield f"has {sum(groups)} rows in {len(groups)} row groups, not {sum(expected)} in {len(expected)}"
        return
    for group, chunk in enumerate(chunks):
        rows = parquet.read_row_group(group, [*_OWN_COLUMNS])
        if not rows["object_id"].equals(read_ids(pa.Table.from_pylist([chunk]), manifest)):
            yield f"row group {group}: the ids are not the manifest's"
        status = rows["status"].cast(pa.string())
        statuses.update(status.to_pylist())
        if not pc.equal(status, Status.OK).equals(rows[IMAGE].is_valid()):
            yield f"row group {group}: image and status disagree"


def _first_unreachable(rows: pa.Table) -> str:
    row = rows.filter(pc.equal(rows["status"], Status.UNREACHABLE)).select(["object_id", "error"]).slice(0, 1)
    return f"object_id {row['object_id'][0]}, {row['error'][0]}"


def _result(index: int, rows: int, size: int, statuses: Counter[str], lost: str | None) -> pa.Table:
    columns = [[index], [rows], [size], [json.dumps(statuses)], pa.array([lost], pa.string())]
    return pa.table(columns, ["shard", "rows", "bytes", "status_counts", "lost"])
