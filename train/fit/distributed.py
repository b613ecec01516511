"""Data-parallel fit with Ray Train; if a worker dies, all restart from the last completed epoch.

Each worker process reads its own share of the training galaxies; DistributedDataParallel averages the gradients (NCCL
between GPUs, Gloo between CPUs). The state after each epoch is stored below the output URI, which all workers must
reach, and removed after the fit. Running an interrupted job again with the same training data and settings resumes from
that state.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs
import ray
import ray.train
import ray.train.torch
import torch

from galaxy_batch.config import RuntimeConfig
from galaxy_batch.errors import InputError
from galaxy_batch.model.network import MorphologyModel
from galaxy_batch.runtime.cluster import workers_for
from galaxy_batch.runtime.workers import Workers
from galaxy_batch.storage.files import filesystem, join, remove_tree
from train.config import TrainConfig
from train.data.galaxies import Part, Rows, load_part, new_model, read_galaxies
from train.data.labels import Labels
from train.data.splits import split_galaxies
from train.fit.fit import Epoch, fit
from train.fit.phases import World

__all__ = ["SharedFit", "fit_on_workers"]

logger = logging.getLogger(__name__)

_MAX_DEATHS = 3  # of workers before the fit fails; preempted nodes do not count
_STATE = "state.pt"


@dataclasses.dataclass(frozen=True)
class SharedFit:
    """Result of a fit on many workers."""

    epochs: list[Epoch]
    """With loss and accuracy on the first worker's share."""
    rows: Rows
    """Rows of the galaxy table that trained, in its order."""
    unusable: dict[str, int]
    """Number of galaxies without a usable cutout, by status."""


def fit_on_workers(config: TrainConfig, model: MorphologyModel, galaxies: pa.Table, labels: Labels) -> SharedFit:
    """Train the model in place on `config.workers` processes of the running Ray, one GPU each where it has GPUs.

    Args:
        config: of the whole run; workers read galaxies and pixels themselves.
        model: untrained, as built from the config.
        galaxies: the galaxy table.
        labels: of the galaxy table.

    Raises:
        InputError: Ray has fewer GPUs than there are workers.
        ray.train.TrainingFailedError: workers died more than `_MAX_DEATHS` times, or one raised an error.
    """
    workers = _reserve(config)
    uri = join(config.output_uri, "training")
    store, folder = filesystem(uri)
    trainer = ray.train.torch.TorchTrainer(
        _fit_share,
        train_loop_config={
            "config": dataclasses.replace(config, threads=config.threads or workers.threads),
            "device": workers.device,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.workers,
            use_gpu=workers.device == "cuda",
            resources_per_worker={"CPU": workers.actor_cpus},
        ),
        run_config=ray.train.RunConfig(
            name=_run_name(config, model, galaxies, labels),
            storage_path=folder,
            storage_filesystem=pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(store)),
            failure_config=ray.train.FailureConfig(max_failures=_MAX_DEATHS),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
        ),
    )
    logger.info("training on %d workers (%s), %g CPUs each", config.workers, workers.device, workers.actor_cpus)
    with _restored_sigint():
        result = trainer.fit()
    epochs = []
    store.invalidate_cache()  # the workers wrote there
    if result.checkpoint is not None:
        state = _read_state(result.checkpoint)
        model.load_state_dict(state["model"])
        epochs = [Epoch(**epoch) for epoch in state["epochs"]]
    model.requires_grad_(True).eval()
    remove_tree(uri)
    return SharedFit(epochs, **result.return_value)


def _fit_share(arguments: dict[str, Any]) -> dict[str, Any]:
    """The fit in one worker process, on its share of the galaxies."""
    config: TrainConfig = arguments["config"]
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size())
    logging.getLogger().setLevel(logging.WARNING)  # Ray Train sets INFO and logs each report in full
    logging.getLogger("train").setLevel(logging.WARNING if world.rank else logging.INFO)
    torch.set_num_threads(config.threads or 1)
    # On a machine with GPUs, get_device() names one even for a worker that has none.
    device = ray.train.torch.get_device() if arguments["device"] == "cuda" else torch.device("cpu")
    galaxies, labels = read_galaxies(config)
    split = split_galaxies(galaxies["object_id"], config.split)
    share = load_part(config, galaxies, labels, split.train[world.rank :: world.size], learns=True)
    calibration = load_part(config, galaxies, labels, split.calibration, learns=False)
    model = new_model(config, labels).to(device)
    fit(model, share.examples, calibration.examples, config.fit, device, world, _RayTrainStore(world))
    return _gather_shares(share, world)


class _RayTrainStore:
    """Stores the state of a fit with Ray Train: the first worker writes it, all wait until it is committed."""

    def __init__(self, world: World) -> None:
        self.world = world

    def restore(self) -> dict[str, Any] | None:
        """The last committed state; None if there is none."""
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return None
        state = _read_state(checkpoint)
        last = Epoch(**state["epochs"][-1])
        logger.info("resuming after phase %s, epoch %d", last.phase, last.number)
        return state

    def save(self, state: dict[str, Any], epoch: Epoch) -> None:
        """Store the state after an epoch."""
        checkpoint = None
        with tempfile.TemporaryDirectory() as folder:
            if self.world.rank == 0:
                torch.save(state, Path(folder, _STATE))
                checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report(dataclasses.asdict(epoch), checkpoint=checkpoint)
        # `report` only queues the upload, and the queue dies with its process: wait until it is committed.
        ray.train.get_all_reported_checkpoints(consistency_mode=ray.train.CheckpointConsistencyMode.COMMITTED)


def _read_state(checkpoint: ray.train.Checkpoint) -> dict[str, Any]:
    with checkpoint.as_directory() as folder:
        state: dict[str, Any] = torch.load(Path(folder, _STATE), map_location="cpu", weights_only=True)
    return state


def _gather_shares(share: Part, world: World) -> dict[str, Any]:
    """Rows and unusable galaxies of all workers' shares: fields of `SharedFit`."""
    shares: list[Any] = [None] * world.size
    torch.distributed.all_gather_object(shares, (share.rows, share.unusable))
    unusable = sum((Counter(counts) for _, counts in shares), Counter())
    return {"rows": np.sort(np.concatenate([rows for rows, _ in shares])), "unusable": dict(unusable)}


def _reserve(config: TrainConfig) -> Workers:
    """CPUs and GPUs of each worker; part of each CPU stays free for Ray's own tasks."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if config.device != "cpu" and gpus < config.workers and (gpus or config.device == "cuda"):
        raise InputError(
            "workers",
            config.workers,
            f'each needs a GPU, and Ray has {gpus}; or set device = "cpu"',
        )
    return workers_for(RuntimeConfig(actors=config.workers, device=config.device), config.workers)


def _run_name(config: TrainConfig, model: MorphologyModel, galaxies: pa.Table, labels: Labels) -> str:
    """Hash of settings, data and initial weights: only an identical run resumes from the stored states."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(config), sort_keys=True).encode())
    digest.update(f"{version('ray')} {version('torch')}".encode())
    digest.update("\n".join(map(str, galaxies["object_id"].to_pylist())).encode())
    digest.update(labels.label.tobytes() + labels.votes.tobytes())
    for tensor in model.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _restored_sigint() -> Iterator[None]:
    """Restore the SIGINT handler that Ray Train replaces."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
