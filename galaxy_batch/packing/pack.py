"""The steps of packing: manifest -> shards of cutouts, which `build_catalog` and `train_model` read directly.

::

    <output_uri>/
        plan.json                       what the shards are made from and their number; written first
        shards/shard-000000.parquet     one per group of consecutive chunks, each written atomically
        manifest.json                   counts, SHA-256 of every shard; written last

`plan` checks the input before Ray starts; `pack_cutouts` does the work.
"""

import json
import logging
import time
from collections import Counter
from importlib.metadata import version
from typing import Any

import ray
from ray.data import TaskPoolStrategy

from galaxy_batch.errors import GateError, RunInterrupted
from galaxy_batch.failures import failure_problem
from galaxy_batch.packing.plan import FORMAT, MANIFEST, PLAN, PackPlan, failed_summary, packing_summary, shard_settings
from galaxy_batch.packing.shards import SHARDS, check_shard, finished_shards, pack_shard, shard_name
from galaxy_batch.rows import Status
from galaxy_batch.runtime.cluster import workers_for
from galaxy_batch.runtime.progress import Progress, log_interruption
from galaxy_batch.runtime.workers import divide_requests
from galaxy_batch.storage.files import join, list_names, remove_tree, without_secrets, write_json

__all__ = ["pack_cutouts"]

logger = logging.getLogger(__name__)


def pack_cutouts(plan: PackPlan) -> dict[str, Any]:
    """Pack the missing shards, read all shards back, write `manifest.json`; returns the job's summary.

    Raises:
        GateError: a store did not respond, a shard is invalid, or too many rows have no image.
    """
    started = time.monotonic()
    if plan.packed is not None:
        logger.info("already packed, nothing to do: %s", without_secrets(plan.config.output_uri))
        return packing_summary(plan.config, plan.packed, started, already_packed=True)
    remove_tree(join(plan.config.output_uri, MANIFEST))
    if plan.stale:
        remove_tree(join(plan.config.output_uri, SHARDS))
    write_json(join(plan.config.output_uri, PLAN), plan.record)
    try:
        return _pack(plan, started)
    except KeyboardInterrupt:
        done = finished_shards(plan.config.output_uri)
        log_interruption(sum(shard.rows for shard in plan.shards if shard.index in done), plan.manifest.rows)
        raise RunInterrupted from None


def _pack(plan: PackPlan, started: float) -> dict[str, Any]:
    _check_reached(plan, _pack_missing(plan), started)
    entries = _read_back(plan)
    counts = _counts(entries)
    _check_shards(plan, entries, counts, started)
    _check_failures(plan, counts, started)
    files = [{key: entry[key] for key in ("path", "rows", "bytes", "sha256")} for entry in entries]
    content = {**counts, **_about(plan), "files": files}
    write_json(join(plan.config.output_uri, MANIFEST), content)
    return packing_summary(plan.config, content, started)


def _pack_missing(plan: PackPlan) -> list[dict[str, Any]]:
    """Run `pack_shard` for each missing shard, one task per shard; returns its rows."""
    done = plan.manifest.rows - sum(shard.rows for shard in plan.todo)
    progress = Progress(plan.manifest.rows, done, plan.config.runtime.progress_every_s)
    if done:
        logger.info("resuming: %s galaxies are packed, %s shards are missing", f"{done:,}", f"{len(plan.todo):,}")
    if not plan.todo:
        return []
    shards = ray.data.from_items([shard.as_item() for shard in plan.todo], override_num_blocks=len(plan.todo))
    results = []
    for result in shards.map_batches(pack_shard, **_fetch_options(plan)).iter_rows():
        statuses = json.loads(result["status_counts"])
        results.append({**result, "status_counts": statuses})
        if result["rows"]:
            progress.add(result["rows"], result["rows"] - statuses.get(Status.OK, 0), 0)
    return results


def _read_back(plan: PackPlan) -> list[dict[str, Any]]:
    """Run `check_shard` on each shard, old and new; returns its rows."""
    shards = ray.data.from_items([shard.as_item() for shard in plan.shards], override_num_blocks=len(plan.shards))
    entries = shards.map_batches(check_shard, **_task_options(plan, len(plan.shards))).take_all()
    entries = [{**entry, "status_counts": json.loads(entry["status_counts"])} for entry in entries]
    return sorted(entries, key=lambda entry: str(entry["path"]))


