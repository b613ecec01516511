"""Dry run: classify a sample of the cutouts and estimate the run time, before a run of hours is started.

It takes the same steps as `pipeline`, in this process: Ray is not started, and no output is kept. `plan_release` has
already checked the checkpoint, the manifest and the output.
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
import pyarrow.compute as pc
import torch

from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.errors import InputError, without_secrets
from galaxy_batch.failures import failure_problem
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
    """Measured on the sample; rates in cutouts per second."""

    start_s: float
    """Seconds to load the model."""
    read_per_s: float
    classified_per_s: float | None
    """None if no cutout of the sample could be classified."""


def dry_run_release(plan: ReleasePlan, on_cluster: bool = False) -> dict[str, Any]:
    """Fetch, decode and classify a sample of the manifest's cutouts, and estimate the time for the others.

    Args:
        plan: a checked run.
        on_cluster: whether the run will use other machines, so that this one need not have a GPU.

    Returns:
        The job's summary: `dry_run`, `rows`, `chunks`, `chunks_done`, `chunks_todo`, `sample`, `estimated_seconds`,
        and `assumes`, the assumptions of the estimate in sentences.

    Raises:
        InputError: more of the sample has no class than `max_failed_fraction` allows, or the GPU or engine that the
            config names is missing.
    """
    published = plan.published is not None
    chunks = len(plan.manifest.chunks)
    done = chunks if published else chunks - len(plan.todo)
    summary: dict[str, Any] = {
        "dry_run": True,
        "catalog_uri": without_secrets(plan.layout.catalog),
        "rows": plan.manifest.rows,
        "rows_todo": 0 if published else sum(chunk.rows for chunk in plan.todo),
        "chunks": chunks,
        "chunks_done": done,
        "chunks_todo": chunks - done,
        "already_published": published,
        "release": plan.config.release,
        "model_id": plan.checkpoint.checkpoint_id,
        "sample": None,
        "estimated_seconds": 0.0,
        "assumes": [],
    }
    logger.info("config, checkpoint, manifest and output are valid: %s", summary["catalog_uri"])
    logger.info("%s rows in %s chunks, %s chunks done", f"{plan.manifest.rows:,}", f"{chunks:,}", f"{done:,}")
    if done == chunks:
        return summary
    workers, cpus = _workers(plan, on_cluster)
    rows = _read_sample(plan)
    classified, pace = _classify(plan, rows, workers)
    _check_sample(plan, rows, classified)
    summary["sample"] = _sample_summary(classified, pace, workers)
    return summary | _estimate(plan, pace, workers, cpus, on_cluster)


def sample_positions(manifest: Manifest, sample: int) -> dict[int, npt.NDArray[np.int64]]:
    """Rows spread evenly over a manifest, as row numbers within each chunk."""
    count = min(sample, manifest.rows)
    rows = (2 * np.arange(count) + 1) * manifest.rows // (2 * count)
    sizes = np.array([chunk.rows for chunk in manifest.chunks])
    ends = np.cumsum(sizes)
    chunks = np.searchsorted(ends, rows, "right")
    return {int(chunk): rows[chunks == chunk] - (ends - sizes)[chunk] for chunk in np.unique(chunks)}


def _workers(plan: ReleasePlan, on_cluster: bool) -> tuple[Workers, int]:
    """The workers of a run on this machine alone, and its number of CPUs."""
    runtime, gpus = plan.config.runtime, torch.cuda.device_count()
    cpus = (None if on_cluster else runtime.num_cpus) or os.cpu_count() or 1
    if runtime.device == "cuda" and not gpus:
        if not on_cluster:
            raise InputError("runtime.device", runtime.device, "this machine has no GPU; use 'auto' or 'cpu'")
        logger.warning("this machine has no GPU: the sample is classified on a CPU")
        runtime = dataclasses.replace(runtime, device="auto")
    return workers_on([{"CPU": cpus, "GPU": gpus}], runtime, len(plan.todo)), cpus


def _read_sample(plan: ReleasePlan) -> pa.Table:
    """The sample's rows of the manifest; holds one chunk at a time in memory."""
    tables = []
    for chunk, positions in sample_positions(plan.manifest, plan.config.dry_run.sample).items():
        item = pa.Table.from_pylist([plan.manifest.chunks[chunk].as_item()])
        tables.append(read_chunk(item, plan.config.manifest).take(pa.array(positions)))
    return pa.concat_tables(tables)


