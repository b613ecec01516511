"""Shards: the cutouts of many objects in one Parquet file, the encoded bytes inside, one row per object.

A shard is written in one atomic step, so a shard that exists is complete. One row group is one chunk of the manifest.
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxy_batch.config import ManifestConfig
from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.inputs.manifest import Chunk, read_chunk
from galaxy_batch.packing.config import PackConfig
from galaxy_batch.rows import CATALOG_COLUMNS, IMAGE_BYTES, Column, Status, column_metadata
from galaxy_batch.storage.files import join, list_names, read_bytes, write_atomically

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
"""The folder of the shards, below the output."""
IMAGE = "image"
"""The column with the encoded cutouts."""

_OWN_COLUMNS = ("object_id", "ra", "dec", IMAGE, "status", "error")
_IMAGES_KEY = "galaxy_batch.images"  # in the footer: SHA-256 of all image hashes, so that other images are another file


@dataclass(frozen=True)
class Shard:
    """Consecutive chunks of the manifest that become one file."""

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
    """Numbers of the shards that exist: all there is to know in order to resume."""
    names = (name for name in list_names(join(output_uri, SHARDS)) if name.startswith("shard-"))
    numbers = (name.removeprefix("shard-").removesuffix(".parquet") for name in names if name.endswith(".parquet"))
    return {int(number) for number in numbers if number.isdecimal()}


def shard_schema(id_type: pa.DataType, kept: Iterable[pa.Field] = ()) -> pa.Schema:
    """Schema of a shard: id, position, image, what became of it when it was packed, and the kept columns.

    Args:
        id_type: int64 or string, as the manifest has it.
        kept: the manifest's fields named in `keep_columns`.
    """
    known = {column.name: column for column in CATALOG_COLUMNS}
    known[IMAGE] = Column(IMAGE, pa.large_binary(), "The encoded cutout, exactly as it was stored; null without one")
    columns = [known[name] for name in _OWN_COLUMNS]
    fields = [
        pa.field(c.name, id_type if c.name == "object_id" else c.type, metadata=column_metadata(c)) for c in columns
    ]
    return pa.schema([*fields, *kept])


def pack_shard(shard: pa.Table, config: PackConfig, schema: pa.Schema) -> pa.Table:
    """Fetch the cutouts of one shard, chunk by chunk, and write them as one file in one atomic step.

    A shard with a cutout whose store does not answer is not written, unless `config.keep_unreachable`: what is not
    there, the next run gets. Then the other chunks are not asked for.

    Args:
        shard: one row that describes the shard (`Shard.as_item`).
        config: where the manifest and the output are, and the largest image.
        schema: `shard_schema` of this manifest.

    Gives one row: `shard`, `rows` and `bytes` as written (0 where nothing was), `status_counts` as JSON, and `lost`,
    the first cutout that was not reached.
    """
    (item,) = shard.to_pylist()
    sink, images, statuses = io.BytesIO(), hashlib.sha256(), Counter[str]()
    with _writer(sink, schema) as writer:
        for chunk in item["chunks"]:
            objects = read_chunk(pa.Table.from_pylist([chunk]), config.manifest)
            rows = fetch_cutouts(objects, config.max_image_bytes)
            statuses.update(rows["status"].to_pylist())
            if statuses[Status.UNREACHABLE] and not config.keep_unreachable:
                return _receipt(item["index"], 0, 0, statuses, _first_lost(rows))
            images.update(rows["image_hash"].fill_null(0).to_numpy().tobytes())
            writer.write_table(_columns(rows, schema), row_group_size=len(rows))
        writer.add_key_value_metadata({_IMAGES_KEY: images.hexdigest()})
    content = sink.getvalue()
    write_atomically(join(config.output_uri, SHARDS, shard_name(item["index"])), content)
    return _receipt(item["index"], statuses.total(), len(content), statuses, None)


def check_shard(shard: pa.Table, config: PackConfig, schema: pa.Schema) -> pa.Table:
    """Read a finished shard back, whole, and compare it with the manifest: the same ids in the same order.

    Args: as for `pack_shard`.

    Gives one row: `path` below the output, `rows`, `bytes`, `sha256`, `status_counts` as JSON, and `problem`, null
    when all is well.
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
    return pa.table(
        {
            "path": [path],
            "rows": [rows],
            "bytes": [len(content)],
            "sha256": [hashlib.sha256(content).hexdigest()],
            "status_counts": [json.dumps(statuses)],
            "problem": pa.array([problem], pa.string()),
        }
    )


def _columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    named = rows.rename_columns([IMAGE if name == IMAGE_BYTES else name for name in rows.column_names])
    return pa.table([named[field.name].cast(field.type) for field in schema], schema=schema)


def _writer(sink: io.BytesIO, schema: pa.Schema) -> pq.ParquetWriter:
    """A JPEG does not compress, has no order worth a statistic, and repeats too seldom for a dictionary."""
    probe = io.BytesIO()
    pq.write_table(schema.empty_table(), probe)
    leaves = [pq.ParquetFile(probe).schema.column(i).path for i in range(len(pq.ParquetFile(probe).schema))]
    others = [path for path in leaves if path != IMAGE]
    return pq.ParquetWriter(
        sink,
        schema,
        compression={**dict.fromkeys(others, "zstd"), IMAGE: "none"},
        use_dictionary=others,
        write_statistics=others,
        write_batch_size=1,  # a page holds whole batches and less than 2 GiB: a thousand large images would not fit
    )


def _problems(
    parquet: pq.ParquetFile,
    chunks: list[Mapping[str, Any]],
    manifest: ManifestConfig,
    schema: pa.Schema,
    statuses: Counter[str],
) -> Iterator[str]:
    """What is wrong with a shard, worst first. Counts the statuses on the way."""
    found = parquet.schema_arrow
    if found.names != schema.names or any(found.field(n).type != schema.field(n).type for n in _OWN_COLUMNS):
        yield f"has the columns {', '.join(found.names)}, not {', '.join(schema.names)}, or other types"
        return
    expected = [chunk["rows"] for chunk in chunks]
    groups = [parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)]
    if groups != expected:
        yield f"has {sum(groups)} rows in {len(groups)} row groups, not {sum(expected)} in {len(expected)}"
        return
    ids_only = replace(manifest, ra_column=None, dec_column=None, keep_columns=())
    for group, chunk in enumerate(chunks):
        rows = parquet.read_row_group(group, [*_OWN_COLUMNS])
        wanted = read_chunk(pa.Table.from_pylist([chunk]), ids_only)
        if not rows["object_id"].equals(wanted["object_id"]):
            yield f"row group {group}: the ids are not the manifest's"
        status = rows["status"].cast(pa.string())
        statuses.update(status.to_pylist())
        if not pc.equal(status, Status.OK).equals(rows[IMAGE].is_valid()):
            yield f"row group {group}: an image where the status is not ok, or none where it is"


def _first_lost(rows: pa.Table) -> str:
    row = rows.filter(pc.equal(rows["status"], Status.UNREACHABLE)).select(["object_id", "error"]).slice(0, 1)
    return f"object_id {row['object_id'][0]}, {row['error'][0]}"


def _receipt(index: int, rows: int, size: int, statuses: Counter[str], lost: str | None) -> pa.Table:
    return pa.table(
        {
            "shard": [index],
            "rows": [rows],
            "bytes": [size],
            "status_counts": [json.dumps(statuses)],
            "lost": pa.array([lost], pa.string()),
        }
    )
