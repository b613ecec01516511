"""A server of one queue for this machine: shows the page, and writes its verdicts into files of the queue's folder.

It listens on 127.0.0.1 only, and knows the page, the pictures of the queue and `verdicts`; nothing else is served.
Pages of other sites cannot use it through a browser on this machine: the host must be its own, which defeats DNS
rebinding, and verdicts must come as JSON from its own origin, which a browser lets no other site send.

::

    GET  /, /index.html        the page
    GET  /pictures/…           the pictures that the queue names
    GET  /verdicts             {"identity", "verdicts": [{"object_id", "reviewer", "verdict", "time", "shown"}, …]}
    POST /verdicts             the same; a verdict "" takes one back
"""

import csv
import hashlib
import io
import json
import logging
import os
import re
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fsspec.implementations.local import LocalFileSystem

from galaxy_batch.errors import InputError
from galaxy_batch.review_queue.page import PAGE, queue_identity
from galaxy_batch.review_queue.queue import ReviewQueue, read_queue
from galaxy_batch.storage.files import filesystem, write_atomically

__all__ = ["COLUMNS", "QueueServer", "VerdictFiles", "check_servable", "serve_queue"]

logger = logging.getLogger(__name__)

COLUMNS = (
    "object_id", "verdict", "reviewer", "time", "queue", "release", "model_id", "position", "prediction_shown",
)  # fmt: skip
"""Of the files of verdicts, those that the page exports and those that are written here."""

_HOST = "127.0.0.1"
_MAX_BODY_BYTES = 2_000_000
_MAX_NAME = 80  # characters of a reviewer's name
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True)
class _Verdict:
    verdict: str
    """Empty where it was taken back."""
    time: str
    """ISO 8601, UTC, which sorts as text."""
    shown: bool
    """Whether the prediction had been shown."""


class VerdictFiles:
    """The verdicts of a queue, in one `verdicts-<reviewer>.csv` for each reviewer in its folder.

    Args:
        queue: in a local folder.

    Raises:
        InputError: the folder is not local, or a file of verdicts in it is not of this queue.
    """

    def __init__(self, queue: ReviewQueue) -> None:
        check_servable(queue.uri)
        self.folder = Path(filesystem(queue.uri)[1])
        self.queue = queue
        self._positions = {str(object_id): place for place, object_id in enumerate(queue.rows["object_id"].to_pylist())}
        self._verdicts: dict[tuple[str, str], _Verdict] = {}  # by reviewer and object id
        self._lock = threading.Lock()
        for file in sorted(self.folder.glob("verdicts-*.csv")):
            self._read(file)

    def rows(self) -> list[dict[str, Any]]:
        """All verdicts, and those that were taken back since the start."""
        with self._lock:
            return [
                {"object_id": object_id, "reviewer": reviewer, **vars(verdict)}
                for (reviewer, object_id), verdict in self._verdicts.items()
            ]

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Take verdicts over and write the files of their reviewers; an older one never replaces a newer one.

        Raises:
            ValueError: a row is not a verdict of this queue; none of the rows is taken.
        """
        checked = [self._checked(row) for row in rows]
        with self._lock:
            for key, verdict in checked:
                if key not in self._verdicts or verdict.time >= self._verdicts[key].time:
                    self._verdicts[key] = verdict
            for reviewer in {reviewer for (reviewer, _), _ in checked}:
                self._write(reviewer)

    def _checked(self, row: Any) -> tuple[tuple[str, str], _Verdict]:
        try:
            object_id, reviewer, verdict = row["object_id"], row["reviewer"], row["verdict"]
            entry = _Verdict(verdict, row["time"], row["shown"])
        except (KeyError, TypeError):
            raise ValueError("a verdict has object_id, reviewer, verdict, time and shown") from None
        if not isinstance(object_id, str) or object_id not in self._positions:
            raise ValueError(f"object_id {object_id!r} is not in this queue")
        if verdict != "" and verdict not in self.queue.verdicts:
            raise ValueError(f"verdict {verdict!r} is none of {', '.join(self.queue.verdicts)}")
        if not isinstance(reviewer, str) or len(reviewer) > _MAX_NAME or not (reviewer or "-").isprintable():
            raise ValueError(f"reviewer must be text of at most {_MAX_NAME} characters")
        if not isinstance(entry.time, str) or not _TIME.fullmatch(entry.time) or not isinstance(entry.shown, bool):
            raise ValueError("time must be like 2026-11-26T18:00:00Z, and shown true or false")
        return (reviewer, object_id), entry

    def _read(self, file: Path) -> None:
        catalog = self.queue.record["catalog"]
        own = {"queue": self.queue.name, "release": catalog["release"], "model_id": catalog["model_id"]}
        try:
            with file.open(encoding="utf-8-sig", newline="") as lines:
                for row in csv.DictReader(lines, strict=True):
                    if any(row.get(name) != value for name, value in own.items()):
                        raise ValueError("it is of another queue")
                    shown = row.get("prediction_shown") == "yes"
                    key, verdict = self._checked({**row, "shown": shown})
                    if key not in self._verdicts or verdict.time >= self._verdicts[key].time:
                        self._verdicts[key] = verdict
        except (ValueError, csv.Error) as error:
            raise InputError("serve", str(file), f"{error}: move this file elsewhere") from None

    def _write(self, reviewer: str) -> None:
        catalog = self.queue.record["catalog"]
        own = (self.queue.name, catalog["release"], catalog["model_id"])
        mine = [(object_id, v) for (name, object_id), v in self._verdicts.items() if name == reviewer and v.verdict]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for object_id, v in sorted(mine, key=lambda item: self._positions[item[0]]):
            shown = "yes" if v.shown else "no"
            writer.writerow((object_id, v.verdict, reviewer, v.time, *own, self._positions[object_id] + 1, shown))
        write_atomically(str(self.folder / f"verdicts-{_file_name(reviewer)}.csv"), text.getvalue().encode())


def _file_name(reviewer: str) -> str:
    """The reviewer's name as part of a file name, different for different names."""
    if not reviewer:
        return "unnamed"
    plain = re.sub(r"[^a-z0-9]+", "-", reviewer.lower()).strip("-")[:40]
    if plain == reviewer and plain != "unnamed":
        return plain
    return f"{plain or 'reviewer'}-{hashlib.blake2b(reviewer.encode(), digest_size=4).hexdigest()}"