def _classify(plan: ReleasePlan, rows: pa.Table, workers: Workers) -> tuple[pa.Table, _Pace]:
    """Classify and flag the rows; measures the rate of the model in a second pass, when it has warmed up."""
    started = time.monotonic()
    fetched = fetch_cutouts(rows, plan.config.classify.max_image_bytes)
    read_s = time.monotonic() - started
    logger.info("%d cutouts fetched in %.1f s", len(rows), read_s)
    started = time.monotonic()
    classifier = Classifier(**plan.model_arguments(workers))
    start_s = time.monotonic() - started
    classified = flag_for_review(classifier(fetched), plan.review_limits)
    good = np.flatnonzero(pc.equal(classified["status"], Status.OK).to_numpy())
    rate = None
    if len(good):
        again = fetched.take(pa.array(np.resize(good, max(len(good), 2 * workers.batch_size))))  # fills each batch
        started = time.monotonic()
        classifier(again)
        rate = len(again) / max(time.monotonic() - started, 1e-9)
    return classified, _Pace(start_s, len(rows) / max(read_s, 1e-9), rate)


def _check_sample(plan: ReleasePlan, rows: pa.Table, classified: pa.Table) -> None:
    """Raise an InputError if the whole run would end with a GateError at this rate of failures."""
    problem = failure_problem(
        Counter(classified["status"].to_pylist()),
        plan.config.max_failed_fraction,
        plan.config.keep_unreachable,
        "sampled cutouts have no class",
    )
    if problem is None:
        return
    config = plan.config.manifest
    field = next(name for name in ("uri_template", "image_column", "band_templates") if getattr(config, name))
    first = pc.index(pc.not_equal(classified["status"], Status.OK), True).as_py()
    uri = rows[IMAGE_URI][first].as_py() if IMAGE_URI in rows.column_names else "the manifest"
    raise InputError(
        f"manifest.{field}",
        getattr(config, field),
        f"{problem}; the first is object {classified['object_id'][first]} at {uri}: {classified['error'][first]}. "
        "Check that the cutouts exist and can be read from here; raise dry_run.sample for a larger sample, or allow "
        "more failures",
    )


def _sample_summary(classified: pa.Table, pace: _Pace, workers: Workers) -> dict[str, Any]:
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
    """Estimated seconds until all chunks are done, and the assumptions."""
    if pace.classified_per_s is None:
        return {"estimated_seconds": None, "assumes": ["nothing: no cutout of the sample could be classified"]}
    readers = max(1, int((cpus - workers.actors * workers.actor_cpus) / workers.task_options["num_cpus"]))
    reading, computing = readers * pace.read_per_s, workers.actors * pace.classified_per_s
    todo = sum(chunk.rows for chunk in plan.todo)
    seconds = pace.start_s + todo / min(reading, computing)
    assumes = [
        f"this machine alone, {cpus} CPUs and {torch.cuda.device_count()} GPUs, otherwise idle"
        + ("; the cluster has others" if on_cluster else ""),
        f"{workers.actors} model actors, each as fast as the sample: {pace.classified_per_s:,.1f} cutouts per second",
        f"{readers} read tasks, each as fast as the sample: {pace.read_per_s:,.1f} cutouts per second",
        "the slower of the two determines the time; starting Ray, publishing and verifying are not included",
    ]
    if plan.config.reuse_from is not None:
        assumes.append("every row is computed; how many can be reused is known only after fetching their cutouts")
    logger.info("about %s for %s rows, assuming:", timedelta(seconds=round(seconds)), f"{todo:,}")
    for line in assumes:
        logger.info("  %s", line)
    return {"estimated_seconds": round(seconds, 3), "assumes": assumes}
