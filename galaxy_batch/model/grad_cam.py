"""Grad-CAM: which parts of a cutout raise the logit of a class.

Sources: Grad-CAM, Selvaraju et al. 2017, ICCV; gradient times activation in each cell, Draelos & Carin 2020 (HiResCAM).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from captum.attr import LayerGradientXActivation
from torch import nn

from galaxy_batch.model.network import MorphologyModel, normalise

__all__ = ["fine_grad_cam", "grad_cam"]

_BATCH = 8  # all activations of the network are kept for the backward pass
_FINE_STRIDE_PX = 8


def grad_cam(model: MorphologyModel, pixels: torch.Tensor, classes: npt.NDArray[np.int64]) -> torch.Tensor | None:
    """The last feature map before pooling, weighted by the gradient of the class logit, clipped at zero.

    The mean over the map follows, so the gradient is the same in each of its cells. Of a model that averages over
    several views, the maps are of the unflipped one.

    Args:
        model: any timm backbone; set to eval mode.
        pixels: ``(N, 3, h, w)`` uint8.
        classes: ``(N,)``: class to explain for each galaxy.

    Returns:
        ``(N, cells, cells)`` float32 on the CPU, not negative; None for a backbone without a feature map, such as a
        plain vision transformer.
    """
    maps = _maps(model, pixels, classes, [])
    return None if maps is None else maps[0]


def fine_grad_cam(model: MorphologyModel, pixels: torch.Tensor, classes: npt.NDArray[np.int64]) -> torch.Tensor | None:
    """Grad-CAM in cells of 8 px: gradient times activation of an earlier stage, where `grad_cam` lies.

    The cells of the last map are 32 px wide, too wide to tell an arm from the core. Those of an earlier stage are finer
    but respond to all structure; the product of both maps has the place of the one and the class of the other.

    Args:
        model: as in `grad_cam`.
        pixels: as in `grad_cam`.
        classes: as in `grad_cam`.

    Returns:
        As `grad_cam`, with cells of 8 px, or the next finer or coarser ones that the backbone has. The largest value of
        a galaxy is 1, or 0 where nothing in it raises the logit.
    """
    maps = _maps(model, pixels, classes, _fine_stage(model.backbone))
    if maps is None:
        return None
    *fine, coarse = maps
    finest = fine[0] if fine else coarse
    spread = F.interpolate(coarse[:, None], finest.shape[-2:], mode="bilinear")[:, 0]
    product = finest * spread if fine else coarse
    largest = product.amax(dim=(1, 2), keepdim=True)
    return product / torch.where(largest > 0, largest, 1)


class _FeatureMap(nn.Module):
    """The last feature map of a backbone, as a layer."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.backbone.forward_features(values)  # type: ignore[operator]
        return features


def _maps(
    model: MorphologyModel, pixels: torch.Tensor, classes: npt.NDArray[np.int64], stages: Sequence[nn.Module]
) -> list[torch.Tensor] | None:
    """Gradient times activation, summed over channels and clipped at zero, of these stages and of the last feature map.

    One tensor ``(N, cells, cells)`` each; None for a backbone without a feature map.
    """
    if not len(pixels):
        return [torch.zeros(0, 1, 1) for _ in (*stages, None)]
    model.eval()
    device, backbone, last = next(model.parameters()).device, model.backbone, _FeatureMap(model.backbone)
    attribution = LayerGradientXActivation(lambda values: backbone.forward_head(last(values)), [*stages, last])  # type: ignore[operator]
    found: list[list[torch.Tensor]] = []
    for batch, targets in zip(torch.split(pixels, _BATCH), torch.split(torch.from_numpy(classes), _BATCH), strict=True):
        values = normalise(batch.to(device), model.spec.mean, model.spec.std).requires_grad_()
        with torch.enable_grad():
            products = attribution.attribute(values, targets.to(device))
        if any(of_layer.dim() != 4 for of_layer in products):
            return None
        found.append([_summed(of_layer.detach()) for of_layer in products])
    return [torch.cat(maps) for maps in zip(*found, strict=True)]


def _summed(products: torch.Tensor) -> torch.Tensor:
    """Sum over channels of ``(n, channels, h, w)`` or ``(n, h, w, channels)``: the maps are square."""
    channels = 1 if products.shape[2] == products.shape[3] else 3
    return products.sum(dim=channels).relu().float().cpu()


def _fine_stage(backbone: nn.Module) -> list[nn.Module]:
    """The stage whose cells are nearest to 8 px; none where timm does not tell."""
    stages = getattr(backbone, "feature_info", None)
    known = [dict(stage) for stage in getattr(stages, "info", stages) or [] if "reduction" in stage]
    if not known:
        return []
    nearest = min(known, key=lambda stage: abs(np.log2(stage["reduction"] / _FINE_STRIDE_PX)))
    return [backbone.get_submodule(nearest["module"])]
