"""FITS cutouts: three bands of calibrated pixels, drawn as a picture in the way of Lupton et al. (2004, PASP 116, 133).

Nothing that a file says is believed before it is checked: headers and what compressed files unpack to are limited,
sizes are compared with what is there, and pixels are looked at in place.
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
from astropy.io.fits import Header
from astropy.visualization import ManualInterval, make_lupton_rgb

from galaxy_batch.config import RgbConfig
from galaxy_batch.cutouts.bands import BANDS, unpack_bands
from galaxy_batch.rows import Status, UnusableCutout

__all__ = ["decode_fits"]

_GZIP, _BZIP2, _ZIP = b"\x1f\x8b", b"BZh", b"PK\x03\x04"
_BLOCK = 2880  # bytes; headers and data fill whole blocks (FITS Standard 4.0, section 3)
_END = b"END" + b" " * 77
_MAX_HEADER_BYTES = 2 << 20  # all headers of a file together: room for some 26,000 cards
_MAX_PIXEL_BYTES = 8
_MAX_PLANES = 16  # more is a spectrum
_UNPACKED_AT_ONCE = 1 << 20  # bytes
_DRAWN_AT_ONCE = 1 << 18  # pixels
_STORED = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}  # by BITPIX
_HUGE = 1e30  # no flux is; sums of smaller numbers do not overflow


@dataclass(frozen=True)
class _Plane:
    """One band: pixels as they are stored, and what makes them physical values."""

    stored: npt.NDArray[Any]
    """``(height, width)``, big-endian, a view of the file; the lowest row first."""
    scale: float
    zero: float
    blank: int | None
    """The integer that stands for no value."""

    def values(self, rows: slice) -> npt.NDArray[np.float64]:
        """Physical values of some rows; NaN where there is none."""
        stored = self.stored[rows]
        values = stored * np.float64(self.scale) + self.zero
        if self.blank is not None and stored.dtype.kind in "iu":
            values[stored == self.blank] = np.nan
        return values


def decode_fits(content: bytes, max_pixels: int, rgb: RgbConfig) -> npt.NDArray[np.uint8]:
    """Draw one FITS cutout as ``(3, height, width)`` uint8 pixels, the highest row of the FITS image on top.

    Args:
        content: one FITS file, gzip or bzip2 around it or not: a cube of three planes, or three images of one size,
            red, green, blue. Or `pack_bands` of three such files, of each of which the first image counts.
        max_pixels: of a band; the size in the header is checked against this before any pixel is touched.
        rgb: how bright, and in which colours.

    Raises:
        UnusableCutout: not three bands, not whole, without values, or too large.
    """
    if content.startswith(_ZIP):
        planes = [_first_plane(_unpacked(file, max_pixels), max_pixels) for file in unpack_bands(content)]
    else:
        planes = _chosen(_planes(_unpacked(content, len(BANDS) * max_pixels), max_pixels), rgb.planes)
    shapes = [plane.stored.shape for plane in planes]
    if len(set(shapes)) > 1:
        shown = ", ".join(f"{width} x {height}" for height, width in shapes)
        raise UnusableCutout(Status.UNREADABLE, f"bands of different sizes: {shown}")
    return _drawn(planes, rgb)


def _drawn(planes: list[_Plane], rgb: RgbConfig) -> npt.NDArray[np.uint8]:
    """The picture, drawn in strips: a frame of many pixels is never in memory as floats."""
    height, width = planes[0].stored.shape
    pixels = np.empty((len(planes), height, width), np.uint8)
    upright = pixels[:, ::-1]
    black = [ManualInterval(vmin=rgb.minimum)] * len(planes)
    missing = np.zeros(len(planes), np.int64)
    step = max(1, _DRAWN_AT_ONCE // width)
    with np.errstate(all="ignore"):
        for start in range(0, height, step):
            rows = slice(start, start + step)
            fluxes = np.stack([p.values(rows) * s for p, s in zip(planes, rgb.scale, strict=True)])
            empty = ~np.isfinite(fluxes)
            missing += empty.sum(axis=(1, 2))
            fluxes[empty] = 0  # the sky's level
            picture = make_lupton_rgb(*fluxes.clip(-_HUGE, _HUGE), interval=black, stretch=rgb.stretch, Q=rgb.q)
            upright[:, rows] = picture.transpose(2, 0, 1)
    for name, share in zip(BANDS, missing / (height * width), strict=True):
        if share >= 0.5:
            raise UnusableCutout(Status.UNREADABLE, f"{share:.0%} of the pixels of the {name} band have no value")
    return pixels


def _chosen(images: Iterator[list[_Plane]], wanted: tuple[int, ...]) -> list[_Plane]:
    """The three planes to draw: of the first image if that is a cube, else of all images."""
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
    if len(set(kinds)) > 1:  # an image with its mask and its variance is one band, not three
        raise UnusableCutout(Status.UNREADABLE, f"three images that are no bands: pixels of types {', '.join(kinds)}")
    return planes


def _first_plane(content: bytes | bytearray, max_pixels: int) -> _Plane:
    image = next(_planes(content, max_pixels), [])
    if len(image) != 1:
        raise UnusableCutout(Status.UNREADABLE, f"bands in the file of one band: {len(image)}")
    return image[0]


def _planes(content: bytes | bytearray, max_pixels: int) -> Iterator[list[_Plane]]:
    """The planes of each image of a file that has two axes or more, in the file's order."""
    for header, start in _headers(content):
        axes = _axes(header)
        if header.get("ZIMAGE"):
            kind = header.get("ZCMPTYPE")
            raise UnusableCutout(Status.UNREADABLE, f"a tile-compressed image ({kind}): unpack it first (funpack)")
        if header.get("XTENSION", "IMAGE").strip() != "IMAGE" or len(axes) < 2 or 0 in axes:
            continue
        width, height, *others = axes
        if width * height > max_pixels:
            reason = f"{width} x {height} pixels, at most {max_pixels} are allowed"
            raise UnusableCutout(Status.TOO_LARGE, reason)
        count, size = math.prod(others), _data_bytes(header)
        if count > _MAX_PLANES:
            raise UnusableCutout(Status.UNREADABLE, f"a cube of {count} planes; three are needed")
        if start + size > len(content):
            reason = f"truncated: {max(0, len(content) - start)} of {size} bytes of pixels"
            raise UnusableCutout(Status.UNREADABLE, reason)
        stored = np.frombuffer(content, _STORED[header["BITPIX"]], count * height * width, start)
        scale, zero, blank = float(header.get("BSCALE", 1)), float(header.get("BZERO", 0)), header.get("BLANK")
        yield [_Plane(plane, scale, zero, blank) for plane in stored.reshape(count, height, width)]


