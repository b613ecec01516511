"""The whole pipeline of a release, from manifest to published and verified catalog.

::

    manifest ─> read_chunk ─> fetch_cutouts ─> reuse_predictions ─> Classifier ─> flag_for_review ─> write_part
             ─> publish ─> verify ─> page

`plan` checks everything that can be checked before Ray starts; `classify_release` does the work. One chunk of the
manifest is one table in every stage, and becomes one part; `reuse_predictions` does nothing without `reuse_from`, and
with tiles `cut_from_tiles` takes the place of `fetch_cutouts`. The docstring of each stage says which columns it reads,
adds and drops. The stages run in Ray, see `ray_run`, or in this process, see `local_run`.
"""

import functools
import logging
import time
from typing import Any

from galaxy_batch.catalog.files import CatalogFileHeader
from galaxy_batch.catalog.manifest import CatalogManifest, unpublish
from galaxy_batch.catalog.parts import write_part
from galaxy_batch.catalog.publish import publish
from galaxy_batch.catalog.sort_parts import PartTotals, sort_parts
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.errors import GateError
from galaxy_batch.failures import failure_problem, main_failure
from galaxy_batch.inputs.manifest import read_chunk
from galaxy_batch.missing import failed_cutout, look_for_missing
from galaxy_batch.plan import ReleasePlan
from galaxy_batch.reuse.join import join_previous
from galaxy_batch.reuse.predictions import PreviousPredictions, read_predictions, reuse_counts, reuse_predictions
from galaxy_batch.review.flags import flag_for_review
from galaxy_batch.run_record import RunRecord, catalog_provenance, run_summary
from galaxy_batch.runtime.stages import Stage, Stages
from galaxy_batch.runtime.tasks import TaskRunner, run_in_order, run_tasks
from galaxy_batch.storage.files import join, list_names, remove_temporary_folder, remove_tree, without_secrets
from galaxy_batch.tiles.bad_tiles import bad_tiles
from galaxy_batch.tiles.cutouts import read_cutouts

__all__ = ["classify_release", "remove_sorted_runs"]

logger = logging.getLogger(__name__)


def classify_release(plan: ReleasePlan, on_ray: bool = True) -> dict[str, Any]:
    """Compute the missing parts, publish the catalog, verify it, and return the job's summary.

    Args:
        plan: a checked run.
        on_ray: run the stages and tasks in the Ray that has been started; otherwise in this process, which needs a plan
            that `local_run.is_local` allows.

    Raises:
        GateError: too many cutouts could not be read, a store did not respond, or the catalog does not verify.
    """
    if plan.published is not None:
        return _already_published(plan, plan.published)
    tasks: TaskRunner = run_tasks if on_ray else run_in_order
    with RunRecord(plan) as run:
        previous = None
        if plan.previous is not None:
            with run.step("reuse"):
                previous = join_previous(
                    plan.previous, plan.manifest, plan.config.manifest, plan.layout.previous_predictions, tasks
                )
        with run.step("classify"):
            run.plan = plan = look_for_missing(plan, _polite_tasks(plan) if on_ray else tasks)
            run.steady_rate = _write_parts(plan, previous, on_ray)
        with run.step("publish"):
            totals = sort_parts(plan.layout, [chunk.rows for chunk in plan.manifest.chunks], tasks)
            run.bad_tiles = bad_tiles(totals.failures)
            _check_failures(plan, totals, run)
            catalog = _publish(plan, totals, run, tasks)
        with run.step("verify"):
            problems = verify_catalog(plan.layout.catalog)
        summary = run.summarize(catalog, catalog.reuse)
        if problems:
            unpublish(plan.layout.catalog)
            raise GateError(f"the catalog did not verify and was withdrawn: {'; '.join(problems[:5])}", summary)
        with run.step("report"):
            report_uri = _write_page(plan, summary)
        run.summary = {**summary, "report_uri": report_uri}
    return run.summary


def remove_sorted_runs(plan: ReleasePlan) -> None:
    """Remove what a publication that failed or was interrupted has left: the next run sorts the parts again."""
    try:
        remove_temporary_folder(plan.layout.sorted_runs)
    except OSError as error:
        logger.warning("files of this run cannot be removed: %s", without_secrets(str(error)))


def _polite_tasks(plan: ReleasePlan) -> TaskRunner:
    """`run_tasks` for tasks that make one request at a time, within `requests_per_host`."""
    config = plan.config
    return functools.partial(
        run_tasks, at_once=config.runtime.requests_per_host if config.manifest.names_http else None
    )


