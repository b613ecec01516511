"""One band of one tile: a FITS image with a WCS, of which only the parts that are needed are read.

A plain file is read by rows, and one that is compressed in pieces (`.fits.fz`; FITS Standard 4.0, section 10) by its
pieces, both through ranged requests. A file that is compressed as a whole (`.bz2`, `.gz`) is decompressed in memory, up
to a limit, and nothing is written to disk. Files are untrusted: what a header announces is checked before it is read.
"""

import bz2
import contextlib
import gzip
import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.wcs import WCS

from galaxy_batch.cutouts.fits_scaling import FitsScaling
from galaxy_batch.errors import InputError
from galaxy_batch.fits_format import PIXEL_TYPES
from galaxy_batch.rows import Status, UnusableCutout
from galaxy_batch.storage.files import NotAFileError, RangedFile

__all__ = ["TileHeader", "TileImage", "open_tile", "read_header"]

_GZIP, _BZIP2 = b"\x1f\x8b", b"BZh"
_UNPACK_BYTES = 1 << 20  # at a time
_MAX_HEADER_BYTES = 16 << 20  # decompressed, of a file of which only the header is read
_MAX_IMAGES = 64  # headers of one file that are read in search of its image
_PIXEL_BYTES = 4  # of the pixels that `read` returns
_BUFFERS: list[bytearray] = []
"""Memory for rows that are held, from tiles that are closed: new memory costs as much time as reading a local file."""
_KEPT_BUFFERS = 6  # the bands of two tiles


@dataclass(frozen=True)
class TileHeader:
    """What the header of a tile says."""

    shape: tuple[int, int]
    """Height and width, in pixels."""
    wcs: WCS
    """Celestial."""
    pixel_scale_arcsec: float
    """Side of a pixel; of pixels that are not square, the square root of their area."""
    header: fits.Header
    """Of the image; of a compressed one as before its compression."""


