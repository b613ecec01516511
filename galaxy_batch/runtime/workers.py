"""How a job is distributed over a machine or cluster: how many actors, with which CPUs and GPUs."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.data import ActorPoolStrategy, TaskPoolStrategy

from galaxy_batch.config import RuntimeConfig
from galaxy_batch.errors import InputError
from galaxy_batch.model.engines.choose import choose_engine
from galaxy_batch.model.engines.engine import BATCH_SIZES, EngineName

__all__ = ["ClusterGrowth", "Workers", "divide_requests", "workers_for", "workers_on"]

logger = logging.getLogger(__name__)

# Actors must leave CPUs for the tasks that read and write, or the job deadlocks: actors reserve three quarters of the
# CPUs, and a task, which mostly waits for the store, a quarter of one.
_ACTOR_SHARE = 0.75
_TASK_CPUS = 0.25
# Ray Data starts all tasks that read before one that writes. Where few tasks fit, one slot is kept for writing, or no
# part would be written until everything is read. Two small tasks fit even beside the actor of a single CPU.
_SMALL_TASK_CPUS = 0.12
_FEW_TASKS = 4
_CPUS_PER_ACTOR = {"openvino": 8, "torch": 1}  # torch loses time synchronising threads; OpenVINO runs a stream in each
_CHECK_NODES_S = 5.0  # interval
_LOG_WAITING_S = 30.0  # interval
_MIN_GROWTH = 1.1  # of the capacity; rescaling costs the chunks in work and the start of the actors
_MIN_CHUNKS_PER_ACTOR = 2  # for rescaling to pay
_ACTORS_PER_GPU = 2  # one uses the GPU while the other starts or ends a chunk
_MAX_ACTOR_RESTARTS = 100  # of one actor; `attempts` limits how often one chunk may crash one to less


@dataclass(frozen=True)
class Workers:
    """Actors and tasks of one job."""

    actors: int
    engine: EngineName
    batch_size: int
    """Cutouts per forward pass."""
    threads: int
    """CPU threads of each actor."""
    actor_cpus: float
    """CPUs that Ray reserves for each actor."""
    actor_gpus: float
    """GPUs that Ray reserves for each actor."""
    task_cpus: float = _TASK_CPUS
    """CPUs that Ray reserves for each task that reads or writes."""
    readers: int | None = None
    """Most tasks that read at a time; as many as fit when None."""
    requests_per_host: int = 1
    """Most simultaneous requests of one task that reads to one http(s) host."""

    @property
    def device(self) -> str:
        """`cuda` or `cpu`."""
        return "cuda" if self.engine == "cuda" else "cpu"

    @property
    def capacity(self) -> int:
        """Compute of all actors, in CPU threads or halves of GPUs."""
        return self.actors * (1 if self.device == "cuda" else self.threads)

    @property
    def task_options(self) -> dict[str, Any]:
        """Arguments of `map_batches` for a stage that is a function: whole chunks, as Arrow tables."""
        return {"batch_size": None, "batch_format": "pyarrow", "num_cpus": self.task_cpus}

    @property
    def read_options(self) -> dict[str, Any]:
        """The same for the stages before the model."""
        return {**self.task_options, "compute": TaskPoolStrategy(self.readers)}

    @property
    def actor_options(self) -> dict[str, Any]:
        """Arguments of `map_batches` for the model's actors."""
        return {
            "batch_size": None,
            "batch_format": "pyarrow",
            "num_cpus": self.actor_cpus,
            "num_gpus": self.actor_gpus,
            "compute": ActorPoolStrategy(size=self.actors),
            "max_restarts": _MAX_ACTOR_RESTARTS,
            "max_task_retries": _MAX_ACTOR_RESTARTS,  # chunks queued behind a crashing one are retried as often
        }


def workers_for(runtime: RuntimeConfig, chunks: int, over_http: bool = False) -> Workers:
    """Distribute a job of this many chunks over the running Ray cluster; waits until it has a node to compute on.

    Args:
        runtime: settings of the job.
        chunks: the number of chunks.
        over_http: whether the cutouts are on an http(s) host: then tasks that read are few enough for
            `requests_per_host`.

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


def divide_requests(requests: int, tasks: int) -> tuple[int, int]:
    """How many of the tasks may run at a time, and the simultaneous requests of each: together at most `requests`."""
    at_once = max(1, min(requests, tasks))
    return at_once, requests // at_once


def workers_on(
    nodes: Sequence[Mapping[str, float]], runtime: RuntimeConfig, chunks: int, over_http: bool = False
) -> Workers:
    """As `workers_for`, over at least one node, each given by its `CPU` and `GPU` resources."""
    with_gpu = [(node["CPU"], int(node["GPU"])) for node in nodes if node.get("GPU", 0) >= 1]
    gpus = sum(gpu for _, gpu in with_gpu)
    device = "cuda" if gpus and runtime.device != "cpu" else "cpu"
    if device == "cuda":
        engine: EngineName = "cuda"
        wanted, cpus = gpus * _ACTORS_PER_GPU, sum(cpu for cpu, _ in with_gpu)
        room = min(cpu / (gpu * _ACTORS_PER_GPU) for cpu, gpu in with_gpu)
    else:
        engine = choose_engine() if runtime.engine == "auto" else runtime.engine
        sizes = [node["CPU"] for node in nodes]
        cpus, room = sum(sizes), min(sizes)  # Ray may place an actor on the smallest node
        each = min(room, _CPUS_PER_ACTOR[engine])
        wanted = sum(int(size // each) for size in sizes)
    actors = max(1, min(runtime.actors or wanted, chunks))
    share = min(room, cpus / actors)
    actor_cpus = _reservable(share * _ACTOR_SHARE)
    spare = sum(node["CPU"] for node in nodes) - actors * actor_cpus
    task_cpus = _TASK_CPUS if spare >= 2 * _TASK_CPUS else _SMALL_TASK_CPUS
    tasks = int(spare / task_cpus)
    readers = max(1, tasks - 1) if tasks < _FEW_TASKS else None
    at_once, requests = divide_requests(runtime.requests_per_host, readers or tasks)
    return Workers(
        actors=actors,
        engine=engine,
        batch_size=runtime.batch_size or BATCH_SIZES[engine],
        threads=max(1, int(share)),
        actor_cpus=actor_cpus,
        actor_gpus=min(1.0, gpus / actors) if device == "cuda" else 0.0,
        task_cpus=task_cpus,
        readers=at_once if over_http else readers,
        requests_per_host=requests,
    )


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


def _reservable(cpus: float) -> float:
    """Rounded down to what Ray reserves: hundredths below one CPU, whole CPUs above."""
    return float(int(cpus)) if cpus >= 1 else max(0.01, int(cpus * 100) / 100)
