"""The whole walk of a release, from manifest to published and verified catalog.

::

    manifest ─> read_chunk ─> fetch_cutouts ─> reuse_predictions ─> Classifier ─> flag_for_review ─> write_part
             ─> publish ─> verify ─> page

`reuse_predictions` passes rows on as they are, unless `reuse_from` names an earlier catalog.
`plan` checks everything that can be checked before Ray starts; `classify_release` does the work.
"""

import dataclasses
import logging
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import ray

from galaxy_batch.catalog.counts import CatalogCounts
from galaxy_batch.catalog.files import CatalogFileHeader
from galaxy_batch.catalog.manifest import CatalogManifest, CatalogProvenance, unpublish
from galaxy_batch.catalog.parts import write_part
from galaxy_batch.catalog.publish import publish
from galaxy_batch.catalog.sort_parts import PartTotals, sort_parts
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.errors import GateError
from galaxy_batch.inputs.manifest import Chunk, read_chunk
from galaxy_batch.plan import ReleasePlan, versions
from galaxy_batch.release_page.page import PAGE, write_release_page
from galaxy_batch.reuse.join import join_previous
from galaxy_batch.reuse.predictions import PreviousPredictions, read_predictions, reuse_counts, reuse_predictions
from galaxy_batch.review.flags import flag_for_review
from galaxy_batch.rows import Status
from galaxy_batch.runtime.attempts import Attempts
from galaxy_batch.runtime.isolation import IsolatingClassifier
from galaxy_batch.runtime.metrics import RunMetrics
from galaxy_batch.runtime.progress import Progress, Stopwatch
from galaxy_batch.runtime.tasks import run_tasks
from galaxy_batch.runtime.workers import ClusterGrowth, Workers, workers_for
from galaxy_batch.storage.files import join, list_names, remove_tree, without_secrets, write_json

__all__ = ["classify_release"]

logger = logging.getLogger(__name__)


def classify_release(plan: ReleasePlan) -> dict[str, Any]:
    """Compute the parts that are missing, publish the catalog, verify it; give the job's summary.

    Raises:
        GateError: too many cutouts could not be read, a store did not answer, or the catalog does not verify.
    """
    started = time.monotonic()
    if plan.published is not None:
        logger.info("already published, nothing to do: %s", without_secrets(plan.layout.catalog))
        _tidy(plan)
        summary = _summary(plan, plan.published, plan.published.reuse, started, already_published=True)
        return {**summary, "report_uri": _report(plan, None)}
    run_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"
    record = {
        "run_id": run_id,
        "fingerprint": plan.layout.fingerprint,
        "config": plan.shown_config,
        "versions": versions(),
    }
    write_json(plan.layout.run(run_id), {**record, "state": "running"})
    steps = Stopwatch()
    try:
        previous = None
        if plan.previous is not None:
            with steps.measure("reuse"):
                previous = join_previous(
                    plan.previous, plan.manifest, plan.config.manifest, plan.layout.previous_predictions, run_tasks
                )
        with steps.measure("classify"):
            rate = _compute_parts(plan, previous)
        with steps.measure("publish"):
            survey = _survey_parts(plan)
            _check_failures(plan, survey, started)
            remove_tree(plan.layout.report)  # the page of a catalog that is replaced must not stand beside the new one
            catalog = _publish(plan, survey, run_id)
            remove_tree(plan.layout.previous_predictions)
        with steps.measure("verify"):
            problems = verify_catalog(plan.layout.catalog)
        summary = {
            **_summary(plan, catalog, catalog.reuse, started),
            "steady_rate_per_s": rate,
            "step_seconds": steps.seconds,
        }
        if problems:
            unpublish(plan.layout.catalog)
            raise GateError("the catalog did not verify and was withdrawn: " + "; ".join(problems[:5]), summary)
        with steps.measure("report"):
            summary["report_uri"] = _report(plan, summary)
        summary["step_seconds"] = steps.seconds
    except Exception as error:
        gate = error.summary if isinstance(error, GateError) else {}
        write_json(
            plan.layout.run(run_id), {**record, "state": "failed", "error": type(error).__name__, "summary": gate}
        )
        raise
    write_json(plan.layout.run(run_id), {**record, "state": "done", "summary": summary})
    return summary


