"""A stand-in for Zooniverse's API on loopback, in a process of its own, which fails now and then.

    python -m tests.support.panoptes_server PORT

Paths and content as https://github.com/zooniverse/panoptes has them. `POST /faults` sets which faults occur, and
`GET /state` gives everything that was created. A subject that is linked twice appears twice.
"""

import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.repository import REPOSITORY

USER, PASSWORD, PROJECT = "an-astronomer", "correct horse battery", 1234
PAGE = 7


class _State:
    """What the server has."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sets: dict[str, dict[str, Any]] = {}
        self.subjects: dict[str, dict[str, Any]] = {}
        self.members: list[tuple[str, str]] = []
        self.media: dict[str, int] = {}
        self.faults: dict[str, Any] = {}
        self.rng = random.Random(0)
        self.failed = 0
        self.signed_in = 0

    def as_json(self) -> dict[str, Any]:
        names = ("sets", "subjects", "members", "media", "failed", "signed_in")
        return {name: getattr(self, name) for name in names}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: _State

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(address.query))
        state = self.state
        if address.path == "/state":
            with state.lock:
                self._send(200, state.as_json())
            return
        if address.path == "/faults":
            state.faults = json.loads(body)
            self._send(200, {})
            return
        fault = self._fault(address.path)
        if fault in ("500", "504"):
            self._send(int(fault), {"errors": [{"message": "a fault of the test"}]})
        elif fault == "drop":
            self._reset()
        else:
            time.sleep(state.faults.get("slow_s", 0))
            with state.lock:
                status, content, headers = self._respond(address.path, query, body)
            if fault == "lost":
                self._reset()
            elif fault == "late 500":
                self._send(500, {})
            else:
                self._send(status, content, headers)

    do_GET = do_POST = do_PUT = _serve  # noqa: N815

    def _fault(self, path: str) -> str | None:
        state = self.state
        with state.lock:
            for part, fault in state.faults.get("always", {}).items():
                if part in path:
                    return str(fault)
            if state.rng.random() >= state.faults.get("share", 0.0):
                return None
            state.failed += 1
            return state.rng.choice(["500", "504", "drop", "lost", "late 500"])

    def _respond(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        state = self.state
        if path == "/users/sign_in":
            if self.command == "GET":
                return 200, {}, {"x-csrf-token": "token"}
            user = json.loads(body)["user"]
            if (user["login"], user["password"]) != (USER, PASSWORD):
                return 401, {"error": "Invalid email or password."}, {}
            state.signed_in += 1
            return 200, {"users": [{"id": "1"}]}, {}
        if path == "/oauth/token":
            return 200, {"access_token": "secret-bearer", "refresh_token": "again", "expires_in": 7200}, {}
        if path.startswith("/media/"):
            state.media[path.removeprefix("/media/")] = len(body)
            return (415, {}, {}) if body.startswith(b"\xff\xd8\xffrefused") else (201, {}, {})
        if self.headers.get("Authorization") != "Bearer secret-bearer":
            return 401, {"errors": [{"message": "You must be logged in"}]}, {}
        return (*self._api(path.removeprefix("/api"), query, body), {})

    def _api(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        state, name = self.state, path.split("/")[1]
        content = json.loads(body) if body else {}
        if name == "projects":
            known = path == f"/projects/{PROJECT}"
            return (200, {"projects": [{"id": str(PROJECT), "display_name": "Galaxies"}]}) if known else (
                404, {"errors": [{"message": "Could not find project"}]})  # fmt: skip
        if path.endswith("/links/subjects"):
            owner = path.split("/")[2]
            if owner not in state.sets or not set(content["subjects"]) <= state.subjects.keys():
                return 404, {"errors": [{"message": "Could not find it"}]}
            state.members += [(owner, subject) for subject in content["subjects"]]
            return 200, {"subject_sets": [{"id": owner}]}
        if self.command == "POST":
            one = content[name]
            number = str(len(state.sets) + len(state.subjects) + 1)
            if name == "subjects":
                kinds = one["locations"]
                host = f"http://{self.headers['Host']}"
                state.subjects[number] = one
                return 201, {name: [{**one, "id": number, "locations": [{kinds[0]: f"{host}/media/{number}"}]}]}
            state.sets[number] = one
            return 201, {name: [{**one, "id": number}]}
        return 200, self._page(name, self._listed(name, query), int(query.get("page", 1)))

    def _listed(self, name: str, query: dict[str, str]) -> list[dict[str, Any]]:
        state = self.state
        if name == "subject_sets":
            return [{**one, "id": number} for number, one in state.sets.items()]
        members = [subject for owner, subject in state.members if owner == query["subject_set_id"]]
        if name == "subjects":
            return [{**state.subjects[subject], "id": subject} for subject in members]
        wanted = query["subject_id"].split(",")
        return [{"links": {"subject": subject}} for subject in members if subject in wanted]

    def _page(self, name: str, resources: list[dict[str, Any]], page: int) -> dict[str, Any]:
        pages = max(1, -(-len(resources) // PAGE))
        return {
            name: resources[(page - 1) * PAGE : page * PAGE],
            "meta": {name: {"page": page, "page_count": pages, "count": len(resources)}},
        }

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        text = json.dumps(content).encode()
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(text)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the connection may be closed already
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Print nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class PanoptesServer:
    """The running server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/state", timeout=30) as response:
            state: dict[str, Any] = json.load(response)
        return state

    def fail(self, **faults: Any) -> None:
        """Which faults occur: `share` of all requests, `always` by part of the path, `slow_s` for each."""
        urllib.request.urlopen(f"{self.url}/faults", json.dumps(faults).encode(), timeout=30).close()

    def linked(self) -> list[str]:
        """Ids of the objects in subject sets, one for each link."""
        state = self.state()
        return [state["subjects"][subject]["metadata"]["object_id"] for _, subject in state["members"]]


@pytest.fixture
def panoptes(monkeypatch: pytest.MonkeyPatch) -> Iterator[PanoptesServer]:
    """A stand-in for Zooniverse, with endpoint and credentials in the environment."""
    pytest.importorskip("panoptes_client")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "tests.support.panoptes_server", str(port)], cwd=REPOSITORY)
    server = PanoptesServer(f"http://127.0.0.1:{port}")
    try:
        for _ in range(300):
            assert process.poll() is None, "the stand-in did not start"
            try:
                server.state()
                break
            except OSError:
                time.sleep(0.1)
        for name in [name for name in os.environ if name.startswith("PANOPTES_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PANOPTES_ENDPOINT", server.url)
        monkeypatch.setenv("PANOPTES_USERNAME", USER)
        monkeypatch.setenv("PANOPTES_PASSWORD", PASSWORD)
        yield server
    finally:
        process.kill()
        process.wait(20)


if __name__ == "__main__":
    _Handler.state = _State()
    _Server(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever(0.05)
