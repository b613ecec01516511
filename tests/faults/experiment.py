"""A fault experiment: start the job, inject a fault at chosen moments, run again, and check the catalog."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from galaxy_batch.catalog.manifest import CatalogManifest, read_manifest
from galaxy_batch.catalog.verify import verify_catalog
from tests.support.repository import REPOSITORY
from tests.support.s3_server import S3, Request
from tests.support.skies import read_catalog

__all__ = ["CHUNK_ROWS", "CONFIG", "RECORDS", "Ended", "Experiment", "Job", "Record", "table_of"]

CHUNK_ROWS = 8
CONFIG = f"""
release = "made-up"
output_uri = "{{output}}"
checkpoint_uri = "{{checkpoint}}"
max_failed_fraction = 0.5
[manifest]
uri = "{{manifest}}"
ra_column = "ra"
dec_column = "dec"
uri_template = "images/{{{{object_id}}}}.jpg"
[classify]
chunk_rows = {CHUNK_ROWS}
[publish]
max_rows = 70
[runtime]
num_cpus = 2
engine = "torch"
batch_size = {CHUNK_ROWS}
"""


@dataclass(frozen=True)
class Record:
    """One line of the table of results."""

    fault: str
    times: int
    lost: int
    doubled: int
    written_again: int
    """Number of parts uploaded more than once."""
    read_again: int
    """Number of chunks fetched more than once."""
    ended: str
    """Exit codes of the runs in order."""


RECORDS: list[Record] = []
_LIST_EVERY_S = 5.0  # interval of listing the job's processes, which takes time
_NEW_RUN = Request("RUN", "", "", None, "passed")


def table_of(records: Sequence[Record]) -> list[str]:
    """Format the records as a table."""
    head = (
        "fault",
        "times injected",
        "rows lost",
        "rows doubled",
        "parts written again",
        "chunks read again",
        "runs ended with",
    )
    rows = [head, *(tuple(str(value) for value in vars(record).values()) for record in records)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]


@dataclass(frozen=True)
class Ended:
    """Result of a run."""

    code: int
    summary: dict[str, Any] | None
    stderr: str


class Job:
    """A command as a process, with its child processes (Ray and its workers)."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, name: str, cwd: Path = REPOSITORY,
        enter: Sequence[str] = (),
    ) -> None:  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        self._output = [folder / f"{name}.{stream}" for stream in ("stdout", "stderr")]
        self._seen: set[psutil.Process] = set()
        self._mark = uuid.uuid4().hex
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "AWS_"))}
        with self._output[0].open("w") as stdout, self._output[1].open("w") as stderr:
            self.process = subprocess.Popen(
                [*enter, sys.executable, *command],
                cwd=cwd,
                env={**inherited, **environment, "STARTED_BY_TEST": self._mark},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    def processes(self, title: str = "") -> list[psutil.Process]:
        """Descendants of the process whose command line contains `title`."""
        self._seen.update(_offspring(self.process.pid, self._mark))
        return [process for process in self._seen if title in _title(process)]

    def kill_worker(self, title: str, rng: random.Random, killed: list[int]) -> None:
        """`kill -9` a worker with `title` in its command line; its process id is appended to `killed`."""
        deadline = time.monotonic() + 20
        while not (workers := sorted(self.processes(title), key=lambda process: process.pid)):
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
        victim = rng.choice(workers)
        victim.kill()
        killed.append(victim.pid)

    def kill_driver(self) -> None:
        """`kill -9` the driver."""
        self.processes()
        self.process.send_signal(signal.SIGKILL)

    def stderr(self) -> str:
        """Its stderr so far."""
        return self._output[1].read_text()

    def end(self, timeout_s: float = 240) -> Ended:
        """Wait for the end of the command."""
        try:
            deadline = time.monotonic() + timeout_s
            while self.process.poll() is None:
                assert time.monotonic() < deadline, "the job hangs:\n" + self.stderr()[-4000:]
                self.processes()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(_LIST_EVERY_S)
        finally:
            self.process.kill()
            self.process.wait()
        stdout, stderr = (file.read_text() for file in self._output)
        lines = stdout.splitlines()
        return Ended(self.process.returncode, json.loads(lines[-1]) if lines else None, stderr)

    def kill_all(self) -> None:
        """Kill its remaining processes."""
        self.process.kill()
        for process in self._seen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(self._seen, timeout=20)


def _offspring(pid: int, mark: str) -> set[psutil.Process]:
    """Processes with the mark in their environment, and their children: a process title overwrites the environment."""
    descendants: dict[int, psutil.Process] = {}
    for process in sorted(psutil.process_iter(), key=lambda process: process.pid):
        with contextlib.suppress(psutil.Error):
            if process.ppid() in descendants or process.environ().get("STARTED_BY_TEST") == mark:
                descendants[process.pid] = process
    return {process for process in descendants.values() if process.pid != pid}


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@dataclass
class Experiment:
    """One survey and one output on an object store."""

    store: S3
    name: str
    folder: Path
    """Local folder for configs and logs."""
    checkpoint_uri: str
    ids: list[int]
    undisturbed: pa.Table | None
    """The expected rows; not compared if None."""
    endpoint: str | None = None
    """Endpoint of the store for the job. When not given, the proxy."""
    jobs: list[Job] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)

    @property
    def output_uri(self) -> str:
        return f"{self.store.uri}/{self.name}"

    @property
    def chunks(self) -> int:
        return -(-len(self.ids) // CHUNK_ROWS)

    @property
    def catalog_uri(self) -> str:
        return f"{self.output_uri}/release=made-up/model={self.model_id}/catalog"

    @property
    def model_id(self) -> str:
        from galaxy_batch.model.checkpoint import read_checkpoint

        return read_checkpoint(self.checkpoint_uri).checkpoint.checkpoint_id

    def config(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "catalog.toml"
        manifest = f"{self.store.uri}/survey/objects.csv"
        file.write_text(CONFIG.format(output=self.output_uri, checkpoint=self.checkpoint_uri, manifest=manifest))
        return file

    def start(self, *overrides: str, environment: Mapping[str, str] | None = None) -> Job:
        """Start the job."""
        words = [word for override in overrides for word in ("--set", override)]
        store = {**self.store.environment, **({"AWS_ENDPOINT_URL": self.endpoint} if self.endpoint else {})}
        self.store.proxy.requests.append(_NEW_RUN)
        job = Job(
            ["-m", "jobs.build_catalog", str(self.config()), *words],
            {**store, **(environment or {})}, self.folder, f"run{len(self.jobs)}",
        )  # fmt: skip
        self.jobs.append(job)
        return job

    def finish(self, job: Job, timeout_s: float = 240) -> Ended:
        """Wait for the end of a run. Exit code 0 needs a catalog; a catalog that exists must verify."""
        ended = job.end(timeout_s)
        self.ended.append(ended.code)
        if read_manifest(self.catalog_uri) is None:
            assert ended.code != 0, ended.stderr
        else:
            assert verify_catalog(self.catalog_uri) == []
        if ended.code == 0:
            assert read_manifest(self.catalog_uri) is not None
        return ended

    def run(self, *overrides: str) -> Ended:
        """Start a run and wait for its end."""
        return self.finish(self.start(*overrides))

    def verify(self) -> Ended:
        """Run `jobs.verify_catalog`."""
        job = Job(["-m", "jobs.verify_catalog", self.catalog_uri], self.store.environment, self.folder, "verify")
        self.jobs.append(job)
        return job.end(120)

    def parts(self) -> set[str]:
        """Names of the existing parts."""
        return {name.rpartition("/")[2] for name in self._names() if "/parts/" in name}

    def cutouts_read(self) -> Counter[int]:
        """How often each cutout was read for classification, without reads for the release page."""
        reads, classifying = Counter[int](), True
        for request in self.store.proxy.requests:
            if request == _NEW_RUN or "/exchange/" in request.path:
                classifying = request == _NEW_RUN
            elif classifying and request.method == "GET" and "survey/images/" in request.path:
                reads[int(request.path.rpartition("/")[2].removesuffix(".jpg"))] += request.response in (
                    "passed",
                    "slow",
                )
        return reads

    def rows(self) -> pa.Table:
        """All rows of the published catalog."""
        local = self.folder / "catalog"
        shutil.rmtree(local, ignore_errors=True)
        self.store.direct.get(self.catalog_uri.removeprefix("s3://"), str(local), recursive=True)
        return read_catalog(local)

    def check(self, fault: str, times: int) -> Record:
        """Check the result of an experiment and record it.

        The catalog has each id of the manifest once, with the values of the undisturbed run; no other files exist.
        """
        assert times > 0, f"{fault}: nothing was injected"
        manifest = read_manifest(self.catalog_uri)
        assert manifest is not None, f"{fault}: no catalog"
        assert verify_catalog(self.catalog_uri) == []
        rows = self.rows()
        ids = rows["object_id"].to_pylist()
        puts, read = self.store.proxy.reached(f"{self.name}/", "PUT"), self.cutouts_read()
        record = Record(
            fault, times,
            lost=len(set(self.ids) - set(ids)),
            doubled=len(ids) - len(set(ids)),
            written_again=sum(count - 1 for path, count in puts.items() if "/parts/" in path),
            read_again=sum(max(0, read[galaxy] - 1) for galaxy in self.ids[::CHUNK_ROWS]),
            ended=", ".join(map(str, self.ended)),
        )  # fmt: skip
        RECORDS.append(record)
        assert (record.lost, record.doubled) == (0, 0)
        assert sorted(ids) == sorted(self.ids)
        assert manifest.rows == manifest.manifest_rows == len(self.ids)
        if self.undisturbed is not None:
            wrong = [name for name in rows.column_names if not rows[name].equals(self.undisturbed[name])]
            assert not wrong, f"{fault}: other values in {wrong}"
            assert rows.schema.equals(self.undisturbed.schema)
        self._check_nothing_else(manifest)
        return record

    def _check_nothing_else(self, manifest: CatalogManifest) -> None:
        listed = {file.path for file in (*manifest.files, *manifest.metadata_files)} | {"manifest.json"}
        root = self.catalog_uri.removeprefix(f"{self.store.uri}/").removesuffix("catalog")
        below = {name.removeprefix(root) for name in self._names()}
        published = {name.removeprefix("catalog/") for name in below if name.startswith("catalog/")}
        assert published == listed, published ^ listed
        beside = manifest.beside
        collection = {file.path for file in (*beside.margin, *beside.index, *beside.others)}
        assert collection <= below, collection - below
        others = {name for name in below if not name.startswith(("catalog/", "runs/", "report/"))} - collection
        parts = {f"parts/{manifest.fingerprint}/part-{chunk:06d}.parquet" for chunk in range(self.chunks)}
        finished = {name.replace("-missing", "") for name in others if "-unreachable" not in name}
        assert finished == parts, finished ^ parts

    def _names(self) -> list[str]:
        self.store.direct.invalidate_cache()
        return [name for name in self.store.names() if name.startswith(f"{self.name}/")]

    def close(self) -> None:
        for job in self.jobs:
            job.kill_all()
