"""The first bytes of many files at a time, from any store: bounded in size, in time, and in requests."""

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
"""Seconds that one try to read a head may last."""
OBJECT_S = 60.0
"""Seconds that all tries for one head, and the waits between them, may last."""

_GONE = (404, 410)
_NO_SUCH_NAME = (errno.ENAMETOOLONG, errno.ELOOP)


class NotAFileError(OSError):
    """A device, a pipe or a socket: reading it might never end, or do something."""


def read_heads(uris: Sequence[str], limit: int) -> list[bytes | Exception]:
    """At most `limit` bytes of each file, in the order asked; what failed is its exception, not raised.

    One ranged read per file: nothing asks for the size first, and a huge file is not read to its end. Of each store
    `CONCURRENT_READS` files are read at a time, with retries, each for at most `OBJECT_S` seconds. Where as many in a
    row get no answer at all, the store is taken for dead, and its other files are not asked for.
    """
    answers: list[bytes | Exception] = [FileNotFoundError()] * len(uris)
    by_store: dict[str, list[int]] = {}
    for position, uri in enumerate(uris):
        by_store.setdefault(_store(uri), []).append(position)
    for positions in by_store.values():
        try:
            found = _heads_of_one_store([uris[p] for p in positions], limit)
        except Exception as error:  # noqa: BLE001 - no driver, or no way to the store: a fact about these rows
            found = [error] * len(positions)
        for position, answer in zip(positions, found, strict=True):
            answers[position] = answer
    return answers


def is_empty(error: Exception) -> bool:
    """Whether a read from the first byte on was refused because there is none (416; RFC 9110, 15.5.17)."""
    return http_status(error) == 416


def _store(uri: str) -> str:
    """What one driver serves: all that comes before the path."""
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
    slots = asyncio.Semaphore(CONCURRENT_READS if _waits_for_many(fs) else 1)
    unanswered = 0  # in a row

    async def head(path: str) -> bytes | Exception:
        nonlocal unanswered
        async with slots:  # held while it waits to try again: a store that throttles is asked for less at a time
            if unanswered >= CONCURRENT_READS:
                return ConnectionError("the store does not answer")
            answer = await _retried_head(fs, path, limit)
        dead = isinstance(answer, Exception) and is_transient(answer) and http_status(answer) is None
        unanswered = unanswered + 1 if dead else 0
        return answer

    return list(await asyncio.gather(*map(head, paths)))


async def _retried_head(fs: fsspec.AbstractFileSystem, path: str, limit: int) -> bytes | Exception:
    try:
        async with asyncio.timeout(OBJECT_S):
            return await with_retries_async(lambda: asyncio.wait_for(_head(fs, path, limit), TRY_S))
    except Exception as error:  # noqa: BLE001 - whatever a driver raises is a fact about this row
        return b"" if is_empty(error) else error


async def _head(fs: fsspec.AbstractFileSystem, path: str, limit: int) -> bytes:
    if "http" in fs.protocol:
        return await _http_head(fs, path, limit)
    if _waits_for_many(fs):
        content: bytes = await fs._cat_file(path, start=0, end=limit)
    else:
        content = await asyncio.to_thread(fs.cat_file, path, start=0, end=limit)
    return content[:limit]


async def _http_head(fs: fsspec.AbstractFileSystem, url: str, limit: int) -> bytes:
    """Reads up to the limit. The driver's own way reads on to the end, where a server does not heed the range."""
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


def _waits_for_many(fs: fsspec.AbstractFileSystem) -> bool:
    return isinstance(fs, AsyncFileSystem) and bool(fs.async_impl)
