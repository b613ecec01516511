"""The walk that packs: manifest -> shards of cutouts, which `build_catalog` and `train_model` read directly.

::

    <output_uri>/
        plan.json                       what the shards are made from and how many they are; written first
        shards/shard-000000.parquet     one per group of consecutive chunks, each written in one step
        manifest.json                   counts, SHA-256 of every shard; written last

`plan_pack` checks everything that can be checked before Ray starts; `pack_cutouts` does the work.
"""

import hashlib
import itertools
import json
import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from galaxy_batch.catalog import MANIFEST, write_json
from galaxy_batch.config import PackConfig
from galaxy_batch.cutouts import fetch_cutouts
from galaxy_batch.errors import GateError, InputError
from galaxy_batch.manifest import Chunk, Manifest, open_manifest, read_chunk
from galaxy_batch.rows import IMAGE_BYTES, Status
from galaxy_batch.running.progress import Progress
from galaxy_batch.running.workers import workers_for
from galaxy_batch.shards import (
    IMAGE,
    SHARDS,
    Shard,
    check_shard,
    finished_shards,
    pack_shard,
    shard_name,
    shard_schema,
)
from galaxy_batch.storage.files import (
    check_writable,
    filesystem,
    join,
    list_names,
    read_bytes,
    remove_tree,
    without_secrets,
)
from galaxy_batch.survey.tables import manifest_files

__all__ = ["PLAN", "PackPlan", "pack_cutouts", "plan_pack"]

logger = logging.getLogger(__name__)

PLAN = "plan.json"
_FORMAT = 1  # of shards, plan.json and manifest.json; part of the fingerprint
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
    if IMAGE in config.manifest.keep_columns:
        raise InputError("manifest.keep_columns", IMAGE, "the shards have a column of this name; rename it")
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
        _check_output(config)
    return PackPlan(config, manifest, shards, record, stale, todo, packed)


def pack_cutouts(plan: PackPlan) -> dict[str, Any]:
    """Pack the shards that are missing, read all of them back, write `manifest.json`; give the job's summary.

    Raises:
        GateError: a store did not answer, a shard is not what it should be, or too many rows have no image.
    """
    started = time.monotonic()
    if plan.packed is not None:
        logger.info("already packed, nothing to do: %s", without_secrets(plan.config.output_uri))
        return _summary(plan.config, plan.packed, started, already_packed=True)
    remove_tree(join(plan.config.output_uri, MANIFEST))
    if plan.stale:
        remove_tree(join(plan.config.output_uri, SHARDS))
    write_json(join(plan.config.output_uri, PLAN), plan.record)
    receipts = _pack_missing(plan)
    _check_reached(plan, receipts, started)
    entries = _read_back(plan)
    found = _counts(entries)
    _check_shards(plan, entries, found, started)
    _check_failures(plan, found, started)
    files = [{key: entry[key] for key in ("path", "rows", "bytes", "sha256")} for entry in entries]
    content = {**found, **_about(plan), "files": files}
    write_json(join(plan.config.output_uri, MANIFEST), content)
    return _summary(plan.config, content, started)


def _sized_plan(config: PackConfig, manifest: Manifest, mark: str) -> dict[str, Any]:
    """Decide how many shards to make, from the sizes of a few cutouts. The same manifest gives the same plan."""
    mean = max(_mean_bytes(config, manifest), _LEAST_BYTES)
    shards = min(len(manifest.chunks), max(1, round(manifest.rows * mean / config.shard_bytes)))
    each = manifest.rows * mean / shards
    logger.info("a cutout has about %.1f KiB: %d shards of about %.0f MiB", mean / 1024, shards, each / (1 << 20))
    if each > 2 * config.shard_bytes:
        logger.warning("a shard has at least one row group: lower row_group_rows to come near shard_bytes")
    return {
        "format": _FORMAT,
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
            _failed_summary(config, {**nothing, "rows": manifest.rows}, 0, time.monotonic()),
        )
    return float(pc.sum(pc.binary_length(reached[IMAGE_BYTES])).as_py() or 0) / len(reached)


