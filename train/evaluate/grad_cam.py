"""Grad-CAM maps of test galaxies, and the share of each map that lies on the galaxy."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import torch
import torch.nn.functional as F

from galaxy_batch.model.grad_cam import grad_cam
from galaxy_batch.model.network import MorphologyModel
from galaxy_batch.runtime.progress import with_progress

__all__ = ["GradCamSample", "galaxy_mask", "sample_grad_cam", "share_on_mask"]

Array = npt.NDArray[np.float64]

_BATCH = 32
_SKY_SIGMAS = 3.0  # detection threshold above the sky, in standard deviations of the sky
_PEAK_SHARE = 0.1  # and at least this share of the galaxy's peak: JPEG compression removes most of the sky noise
_SMOOTHING = 0.03  # side of the smoothing box, as a share of the side of the cutout
_CENTRE = 0.1  # largest distance of the galaxy's peak from the centre, as a share of the side
_BORDER = 0.06  # width of the frame in which the sky is measured, as a share of the side


@dataclass(frozen=True)
class GradCamSample:
    """Grad-CAM maps of some galaxies of a set."""

    rows: npt.NDArray[np.int64]
    """``(n,)``: row numbers in the set."""
    maps: torch.Tensor
    """``(n, h, w)`` float32, not negative: Grad-CAM of the predicted class, at the size of the cutout."""
    masks: torch.Tensor
    """``(n, h, w)`` bool: pixels of the galaxy, from `galaxy_mask`."""
    inside: Array
    """``(n,)``: share of the map inside the mask; nan without a map or a mask."""
    area: Array
    """``(n,)``: share of the cutout inside the mask, which is the `inside` of a uniform map; nan where `inside` is."""
    cells: int
    """Side of the feature map in cells; 0 for a network without one."""


def sample_grad_cam(
    model: MorphologyModel,
    pixels: torch.Tensor,
    predicted: npt.NDArray[np.int64],
    correct: npt.NDArray[np.bool_],
    limit: int = 400,
) -> GradCamSample:
    """Compute maps for at most `limit` galaxies: wrong predictions first, then correct ones, evenly spaced.

    Args:
        model: trained; set to eval mode.
        pixels: ``(N, 3, h, w)`` uint8.
        predicted: ``(N,)``: class to explain.
        correct: ``(N,)``: whether the prediction is correct.
        limit: largest number of maps.
    """
    wrong = _evenly_spaced(np.flatnonzero(~correct), limit)
    rows = np.sort(np.concatenate([wrong, _evenly_spaced(np.flatnonzero(correct), limit - len(wrong))]))
    chosen = pixels[torch.from_numpy(rows)]
    small = _maps(model, chosen, predicted[rows])
    if small is None:
        maps, cells = torch.full((len(rows), *pixels.shape[-2:]), torch.nan), 0
    else:
        maps, cells = F.interpolate(small[:, None], pixels.shape[-2:], mode="bilinear")[:, 0], small.shape[-1]
    masks = galaxy_mask(chosen)
    inside = share_on_mask(maps, masks)
    area = np.where(np.isnan(inside), np.nan, masks.double().mean(dim=(1, 2)).numpy())
    return GradCamSample(rows, maps, masks, inside, area, cells)


def _maps(model: MorphologyModel, pixels: torch.Tensor, classes: npt.NDArray[np.int64]) -> torch.Tensor | None:
    """`grad_cam`, batch by batch, with progress."""
    batches = with_progress(torch.split(pixels, _BATCH), "Grad-CAM", len(pixels))
    labels = np.split(classes, range(_BATCH, len(classes), _BATCH))
    maps = [grad_cam(model, batch, of_batch) for batch, of_batch in zip(batches, labels, strict=True)]
    known = [of_batch for of_batch in maps if of_batch is not None]
    return torch.cat(known) if len(known) == len(maps) else None


def share_on_mask(maps: torch.Tensor, masks: torch.Tensor) -> Array:
    """Share ``(N,)`` of each map ``(N, h, w)`` inside its mask ``(N, h, w)``; nan for an empty map or mask."""
    total, inside = maps.double().sum(dim=(1, 2)), (maps.double() * masks).sum(dim=(1, 2))
    known = (total > 0) & masks.any(dim=2).any(dim=1)
    share: Array = torch.where(known, inside / total, torch.nan).numpy()
    return share


def galaxy_mask(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels of the central galaxy, ``(N, h, w)`` bool, for cutouts ``(N, 3, h, w)`` uint8; all False without one.

    The mask is the connected region around the central peak in which the box-smoothed mean of the channels exceeds the
    sky by three standard deviations and by a tenth of the peak. Sky level and noise are the median and 1.4826 times the
    median absolute deviation in a frame along the border. Limits: a neighbour or star that touches the galaxy is
    included, and the outskirts of a galaxy that fills the cutout count as sky.
    """
    if not len(pixels):
        return torch.zeros((0, *pixels.shape[-2:]), dtype=torch.bool)
    return torch.cat([_central_object(batch.cpu()) for batch in torch.split(pixels, _BATCH)])


def _central_object(pixels: torch.Tensor) -> torch.Tensor:
    """`galaxy_mask` of one batch ``(n, 3, h, w)``."""
    size = min(pixels.shape[-2:])
    radius = max(1, round(_SMOOTHING * size / 2))
    padded = F.pad(pixels.float().mean(dim=1, keepdim=True), (radius,) * 4, mode="replicate")
    brightness = F.avg_pool2d(padded, 2 * radius + 1, stride=1)[:, 0]
    sky, noise = _sky(brightness, max(1, round(_BORDER * size)))
    near_centre = _disc(brightness.shape[-2], brightness.shape[-1], max(1.0, _CENTRE * size))
    central = brightness.masked_fill(~near_centre, -torch.inf)
    peak = central.amax(dim=(1, 2))
    threshold = sky + torch.maximum(_SKY_SIGMAS * noise, _PEAK_SHARE * (peak - sky)).clamp_min(1.0)
    bright = (brightness > threshold[:, None, None]).numpy()
    at_peak = (central == peak[:, None, None]).numpy()
    masks = []
    for image, peaks in zip(bright, at_peak, strict=True):
        regions, _ = scipy.ndimage.label(image, np.ones((3, 3)))
        masks.append(np.isin(regions, regions[peaks & image]))
    return torch.from_numpy(np.stack(masks))


def _sky(brightness: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Level and noise ``(n,)`` in the frame along the border."""
    frame = torch.ones(brightness.shape[-2:], dtype=torch.bool)
    frame[width:-width, width:-width] = False
    border = brightness[:, frame]
    level = border.median(dim=1).values
    return level, 1.4826 * (border - level[:, None]).abs().median(dim=1).values


def _disc(height: int, width: int, radius: float) -> torch.Tensor:
    """``(height, width)`` bool: pixels within `radius` of the centre."""
    y = torch.arange(height)[:, None] - (height - 1) / 2
    x = torch.arange(width)[None, :] - (width - 1) / 2
    return (x**2 + y**2) <= radius**2


def _evenly_spaced(rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """At most `count` of the rows, evenly spaced."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, max(count, 0)).round().astype(np.int64)]