def _fetch_options(plan: PackPlan) -> dict[str, Any]:
    """Arguments of the stage that fetches the cutouts: its tasks share `requests_per_host`."""
    options = _task_options(plan, len(plan.todo))
    fitting = min(len(plan.todo), int(ray.cluster_resources()["CPU"] / options["num_cpus"]))
    at_once, requests = divide_requests(plan.config.runtime.requests_per_host, fitting)
    return {
        **options,
        "fn_kwargs": {**options["fn_kwargs"], "requests_per_host": requests},
        "compute": TaskPoolStrategy(at_once if plan.config.manifest.names_http else None),
    }


def _task_options(plan: PackPlan, tasks: int) -> dict[str, Any]:
    """Arguments of both stages. A task holds a shard, so memory, not CPUs, may limit how many run at a time."""
    mean, chunk_rows = plan.record["mean_image_bytes"], max(chunk.rows for chunk in plan.manifest.chunks)
    needed = mean * (2 * max(shard.rows for shard in plan.shards) + 2 * chunk_rows)
    smallest = min(node["Resources"].get("memory", needed) for node in ray.nodes() if node["Alive"])
    return {
        "fn_kwargs": {"config": plan.config, "schema": plan.schema},
        **workers_for(plan.config.runtime, tasks).task_options,
        "memory": int(min(needed, smallest)),  # a task that needs more than any node has would never start
    }


def _counts(entries: list[dict[str, Any]]) -> dict[str, Any]:
    statuses = sum((Counter(entry["status_counts"]) for entry in entries), Counter[str]())
    return {
        "rows": sum(entry["rows"] for entry in entries),
        "failed": statuses.total() - statuses[Status.OK],
        "status_counts": dict(sorted(statuses.items())),
        "bytes": sum(entry["bytes"] for entry in entries),
    }


def _check_reached(plan: PackPlan, results: list[dict[str, Any]], started: float) -> None:
    missing = [result for result in results if result["lost"] is not None]
    if not missing:
        return
    lost = sum(result["status_counts"][Status.UNREACHABLE] for result in missing)
    counts = {**_counts(results), "rows": plan.manifest.rows, "failed": lost}
    raise GateError(
        f"the store did not respond for {lost} cutouts (the first: {missing[0]['lost']}), so {len(missing)} of "
        f"{len(plan.shards)} shards were not written; run again to retry these, or set keep_unreachable = true to "
        "pack such rows without an image",
        failed_summary(plan.config, counts, len(plan.shards) - len(missing), started),
    )


def _check_shards(plan: PackPlan, entries: list[dict[str, Any]], counts: dict[str, Any], started: float) -> None:
    problems = [f"{entry['path']}: {entry['problem']}" for entry in entries if entry["problem"] is not None]
    expected = {shard_name(shard.index) for shard in plan.shards}
    names = list_names(join(plan.config.output_uri, SHARDS))
    problems += [f"{SHARDS}/{name}: is not part of this output" for name in names if name not in expected]
    if not problems and counts["rows"] != plan.manifest.rows:
        problems.append(f"{counts['rows']} rows in the shards, {plan.manifest.rows} in the manifest")
    if problems:
        raise GateError(
            f"{len(problems)} files are invalid, remove them and run again: " + "; ".join(problems[:5]),
            failed_summary(plan.config, counts, len(entries), started),
        )


def _check_failures(plan: PackPlan, counts: dict[str, Any], started: float) -> None:
    problem = failure_problem(counts["status_counts"], plan.config.max_failed_fraction, subject="rows have no image")
    if problem is None:
        return
    raise GateError(
        f"{problem}; {MANIFEST} was not written. The shards are kept: run again with a higher limit to accept them, or "
        "remove output_uri to pack again",
        failed_summary(plan.config, counts, len(plan.shards), started),
    )


def _about(plan: PackPlan) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "shards": len(plan.shards),
        "fingerprint": plan.record["fingerprint"],
        "manifest_uri": without_secrets(plan.config.manifest.uri),
        "manifest_content_id": plan.manifest.content_id,
        "settings": shard_settings(plan.config),
        "schema": {field.name: str(field.type) for field in plan.schema},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {name: version(name) for name in ("galaxy-batch", "pyarrow")},
    }
