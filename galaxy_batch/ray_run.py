"""The stages of a run in Ray Data: one chunk of the manifest is one block in every stage."""

import contextlib
import functools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import ray

from galaxy_batch.inputs.manifest import Chunk
from galaxy_batch.plan import ReleasePlan
from galaxy_batch.runtime.attempts import Attempts
from galaxy_batch.runtime.cluster import ClusterGrowth, workers_for
from galaxy_batch.runtime.metrics import RunMetrics
from galaxy_batch.runtime.model_actor import IsolatingClassifier
from galaxy_batch.runtime.network import shared_network
from galaxy_batch.runtime.progress import Progress
from galaxy_batch.runtime.stages import Stages, StagesOf
from galaxy_batch.runtime.workers import Workers

__all__ = ["write_parts"]

logger = logging.getLogger(__name__)


def write_parts(plan: ReleasePlan, stages_of: StagesOf) -> float | None:
    """Write the missing parts, and return the rate in galaxies per second. Uses new nodes of a cluster that grows."""
    runtime, todo = plan.config.runtime, {chunk.index: chunk for chunk in plan.todo}
    done = plan.manifest.rows - sum(chunk.rows for chunk in plan.todo)
    if done:
        logger.info("resuming: %s galaxies are done, %s chunks are left", f"{done:,}", f"{len(todo):,}")
    workers = workers_for(runtime, len(todo), plan.config.manifest.names_http)
    progress = Progress(plan.manifest.rows, done, runtime.progress_every_s, workers=workers.actors)
    metrics = RunMetrics(plan.config.release)
    while todo:
        growth, attempts = ClusterGrowth(runtime, workers), Attempts(runtime.max_suspect_chunks)
        network = shared_network(plan.config.checkpoint_uri, plan.checkpoint.checkpoint_id, workers)
        stages = stages_of(workers.requests_per_host)
        parts = _classified_parts(plan, list(todo.values()), workers, attempts, network, stages)
        with progress.following(functools.partial(_rows_in_progress, attempts, todo)), _refusals(attempts):
            for part in parts:
                progress.add(part["rows"], part["failed"], part["flagged"])
                metrics.update(progress)
                del todo[part["chunk"]]
                if growth.should_rescale(len(todo)):
                    workers = workers_for(runtime, len(todo), plan.config.manifest.names_http)
                    break
            else:
                if todo:
                    raise RuntimeError(f"no part was written for {len(todo)} chunks, the first is {min(todo)}")
    return progress.steady_rate


def _classified_parts(
    plan: ReleasePlan,
    chunks: Sequence[Chunk],
    workers: Workers,
    attempts: Attempts,
    network: "ray.ObjectRef[bytes] | None",
    stages: Stages,
) -> Iterable[dict[str, Any]]:
    """The stages that turn chunks into parts; yields the row that `write_part` returns for each part."""
    isolation = {
        "attempts": attempts,
        "row_limit_s": plan.config.runtime.row_limit_s,
        "model": plan.model_arguments(workers),
        "network": network,
    }
    blocks = ray.data.from_items([chunk.as_item() for chunk in chunks], override_num_blocks=len(chunks))
    for stage in stages.before:
        blocks = blocks.map_batches(stage.func, fn_kwargs=stage.keywords, **workers.read_options)
    blocks = blocks.map_batches(IsolatingClassifier, fn_constructor_kwargs=isolation, **workers.actor_options)
    for stage in stages.after:
        blocks = blocks.map_batches(stage.func, fn_kwargs=stage.keywords, **workers.task_options)
    parts: Iterable[dict[str, Any]] = blocks.iter_rows()
    return parts


@contextlib.contextmanager
def _refusals(attempts: Attempts) -> Iterator[None]:
    """Raise the InputError of a worker that cannot use the model, in place of the error in which Ray wraps it."""
    try:
        yield
    except ray.exceptions.RayError:
        problem = attempts.refusal()
        if problem is not None:
            raise problem from None
        raise


def _rows_in_progress(attempts: Attempts, todo: Mapping[int, Chunk]) -> int:
    """Classified rows of chunks that have no part yet."""
    return sum(rows for chunk, rows in attempts.rows_classified().items() if chunk in todo)
