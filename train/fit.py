"""The two-phase fit: first the linear head, then the last blocks too."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from galaxy_batch.model import MorphologyModel
from train.layers import Layers
from train.recipe import FitConfig, Phase

__all__ = ["Epoch", "Examples", "fit", "predict_logits", "symmetry"]

logger = logging.getLogger(__name__)

_FORWARD_BATCH = 64
_CACHE_BYTES = 4 << 30  # activations kept between epochs; above this they are computed again in each


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training galaxies came to."""

    phase: str
    number: int
    loss: float
    accuracy: float
    """On the training galaxies, as they were seen."""
    calibration_loss: float
    calibration_accuracy: float
    seconds: float


@dataclass(frozen=True)
class Examples:
    """Galaxies with a label: pixels ``(N, 3, size, size)`` uint8, labels ``(N,)`` int64."""

    pixels: torch.Tensor
    labels: torch.Tensor


def symmetry(images: torch.Tensor, number: int) -> torch.Tensor:
    """One of the eight flips and quarter turns of images ``(N, C, h, w)``; 0 leaves them as they are.

    0, 1 flip left and right; 2, 3 the same upside down; 4 to 7 those four after a quarter turn.
    """
    turned = images.rot90(1, (-2, -1)) if number & 4 else images
    flipped = turned.flip(-2) if number & 2 else turned
    return flipped.flip(-1) if number & 1 else flipped


def fit(
    model: MorphologyModel, train: Examples, calibration: Examples, config: FitConfig, device: torch.device
) -> list[Epoch]:
    """Train the model in place, and give the course of both phases.

    Args:
        model: as built; its head is trained from its random start.
        train: the galaxies to learn from.
        calibration: galaxies that are only watched, after each epoch.
        config: phases and optimiser.
        device: where the model is.
    """
    layers = Layers(model)
    epochs: list[Epoch] = []
    generator = np.random.default_rng(config.seed)
    for name, phase in (("head", config.head), ("blocks", config.blocks)):
        if phase.epochs:
            epochs += _fit_phase(layers, name, phase, train, calibration, config, generator, device)
    model.requires_grad_(True).eval()
    return epochs


@torch.inference_mode()
def predict_logits(model: MorphologyModel, pixels: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Logits ``(N, classes)``, float32 on the CPU, of uint8 pixels ``(N, 3, size, size)``."""
    model.eval()
    return torch.cat([model(batch.to(device)).float().cpu() for batch in torch.split(pixels, _FORWARD_BATCH)])


def _fit_phase(
    layers: Layers,
    name: str,
    phase: Phase,
    train: Examples,
    calibration: Examples,
    config: FitConfig,
    generator: np.random.Generator,
    device: torch.device,
) -> list[Epoch]:
    learning = layers.set_learning(phase.blocks, config.batch_norm == "train")
    activations = _Activations(layers, train.pixels, phase, config, device)
    optimiser = torch.optim.AdamW(_parameter_groups(learning, config.weight_decay), lr=phase.learning_rate)
    epochs = []
    for number in range(1, phase.epochs + 1):
        started = time.monotonic()
        losses, right, seen = 0.0, 0, 0
        for rows, batch in activations.shuffled(config.batch_size, generator):
            labels = train.labels[rows].to(device)
            logits = layers.learning(batch, phase.blocks)
            loss = F.cross_entropy(logits, labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses += float(loss.detach()) * len(rows)
            right += int((logits.argmax(1) == labels).sum())
            seen += len(rows)
        watched, watched_right = _watch(layers, calibration, device)
        layers.set_learning(phase.blocks, config.batch_norm == "train")
        epoch = Epoch(
            name, number, losses / seen, right / seen, watched, watched_right, round(time.monotonic() - started, 3)
        )
        logger.info(
            "%s %d/%d: loss %.4f, accuracy %.4f; calibration galaxies: loss %.4f, accuracy %.4f (%.0f s)",
            name, number, phase.epochs, epoch.loss, epoch.accuracy,
            epoch.calibration_loss, epoch.calibration_accuracy, epoch.seconds,
        )  # fmt: skip
        epochs.append(epoch)
    return epochs


class _Activations:
    """What the frozen part makes of each galaxy in each symmetry: kept when it fits in memory."""

    def __init__(
        self, layers: Layers, pixels: torch.Tensor, phase: Phase, config: FitConfig, device: torch.device
    ) -> None:
        self.layers, self.pixels, self.blocks, self.device = layers, pixels, phase.blocks, device
        self.symmetries = config.symmetries
        one = self._compute(pixels[:1], 0)
        versions = min(self.symmetries, phase.epochs)
        self.order = np.random.default_rng(config.seed + 1).permuted(
            np.tile(np.arange(self.symmetries), (len(pixels), 1)), axis=1
        )  # each galaxy goes through its symmetries in an order of its own, one per epoch
        self.epoch = -1
        self.kept: torch.Tensor | None = None
        if len(pixels) * versions * one[0].numel() * 2 <= _CACHE_BYTES and one.shape[1:] != pixels.shape[1:]:
            self.kept = torch.empty((versions, len(pixels), *one.shape[1:]), dtype=torch.float16)
            for version in range(versions):
                for start in range(0, len(pixels), _FORWARD_BATCH):
                    rows = np.arange(start, min(start + _FORWARD_BATCH, len(pixels)))
                    self.kept[version, start : start + _FORWARD_BATCH] = self._versions(rows, version).half().cpu()

    def shuffled(self, batch_size: int, generator: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Rows and activations of one epoch, in a random order; a last batch of one galaxy is left out."""
        self.epoch += 1
        order = generator.permutation(len(self.pixels))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            if len(rows) < 2 and len(order) > 1:  # batch norm cannot learn from one
                continue
            if self.kept is not None:
                batch = _channels_last(self.kept[self.epoch % len(self.kept)][rows].float().to(self.device))
            else:
                batch = self._versions(rows, self.epoch)
            yield torch.from_numpy(rows), batch

    def _versions(self, rows: np.ndarray[tuple[int], np.dtype[np.int64]], version: int) -> torch.Tensor:
        """Activations of some galaxies, each in the symmetry that is its turn."""
        chosen = self.order[rows, version % self.symmetries]
        batch = torch.stack([symmetry(self.pixels[r : r + 1], int(s))[0] for r, s in zip(rows, chosen, strict=True)])
        return self._compute(batch, 0)

    def _compute(self, pixels: torch.Tensor, number: int) -> torch.Tensor:
        with torch.no_grad():
            return self.layers.frozen(symmetry(pixels, number).to(self.device), self.blocks)


def _channels_last(values: torch.Tensor) -> torch.Tensor:
    return values.contiguous(memory_format=torch.channels_last) if values.dim() == 4 else values


def _parameter_groups(modules: list[nn.Module], weight_decay: float) -> list[dict[str, object]]:
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]


def _watch(layers: Layers, examples: Examples, device: torch.device) -> tuple[float, float]:
    if not len(examples.labels):
        return float("nan"), float("nan")
    logits = predict_logits(layers.model, examples.pixels, device)
    return (
        float(F.cross_entropy(logits, examples.labels)),
        float((logits.argmax(1) == examples.labels).float().mean()),
    )
