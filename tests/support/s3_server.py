"""A real S3 server on loopback for the tests, and a proxy before it that counts requests and plays faults.

The server is moto in a process of its own. The proxy is ours: it keeps a log of what was asked, and answers what a
test has scripted (`Proxy.fail`) instead of the server, so many times. Without credentials it is a plain HTTP server
of the same objects.
"""

import contextlib
import dataclasses
import http.client
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

__all__ = ["S3", "SECRET", "Proxy", "Request", "S3Process", "s3", "s3_process"]

SECRET = "tests/only+SecretKey0123456789abcdefghij"
_KEY_ID = "AKIATESTSONLY0000000"
_ENDLESS_BYTES = 10_000_000_000
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "te", "trailer", "upgrade"}
_CODES = {"403": "AccessDenied", "404": "NoSuchKey", "429": "TooManyRequests", "500": "InternalError",
          "502": "BadGateway", "503": "SlowDown", "504": "GatewayTimeout"}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One line of the proxy's log."""

    method: str
    path: str
    """Decoded, without the query: `/bucket/key`."""
    query: str
    range: str | None
    """The `Range` header."""
    answer: str | bytes
    """The fault that was played, or `passed` to the server."""
    client: str = ""
    """The address that asked."""


@dataclass
class _Fault:
    part: str
    answer: str | bytes
    method: str | None
    times: float


@dataclass
class _Sprinkle:
    part: str
    answers: Sequence[str]
    method: str
    share: float
    most: int
    rng: random.Random
    played: Counter[str]


@dataclass
class _Moment:
    part: str
    method: str
    left: int
    act: Callable[[], object]
    done: bool


