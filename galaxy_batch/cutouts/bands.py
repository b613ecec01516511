"""Bands: the three files of one cutout, one per band, carried as one piece of encoded bytes."""

import io
import zipfile
from collections.abc import Sequence

from galaxy_batch.rows import Status, UnusableCutout

__all__ = ["BANDS", "pack_bands", "unpack_bands"]

BANDS = ("red", "green", "blue")
"""Order of the bands, wherever there are three: the picture's, which is the reddest band first."""

_NO_TIME = (1980, 1, 1, 0, 0, 0)  # the first that a zip can name: the same files give the same bytes
_UNIX = 3  # said on every system, for the same reason


def pack_bands(files: Sequence[bytes]) -> bytes:
    """Three files, red first, as one zip: stored as they are, and the same bytes whenever the files are the same."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, content in zip(BANDS, files, strict=True):
            entry = zipfile.ZipInfo(name, _NO_TIME)
            entry.create_system = _UNIX
            archive.writestr(entry, content)
    return sink.getvalue()


def unpack_bands(content: bytes) -> list[bytes]:
    """The three files of a zip, in its own order; their names are not looked at.

    Raises:
        UnusableCutout: not three stored files. A compressed one is not unpacked: nothing says how large it would get.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if len(entries) != len(BANDS):
            raise UnusableCutout(Status.UNREADABLE, f"a zip of {len(entries)} files; one per band, three, are needed")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(content):
                raise UnusableCutout(Status.UNREADABLE, f"a zip whose {entry.filename!r} is not stored as it is")
        return [archive.read(entry) for entry in entries]
