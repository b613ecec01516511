"""Pixels: encoded cutouts to uint8 tensors of the network's size, the same way in training and in inference."""

import io
import warnings

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError

from galaxy_batch.config import RgbConfig
from galaxy_batch.rows import Status, UnusableCutout

__all__ = ["Pixels", "blank_fraction", "decode", "resize"]

Pixels = torch.Tensor
"""uint8 of shape ``(3, height, width)``, red, green, blue; or ``(N, 3, height, width)``."""

_BLANK_SAMPLE = 96  # pixels per side that are enough for a share; not averaged, which would hide the sky's noise
_JPEG = b"\xff\xd8\xff"
_SCAN = b"\xff\xda"
_MOST_SCANS = 500  # each goes over all the pixels; a progressive JPEG has ten, and one with a million takes hours
_FITS = (b"SIMPLE  =", b"\x1f\x8b", b"BZh", b"PK\x03\x04")  # itself, gzip, bzip2, the zip of three bands
_DEFAULT_RGB = RgbConfig()
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")  # what a survey may send; Pillow's other decoders stay shut


def decode(content: bytes, max_pixels: int, rgb: RgbConfig = _DEFAULT_RGB) -> Pixels:
    """Decode one encoded cutout to ``(3, height, width)`` uint8 pixels.

    Plain JPEGs, which is what surveys send, go straight to libjpeg-turbo; everything else goes through Pillow, which
    gives the same pixels for a JPEG.

    Args:
        content: a whole JPEG, PNG, WebP, TIFF, GIF or BMP file; or FITS bands as `decode_fits` takes them.
        max_pixels: the size in the header is checked against this before any pixel is decoded.
        rgb: how FITS bands are drawn; training and inference must say the same.

    Raises:
        UnusableCutout: not an image, not a whole one, or too large.
    """
    if not content:
        raise UnusableCutout(Status.UNREADABLE, "empty file")
    try:
        if content.startswith(_JPEG):
            _check_scans(content)
            pixels = _decode_jpeg(content, max_pixels)
            if pixels is not None:
                return torch.from_numpy(pixels).permute(2, 0, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow and astropy warn about odd metadata; what matters raises
            if content.startswith(_FITS):
                return torch.from_numpy(_decode_fits(content, max_pixels, rgb))
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                _check_size(image.width, image.height, max_pixels)
                return torch.from_numpy(np.array(_rgb(image))).permute(2, 0, 1)
    except UnidentifiedImageError:
        raise UnusableCutout(Status.UNREADABLE, f"not an image: begins with {content[:24]!r}") from None
    except Image.DecompressionBombError as error:
        size = str(error).partition(" exceeds")[0]  # Pillow's own limit, which is above ours
        raise UnusableCutout(Status.TOO_LARGE, f"{size}, at most {max_pixels} are allowed") from None
    except UnusableCutout:
        raise
    except Exception as error:  # noqa: BLE001 - a decoder fed with hostile bytes may raise anything: it is this row's fault alone
        raise UnusableCutout(Status.UNREADABLE, f"{type(error).__name__}: {error}") from None


def resize(pixels: Pixels, size_px: int | None, crop_fraction: float) -> Pixels:
    """Cut out the central square and scale it to ``(…, 3, size_px, size_px)``, uint8, antialiased bilinear.

    Args:
        pixels: ``(3, height, width)`` or ``(N, 3, height, width)``, uint8, on any device.
        size_px: the side that the model wants; None leaves the square as it is.
        crop_fraction: share of the shorter side that is kept, around the centre; 1 keeps all of it.
    """
    batch = pixels if pixels.dim() == 4 else pixels.unsqueeze(0)
    height, width = batch.shape[-2:]
    side = max(1, round(crop_fraction * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    batch = batch[..., top : top + side, left : left + side]
    if size_px is not None and side != size_px:
        batch = _scale(batch.contiguous(memory_format=torch.channels_last), size_px)
    return batch if pixels.dim() == 4 else batch[0]


def blank_fraction(pixels: Pixels) -> float:
    """Share of the pixels within one level of the median brightness, of one cutout ``(3, height, width)`` as stored.

    Sky noise keeps it low: of 5,490 real cutouts (SDSS, DECaLS, KiDS, UKIDSS, Illustris) the highest has 0.84. A
    constant frame has 1, and a line of text on black at least 0.96.
    """
    step = max(1, min(pixels.shape[1:]) // _BLANK_SAMPLE)
    red, green, blue = pixels.numpy()[:, ::step, ::step].astype(np.uint16)
    grey = (red + green + blue).ravel()  # three times the brightness
    counts = np.bincount(grey, minlength=3 * 256 + 3)
    median = int(np.searchsorted(counts.cumsum(), (len(grey) + 1) // 2))
    return float(counts[max(0, median - 3) : median + 4].sum() / len(grey))


def _scale(batch: Pixels, size_px: int) -> Pixels:
    """uint8 stays uint8 on a CPU, which has vector code for it; elsewhere the same filter in float, rounded."""
    if batch.device.type == "cpu":
        return F.interpolate(batch, (size_px, size_px), mode="bilinear", antialias=True, align_corners=False)
    scaled = F.interpolate(batch.float(), (size_px, size_px), mode="bilinear", antialias=True, align_corners=False)
    return scaled.round_().clamp_(0, 255).to(torch.uint8)


def _decode_jpeg(content: bytes, max_pixels: int) -> npt.NDArray[np.uint8] | None:
    """``(height, width, 3)``; None for what Pillow knows better: CMYK, RGB, half a header."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    if colours not in ("YCbCr", "Gray"):
        return None
    _check_size(width, height, max_pixels)
    pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(content, "RGB", fastdct=False, fastupsample=False)
    return pixels


def _decode_fits(content: bytes, max_pixels: int, rgb: RgbConfig) -> npt.NDArray[np.uint8]:
    from galaxy_batch.cutouts.fits import decode_fits  # noqa: PLC0415 - imports astropy: a second that JPEGs do not need

    return decode_fits(content, max_pixels, rgb)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise UnusableCutout(Status.TOO_LARGE, f"{width} x {height} pixels, at most {max_pixels} are allowed")


def _check_scans(jpeg: bytes) -> None:
    scans = jpeg.count(_SCAN)  # compressed pixels never hold these two bytes
    if scans > _MOST_SCANS:
        raise UnusableCutout(Status.UNREADABLE, f"a JPEG of {scans} scans, at most {_MOST_SCANS} are decoded")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        raise UnusableCutout(Status.UNREADABLE, f"pixels of mode {image.mode}: 8 bits per channel are needed")
    if image.mode == "RGB":
        image.load()
        return image
    return image.convert("RGB")