def _cut(chunks: tuple[Chunk, ...], shards: int) -> tuple[Shard, ...]:
    """Consecutive chunks in so many groups, even to a chunk: no small last file."""
    total = sum(chunk.rows for chunk in chunks)
    starts = itertools.accumulate((chunk.rows for chunk in chunks), initial=0)
    groups = itertools.groupby(zip(starts, chunks, strict=False), key=lambda pair: pair[0] * shards // total)
    return tuple(Shard(index, tuple(chunk for _, chunk in group)) for index, (_, group) in enumerate(groups))


def _pack_missing(plan: PackPlan) -> list[dict[str, Any]]:
    """One task is one shard is one file; gives what `pack_shard` says of each."""
    done = plan.manifest.rows - sum(shard.rows for shard in plan.todo)
    progress = Progress(plan.manifest.rows, done, plan.config.runtime.progress_every_s)
    if done:
        logger.info("resuming: %s galaxies are packed, %s shards are left", f"{done:,}", f"{len(plan.todo):,}")
    if not plan.todo:
        return []
    written = ray.data.from_items([shard.as_item() for shard in plan.todo], override_num_blocks=len(plan.todo))
    receipts = []
    for receipt in written.map_batches(pack_shard, **_arguments(plan, len(plan.todo))).iter_rows():
        statuses = json.loads(receipt["status_counts"])
        receipts.append({**receipt, "status_counts": statuses})
        if receipt["rows"]:
            progress.add(receipt["rows"], receipt["rows"] - statuses.get(Status.OK, 0), 0)
    return receipts


def _read_back(plan: PackPlan) -> list[dict[str, Any]]:
    """What `check_shard` says of every shard, of this run and of earlier ones."""
    shards = ray.data.from_items([shard.as_item() for shard in plan.shards], override_num_blocks=len(plan.shards))
    entries = shards.map_batches(check_shard, **_arguments(plan, len(plan.shards))).take_all()
    entries = [{**entry, "status_counts": json.loads(entry["status_counts"])} for entry in entries]
    return sorted(entries, key=lambda entry: str(entry["path"]))


def _arguments(plan: PackPlan, tasks: int) -> dict[str, Any]:
    """What both stages get. A task holds a shard, so that memory, not CPUs, may limit how many run at a time."""
    mean, chunk_rows = plan.record["mean_image_bytes"], max(chunk.rows for chunk in plan.manifest.chunks)
    needed = mean * (2 * max(shard.rows for shard in plan.shards) + 2 * chunk_rows)
    smallest = min(node["Resources"].get("memory", needed) for node in ray.nodes() if node["Alive"])
    return {
        "fn_kwargs": {"config": plan.config, "schema": plan.schema},
        **workers_for(plan.config.runtime, tasks).task_options,
        "memory": int(min(needed, smallest)),  # more than a node has would wait for ever
    }


def _counts(entries: list[dict[str, Any]]) -> dict[str, Any]:
    statuses = sum((Counter(entry["status_counts"]) for entry in entries), Counter[str]())
    return {
        "rows": sum(entry["rows"] for entry in entries),
        "failed": statuses.total() - statuses[Status.OK],
        "status_counts": dict(sorted(statuses.items())),
        "bytes": sum(entry["bytes"] for entry in entries),
    }


def _check_reached(plan: PackPlan, receipts: list[dict[str, Any]], started: float) -> None:
    missing = [receipt for receipt in receipts if receipt["lost"] is not None]
    if not missing:
        return
    statuses = sum((Counter(receipt["status_counts"]) for receipt in receipts), Counter[str]())
    lost = sum(receipt["status_counts"][Status.UNREACHABLE] for receipt in missing)
    counts = {
        "rows": plan.manifest.rows,
        "failed": lost,
        "status_counts": dict(sorted(statuses.items())),
        "bytes": sum(receipt["bytes"] for receipt in receipts),
    }
    raise GateError(
        f"the store did not answer for {lost} cutouts (the first: {missing[0]['lost']}), so {len(missing)} of "
        f"{len(plan.shards)} shards were not written; run again to retry these, or set keep_unreachable = true to "
        "pack such rows without an image",
        _failed_summary(plan.config, counts, len(plan.shards) - len(missing), started),
    )


def _check_shards(plan: PackPlan, entries: list[dict[str, Any]], found: dict[str, Any], started: float) -> None:
    problems = [f"{entry['path']}: {entry['problem']}" for entry in entries if entry["problem"] is not None]
    known = {shard_name(shard.index) for shard in plan.shards}
    present = list_names(join(plan.config.output_uri, SHARDS))
    problems += [f"{SHARDS}/{name}: is not part of this output" for name in present if name not in known]
    if not problems and found["rows"] != plan.manifest.rows:
        problems.append(f"{found['rows']} rows in the shards, {plan.manifest.rows} in the manifest")
    if problems:
        raise GateError(
            f"{len(problems)} files are not as they should be, remove them and run again: " + "; ".join(problems[:5]),
            _failed_summary(plan.config, found, len(entries), started),
        )


def _check_failures(plan: PackPlan, found: dict[str, Any], started: float) -> None:
    limit = plan.config.max_failed_fraction
    if found["failed"] <= limit * found["rows"]:
        return
    worst = ", ".join(f"{count} {status}" for status, count in found["status_counts"].items() if status != Status.OK)
    raise GateError(
        f"{found['failed']} of {found['rows']} rows have no image ({worst}), more than max_failed_fraction = {limit}; "
        f"{MANIFEST} was not written. The shards are kept: run again with a higher limit to accept them, or remove "
        "output_uri to pack anew",
        _failed_summary(plan.config, found, len(plan.shards), started),
    )


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


def _check_output(config: PackConfig) -> None:
    try:
        check_writable(config.output_uri)
    except (OSError, NotImplementedError) as error:
        raise InputError("output_uri", without_secrets(config.output_uri), f"cannot be written: {error}") from None


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


def _settings(config: PackConfig) -> dict[str, int]:
    """The settings that change a file."""
    names = ("shard_bytes", "row_group_rows", "max_image_bytes")
    return {name: getattr(config, name) for name in names}


def _fingerprint(config: PackConfig, manifest: Manifest) -> str:
    """16 hex digits for all that the shards are made from: the manifest's content and the settings."""
    made_from = {"format": _FORMAT, "manifest": manifest.content_id, "settings": _settings(config)}
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]


def _about(plan: PackPlan) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "shards": len(plan.shards),
        "fingerprint": plan.record["fingerprint"],
        "manifest_uri": without_secrets(plan.config.manifest.uri),
        "manifest_content_id": plan.manifest.content_id,
        "settings": _settings(plan.config),
        "schema": {field.name: str(field.type) for field in plan.schema},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {name: version(name) for name in ("galaxy-batch", "pyarrow")},
    }


def _summary(
    config: PackConfig, counts: Mapping[str, Any], started: float, already_packed: bool = False
) -> dict[str, Any]:
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


def _failed_summary(config: PackConfig, counts: Mapping[str, Any], shards: int, started: float) -> dict[str, Any]:
    return {**_summary(config, {**counts, "shards": shards}, started), "shards_uri": None}
