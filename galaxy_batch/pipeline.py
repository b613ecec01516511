"""The whole walk of a release, from manifest to published and verified catalog.

::

    manifest ─> read_chunk ─> fetch_cutouts ─> recall_answers ─> Classifier ─> flag_for_review ─> write_part
             ─> publish ─> verify ─> page

`recall_answers` passes rows on as they are, unless `reuse_from` names an earlier catalog.
`plan_release` checks everything that can be checked before Ray starts; `classify_release` does the work.
"""

import contextlib
import dataclasses
import logging
import platform
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import ray

from galaxy_batch.answers import Answers, read_answers, recall_answers, reuse_counts
from galaxy_batch.attempts import Attempts
from galaxy_batch.catalog import Heading, Layout, fingerprint, read_manifest, unpublish, write_json
from galaxy_batch.checkpoint import Checkpoint, load_checkpoint
from galaxy_batch.config import CatalogConfig
from galaxy_batch.crossmatch import gather_answers
from galaxy_batch.cutouts import fetch_cutouts
from galaxy_batch.dashboard import Dashboard
from galaxy_batch.earlier import Earlier, open_earlier, verify_earlier
from galaxy_batch.engines import Precision
from galaxy_batch.errors import GateError, InputError
from galaxy_batch.isolation import CarefulClassifier
from galaxy_batch.manifest import Chunk, Manifest, open_manifest, read_chunk
from galaxy_batch.parts import finished_parts, write_part
from galaxy_batch.progress import Progress, Stopwatch
from galaxy_batch.publication import Places, Survey, publish, sort_parts, spread_over_ray
from galaxy_batch.release_page import PAGE, write_release_page
from galaxy_batch.review import flag_for_review
from galaxy_batch.rows import Status, catalog_schema
from galaxy_batch.storage import check_writable, join, list_names, remove_tree, without_secrets
from galaxy_batch.verify import verify_catalog
from galaxy_batch.workers import Growth, Workers, workers_for

