"""A web server with faulty responses, in its own process: `python -m tests.faults.servers`."""

import contextlib
import gzip
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.faults.corpus import gzip_bomb, jpeg

__all__ = ["RESPONSES", "server_process"]

RESPONSES: dict[str, tuple[str, str]] = {
    "good.jpg": ("ok", ""),
    "g%C3%A4laxy%20%23%3F.jpg": ("ok", ""),
    "page.jpg": ("unreadable", "not an image.*<html>"),
    "json.jpg": ("unreadable", "not an image.*error"),
    "empty.jpg": ("unreadable", "empty file"),
    "204.jpg": ("unreadable", "empty file"),
    "304.jpg": ("unreadable", "empty file"),
    "416.jpg": ("unreadable", "empty file"),
    "404.jpg": ("missing", "no such file"),
    "410.jpg": ("missing", "no such file"),
    "401.jpg": ("unreachable", "ClientResponseError"),
    "403.jpg": ("unreachable", "ClientResponseError"),
    "500.jpg": ("unreachable", "ClientResponseError"),
    "503.jpg": ("unreachable", "ClientResponseError"),
    "claims-10-gb.jpg": ("unreachable", "ClientPayloadError"),
    "sends-10-gb.jpg": ("too_large", "more than [0-9]+ bytes"),
    "endless-chunks.jpg": ("too_large", "more than [0-9]+ bytes"),
    "broken-chunks.jpg": ("unreachable", "Error"),
    "drip.jpg": ("unreachable", "TimeoutError"),
    "silence.jpg": ("unreachable", "Timeout|Disconnected"),
    "reset.jpg": ("unreachable", "Client.*Error"),
    "truncated.jpg": ("unreachable", "ClientPayloadError"),
    "circle.jpg": ("unreachable", "TooManyRedirects"),
    "to-a-file.jpg": ("unreachable", "RedirectClientError"),
    "to-nowhere.jpg": ("unreachable", "Error"),
    "to-good.jpg": ("ok", ""),
    "gzip.jpg": ("ok", ""),
    "gzip-bomb.jpg": ("too_large", "more than [0-9]+ bytes"),
    "no-http.jpg": ("unreachable", "Error"),
    "header-flood.jpg": ("unreachable", "Error"),
    "wrong-range.jpg": ("ok", ""),
}
"""Status of the cutout at each path, and pattern of its error."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        with contextlib.suppress(ConnectionError):
            if re.fullmatch(r"\d{3}\.jpg", name):
                self.respond(b"", int(name[:3]))
            else:
                getattr(self, name.partition(".")[0].replace("-", "_"), self.good)()

    def respond(self, body: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body) if length is None else length), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def good(self) -> None:
        self.respond(jpeg())

    def page(self) -> None:
        self.respond(b"<html><h1>Sorry</h1></html>", Content_Type="image/jpeg")

    def json(self) -> None:
        self.respond(b'{"error": "no such cutout"}', Content_Type="application/json")

    def empty(self) -> None:
        self.respond(b"")

    def claims_10_gb(self) -> None:
        self.respond(jpeg(), length=10**10)

    def sends_10_gb(self) -> None:
        self.respond(b"", length=10**10)
        while True:
            self.wfile.write(bytes(1 << 20))

    def endless_chunks(self) -> None:
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            self.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    def broken_chunks(self) -> None:
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"4\r\nabcd\r\nfour bytes\r\n")

    def drip(self) -> None:
        self.respond(b"", length=10**6)
        while True:
            self.wfile.write(b"x")
            time.sleep(0.2)

    def silence(self) -> None:
        time.sleep(100)

    def reset(self) -> None:
        self.respond(jpeg()[:500], length=len(jpeg()))
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def truncated(self) -> None:
        self.respond(jpeg()[:500], length=len(jpeg()))

    def circle(self) -> None:
        self.respond(b"", 302, Location="/circle.jpg")

    def to_a_file(self) -> None:
        self.respond(b"", 302, Location="file:///etc/hostname")

    def to_nowhere(self) -> None:
        self.respond(b"", 302, Location="http://127.0.0.1:9/x.jpg")

    def to_good(self) -> None:
        self.respond(b"", 307, Location="/good.jpg")

    def gzip(self) -> None:
        self.respond(gzip.compress(jpeg()), Content_Encoding="gzip")

    def gzip_bomb(self) -> None:
        self.respond(gzip_bomb(64), Content_Encoding="gzip")

    def no_http(self) -> None:
        self.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")

    def header_flood(self) -> None:
        self.respond(jpeg(), X_Flood="x" * 1_000_000)

    def wrong_range(self) -> None:
        self.respond(jpeg(), 206, Content_Range="bytes 99-98/7")

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def server_process() -> Iterator[str]:
    """Run the server; gives its address."""
    command = [sys.executable, "-m", "tests.faults.servers"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent.parent) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


if __name__ == "__main__":
    gzip_bomb(64)  # cached, before the first request
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        sys.stdout.write(f"{server.server_port}\n")
        sys.stdout.flush()
        server.serve_forever()
