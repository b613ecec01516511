"""How a job is distributed over nodes: how many actors, with which CPUs and GPUs. Imports no Ray, see `cluster`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from galaxy_batch.config import RuntimeConfig
from galaxy_batch.model.engines.choose import choose_engine
from galaxy_batch.model.engines.engine import BATCH_SIZES, EngineName

__all__ = ["Workers", "divide_requests", "workers_on"]

# Actors must leave CPUs for the tasks that read and write, or the job deadlocks: actors reserve three quarters of the
# CPUs, and a task, which mostly waits for the store, a quarter of one.
_ACTOR_SHARE = 0.75
_TASK_CPUS = 0.25
# Ray Data starts all tasks that read before one that writes. Where few tasks fit, one slot is kept for writing, or no
# part would be written until everything is read. Two small tasks fit even beside the actor of a single CPU.
_SMALL_TASK_CPUS = 0.12
_FEW_TASKS = 4
_CPUS_PER_ACTOR = {"openvino": 8, "torch": 1}  # torch loses time synchronising threads; OpenVINO runs a stream in each
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
        from ray.data import TaskPoolStrategy  # noqa: PLC0415 - Ray takes seconds

        return {**self.task_options, "compute": TaskPoolStrategy(self.readers)}

    @property
    def actor_options(self) -> dict[str, Any]:
        """Arguments of `map_batches` for the model's actors."""
        from ray.data import ActorPoolStrategy  # noqa: PLC0415

        return {
            "batch_size": None,
            "batch_format": "pyarrow",
            "num_cpus": self.actor_cpus,
            "num_gpus": self.actor_gpus,
            "compute": ActorPoolStrategy(size=self.actors),
            "max_restarts": _MAX_ACTOR_RESTARTS,
            "max_task_retries": _MAX_ACTOR_RESTARTS,  # chunks queued behind a crashing one are retried as often
        }


def divide_requests(requests: int, tasks: int) -> tuple[int, int]:
    """How many of the tasks may run at a time, and the simultaneous requests of each: together at most `requests`."""
    at_once = max(1, min(requests, tasks))
    return at_once, requests // at_once


def workers_on(
    nodes: Sequence[Mapping[str, float]], runtime: RuntimeConfig, chunks: int, over_http: bool = False
) -> Workers:
    """Distribute a job of this many chunks over at least one node.

    Args:
        nodes: the `CPU` and `GPU` resources of each.
        runtime: settings of the job.
        chunks: the number of chunks.
        over_http: whether the cutouts are on an http(s) host: then tasks that read are few enough for
            `requests_per_host`.
    """
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


def _reservable(cpus: float) -> float:
    """Rounded down to what Ray reserves: hundredths below one CPU, whole CPUs above."""
    return float(int(cpus)) if cpus >= 1 else max(0.01, int(cpus * 100) / 100)
