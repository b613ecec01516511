"""Concurrent reads of the first bytes of many files, with limits on size, time and number of requests."""

import asyncio
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem

from galaxy_batch.errors import InputError
from galaxy_batch.storage.archives import Archive, ArchiveMember, DamagedMemberError, open_archive, split_member_uri
from galaxy_batch.storage.drivers import CONCURRENT_READS, filesystem_without_retries
from galaxy_batch.storage.retries import (
    LONGEST_RETRY_AFTER_S,
    has_response,
    http_status,
    is_transient,
    retry_after_s,
    with_retries,
    with_retries_async,
)

__all__ = ["OBJECT_S", "TRY_S", "NotAFileError", "StoreDownError", "is_empty", "read_heads", "read_range"]

TRY_S = 30.0
"""Time limit of one attempt to read a file, in seconds."""
OBJECT_S = 60.0
"""Time limit of all attempts for one file and our waits between them, in seconds."""

_GONE = (404, 410)
_PARTIAL = 206
_RANGE_BYTES = 8 << 20  # of one request: a longer range is read in several at a time
_FAILURES_PER_SLOT = 4  # where few files are read at a time
_NO_SUCH_NAME = (errno.ENAMETOOLONG, errno.ELOOP)


class StoreDownError(ConnectionError):
    """A file that is not requested, because its store counts as down; the message holds no URI."""


class NotAFileError(OSError):
    """A device, a pipe or a socket: reading it might block, or have side effects."""


def read_heads(uris: Sequence[str], limit: int, requests_per_host: int = CONCURRENT_READS) -> list[bytes | Exception]:
    """Read at most `limit` bytes of each file, in the order of `uris`; errors are returned, not raised.

    One ranged request per file: the size is not requested first, and a huge file is not read to its end. From each
    store `CONCURRENT_READS` files are read at a time, from an http(s) host `requests_per_host`, with retries, each for
    at most `OBJECT_S` seconds and the waits that the store asks for. After that number of consecutive files without any
    response, four times the number where it is smaller, or when it asks for a longer wait than `LONGEST_RETRY_AFTER_S`,
    the store counts as down and its other files are not requested. Members of a zip or tar are read in place, with the
    same requests.
    """
    contents: list[bytes | Exception] = [FileNotFoundError()] * len(uris)
    by_store: dict[str, list[int]] = {}
    for position, uri in enumerate(uris):
        by_store.setdefault(_store(uri), []).append(position)
    for positions in by_store.values():
        try:
            heads = _heads_of_one_store([uris[p] for p in positions], limit, requests_per_host)
        except Exception as error:  # noqa: BLE001 - no driver or no connection: becomes the status of these rows
            heads = [error] * len(positions)
        for position, head in zip(positions, heads, strict=True):
            contents[position] = head
    return contents


def read_range(fs: fsspec.AbstractFileSystem, path: str, start: int, end: int) -> bytes:
    """Read the bytes from `start` to before `end` of one file, fewer at its end; with retries as in `read_heads`.

    A long range is read in pieces of 8 MB, several at a time.

    Args:
        fs: from `filesystem_without_retries`, as `path`.
        path: of the file.
        start: first byte.
        end: byte after the last.

    Raises:
        Exception: that of the driver, after all attempts; they have no common class.
    """
    step = max(1, end - start) if isinstance(fs, LocalFileSystem) else _RANGE_BYTES
    pieces = [_Piece(path, at, min(at + step, end)) for at in range(start, end, step)]
    contents = _read_pieces(fs, pieces, CONCURRENT_READS)
    for content in contents:
        if isinstance(content, Exception):
            raise content
    return b"".join(content for content in contents if isinstance(content, bytes))


def is_empty(error: Exception) -> bool:
    """Whether a ranged read failed because the file is empty (status 416; RFC 9110, 15.5.17)."""
    return http_status(error) == 416


class _Piece(NamedTuple):
    """A range of bytes of a file."""

    path: str
    start: int
    end: int