def _compute_parts(plan: ReleasePlan, previous: PreviousPredictions | None) -> float | None:
    """Write the parts that are missing; what is left is spread anew when the cluster has grown.

    Gives galaxies per second.
    """
    runtime, todo = plan.config.runtime, {chunk.index: chunk for chunk in plan.todo}
    done = plan.manifest.rows - sum(chunk.rows for chunk in plan.todo)
    if done:
        logger.info("resuming: %s galaxies are done, %s chunks are left", f"{done:,}", f"{len(todo):,}")
    if not todo:
        return None
    workers = workers_for(runtime, len(todo))
    progress = Progress(plan.manifest.rows, done, runtime.progress_every_s, workers=workers.actors)
    metrics = RunMetrics(plan.config.release)
    while todo:
        growth = ClusterGrowth(runtime, workers)
        for part in _written_parts(plan, list(todo.values()), workers, previous):
            progress.add(part["rows"], part["failed"], part["flagged"])
            metrics.update(progress)
            del todo[part["chunk"]]
            if growth.should_rescale(len(todo)):
                workers = workers_for(runtime, len(todo))
                break
        else:
            if todo:
                raise RuntimeError(f"{len(todo)} chunks came to no part, the first is {min(todo)}")
    return progress.steady_rate


def _written_parts(
    plan: ReleasePlan, chunks: Sequence[Chunk], workers: Workers, previous: PreviousPredictions | None
) -> Iterable[dict[str, Any]]:
    """The walk of a row. One chunk is one block all the way, and becomes one part."""
    config, read, task = plan.config, workers.read_options, workers.task_options
    careful = {
        "attempts": Attempts(config.runtime.max_suspect_chunks),
        "row_limit_s": config.runtime.row_limit_s,
        "model": plan.model_arguments(workers),
    }
    written: Iterable[dict[str, Any]] = (
        ray.data.from_items([chunk.as_item() for chunk in chunks], override_num_blocks=len(chunks))
        .map_batches(read_chunk, fn_kwargs={"config": config.manifest}, **read)
        .map_batches(fetch_cutouts, fn_kwargs={"max_bytes": config.classify.max_image_bytes}, **read)
        .map_batches(reuse_predictions, fn_kwargs={"previous": previous}, **read)
        .map_batches(IsolatingClassifier, fn_constructor_kwargs=careful, **workers.actor_options)
        .map_batches(flag_for_review, fn_kwargs={"limits": plan.review_limits}, **task)
        .map_batches(write_part, fn_kwargs=_part_arguments(plan), **task)
        .iter_rows()
    )
    return written


def _publish(plan: ReleasePlan, survey: PartTotals, run_id: str) -> CatalogManifest:
    """Parts become the catalog: REPEATED_IMAGE is known only now, and `manifest.json` is written last."""
    header = CatalogFileHeader(plan.schema, plan.config.release, plan.checkpoint.checkpoint_id)
    provenance = CatalogProvenance(
        manifest_rows=plan.manifest.rows,
        release=plan.config.release,
        model_id=plan.checkpoint.checkpoint_id,
        fingerprint=plan.layout.fingerprint,
        run_id=run_id,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        survey=without_secrets(plan.config.manifest.uri),
        classes=plan.checkpoint.spec.classes,
        **plan.limits,
        schema=header.columns,
        checkpoint=dataclasses.asdict(plan.checkpoint),
        config=plan.shown_config,
        versions=versions(),
        reuse=_reuse(plan, survey),
        max_rows=plan.config.publish.max_rows,
    )
    return publish(plan.layout, survey, header, provenance, plan.config.review, run_tasks)


