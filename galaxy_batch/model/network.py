"""The network: uint8 pixels in, logits out; the same module in training and in inference."""

import io
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass

import safetensors
import safetensors.torch
import timm
import torch
from torch import nn

from galaxy_batch.cutouts.decode import Pixels
from galaxy_batch.errors import InputError
from galaxy_batch.model.familiarity import STAGES, Familiarity, describe
from galaxy_batch.storage.files import read_bytes

__all__ = [
    "PRETRAINED",
    "RANDOM",
    "ModelSpec",
    "MorphologyModel",
    "build_model",
    "normalise",
    "read_weights",
    "symmetry",
]

PRETRAINED = "pretrained"
"""Weights: the ImageNet weights that timm publishes for the architecture, from the model hub."""
RANDOM = "random"
"""Weights: none; every layer starts at random."""


@dataclass(frozen=True)
class ModelSpec:
    """How pixels become logits: all that must be equal in training and inference."""

    architecture: str
    """Any image model of timm, by its name there."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the logits."""
    size_px: int
    """Side of the square that the network sees."""
    crop_fraction: float
    """Share of the cutout's shorter side that is kept, around the centre."""
    mean: tuple[float, float, float]
    """Per channel, of pixels scaled to 0…1; subtracted."""
    std: tuple[float, float, float]
    """Per channel, of pixels scaled to 0…1; divided by."""
    views: int = 1
    """How many of the square's eight symmetries are looked at, and their probabilities averaged: 1, 2, 4 or 8.
    The sky has no up, so more views are more accurate; each costs a forward pass."""


class MorphologyModel(nn.Module):
    """A timm backbone with one logit per class, that takes uint8 pixels.

    Reads ``(N, 3, size_px, size_px)`` uint8; gives ``(N, len(classes))`` logits, and with `answer` also two numbers
    that tell when not to believe them.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.familiarity: Familiarity | None = None
        """Statistics of the training galaxies; None before the training has ended."""
        self.stability_views = 1
        """With `spec.views` of 1: so many views are looked at for the instability alone."""
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

    def answer(self, pixels: Pixels) -> torch.Tensor:
        """Logits, unfamiliarity and instability of uint8 pixels ``(N, 3, size_px, size_px)``.

        Returns:
            ``(N, len(classes) + 2)`` float32. The unfamiliarity is the distance of `Familiarity`, whose square is
            averaged over the views: 1 for an average training galaxy; nan without statistics. The instability is the
            standard deviation of a class's probability over the views, of the class where it is largest: at most 0.5;
            nan with one view.
        """
        own = self.spec.views
        views = self._views(pixels, own if own > 1 else self.stability_views)
        seen, distances = [], []
        for number, view in enumerate(views):
            if self.familiarity is None or number >= own:
                seen.append(self.backbone(view).float())
                continue
            last, stages = self.backbone.forward_intermediates(view, indices=list(STAGES))  # type: ignore[operator]
            seen.append(self.backbone.forward_head(last).float())  # type: ignore[operator]
            distances.append(self.familiarity(describe(stages)))
        unknown = torch.full_like(seen[0][:, 0], torch.nan)
        unfamiliarity = torch.stack(distances).mean(dim=0).sqrt() if distances else unknown
        instability = _spread(seen) if len(seen) > 1 else unknown
        return torch.cat([_mean_logits(seen[:own]), unfamiliarity[:, None], instability[:, None]], dim=1)

    def _views(self, pixels: Pixels, count: int) -> list[torch.Tensor]:
        inputs = normalise(pixels, self.spec.mean, self.spec.std)
        return [inputs] + [_channels_last(symmetry(inputs, n)) for n in range(8 // count, 8, 8 // count)]


def _mean_logits(seen: list[torch.Tensor]) -> torch.Tensor:
    """Logits of the mean probability over views, of the logits ``(N, classes)`` of each."""
    if len(seen) == 1:
        return seen[0]
    return torch.stack([logits.log_softmax(dim=1) for logits in seen]).logsumexp(dim=0) - math.log(len(seen))


def _spread(seen: list[torch.Tensor]) -> torch.Tensor:
    """Largest standard deviation over views of a class's probability, ``(N,)``, of the logits of each view."""
    probabilities = torch.stack([logits.softmax(dim=1) for logits in seen])
    away = probabilities - probabilities.mean(dim=0)
    return away.square().mean(dim=0).sqrt().amax(dim=1)


