"""How a job is spread over a machine or cluster: how many actors, with how much each."""

from dataclasses import dataclass
from typing import Any

import ray
from ray.data import ActorPoolStrategy

from galaxy_batch.config import RuntimeConfig
from galaxy_batch.engines import BATCH_SIZES, EngineName, choose_engine
from galaxy_batch.errors import InputError

__all__ = ["Workers", "workers_for"]

# Actors must leave room for the tasks that read and write, or the job waits for ever: on one CPU as on a
# thousand, actors reserve three quarters, and a task, which mostly waits for the store, asks for a quarter of one.
_ACTOR_SHARE = 0.75
_TASK_CPUS = 0.25
_CPUS_PER_ACTOR = {"openvino": 8, "torch": 1}  # torch loses time where its threads meet; OpenVINO runs a stream in each
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

    @property
    def device(self) -> str:
        """`cuda` or `cpu`."""
        return "cuda" if self.engine == "cuda" else "cpu"

    @property
    def task_options(self) -> dict[str, Any]:
        """Arguments of `map_batches` for a stage that is a function: whole chunks, as Arrow tables."""
        return {"batch_size": None, "batch_format": "pyarrow", "num_cpus": _TASK_CPUS}

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
    """Spread a job of so many chunks over the Ray that runs.

    Raises:
        InputError: a GPU is asked for, and Ray has none.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(n.get("GPU", 0) for n in nodes))
    if runtime.device == "cuda" and not gpus:
        raise InputError("runtime.device", runtime.device, "Ray has no GPU; use 'auto' or 'cpu'")
    device = "cuda" if gpus and runtime.device != "cpu" else "cpu"
    if device == "cuda":
        engine: EngineName = "cuda"
        slots = [(n["CPU"], gpu) for n in nodes if (gpu := int(n.get("GPU", 0)))]
        wanted, cpus = gpus * _ACTORS_PER_GPU, sum(cpu for cpu, _ in slots)
        room = min(cpu / (gpu * _ACTORS_PER_GPU) for cpu, gpu in slots)
    else:
        engine = choose_engine() if runtime.engine == "auto" else runtime.engine
        sizes = [n["CPU"] for n in nodes if n.get("CPU")]
        cpus, room = sum(sizes), min(sizes)  # an actor must fit on the smallest node that it may be placed on
        each = min(room, _CPUS_PER_ACTOR[engine])
        wanted = sum(int(size // each) for size in sizes)
    actors = max(1, min(runtime.actors or wanted, chunks))
    share = min(room, cpus / actors)
    return Workers(
        actors=actors,
        engine=engine,
        batch_size=runtime.batch_size or BATCH_SIZES[engine],
        threads=max(1, int(share)),
        actor_cpus=_reservable(share * _ACTOR_SHARE),
        actor_gpus=min(1.0, gpus / actors) if device == "cuda" else 0.0,
    )


def _reservable(cpus: float) -> float:
    """Ray reserves hundredths up to one CPU, and whole CPUs above."""
    return float(int(cpus)) if cpus >= 1 else max(0.01, int(cpus * 100) / 100)
