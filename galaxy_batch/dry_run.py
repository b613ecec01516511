"""A rehearsal: what a run needs, tried on a few real cutouts, before an hour of GPUs is spent.

It goes the way of `pipeline`, in this process: nothing of Ray is started, and nothing that is written stays. That the
checkpoint, the manifest and the output can be used is what `plan_release` has seen before.
"""

import dataclasses
import logging
import os
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.errors import InputError, without_secrets
from galaxy_batch.inputs.manifest import Manifest, read_chunk
from galaxy_batch.model.classifier import Classifier
from galaxy_batch.plan import ReleasePlan
from galaxy_batch.review.flags import flag_for_review
from galaxy_batch.rows import IMAGE_URI, Status
from galaxy_batch.runtime.workers import Workers, workers_on

__all__ = ["dry_run_release", "sample_positions"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Pace:
    """What the sample took, in cutouts per second; None where there was not one to classify."""

    start_s: float
    """Loading the model."""
    read_per_s: float
    classified_per_s: float | None


def dry_run_release(plan: ReleasePlan, on_cluster: bool = False) -> dict[str, Any]:
    """Fetch, decode and classify a sample of the manifest's cutouts, and estimate how long the rest will take.

    Args:
        plan: a checked run.
        on_cluster: whether the run will have other machines than this one, so that a GPU may be missing here.

    Returns:
        The job's summary: `dry_run`, `rows`, `chunks`, `chunks_done`, `chunks_todo`, `sample`, `estimated_seconds`,
        `assumes`, what the estimate rests on, in sentences.

    Raises:
        InputError: more of the sample has no class than `max_failed_fraction` allows, or there is no GPU or engine as
            the config wants them.
    """
    todo = sum(chunk.rows for chunk in plan.todo)
    chunks = len(plan.manifest.chunks)
    done = chunks - len(plan.todo) if plan.published is None else chunks
    summary: dict[str, Any] = {
        "dry_run": True,
        "catalog_uri": without_secrets(plan.layout.catalog),
        "rows": plan.manifest.rows,
        "rows_todo": todo if plan.published is None else 0,
        "chunks": chunks,
        "chunks_done": done,
        "chunks_todo": chunks - done,
        "already_published": plan.published is not None,
        "release": plan.config.release,
        "model_id": plan.checkpoint.checkpoint_id,
        "sample": None,
        "estimated_seconds": 0.0,
        "assumes": [],
    }
    logger.info("config, checkpoint, manifest and output can be used: %s", summary["catalog_uri"])
    logger.info("%s rows in %s chunks, of which %s are done", f"{plan.manifest.rows:,}", f"{chunks:,}", f"{done:,}")
    if done == chunks:
        return summary
    workers, cpus = _workers(plan, on_cluster)
    rows = _sample(plan)
    classified, pace = _classify(plan, rows, workers)
    _check_sample(plan, rows, classified)
    summary |= {"sample": _described(classified, pace, workers), **_estimate(plan, pace, workers, cpus, on_cluster)}
    return summary


def sample_positions(manifest: Manifest, sample: int) -> dict[int, npt.NDArray[np.int64]]:
    """Rows that are spread evenly over a manifest: by chunk, their places in it."""
    count = min(sample, manifest.rows)
    rows = (2 * np.arange(count) + 1) * manifest.rows // (2 * count)
    ends = np.cumsum([chunk.rows for chunk in manifest.chunks])
    chunks = np.searchsorted(ends, rows, "right")
    starts = ends - [chunk.rows for chunk in manifest.chunks]
    return {int(chunk): rows[chunks == chunk] - starts[chunk] for chunk in np.unique(chunks)}


def _workers(plan: ReleasePlan, on_cluster: bool) -> tuple[Workers, int]:
    """The workers of a run on this machine alone, and its CPUs."""
    runtime, gpus = plan.config.runtime, torch.cuda.device_count()
    cpus = (None if on_cluster else runtime.num_cpus) or os.cpu_count() or 1
    if runtime.device == "cuda" and not gpus:
        if not on_cluster:
            raise InputError("runtime.device", runtime.device, "this machine has no GPU; use 'auto' or 'cpu'")
        logger.warning("this machine has no GPU: the sample is classified on a CPU")
        runtime = dataclasses.replace(runtime, device="auto")
    return workers_on([{"CPU": cpus, "GPU": gpus}], runtime, len(plan.todo)), cpus


def _sample(plan: ReleasePlan) -> pa.Table:
    """The sample's rows, as the manifest has them; of the chunks that it is in, one is held at a time."""
    tables = []
    for chunk, places in sample_positions(plan.manifest, plan.config.dry_run.sample).items():
        item = pa.Table.from_pylist([plan.manifest.chunks[chunk].as_item()])
        tables.append(read_chunk(item, plan.config.manifest).take(pa.array(places)))
    return pa.concat_tables(tables)


def _classify(plan: ReleasePlan, rows: pa.Table, workers: Workers) -> tuple[pa.Table, _Pace]:
    """The rows with their classes and flags, and how long that took, the model being warm."""
    started = time.monotonic()
    fetched = fetch_cutouts(rows, plan.config.classify.max_image_bytes)
    read_s = time.monotonic() - started
    logger.info("%d cutouts fetched in %.1f s", len(rows), read_s)
    started = time.monotonic()
    classifier = Classifier(**plan.model_arguments(workers))
    start_s = time.monotonic() - started
    classified = flag_for_review(classifier(fetched), plan.config.review, **plan.limits)
    good = np.flatnonzero([status == Status.OK for status in classified["status"].to_pylist()])
    if not len(good):
        return classified, _Pace(start_s, len(rows) / max(read_s, 1e-9), None)
    again = fetched.take(
        pa.array(np.resize(good, max(len(good), 2 * workers.batch_size)))
    )  # a batch is never half full
    started = time.monotonic()
    classifier(again)
    rate = len(again) / max(time.monotonic() - started, 1e-9)
    return classified, _Pace(start_s, len(rows) / max(read_s, 1e-9), rate)


def _check_sample(plan: ReleasePlan, rows: pa.Table, classified: pa.Table) -> None:
    """Refuse a run that would be refused at its end."""
    statuses = Counter(classified["status"].to_pylist())
    failed, limit = len(classified) - statuses[Status.OK], plan.config.max_failed_fraction
    silent = 0 if plan.config.keep_unreachable else statuses[Status.UNREACHABLE]
    if not silent and failed <= limit * len(classified):
        return
    config = plan.config.manifest
    fields = ("uri_template", "image_column", "band_templates")
    field = next(name for name in fields if getattr(config, name))
    worst = ", ".join(f"{count} {status}" for status, count in statuses.most_common() if status != Status.OK)
    found = f"{failed} of {len(classified)} sampled cutouts have no class ({worst})"
    refused = "and keep_unreachable = false" if silent else f"more than max_failed_fraction = {limit}"
    first = next(n for n, status in enumerate(classified["status"].to_pylist()) if status != Status.OK)
    place = rows[IMAGE_URI][first].as_py() if IMAGE_URI in rows.column_names else "the manifest"
    raise InputError(
        f"manifest.{field}",
        getattr(config, field),
        f"{found}, {refused}; the first is object {classified['object_id'][first]} at {place}: "
        f"{classified['error'][first]}. See that the cutouts are there and may be read from here; a larger "
        "dry_run.sample is surer; or allow more failures",
    )


def _described(classified: pa.Table, pace: _Pace, workers: Workers) -> dict[str, Any]:
    """What the summary says of the sample."""
    statuses, classes = (classified[name].to_pylist() for name in ("status", "predicted_class"))
    return {
        "rows": len(classified),
        "failed": classified["predicted_class"].null_count,
        "flagged": sum(classified["needs_review"].to_pylist()),
        "status_counts": dict(Counter(statuses)),
        "class_counts": dict(Counter(name for name in classes if name is not None)),
        "read_per_s": round(pace.read_per_s, 1),
        "classified_per_s": pace.classified_per_s and round(pace.classified_per_s, 1),
        "engine": workers.engine,
    }


def _estimate(plan: ReleasePlan, pace: _Pace, workers: Workers, cpus: int, on_cluster: bool) -> dict[str, Any]:
    """Seconds until all chunks are done, and what that supposes."""
    if pace.classified_per_s is None:
        return {"estimated_seconds": None, "assumes": ["nothing: no cutout of the sample could be classified"]}
    readers = max(1, int((cpus - workers.actors * workers.actor_cpus) / workers.task_options["num_cpus"]))
    reading, computing = readers * pace.read_per_s, workers.actors * pace.classified_per_s
    todo = sum(chunk.rows for chunk in plan.todo)
    seconds = pace.start_s + todo / min(reading, computing)
    place = f"{cpus} CPUs and {torch.cuda.device_count()} GPUs"
    assumes = [
        f"this machine alone, {place}, with nothing else to do" + ("; the cluster has others" if on_cluster else ""),
        f"{workers.actors} model actors, each as fast as one was here: {pace.classified_per_s:,.1f} cutouts per second",
        f"{readers} tasks that read, each as fast as the sample was read: {pace.read_per_s:,.1f} cutouts per second",
        "the slower of the two sets the pace; starting Ray, publishing and verifying come on top",
    ]
    if plan.config.reuse_from is not None:
        assumes.append("every row is computed: how many are reused is known only when their cutouts are fetched")
    logger.info("about %s for %s rows, assuming:", timedelta(seconds=round(seconds)), f"{todo:,}")
    for line in assumes:
        logger.info("  %s", line)
    return {"estimated_seconds": round(seconds, 3), "assumes": assumes}
