"""A stand-in for the Hugging Face hub on loopback: dataset repositories, LFS and Xet storage, with recorded requests.

It answers what huggingface_hub 2 asks when a dataset is shared. Contents that come through LFS are kept and checked;
of those that come through Xet it keeps the names, sizes and SHA-256 that the uploaded shards list.
"""

import base64
import contextlib
import hashlib
import json
import os
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

__all__ = ["TOKEN", "HubServer", "hub"]

TOKEN = "hf_testsonly0000000000000000000000"
_LARGE = (".parquet", ".pq", ".safetensors", ".fits")
_PAGE = 20  # entries of a page of the tree; 1,000 on the hub
_PART = 40_000  # bytes of a part of a large file; larger ones come in several
_LICENSES = ("cc-by-4.0", "cc0-1.0", "mit", "bsd-3-clause", "apache-2.0")
_SIZES = {"n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B"}
_GITATTRIBUTES = b"*.parquet filter=lfs diff=lfs merge=lfs -text\n"


@dataclass(frozen=True)
class HubFile:
    """A file of a repository."""

    size: int
    oid: str
    """Git's hash of the content, or of the pointer to it."""
    sha256: str | None
    """Of a large file; None for one that is in git itself."""


@dataclass
class Repository:
    """A dataset repository."""

    private: bool
    files: dict[str, HubFile] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)
    """Paths that each commit has added."""


