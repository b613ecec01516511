"""The plan of a packing run: input, division into shards, missing shards; checked before Ray starts.

`plan.json` in the output records it, so that a resumed run makes the same shards.
"""

import hashlib
import itertools
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.errors import GateError, InputError
from galaxy_batch.inputs.columns import check_kept_names, kept_columns
from galaxy_batch.inputs.files import manifest_files
from galaxy_batch.inputs.manifest import Chunk, Manifest, read_chunk
from galaxy_batch.packing.config import PackConfig
from galaxy_batch.packing.shards import IMAGE, SHARDS, Shard, finished_shards, shard_schema
from galaxy_batch.rows import IMAGE_BYTES, Status
from galaxy_batch.storage.files import check_writable, filesystem, join, list_names, read_bytes, without_secrets
from galaxy_batch.tiles.cutouts import read_cutouts
from galaxy_batch.tiles.grouping import open_by_tile

__all__ = ["FORMAT", "MANIFEST", "PLAN", "PackPlan", "failed_summary", "packing_summary", "plan_pack", "shard_settings"]

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
"""Record of the finished output, in its folder; written last."""
PLAN = "plan.json"
"""File name of the recorded plan."""
TILES = "tiles"
"""Folder where the headers of the survey's tiles are remembered, where cutouts are cut from tiles."""
FORMAT = 1
"""Format of shards, `plan.json` and `manifest.json`; part of the fingerprint."""
_SAMPLED_CHUNKS, _SAMPLED_ROWS = 4, 128  # rows per chunk; enough for a mean size
_MIN_MEAN_BYTES = 1024  # a sample of missing files must not lead to one huge shard


@dataclass(frozen=True)
class PackPlan:
    """A checked run: input, division into shards, and missing shards."""

    config: PackConfig
    manifest: Manifest
    shards: tuple[Shard, ...]
    record: dict[str, Any]
    """Content of `plan.json`: `fingerprint`, number of `shards`, and the mean image size used to plan them."""
    stale: bool
    """Whether the output holds shards made from other input, to be removed first."""
    todo: tuple[Shard, ...]
    """Missing shards."""
    packed: dict[str, Any] | None
    """`manifest.json` of a complete output, which needs no work."""

    @property
    def schema(self) -> pa.Schema:
        """The shards' schema."""
        return shard_schema(self.manifest.id_type, self.manifest.kept, self.config.manifest.keep_image_uri)


def plan_pack(config: PackConfig) -> PackPlan:
    """Check manifest and output, decide on the number of shards, and list the missing ones. Needs no Ray.

    Raises:
        InputError: the manifest, the output or a setting is invalid.
        GateError: the store did not respond, so that the size of a cutout is unknown.
    """
    check_kept_names(kept_columns(config.manifest), [IMAGE])
    _check_apart(config)
    previous = _read_json(config, PLAN)
    _check_own_output(config, previous)
    manifest = open_by_tile(config.manifest, config.row_group_rows, join(config.output_uri, TILES))
    mark = _fingerprint(config, manifest)
    stale = previous is not None and previous["fingerprint"] != mark
    if stale and not config.overwrite:
        raise InputError(
            "output_uri",
            config.output_uri,
            "holds shards of another manifest or of other settings; set overwrite = true to replace them, or choose "
            "another output_uri",
        )
    record = previous if previous is not None and not stale else _sized_plan(config, manifest, mark)
    shards = _divide_chunks(manifest.chunks, record["shards"])
    done = set() if stale else finished_shards(config.output_uri)
    todo = tuple(shard for shard in shards if shard.index not in done)
    packed = None if todo else _read_json(config, MANIFEST)
    if packed is None or packed["fingerprint"] != mark:
        packed = None
        check_writable(config.output_uri)
    return PackPlan(config, manifest, shards, record, stale, todo, packed)


def shard_settings(config: PackConfig) -> dict[str, int]:
    """The settings that change the content of shards."""
    names = ("shard_bytes", "row_group_rows", "max_image_bytes")
    return {name: getattr(config, name) for name in names}


def packing_summary(
    config: PackConfig, counts: Mapping[str, Any], started: float, already_packed: bool = False
) -> dict[str, Any]:
    """The job's summary; `counts` has `rows`, `failed`, `shards`, `bytes`, `status_counts`, `started` is monotonic."""
    output_uri = without_secrets(config.output_uri)
    return {
        "output_uri": output_uri,
        "shards_uri": join(output_uri, SHARDS, "*.parquet"),
        "rows": counts["rows"],
        "failed": counts["failed"],
        "shards": counts["shards"],
        "bytes": counts["bytes"],
        "seconds": round(time.monotonic() - started, 3),
        "status_counts": counts["status_counts"],
        "already_packed": already_packed,
    }


