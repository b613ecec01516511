import asyncio
import ssl
from collections.abc import Callable

import pytest

from galaxy_batch.storage import retries
from galaxy_batch.storage.retries import (
    TRIES,
    http_status,
    is_transient,
    retry_after_s,
    with_retries,
    with_retries_async,
)


class Refused(Exception):  # noqa: N818
    """A server's error response, as most drivers report it."""

    def __init__(self, status: int) -> None:
        self.status = status


class Throttled(Refused):
    """As aiohttp reports it."""

    def __init__(self, retry_after: str, status: int = 429) -> None:
        super().__init__(status)
        self.headers = {"Retry-After": retry_after}


class Botocore(Exception):  # noqa: N818
    def __init__(self, status: int) -> None:
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


class Requests(OSError):  # noqa: N818
    def __init__(self, status: int) -> None:
        self.response = type("Response", (), {"status_code": status})()


class ClientPayloadError(Exception):
    """Named as aiohttp's."""


class ContentTooShort(ClientPayloadError):  # noqa: N818
    pass


def caused(by: Exception) -> OSError:
    error = OSError(16, "busy")
    error.__cause__ = by
    return error


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replaces sleep and clock; records the waits."""
    waited: list[float] = []

    async def nap(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(retries.time, "sleep", waited.append)
    monkeypatch.setattr(retries.asyncio, "sleep", nap)
    monkeypatch.setattr(retries.time, "monotonic", lambda: sum(waited))
    return waited


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("kind", [Refused, Botocore, Requests, lambda status: caused(Botocore(status))])
def test_transient_statuses(kind: Callable[[int], Exception], status: int) -> None:
    assert http_status(kind(status)) == status
    assert is_transient(kind(status))


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 410, 416, 501])
@pytest.mark.parametrize("kind", [Refused, Botocore, Requests, lambda status: caused(Botocore(status))])
def test_permanent_statuses(kind: Callable[[int], Exception], status: int) -> None:
    assert http_status(kind(status)) == status
    assert not is_transient(kind(status))


@pytest.mark.parametrize(
    "error",
    [TimeoutError(), ConnectionResetError(), BrokenPipeError(), OSError(121, "remote I/O"), ContentTooShort(),
     ssl.SSLError("bad record"), asyncio.IncompleteReadError(b"", 4)],
)  # fmt: skip
def test_connection_errors_are_transient(error: Exception) -> None:
    assert http_status(error) is None
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(), PermissionError(), IsADirectoryError(), NotImplementedError(), ValueError(), KeyError()],
)
def test_specific_errors_are_permanent(error: Exception) -> None:
    assert not is_transient(error)


def test_a_transient_error_is_retried(waits: list[float]) -> None:
    outcomes: list[Exception | str] = [OSError("torn"), TimeoutError(), "whole"]

    def call() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert with_retries(call) == "whole"
    assert waits[0] == 0
    assert 0.25 <= waits[1] <= 0.75
    assert 0.75 <= waits[2] <= 2.25
    assert len(waits) == 3


def test_attempts_and_waits_are_limited(waits: list[float]) -> None:
    errors = [OSError(number) for number in range(TRIES + 1)]
    left = list(errors)

    def call() -> None:
        raise left.pop(0)

    async def call_async() -> None:
        call()

    with pytest.raises(OSError) as caught:  # noqa: PT011 - compared below
        with_retries(call)
    assert caught.value is errors[TRIES - 1]
    assert sum(waits) <= 30
    left[:] = errors
    waits.clear()
    with pytest.raises(OSError) as caught:  # noqa: PT011
        asyncio.run(with_retries_async(call_async))
    assert caught.value is errors[TRIES - 1]
    assert sum(waits) <= 30


def test_a_permanent_error_is_raised_at_once(waits: list[float]) -> None:
    def call() -> None:
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        with_retries(call)
    assert waits == [0]


def test_no_attempt_starts_after_the_time_limit(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PATIENCE_S", 1.0)
    attempts = []

    def call() -> None:
        attempts.append(1)
        waits.append(0.4)  # duration of the attempt
        raise TimeoutError

    with pytest.raises(TimeoutError):
        with_retries(call)
    assert len(attempts) <= 2


def test_waits_differ_between_workers(waits: list[float]) -> None:
    def call() -> None:
        raise TimeoutError

    for _ in range(2):
        with pytest.raises(TimeoutError):
            with_retries(call)
    assert waits[1] != waits[TRIES + 1]


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Throttled("7"), 7.0), (Throttled("0", 503), 0.0), (Throttled("7", 500), None), (Refused(429), None),
        (Throttled("Wed, 21 Oct 2015 07:28:00 GMT"), 0.0), (Throttled("soon"), None), (Throttled("-1"), None),
        (Throttled(""), None), (OSError(), None),
    ],
)  # fmt: skip
def test_when_a_response_says_to_retry(error: Exception, seconds: float | None) -> None:
    assert retry_after_s(error) == seconds


@pytest.mark.parametrize(
    ("retry_after", "waited"), [("20", [0, 20, 20, 20]), ("60", [0, 60]), ("61", [0]), ("0", [0, 0.5, 1.5, 4.5, 13.5])]
)
def test_the_waits_that_a_store_asks_for_are_limited(
    waits: list[float], monkeypatch: pytest.MonkeyPatch, retry_after: str, waited: list[float]
) -> None:
    monkeypatch.setattr(retries.random, "uniform", lambda low, high: 1.0)

    def call() -> None:
        raise Throttled(retry_after)

    with pytest.raises(Throttled):
        with_retries(call)
    assert waits == waited
