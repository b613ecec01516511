"""A run of one chunk without Ray: the stages in this process, and the classifier in a child process.

Starting Ray and its workers takes longer than classifying a few hundred cutouts. A cutout that crashes its decoder ends
the child process only, and becomes one row with a status, see `runtime.isolation`.
"""

import contextlib
import logging
import os
import shutil

import pyarrow as pa

from galaxy_batch.model.engines.network_cache import cached_network
from galaxy_batch.plan import ReleasePlan
from galaxy_batch.runtime.child_process import ChildProcess
from galaxy_batch.runtime.isolation import classify_in_child_process
from galaxy_batch.runtime.progress import Progress
from galaxy_batch.runtime.stages import Stage, StagesOf
from galaxy_batch.runtime.workers import workers_on

__all__ = ["is_local", "write_parts"]

logger = logging.getLogger(__name__)


def is_local(plan: ReleasePlan) -> bool:
    """Whether this machine runs the plan as fast without Ray: one chunk, nothing to reuse, and no GPU."""
    device = plan.config.runtime.device
    no_gpu = device == "cpu" or (device == "auto" and shutil.which("nvidia-smi") is None)
    return len(plan.manifest.chunks) == 1 and plan.previous is None and no_gpu


def write_parts(plan: ReleasePlan, stages_of: StagesOf) -> float | None:
    """Write the part of each chunk that is left, and return the rate in galaxies per second, if it is known."""
    runtime, done = plan.config.runtime, plan.manifest.rows - sum(chunk.rows for chunk in plan.todo)
    progress, stages = (
        Progress(plan.manifest.rows, done, runtime.progress_every_s),
        stages_of(runtime.requests_per_host),
    )
    with contextlib.closing(ChildProcess(_model(plan))) as child:  # which loads the model while cutouts are fetched
        for chunk in plan.todo:
            rows = _after(stages.before, chunk.as_table())
            classified = [0]
            with progress.following(lambda counts=classified: counts[-1]):  # type: ignore[misc]
                rows = classify_in_child_process(rows, runtime.row_limit_s, child, classified.append)
            (part,) = _after(stages.after, rows).to_pylist()
            progress.add(part["rows"], part["failed"], part["flagged"])
    return progress.steady_rate


def _model(plan: ReleasePlan) -> dict[str, object]:
    """Arguments of the Classifier, with the converted network if it is at hand."""
    runtime = plan.config.runtime
    workers = workers_on([{"CPU": runtime.num_cpus or os.cpu_count() or 1}], runtime, chunks=1)
    arguments = plan.model_arguments(workers)
    if workers.engine != "openvino":
        return arguments
    network = cached_network(plan.checkpoint.checkpoint_id, workers.batch_size)
    if network is None:
        logger.info("converting the network for OpenVINO; it is kept for further runs")
    return {**arguments, "network": network}


def _after(stages: tuple[Stage, ...], rows: pa.Table) -> pa.Table:
    for stage in stages:
        rows = stage(rows)
    return rows