class Proxy:
    """A threaded HTTP server that passes every request on to `upstream` (host, port), but for scripted faults.

    Answers that `fail` knows: a status (`"500"`, `"503"`, `"403"`, … as S3 words it); `silence`, nothing until the
    client gives up; `reset`, the connection is torn; `truncated`, half the body that was promised; `lost`, the
    server does what was asked and its answer is torn off; `redirect`, to the very same address; `endless`, ten
    gigabytes, promised and sent in drips; `flood`, the same at full speed; `whole`, the range asked for is ignored;
    `slow`, the true answer, but later (`slow_s`). Bytes are the body of a 200.

    Args:
        upstream: the server.
        listener: a socket that listens already, as one of another network namespace; a port of loopback when not given.
    """

    def __init__(self, upstream: tuple[str, int], listener: socket.socket | None = None) -> None:
        self.upstream = upstream
        self.requests: list[Request] = []
        self.most_at_once = 0
        """The largest number of requests that were being answered at the same time."""
        self.slow_s = 0.1
        """How much later a `slow` answer comes."""
        self.closing = threading.Event()
        self._faults: list[_Fault] = []
        self._sprinkles: list[_Sprinkle] = []
        self._moments: list[_Moment] = []
        self._lock = threading.Lock()
        self._at_once = 0
        self._server = _Server(self, listener)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self._server.socket.getsockname()[:2])

    def fail(self, part: str, answer: str | bytes, times: float = 1, method: str | None = "GET") -> None:
        """Answer requests whose path holds `part` with a fault, the first `times` times; faults queue up."""
        self._faults.append(_Fault(part, answer, method, times))

    def sprinkle(
        self, part: str, answers: Sequence[str], share: float, seed: int, method: str = "GET", most: int = 2
    ) -> None:
        """Answer a share of the requests whose path holds `part` with faults, drawn at random; `most` for one path."""
        self._sprinkles.append(_Sprinkle(part, answers, method, share, most, random.Random(seed), Counter()))

    def when(self, part: str, nth: int, act: Callable[[], object], method: str = "PUT", done: bool = False) -> None:
        """Do something at the nth request from now on whose path holds `part`.

        Before the server hears of it; or, with `done`, when the server has done it and the client does not know yet.
        """
        self._moments.append(_Moment(part, method, nth, act, done))

    def played(self) -> int:
        """How many requests got a fault for an answer."""
        return sum(request.answer not in ("passed", "slow") for request in self.requests)

    def reached(self, part: str, method: str) -> Counter[str]:
        """How often each path that holds `part` was asked for, where the server heard of it."""
        kept = ("passed", "lost", "slow", "truncated", "whole")
        return Counter(r.path for r in self.requests if part in r.path and r.method == method and r.answer in kept)

    def asked(self, part: str = "") -> list[str]:
        """The methods of the requests whose path or query holds `part`, in order."""
        return [r.method for r in self.requests if part in f"{r.path}?{r.query}"]

    def forget(self) -> None:
        """Empty the log and the script."""
        for script in (self.requests, self._faults, self._sprinkles, self._moments):
            script.clear()  # type: ignore[attr-defined]
        self.most_at_once = 0

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    @contextlib.contextmanager
    def answering(self, handler: BaseHTTPRequestHandler) -> Iterator[str | bytes]:
        """Which answer a request gets; it is logged, and counted as being answered."""
        address = urllib.parse.urlsplit(handler.path)
        path = urllib.parse.unquote(address.path)
        with self._lock:
            fault = next((f for f in self._faults if f.part in path and f.method in (None, handler.command)), None)
            if fault is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
            answer = self._sprinkled(path, handler.command) if fault is None else fault.answer
            handler.moments = self._due(path, handler.command)  # type: ignore[attr-defined]
            client = str(handler.client_address[0])
            asked = Request(handler.command, path, address.query, handler.headers["Range"], answer, client)
            handler.asked = asked  # type: ignore[attr-defined]
            self.requests.append(asked)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield answer
        finally:
            with self._lock:
                self._at_once -= 1

    def forgo(self, asked: Request) -> None:
        """Note that the server never heard of a request: who asked is gone."""
        with self._lock:
            self.requests[self.requests.index(asked)] = dataclasses.replace(asked, answer="gone")

    def _sprinkled(self, path: str, method: str) -> str:
        for s in self._sprinkles:
            if s.part in path and s.method == method and s.played[path] < s.most and s.rng.random() < s.share:
                s.played[path] += 1
                return s.rng.choice(s.answers)
        return "passed"

    def _due(self, path: str, method: str) -> list[_Moment]:
        waiting = [moment for moment in self._moments if moment.part in path and moment.method == method]
        for moment in waiting:
            moment.left -= 1
        return [moment for moment in waiting if moment.left == 0]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, proxy: Proxy, listener: socket.socket | None) -> None:
        self.proxy = proxy
        if listener is None:
            super().__init__(("127.0.0.1", 0), _Handler)
            return
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of what is wrong here, not of clients that hang up."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        proxy: Proxy = self.server.proxy  # type: ignore[attr-defined]
        body = self._body()
        with proxy.answering(self) as answer, contextlib.suppress(ConnectionError, TimeoutError):
            if self._act(done=False) and self._client_is_gone():
                proxy.forgo(self.asked)  # type: ignore[attr-defined]
                return
            if isinstance(answer, bytes):
                self._send(200, {"Content-Type": "application/xml"}, answer)
            elif answer == "silence":
                proxy.closing.wait(120)
                self._tear()
            elif answer == "reset":
                self._tear()
            elif answer == "redirect":
                self._send(302, {"Location": self.path}, b"")
            elif answer in ("endless", "flood"):
                self._send_without_end(proxy, pause_s=0.2 if answer == "endless" else 0.0)
            elif answer.isdigit():
                code = _CODES.get(answer, answer)
                text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>a fault of the test</Message></Error>"
                self._send(int(answer), {"Content-Type": "application/xml"}, text.encode())
            else:
                self._pass_on(proxy, body, answer)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815

    def _act(self, done: bool) -> bool:
        """Whether anything was to be done at this moment."""
        due = [moment for moment in self.moments if moment.done == done]  # type: ignore[attr-defined]
        for moment in due:
            moment.act()
        return bool(due)

    def _client_is_gone(self) -> bool:
        """Whether it died just now: then the server does not hear of what it asked for."""
        readable, _, _ = select.select([self.connection], [], [], 0.5)
        with contextlib.suppress(ConnectionError):
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        return True

    def _pass_on(self, proxy: Proxy, body: bytes, answer: str) -> None:
        if answer == "slow":
            time.sleep(proxy.slow_s)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP | {"content-length"}}
        if answer == "whole":
            headers = {k: v for k, v in headers.items() if k.lower() != "range"}
        if body or self.command in ("PUT", "POST"):
            headers["Content-Length"] = str(len(body))
        upstream = http.client.HTTPConnection(*proxy.upstream, timeout=60)
        try:
            upstream.request(self.command, self.path, body or None, headers)
            found = upstream.getresponse()
            content = found.read()
        finally:
            upstream.close()
        self._act(done=True)
        if answer == "lost":
            self._tear()
            return
        kept = {k: v for k, v in found.getheaders() if k.lower() not in _HOP_BY_HOP}
        self._send(found.status, kept, content, sent=len(content) // 2 if answer == "truncated" else None)

    def _send(self, status: int, headers: dict[str, str], content: bytes, sent: int | None = None) -> None:
        self.send_response_only(status)
        if self.command != "HEAD":
            headers = {k: v for k, v in headers.items() if k.lower() != "content-length"}
            headers["Content-Length"] = str(len(content))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent])
        if sent is not None:
            self.wfile.flush()
            self.close_connection = True

    def _send_without_end(self, proxy: Proxy, pause_s: float) -> None:
        self.send_response_only(200)
        self.send_header("Content-Length", str(_ENDLESS_BYTES))
        self.end_headers()
        piece, left = b"x" * (100 if pause_s else 1 << 20), _ENDLESS_BYTES
        while left > 0 and not proxy.closing.wait(pause_s):
            self.wfile.write(piece)
            left -= len(piece)
        self.close_connection = True

    def _tear(self) -> None:
        """End the connection with a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the connection may be torn already
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing on stderr: the log is `Proxy.requests`."""


