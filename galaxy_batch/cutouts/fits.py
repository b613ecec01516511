"""FITS cutouts: three bands of calibrated pixels to an RGB image, after Lupton et al. (2004, PASP 116, 133).

Files are untrusted: the sizes of headers and of unpacked files are limited, the size in a header is compared with the
bytes that are there, and pixels are read in place.
"""

import bz2
import gzip
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from astropy.io.fits import Header
from astropy.visualization import ManualInterval, make_lupton_rgb
from PIL import Image

from galaxy_batch.config import RgbConfig
from galaxy_batch.cutouts.bands import BANDS, unpack_bands
from galaxy_batch.cutouts.fits_scaling import FitsScaling
from galaxy_batch.fits_format import PIXEL_TYPES, whole_blocks
from galaxy_batch.rows import Status, UnusableCutout

__all__ = ["decode_fits"]

_GZIP, _BZIP2, _ZIP = b"\x1f\x8b", b"BZh", b"PK\x03\x04"
_END = b"END" + b" " * 77
_MAX_HEADER_BYTES = 2 << 20  # of all headers of a file: about 26,000 cards
_MAX_PIXEL_BYTES = 8
_MAX_PLANES = 16  # a cube with more is spectral data
_UNPACK_BYTES = 1 << 20  # at a time
_DRAW_PIXELS = 1 << 18  # at a time
_MAX_FLUX = 1e30  # above any flux; sums of smaller numbers do not overflow


@dataclass(frozen=True)
class _Plane:
    """One band: its stored pixels and how they are converted to physical values."""

    stored: npt.NDArray[Any]
    """``(height, width)``, big-endian, a view of the file, the bottom row first."""
    scaling: FitsScaling


def decode_fits(content: bytes, max_pixels: int, rgb: RgbConfig) -> npt.NDArray[np.uint8]:
    """Convert one FITS cutout to ``(3, height, width)`` uint8 pixels, the top row of the FITS image first.

    Args:
        content: a FITS file, plain or compressed by gzip or bzip2, with a cube of three planes, or three images of
            one size, in the order red, green, blue; or `pack_bands` of three files, whose first images are used.
        max_pixels: largest band; checked against the header before any pixel is read.
        rgb: scaling and stretch.

    Raises:
        UnusableCutout: not three bands, truncated, mostly missing values, or too large.
    """
    if content.startswith(_ZIP):
        planes = [_first_plane(_decompress(file, max_pixels), max_pixels) for file in unpack_bands(content)]
    else:
        planes = _select_planes(_planes(_decompress(content, len(BANDS) * max_pixels), max_pixels), rgb.planes)
    shapes = [plane.stored.shape for plane in planes]
    if len(set(shapes)) > 1:
        shown = ", ".join(f"{width} x {height}" for height, width in shapes)
        raise UnusableCutout(Status.UNREADABLE, f"bands of different sizes: {shown}")
    return _draw(planes, rgb)


