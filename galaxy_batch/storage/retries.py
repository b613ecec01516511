"""Retries with a bound: which failures of a store may pass, and how long a job waits for that.

A throttled or restarting store answers again after seconds. So a failure that may pass is tried again, `TRIES` times
in all, after waits that grow and are drawn at random, so that a thousand workers do not come back at the same moment.
What will not change by asking again (nothing there, no permission, a bad name) is raised at once. All the waits
together last 20 s, and 30 s at most.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TypeVar

__all__ = ["PATIENCE_S", "TRIES", "http_status", "is_transient", "with_retries", "with_retries_async"]

T = TypeVar("T")

TRIES = 5
"""How often one thing is asked for, the first time included."""
FIRST_WAIT_S = 0.5
"""Seconds before the second try, on average; a wait is up to half longer or shorter."""
WAIT_GROWTH = 3.0
"""Each wait is so many times as long as the one before: 0.5, 1.5, 4.5, 13.5 s."""
PATIENCE_S = 60.0
"""No try begins later than so many seconds after the first."""

_PASSING = {408, 425, 429, 500, 502, 503, 504}  # HTTP (RFC 9110, RFC 6585): too many requests, the server's own trouble
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
# Classes of the drivers' own libraries, by name, since none of them need be installed: a connection that was refused,
# torn or silent, a body that broke off, an answer that made no sense.
_BROKEN = {
    "ClientConnectionError", "ClientPayloadError",  # aiohttp: s3fs, gcsfs, http
    "ConnectionError", "HTTPClientError", "IncompleteReadError", "ResponseParserError",  # botocore: s3fs
    "IncompleteRead", "TransportError",  # urllib3; httpx: huggingface_hub
    "ServiceRequestError", "ServiceResponseError",  # azure: adlfs
}  # fmt: skip


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later."""
    if isinstance(error, TimeoutError) or any(kind.__name__ in _BROKEN for kind in type(error).__mro__):
        return True
    status = http_status(error)
    if status is not None:
        return status in _PASSING
    return isinstance(error, OSError) and not isinstance(error, _LASTING)


def http_status(error: BaseException) -> int | None:
    """The status that a server answered with, wherever the driver's exception keeps it; None where no answer came."""
    for link in (error, error.__cause__):
        response = getattr(link, "response", None)
        if isinstance(response, Mapping):  # botocore; s3fs makes a Python error of it, and keeps it as the cause
            return int(response["ResponseMetadata"]["HTTPStatusCode"])
    for source in (error, getattr(error, "response", None)):
        for name in ("status", "status_code", "code"):  # aiohttp; azure, requests, httpx; gcsfs
            value = getattr(source, name, None)
            if value is not None and str(value).isdecimal():
                return int(value)
    return None


def with_retries(call: Callable[[], T]) -> T:
    """What `call` gives, tried again while it fails in a way that may pass; the last failure is raised."""
    for wait_s in _waits():
        time.sleep(wait_s)
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - drivers have no common class; what lasts is raised here
            failure = error
            if not is_transient(error):
                break
    raise failure


async def with_retries_async(call: Callable[[], Awaitable[T]]) -> T:
    """As `with_retries`, where nothing may block."""
    for wait_s in _waits():
        await asyncio.sleep(wait_s)
        try:
            return await call()
        except Exception as error:  # noqa: BLE001 - as above
            failure = error
            if not is_transient(error):
                break
    raise failure


def _waits() -> Iterator[float]:
    """Seconds to wait before each try that may be made."""
    end = time.monotonic() + PATIENCE_S
    yield 0.0
    for number in range(TRIES - 1):
        wait_s = FIRST_WAIT_S * WAIT_GROWTH**number * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        if time.monotonic() + wait_s > end:
            return
        yield wait_s
