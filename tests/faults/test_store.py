"""An object store that throttles, fails, stalls, truncates responses, or is down for a while."""

import contextlib
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator

import pytest

from galaxy_batch.catalog.manifest import read_manifest
from tests.faults.experiment import CHUNK_ROWS, Experiment
from tests.support.repository import REPOSITORY

pytestmark = [pytest.mark.faults, pytest.mark.timeout(500)]

ALWAYS = 1e9


@pytest.mark.parametrize(
    ("fault", "responses", "share", "methods", "seed"),
    [
        ("500 InternalError", ("500",), 0.1, ("GET", "PUT"), 1),
        ("503 SlowDown", ("503",), 0.1, ("GET", "PUT"), 2),
        ("truncated bodies", ("truncated",), 0.1, ("GET",), 3),
        ("connections reset, responses lost", ("reset", "lost"), 0.1, ("GET", "PUT"), 4),
        ("stalls until the client gives up", ("silence",), 0.01, ("GET", "PUT"), 5),
    ],
)
def test_transient_errors_lose_nothing(
    experiment: Experiment, fault: str, responses: tuple[str, ...], share: float, methods: tuple[str, ...], seed: int
) -> None:
    """While cutouts, parts and catalog files are read and written. The run finishes without help."""
    proxy = experiment.store.proxy
    for method in methods:
        for part in ("survey/images/", f"{experiment.name}/"):
            proxy.sprinkle(part, responses, share, seed, method, most=1)
    proxy.fail("survey/images/", responses[0], times=2)  # a minimum, independent of the random ones
    proxy.fail(f"{experiment.name}/", responses[0], method=methods[-1])
    ended = experiment.run()
    assert ended.code == 0, ended.stderr
    assert proxy.played() >= 3
    record = experiment.check(fault, proxy.played())
    assert record.read_again == 0 or "truncated" in responses or "lost" in responses


class Server:
    """A proxy of the store that can be killed."""

    def __init__(self, url: str) -> None:
        self._upstream_port = str(urllib.parse.urlsplit(url).port)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._lock = threading.Lock()
        self.kills = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = ["-m", "tests.faults.tcp_proxy", str(self.port), self._upstream_port]
        self.process = subprocess.Popen([sys.executable, *words], cwd=REPOSITORY)
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def kill_for(self, seconds: float) -> None:
        """`kill -9`, and a restart after some seconds."""
        with self._lock:
            self.process.kill()
            self.process.wait()
            self.kills += 1
            time.sleep(seconds)
            self.start()


@pytest.fixture
def server(experiment: Experiment) -> Iterator[Server]:
    server = Server(experiment.store.proxy.url)
    experiment.endpoint = server.url
    yield server
    server.process.kill()
    server.process.wait()


def test_a_server_that_is_down_for_seconds(experiment: Experiment, server: Server) -> None:
    """Retries cover a few seconds while the job reads, writes and publishes."""
    proxy = experiment.store.proxy

    def kill() -> None:
        threading.Thread(target=server.kill_for, args=(5.0,)).start()
        time.sleep(0.3)  # the current request gets no response

    for at, nth, method, done in (
        ("survey/images/", 40, "GET", False),
        ("/part-", 12, "PUT", True),
        ("/catalog/", 2, "PUT", False),
    ):
        proxy.when(at, nth, kill, method, done)
    ended = experiment.run()
    assert ended.code == 0, ended.stderr
    experiment.check("kill -9 of the S3 server for 5 s", server.kills)
    assert server.kills == 3


def test_a_server_that_stays_down_fails_the_run_and_the_next_run_resumes(
    experiment: Experiment, server: Server
) -> None:
    """Down from the fifth part on: the job ends with exit code 1, and the next run resumes."""
    killed = threading.Event()

    def kill() -> None:
        server.process.kill()
        killed.set()

    experiment.store.proxy.when("/part-", 5, kill, done=True)
    ended = experiment.run()
    assert ended.code == 1, ended.stderr
    assert killed.is_set()
    assert read_manifest(experiment.catalog_uri) is None
    assert 5 <= len(experiment.parts()) < experiment.chunks
    server.start()
    before = experiment.store.proxy.reached("/parts/", "PUT")
    ended = experiment.run()
    assert ended.code == 0, ended.stderr
    assert "resuming" in ended.stderr
    assert {
        path for path, count in before.items() if experiment.store.proxy.reached(path, "PUT")[path] != count
    } == set()
    experiment.check("kill -9 of the S3 server, back for the next run", 1)


def test_unreachable_cutouts_are_fetched_again_by_the_next_run(experiment: Experiment) -> None:
    """Errors for two cutouts in different chunks: exit code 3, no catalog, and only their chunks are read again."""
    proxy, lost = experiment.store.proxy, [experiment.ids[CHUNK_ROWS * 3 + 1], experiment.ids[CHUNK_ROWS * 9 + 5]]
    for galaxy in lost:
        proxy.fail(f"images/{galaxy}.jpg", "503", ALWAYS)
    ended = experiment.run()
    assert ended.code == 3, ended.stderr
    assert re.search(r"\(.*\b2 unreachable\b.*\), and keep_unreachable = false", ended.stderr), ended.stderr
    assert ended.summary is not None
    assert ended.summary["status_counts"]["unreachable"] == 2
    assert ended.summary["catalog_uri"] is None
    played = proxy.played()
    experiment.store.proxy.forget()
    ended = experiment.run()
    assert ended.code == 0, ended.stderr
    again = [galaxy for chunk in (3, 9) for galaxy in experiment.ids[chunk * CHUNK_ROWS :][:CHUNK_ROWS]]
    read = set(experiment.cutouts_read())
    assert set(again) <= read
    assert len(read - set(again)) <= 1, "only these two chunks, and the one cutout that does not exist"
    assert ended.summary is not None
    assert ended.summary["computed_rows"] == 2 * CHUNK_ROWS
    experiment.check("two cutouts refused beyond the retries", played)
    stale = {name for name in experiment.parts() if "unreachable" in name}
    assert stale == {"part-000003-unreachable.parquet", "part-000009-unreachable.parquet"}
