"""The network: uint8 pixels in, predictions out; the same module in training and in inference."""

import math
from dataclasses import dataclass

import timm
import torch
from torch import nn

from galaxy_batch.cutouts.decode import Pixels
from galaxy_batch.errors import InputError
from galaxy_batch.model.familiarity import STAGES, Familiarity, describe
from galaxy_batch.model.output import ModelOutput
from galaxy_batch.model.weights import hub_weights, load_weights, read_weights

__all__ = [
    "PRETRAINED",
    "RANDOM",
    "ModelSpec",
    "MorphologyModel",
    "build_model",
    "normalise",
    "symmetry",
]

PRETRAINED = "pretrained"
"""Weights: the ImageNet weights that timm publishes for the architecture, from the model hub."""
RANDOM = "random"
"""Weights: every layer starts at random."""


@dataclass(frozen=True)
class ModelSpec:
    """How pixels become logits: everything that must be equal in training and inference."""

    architecture: str
    """Any image model of timm, by its name there."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the logits."""
    size_px: int
    """Side of the network's input."""
    crop_fraction: float
    """Share of the cutout's shorter side that the central crop keeps."""
    mean: tuple[float, float, float]
    """Per channel, of pixels scaled to 0…1; subtracted."""
    std: tuple[float, float, float]
    """Per channel, of pixels scaled to 0…1; divided by."""
    views: int = 1
    """Number of views (flips and quarter turns) whose probabilities are averaged: 1, 2, 4 or 8. The sky has no up, so
    more views are more accurate; each costs one forward pass."""


class MorphologyModel(nn.Module):
    """A timm backbone with one logit per class, that takes uint8 pixels ``(N, 3, size_px, size_px)``.

    The forward pass gives class logits, for training; `predict` gives everything.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.familiarity: Familiarity | None = None
        """Statistics of the training galaxies; None until training ends."""
        self.stability_views = 1
        """Number of views that measure instability where `spec.views` is 1; they do not change the logits."""
        try:
            self.backbone: nn.Module = timm.create_model(
                spec.architecture, pretrained=False, num_classes=len(spec.classes)
            )
        except RuntimeError as error:
            raise InputError("architecture", spec.architecture, f"timm has no such model: {error}") from None
        self.backbone.to(memory_format=torch.channels_last)

    def forward(self, pixels: Pixels) -> torch.Tensor:
        """Logits ``(N, len(classes))`` of uint8 pixels ``(N, 3, size_px, size_px)``."""
        return _mean_logits([self.backbone(view) for view in self._views(pixels, self.spec.views)])

    def predict(self, pixels: Pixels) -> ModelOutput[torch.Tensor]:
        """Class logits, unfamiliarity and instability, float32, of uint8 pixels ``(N, 3, size_px, size_px)``."""
        own = self.spec.views
        views = self._views(pixels, own if own > 1 else self.stability_views)
        logits, squared_distances = [], []
        for number, view in enumerate(views):
            if self.familiarity is None or number >= own:
                logits.append(self.backbone(view).float())
                continue
            last, stages = self.backbone.forward_intermediates(view, indices=list(STAGES))  # type: ignore[operator]
            logits.append(self.backbone.forward_head(last).float())  # type: ignore[operator]
            squared_distances.append(self.familiarity(describe(stages)))
        return ModelOutput(
            class_logits=_mean_logits(logits[:own]),
            unfamiliarity=torch.stack(squared_distances).mean(0).sqrt() if squared_distances else _unknown(logits),
            instability=_instability(logits) if len(logits) > 1 else _unknown(logits),
        )

    def _views(self, pixels: Pixels, count: int) -> list[torch.Tensor]:
        inputs = normalise(pixels, self.spec.mean, self.spec.std)
        return [inputs] + [_channels_last(symmetry(inputs, n)) for n in range(8 // count, 8, 8 // count)]


def _unknown(views: list[torch.Tensor]) -> torch.Tensor:
    """One nan a cutout; a new tensor each time, or OpenVINO would keep the name of one output only."""
    return torch.full_like(views[0][:, 0], torch.nan)


def _mean_logits(views: list[torch.Tensor]) -> torch.Tensor:
    """Logits of the mean probability over views, of the logits ``(N, classes)`` of each view."""
    if len(views) == 1:
        return views[0]
    return torch.stack([logits.log_softmax(dim=1) for logits in views]).logsumexp(dim=0) - math.log(len(views))


def _instability(views: list[torch.Tensor]) -> torch.Tensor:
    """Largest standard deviation over views of a class's probability, ``(N,)``, of the logits of each view."""
    probabilities = torch.stack([logits.softmax(dim=1) for logits in views])
    deviations = probabilities - probabilities.mean(dim=0)
    return deviations.square().mean(dim=0).sqrt().amax(dim=1)


def normalise(pixels: Pixels, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """uint8 pixels ``(N, 3, h, w)`` as float32, `(pixels / 255 - mean) / std` per channel, on their device."""
    centre = torch.tensor(mean, device=pixels.device).view(1, -1, 1, 1)
    scale = torch.tensor(std, device=pixels.device).view(1, -1, 1, 1)
    return _channels_last((pixels.float() / 255 - centre) / scale)


def symmetry(images: torch.Tensor, number: int) -> torch.Tensor:
    """One of the eight symmetries of square images ``(N, C, h, h)``; 0 is the identity.

    Odd numbers flip left and right; 2, 3, 6, 7 upside down; 4 to 7 turn by a quarter first.
    """
    turned = images.rot90(1, (-2, -1)) if number & 4 else images
    flipped = turned.flip(-2) if number & 2 else turned
    return flipped.flip(-1) if number & 1 else flipped


def build_model(spec: ModelSpec, weights: str) -> MorphologyModel:
    """A model to be trained, in eval mode.

    Args:
        spec: architecture, classes and preprocessing.
        weights: `pretrained`, `random`, or the URI of a `.safetensors` or `.pth` file with this architecture's layers:
            a checkpoint of ours, or other people's weights (see `load_weights`).

    Raises:
        InputError: the hub cannot be reached, or the file's layers do not fit (they are named).
    """
    model = MorphologyModel(spec)
    # timm starts a head of few classes with weights so large that a frozen backbone's head takes epochs to undo them.
    head: nn.Module = model.backbone.get_classifier()  # type: ignore[operator]
    for name, parameter in head.named_parameters():
        nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.normal_(parameter, std=0.01)
    if weights == PRETRAINED:
        load_weights(model.backbone, hub_weights(spec.architecture), f"{spec.architecture} (hub)", spec.architecture)
    elif weights != RANDOM:
        load_weights(model.backbone, read_weights(weights), weights, spec.architecture)
    return model.eval()


def _channels_last(images: torch.Tensor) -> torch.Tensor:
    """The memory layout in which convolutions are about twice as fast, also on CPUs."""
    return images.contiguous(memory_format=torch.channels_last)
