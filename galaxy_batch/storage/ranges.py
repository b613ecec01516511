"""A file at any URI, of which only the parts that are needed are read."""

import io
import os
from collections import OrderedDict
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from galaxy_batch.storage.downloads import read_range
from galaxy_batch.storage.drivers import filesystem_without_retries

__all__ = ["RangedFile"]

_BLOCK_BYTES = 256 << 10  # of a small read, so that those beside it need no request of their own
_BLOCKS = 32  # that are kept


class RangedFile(io.RawIOBase):
    """A read-only file whose reads are ranged requests, with retries; the size of the file is never requested.

    Small reads fetch and keep whole blocks of 256 KB, long ones exactly what they ask for. `seek` knows no end of the
    file. Libraries may hide an error of the store behind one of their own, so the last one is kept in `error`.
    """

    def __init__(self, uri: str) -> None:
        super().__init__()
        self._fs, self._path = filesystem_without_retries(uri)
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self.error: Exception | None = None
        """The error of the store that ended the last read."""

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Position of the next byte that is read."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position; one relative to the end, which is not known, is 0."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: 0}[whence]
        self._position = max(0, start + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Read `size` bytes, fewer at the end of the file.

        Raises:
            Exception: that of the driver, after all attempts.
        """
        if size is None or size < 0:
            raise io.UnsupportedOperation("the size of the file is not known: read a number of bytes")
        start, end = self._position, self._position + size
        if size >= _BLOCK_BYTES:
            content = self._fetch(start, end)
        else:
            first, last = start // _BLOCK_BYTES, max(start, end - 1) // _BLOCK_BYTES
            joined = b"".join(self._block(number) for number in range(first, last + 1))
            content = joined[start - first * _BLOCK_BYTES : end - first * _BLOCK_BYTES]
        self._position += len(content)
        return content

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer as long as what is wanted; returns the number of bytes, fewer at the end of the file.

        Raises:
            Exception: as `read`.
        """
        if isinstance(self._fs, LocalFileSystem):
            try:
                with open(self._path, "rb") as file:
                    file.seek(self._position)
                    count = file.readinto(buffer)
            except OSError as error:
                self.error = error
                raise
            self._position += count
            return count
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            self._blocks[number] = self._fetch(number * _BLOCK_BYTES, (number + 1) * _BLOCK_BYTES)
            if len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _fetch(self, start: int, end: int) -> bytes:
        try:
            return read_range(self._fs, self._path, start, end)
        except Exception as error:
            self.error = error
            raise
