"""What the network looked at: Grad-CAM maps, and the share of them that lies on the galaxy itself."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from captum.attr import LayerAttribution, LayerGradCam
from torch import nn

from galaxy_batch.model.network import MorphologyModel, normalise

__all__ = ["Attention", "attention_inside_light", "galaxy_light", "grad_cam", "watch_attention"]

Array = npt.NDArray[np.float64]

_BATCH = 32
_SIGMAS = 3.0  # a pixel of the galaxy stands out of the sky by so many deviations of the sky,
_FAINTEST = 0.1  # and by this share of the galaxy's own peak: JPEG cutouts have skies that are too clean
_SMOOTHING = 0.03  # side of the square that brightness is averaged over, as a share of the side of the cutout
_CENTRE = 0.1  # the galaxy's peak is sought this close to the centre, as a share of the side
_BORDER = 0.06  # width of the frame in which the sky is measured, as a share of the side


@dataclass(frozen=True)
class Attention:
    """What the network looked at in some galaxies of a set."""

    rows: npt.NDArray[np.int64]
    """``(n,)``: which galaxies of the set."""
    maps: torch.Tensor
    """``(n, h, w)`` float32, not negative: Grad-CAM of the predicted class, at the cutout's size."""
    light: torch.Tensor
    """``(n, h, w)`` bool: the pixels of the galaxy itself."""
    inside: Array
    """``(n,)``: share of the attention that falls on the galaxy's light; nan without a map or a galaxy."""
    area: Array
    """``(n,)``: share of the cutout's area that the galaxy covers: what evenly spread attention would give; nan
    where `inside` is."""
    cells: int
    """The map has so many cells a side before it is enlarged; 0 where the network has none."""


def watch_attention(
    model: MorphologyModel,
    pixels: torch.Tensor,
    predicted: npt.NDArray[np.int64],
    correct: npt.NDArray[np.bool_],
    limit: int = 400,
) -> Attention:
    """Look at the wrong predictions first, then at correct ones spread evenly over the set, `limit` in all.

    Args:
        model: any trained one; it is put in eval mode.
        pixels: ``(N, 3, h, w)`` uint8.
        predicted: ``(N,)``, the class whose attention is wanted.
        correct: ``(N,)``.
        limit: how many galaxies at most.
    """
    wrong, right = np.flatnonzero(~correct), np.flatnonzero(correct)
    wrong = _spread(wrong, limit)
    rows = np.sort(np.concatenate([wrong, _spread(right, limit - len(wrong))]))
    seen = pixels[torch.from_numpy(rows)]
    maps, cells = _maps(model, seen, predicted[rows])
    light = galaxy_light(seen)
    inside = _share(maps, light)
    area = np.where(np.isnan(inside), np.nan, light.double().mean(dim=(1, 2)).numpy())
    return Attention(rows, maps, light, inside, area, cells)


def grad_cam(model: MorphologyModel, pixels: torch.Tensor, classes: npt.NDArray[np.int64]) -> torch.Tensor:
    """Grad-CAM: where the last feature map speaks for a class (Selvaraju et al. 2017, ICCV).

    The map is that of the last stage before pooling, each channel weighted with its mean gradient, negative
    values cut off, enlarged to the cutout.

    Args:
        model: any timm backbone; it is put in eval mode.
        pixels: ``(N, 3, h, w)`` uint8.
        classes: ``(N,)``, the class to explain in each galaxy.

    Returns:
        ``(N, h, w)`` float32 on the CPU, not negative; all nan where the backbone has no feature map (a plain
        vision transformer, for one).
    """
    return _maps(model, pixels, classes)[0]


def attention_inside_light(maps: torch.Tensor, pixels: torch.Tensor) -> Array:
    """The share of the attention that falls on the galaxy's own light.

    Args:
        maps: ``(N, h, w)``, not negative.
        pixels: ``(N, 3, h, w)`` uint8, the galaxies.

    Returns:
        ``(N,)``: 1 when all of it does; nan where the map is empty, or no galaxy stands out at the centre.
    """
    return _share(maps, galaxy_light(pixels))


