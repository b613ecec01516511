"""Cutouts without a class in finished parts.

Each run that has yet to publish looks once more for those that were missing.
"""

import dataclasses
import logging

import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.catalog.parts import finished_parts, read_part
from galaxy_batch.config import ManifestConfig
from galaxy_batch.cutouts.fetch import NO_IMAGE, fetch_cutouts
from galaxy_batch.failures import failure_example
from galaxy_batch.inputs.manifest import read_chunk
from galaxy_batch.plan import ReleasePlan
from galaxy_batch.rows import IMAGE_URI, Status
from galaxy_batch.runtime.tasks import TaskRunner
from galaxy_batch.tiles.cutouts import NO_TILE_FILE

__all__ = ["failed_cutout", "look_for_missing"]

logger = logging.getLogger(__name__)

_PARTS_READ = 100  # to show an example


def look_for_missing(plan: ReleasePlan, task_runner: TaskRunner) -> ReleasePlan:
    """The plan with those chunks of `retry` in `todo` of which a cutout that was missing exists now.

    Costs one request per missing cutout, one at a time in each task to an http(s) host, and computes nothing. So a
    survey where some cutouts never existed is not computed again whenever its run is resumed.
    """
    if not plan.retry:
        return plan
    logger.info("looking for the missing cutouts of %s finished chunks", f"{len(plan.retry):,}")
    keywords = {"config": plan.config.manifest, "folder_uri": plan.layout.parts}
    counts = task_runner(_count_existing, [chunk.as_item() for chunk in plan.retry], keywords)
    cutouts = {row["chunk"]: row["cutouts"] for row in counts if row["cutouts"]}
    if cutouts:
        message = "%s cutouts that were missing exist now: %s chunks are computed again"
        logger.info(message, f"{sum(cutouts.values()):,}", f"{len(cutouts):,}")
    again = {chunk.index for chunk in plan.todo} | cutouts.keys()
    return dataclasses.replace(plan, todo=tuple(chunk for chunk in plan.manifest.chunks if chunk.index in again))


def failed_cutout(plan: ReleasePlan, status: Status) -> str | None:
    """The first row of the parts with this status, as `failure_example` describes it; reads few parts."""
    parts = finished_parts(plan.layout.parts, keep_unreachable=True)
    for chunk in sorted(plan.manifest.chunks, key=lambda chunk: parts.get(chunk.index) != status)[:_PARTS_READ]:
        item = chunk.as_table()
        part = read_part(item, plan.layout.parts, ["object_id", "status", "error"])
        if status in part["status"].to_pylist():
            return failure_example(read_chunk(item, plan.config.manifest), part, status)
    return None


def _count_existing(chunk: pa.Table, config: ManifestConfig, folder_uri: str) -> pa.Table:
    """One row: the `chunk`, and how many `cutouts` exist of those that its part says are missing."""
    part = read_part(chunk, folder_uri, ["status", "error"])
    missing = pc.and_(pc.equal(part["status"], Status.MISSING), pc.not_equal(part["error"], NO_IMAGE))
    if config.tiles is not None:  # other objects are outside their tile, whether its files exist or not
        missing = pc.and_(missing, pc.ends_with(part["error"], NO_TILE_FILE))
    existing = 0
    if pc.any(missing).as_py():  # else the cutouts, if they are in the manifest, need not be read
        objects = read_chunk(chunk, config).filter(missing)
        if config.tiles is not None:  # one of each tile
            objects = objects.take(pa.array(list({str(uris): n for n, uris in enumerate(objects[IMAGE_URI])}.values())))
        cutouts = fetch_cutouts(objects, max_bytes=1, requests_per_host=1)
        existing = sum(status in (Status.OK, Status.TOO_LARGE) for status in cutouts["status"].to_pylist())
    return pa.table({"chunk": chunk["index"], "cutouts": [existing]})
