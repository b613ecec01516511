"""Bounded retries: which errors of a store are transient, and how long a job waits for them to pass.

A throttling or restarting store responds again after seconds. A request that fails with a transient error is repeated,
up to `TRIES` attempts, after increasing random waits, so that a thousand workers do not return at the same moment.
Permanent errors (no such file, no permission, invalid name) are raised at once. The waits add up to 20 s on average,
30 s at most. Where the store's response says when to retry (`Retry-After`), no attempt is made before; these waits may
add up to a minute more.
"""

import asyncio
import email.utils
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TypeVar

__all__ = [
    "LONGEST_RETRY_AFTER_S",
    "PATIENCE_S",
    "TRIES",
    "has_response",
    "http_status",
    "is_transient",
    "retry_after_s",
    "with_retries",
    "with_retries_async",
]

T = TypeVar("T")

TRIES = 5
"""Largest number of attempts, the first included."""
FIRST_WAIT_S = 0.5
"""Mean wait before the second attempt, in seconds; each wait varies by up to half its length."""
WAIT_GROWTH = 3.0
"""Factor from each mean wait to the next: 0.5, 1.5, 4.5, 13.5 s."""
PATIENCE_S = 60.0
"""No attempt starts later than this many seconds after the first, not counting waits that the store asks for."""
LONGEST_RETRY_AFTER_S = 60.0
"""Longest sum of the waits that the store asks for, in seconds; where it asks for more, the last error is raised."""

_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}  # HTTP (RFC 9110, RFC 6585): too many requests, server errors
_WITH_RETRY_AFTER = {429, 503}
_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
# Exception classes of the drivers' libraries for refused, broken or silent connections and invalid responses; by name,
# since none of these libraries need be installed.
_CONNECTION_ERRORS = {
    "ClientConnectionError", "ClientPayloadError",  # aiohttp: s3fs, gcsfs, http
    "ConnectionError", "HTTPClientError", "IncompleteReadError", "ResponseParserError",  # botocore: s3fs
    "IncompleteRead", "TransportError",  # urllib3; httpx: huggingface_hub
    "ServiceRequestError", "ServiceResponseError",  # azure: adlfs
}  # fmt: skip

_BROKEN_BODIES = {
    "ClientPayloadError", "IncompleteRead", "IncompleteReadError", "ResponseParserError", "ResponseStreamingError",
}  # fmt: skip


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later."""
    if isinstance(error, TimeoutError) or any(kind.__name__ in _CONNECTION_ERRORS for kind in type(error).__mro__):
        return True
    status = http_status(error)
    if status is not None:
        return status in _TRANSIENT
    return isinstance(error, OSError) and not isinstance(error, _PERMANENT)


def has_response(error: BaseException) -> bool:
    """Whether the store responded, be it with an error or with a part of a file."""
    return http_status(error) is not None or any(kind.__name__ in _BROKEN_BODIES for kind in type(error).__mro__)


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


def retry_after_s(error: BaseException) -> float | None:
    """Seconds from now that a response 429 or 503 asks to wait (`Retry-After`; RFC 9110, 10.2.3); None if it does not.

    Knows the exceptions of aiohttp, requests and httpx; other drivers keep no headers there.
    """
    headers = getattr(error, "headers", None) or getattr(getattr(error, "response", None), "headers", None)
    if not isinstance(headers, Mapping) or http_status(error) not in _WITH_RETRY_AFTER:
        return None
    value = str(headers.get("Retry-After", "")).strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def with_retries(call: Callable[[], T]) -> T:
    """Return `call()`, repeated while it fails with a transient error; raises its last error."""
    errors: list[Exception] = []
    for wait_s in _waits(errors):
        time.sleep(wait_s)
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - drivers have no common class; permanent errors are raised below
            errors.append(error)
            if not is_transient(error):
                break
    raise errors[-1]


async def with_retries_async(call: Callable[[], Awaitable[T]]) -> T:
    """As `with_retries`, for coroutines."""
    errors: list[Exception] = []
    for wait_s in _waits(errors):
        await asyncio.sleep(wait_s)
        try:
            return await call()
        except Exception as error:  # noqa: BLE001 - as above
            errors.append(error)
            if not is_transient(error):
                break
    raise errors[-1]


def _waits(errors: Sequence[Exception]) -> Iterator[float]:
    """Seconds to wait before each attempt, given the errors of those before."""
    end, asked_left_s = time.monotonic() + PATIENCE_S, LONGEST_RETRY_AFTER_S
    yield 0.0
    for number in range(TRIES - 1):
        wait_s = FIRST_WAIT_S * WAIT_GROWTH**number * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        asked_s = retry_after_s(errors[-1]) or 0.0
        asked_left_s -= asked_s
        end += asked_s
        if asked_left_s < 0 or time.monotonic() + wait_s > end:
            return
        yield max(wait_s, asked_s)
