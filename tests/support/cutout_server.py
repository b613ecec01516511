"""A cutout service on loopback that counts simultaneous requests and throttles on demand."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

__all__ = ["CutoutServer", "cutout_server"]


class CutoutServer(ThreadingHTTPServer):
    """Responds to each GET with its path and query, or what `answer` makes of these, after `slow_s`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.slow_s = 0.02
        self.answer: Callable[[str], bytes] = str.encode
        self.throttle: list[tuple[int, str]] = []
        """Status and `Retry-After` of the next responses."""
        self.asked: list[tuple[float, str]] = []
        """Monotonic time and path of each request."""
        self.most_at_once = 0
        """Largest number of simultaneous requests."""
        self.lock = threading.Lock()
        self.at_once = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, CutoutServer)
        with server.lock:
            server.asked.append((time.monotonic(), self.path))
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            status, retry_after = server.throttle.pop(0) if server.throttle else (200, None)
        time.sleep(server.slow_s)
        with server.lock:
            server.at_once -= 1
        content = server.answer(self.path)
        self.send_response_only(status)
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Print nothing."""


@pytest.fixture
def cutout_server() -> Iterator[CutoutServer]:
    """A cutout service that stops with the test."""
    pytest.importorskip("aiohttp")
    with CutoutServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()
