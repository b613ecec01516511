"""The two-phase fit: first the linear head, then head and last blocks."""

import logging
import time
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from galaxy_batch.model.network import MorphologyModel
from galaxy_batch.model.output import ModelOutput
from galaxy_batch.runtime.progress import with_progress
from train.config import FitConfig, Phase
from train.data.galaxies import Examples
from train.fit.frozen_features import FrozenFeatures
from train.fit.layers import Layers
from train.fit.phases import FORWARD_BATCH, PhaseRun, World, auxiliary_head

__all__ = ["Epoch", "EpochStore", "NoStore", "first_view_logits", "fit", "predict", "predict_logits"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Epoch:
    """Result of one pass over the training galaxies."""

    phase: str
    """`head` or `blocks`."""
    number: int
    """From 1, within the phase."""
    loss: float
    accuracy: float
    """On the training galaxies, while they train; the class with most votes counts as correct."""
    calibration_loss: float
    calibration_accuracy: float
    seconds: float


class EpochStore(Protocol):
    """Stores the state of a fit after each epoch, so that an interrupted fit resumes from the last one."""

    def restore(self) -> dict[str, Any] | None:
        """The last saved state; None if there is none."""

    def save(self, state: dict[str, Any], epoch: Epoch) -> None:
        """Store the state after an epoch. Called on every worker; one of them has to store it."""


class NoStore:
    """Stores nothing."""

    def restore(self) -> None:
        """No state."""

    def save(self, state: dict[str, Any], epoch: Epoch) -> None:
        """Discard the state."""


def fit(
    model: MorphologyModel,
    train: Examples,
    calibration: Examples,
    config: FitConfig,
    device: torch.device,
    world: World = World(),  # noqa: B008 - frozen
    store: EpochStore = NoStore(),  # noqa: B008 - without state
) -> list[Epoch]:
    """Train the model in place; returns the epochs of both phases.

    Args:
        model: untrained, on `device`.
        train: training galaxies of this worker.
        calibration: galaxies evaluated after each epoch; they do not train.
        config: phases and optimiser.
        device: of the model.
        world: this worker; more than one requires an initialised `torch.distributed` group.
        store: stores the state after each epoch.
    """
    calibration = calibration[(calibration.targets.sum(dim=1) > 0).numpy()]  # without the ambiguous ones
    layers = Layers(model)
    if config.batch_norm == "eval":
        layers.fold_batch_norms()
    features = FrozenFeatures(layers, train.pixels, config, device)
    torch.manual_seed(config.seed + 1)
    auxiliary = auxiliary_head(layers.features, sum(config.auxiliary_sizes)).to(device)
    galaxies = _largest_share(len(train.targets), world, device)
    state = store.restore() or {"epochs": [], "model": None}
    epochs = [Epoch(**epoch) for epoch in state["epochs"]]
    if state["model"] is not None:
        model.load_state_dict(state["model"])
        auxiliary.load_state_dict(state["auxiliary"])
    for name, phase in (("head", config.head), ("blocks", config.blocks)):
        done = sum(epoch.phase == name for epoch in epochs)
        if done >= phase.epochs or (name == "head" and any(e.phase == "blocks" for e in epochs)):
            continue
        layers.set_learning(phase.blocks, config.batch_norm == "train")
        run = PhaseRun(layers, phase, auxiliary, config, device, world, galaxies)
        if done:
            run.load(state["run"])
        for number in range(done + 1, phase.epochs + 1):
            started = time.monotonic()
            loss, accuracy = run.epoch(train, features, number)
            if number == phase.epochs:
                run.finish(train, features)
            on_calibration = _loss_and_accuracy(run.current_model(), calibration, device)
            layers.set_learning(phase.blocks, config.batch_norm == "train")
            epochs.append(Epoch(name, number, loss, accuracy, *on_calibration, round(time.monotonic() - started, 3)))
            _log(epochs[-1], phase)
            parts = {"model": model.state_dict(), "auxiliary": auxiliary.state_dict(), "run": run.state()}
            store.save({"epochs": [asdict(epoch) for epoch in epochs], **parts}, epochs[-1])
    model.requires_grad_(True).eval()
    return epochs


def predict_logits(model: MorphologyModel, pixels: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Logits ``(N, classes)``, float32 on the CPU, of uint8 pixels ``(N, 3, size, size)``."""
    return torch.from_numpy(predict(model, pixels, device).class_logits)


@torch.inference_mode()
def first_view_logits(model: MorphologyModel, pixels: torch.Tensor, device: torch.device) -> npt.NDArray[np.float32]:
    """Class logits ``(N, classes)`` of the first view alone, of uint8 pixels ``(N, 3, size, size)``."""
    batches = with_progress(torch.split(pixels, FORWARD_BATCH), "classifying", len(pixels))
    logits = torch.cat([model.eval()(batch.to(device)).class_logits.cpu() for batch in batches])
    return np.asarray(logits.numpy(), np.float32)


@torch.inference_mode()
def predict(
    model: MorphologyModel, pixels: torch.Tensor, device: torch.device, stability_views: int = 1
) -> ModelOutput[npt.NDArray[np.float32]]:
    """What `MorphologyModel.predict` gives for uint8 pixels ``(N, 3, size, size)``."""
    model.eval()
    batches = with_progress(torch.split(pixels, FORWARD_BATCH), "classifying", len(pixels))
    return ModelOutput.join((model.predict(batch.to(device), stability_views) for batch in batches), np.concatenate)


def _largest_share(count: int, world: World, device: torch.device) -> int:
    """Largest number of galaxies of any worker; all take as many steps, because gradients are averaged in each."""
    largest = torch.tensor(count, device=device)
    if world.size > 1:
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
    return int(largest)


def _loss_and_accuracy(model: MorphologyModel, examples: Examples, device: torch.device) -> tuple[float, float]:
    if not len(examples.targets):
        return float("nan"), float("nan")
    with torch.inference_mode():
        layers = Layers(model.eval())
        batches = with_progress(torch.split(examples.pixels, FORWARD_BATCH), "evaluating", len(examples.pixels))
        logits = torch.cat([layers.head(layers.frozen(batch.to(device), 0)).float().cpu() for batch in batches])
    accuracy = (logits.argmax(1) == examples.targets.argmax(1)).float().mean()
    return float(F.cross_entropy(logits, examples.targets)), float(accuracy)


def _log(epoch: Epoch, phase: Phase) -> None:
    logger.info(
        "%s %d/%d: loss %.4f, accuracy %.4f; calibration galaxies: loss %.4f, accuracy %.4f (%.0f s)",
        epoch.phase, epoch.number, phase.epochs, epoch.loss, epoch.accuracy,
        epoch.calibration_loss, epoch.calibration_accuracy, epoch.seconds,
    )  # fmt: skip