def failed_summary(config: PackConfig, counts: Mapping[str, Any], shards: int, started: float) -> dict[str, Any]:
    """Summary of a run that failed with this many shards; it names no shards to read."""
    return {**packing_summary(config, {**counts, "shards": shards}, started), "shards_uri": None}


def _sized_plan(config: PackConfig, manifest: Manifest, mark: str) -> dict[str, Any]:
    """Decide on the number of shards from the sizes of some cutouts; reproducible."""
    mean = max(_mean_bytes(config, manifest), _MIN_MEAN_BYTES)
    shards = min(len(manifest.chunks), max(1, round(manifest.rows * mean / config.shard_bytes)))
    each = manifest.rows * mean / shards
    logger.info("a cutout has about %.1f KiB: %d shards of about %.0f MiB", mean / 1024, shards, each / (1 << 20))
    if each > 2 * config.shard_bytes:
        logger.warning("shards exceed shard_bytes: each has at least one row group; lower row_group_rows")
    return {
        "format": FORMAT,
        "fingerprint": mark,
        "rows": manifest.rows,
        "shards": shards,
        "mean_image_bytes": round(mean, 1),
    }


def _mean_bytes(config: PackConfig, manifest: Manifest) -> float:
    step = max(1, len(manifest.chunks) // _SAMPLED_CHUNKS)
    tables = []
    for chunk in manifest.chunks[::step][:_SAMPLED_CHUNKS]:
        rows = read_chunk(chunk.as_table(), config.manifest).slice(0, _SAMPLED_ROWS)
        rows = read_cutouts(rows, config.manifest, config.max_image_bytes, config.runtime.requests_per_host)
        tables.append(rows.select(["status", "error", IMAGE_BYTES]))
    sample = pa.concat_tables(tables)
    reached = sample.filter(pc.not_equal(sample["status"], Status.UNREACHABLE))
    if not len(reached):
        counts = {"failed": len(sample), "bytes": 0, "status_counts": {str(Status.UNREACHABLE): len(sample)}}
        raise GateError(
            f"the store did not respond for any of {len(sample)} cutouts ({sample['error'][0]}); nothing was packed",
            failed_summary(config, {**counts, "rows": manifest.rows}, 0, time.monotonic()),
        )
    return float(pc.sum(pc.binary_length(reached[IMAGE_BYTES])).as_py() or 0) / len(reached)


def _divide_chunks(chunks: tuple[Chunk, ...], shards: int) -> tuple[Shard, ...]:
    """Divide consecutive chunks into shards of equal size to within a chunk."""
    total = sum(chunk.rows for chunk in chunks)
    starts = itertools.accumulate((chunk.rows for chunk in chunks), initial=0)
    groups = itertools.groupby(zip(starts, chunks, strict=False), key=lambda pair: pair[0] * shards // total)
    return tuple(Shard(index, tuple(chunk for _, chunk in group)) for index, (_, group) in enumerate(groups))


def _check_apart(config: PackConfig) -> None:
    """Check that the output does not hold the manifest, which would be removed before it is read."""
    _, folder = filesystem(join(config.output_uri, SHARDS))
    for uri in [config.manifest.uri] if config.manifest.lists_images else manifest_files(config.manifest.uri):
        if filesystem(uri)[1].startswith(f"{folder}/"):
            raise InputError("output_uri", config.output_uri, "the manifest is in the shards of this output")


def _check_own_output(config: PackConfig, previous: dict[str, Any] | None) -> None:
    """Check that the output holds no files of others: those are never replaced, not even with `overwrite`."""
    if previous is None and (list_names(join(config.output_uri, SHARDS)) or MANIFEST in list_names(config.output_uri)):
        raise InputError(
            "output_uri",
            config.output_uri,
            f"holds {SHARDS} or a {MANIFEST} without a {PLAN}, which this job did not write; choose another folder",
        )


def _read_json(config: PackConfig, name: str) -> dict[str, Any] | None:
    """Read a JSON file of the output; None if it does not exist."""
    try:
        content = json.loads(read_bytes(join(config.output_uri, name)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        content = None
    if not isinstance(content, dict) or not {"fingerprint", "rows", "shards"} <= content.keys():
        raise InputError("output_uri", config.output_uri, f"{name} is damaged, or from another job")
    return content


def _fingerprint(config: PackConfig, manifest: Manifest) -> str:
    """16 hex digits that identify the manifest's content and the settings."""
    made_from = {"format": FORMAT, "manifest": manifest.content_id, "settings": shard_settings(config)}
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