class HubServer:
    """The running server."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.contents: dict[str, bytes] = {}
        """By SHA-256, or by git's hash."""
        self.in_shards: list[bytes] = []
        """Bodies of the shards that came through Xet."""
        self.xet_bytes = 0
        self.requests: list[tuple[str, str]] = []
        """Method and path of each request."""
        self.before: Callable[[str, str], object] = lambda method, path: None
        """Called with method and path before a request is answered; what it returns, unless None, is the status."""
        self.altered: set[str] = set()
        """Paths of which the hub keeps another content than was sent."""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.daemon_threads = True
        self.server.hub = self  # type: ignore[attr-defined]
        self.lock = threading.Lock()
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """Address and credentials as environment variables of huggingface_hub."""
        return {"HF_ENDPOINT": self.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_TELEMETRY": "1"}

    def asked(self, method: str, part: str) -> int:
        """How many requests of this method had this in their path."""
        return sum(m == method and part in path for m, path in self.requests)

    def content(self, repository: str, path: str) -> bytes:
        file = self.repositories[repository].files[path]
        return self.contents[file.sha256 or file.oid]

    def add(self, repository: str, path: str, content: bytes) -> None:
        """Put a small file into a repository, as its owner does on its page."""
        self.contents[_git_hash(content)] = content
        self.repositories[repository].files[path] = HubFile(len(content), _git_hash(content), None)


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def hub(self) -> HubServer:
        return self.server.hub  # type: ignore[attr-defined, no-any-return]

    def _serve(self) -> None:
        body = self._body()
        address = urllib.parse.urlsplit(self.path)
        path, query = urllib.parse.unquote(address.path), dict(urllib.parse.parse_qsl(address.query))
        with contextlib.suppress(ConnectionError), self.hub.lock:
            self.hub.requests.append((self.command, path))
        with contextlib.suppress(ConnectionError):
            status = self.hub.before(self.command, path)
            if isinstance(status, int):
                self._send(status, {"error": "a fault of the test"})
                return
            if path.startswith(("/api/", "/datasets/")) and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._send(401, {"error": "Invalid username or password."})
                return
            self._route(path, query, body)

    do_GET = do_POST = do_PUT = do_HEAD = _serve  # noqa: N815

    def _route(self, path: str, query: dict[str, str], body: bytes) -> None:
        hub, parts = self.hub, path.strip("/").split("/")
        if path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._validate(json.loads(body)["content"])
        elif path.startswith("/lfs/"):
            self._lfs(parts[1:], query, body)
        elif path.startswith(("/v1/", "/v2/", "/cas/")):
            self._xet(path, body)
        else:
            name = "/".join(parts[2:4] if parts[0] == "api" else parts[1:3]).removesuffix(".git")
            repository = hub.repositories.get(name)
            if repository is None:
                self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            elif parts[0] == "api":
                getattr(self, f"_{parts[4].replace('-', '_')}")(repository, parts, query, body)
            elif path.endswith(".git/info/lfs/objects/batch"):
                self._batch(json.loads(body))
            elif parts[3] == "resolve":
                self._resolve(repository, "/".join(parts[5:]))
            else:
                self._send(404, {"error": path})

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        with self.hub.lock:
            is_new = name not in self.hub.repositories
            if is_new:
                self.hub.repositories[name] = Repository(wanted.get("visibility") == "private")
                self.hub.add(name, ".gitattributes", _GITATTRIBUTES)
        url = f"{self.hub.url}/datasets/{name}"
        self._send(200 if is_new else 409, {"url": url, "name": name, "error": "You already created this repo"})

    def _validate(self, card: str) -> None:
        """Refuse the front matter of a card that cannot be read, or names a licence or a size that is unknown."""
        errors = []
        try:
            entries = yaml.safe_load(card.split("---\n")[1]) if card.startswith("---\n") else {}
            if entries.get("license", "other") not in (*_LICENSES, "other"):
                errors.append({"message": f"license {entries['license']} is unknown"})
            if not set(entries.get("size_categories", ())) <= _SIZES:
                errors.append({"message": f"size_categories {entries['size_categories']} are unknown"})
        except yaml.YAMLError as error:
            errors.append({"message": str(error)})
        self._send(400 if errors else 200, {"errors": errors, "warnings": []})

    def _tree(self, repository: Repository, parts: list[str], query: dict[str, str], body: bytes) -> None:
        names, start = sorted(repository.files), int(query.get("cursor", 0))
        entries = []
        for name in names[start : start + _PAGE]:
            file = repository.files[name]
            entry: dict[str, Any] = {"type": "file", "path": name, "size": file.size, "oid": file.oid}
            if file.sha256:
                entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
            entries.append(entry)
        address = urllib.parse.urlunsplit(("", "", self.path.partition("?")[0], "", ""))
        more = urllib.parse.urlencode({**query, "cursor": start + _PAGE})
        link = {"Link": f'<{self.hub.url}{address}?{more}>; rel="next"'} if start + _PAGE < len(names) else {}
        self._send(200, entries, link)

    def _preupload(self, repository: Repository, parts: list[str], query: dict[str, str], body: bytes) -> None:
        files = []
        for file in json.loads(body)["files"]:
            is_large = file["path"].endswith(_LARGE) or b"\0" in base64.b64decode(file["sample"])
            there = repository.files.get(file["path"])
            mode = "lfs" if is_large else "regular"
            oid = there and (there.sha256 or there.oid)
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._send(200, {"files": files})

    def _commit(self, repository: Repository, parts: list[str], query: dict[str, str], body: bytes) -> None:
        added = {}
        for line in map(json.loads, body.splitlines()):
            entry = line["value"]
            if line["key"] == "file":
                content = base64.b64decode(entry["content"])
                content = content + b"altered" if entry["path"] in self.hub.altered else content
                self.hub.contents[_git_hash(content)] = content
                added[entry["path"]] = HubFile(len(content), _git_hash(content), None)
            elif line["key"] == "lfsFile":
                if not self._has(entry["oid"]):
                    self._send(400, {"error": f"{entry['path']}: its content was not uploaded"})
                    return
                oid = hashlib.sha1(entry["oid"].encode()).hexdigest()
                sha256 = "0" * 64 if entry["path"] in self.hub.altered else entry["oid"]
                added[entry["path"]] = HubFile(entry["size"], oid, sha256)
        with self.hub.lock:
            repository.files |= added
            repository.commits.append(sorted(added))
            number = f"{len(repository.commits):040x}"
        address = f"{self.hub.url}/datasets/{'/'.join(parts[2:4])}/commit/{number}"
        self._send(200, {"commitUrl": address, "commitOid": number, "success": True})

    def _has(self, sha256: str) -> bool:
        if sha256 in self.hub.contents:
            return True
        words = [int(sha256[start : start + 16], 16).to_bytes(8, "little") for start in range(0, 64, 16)]
        return any(b"".join(words) in shard or bytes.fromhex(sha256) in shard for shard in self.hub.in_shards)

    def _batch(self, wanted: dict[str, Any]) -> None:
        """Git LFS batch API, with the parts of large files that the hub adds."""
        objects = []
        for item in wanted["objects"]:
            oid, size = item["oid"], item["size"]
            entry: dict[str, Any] = {"oid": oid, "size": size}
            if not self._has(oid):
                href, header = f"{self.hub.url}/lfs/{oid}", {}
                if size > _PART:
                    count = -(-size // _PART)
                    header = {f"{part:05d}": f"{href}?part={part}" for part in range(1, count + 1)}
                    header["chunk_size"] = str(_PART)
                entry["actions"] = {"upload": {"href": href, "header": header}}
            objects.append(entry)
        self._send(200, {"objects": objects, "transfer": "multipart"})

    def _lfs(self, parts: list[str], query: dict[str, str], body: bytes) -> None:
        oid = parts[0]
        if "part" in query:
            self.hub.contents[f"{oid}/{int(query['part']):05d}"] = body
            self._send(200, {}, {"ETag": hashlib.md5(body).hexdigest()})
            return
        if self.command == "POST":
            names = [f"{oid}/{part['partNumber']:05d}" for part in json.loads(body)["parts"]]
            body = b"".join(self.hub.contents.pop(name) for name in names)
        if hashlib.sha256(body).hexdigest() != oid:
            self._send(400, {"error": "sha256 does not match"})
            return
        self.hub.contents[oid] = body
        self._send(200, {})

    def _resolve(self, repository: Repository, path: str) -> None:
        file = repository.files.get(path)
        if file is None:
            self._send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        content = self.hub.contents[file.sha256 or file.oid]
        headers = {"ETag": f'"{file.oid}"', "X-Repo-Commit": "0" * 40}
        self._send(200, content, headers)

    def _xet_write_token(self, repository: Repository, parts: list[str], query: dict[str, str], body: bytes) -> None:
        token = {"accessToken": "xet", "exp": int(time.time()) + 3600, "casUrl": self.hub.url}
        headers = {
            "X-Xet-Cas-Url": self.hub.url,
            "X-Xet-Access-Token": "xet",
            "X-Xet-Token-Expiration": str(token["exp"]),
        }
        self._send(200, token, headers)

    def _xet(self, path: str, body: bytes) -> None:
        """Xet's storage: it takes every block of chunks, and knows no chunk that could be left out."""
        if self.command == "GET" or not path.startswith(("/v1/xorbs/", "/v1/shards")):
            self._send(404, {"error": "no such chunk, or a newer protocol"})
        elif "shard" in path:
            self.hub.in_shards.append(body)
            self._send(200, {"result": 1})
        else:
            self.hub.xet_bytes += len(body)
            self._send(200, {"was_inserted": True})

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response_only(status)
        self.send_header(
            "Content-Type", "application/octet-stream" if isinstance(content, bytes) else "application/json"
        )
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Print nothing: requests are in `HubServer.requests`."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A stand-in for the hub, with address and credentials in the environment."""
    pytest.importorskip("huggingface_hub")
    server = HubServer()
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    try:
        yield server
    finally:
        server.server.shutdown()
        server.server.server_close()