def _headers(content: bytes | bytearray) -> Iterator[tuple[Header, int]]:
    """Each header of a file, and where the data after it begin."""
    if not content.startswith(b"SIMPLE  ="):
        raise UnusableCutout(Status.UNREADABLE, f"not a FITS file: begins with {bytes(content[:24])!r}")
    start, left = 0, _MAX_HEADER_BYTES
    while start == 0 or content.startswith(b"XTENSION=", start):
        end = content.find(_END, start, start + left)
        while end > 0 and end % 80:  # the same letters within a card
            end = content.find(_END, end + 1, start + left)
        if end < 0:
            raise UnusableCutout(Status.UNREADABLE, "a header without an end, or a very long one")
        header = Header.fromstring(bytes(content[start : end + 80]))
        left -= end - start
        data = _next_block(end + 80)
        yield header, data
        start = _next_block(data + _data_bytes(header))


def _axes(header: Header) -> list[int]:
    axes = [header[f"NAXIS{number}"] for number in range(1, header["NAXIS"] + 1)]
    for number, length in enumerate(axes, 1):
        if type(length) is not int or length < 0:
            raise UnusableCutout(Status.UNREADABLE, f"NAXIS{number} = {length}")
    return axes


def _data_bytes(header: Header) -> int:
    """Size of the data that a header announces, in bytes (FITS Standard 4.0, equation 2)."""
    groups, extra, axes = header.get("GCOUNT", 1), header.get("PCOUNT", 0), _axes(header)
    if header["BITPIX"] not in _STORED or type(groups) is not int or type(extra) is not int or min(groups, extra) < 0:
        reason = f"BITPIX = {header['BITPIX']}, PCOUNT = {extra}, GCOUNT = {groups}"
        raise UnusableCutout(Status.UNREADABLE, reason)
    return int(abs(header["BITPIX"]) // 8 * groups * (extra + math.prod(axes))) if axes else 0


def _next_block(position: int) -> int:
    return -(-position // _BLOCK) * _BLOCK


def _unpacked(content: bytes, max_pixels: int) -> bytes | bytearray:
    """The file out of gzip or bzip2; not more of it than so many pixels, of the largest kind, and the headers take."""
    if content.startswith(_GZIP):
        packed: gzip.GzipFile | bz2.BZ2File = gzip.GzipFile(fileobj=io.BytesIO(content))
    elif content.startswith(_BZIP2):
        packed = bz2.BZ2File(io.BytesIO(content))
    else:
        return content
    limit = max_pixels * _MAX_PIXEL_BYTES + _MAX_HEADER_BYTES
    unpacked = bytearray()
    while piece := packed.read(_UNPACKED_AT_ONCE):
        unpacked += piece
        if len(unpacked) > limit:
            raise UnusableCutout(Status.TOO_LARGE, f"unpacks to more than {limit} bytes")
    return unpacked
