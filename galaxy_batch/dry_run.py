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

from galaxy_batch.catalog.counts import CatalogCounts, count_rows
from galaxy_batch.catalog.parts import read_part
from galaxy_batch.errors import InputError, without_secrets
from galaxy_batch.failures import failure_example, failure_problem, main_failure
from galaxy_batch.inputs.manifest import Manifest, read_chunk
from galaxy_batch.model.classifier import Classifier
from galaxy_batch.plan import ReleasePlan
from galaxy_batch.review.flags import flag_for_review
from galaxy_batch.rows import Status
from galaxy_batch.runtime.workers import Workers, workers_on
from galaxy_batch.tiles.cutouts import read_cutouts

__all__ = ["dry_run_release", "sample_positions"]

logger = logging.getLogger(__name__)

_SAMPLE_COLUMNS = ["object_id", "predicted_class", "review_flags", "status", "error", "_healpix_29"]


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

    Rows of finished chunks count as they are in their part, which a run publishes; `missing` rows count as they are
    now, because a run looks for these cutouts again.

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
    if published:
        return summary
    workers, cpus = _workers(plan, on_cluster)
    rows = _read_sample(plan)
    classified, pace = _classify(plan, rows, workers)
    sample, from_parts = _with_finished_rows(plan, classified)
    counts = count_rows(sample)
    _log_sample(counts, from_parts)
    _check_sample(plan, rows, sample)
    summary["sample"] = _sample_summary(counts, from_parts, pace, workers)
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
    return workers_on([{"CPU": cpus, "GPU": gpus}], runtime, max(1, len(plan.todo))), cpus


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
    config = plan.config
    fetched = read_cutouts(rows, config.manifest, config.classify.max_image_bytes, config.runtime.requests_per_host)
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


def _with_finished_rows(plan: ReleasePlan, classified: pa.Table) -> tuple[pa.Table, int]:
    """The sample with the rows of finished parts in place of those classified now, and the number of these rows."""
    todo = {chunk.index for chunk in plan.todo}
    tables = [_sample_columns(classified)]
    source = np.arange(len(classified))  # row of `tables` that each row of the sample is taken from
    start, end = 0, len(classified)
    for chunk, positions in sample_positions(plan.manifest, plan.config.dry_run.sample).items():
        if chunk not in todo:
            part = read_part(pa.table({"index": [chunk]}), plan.layout.parts, _SAMPLE_COLUMNS).take(pa.array(positions))
            kept = np.flatnonzero(pc.not_equal(part["status"], Status.MISSING).to_numpy())
            source[start + kept] = end + kept
            tables.append(_sample_columns(part))
            end += len(part)
        start += len(positions)
    from_parts = int((source >= len(classified)).sum())
    return pa.concat_tables(tables).take(pa.array(source)), from_parts


def _sample_columns(rows: pa.Table) -> pa.Table:
    columns = {name: rows[name] for name in _SAMPLE_COLUMNS}
    return pa.table({**columns, "predicted_class": rows["predicted_class"].cast(pa.string())})


def _log_sample(counts: CatalogCounts, from_parts: int) -> None:
    logger.info("sample of %d rows, %d of them from finished parts", counts.rows, from_parts)
    for name in ("status", "class", "flag"):
        numbers = Counter(getattr(counts, f"{name}_counts"))
        logger.info("  %s: %s", name, ", ".join(f"{n} {key}" for key, n in numbers.most_common() if n) or "none")


def _check_sample(plan: ReleasePlan, rows: pa.Table, sample: pa.Table) -> None:
    """Log an example of a cutout without a class.

    Raises:
        InputError: at this rate of failures the run would end with a GateError.
    """
    statuses = Counter(sample["status"].to_pylist())
    if statuses.keys() == {Status.OK}:
        return
    allowed = plan.config.max_failed_fraction, plan.config.keep_unreachable
    problem = failure_problem(statuses, *allowed, "sampled cutouts have no class")
    example = failure_example(rows, sample, main_failure(statuses, plan.config.keep_unreachable))
    if problem is None:
        logger.warning("a cutout of the sample without a class: %s", without_secrets(str(example)))
        return
    config = plan.config.manifest
    settings = ("uri_template", "image_column", "band_templates", "tiles", "uri")
    field = next(name for name in settings if getattr(config, name))
    raise InputError(
        f"manifest.{field}",
        getattr(config, field) if config.tiles is None else config.tiles.table or config.tiles.band_templates,
        f"{problem}; for example {example}. Check that the cutouts exist and can be read from here; raise "
        "dry_run.sample for a larger sample, or allow more failures",
    )


def _sample_summary(counts: CatalogCounts, from_parts: int, pace: _Pace, workers: Workers) -> dict[str, Any]:
    names = ("rows", "failed", "flagged", "status_counts", "class_counts", "flag_counts")
    return {
        **{name: getattr(counts, name) for name in names},
        "from_parts": from_parts,
        "read_per_s": round(pace.read_per_s, 1),
        "classified_per_s": pace.classified_per_s and round(pace.classified_per_s, 1),
        "engine": workers.engine,
    }


def _estimate(plan: ReleasePlan, pace: _Pace, workers: Workers, cpus: int, on_cluster: bool) -> dict[str, Any]:
    """Estimated seconds until all chunks are done, and the assumptions."""
    if not plan.todo:
        return {"estimated_seconds": 0.0, "assumes": []}
    if pace.classified_per_s is None:
        return {"estimated_seconds": None, "assumes": ["nothing: no cutout of the sample could be classified"]}
    readers = max(1, int((cpus - workers.actors * workers.actor_cpus) / workers.task_options["num_cpus"]))
    readers = 1 if plan.config.manifest.names_http else readers  # the sample took all that one host may be asked
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