__all__ = ["ReleasePlan", "classify_release", "model_arguments", "plan_release"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReleasePlan:
    """A checked run: what goes in, where it goes, and what is left to do."""

    config: CatalogConfig
    checkpoint: Checkpoint
    manifest: Manifest
    layout: Layout
    fingerprint: str
    todo: tuple[Chunk, ...]
    """Chunks without a part, or with one whose rows were not all reached."""
    published: dict[str, Any] | None
    """`manifest.json` of a catalog made from exactly this, if there is one: then there is nothing to do."""
    earlier: Earlier | None = None
    """The catalog of `reuse_from`; None when none is named, or nothing is to do."""

    @property
    def parts_uri(self) -> str:
        """The folder of this plan's parts."""
        return self.layout.parts(self.fingerprint)

    @property
    def places(self) -> Places:
        """Where the publication reads and writes."""
        return Places(self.parts_uri, self.layout.exchange(self.fingerprint), self.layout.catalog)

    @property
    def answers_uri(self) -> str:
        """The folder of the earlier catalog's answers."""
        return self.layout.earlier(self.fingerprint)

    @property
    def min_confidence(self) -> float:
        """The review threshold: the config's, else the checkpoint's."""
        chosen = self.config.review.min_confidence
        return self.checkpoint.min_confidence if chosen is None else chosen

    @property
    def limits(self) -> dict[str, float | None]:
        """Limits of LOW_CONFIDENCE, UNFAMILIAR and UNSTABLE: the config's own, else the checkpoint's, else None."""
        review, checkpoint = self.config.review, self.checkpoint
        return {
            "min_confidence": self.min_confidence,
            "max_unfamiliarity": _first(review.max_unfamiliarity, checkpoint.max_unfamiliarity),
            "max_instability": _first(review.max_instability, checkpoint.max_instability),
        }

    @property
    def schema(self) -> pa.Schema:
        """The catalog's schema."""
        return catalog_schema(self.manifest.id_type, self.checkpoint.spec.classes, self.manifest.kept)


def plan_release(config: CatalogConfig) -> ReleasePlan:
    """Check the checkpoint, the manifest and the output, and see what an earlier run has finished. Needs no Ray.

    Raises:
        InputError: something that was given cannot be used.
    """
    checkpoint, model = load_checkpoint(config.checkpoint_uri)
    _check_flags(config, checkpoint, known=model.familiarity is not None)
    layout = Layout(config.output_uri, config.release, checkpoint.checkpoint_id)
    with _refused("manifest.uri", config.manifest.uri, "read"):
        manifest = open_manifest(config.manifest, config.classify.chunk_rows)
    if config.classify.precision == "auto":
        precision: Precision = "bf16" if checkpoint.bf16_agrees else "fp32"
        config = dataclasses.replace(config, classify=dataclasses.replace(config.classify, precision=precision))
    mark = fingerprint(manifest.content_id, checkpoint.checkpoint_id, _settings(config))
    with _refused("output_uri", config.output_uri, "read"):
        published = read_manifest(layout.catalog)
    if published is not None and published["fingerprint"] != mark:
        if not config.overwrite:
            raise InputError(
                "output_uri",
                layout.catalog,
                "a catalog made from another manifest or other settings is published here; set overwrite = true to "
                "replace it, or choose another release name or output_uri",
            )
        published = None
    if published is None:
        with _refused("output_uri", config.output_uri, "written"):
            check_writable(layout.root)
    with _refused("output_uri", config.output_uri, "listed"):
        done = finished_parts(layout.parts(mark), config.keep_unreachable)
    todo = tuple(chunk for chunk in manifest.chunks if chunk.index not in done)
    plan = ReleasePlan(config, checkpoint, manifest, layout, mark, todo, published)
    if config.reuse_from is None or published is not None or not todo:
        return plan
    return dataclasses.replace(plan, earlier=_verified_earlier(plan))


def classify_release(plan: ReleasePlan) -> dict[str, Any]:
    """Compute the parts that are missing, publish the catalog, verify it; give the job's summary.

    Raises:
        GateError: too many cutouts could not be read, a store did not answer, or the catalog does not verify.
    """
    started = time.monotonic()
    if plan.published is not None:
        logger.info("already published, nothing to do: %s", without_secrets(plan.layout.catalog))
        summary = _summary(plan, plan.published, started, already_published=True)
        return {**summary, "report_uri": _report(plan, None)}
    run_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"
    record = {"run_id": run_id, "fingerprint": plan.fingerprint, "config": _shown(plan.config), "versions": _versions()}
    write_json(plan.layout.run(run_id), {**record, "state": "running"})
    steps = Stopwatch()
    try:
        answers = None
        if plan.earlier is not None:
            with steps.measure("reuse"):
                answers = gather_answers(
                    plan.earlier, plan.manifest, plan.config.manifest, plan.answers_uri, spread_over_ray
                )
        with steps.measure("classify"):
            rate = _compute_parts(plan, answers)
        with steps.measure("publish"):
            survey = _survey_parts(plan)
            _check_failures(plan, survey, started)
            remove_tree(plan.layout.report)  # the page of a catalog that is replaced must not stand beside the new one
            counts = _publish(plan, survey, run_id)
            remove_tree(plan.answers_uri)
        with steps.measure("verify"):
            problems = verify_catalog(plan.layout.catalog)
        summary = {**_summary(plan, counts, started), "steady_rate_per_s": rate, "step_seconds": steps.seconds}
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


def _compute_parts(plan: ReleasePlan, answers: Answers | None) -> float | None:
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
    progress = Progress(plan.manifest.rows, done, runtime.progress_every_s, at_once=workers.actors)
    dashboard = Dashboard(plan.config.release)
    while todo:
        growth = Growth(runtime, workers)
        for part in _written_parts(plan, list(todo.values()), workers, answers):
            progress.add(part["rows"], part["failed"], part["flagged"])
            dashboard.show(progress)
            del todo[part["chunk"]]
            if growth.is_worth_it(len(todo)):
                workers = workers_for(runtime, len(todo))
                break
        else:
            if todo:
                raise RuntimeError(f"{len(todo)} chunks came to no part, the first is {min(todo)}")
    return progress.steady_rate


def _written_parts(
    plan: ReleasePlan, chunks: Sequence[Chunk], workers: Workers, answers: Answers | None
) -> Iterable[dict[str, Any]]:
    """The walk of a row. One chunk is one block all the way, and becomes one part."""
    config, task = plan.config, workers.task_options
    careful = {
        "attempts": Attempts(config.runtime.max_suspect_chunks),
        "row_limit_s": config.runtime.row_limit_s,
        "model": model_arguments(plan, workers),
    }
    written: Iterable[dict[str, Any]] = (
        ray.data.from_items([chunk.as_item() for chunk in chunks], override_num_blocks=len(chunks))
        .map_batches(read_chunk, fn_kwargs={"config": config.manifest}, **task)
        .map_batches(fetch_cutouts, fn_kwargs={"max_bytes": config.classify.max_image_bytes}, **task)
        .map_batches(recall_answers, fn_kwargs={"answers": answers}, **task)
        .map_batches(CarefulClassifier, fn_constructor_kwargs=careful, **workers.actor_options)
        .map_batches(flag_for_review, fn_kwargs={"config": config.review, **plan.limits}, **task)
        .map_batches(write_part, fn_kwargs=_part_arguments(plan), **task)
        .iter_rows()
    )
    return written


def _publish(plan: ReleasePlan, survey: Survey, run_id: str) -> dict[str, Any]:
    """Parts become the catalog: REPEATED_IMAGE is known only now, and `manifest.json` is written last."""
    heading = Heading(plan.schema, plan.config.release, plan.checkpoint.checkpoint_id)
    about = {
        "manifest_rows": plan.manifest.rows,
        "release": plan.config.release,
        "model_id": plan.checkpoint.checkpoint_id,
        "fingerprint": plan.fingerprint,
        "run_id": run_id,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "survey": without_secrets(plan.config.manifest.uri),
        "classes": list(plan.checkpoint.spec.classes),
        **plan.limits,
        "schema": heading.columns,
        "checkpoint": dataclasses.asdict(plan.checkpoint),
        "config": _shown(plan.config),
        "versions": _versions(),
        "reuse": _reuse(plan, survey),
    }
    max_rows = plan.config.publish.max_rows
    return publish(plan.places, survey, heading, about, plan.config.review, max_rows, spread_over_ray)


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


def _survey_parts(plan: ReleasePlan) -> Survey:
    """One pass over all parts, of this run and of earlier ones: sorted and counted."""
    return sort_parts(plan.places, [chunk.rows for chunk in plan.manifest.chunks], spread_over_ray)


def _check_failures(plan: ReleasePlan, survey: Survey, started: float) -> None:
    """Fail loudly when too many cutouts are bad; their rows are in the parts, and stay there."""
    failed = plan.manifest.rows - survey.statuses["ok"]
    limit = plan.config.max_failed_fraction
    unreachable = 0 if plan.config.keep_unreachable else survey.statuses[Status.UNREACHABLE]
    if not unreachable and failed <= limit * plan.manifest.rows:
        return
    remove_tree(plan.places.exchange_uri)
    counts = {
        "rows": plan.manifest.rows,
        "failed": failed,
        "flagged": survey.flagged,
        "status_counts": dict(survey.statuses),
        "reuse": _reuse(plan, survey),
    }
    worst = ", ".join(f"{count} {status}" for status, count in survey.statuses.most_common() if status != "ok")
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
    raise GateError(message, {**_summary(plan, counts, started), "catalog_uri": None})


def _verified_earlier(plan: ReleasePlan) -> Earlier:
    """The catalog of `reuse_from`: verified here, unless the run that this one resumes has read it."""
    earlier = open_earlier(plan.config, plan.checkpoint.checkpoint_id, plan.manifest.id_type)
    gathered = read_answers(plan.answers_uri)
    if gathered is None or gathered.earlier_id != earlier.content_id:
        verify_earlier(earlier, _versions())
    return earlier


def _reuse(plan: ReleasePlan, survey: Survey) -> dict[str, Any] | None:
    return reuse_counts(survey.rows, survey.origins, read_answers(plan.answers_uri))


def _check_flags(config: CatalogConfig, checkpoint: Checkpoint, known: bool) -> None:
    """Say which flags this checkpoint cannot set; a limit for one of them would never be looked at."""
    views = max(checkpoint.spec.views, config.classify.stability_views)
    if not known:
        if config.review.max_unfamiliarity is not None:
            remedy = "the checkpoint has no statistics of its training galaxies; train it anew, or leave this out"
            raise InputError("review.max_unfamiliarity", config.review.max_unfamiliarity, remedy)
        logger.warning("no row will be UNFAMILIAR: the checkpoint has no statistics of its training galaxies")
    if views > 1 and checkpoint.max_instability is None and config.review.max_instability is None:
        logger.warning("no row will be UNSTABLE: neither the checkpoint nor review.max_instability gives a limit")
    if views == 1:
        if config.review.max_instability is not None:
            remedy = "this checkpoint looks at one view; ask for more with classify.stability_views, or leave this out"
            raise InputError("review.max_instability", config.review.max_instability, remedy)
        logger.info("no row will be UNSTABLE: one view is looked at, see classify.stability_views")


def _first(*limits: float | None) -> float | None:
    return next((limit for limit in limits if limit is not None), None)


@contextlib.contextmanager
def _refused(field: str, uri: str, wanted: str) -> Iterator[None]:
    """What a store does not let be read, written or listed is bad input."""
    try:
        yield
    except (OSError, NotImplementedError) as error:
        raise InputError(field, uri, f"cannot be {wanted}: {error}") from None


def model_arguments(plan: ReleasePlan, workers: Workers) -> dict[str, Any]:
    """What the Classifier of a plan is made with."""
    return {
        "checkpoint_uri": plan.config.checkpoint_uri,
        "config": plan.config.classify,
        "batch_size": workers.batch_size,
        "engine": workers.engine,
        "precision": plan.config.classify.precision,
        "threads": workers.threads,
    }


def _part_arguments(plan: ReleasePlan) -> dict[str, Any]:
    return {
        "folder_uri": plan.parts_uri,
        "schema": plan.schema,
        "release": plan.config.release,
        "model_id": plan.checkpoint.checkpoint_id,
    }


def _settings(config: CatalogConfig) -> dict[str, Any]:
    """The settings that change a value.

    `reuse_from` is none of them: what is taken over is what would be computed. So a run may be resumed with it or
    without, and the catalog of both is the same.
    """
    return {"classify": dataclasses.asdict(config.classify), "review": dataclasses.asdict(config.review)}


def _summary(
    plan: ReleasePlan, counts: dict[str, Any], started: float, already_published: bool = False
) -> dict[str, Any]:
    return {
        "catalog_uri": without_secrets(plan.layout.catalog),
        "rows": counts["rows"],
        "failed": counts["failed"],
        "flagged": counts["flagged"],
        "seconds": round(time.monotonic() - started, 3),
        "status_counts": counts["status_counts"],
        "class_counts": counts.get("class_counts", {}),
        "flag_counts": counts.get("flag_counts", {}),
        "computed_rows": 0 if already_published else sum(chunk.rows for chunk in plan.todo),
        "already_published": already_published,
        "reuse": counts.get("reuse"),
        "release": plan.config.release,
        "model_id": plan.checkpoint.checkpoint_id,
        "parts_uri": without_secrets(plan.parts_uri),
        "report_uri": None,
        "steady_rate_per_s": None,
        "step_seconds": {},
    }


def _shown(config: CatalogConfig) -> dict[str, Any]:
    """The config as it may be written down: locations without credentials."""

    def shown(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shown(inner) for key, inner in value.items()}
        return without_secrets(value) if isinstance(value, str) else value

    result: dict[str, Any] = shown(dataclasses.asdict(config))
    return result


def _versions() -> dict[str, str]:
    packages = ("galaxy-batch", "ray", "torch", "timm", "pillow", "pyarrow")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
