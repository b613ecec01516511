"""The plan of a packing run: what goes in, how it is cut into shards, what is left to do; checked before Ray starts.

`plan.json` in the output records it: a run that continues makes the shards that the first one planned.
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

from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.errors import GateError, InputError
from galaxy_batch.inputs.columns import check_kept_names, kept_columns
from galaxy_batch.inputs.files import manifest_files
from galaxy_batch.inputs.manifest import Chunk, Manifest, open_manifest, read_chunk
from galaxy_batch.packing.config import PackConfig
from galaxy_batch.packing.shards import IMAGE, SHARDS, Shard, finished_shards, shard_schema
from galaxy_batch.rows import IMAGE_BYTES, Status
from galaxy_batch.storage.files import check_writable, filesystem, join, list_names, read_bytes, without_secrets

__all__ = ["FORMAT", "MANIFEST", "PLAN", "PackPlan", "failed_summary", "plan_pack", "settings_of", "summary_of"]

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
"""Record of the finished output, in its folder; written last."""
PLAN = "plan.json"
"""Record of the plan, in the output's folder."""
FORMAT = 1
"""Of shards, `plan.json` and `manifest.json`; part of the fingerprint."""
_SAMPLED_CHUNKS, _SAMPLED_ROWS = 4, 128  # spread over the manifest; enough for a mean size
_LEAST_BYTES = 1024  # per cutout, when a shard is planned: a sample of missing files must not make one endless shard


@dataclass(frozen=True)
class PackPlan:
    """A checked run: what goes in, how it is cut, and what is left to do."""

    config: PackConfig
    manifest: Manifest
    shards: tuple[Shard, ...]
    record: dict[str, Any]
    """Content of `plan.json`: `fingerprint`, `shards`, and the mean size that they were planned with."""
    stale: bool
    """The output holds shards that were made from something else, and is to be emptied first."""
    todo: tuple[Shard, ...]
    """Shards that do not exist yet."""
    packed: dict[str, Any] | None
    """`manifest.json` of an output that is complete: then there is nothing to do."""

    @property
    def schema(self) -> pa.Schema:
        """The shards' schema."""
        return shard_schema(self.manifest.id_type, self.manifest.kept)


def plan_pack(config: PackConfig) -> PackPlan:
    """Check the manifest and the output, decide on the cut, and see what an earlier run has finished. Needs no Ray.

    Raises:
        InputError: something that was given cannot be used.
        GateError: the size of a cutout is not known yet, and the store does not answer.
    """
    check_kept_names(kept_columns(config.manifest), [IMAGE])
    _check_apart(config)
    earlier = _read_json(config, PLAN)
    _check_explained(config, earlier)
    manifest = open_manifest(config.manifest, config.row_group_rows)
    mark = _fingerprint(config, manifest)
    stale = earlier is not None and earlier["fingerprint"] != mark
    if stale and not config.overwrite:
        raise InputError(
            "output_uri",
            without_secrets(config.output_uri),
            "holds shards of another manifest or of other settings; set overwrite = true to replace them, or choose "
            "another output_uri",
        )
    record = earlier if earlier is not None and not stale else _sized_plan(config, manifest, mark)
    shards = _cut(manifest.chunks, record["shards"])
    done = set() if stale else finished_shards(config.output_uri)
    todo = tuple(shard for shard in shards if shard.index not in done)
    packed = None if todo else _read_json(config, MANIFEST)
    if packed is None or packed["fingerprint"] != mark:
        packed = None
        check_writable(config.output_uri)
    return PackPlan(config, manifest, shards, record, stale, todo, packed)


def settings_of(config: PackConfig) -> dict[str, int]:
    """The settings that change a file."""
    names = ("shard_bytes", "row_group_rows", "max_image_bytes")
    return {name: getattr(config, name) for name in names}


