"""How a job is spread over a machine or cluster: how many actors, with how much each."""

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

__all__ = ["Growth", "Workers", "workers_for", "workers_on"]

logger = logging.getLogger(__name__)

# Actors must leave room for the tasks that read and write, or the job waits for ever: on one CPU as on a
# thousand, actors reserve three quarters, and a task, which mostly waits for the store, asks for a quarter of one.
_ACTOR_SHARE = 0.75
_TASK_CPUS = 0.25
# Ray Data starts all tasks that read before one that writes. Where few fit, one place is therefore kept for the latter,
# or no part is written until everything is read; and two fit even beside the actor of a single CPU.
_SMALL_TASK_CPUS = 0.12
_FEW_TASKS = 4
_CPUS_PER_ACTOR = {"openvino": 8, "torch": 1}  # torch loses time where its threads meet; OpenVINO runs a stream in each
_LOOK_EVERY_S = 5.0  # at the nodes, to see whether there are more
_SAY_EVERY_S = 30.0  # that there is no node yet
_WORTH = 1.1  # times the capacity: what is computed at the moment, and the start of the actors, are lost for it
_CHUNKS_EACH = 2  # for each actor, or it is not worth it either
_ACTORS_PER_GPU = 2  # one has the GPU to itself while the other begins or ends a chunk
_ACTOR_RESTARTS = 100  # of one actor; how often a chunk may kill one is counted elsewhere (attempts), and is less


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
    """Tasks that read at a time, at most; as many as fit when None."""

    @property
    def device(self) -> str:
        """`cuda` or `cpu`."""
        return "cuda" if self.engine == "cuda" else "cpu"

    @property
    def capacity(self) -> int:
        """What the actors can do together, in CPU threads or halves of GPUs."""
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
            "max_restarts": _ACTOR_RESTARTS,
            "max_task_retries": _ACTOR_RESTARTS,  # a chunk that waits behind one that kills is tried again as often
        }


def workers_for(runtime: RuntimeConfig, chunks: int) -> Workers:
    """Spread a job of so many chunks over the Ray that runs; wait for its nodes where they are still to come.

    Raises:
        InputError: a GPU is asked for, and Ray has none; or no node with CPUs came in time.
    """
    return workers_on(_awaited_nodes(runtime), runtime, chunks)


class Growth:
    """Tells when a cluster has come to have so much more room that it is worth to spread a job anew.

    Ray Data's own pools grow too. But they know of reservations only, not that on 48 CPUs, say, actors which fit eight
    times must run six times, or no CPU is left for the tasks that read; nor can they change an actor's size.

    Args:
        runtime: how the job is to be spread.
        workers: how it is.
    """

    def __init__(self, runtime: RuntimeConfig, workers: Workers) -> None:
        self.runtime, self.workers = runtime, workers
        self.looked = time.monotonic()
        self.seen: tuple[float, Workers] | None = None
        """Since when there is room for more, and what would be there."""

    def should_rescale(self, chunks: int) -> bool:
        """Whether the rest of the job, so many chunks, should be spread anew: the nodes are there, and will stay."""
        now = time.monotonic()
        if now - self.looked < min(_LOOK_EVERY_S, self.runtime.grow_after_s):
            return False
        self.looked = now
        nodes = _nodes()
        if not chunks or _missing(nodes, self.runtime):
            self.seen = None
            return False
        possible = workers_on(nodes, self.runtime, chunks)
        more = possible.capacity > _WORTH * self.workers.capacity and possible.device == self.workers.device
        better = possible.device == "cuda" and self.workers.device == "cpu"
        if not (more or better) or chunks < _CHUNKS_EACH * possible.actors:
            self.seen = None
        elif self.seen is None or self.seen[1].capacity != possible.capacity:
            self.seen = (now, possible)
        if self.seen is None or now - self.seen[0] < self.runtime.grow_after_s:
            return False
        logger.info("the cluster has grown: %d model workers in place of %d", possible.actors, self.workers.actors)
        return True


def workers_on(nodes: Sequence[Mapping[str, float]], runtime: RuntimeConfig, chunks: int) -> Workers:
    """Spread a job of so many chunks over nodes, at least one, each with so many `CPU` and `GPU`."""
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
        cpus, room = sum(sizes), min(sizes)  # an actor must fit on the smallest node that it may be placed on
        each = min(room, _CPUS_PER_ACTOR[engine])
        wanted = sum(int(size // each) for size in sizes)
    actors = max(1, min(runtime.actors or wanted, chunks))
    share = min(room, cpus / actors)
    actor_cpus = _reservable(share * _ACTOR_SHARE)
    spare = sum(node["CPU"] for node in nodes) - actors * actor_cpus
    task_cpus = _TASK_CPUS if spare >= 2 * _TASK_CPUS else _SMALL_TASK_CPUS
    tasks = int(spare / task_cpus)
    return Workers(
        actors=actors,
        engine=engine,
        batch_size=runtime.batch_size or BATCH_SIZES[engine],
        threads=max(1, int(share)),
        actor_cpus=actor_cpus,
        actor_gpus=min(1.0, gpus / actors) if device == "cuda" else 0.0,
        task_cpus=task_cpus,
        readers=max(1, tasks - 1) if tasks < _FEW_TASKS else None,
    )


def _nodes() -> list[Mapping[str, float]]:
    """What each node has that is there and may work."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]


def _missing(nodes: Sequence[Mapping[str, float]], runtime: RuntimeConfig) -> str | None:
    if runtime.device == "cuda" and not any(node.get("GPU", 0) >= 1 for node in nodes):
        return "GPU"
    return None if nodes else "CPU"


def _awaited_nodes(runtime: RuntimeConfig) -> list[Mapping[str, float]]:
    """The nodes, as soon as there is one to work on. More can come only where the head does no work itself."""
    started = next_line = time.monotonic()
    while what := _missing(nodes := _nodes(), runtime):
        waited = time.monotonic() - started
        growing = any(node["Alive"] and not node["Resources"].get("CPU") for node in ray.nodes())
        if what == "GPU" and (not growing or waited >= runtime.wait_for_nodes_s):
            raise InputError("runtime.device", runtime.device, "Ray has no GPU; use 'auto' or 'cpu'")
        if waited >= runtime.wait_for_nodes_s:
            raise InputError(
                "runtime.wait_for_nodes_s",
                runtime.wait_for_nodes_s,
                "no node with CPUs to work on came in this time; start one, or wait longer",
            )
        if started + waited >= next_line:
            logger.info("waiting for a node with a %s, %.0f s so far", what, waited)
            next_line += _SAY_EVERY_S
            request_resources(bundles=[{"CPU": 1, **({"GPU": 1} if what == "GPU" else {})}])  # of an autoscaler
        time.sleep(min(1.0, runtime.wait_for_nodes_s))
    if next_line != started:
        request_resources(bundles=[])  # from now on the work itself asks
    return nodes


def _reservable(cpus: float) -> float:
    """Ray reserves hundredths up to one CPU, and whole CPUs above."""
    return float(int(cpus)) if cpus >= 1 else max(0.01, int(cpus * 100) / 100)
