"""Cutouts and Grad-CAM overlays as tiles of a contact sheet."""

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import simplejpeg
import torch
from matplotlib import colormaps

from galaxy_batch.report.page import Tile

__all__ = ["cutout_tile", "grad_cam_tile"]

_QUALITY = 90
_OUTLINE = (64, 224, 208)  # turquoise: neither galaxies nor the colour map have it


def cutout_tile(pixels: torch.Tensor, caption: tuple[str, ...]) -> Tile:
    """A cutout ``(3, h, w)`` uint8 with lines of text below it."""
    return _tile(pixels.permute(1, 2, 0).numpy(), "cutout", caption)


def grad_cam_tile(pixels: torch.Tensor, grad_cam: torch.Tensor, mask: torch.Tensor, caption: tuple[str, ...]) -> Tile:
    """A Grad-CAM map over its cutout.

    Args:
        pixels: ``(3, h, w)`` uint8; shown in grey.
        grad_cam: ``(h, w)``, not negative; bright and opaque where it is large.
        mask: ``(h, w)`` bool: pixels of the galaxy, outlined.
        caption: lines of text.
    """
    values = np.nan_to_num(grad_cam.numpy())
    strength = values / max(float(values.max()), 1e-12)
    grey = np.repeat(pixels.float().mean(dim=0).numpy()[..., None], 3, axis=2)
    colours = 255 * colormaps["inferno"](0.25 + 0.75 * strength)[..., :3]
    opacity = 0.65 * strength[..., None]
    image = ((1 - opacity) * grey + opacity * colours).round().astype(np.uint8)
    inside = mask.numpy()
    if not inside.all():
        image[inside & ~scipy.ndimage.binary_erosion(inside, border_value=1)] = _OUTLINE
    return _tile(image, "Grad-CAM", caption)


def _tile(image: npt.NDArray[np.uint8], alt: str, caption: tuple[str, ...]) -> Tile:
    """A tile of an image ``(h, w, 3)``."""
    picture: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(image), _QUALITY, "RGB", colorsubsampling="444")
    return Tile(picture, f"{alt}: {', '.join(caption)}" if caption else alt, caption)