class QueueServer(ThreadingHTTPServer):
    """Serves one queue on 127.0.0.1.

    Args:
        queue: in a local folder, with its page.
        port: 0 for any that is free.

    Raises:
        InputError: as `VerdictFiles`; or the port is taken.
    """

    daemon_threads = True
    allow_reuse_address = os.name == "posix"

    def __init__(self, queue: ReviewQueue, port: int = 0) -> None:
        self.files = VerdictFiles(queue)
        self.identity = queue_identity(queue)
        self.pictures = {path for path in queue.rows["picture"].to_pylist() if path is not None}
        try:
            super().__init__((_HOST, port), _Handler)
        except OSError as error:
            raise InputError("port", port, f"cannot be listened on: {error.strerror}; give another one") from None

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://{_HOST}:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: QueueServer
    server_version, sys_version = "galaxy_batch", ""
    timeout = 60

    def do_GET(self) -> None:
        if not self._is_ours():
            return
        path = urlsplit(self.path).path.removeprefix("/")
        if path == "verdicts":
            body = json.dumps({"identity": self.server.identity, "verdicts": self.server.files.rows()})
            self._answer(HTTPStatus.OK, body.encode(), "application/json")
        elif path in ("", PAGE):
            self._file(PAGE, "text/html; charset=utf-8")
        elif path in self.server.pictures:
            self._file(path, "image/png" if path.endswith(".png") else "image/jpeg")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "not found")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too large, or without a length")
            return
        body = self.rfile.read(int(length))
        if not self._is_ours():
            return
        if self.headers.get("Origin") != f"http://{self.headers['Host']}":
            self._refuse(HTTPStatus.FORBIDDEN, "comes from another page")
        elif self.headers.get_content_type() != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "must be application/json")
        elif urlsplit(self.path).path != "/verdicts":
            self._refuse(HTTPStatus.NOT_FOUND, "not found")
        else:
            self._take(body)

    def _take(self, body: bytes) -> None:
        try:
            content = json.loads(body)
            if not isinstance(content, dict) or content.get("identity") != self.server.identity:
                self._refuse(HTTPStatus.CONFLICT, "this server serves another queue")
                return
            rows = content.get("verdicts")
            if not isinstance(rows, list):
                raise ValueError("verdicts must be a list")
            self.server.files.add(rows)
        except (ValueError, RecursionError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except OSError as error:
            logger.error("verdicts cannot be written: %s", error)
            self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, f"cannot be written: {error.strerror}")
        else:
            self._answer(HTTPStatus.OK, json.dumps({"taken": len(rows)}).encode(), "application/json")

    def _is_ours(self) -> bool:
        port = self.server.server_address[1]
        if self.headers.get("Host") in (f"{_HOST}:{port}", f"localhost:{port}"):
            return True
        self._refuse(HTTPStatus.MISDIRECTED_REQUEST, f"open {self.server.address}")
        return False

    def _file(self, path: str, kind: str) -> None:
        try:
            content = (self.server.files.folder / path).read_bytes()
        except OSError:
            self._refuse(HTTPStatus.NOT_FOUND, "not found")
            return
        self._answer(HTTPStatus.OK, content, kind)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._answer(status, reason.encode(), "text/plain; charset=utf-8")

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=3600, private" if kind.startswith("image/") else "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the standard library
        logger.debug(format, *args)


def check_servable(queue_uri: str) -> None:
    """Check that the folder of a queue can be served.

    Raises:
        InputError: it is not local.
    """
    if not isinstance(filesystem(queue_uri)[0], LocalFileSystem):
        raise InputError("serve", queue_uri, "only a queue in a local folder can be served")


def serve_queue(queue_uri: str, port: int = 0) -> None:
    """Serve a queue until it is interrupted.

    Args:
        queue_uri: its folder, with its page.
        port: 0 for any that is free.

    Raises:
        InputError: there is no queue; or as `QueueServer`.
    """
    queue = read_queue(queue_uri, "name")
    if queue is None:
        raise InputError("name", queue_uri, "no queue is there")
    with QueueServer(queue, port) as server:
        logger.info("review at %s; verdicts are written to %s; stop with Ctrl+C", server.address, queue.uri)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            logger.info("stopped: %d verdicts", sum(bool(row["verdict"]) for row in server.files.rows()))
