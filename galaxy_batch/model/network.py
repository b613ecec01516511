"""The network: uint8 pixels in, predictions out; the same module in training and in inference."""

import numpy as np
import numpy.typing as npt
import timm
import torch
from torch import nn

from galaxy_batch.errors import InputError
from galaxy_batch.model.embedding import Embedding
from galaxy_batch.model.familiarity import STAGES, Familiarity, describe
from galaxy_batch.model.output import ModelOutput, ViewOutput
from galaxy_batch.model.spec import PRETRAINED, RANDOM, ModelSpec
from galaxy_batch.model.views import combined, margin, view_numbers
from galaxy_batch.model.vote_head import VoteHead
from galaxy_batch.model.weights import hub_weights, load_weights, read_weights

__all__ = ["MorphologyModel", "build_model", "normalise", "symmetry"]


class MorphologyModel(nn.Module):
    """A timm backbone with one logit per class, that takes uint8 pixels ``(N, 3, size_px, size_px)``.

    The forward pass sees one view of each cutout; `predict` sees all that the spec asks for.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.familiarity: Familiarity | None = None
        """Statistics of the training galaxies; None until training ends."""
        try:
            self.backbone: nn.Module = timm.create_model(
                spec.architecture, pretrained=False, num_classes=len(spec.classes)
            )
        except RuntimeError as error:
            raise InputError("architecture", spec.architecture, f"timm has no such model: {error}") from None
        self.backbone.to(memory_format=torch.channels_last)
        self.embedding: Embedding | None = None
        """Projection of the pooled features; None until training ends."""
        self.questions: VoteHead | None = None
        """Answers the questions of the spec; None without any."""
        if spec.questions:
            answers = sum(len(question.answers) for question in spec.questions)
            self.questions = VoteHead(self.backbone.num_features, answers)  # type: ignore[arg-type]

    def forward(self, pixels: torch.Tensor) -> ViewOutput[torch.Tensor]:
        """Float32 outputs for uint8 pixels ``(N, 3, size_px, size_px)`` as they are."""
        inputs = normalise(pixels, self.spec.mean, self.spec.std)
        if self.familiarity is None:
            maps = self.backbone.forward_features(inputs)  # type: ignore[operator]
            distance = torch.full_like(inputs[:, 0, 0, 0], torch.nan)
        else:
            maps, stages = self.backbone.forward_intermediates(inputs, indices=list(STAGES))  # type: ignore[operator]
            distance = self.familiarity(describe(stages))
        if self.questions is None and self.embedding is None:
            logits = self.backbone.forward_head(maps).float()  # type: ignore[operator]
            return ViewOutput(logits, distance, logits[:, :0], logits[:, :0])
        features = self.backbone.forward_head(maps, pre_logits=True)  # type: ignore[operator]
        logits = self.backbone.get_classifier()(features).float()  # type: ignore[operator]
        return ViewOutput(
            logits,
            distance,
            logits[:, :0] if self.questions is None else self.questions(features),
            logits[:, :0] if self.embedding is None else self.embedding(features),
        )

    @torch.no_grad()
    def predict(self, pixels: torch.Tensor, stability_views: int = 1) -> ModelOutput[npt.NDArray[np.float32]]:
        """Predictions for uint8 pixels ``(N, 3, size_px, size_px)``, from as many views as the spec asks for.

        Args:
            pixels: on the model's device.
            stability_views: number of views that measure instability where `spec.views` is 1.
        """
        own, limit = self.spec.views, self.spec.further_views_below
        numbers = view_numbers(own if own > 1 else stability_views)
        first = self(pixels).map(_as_array)
        views = first.map(lambda values: np.full((len(numbers), *values.shape), np.nan, np.float32))
        for values, of_first in zip(views, first, strict=True):
            values[0] = of_first
        unsure = margin(first.class_logits) < (np.inf if limit is None else limit)
        again = torch.from_numpy(unsure).to(pixels.device)
        for place, number in enumerate(numbers[1:], 1):
            if unsure.any():
                further = self(symmetry(pixels[again], number)).map(_as_array)
                for values, of_view in zip(views, further, strict=True):
                    values[place, unsure] = of_view
        return combined(views, own)


def _as_array(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = tensor.float().cpu().numpy()
    return array


def normalise(pixels: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """uint8 pixels ``(N, 3, h, w)`` as float32, `(pixels / 255 - mean) / std` per channel, on their device."""
    centre = torch.tensor(mean, device=pixels.device).view(1, -1, 1, 1)
    scale = torch.tensor(std, device=pixels.device).view(1, -1, 1, 1)
    return _channels_last((pixels.float() / 255 - centre) / scale)


def symmetry(images: torch.Tensor, number: int) -> torch.Tensor:
    """`views.view_of` for tensors ``(…, h, h)``, on their device."""
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