def summary_of(
    config: PackConfig, counts: Mapping[str, Any], started: float, already_packed: bool = False
) -> dict[str, Any]:
    """The job's summary: `counts` has `rows`, `failed`, `shards`, `bytes`, `status_counts`; `started` is monotonic."""
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
    """The summary of a run that a gate stopped when it had so many shards: nobody is to read them."""
    return {**summary_of(config, {**counts, "shards": shards}, started), "shards_uri": None}


def _sized_plan(config: PackConfig, manifest: Manifest, mark: str) -> dict[str, Any]:
    """Decide how many shards to make, from the sizes of a few cutouts. The same manifest gives the same plan."""
    mean = max(_mean_bytes(config, manifest), _LEAST_BYTES)
    shards = min(len(manifest.chunks), max(1, round(manifest.rows * mean / config.shard_bytes)))
    each = manifest.rows * mean / shards
    logger.info("a cutout has about %.1f KiB: %d shards of about %.0f MiB", mean / 1024, shards, each / (1 << 20))
    if each > 2 * config.shard_bytes:
        logger.warning("a shard has at least one row group: lower row_group_rows to come near shard_bytes")
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
        rows = read_chunk(pa.Table.from_pylist([chunk.as_item()]), config.manifest).slice(0, _SAMPLED_ROWS)
        tables.append(fetch_cutouts(rows, config.max_image_bytes).select(["status", "error", IMAGE_BYTES]))
    sample = pa.concat_tables(tables)
    reached = sample.filter(pc.not_equal(sample["status"], Status.UNREACHABLE))
    if not len(reached):
        nothing = {"failed": len(sample), "bytes": 0, "status_counts": {str(Status.UNREACHABLE): len(sample)}}
        raise GateError(
            f"the store did not answer for any of {len(sample)} cutouts ({sample['error'][0]}); nothing was packed",
            failed_summary(config, {**nothing, "rows": manifest.rows}, 0, time.monotonic()),
        )
    return float(pc.sum(pc.binary_length(reached[IMAGE_BYTES])).as_py() or 0) / len(reached)


def _cut(chunks: tuple[Chunk, ...], shards: int) -> tuple[Shard, ...]:
    """Consecutive chunks in so many groups, even to a chunk: no small last file."""
    total = sum(chunk.rows for chunk in chunks)
    starts = itertools.accumulate((chunk.rows for chunk in chunks), initial=0)
    groups = itertools.groupby(zip(starts, chunks, strict=False), key=lambda pair: pair[0] * shards // total)
    return tuple(Shard(index, tuple(chunk for _, chunk in group)) for index, (_, group) in enumerate(groups))


def _check_apart(config: PackConfig) -> None:
    """Shards that are packed anew must not be written over: they would be removed before they are read."""
    _, folder = filesystem(join(config.output_uri, SHARDS))
    for uri in manifest_files(config.manifest.uri):
        if filesystem(uri)[1].startswith(f"{folder}/"):
            raise InputError("output_uri", without_secrets(config.output_uri), "the manifest itself lies in its shards")


def _check_explained(config: PackConfig, earlier: dict[str, Any] | None) -> None:
    """Other people's files are never replaced, not even with `overwrite`."""
    if earlier is None and (list_names(join(config.output_uri, SHARDS)) or MANIFEST in list_names(config.output_uri)):
        raise InputError(
            "output_uri",
            without_secrets(config.output_uri),
            f"holds {SHARDS} or a {MANIFEST} without a {PLAN}, which this job did not write; choose another folder",
        )


def _read_json(config: PackConfig, name: str) -> dict[str, Any] | None:
    """One of the output's JSON files; None where it does not exist."""
    try:
        content = json.loads(read_bytes(join(config.output_uri, name)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        content = None
    if not isinstance(content, dict) or not {"fingerprint", "rows", "shards"} <= content.keys():
        raise InputError("output_uri", without_secrets(config.output_uri), f"{name} is damaged, or not of this job")
    return content


def _fingerprint(config: PackConfig, manifest: Manifest) -> str:
    """16 hex digits for all that the shards are made from: the manifest's content and the settings."""
    made_from = {"format": FORMAT, "manifest": manifest.content_id, "settings": settings_of(config)}
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
