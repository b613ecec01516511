"""Pictures of pages as JPEG: cutouts, and Grad-CAM maps over them."""

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import simplejpeg
from matplotlib import colormaps

from galaxy_batch.cutouts.resize import Pixels
from galaxy_batch.report.page import Picture, Tile

__all__ = ["cutout_picture", "cutout_tile", "grad_cam_picture"]

_QUALITY = 88
_OUTLINE = (64, 224, 208)  # turquoise: neither galaxies nor the colour map have it


def cutout_picture(pixels: Pixels, alt: str) -> Picture:
    """A cutout ``(3, h, w)`` uint8."""
    return _picture(pixels.transpose(1, 2, 0), alt)


def cutout_tile(pixels: Pixels, caption: tuple[str, ...], object_id: str) -> Tile:
    """A tile of one cutout ``(3, h, w)`` uint8, with lines of text below it."""
    return Tile((cutout_picture(pixels, f"Cutout of {object_id}: {', '.join(caption)}"),), caption, object_id)


def grad_cam_picture(
    pixels: Pixels, grad_cam: npt.NDArray[np.floating], alt: str, mask: npt.NDArray[np.bool_] | None = None
) -> Picture:
    """A Grad-CAM map over its cutout.

    Args:
        pixels: ``(3, h, w)`` uint8; shown in grey.
        grad_cam: ``(h, w)``, not negative; bright and opaque where it is large.
        alt: alternative text.
        mask: ``(h, w)``: pixels of the galaxy, outlined.
    """
    values = np.nan_to_num(grad_cam)
    strength = values / max(float(values.max()), 1e-12)
    grey = np.repeat(pixels.mean(axis=0)[..., None], 3, axis=2)
    colours = 255 * colormaps["inferno"](0.25 + 0.75 * strength)[..., :3]
    opacity = 0.65 * strength[..., None]
    image = ((1 - opacity) * grey + opacity * colours).round().astype(np.uint8)
    if mask is not None and not mask.all():
        image[mask & ~scipy.ndimage.binary_erosion(mask, border_value=1)] = _OUTLINE
    return _picture(image, alt)


def _picture(image: npt.NDArray[np.uint8], alt: str) -> Picture:
    """An image ``(h, w, 3)``."""
    content: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(image), _QUALITY, "RGB", colorsubsampling="444")
    return Picture(content, alt)