def galaxy_light(pixels: torch.Tensor) -> torch.Tensor:
    """The pixels that belong to the galaxy at the centre: ``(N, h, w)`` bool, all False where there is none.

    The brightness is the mean of the channels, averaged over a square of 3 % of the cutout's side. Level and noise of
    the sky are the median and 1.4826 times the median absolute deviation in a frame along the border. Pixels that
    exceed the sky by three deviations, and by a tenth of the galaxy's peak, and hang together with that peak, are the
    galaxy. What touches it, a neighbour or a star, counts too; a galaxy that fills the cutout has its outskirts taken
    for sky.
    """
    if not len(pixels):
        return torch.zeros((0, *pixels.shape[-2:]), dtype=torch.bool)
    return torch.cat([_central_object(batch.cpu()) for batch in torch.split(pixels, _BATCH)])


def _maps(model: MorphologyModel, pixels: torch.Tensor, classes: npt.NDArray[np.int64]) -> tuple[torch.Tensor, int]:
    model.eval()
    device = next(model.parameters()).device
    maps = torch.full((len(pixels), *pixels.shape[-2:]), torch.nan)
    cells = 0
    for rows in torch.split(torch.arange(len(pixels)), _BATCH):
        with torch.no_grad():
            values = normalise(pixels[rows].to(device), model.spec.mean, model.spec.std)
            features: torch.Tensor = model.backbone.forward_features(values)  # type: ignore[operator]
        if features.dim() != 4:
            return maps, 0
        head = _FromFeatures(model.backbone, channels_last=features.shape[1] != model.backbone.num_features)
        if head.channels_last:
            features = features.permute(0, 3, 1, 2)
        target = torch.from_numpy(classes)[rows].to(device)
        small = LayerGradCam(head, head.features).attribute(
            features.detach().requires_grad_(), target=target, relu_attributions=True
        )
        cells = small.shape[-1]
        maps[rows] = LayerAttribution.interpolate(small.detach(), pixels.shape[-2:], "bilinear")[:, 0].float().cpu()
    return maps, cells


class _FromFeatures(nn.Module):
    """The end of a backbone, from its last feature map on: gradients need go no further back."""

    def __init__(self, backbone: nn.Module, channels_last: bool) -> None:
        super().__init__()
        self.features = nn.Identity()
        self.backbone = backbone
        self.channels_last = channels_last

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        values = self.features(features)
        values = values.permute(0, 2, 3, 1) if self.channels_last else values
        logits: torch.Tensor = self.backbone.forward_head(values)  # type: ignore[operator]
        return logits


def _share(maps: torch.Tensor, light: torch.Tensor) -> Array:
    total, inside = maps.double().sum(dim=(1, 2)), (maps.double() * light).sum(dim=(1, 2))
    known = (total > 0) & light.any(dim=2).any(dim=1)
    share: Array = torch.where(known, inside / total, torch.nan).numpy()
    return share


def _central_object(pixels: torch.Tensor) -> torch.Tensor:
    """`galaxy_light` of one batch ``(n, 3, h, w)``."""
    size = min(pixels.shape[-2:])
    reach = max(1, round(_SMOOTHING * size / 2))
    padded = F.pad(pixels.float().mean(dim=1, keepdim=True), (reach,) * 4, mode="replicate")
    brightness = F.avg_pool2d(padded, 2 * reach + 1, stride=1)[:, 0]
    sky, noise = _sky(brightness, max(1, round(_BORDER * size)))
    near = _near_centre(brightness.shape[-2], brightness.shape[-1], max(1.0, _CENTRE * size))
    central = brightness.masked_fill(~near, -torch.inf)
    peak = central.amax(dim=(1, 2))
    threshold = sky + torch.maximum(_SIGMAS * noise, _FAINTEST * (peak - sky)).clamp_min(1.0)
    bright = brightness > threshold[:, None, None]
    grown = bright & (central == peak[:, None, None])
    for _ in range(bright[0].numel()):
        larger = (F.max_pool2d(grown[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0) & bright
        if bool((larger == grown).all()):
            break
        grown = larger
    return grown


def _sky(brightness: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Level and noise ``(n,)`` in the frame along the border."""
    frame = torch.ones(brightness.shape[-2:], dtype=torch.bool)
    frame[width:-width, width:-width] = False
    border = brightness[:, frame]
    level = border.median(dim=1).values
    return level, 1.4826 * (border - level[:, None]).abs().median(dim=1).values


def _near_centre(height: int, width: int, radius: float) -> torch.Tensor:
    y = torch.arange(height)[:, None] - (height - 1) / 2
    x = torch.arange(width)[None, :] - (width - 1) / 2
    return (x**2 + y**2) <= radius**2


def _spread(rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """At most `count` of the rows, evenly spaced."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, max(count, 0)).round().astype(np.int64)]
