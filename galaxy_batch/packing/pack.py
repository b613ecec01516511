"""The walk that packs: manifest -> shards of cutouts, which `build_catalog` and `train_model` read directly.

::

    <output_uri>/
        plan.json                       what the shards are made from and how many they are; written first
        shards/shard-000000.parquet     one per group of consecutive chunks, each written in one step
        manifest.json                   counts, SHA-256 of every shard; written last

`packing_plan` checks everything that can be checked before Ray starts; `pack_cutouts` does the work.
"""

import json
import logging
import time
from collections import Counter
from importlib.metadata import version
from typing import Any

import ray

from galaxy_batch.errors import GateError
from galaxy_batch.packing.plan import FORMAT, MANIFEST, PLAN, PackPlan, failed_summary, settings_of, summary_of
from galaxy_batch.packing.shards import SHARDS, check_shard, pack_shard, shard_name
from galaxy_batch.rows import Status
from galaxy_batch.runtime.progress import Progress
from galaxy_batch.runtime.workers import workers_for
from galaxy_batch.storage.files import join, list_names, remove_tree, without_secrets, write_json

__all__ = ["pack_cutouts"]

logger = logging.getLogger(__name__)


def pack_cutouts(plan: PackPlan) -> dict[str, Any]:
    """Pack the shards that are missing, read all of them back, write `manifest.json`; give the job's summary.

    Raises:
        GateError: a store did not answer, a shard is not what it should be, or too many rows have no image.
    """
    started = time.monotonic()
    if plan.packed is not None:
        logger.info("already packed, nothing to do: %s", without_secrets(plan.config.output_uri))
        return summary_of(plan.config, plan.packed, started, already_packed=True)
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
    return summary_of(plan.config, content, started)


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
        failed_summary(plan.config, counts, len(plan.shards) - len(missing), started),
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
            failed_summary(plan.config, found, len(entries), started),
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
        failed_summary(plan.config, found, len(plan.shards), started),
    )


def _about(plan: PackPlan) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "shards": len(plan.shards),
        "fingerprint": plan.record["fingerprint"],
        "manifest_uri": without_secrets(plan.config.manifest.uri),
        "manifest_content_id": plan.manifest.content_id,
        "settings": settings_of(plan.config),
        "schema": {field.name: str(field.type) for field in plan.schema},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {name: version(name) for name in ("galaxy-batch", "pyarrow")},
    }