def _write_parts(plan: ReleasePlan, previous: PreviousPredictions | None, on_ray: bool) -> float | None:
    """Write the missing parts, and return the rate in galaxies per second."""
    stages = functools.partial(_stages, plan, previous)
    if not plan.todo:
        return None
    if on_ray:
        from galaxy_batch.ray_run import write_parts  # noqa: PLC0415 - Ray takes a second
    else:
        from galaxy_batch.local_run import write_parts  # noqa: PLC0415
    return write_parts(plan, stages)


def _stages(plan: ReleasePlan, previous: PreviousPredictions | None, requests_per_host: int) -> Stages:
    """The stages around the classifier.

    Args:
        plan: of the run.
        previous: predictions of `reuse_from`.
        requests_per_host: most simultaneous requests to one http(s) host of one reading task.
    """
    config = plan.config
    return Stages(
        before=(
            Stage(read_chunk, config=config.manifest),
            Stage(
                read_cutouts,
                config=config.manifest,
                max_bytes=config.classify.max_image_bytes,
                requests_per_host=requests_per_host,
            ),
            Stage(reuse_predictions, previous=previous),
        ),
        after=(
            Stage(flag_for_review, limits=plan.review_limits),
            Stage(
                write_part,
                folder_uri=plan.layout.parts,
                schema=plan.schema,
                release=config.release,
                model_id=plan.checkpoint.checkpoint_id,
            ),
        ),
    )


def _check_failures(plan: ReleasePlan, totals: PartTotals, run: RunRecord) -> None:
    """Publish nothing when too many cutouts failed. Their rows stay in the parts."""
    config = plan.config
    problem = failure_problem(totals.counts.status_counts, config.max_failed_fraction, config.keep_unreachable)
    if problem is None:
        return
    remove_sorted_runs(plan)
    summary = run.summarize(totals.counts, _reuse_counts(plan, totals))
    example = failed_cutout(plan, main_failure(totals.counts.status_counts, config.keep_unreachable))
    raise GateError(
        f"{problem}; for example {example}. Nothing was published. Run again to fetch unreachable and missing cutouts "
        "again, or with keep_unreachable = true or a higher max_failed_fraction to publish these rows without a class, "
        "or remove parts_uri to compute all rows again",
        {**summary, "catalog_uri": None},
    )


def _publish(plan: ReleasePlan, totals: PartTotals, run: RunRecord, tasks: TaskRunner) -> CatalogManifest:
    """Replace the catalog and its page; the sorted runs and the previous predictions are not needed any more."""
    header = CatalogFileHeader(plan.schema, plan.config.release, plan.checkpoint.checkpoint_id)
    provenance = catalog_provenance(plan, run.run_id, header.columns, _reuse_counts(plan, totals))
    remove_tree(plan.layout.report)
    catalog = publish(plan.layout, totals, header, provenance, plan.config.review, tasks)
    remove_temporary_folder(plan.layout.previous_predictions)
    return catalog


def _reuse_counts(plan: ReleasePlan, totals: PartTotals) -> dict[str, Any] | None:
    return reuse_counts(totals.counts.rows, totals.origins, read_predictions(plan.layout.previous_predictions))


def _write_page(plan: ReleasePlan, summary: dict[str, Any] | None) -> str | None:
    """The URI of the release page; None where it is disabled or cannot be written, which is only logged.

    Args:
        plan: of the run.
        summary: of the run that has just published the catalog; None to keep a page that exists.
    """
    config, folder = plan.config, plan.layout.report
    if not config.report.enabled:
        return None
    from galaxy_batch.release_page.page import PAGE, write_release_page  # noqa: PLC0415 - matplotlib takes a second

    try:
        if summary is None and PAGE in list_names(folder):
            return without_secrets(join(folder, PAGE))
        page_uri = write_release_page(
            plan.layout.catalog, folder, config.report, config.manifest, summary, config.checkpoint_uri
        )
        return without_secrets(page_uri)
    except Exception:
        logger.warning("the release page could not be written; the catalog is published without it", exc_info=True)
        return None


def _already_published(plan: ReleasePlan, catalog: CatalogManifest) -> dict[str, Any]:
    """The summary of a catalog that needs no work, after removing files of a run that stopped after publishing it."""
    started = time.monotonic()
    logger.info("already published, nothing to do: %s", without_secrets(plan.layout.catalog))
    try:
        remove_temporary_folder(plan.layout.sorted_runs)
        remove_temporary_folder(plan.layout.previous_predictions)
    except OSError as error:
        logger.warning("files of a previous run cannot be removed: %s", without_secrets(str(error)))
    summary = run_summary(plan, catalog, catalog.reuse, started)
    return {**summary, "report_uri": _write_page(plan, None)}
