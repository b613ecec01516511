"""Grad-CAM: which parts of a cutout raise the logit of a class (Selvaraju et al. 2017, ICCV)."""

import numpy as np
import numpy.typing as npt
import torch

from galaxy_batch.model.network import MorphologyModel, normalise

__all__ = ["grad_cam"]

_BATCH = 32


def grad_cam(model: MorphologyModel, pixels: torch.Tensor, classes: npt.NDArray[np.int64]) -> torch.Tensor | None:
    """The last feature map before pooling, weighted by the mean gradient of the class logit, clipped at zero.

    Of a model that averages over several views, the maps are of the unflipped one.

    Args:
        model: any timm backbone; set to eval mode.
        pixels: ``(N, 3, h, w)`` uint8.
        classes: ``(N,)``: class to explain for each galaxy.

    Returns:
        ``(N, cells, cells)`` float32 on the CPU, not negative; None for a backbone without a feature map, such as a
        plain vision transformer.
    """
    model.eval()
    device = next(model.parameters()).device
    maps = []
    for batch, targets in zip(torch.split(pixels, _BATCH), torch.split(torch.from_numpy(classes), _BATCH), strict=True):
        with torch.no_grad():
            values = normalise(batch.to(device), model.spec.mean, model.spec.std)
            features: torch.Tensor = model.backbone.forward_features(values)  # type: ignore[operator]
        if features.dim() != 4:
            return None
        features.requires_grad_()
        with torch.enable_grad():
            logits: torch.Tensor = model.backbone.forward_head(features)  # type: ignore[operator]
            of_class = logits.gather(1, targets.to(device)[:, None]).sum()
            (gradient,) = torch.autograd.grad(of_class, features)
        channels_first = features.shape[1] == model.backbone.num_features
        space, channels = ((2, 3), 1) if channels_first else ((1, 2), 3)
        weights = gradient.mean(dim=space, keepdim=True)
        maps.append((weights * features.detach()).sum(dim=channels).relu().float().cpu())
    return torch.cat(maps) if maps else torch.zeros(0, 1, 1)
