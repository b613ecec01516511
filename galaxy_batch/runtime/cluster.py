"""The nodes of the Ray cluster that a job runs on: waits for the first ones, and watches for more."""

import logging
import time
from collections.abc import Mapping, Sequence

import ray
from ray.autoscaler.sdk import request_resources

from galaxy_batch.config import RuntimeConfig
from galaxy_batch.errors import InputError
from galaxy_batch.runtime.workers import Workers, workers_on

__all__ = ["ClusterGrowth", "workers_for"]

logger = logging.getLogger(__name__)

_CHECK_NODES_S = 5.0  # interval
_LOG_WAITING_S = 30.0  # interval
_MIN_GROWTH = 1.1  # of the capacity; rescaling costs the chunks in work and the start of the actors
_MIN_CHUNKS_PER_ACTOR = 2  # for rescaling to pay


def workers_for(runtime: RuntimeConfig, chunks: int, over_http: bool = False) -> Workers:
    """As `workers_on`, over the running Ray cluster; waits until it has a node to compute on.

    Raises:
        InputError: a GPU is requested, and Ray has none; or no node with CPUs joined in time.
    """
    return workers_on(_wait_for_nodes(runtime), runtime, chunks, over_http)


class ClusterGrowth:
    """Watches whether a cluster has grown enough for a job to be distributed again.

    Ray Data's own actor pools grow too, but they know reservations only: they would take all CPUs for actors and leave
    none for the tasks that read, and they cannot change an actor's size.

    Args:
        runtime: settings of the job.
        workers: its present workers.
    """

    def __init__(self, runtime: RuntimeConfig, workers: Workers) -> None:
        self.runtime, self.workers = runtime, workers
        self.last_check = time.monotonic()
        self.possible: tuple[float, Workers] | None = None
        """Since when the cluster allows more workers, and which."""

    def should_rescale(self, chunks: int) -> bool:
        """Whether to distribute the remaining chunks again: nodes have joined, and stayed for `grow_after_s`."""
        now = time.monotonic()
        if now - self.last_check < min(_CHECK_NODES_S, self.runtime.grow_after_s):
            return False
        self.last_check = now
        nodes = _nodes()
        if not chunks or _missing(nodes, self.runtime):
            self.possible = None
            return False
        possible = workers_on(nodes, self.runtime, chunks)
        more = possible.capacity > _MIN_GROWTH * self.workers.capacity and possible.device == self.workers.device
        better = possible.device == "cuda" and self.workers.device == "cpu"
        if not (more or better) or chunks < _MIN_CHUNKS_PER_ACTOR * possible.actors:
            self.possible = None
        elif self.possible is None or self.possible[1].capacity != possible.capacity:
            self.possible = (now, possible)
        if self.possible is None or now - self.possible[0] < self.runtime.grow_after_s:
            return False
        logger.info("the cluster has grown: %d model workers instead of %d", possible.actors, self.workers.actors)
        return True


def _nodes() -> list[Mapping[str, float]]:
    """Resources of each live node that has CPUs."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]


def _missing(nodes: Sequence[Mapping[str, float]], runtime: RuntimeConfig) -> str | None:
    if runtime.device == "cuda" and not any(node.get("GPU", 0) >= 1 for node in nodes):
        return "GPU"
    return None if nodes else "CPU"


def _wait_for_nodes(runtime: RuntimeConfig) -> list[Mapping[str, float]]:
    """The nodes, once there is one to compute on. A GPU is awaited only where the head has no CPUs itself."""
    started = next_log = time.monotonic()
    while what := _missing(nodes := _nodes(), runtime):
        waited = time.monotonic() - started
        growing = any(node["Alive"] and not node["Resources"].get("CPU") for node in ray.nodes())
        if what == "GPU" and (not growing or waited >= runtime.wait_for_nodes_s):
            raise InputError("runtime.device", runtime.device, "Ray has no GPU; use 'auto' or 'cpu'")
        if waited >= runtime.wait_for_nodes_s:
            raise InputError(
                "runtime.wait_for_nodes_s",
                runtime.wait_for_nodes_s,
                "no node with CPUs joined the cluster in this time; start one, or wait longer",
            )
        if started + waited >= next_log:
            logger.info("waiting for a node with a %s, %.0f s so far", what, waited)
            next_log += _LOG_WAITING_S
            request_resources(bundles=[{"CPU": 1, **({"GPU": 1} if what == "GPU" else {})}])  # from the autoscaler
        time.sleep(min(1.0, runtime.wait_for_nodes_s))
    if next_log != started:
        request_resources(bundles=[])  # from now on the job's own tasks request them
    return nodes
