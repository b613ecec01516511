"""Concurrent reads of the first bytes of many files, with limits on size, time and number of requests."""

import asyncio
import errno
import os
import stat
from collections.abc import Sequence

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem

from galaxy_batch.storage.drivers import CONCURRENT_READS, filesystem_without_retries
from galaxy_batch.storage.retries import http_status, is_transient, with_retries_async

__all__ = ["OBJECT_S", "TRY_S", "NotAFileError", "is_empty", "read_heads"]

TRY_S = 30.0
"""Time limit of one attempt to read a file, in seconds."""
OBJECT_S = 60.0
"""Time limit of all attempts for one file and the waits between them, in seconds."""

_GONE = (404, 410)
_NO_SUCH_NAME = (errno.ENAMETOOLONG, errno.ELOOP)


class NotAFileError(OSError):
    """A device, a pipe or a socket: reading it might block, or have side effects."""


def read_heads(uris: Sequence[str], limit: int) -> list[bytes | Exception]:
    """Read at most `limit` bytes of each file, in the order of `uris`; errors are returned, not raised.

    One ranged request per file: the size is not requested first, and a huge file is not read to its end. From each
    store `CONCURRENT_READS` files are read at a time, with retries, each for at most `OBJECT_S` seconds. After as many
    consecutive files without any response, the store counts as down and its other files are not requested.
    """
    contents: list[bytes | Exception] = [FileNotFoundError()] * len(uris)
    by_store: dict[str, list[int]] = {}
    for position, uri in enumerate(uris):
        by_store.setdefault(_store(uri), []).append(position)
    for positions in by_store.values():
        try:
            heads = _heads_of_one_store([uris[p] for p in positions], limit)
        except Exception as error:  # noqa: BLE001 - no driver or no connection: becomes the status of these rows
            heads = [error] * len(positions)
        for position, head in zip(positions, heads, strict=True):
            contents[position] = head
    return contents


def is_empty(error: Exception) -> bool:
    """Whether a ranged read failed because the file is empty (status 416; RFC 9110, 15.5.17)."""
    return http_status(error) == 416


def _store(uri: str) -> str:
    """The part of a URI before the path; URIs with the same one share a driver."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return ""
    if "::" in uri or "?versionId=" in uri:
        return uri
    return f"{scheme}://{rest.partition('/')[0]}"


def _heads_of_one_store(uris: Sequence[str], limit: int) -> list[bytes | Exception]:
    fs, first = filesystem_without_retries(uris[0])
    paths = [first, *(fs._strip_protocol(uri) for uri in uris[1:])]
    if isinstance(fs, LocalFileSystem):
        return [_local_head(path, limit) for path in paths]
    heads: list[bytes | Exception] = fsspec.asyn.sync(fsspec.asyn.get_loop(), _remote_heads, fs, paths, limit)
    return heads


def _local_head(path: str, limit: int) -> bytes | Exception:
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            return NotAFileError(path)
        with open(path, "rb") as file:
            return file.read(limit)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL byte
        return FileNotFoundError(path) if getattr(error, "errno", None) in _NO_SUCH_NAME else error


async def _remote_heads(fs: fsspec.AbstractFileSystem, paths: Sequence[str], limit: int) -> list[bytes | Exception]:
    slots = asyncio.Semaphore(CONCURRENT_READS if _is_async(fs) else 1)
    failures = 0  # consecutive files without any response

    async def head(path: str) -> bytes | Exception:
        nonlocal failures
        async with slots:  # also held between attempts, so that a throttling store gets fewer requests
            if failures >= CONCURRENT_READS:
                return ConnectionError("the store does not respond")
            content = await _head_with_retries(fs, path, limit)
        no_response = isinstance(content, Exception) and is_transient(content) and http_status(content) is None
        failures = failures + 1 if no_response else 0
        return content

    return list(await asyncio.gather(*map(head, paths)))


async def _head_with_retries(fs: fsspec.AbstractFileSystem, path: str, limit: int) -> bytes | Exception:
    try:
        async with asyncio.timeout(OBJECT_S):
            return await with_retries_async(lambda: asyncio.wait_for(_head(fs, path, limit), TRY_S))
    except Exception as error:  # noqa: BLE001 - drivers have no common class; becomes the status of this row
        return b"" if is_empty(error) else error


async def _head(fs: fsspec.AbstractFileSystem, path: str, limit: int) -> bytes:
    if "http" in fs.protocol:
        return await _http_head(fs, path, limit)
    if _is_async(fs):
        content: bytes = await fs._cat_file(path, start=0, end=limit)
    else:
        content = await asyncio.to_thread(fs.cat_file, path, start=0, end=limit)
    return content[:limit]


async def _http_head(fs: fsspec.AbstractFileSystem, url: str, limit: int) -> bytes:
    """Read up to the limit, even from servers that ignore the range, where the driver would read the whole file."""
    headers = {**fs.kwargs.get("headers", {}), "Range": f"bytes=0-{limit - 1}", "Accept-Encoding": "identity"}
    session = await fs.set_session()
    content = bytearray()
    async with session.get(fs.encode_url(url), **{**fs.kwargs, "headers": headers}) as response:
        if response.status in _GONE:
            raise FileNotFoundError(url)
        response.raise_for_status()
        async for piece in response.content.iter_any():
            content += piece
            if len(content) >= limit:
                break
    return bytes(content[:limit])


def _is_async(fs: fsspec.AbstractFileSystem) -> bool:
    return isinstance(fs, AsyncFileSystem) and bool(fs.async_impl)