class TileImage:
    """One band of one tile, open for reading."""

    def __init__(self, hdu: Any, header: TileHeader, source: "RangedFile | _DecompressedFile") -> None:
        self.header = header.header
        self.shape, self.wcs, self.pixel_scale_arcsec = header.shape, header.wcs, header.pixel_scale_arcsec
        self._hdu, self._source, self._leading = hdu, source, (0,) * (len(hdu.shape) - 2)
        self.in_pieces = isinstance(hdu, fits.CompImageHDU)
        """Whether the image is compressed in pieces; one that is read whole needs one request."""
        block = hdu.tile_shape if self.in_pieces else self.shape[1:]
        self.block_shape = (int((1, *block)[-2]), int(block[-1]))
        """Height and width of the smallest part that is read: a row, or a piece of a compressed image."""
        self._dtype = np.dtype(PIXEL_TYPES[header.header["BITPIX"]])
        self._row_bytes = self.shape[1] * self._dtype.itemsize
        scaling = FitsScaling() if self.in_pieces else FitsScaling.of(header.header)
        self._scaling = None if scaling == FitsScaling() else scaling
        self._first_row, self._rows = 0, np.empty((0, self.shape[1]), np.float32)
        self._buffer = bytearray()

    def close(self) -> None:
        """Forget what is held; views of it are no longer valid."""
        if self._buffer:
            _BUFFERS.append(self._buffer)
        self._first_row, self._rows, self._buffer = 0, np.empty((0, self.shape[1]), np.float32), bytearray()

    def hold(self, y0: int, y1: int) -> None:
        """Read these rows and keep them, as stored, instead of those kept before; `read` then takes from them.

        Raises:
            UnusableCutout: as `read`.
        """
        if not self._first_row <= y0 <= y1 <= self._first_row + len(self._rows):
            self.close()
            if not self.in_pieces:
                self._buffer = _take_buffer((y1 - y0) * self._row_bytes)
            self._rows = self._stored(y0, y1, 0, self.shape[1], self._buffer)
            self._first_row = y0

    def read(self, y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[np.float32]:
        """Physical values ``(y1 - y0, x1 - x0)``: BSCALE and BZERO are applied, missing values are nan.

        Args:
            y0: first row; rows and columns count from 0, as in numpy.
            y1: row after the last.
            x0: first column.
            x1: column after the last.

        Raises:
            UnusableCutout: the file is truncated or damaged, or the store fails.
        """
        return self.view(y0, y1, x0, x1).astype(np.float32)

    def view(self, y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[Any]:
        """As `read`, of any type of floats and any byte order, and perhaps a view of what is held: do not change it."""
        top = y0 - self._first_row
        if top >= 0 and y1 - self._first_row <= len(self._rows):
            stored = self._rows[top : y1 - self._first_row, x0:x1]
        else:
            stored = self._stored(y0, y1, x0, x1)
        return stored if self._scaling is None else self._scaling.values(stored)

    def _stored(self, y0: int, y1: int, x0: int, x1: int, buffer: bytearray | None = None) -> npt.NDArray[Any]:
        if y0 >= y1 or x0 >= x1:
            return np.empty((max(0, y1 - y0), max(0, x1 - x0)), np.float32)
        with _as_status(self._source):
            if self.in_pieces:
                section: npt.NDArray[Any] = self._hdu.section[self._leading + np.s_[y0:y1, x0:x1]]
                return section
            size, width = (y1 - y0) * self._row_bytes, self.shape[1]
            content = memoryview(buffer or bytearray(size))[:size]
            self._source.seek(self._hdu.fileinfo()["datLoc"] + y0 * self._row_bytes)
            if self._source.readinto(content) < size:
                raise EOFError("the file ends before its pixels")
            return np.frombuffer(content, self._dtype).reshape(-1, width)[:, x0:x1]


def _take_buffer(size: int) -> bytearray:
    """Memory of at least this size, from a tile that is closed where there is one."""
    del _BUFFERS[:-_KEPT_BUFFERS]
    try:
        buffer = _BUFFERS.pop()
    except IndexError:  # none, or another thread has taken it
        return bytearray(size)
    return buffer if size <= len(buffer) <= 2 * size else bytearray(size)


@contextlib.contextmanager
def open_tile(uri: str, max_bytes: int) -> Iterator[TileImage]:
    """Open one band of one tile: the first image of the file with two axes.

    Args:
        uri: of a FITS file, plain, with compressed images (`.fits.fz`), or compressed by gzip or bzip2.
        max_bytes: largest decompressed size of a file that is compressed as a whole; of another, of its smallest part.

    Raises:
        UnusableCutout: with status `missing`, `unreachable`, `refused`, `unreadable` (truncated, no image, no WCS) or
            `too_large`.
    """
    with _open_image(uri, max_bytes) as (hdu, header, source):
        tile = TileImage(hdu, header, source)
        whole = isinstance(source, _DecompressedFile)
        height, width = tile.shape if whole else tile.block_shape
        if height * width * _PIXEL_BYTES > max_bytes:
            what = "the image" if whole else "its smallest part"
            raise UnusableCutout(Status.TOO_LARGE, f"{what} has {width} x {height} pixels, more than {max_bytes} bytes")
        if tile.in_pieces and hdu.fileinfo()["datSpan"] > max_bytes:  # all of it may be read at once
            reason = f"the compressed image has {hdu.fileinfo()['datSpan']} bytes, more than {max_bytes}"
            raise UnusableCutout(Status.TOO_LARGE, reason)
        with contextlib.closing(tile):
            yield tile


def read_header(uri: str) -> TileHeader:
    """Read the header of the image that `open_tile` opens, with one or two ranged requests.

    Raises:
        UnusableCutout: as `open_tile`.
    """
    with _open_image(uri, _MAX_HEADER_BYTES) as (_, header, _):
        return header


@contextlib.contextmanager
def _open_image(uri: str, max_bytes: int) -> Iterator[tuple[Any, TileHeader, Any]]:
    try:
        file = RangedFile(uri)
    except InputError as error:
        raise UnusableCutout(Status.UNREACHABLE, error.remedy) from None
    with _as_status(file):
        magic = file.read(len(_BZIP2))
        file.seek(0)
    source = _DecompressedFile(file, max_bytes) if magic.startswith((_GZIP, _BZIP2)) else file
    with contextlib.ExitStack() as stack:
        with _as_status(source):
            hdus = stack.enter_context(fits.open(source, memmap=False, lazy_load_hdus=True))
            hdu = _find_image(hdus)
            header = _described(hdu, hdus)
        yield hdu, header, source


def _find_image(hdus: fits.HDUList) -> Any:
    """The first image with two axes; further axes must have length 1."""
    for number in range(_MAX_IMAGES):
        try:
            hdu = hdus[number]
        except IndexError:
            break
        shape = hdu.shape if hdu.is_image else ()
        if len(shape) >= 2 and 0 not in shape and all(length == 1 for length in shape[:-2]):
            return hdu
    raise UnusableCutout(Status.UNREADABLE, "no image with two axes in this file")


def _described(hdu: Any, hdus: fits.HDUList) -> TileHeader:
    height, width = hdu.shape[-2:]
    try:
        wcs = WCS(hdu.header, hdus, naxis=2)
        if not wcs.has_celestial:
            raise UnusableCutout(Status.UNREADABLE, "the header has no WCS with celestial coordinates")
        scale_arcsec = abs(float(np.linalg.det(wcs.pixel_scale_matrix))) ** 0.5 * 3600
    except (ValueError, KeyError, MemoryError) as error:  # of wcslib: MemoryError is its class for some bad headers
        raise UnusableCutout(Status.UNREADABLE, f"the WCS in the header is not valid: {_first_line(error)}") from None
    if not scale_arcsec > 0 or not np.isfinite(scale_arcsec):
        raise UnusableCutout(Status.UNREADABLE, "the WCS in the header is not valid: pixels without an area")
    return TileHeader((height, width), wcs, scale_arcsec, hdu.header)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextlib.contextmanager
def _as_status(source: Any) -> Iterator[None]:
    """Turn what goes wrong with a file into its status."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of astropy, about deprecated and odd cards
            yield
    except UnusableCutout:
        raise
    except Exception as error:  # noqa: BLE001 - astropy and the drivers have no common class
        raise _status(source.error or error, of_store=source.error is not None) from None


def _status(error: Exception, of_store: bool) -> UnusableCutout:
    if isinstance(error, _TooLargeError):
        return UnusableCutout(Status.TOO_LARGE, str(error))
    if isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError)):
        return UnusableCutout(Status.MISSING, "no such file")
    if isinstance(error, NotAFileError):
        return UnusableCutout(Status.REFUSED, "not a file but a device, a pipe or a socket")
    if of_store and isinstance(error, InputError):
        return UnusableCutout(Status.UNREACHABLE, error.remedy)
    if of_store:
        return UnusableCutout(Status.UNREACHABLE, type(error).__name__)  # the message may hold a signed URL
    return UnusableCutout(Status.UNREADABLE, f"truncated or damaged: {_first_line(error)}")


class _TooLargeError(Exception):
    """A file that decompresses to more than is allowed."""


class _DecompressedFile(io.RawIOBase):
    """A file that is compressed by gzip or bzip2, decompressed in memory as far as it is read."""

    def __init__(self, file: RangedFile, max_bytes: int) -> None:
        super().__init__()
        bzip2 = file.read(len(_BZIP2)) == _BZIP2
        file.seek(0)
        self._compressed: Any = bz2.BZ2File(file) if bzip2 else gzip.GzipFile(fileobj=file)
        self._file, self._max_bytes = file, max_bytes
        self._content = bytearray()
        self._position = 0

    @property
    def error(self) -> Exception | None:
        """The error of the store that ended the last read."""
        return self._file.error

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: 0}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        end = self._position + size
        while len(self._content) < end and (piece := self._compressed.read(_UNPACK_BYTES)):
            self._content += piece
            if len(self._content) > self._max_bytes:
                raise _TooLargeError(f"decompresses to more than {self._max_bytes} bytes")
        content = bytes(memoryview(self._content)[self._position : end])
        self._position += len(content)
        return content