def _store(uri: str) -> str:
    """The part of a URI before the path; URIs with the same one share a driver, members of an archive its listing."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return ""
    member = split_member_uri(uri)
    if member is not None:
        return f"{member.kind}::{member.archive}"
    if "::" in uri or "?versionId=" in uri:
        return uri
    return f"{scheme}://{rest.partition('/')[0]}"


def _heads_of_one_store(uris: Sequence[str], limit: int, requests_per_host: int) -> list[bytes | Exception]:
    if split_member_uri(uris[0]) is not None:
        return _heads_of_one_archive(uris, limit, requests_per_host)
    fs, first = filesystem_without_retries(uris[0])
    paths = [first, *(fs._strip_protocol(uri) for uri in uris[1:])]
    return _read_pieces(fs, [_Piece(path, 0, limit) for path in paths], requests_per_host)


def _heads_of_one_archive(uris: Sequence[str], limit: int, requests_per_host: int) -> list[bytes | Exception]:
    parts = [part for part in map(split_member_uri, uris) if part is not None]
    fs, path = filesystem_without_retries(parts[0].archive)
    archive = with_retries(lambda: open_archive(parts[0].kind, parts[0].archive))
    members = [archive.member(part.member) for part in parts]

    def read(wanted: Sequence[ArchiveMember], extra: Sequence[int]) -> list[bytes | Exception]:
        spans = [archive.span(member, limit) for member in wanted]
        pieces = [_Piece(path, a, b + more) for (a, b), more in zip(spans, extra, strict=True)]
        return _read_pieces(fs, pieces, requests_per_host)

    found = [member for member in members if member is not None]
    raw = read(found, [0] * len(found))
    short = [0 if isinstance(r, Exception) else archive.shortage(m, r) for m, r in zip(found, raw, strict=True)]
    if any(short):
        again = [n for n, more in enumerate(short) if more]
        for n, longer in zip(again, read([found[n] for n in again], [short[n] for n in again]), strict=True):
            raw[n] = longer
    contents = iter(_contents(archive, found, raw, limit))
    return [FileNotFoundError(uri) if m is None else next(contents) for uri, m in zip(uris, members, strict=True)]


def _contents(
    archive: Archive, members: Sequence[ArchiveMember], raw: Sequence[bytes | Exception], limit: int
) -> Iterator[bytes | Exception]:
    for member, stored in zip(members, raw, strict=True):
        try:
            yield stored if isinstance(stored, Exception) else archive.content(member, stored, limit)
        except DamagedMemberError as error:
            yield error


def _read_pieces(
    fs: fsspec.AbstractFileSystem, pieces: Sequence[_Piece], requests_per_host: int
) -> list[bytes | Exception]:
    if isinstance(fs, LocalFileSystem):
        return [_local_piece(piece) for piece in pieces]
    at_once = CONCURRENT_READS if _is_async(fs) else 1
    if "http" in fs.protocol:
        at_once = min(at_once, requests_per_host)
    contents: list[bytes | Exception] = fsspec.asyn.sync(fsspec.asyn.get_loop(), _remote_pieces, fs, pieces, at_once)
    return contents


def _local_piece(piece: _Piece) -> bytes | Exception:
    path = piece.path
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            return NotAFileError(path)
        with open(path, "rb") as file:
            file.seek(piece.start)
            return file.read(piece.end - piece.start)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL byte
        return FileNotFoundError(path) if getattr(error, "errno", None) in _NO_SUCH_NAME else error


async def _remote_pieces(
    fs: fsspec.AbstractFileSystem, pieces: Sequence[_Piece], at_once: int
) -> list[bytes | Exception]:
    slots = asyncio.Semaphore(at_once)
    most_failures = min(CONCURRENT_READS, _FAILURES_PER_SLOT * at_once)
    failures = 0  # consecutive files without any response
    is_down = False

    async def read(piece: _Piece) -> bytes | Exception:
        nonlocal failures, is_down
        async with slots:  # also held between attempts, so that a throttling store gets fewer requests
            if is_down:
                return StoreDownError("the store does not respond")
            content = await _read_with_retries(fs, piece)
            error = content if isinstance(content, Exception) else None
            no_response = error is not None and is_transient(error) and not has_response(error)
            failures = failures + 1 if no_response else 0
            asked_s = (error and retry_after_s(error)) or 0.0
            is_down = is_down or failures >= most_failures or asked_s > LONGEST_RETRY_AFTER_S
        return content

    return list(await asyncio.gather(*map(read, pieces)))


async def _read_with_retries(fs: fsspec.AbstractFileSystem, piece: _Piece) -> bytes | Exception:
    try:
        async with asyncio.timeout(OBJECT_S) as deadline:

            async def read() -> bytes:
                try:
                    return await asyncio.wait_for(_read(fs, piece), TRY_S)
                except Exception as error:
                    if asked_s := retry_after_s(error):
                        deadline.reschedule((deadline.when() or 0.0) + asked_s)
                    raise

            return await with_retries_async(read)
    except Exception as error:  # noqa: BLE001 - drivers have no common class; becomes the status of this row
        return b"" if is_empty(error) else error


async def _read(fs: fsspec.AbstractFileSystem, piece: _Piece) -> bytes:
    path, start, end = piece
    if "http" in fs.protocol:
        return await _read_http(fs, piece)
    if _is_async(fs):
        content: bytes = await fs._cat_file(path, start=start, end=end)
    else:
        content = await asyncio.to_thread(fs.cat_file, path, start=start, end=end)
    return content[: end - start]


async def _read_http(fs: fsspec.AbstractFileSystem, piece: _Piece) -> bytes:
    """Read up to the end, even from servers that ignore the range, where the driver would read the whole file."""
    url, start, end = piece
    headers = {**fs.kwargs.get("headers", {}), "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
    session = await fs.set_session()
    content = bytearray()
    async with session.get(fs.encode_url(url), **{**fs.kwargs, "headers": headers}) as response:
        if response.status in _GONE:
            raise FileNotFoundError(url)
        response.raise_for_status()
        if start and response.status != _PARTIAL:
            raise InputError("uri", url, "the server sends no parts of a file: copy the archive to another store")
        async for received in response.content.iter_any():
            content += received
            if len(content) >= end - start:
                break
    return bytes(content[: end - start])


def _is_async(fs: fsspec.AbstractFileSystem) -> bool:
    return isinstance(fs, AsyncFileSystem) and bool(fs.async_impl)
