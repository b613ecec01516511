"""Heads of many files from a real S3 server, over S3 and HTTP, with injected server faults."""

import email.utils
import time
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.errors import InputError
from galaxy_batch.storage import downloads, retries
from galaxy_batch.storage.downloads import read_heads
from galaxy_batch.storage.drivers import CONCURRENT_READS
from galaxy_batch.storage.retries import TRIES
from tests.support.cutout_server import CutoutServer
from tests.support.s3_server import S3, SECRET


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(retries, "WAIT_GROWTH", 1.0)


def test_heads_keep_their_order_and_errors_are_returned(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/heads/m.bin", b"0123456789")
    (tmp_path / "f.bin").write_bytes(b"abcdefghij")
    (tmp_path / "empty.bin").write_bytes(b"")
    uris = [
        str(tmp_path / "f.bin"), "memory://heads/m.bin", str(tmp_path / "none"), str(tmp_path / "empty.bin"),
        "memory://heads/none", "nosuchscheme://x/y", str(tmp_path), str(tmp_path / "nul\0"),
        f"file://{tmp_path}/f.bin", f"simplecache::file://{tmp_path}/f.bin", f"simplecache::file://{tmp_path}/empty.bin",
    ]  # fmt: skip
    heads = read_heads(uris, limit=4)
    assert [h for h in heads if isinstance(h, bytes)] == [b"abcd", b"0123", b"", b"abcd", b"abcd", b""]
    kinds = [type(h) for h in heads if not isinstance(h, bytes)]
    assert kinds == [FileNotFoundError, FileNotFoundError, InputError, IsADirectoryError, ValueError]


def test_an_unreachable_server_is_returned_as_an_error(impatient: None) -> None:
    (head,) = read_heads(["ftp://127.0.0.1:9/x.jpg"], 10)
    assert isinstance(head, OSError)


@pytest.mark.parametrize("http", [False, True])
def test_each_file_costs_one_get_request(s3: S3, http: bool) -> None:
    names = [f"cutouts/a b+{number}#é.jpg" if not http else f"cutouts/{number}.jpg" for number in range(20)]
    for number, name in enumerate(names[:-2]):
        s3.put(name, f"{number:02d} is longer than the limit".encode())
    s3.put(names[-2], b"")
    start = s3.http_url if http else s3.uri
    heads = read_heads([f"{start}/{name}" for name in names], limit=5)
    assert heads[:-2] == [f"{number:02d} is".encode() for number in range(18)]
    assert heads[-2] == b""
    assert isinstance(heads[-1], FileNotFoundError)
    assert sorted(r.path for r in s3.proxy.requests) == sorted(f"/{s3.bucket}/{name}" for name in names)
    assert {(r.method, r.query, r.range) for r in s3.proxy.requests} == {("GET", "", "bytes=0-4")}


@pytest.mark.parametrize("http", [False, True])
def test_concurrency_is_high_and_limited(s3: S3, http: bool) -> None:
    uris = [s3.put(f"{number}.jpg", b"x") for number in range(3 * CONCURRENT_READS)]
    s3.proxy.fail("", "slow", times=len(uris))
    uris = [uri.replace(s3.uri, s3.http_url) for uri in uris] if http else uris
    assert read_heads(uris, 10) == [b"x"] * len(uris)
    assert CONCURRENT_READS / 4 < s3.proxy.most_at_once <= CONCURRENT_READS


@pytest.mark.parametrize("http", [False, True])
@pytest.mark.parametrize("fault", ["429", "500", "502", "503", "504", "reset", "truncated", "silence"])
def test_transient_errors_are_retried(
    s3: S3, impatient: None, monkeypatch: pytest.MonkeyPatch, http: bool, fault: str
) -> None:
    uris = [s3.put(f"{number}.jpg", b"a whole cutout") for number in range(3)]
    uris = [uri.replace(s3.uri, s3.http_url) for uri in uris] if http else uris
    if fault == "silence":
        read_heads(uris, 1)  # opens the connections
        s3.proxy.forget()
        monkeypatch.setattr(downloads, "TRY_S", 1.0)
    s3.proxy.fail("1.jpg", fault, times=2)
    assert read_heads(uris, 100) == [b"a whole cutout"] * 3
    assert [len(s3.proxy.asked(f"{number}.jpg")) for number in (0, 2)] == [1, 1]
    assert len(s3.proxy.asked("1.jpg")) == 3


@pytest.mark.parametrize("http", [False, True])
@pytest.mark.parametrize(
    ("fault", "attempts"),
    [("503", TRIES), ("500", TRIES), ("truncated", TRIES), ("403", 1), ("400", 1), ("redirect", None)],
)
def test_permanent_errors_affect_one_file_only(
    s3: S3, impatient: None, http: bool, fault: str, attempts: int | None
) -> None:
    uris = [s3.put(f"{number}.jpg", b"a whole cutout") for number in range(2)] + [f"{s3.uri}/none.jpg"]
    uris = [uri.replace(s3.uri, s3.http_url) for uri in uris] if http else uris
    s3.proxy.fail("0.jpg", fault, times=float("inf"))
    rows = fetch_cutouts(pa.table({"_image_uri": uris}), 1000)
    assert rows["status"].to_pylist() == ["unreachable", "ok", "missing"]
    assert rows["error"][0].as_py().isidentifier(), "more than the exception's type"
    requests = len(s3.proxy.asked("0.jpg"))
    assert requests == attempts if attempts else requests <= 11 * (1 if http else TRIES)


@pytest.mark.parametrize(("fault", "http"), [("endless", False), ("endless", True), ("flood", True)])
def test_endless_responses_are_cut_off(s3: S3, monkeypatch: pytest.MonkeyPatch, http: bool, fault: str) -> None:
    monkeypatch.setattr(downloads, "TRY_S", 0.6)
    monkeypatch.setattr(downloads, "OBJECT_S", 1.0)
    uri = s3.put("x.jpg", b"x")
    uri = uri.replace(s3.uri, s3.http_url) if http else uri
    s3.proxy.fail("x.jpg", fault, times=float("inf"))
    rows = fetch_cutouts(pa.table({"_image_uri": [uri]}), 1 << 20)
    assert rows["status"].to_pylist() == ["unreachable" if fault == "endless" else "too_large"]


def test_a_response_that_ignores_the_range_is_cut(s3: S3) -> None:
    uri = s3.put("x.jpg", b"0123456789")
    s3.proxy.fail("x.jpg", "whole", times=2)
    assert read_heads([uri, f"{s3.http_url}/x.jpg"], 4) == [b"0123", b"0123"]


@pytest.mark.parametrize("http", [False, True])
def test_a_store_that_is_down_is_not_asked_for_every_file(s3: S3, monkeypatch: pytest.MonkeyPatch, http: bool) -> None:
    monkeypatch.setattr(downloads, "OBJECT_S", 0.3)
    s3.proxy.fail("", "silence", times=float("inf"))
    start = s3.http_url if http else s3.uri
    heads = read_heads([f"{start}/{number}.jpg" for number in range(10 * CONCURRENT_READS)], 10)
    assert all(isinstance(head, (TimeoutError, ConnectionError)) for head in heads)
    assert len({r.path for r in s3.proxy.requests}) <= 3 * CONCURRENT_READS


def test_a_store_that_breaks_off_is_not_down(s3: S3, impatient: None) -> None:
    """One request at a time: four files without any response would count as a store that is down."""
    uris = [s3.put(f"{number}.jpg", b"a whole cutout") for number in range(8)]
    for number in range(7):
        s3.proxy.fail(f"{number}.jpg", "truncated", times=float("inf"))
    uris = [uri.replace(s3.uri, s3.http_url) for uri in uris]
    rows = fetch_cutouts(pa.table({"_image_uri": uris}), 1000, requests_per_host=1)
    assert rows["status"].to_pylist() == ["unreachable"] * 7 + ["ok"]


def test_what_is_not_requested_says_why(s3: S3, impatient: None) -> None:
    s3.proxy.fail("", "reset", times=float("inf"))
    uris = [f"{s3.http_url}/{number}.jpg" for number in range(8)]
    rows = fetch_cutouts(pa.table({"_image_uri": uris}), 1000, requests_per_host=1)
    assert set(rows["status"].to_pylist()) == {"unreachable"}
    assert rows["error"].to_pylist()[4:] == ["the store does not respond"] * 4


def test_a_throttling_store_is_asked_for_every_file(s3: S3, impatient: None) -> None:
    uris = [s3.put(f"{number}.jpg", b"x") for number in range(2 * CONCURRENT_READS)]
    s3.proxy.fail("", "503", times=TRIES * CONCURRENT_READS)
    heads = read_heads(uris, 10)
    assert heads.count(b"x") >= CONCURRENT_READS


def test_errors_do_not_contain_the_secret_key(s3: S3, impatient: None) -> None:
    s3.proxy.fail("", "500", times=float("inf"))
    assert SECRET not in repr(read_heads([f"{s3.uri}/x.jpg"], 10))


@pytest.mark.parametrize("by_band", [False, True])
def test_a_cutout_service_gets_few_requests_at_a_time(cutout_server: CutoutServer, by_band: bool) -> None:
    uris = [f"{cutout_server.url}/cutout?ra={ra}.5&dec=-1" for ra in range(30)]
    column = [uris[n : n + 3] for n in range(0, 30, 3)] if by_band else uris
    rows = fetch_cutouts(pa.table({"_image_uri": column}), 1000, requests_per_host=3)
    assert set(rows["status"].to_pylist()) == {"ok"}
    assert len(cutout_server.asked) == 30
    assert cutout_server.most_at_once == 3


@pytest.mark.parametrize("as_date", [False, True])
def test_a_throttled_request_is_repeated_when_the_server_says(
    cutout_server: CutoutServer, impatient: None, monkeypatch: pytest.MonkeyPatch, as_date: bool
) -> None:
    monkeypatch.setattr(downloads, "OBJECT_S", 1.0)  # is extended by the wait
    date = email.utils.formatdate(int(time.time()) + 3, usegmt=True)  # 2 to 3 seconds from now
    cutout_server.throttle = [(503, date) if as_date else (429, "2")]
    assert read_heads([f"{cutout_server.url}/x"], 10, requests_per_host=1) == [b"/x"]
    (first, _), (second, _) = cutout_server.asked
    assert 1.9 <= second - first <= 4


def test_a_host_that_asks_for_a_long_wait_is_left_alone(cutout_server: CutoutServer) -> None:
    cutout_server.throttle = [(200, ""), (429, "3600")]
    heads = read_heads([f"{cutout_server.url}/{n}" for n in range(20)], 10, requests_per_host=1)
    assert heads[0] == b"/0"
    assert retries.http_status(heads[1]) == 429
    assert all(isinstance(head, ConnectionError) for head in heads[2:])
    assert [path for _, path in cutout_server.asked] == ["/0", "/1"]
