"""Fetch the encoded bytes of cutouts. Does not decode, so read workers never import torch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from galaxy_batch.cutouts.bands import BANDS, pack_bands
from galaxy_batch.errors import InputError
from galaxy_batch.rows import IMAGE_BYTES, IMAGE_URI, NO_URI, Status
from galaxy_batch.storage.files import CONCURRENT_READS, DamagedMemberError, NotAFileError, StoreDownError, read_heads

__all__ = ["NO_IMAGE", "fetch_cutouts", "hash_image"]

NO_IMAGE = "no image in the manifest"
"""Error of a `missing` row whose manifest holds the images, or names none for it."""


@dataclass(frozen=True)
class _Download:
    """Encoded bytes of one cutout, or why there are none."""

    content: bytes | None
    status: Status
    error: str | None


def fetch_cutouts(rows: pa.Table, max_bytes: int, requests_per_host: int = CONCURRENT_READS) -> pa.Table:
    """Fetch the encoded bytes of every cutout of a chunk; every row is kept.

    Args:
        rows: a chunk of the manifest.
        max_bytes: larger files get status `too_large`; no more than this is read of them.
        requests_per_host: largest number of simultaneous requests to one http(s) host.

    A cutout in three files, one per band, becomes `pack_bands` of them; the first band that fails gives the status.

    Reads `_image_uri`, or `_image_bytes` where the manifest contains the images.
    Adds `_image_bytes`, `status`, `error`, `image_hash`. Drops `_image_uri`.
    """
    if IMAGE_URI in rows.column_names:
        uris = rows[IMAGE_URI].to_pylist()
        by_band = pa.types.is_list(rows.schema.field(IMAGE_URI).type)
        fetched = (_fetch_bands if by_band else _fetch_uris)(uris, max_bytes, requests_per_host)
        if IMAGE_BYTES in rows.column_names:  # some rows have bytes, the others a URI
            given = rows[IMAGE_BYTES].to_pylist()
            fetched = [f if c is None else _sized(c, max_bytes) for f, c in zip(fetched, given, strict=True)]
    else:
        fetched = [_sized(content, max_bytes) for content in rows[IMAGE_BYTES].to_pylist()]
    rows = rows.drop_columns([name for name in (IMAGE_URI, IMAGE_BYTES) if name in rows.column_names])
    hashes = [None if f.content is None else hash_image(f.content) for f in fetched]
    return (
        rows.append_column("image_hash", pa.array(hashes, pa.int64()))
        .append_column("status", pa.array([str(f.status) for f in fetched], pa.string()))
        .append_column("error", pa.array([f.error for f in fetched], pa.string()))
        .append_column(IMAGE_BYTES, pa.array([f.content for f in fetched], pa.large_binary()))
    )


def hash_image(content: bytes | memoryview) -> int:
    """64-bit BLAKE2b hash of encoded bytes, as a signed integer (RFC 7693)."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big", signed=True)


def _sized(content: bytes | None, max_bytes: int) -> _Download:
    if content is None:
        return _Download(None, Status.MISSING, NO_IMAGE)
    if len(content) > max_bytes:
        return _Download(None, Status.TOO_LARGE, f"more than {max_bytes} bytes")
    return _Download(content, Status.OK, None)


def _fetch_uris(uris: Sequence[str | None], max_bytes: int, requests_per_host: int) -> list[_Download]:
    contents = iter(read_heads([uri for uri in uris if uri], max_bytes + 1, requests_per_host))
    return [_with_status(next(contents), max_bytes) if uri else _without_uri(uri) for uri in uris]


def _without_uri(uri: str | None) -> _Download:
    if uri == NO_URI:
        return _Download(None, Status.MISSING, NO_IMAGE)
    return _Download(None, Status.REFUSED, "no URI, or one that contains '..' or control characters")


def _fetch_bands(
    uris: Sequence[Sequence[str | None] | None], max_bytes: int, requests_per_host: int
) -> list[_Download]:
    """All bands of all rows in one batch of downloads; the bands of a row as one zip."""
    flat = [uri for bands in uris for uri in bands or [None] * len(BANDS)]
    fetched = _fetch_uris(flat, max_bytes, requests_per_host)
    return [_packed(fetched[start : start + len(BANDS)], max_bytes) for start in range(0, len(flat), len(BANDS))]


def _packed(bands: list[_Download], max_bytes: int) -> _Download:
    for name, band in zip(BANDS, bands, strict=True):
        if band.status != Status.OK:
            return _Download(None, band.status, f"{name} band: {band.error}")
    return _sized(pack_bands([band.content or b"" for band in bands]), max_bytes)


def _with_status(content: bytes | Exception, max_bytes: int) -> _Download:
    return _Download(None, *_failure(content)) if isinstance(content, Exception) else _sized(content, max_bytes)


def _failure(error: Exception) -> tuple[Status, str]:
    """Status and error text of a cutout that could not be read."""
    match error:
        case FileNotFoundError() | IsADirectoryError() | NotADirectoryError():
            return Status.MISSING, "no such file"
        case NotAFileError():
            return Status.REFUSED, "not a file but a device, a pipe or a socket"
        case DamagedMemberError():
            return Status.UNREADABLE, str(error)
        case StoreDownError():
            return Status.UNREACHABLE, str(error)
        case InputError():
            return Status.UNREACHABLE, error.remedy
        case _:
            return Status.UNREACHABLE, type(error).__name__  # the message may hold a signed URL
