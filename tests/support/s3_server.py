"""An S3 server on loopback, and a proxy that records requests and injects faults.

The server is moto in its own process. The proxy records all requests and gives the responses that a test has set with
`Proxy.fail`. Without credentials it is a plain HTTP server of the same objects.
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
    """A request that the proxy recorded."""

    method: str
    path: str
    """Decoded, without the query: `/bucket/key`."""
    query: str
    range: str | None
    """The `Range` header."""
    response: str | bytes
    """The injected fault, or `passed` if the request went to the server."""
    client: str = ""
    """Address of the client."""


@dataclass
class _Fault:
    part: str
    response: str | bytes
    method: str | None
    times: float


@dataclass
class _Sprinkle:
    part: str
    responses: Sequence[str]
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
    """A threaded HTTP server that passes requests on to `upstream` (host, port), except for injected faults.

    Faults: a status (`"500"`, `"503"`, `"403"`, … with S3's error document); `silence`, no response; `reset`, a
    connection reset; `truncated`, half of the body; `lost`, the server executes the request but the response is
    reset; `redirect`, to the same address; `endless`, ten gigabytes, sent slowly; `flood`, the same at full speed;
    `whole`, the `Range` header is ignored; `slow`, the server's response after `slow_s`. Bytes are the body of a 200.

    Args:
        upstream: the server.
        listener: a listening socket, e.g. of another network namespace. When not given, a port on loopback.
    """

    def __init__(self, upstream: tuple[str, int], listener: socket.socket | None = None) -> None:
        self.upstream = upstream
        self.requests: list[Request] = []
        self.most_at_once = 0
        """Largest number of simultaneous requests."""
        self.slow_s = 0.1
        """Delay of a `slow` response."""
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

    def fail(self, part: str, response: str | bytes, times: float = 1, method: str | None = "GET") -> None:
        """Inject a fault into the first `times` requests whose path contains `part`; faults queue up."""
        self._faults.append(_Fault(part, response, method, times))

    def sprinkle(
        self, part: str, responses: Sequence[str], share: float, seed: int, method: str = "GET", most: int = 2
    ) -> None:
        """Inject random faults into a share of the requests whose path contains `part`, at most `most` per path."""
        self._sprinkles.append(_Sprinkle(part, responses, method, share, most, random.Random(seed), Counter()))

    def when(self, part: str, nth: int, act: Callable[[], object], method: str = "PUT", done: bool = False) -> None:
        """Call `act` at the nth request from now whose path contains `part`.

        Before the request reaches the server; with `done`, between the server's response and the client's.
        """
        self._moments.append(_Moment(part, method, nth, act, done))

    def played(self) -> int:
        """Number of injected faults."""
        return sum(request.response not in ("passed", "slow") for request in self.requests)

    def reached(self, part: str, method: str) -> Counter[str]:
        """How often a request for each path that contains `part` reached the server."""
        kept = ("passed", "lost", "slow", "truncated", "whole")
        return Counter(r.path for r in self.requests if part in r.path and r.method == method and r.response in kept)

    def asked(self, part: str = "") -> list[str]:
        """Methods of the requests whose path or query contains `part`, in order."""
        return [r.method for r in self.requests if part in f"{r.path}?{r.query}"]

    def forget(self) -> None:
        """Clear the recorded requests and the faults."""
        for script in (self.requests, self._faults, self._sprinkles, self._moments):
            script.clear()  # type: ignore[attr-defined]
        self.most_at_once = 0

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    @contextlib.contextmanager
    def responding(self, handler: BaseHTTPRequestHandler) -> Iterator[str | bytes]:
        """Choose the response to a request, and record the request."""
        address = urllib.parse.urlsplit(handler.path)
        path = urllib.parse.unquote(address.path)
        with self._lock:
            fault = next((f for f in self._faults if f.part in path and f.method in (None, handler.command)), None)
            if fault is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
            response = self._sprinkled(path, handler.command) if fault is None else fault.response
            handler.moments = self._due(path, handler.command)  # type: ignore[attr-defined]
            client = str(handler.client_address[0])
            request = Request(handler.command, path, address.query, handler.headers["Range"], response, client)
            handler.request_record = request  # type: ignore[attr-defined]
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield response
        finally:
            with self._lock:
                self._at_once -= 1

    def mark_unsent(self, request: Request) -> None:
        """Record that a request did not reach the server, because its client died."""
        with self._lock:
            self.requests[self.requests.index(request)] = dataclasses.replace(request, response="gone")

    def _sprinkled(self, path: str, method: str) -> str:
        for s in self._sprinkles:
            if s.part in path and s.method == method and s.played[path] < s.most and s.rng.random() < s.share:
                s.played[path] += 1
                return s.rng.choice(s.responses)
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
        """Report errors of the proxy, but not disconnected clients."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        proxy: Proxy = self.server.proxy  # type: ignore[attr-defined]
        body = self._body()
        with proxy.responding(self) as response, contextlib.suppress(ConnectionError, TimeoutError):
            if self._act(done=False) and self._client_is_gone():
                proxy.mark_unsent(self.request_record)  # type: ignore[attr-defined]
                return
            if isinstance(response, bytes):
                self._send(200, {"Content-Type": "application/xml"}, response)
            elif response == "silence":
                proxy.closing.wait(120)
                self._reset()
            elif response == "reset":
                self._reset()
            elif response == "redirect":
                self._send(302, {"Location": self.path}, b"")
            elif response in ("endless", "flood"):
                self._send_without_end(proxy, pause_s=0.2 if response == "endless" else 0.0)
            elif response.isdigit():
                code = _CODES.get(response, response)
                text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>a fault of the test</Message></Error>"
                self._send(int(response), {"Content-Type": "application/xml"}, text.encode())
            else:
                self._pass_on(proxy, body, response)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815

    def _act(self, done: bool) -> bool:
        """Call the actions due at this moment; return whether there were any."""
        due = [moment for moment in self.moments if moment.done == done]  # type: ignore[attr-defined]
        for moment in due:
            moment.act()
        return bool(due)

    def _client_is_gone(self) -> bool:
        """Whether the client has disconnected."""
        readable, _, _ = select.select([self.connection], [], [], 0.5)
        with contextlib.suppress(ConnectionError):
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        return True

    def _pass_on(self, proxy: Proxy, body: bytes, response: str) -> None:
        if response == "slow":
            time.sleep(proxy.slow_s)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP | {"content-length"}}
        if response == "whole":
            headers = {k: v for k, v in headers.items() if k.lower() != "range"}
        if body or self.command in ("PUT", "POST"):
            headers["Content-Length"] = str(len(body))
        upstream = http.client.HTTPConnection(*proxy.upstream, timeout=60)
        try:
            upstream.request(self.command, self.path, body or None, headers)
            upstream_response = upstream.getresponse()
            content = upstream_response.read()
        finally:
            upstream.close()
        self._act(done=True)
        if response == "lost":
            self._reset()
            return
        kept = {k: v for k, v in upstream_response.getheaders() if k.lower() not in _HOP_BY_HOP}
        self._send(upstream_response.status, kept, content, sent=len(content) // 2 if response == "truncated" else None)

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

    def _reset(self) -> None:
        """Reset the connection."""
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
        with contextlib.suppress(OSError, ValueError):  # the connection may be closed already
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Print nothing: requests are in `Proxy.requests`."""


@dataclass(frozen=True)
class S3:
    """A public bucket on the server, and its proxy."""

    direct: fsspec.AbstractFileSystem
    """File system of the server without the proxy, whose requests are not recorded."""
    proxy: Proxy
    bucket: str

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def http_url(self) -> str:
        """URL of the bucket on the plain HTTP server."""
        return f"{self.proxy.url}/{self.bucket}"

    @property
    def environment(self) -> dict[str, str]:
        """Endpoint and credentials as environment variables of boto."""
        return {
            "AWS_ACCESS_KEY_ID": _KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.proxy.url,
        }

    def write_fsspec_config(self, folder: Path) -> dict[str, str]:
        """Write an fsspec config with endpoint and credentials; return the environment that selects it."""
        folder.mkdir(parents=True, exist_ok=True)
        known = {"endpoint_url": self.proxy.url, "key": _KEY_ID, "secret": SECRET}
        (folder / "conf.json").write_text(json.dumps({"s3": known}))
        return {"FSSPEC_CONFIG_DIR": str(folder)}

    def put(self, key: str, content: bytes) -> str:
        """Store an object; return its URI."""
        self.direct.pipe_file(f"{self.bucket}/{key}", content)
        return f"{self.uri}/{key}"

    def get(self, key: str) -> bytes:
        content: bytes = self.direct.cat_file(f"{self.bucket}/{key}")
        return content

    def names(self) -> list[str]:
        return sorted(path.removeprefix(f"{self.bucket}/") for path in self.direct.find(self.bucket))


@dataclass(frozen=True)
class S3Process:
    """The server and its file system."""

    address: tuple[str, int]
    direct: fsspec.AbstractFileSystem


@pytest.fixture(scope="session")
def s3_process() -> Iterator[S3Process]:
    """A moto server as a process."""
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
                assert time.monotonic() < deadline, "the S3 server does not respond"
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
    """An empty bucket behind a proxy, with endpoint and credentials in the environment."""
    store = S3(s3_process.direct, Proxy(s3_process.address), f"survey-{uuid.uuid4().hex[:12]}")
    store.direct.mkdir(store.bucket)
    for name in [name for name in os.environ if name.startswith(("AWS_ENDPOINT", "AWS_PROFILE", "AWS_SESSION"))]:
        monkeypatch.delenv(name)
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    driver = fsspec.get_filesystem_class("s3")
    driver.clear_instance_cache()  # cached drivers keep the endpoint of another environment
    try:
        yield store
    finally:
        store.proxy.close()
        driver.clear_instance_cache()
