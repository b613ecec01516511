"""How a job is spread over a machine or cluster: how many actors, with how much each."""

from dataclasses import dataclass
from typing import Any

import ray
from ray.data import ActorPoolStrategy

from galaxy_batch.config import RuntimeConfig
from galaxy_batch.errors import InputError

__all__ = ["Workers", "workers_for"]

# Actors must leave room for the tasks that read and write, or the job waits for ever: on one CPU as on a
# thousand, actors reserve three quarters, and a task, which mostly waits for the store, asks for a quarter of one.
_ACTOR_SHARE = 0.75
_TASK_CPUS = 0.25
_ACTOR_RESTARTS = 3  # an image that kills the process must not do so for ever


@dataclass(frozen=True)
class Workers:
    """Actors and tasks of one job."""

    actors: int
    device: str
    threads: int
    """CPU threads of each actor."""
    actor_cpus: float
    """CPUs that Ray reserves for each actor."""

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
            "num_gpus": 1 if self.device == "cuda" else 0,
            "compute": ActorPoolStrategy(size=self.actors),
            "max_restarts": _ACTOR_RESTARTS,
            "max_task_retries": _ACTOR_RESTARTS,
        }


def workers_for(runtime: RuntimeConfig, chunks: int) -> Workers:
    """Spread a job of so many chunks over the Ray that runs: one actor per GPU, else one per CPU.

    Raises:
        InputError: a GPU is asked for, and Ray has none.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = int(sum(n.get("CPU", 0) for n in nodes)), int(sum(n.get("GPU", 0) for n in nodes))
    if runtime.device == "cuda" and not gpus:
        raise InputError("runtime.device", runtime.device, "Ray has no GPU; use 'auto' or 'cpu'")
    on_gpu = gpus > 0 and runtime.device != "cpu"
    actors = max(1, min(runtime.actors or (gpus if on_gpu else cpus), chunks))
    # An actor must fit on the smallest node that it may be placed on.
    room = (
        min(n["CPU"] / n["GPU"] for n in nodes if n.get("GPU"))
        if on_gpu
        else min(n["CPU"] for n in nodes if n.get("CPU"))
    )
    share = min(room, cpus / actors)
    return Workers(
        actors=actors,
        device="cuda" if on_gpu else "cpu",
        threads=max(1, int(share)),
        actor_cpus=_reservable(share * _ACTOR_SHARE),
    )


def _reservable(cpus: float) -> float:
    """Ray reserves hundredths up to one CPU, and whole CPUs above."""
    return float(int(cpus)) if cpus >= 1 else max(0.01, int(cpus * 100) / 100)
