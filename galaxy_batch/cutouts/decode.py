"""Decode cutouts to uint8 pixels, the same in training and inference."""

import io
import warnings

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

from galaxy_batch.config import RgbConfig
from galaxy_batch.cutouts.resize import Pixels
from galaxy_batch.rows import Status, UnusableCutout

__all__ = ["Pixels", "blank_fraction", "decode"]

_BLANK_SAMPLE = 96  # pixels per side; subsampled, because averaging would remove the sky noise
_JPEG = b"\xff\xd8\xff"
_SCAN = b"\xff\xda"  # the marker that starts a scan
_MAX_SCANS = 500  # a progressive JPEG has about ten; each scan passes over all pixels, so a million take hours
_FITS = (b"SIMPLE  =", b"\x1f\x8b", b"BZh", b"PK\x03\x04")  # FITS, gzip, bzip2, zip of three bands
_DEFAULT_RGB = RgbConfig()
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")  # Pillow's other decoders are never called


def decode(content: bytes, max_pixels: int, rgb: RgbConfig = _DEFAULT_RGB) -> Pixels:
    """Decode one encoded cutout to ``(3, height, width)`` uint8 pixels.

    Baseline and progressive JPEGs in YCbCr or grey are decoded by libjpeg-turbo, other images by Pillow, which gives
    the same pixels for a JPEG.

    Args:
        content: a JPEG, PNG, WebP, TIFF, GIF or BMP file, or FITS bands as in `decode_fits`.
        max_pixels: largest image; checked against the header before any pixel is decoded.
        rgb: how FITS bands are drawn; must be the same in training and inference.

    Raises:
        UnusableCutout: not an image, truncated, or too large.
    """
    if not content:
        raise UnusableCutout(Status.UNREADABLE, "empty file")
    try:
        if content.startswith(_JPEG):
            _check_scans(content)
            pixels = _decode_jpeg(content, max_pixels)
            if pixels is not None:
                return pixels.transpose(2, 0, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow and astropy warn about odd metadata; real faults raise
            if content.startswith(_FITS):
                return _decode_fits(content, max_pixels, rgb)
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                _check_size(image.width, image.height, max_pixels)
                return np.array(_rgb(image)).transpose(2, 0, 1)
    except UnidentifiedImageError:
        raise UnusableCutout(Status.UNREADABLE, f"not an image: begins with {content[:24]!r}") from None
    except Image.DecompressionBombError as error:
        size = str(error).partition(" exceeds")[0]  # Pillow's own limit is higher than max_pixels
        raise UnusableCutout(Status.TOO_LARGE, f"{size}, at most {max_pixels} are allowed") from None
    except UnusableCutout:
        raise
    except Exception as error:  # noqa: BLE001 - decoders may raise anything on hostile bytes; only this row fails
        raise UnusableCutout(Status.UNREADABLE, f"{type(error).__name__}: {error}") from None


def blank_fraction(pixels: Pixels) -> float:
    """Fraction of the pixels within one level of the median brightness, of one cutout ``(3, height, width)``.

    Sky noise keeps it low: the highest of 5,490 real cutouts (SDSS, DECaLS, KiDS, UKIDSS, Illustris) is 0.84. A
    constant frame has 1, a line of text on black at least 0.96.
    """
    step = max(1, min(pixels.shape[1:]) // _BLANK_SAMPLE)
    red, green, blue = pixels[:, ::step, ::step].astype(np.uint16)
    grey = (red + green + blue).ravel()  # 3 x brightness
    counts = np.bincount(grey, minlength=3 * 256 + 3)
    median = int(np.searchsorted(counts.cumsum(), (len(grey) + 1) // 2))
    return float(counts[max(0, median - 3) : median + 4].sum() / len(grey))


def _decode_jpeg(content: bytes, max_pixels: int) -> npt.NDArray[np.uint8] | None:
    """``(height, width, 3)``; None for JPEGs that only Pillow can decode or explain: CMYK, RGB, a broken header."""
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
    from galaxy_batch.cutouts.fits import decode_fits  # noqa: PLC0415 - importing astropy takes a second

    return decode_fits(content, max_pixels, rgb)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise UnusableCutout(Status.TOO_LARGE, f"{width} x {height} pixels, at most {max_pixels} are allowed")


def _check_scans(jpeg: bytes) -> None:
    scans = jpeg.count(_SCAN)  # these two bytes never occur in compressed pixels
    if scans > _MAX_SCANS:
        raise UnusableCutout(Status.UNREADABLE, f"a JPEG of {scans} scans, at most {_MAX_SCANS} are decoded")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        raise UnusableCutout(Status.UNREADABLE, f"pixels of mode {image.mode}: 8 bits per channel are needed")
    if image.mode == "RGB":
        image.load()
        return image
    return image.convert("RGB")
