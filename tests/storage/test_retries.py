import asyncio
import ssl
from collections.abc import Callable

import pytest

from galaxy_batch.storage import retries
from galaxy_batch.storage.retries import TRIES, http_status, is_transient, with_retries, with_retries_async


class Refused(Exception):  # noqa: N818
    """An answer of a server, as most drivers say it."""

    def __init__(self, status: int) -> None:
        self.status = status


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
    """The clock stands still, and what was waited is noted."""
    waited: list[float] = []

    async def nap(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(retries.time, "sleep", waited.append)
    monkeypatch.setattr(retries.asyncio, "sleep", nap)
    monkeypatch.setattr(retries.time, "monotonic", lambda: sum(waited))
    return waited


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("kind", [Refused, Botocore, Requests, lambda status: caused(Botocore(status))])
def test_statuses_that_may_pass(kind: Callable[[int], Exception], status: int) -> None:
    assert http_status(kind(status)) == status
    assert is_transient(kind(status))


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 410, 416, 501])
@pytest.mark.parametrize("kind", [Refused, Botocore, Requests, lambda status: caused(Botocore(status))])
def test_statuses_that_last(kind: Callable[[int], Exception], status: int) -> None:
    assert http_status(kind(status)) == status
    assert not is_transient(kind(status))


@pytest.mark.parametrize(
    "error",
    [TimeoutError(), ConnectionResetError(), BrokenPipeError(), OSError(121, "remote I/O"), ContentTooShort(),
     ssl.SSLError("bad record"), asyncio.IncompleteReadError(b"", 4)],
)  # fmt: skip
def test_what_broke_on_the_way_may_pass(error: Exception) -> None:
    assert http_status(error) is None
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(), PermissionError(), IsADirectoryError(), NotImplementedError(), ValueError(), KeyError()],
)
def test_what_says_what_is_wrong_lasts(error: Exception) -> None:
    assert not is_transient(error)


def test_a_failure_that_passes_is_tried_again(waits: list[float]) -> None:
    answers: list[Exception | str] = [OSError("torn"), TimeoutError(), "whole"]

    def call() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert with_retries(call) == "whole"
    assert waits[0] == 0
    assert 0.25 <= waits[1] <= 0.75
    assert 0.75 <= waits[2] <= 2.25
    assert len(waits) == 3


def test_tries_and_waits_are_bounded(waits: list[float]) -> None:
    errors = [OSError(number) for number in range(TRIES + 1)]
    left = list(errors)

    def call() -> None:
        raise left.pop(0)

    async def call_async() -> None:
        call()

    with pytest.raises(OSError) as caught:  # noqa: PT011 - it is the very one
        with_retries(call)
    assert caught.value is errors[TRIES - 1]
    assert sum(waits) <= 30
    left[:] = errors
    waits.clear()
    with pytest.raises(OSError) as caught:  # noqa: PT011
        asyncio.run(with_retries_async(call_async))
    assert caught.value is errors[TRIES - 1]
    assert sum(waits) <= 30


def test_what_lasts_is_raised_at_once(waits: list[float]) -> None:
    def call() -> None:
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        with_retries(call)
    assert waits == [0]


def test_no_try_begins_when_patience_is_over(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PATIENCE_S", 1.0)
    tries = []

    def call() -> None:
        tries.append(1)
        waits.append(0.4)  # each try takes a while
        raise TimeoutError

    with pytest.raises(TimeoutError):
        with_retries(call)
    assert len(tries) <= 2


def test_two_workers_do_not_come_back_at_the_same_moment(waits: list[float]) -> None:
    def call() -> None:
        raise TimeoutError

    for _ in range(2):
        with pytest.raises(TimeoutError):
            with_retries(call)
    assert waits[1] != waits[TRIES + 1]