def _tidy(plan: ReleasePlan) -> None:
    """Remove what a run left that died right after it had published. The catalog stands whether or not that can be."""
    try:
        for left in (plan.layout.sorted_runs, plan.layout.previous_predictions):
            remove_tree(left)
    except OSError as error:
        logger.warning("an earlier run left files that cannot be removed: %s", without_secrets(str(error)))


def _report(plan: ReleasePlan, run: dict[str, Any] | None) -> str | None:
    """The page of the release: its URI, or None where there is none. The catalog stands whether or not it can be made.

    Args:
        plan: what was published.
        run: the summary of the run that did it just now; None where an earlier one did, and may have made the page.
    """
    config, folder = plan.config, plan.layout.report
    if not config.report.enabled:
        return None
    try:
        if run is None and PAGE in list_names(folder):
            return without_secrets(join(folder, PAGE))
        return without_secrets(write_release_page(plan.layout.catalog, folder, config.report, config.manifest, run))
    except Exception:
        logger.warning("the page of the release could not be made; the catalog is published without it", exc_info=True)
        return None


def _survey_parts(plan: ReleasePlan) -> PartTotals:
    """One pass over all parts, of this run and of earlier ones: sorted and counted."""
    return sort_parts(plan.layout, [chunk.rows for chunk in plan.manifest.chunks], run_tasks)


def _check_failures(plan: ReleasePlan, survey: PartTotals, started: float) -> None:
    """Fail loudly when too many cutouts are bad; their rows are in the parts, and stay there."""
    failed = survey.counts.failed
    limit = plan.config.max_failed_fraction
    unreachable = 0 if plan.config.keep_unreachable else survey.counts.status_counts.get(Status.UNREACHABLE, 0)
    if not unreachable and failed <= limit * plan.manifest.rows:
        return
    remove_tree(plan.layout.sorted_runs)
    statuses = Counter(survey.counts.status_counts)
    worst = ", ".join(f"{count} {status}" for status, count in statuses.most_common() if status != "ok")
    if unreachable:
        message = (
            f"{unreachable} of {plan.manifest.rows} cutouts are unreachable: their store did not answer, or refused. "
            "Nothing was published. Run again to ask for them again, or set keep_unreachable = true to publish their "
            "rows as they are"
        )
    else:
        message = (
            f"{failed} of {plan.manifest.rows} cutouts have no class ({worst}), more than max_failed_fraction = "
            f"{limit}; nothing was published. Their rows are kept in parts_uri: run again with a higher limit to "
            "publish them as they are, or remove that folder to compute them anew"
        )
    raise GateError(message, {**_summary(plan, survey.counts, _reuse(plan, survey), started), "catalog_uri": None})


def _reuse(plan: ReleasePlan, survey: PartTotals) -> dict[str, Any] | None:
    return reuse_counts(survey.counts.rows, survey.origins, read_predictions(plan.layout.previous_predictions))


def _part_arguments(plan: ReleasePlan) -> dict[str, Any]:
    return {
        "folder_uri": plan.layout.parts,
        "schema": plan.schema,
        "release": plan.config.release,
        "model_id": plan.checkpoint.checkpoint_id,
    }


def _summary(
    plan: ReleasePlan,
    counts: CatalogCounts,
    reuse: dict[str, Any] | None,
    started: float,
    already_published: bool = False,
) -> dict[str, Any]:
    return {
        "catalog_uri": without_secrets(plan.layout.catalog),
        "rows": counts.rows,
        "failed": counts.failed,
        "flagged": counts.flagged,
        "seconds": round(time.monotonic() - started, 3),
        "status_counts": counts.status_counts,
        "class_counts": counts.class_counts,
        "flag_counts": counts.flag_counts,
        "computed_rows": 0 if already_published else sum(chunk.rows for chunk in plan.todo),
        "already_published": already_published,
        "reuse": reuse,
        "release": plan.config.release,
        "model_id": plan.checkpoint.checkpoint_id,
        "parts_uri": without_secrets(plan.layout.parts),
        "report_uri": None,
        "steady_rate_per_s": None,
        "step_seconds": {},
    }
