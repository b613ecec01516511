"""What a run leaves on record: `runs/<run id>.json`, the job's summary, and the provenance of its catalog."""

import dataclasses
import time
import uuid
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from galaxy_batch.catalog.counts import CatalogCounts
from galaxy_batch.catalog.manifest import CatalogProvenance
from galaxy_batch.catalog.parts import finished_parts
from galaxy_batch.errors import GateError, RunInterrupted
from galaxy_batch.plan import ReleasePlan, versions
from galaxy_batch.runtime.progress import Stopwatch, log_interruption
from galaxy_batch.storage.files import without_secrets, write_json

__all__ = ["RunRecord", "catalog_provenance", "run_summary"]


class RunRecord:
    """The record of one run, written when it starts and again when it ends; a context manager around the run."""

    def __init__(self, plan: ReleasePlan) -> None:
        self.plan = plan
        self.run_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"
        self.started = time.monotonic()
        self.stopwatch = Stopwatch()
        self.steady_rate: float | None = None
        """Galaxies per second, once it is known."""
        self.bad_tiles: list[dict[str, Any]] = []
        """The tiles of which objects could not be cut, once they are known."""
        self.summary: dict[str, Any] = {}
        """Of a run that has succeeded."""

    def step(self, name: str) -> AbstractContextManager[None]:
        """Measure the time of a step."""
        return self.stopwatch.measure(name)

    def summarize(self, counts: CatalogCounts, reuse: dict[str, Any] | None) -> dict[str, Any]:
        """The summary of the run so far."""
        summary = run_summary(self.plan, counts, reuse, self.started)
        tiles = {} if self.plan.config.manifest.tiles is None else {"bad_tiles": self.bad_tiles}
        return {**summary, "steady_rate_per_s": self.steady_rate, "step_seconds": self.stopwatch.seconds, **tiles}

    def __enter__(self) -> Self:
        self._write(state="running")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self._write(state="done", summary=self.summary)
        elif isinstance(error, Exception):
            summary = error.summary if isinstance(error, GateError) else {}
            self._write(state="failed", error=type(error).__name__, summary=summary)
        elif isinstance(error, KeyboardInterrupt):
            parts = finished_parts(self.plan.layout.parts, keep_unreachable=True)
            chunks = self.plan.manifest.chunks
            log_interruption(sum(chunk.rows for chunk in chunks if chunk.index in parts), self.plan.manifest.rows)
            self._write(state="interrupted")
            raise RunInterrupted from None

    def _write(self, **outcome: Any) -> None:
        record = {
            "run_id": self.run_id,
            "fingerprint": self.plan.layout.fingerprint,
            "config": self.plan.shown_config,
            "versions": versions(),
        }
        write_json(self.plan.layout.run(self.run_id), {**record, **outcome})


def run_summary(
    plan: ReleasePlan, counts: CatalogCounts, reuse: dict[str, Any] | None, started: float
) -> dict[str, Any]:
    """The job's summary.

    Args:
        plan: of the run.
        counts: of the catalog, or of the parts where a gate failed.
        reuse: rows by where their predictions come from.
        started: `time.monotonic()` when the run started.
    """
    already_published = plan.published is not None
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


def catalog_provenance(
    plan: ReleasePlan, run_id: str, schema: dict[str, str], reuse: dict[str, Any] | None
) -> CatalogProvenance:
    """What `manifest.json` says of how the catalog was made."""
    limits = {
        name: getattr(plan.review_limits, name) for name in ("min_confidence", "max_unfamiliarity", "max_instability")
    }
    return CatalogProvenance(
        manifest_rows=plan.manifest.rows,
        release=plan.config.release,
        model_id=plan.checkpoint.checkpoint_id,
        fingerprint=plan.layout.fingerprint,
        run_id=run_id,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        survey=without_secrets(plan.config.manifest.uri),
        classes=plan.checkpoint.spec.classes,
        **limits,
        schema=schema,
        checkpoint=dataclasses.asdict(plan.checkpoint),
        config=plan.shown_config,
        versions=versions(),
        reuse=reuse,
        max_rows=plan.config.publish.max_rows,
        margin_arcsec=plan.config.publish.margin_arcsec,
        index=plan.config.publish.index,
    )