def _draw(planes: list[_Plane], rgb: RgbConfig) -> npt.NDArray[np.uint8]:
    """The RGB image, drawn in strips of rows, so that a large frame is never in memory as floats."""
    height, width = planes[0].stored.shape
    pixels = np.empty((len(planes), height, width), np.uint8)
    upright = pixels[:, ::-1]
    black = [ManualInterval(vmin=rgb.minimum)] * len(planes)
    missing = np.zeros(len(planes), np.int64)
    step = max(1, _DRAW_PIXELS // width)
    with np.errstate(all="ignore"):
        for start in range(0, height, step):
            rows = slice(start, start + step)
            fluxes = np.stack([p.scaling.values(p.stored[rows]) * s for p, s in zip(planes, rgb.scale, strict=True)])
            empty = ~np.isfinite(fluxes)
            missing += empty.sum(axis=(1, 2))
            fluxes[empty] = 0  # the sky level
            picture = make_lupton_rgb(*fluxes.clip(-_MAX_FLUX, _MAX_FLUX), interval=black, stretch=rgb.stretch, Q=rgb.q)
            upright[:, rows] = picture.transpose(2, 0, 1)
    for name, share in zip(BANDS, missing / (height * width), strict=True):
        if share >= 0.5:
            raise UnusableCutout(Status.UNREADABLE, f"{share:.0%} of the pixels of the {name} band have no value")
    return pixels if rgb.jpeg_quality is None else _compressed(pixels, rgb.jpeg_quality)


def _compressed(pixels: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """The image after compression as JPEG, with colours at half the resolution, as Pillow does it."""
    sink = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(sink, "JPEG", quality=quality)
    decoded = simplejpeg.decode_jpeg(sink.getvalue(), "RGB", fastdct=False, fastupsample=False)
    return np.ascontiguousarray(decoded.transpose(2, 0, 1))


def _select_planes(images: Iterator[list[_Plane]], wanted: tuple[int, ...]) -> list[_Plane]:
    """The three planes to draw: those of the first image if it is a cube, else those of all images."""
    planes: list[_Plane] = []
    for image in images:
        planes += image
        if len(image) > 1:
            break
    if wanted and len(planes) > max(wanted):
        return [planes[number] for number in wanted]
    if wanted or len(planes) != len(BANDS):
        needed = f"rgb.planes asks for {', '.join(map(str, wanted))}" if wanted else "three are needed"
        raise UnusableCutout(Status.UNREADABLE, f"bands in this file: {len(planes)}; {needed}")
    kinds = [plane.stored.dtype.str for plane in planes]
    if len(set(kinds)) > 1:  # an image, its mask and its variance
        raise UnusableCutout(
            Status.UNREADABLE, f"three images that are not bands: their pixels are of types {', '.join(kinds)}"
        )
    return planes


def _first_plane(content: bytes | bytearray, max_pixels: int) -> _Plane:
    image = next(_planes(content, max_pixels), [])
    if len(image) != 1:
        raise UnusableCutout(Status.UNREADABLE, f"bands in a file of one band: {len(image)}")
    return image[0]


def _planes(content: bytes | bytearray, max_pixels: int) -> Iterator[list[_Plane]]:
    """The planes of each image with at least two axes, in the file's order."""
    for header, start in _headers(content):
        axes = _axes(header)
        if header.get("ZIMAGE"):
            kind = header.get("ZCMPTYPE")
            raise UnusableCutout(Status.UNREADABLE, f"a tile-compressed image ({kind}): decompress it with funpack")
        if header.get("XTENSION", "IMAGE").strip() != "IMAGE" or len(axes) < 2 or 0 in axes:
            continue
        width, height, *others = axes
        if width * height > max_pixels:
            reason = f"{width} x {height} pixels, at most {max_pixels} are allowed"
            raise UnusableCutout(Status.TOO_LARGE, reason)
        count, size = math.prod(others), _data_bytes(header)
        if count > _MAX_PLANES:
            raise UnusableCutout(Status.UNREADABLE, f"a cube of {count} planes: three are needed")
        if start + size > len(content):
            reason = f"truncated: {max(0, len(content) - start)} of {size} bytes of pixels"
            raise UnusableCutout(Status.UNREADABLE, reason)
        stored = np.frombuffer(content, PIXEL_TYPES[header["BITPIX"]], count * height * width, start)
        scaling = FitsScaling.of(header)
        yield [_Plane(plane, scaling) for plane in stored.reshape(count, height, width)]


def _headers(content: bytes | bytearray) -> Iterator[tuple[Header, int]]:
    """Each header of a file, and the offset of its data in bytes."""
    if not content.startswith(b"SIMPLE  ="):
        raise UnusableCutout(Status.UNREADABLE, f"not a FITS file: begins with {bytes(content[:24])!r}")
    start, left = 0, _MAX_HEADER_BYTES
    while start == 0 or content.startswith(b"XTENSION=", start):
        end = content.find(_END, start, start + left)
        while end > 0 and end % 80:  # "END" inside a card
            end = content.find(_END, end + 1, start + left)
        if end < 0:
            raise UnusableCutout(Status.UNREADABLE, "a header without an END card, or a very long one")
        header = Header.fromstring(bytes(content[start : end + 80]))
        left -= end - start
        data = whole_blocks(end + 80)
        yield header, data
        start = data + whole_blocks(_data_bytes(header))


def _axes(header: Header) -> list[int]:
    axes = [header[f"NAXIS{number}"] for number in range(1, header["NAXIS"] + 1)]
    for number, length in enumerate(axes, 1):
        if type(length) is not int or length < 0:
            raise UnusableCutout(Status.UNREADABLE, f"NAXIS{number} = {length}")
    return axes


def _data_bytes(header: Header) -> int:
    """Size of the data after a header, in bytes (FITS Standard 4.0, equation 2)."""
    groups, extra, axes = header.get("GCOUNT", 1), header.get("PCOUNT", 0), _axes(header)
    if (
        header["BITPIX"] not in PIXEL_TYPES
        or type(groups) is not int
        or type(extra) is not int
        or min(groups, extra) < 0
    ):
        reason = f"BITPIX = {header['BITPIX']}, PCOUNT = {extra}, GCOUNT = {groups}"
        raise UnusableCutout(Status.UNREADABLE, reason)
    return int(abs(header["BITPIX"]) // 8 * groups * (extra + math.prod(axes))) if axes else 0


def _decompress(content: bytes, max_pixels: int) -> bytes | bytearray:
    """The decompressed file, limited to the size of `max_pixels` 8-byte pixels and the headers."""
    if content.startswith(_GZIP):
        compressed: gzip.GzipFile | bz2.BZ2File = gzip.GzipFile(fileobj=io.BytesIO(content))
    elif content.startswith(_BZIP2):
        compressed = bz2.BZ2File(io.BytesIO(content))
    else:
        return content
    limit = max_pixels * _MAX_PIXEL_BYTES + _MAX_HEADER_BYTES
    decompressed = bytearray()
    while piece := compressed.read(_UNPACK_BYTES):
        decompressed += piece
        if len(decompressed) > limit:
            raise UnusableCutout(Status.TOO_LARGE, f"decompresses to more than {limit} bytes")
    return decompressed
