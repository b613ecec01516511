"""The three FITS files of one cutout, one per band, stored as one uncompressed zip."""

import io
import zipfile
from collections.abc import Sequence

from galaxy_batch.rows import Status, UnusableCutout

__all__ = ["BANDS", "pack_bands", "unpack_bands"]

BANDS = ("red", "green", "blue")
"""Order of three bands everywhere: that of an RGB image, the reddest band first."""

# Constant metadata, so that equal files give equal bytes and an equal image_hash.
_NO_TIME = (1980, 1, 1, 0, 0, 0)  # the first time that a zip can store
_UNIX = 3


def pack_bands(files: Sequence[bytes]) -> bytes:
    """Three files, red first, as one uncompressed zip; equal files give equal bytes."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, content in zip(BANDS, files, strict=True):
            entry = zipfile.ZipInfo(name, _NO_TIME)
            entry.create_system = _UNIX
            archive.writestr(entry, content)
    return sink.getvalue()


def unpack_bands(content: bytes) -> list[bytes]:
    """The three files of a zip, in the zip's order; their names are ignored.

    Raises:
        UnusableCutout: not three uncompressed files. Compressed ones are refused: their true size is unknown.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if len(entries) != len(BANDS):
            raise UnusableCutout(Status.UNREADABLE, f"a zip of {len(entries)} files: three are needed, one per band")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(content):
                raise UnusableCutout(
                    Status.UNREADABLE, f"a zip in which {entry.filename!r} is compressed or has a wrong size"
                )
        return [archive.read(entry) for entry in entries]