def normalise(pixels: Pixels, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """uint8 pixels ``(N, 3, h, w)`` as float32, `(pixels / 255 - mean) / std` per channel, on their device."""
    centre = torch.tensor(mean, device=pixels.device).view(1, -1, 1, 1)
    spread = torch.tensor(std, device=pixels.device).view(1, -1, 1, 1)
    scaled = (pixels.float() / 255 - centre) / spread
    return _channels_last(scaled)


def symmetry(images: torch.Tensor, number: int) -> torch.Tensor:
    """One of the eight symmetries of square images ``(N, C, h, h)``; 0 leaves them as they are.

    Odd numbers are flipped left and right; 2, 3, 6, 7 upside down; 4 to 7 are turned by a quarter first.
    """
    turned = images.rot90(1, (-2, -1)) if number & 4 else images
    flipped = turned.flip(-2) if number & 2 else turned
    return flipped.flip(-1) if number & 1 else flipped


def build_model(spec: ModelSpec, weights: str) -> MorphologyModel:
    """A model to be trained, in eval mode.

    Args:
        spec: architecture, classes and preprocessing.
        weights: `pretrained`, `random`, or the URI of a `.safetensors` or `.pth` file with this
            architecture's layers; a classifier head of another shape is left at its random start.

    Raises:
        InputError: the hub cannot be reached, or the file's layers do not fit (they are named).
    """
    model = MorphologyModel(spec)
    # timm starts a head of few classes with weights so large that a frozen backbone's head takes epochs to undo them.
    head: nn.Module = model.backbone.get_classifier()  # type: ignore[operator]
    for name, parameter in head.named_parameters():
        nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.normal_(parameter, std=0.01)
    if weights == PRETRAINED:
        _load_backbone(model, _hub_weights(spec.architecture), f"{spec.architecture} (hub)")
    elif weights != RANDOM:
        _load_backbone(model, read_weights(weights), weights)
    return model.eval()


def read_weights(uri: str) -> dict[str, torch.Tensor]:
    """Tensors by name from a `.safetensors` file or a PyTorch state dict; neither can run code.

    Raises:
        InputError: there is no such file, or it is neither format.
    """
    try:
        content = read_bytes(uri)
    except FileNotFoundError:
        raise InputError("weights", uri, "no such file; give a file, 'pretrained' or 'random'") from None
    if uri.endswith(".safetensors"):
        try:
            return dict(safetensors.torch.load(content))
        except safetensors.SafetensorError as error:
            raise InputError("weights", uri, f"not a safetensors file: {error}") from None
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError("weights", uri, f"not a plain PyTorch state dict: {str(error).splitlines()[0]}") from None
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise InputError("weights", uri, "the file holds something else than tensors by name")
    return dict(state)


def _channels_last(images: torch.Tensor) -> torch.Tensor:
    """The layout that convolutions are about twice as fast on, also on CPUs."""
    return images.contiguous(memory_format=torch.channels_last)


def _hub_weights(architecture: str) -> dict[str, torch.Tensor]:
    try:
        model = timm.create_model(architecture, pretrained=True)
    except Exception as error:  # noqa: BLE001 - the hub's client raises many kinds; all mean the same to a user
        raise InputError(
            "weights",
            PRETRAINED,
            f"the model hub did not give {architecture} ({type(error).__name__}); "
            "where there is no network, give the URI of a weights file, or 'random'",
        ) from None
    return dict(model.state_dict())


def _load_backbone(model: MorphologyModel, state: Mapping[str, torch.Tensor], origin: str) -> None:
    own = model.backbone.state_dict()
    state = {name.removeprefix("backbone."): tensor for name, tensor in state.items()}
    head = model.backbone.get_classifier()  # type: ignore[operator]
    head_names = {
        name for name, tensor in own.items() if any(tensor.data_ptr() == p.data_ptr() for p in head.parameters())
    }
    misfits = [
        f"{name} (file {tuple(state[name].shape)}, model {tuple(own[name].shape)})"
        if name in state
        else f"{name} (missing)"
        for name in own
        if name not in head_names and (name not in state or state[name].shape != own[name].shape)
    ]
    strangers = [f"{name} (not in the model)" for name in state if name not in own and name not in head_names]
    if misfits or strangers:
        shown = [*misfits, *strangers]
        more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
        raise InputError(
            "weights", origin, f"layers do not fit {model.spec.architecture}: {'; '.join(shown[:8])}{more}"
        )
    fitting = {n: t for n, t in state.items() if n in own and t.shape == own[n].shape}
    model.backbone.load_state_dict(fitting, strict=False)
