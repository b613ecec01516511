"""Bounded retries: which errors of a store are transient, and how long a job waits for them to pass.

A throttling or restarting store responds again after seconds. A request that fails with a transient error is repeated,
up to `TRIES` attempts, after increasing random waits, so that a thousand workers do not return at the same moment.
Permanent errors (no such file, no permission, invalid name) are raised at once. The waits add up to 20 s on average,
30 s at most.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TypeVar

__all__ = ["PATIENCE_S", "TRIES", "http_status", "is_transient", "with_retries", "with_retries_async"]

T = TypeVar("T")

TRIES = 5
"""Largest number of attempts, the first included."""
FIRST_WAIT_S = 0.5
"""Mean wait before the second attempt, in seconds; each wait varies by up to half its length."""
WAIT_GROWTH = 3.0
"""Factor from each mean wait to the next: 0.5, 1.5, 4.5, 13.5 s."""
PATIENCE_S = 60.0
"""No attempt starts later than this many seconds after the first."""

_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}  # HTTP (RFC 9110, RFC 6585): too many requests, server errors
_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
# Exception classes of the drivers' libraries for refused, broken or silent connections and invalid responses; by name,
# since none of these libraries need be installed.
_CONNECTION_ERRORS = {
    "ClientConnectionError", "ClientPayloadError",  # aiohttp: s3fs, gcsfs, http
    "ConnectionError", "HTTPClientError", "IncompleteReadError", "ResponseParserError",  # botocore: s3fs
    "IncompleteRead", "TransportError",  # urllib3; httpx: huggingface_hub
    "ServiceRequestError", "ServiceResponseError",  # azure: adlfs
}  # fmt: skip


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later."""
    if isinstance(error, TimeoutError) or any(kind.__name__ in _CONNECTION_ERRORS for kind in type(error).__mro__):
        return True
    status = http_status(error)
    if status is not None:
        return status in _TRANSIENT
    return isinstance(error, OSError) and not isinstance(error, _PERMANENT)


def http_status(error: BaseException) -> int | None:
    """The HTTP status in a driver's exception, wherever that driver keeps it; None if there was no response."""
    for link in (error, error.__cause__):
        response = getattr(link, "response", None)
        if isinstance(response, Mapping):  # botocore; s3fs raises a Python error with this as its cause
            return int(response["ResponseMetadata"]["HTTPStatusCode"])
    for source in (error, getattr(error, "response", None)):
        for name in ("status", "status_code", "code"):  # aiohttp; azure, requests, httpx; gcsfs
            value = getattr(source, name, None)
            if value is not None and str(value).isdecimal():
                return int(value)
    return None


def with_retries(call: Callable[[], T]) -> T:
    """Return `call()`, repeated while it fails with a transient error; raises its last error."""
    for wait_s in _waits():
        time.sleep(wait_s)
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - drivers have no common class; permanent errors are raised below
            last = error
            if not is_transient(error):
                break
    raise last


async def with_retries_async(call: Callable[[], Awaitable[T]]) -> T:
    """As `with_retries`, for coroutines."""
    for wait_s in _waits():
        await asyncio.sleep(wait_s)
        try:
            return await call()
        except Exception as error:  # noqa: BLE001 - as above
            last = error
            if not is_transient(error):
                break
    raise last


def _waits() -> Iterator[float]:
    """Seconds to wait before each attempt."""
    end = time.monotonic() + PATIENCE_S
    yield 0.0
    for number in range(TRIES - 1):
        wait_s = FIRST_WAIT_S * WAIT_GROWTH**number * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        if time.monotonic() + wait_s > end:
            return
        yield wait_s