@dataclass(frozen=True)
class S3:
    """A bucket of its own on the server, seen through a proxy of its own. What is in it, everybody may read."""

    direct: fsspec.AbstractFileSystem
    """s3fs on the server itself, past the proxy: what a test does with it is not in the log."""
    proxy: Proxy
    bucket: str

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def http_url(self) -> str:
        """The bucket as a plain HTTP server has it."""
        return f"{self.proxy.url}/{self.bucket}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find the server, the way that boto's users say it."""
        return {
            "AWS_ACCESS_KEY_ID": _KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.proxy.url,
        }

    def write_fsspec_config(self, folder: Path) -> dict[str, str]:
        """Write fsspec's own config file with endpoint and credentials, and give the environment that names it."""
        folder.mkdir(parents=True, exist_ok=True)
        known = {"endpoint_url": self.proxy.url, "key": _KEY_ID, "secret": SECRET}
        (folder / "conf.json").write_text(json.dumps({"s3": known}))
        return {"FSSPEC_CONFIG_DIR": str(folder)}

    def put(self, key: str, content: bytes) -> str:
        """Store an object, and give its URI."""
        self.direct.pipe_file(f"{self.bucket}/{key}", content)
        return f"{self.uri}/{key}"

    def get(self, key: str) -> bytes:
        content: bytes = self.direct.cat_file(f"{self.bucket}/{key}")
        return content

    def names(self) -> list[str]:
        return sorted(path.removeprefix(f"{self.bucket}/") for path in self.direct.find(self.bucket))


@dataclass(frozen=True)
class S3Process:
    """The server, and s3fs on it."""

    address: tuple[str, int]
    direct: fsspec.AbstractFileSystem


@pytest.fixture(scope="session")
def s3_process() -> Iterator[S3Process]:
    """A moto server in a process of its own."""
    pytest.importorskip("s3fs")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    command = [sys.executable, "-m", "moto.server", "-H", address[0], "-p", str(address[1])]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, "the S3 server did not start"
            try:
                socket.create_connection(address, 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the S3 server does not answer"
                time.sleep(0.1)
        yield S3Process(
            address,
            fsspec.filesystem(
                "s3", endpoint_url=f"http://{address[0]}:{address[1]}", key=_KEY_ID, secret=SECRET,
                use_listings_cache=False, skip_instance_cache=True, s3_additional_kwargs={"ACL": "public-read"},
            ),
        )  # fmt: skip
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def s3(s3_process: S3Process, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """An empty bucket that this process reaches through a proxy; the environment holds its endpoint and keys."""
    store = S3(s3_process.direct, Proxy(s3_process.address), f"survey-{uuid.uuid4().hex[:12]}")
    store.direct.mkdir(store.bucket)
    for name in [name for name in os.environ if name.startswith(("AWS_ENDPOINT", "AWS_PROFILE", "AWS_SESSION"))]:
        monkeypatch.delenv(name)
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    driver = fsspec.get_filesystem_class("s3")
    driver.clear_instance_cache()  # a driver that was made under another environment keeps its endpoint
    try:
        yield store
    finally:
        store.proxy.close()
        driver.clear_instance_cache()
