"""jobs.submit follows a job across dropped connections, and exits with 0 only for a verified catalog."""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import pty
import re
import secrets
import shlex
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ray.job_submission import JobDetails, JobStatus

from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.config import CatalogConfig
from galaxy_batch.errors import InputError
from galaxy_batch.settings import load_config
from galaxy_batch.synthetic.survey import SurveyFiles
from jobs import cluster_client as submission
from jobs import submit as command
from jobs.cluster_client import LostConnectionError, Submission, UnknownJobError, connect, submit_job
from jobs.submit import UnverifiedError, submit
from tests.support.configs import CATALOG_TOML, FinishedRelease
from tests.support.models import SavedModel
from tests.support.repository import REPOSITORY

PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED = (
    JobStatus.PENDING, JobStatus.RUNNING, JobStatus.STOPPED, JobStatus.SUCCEEDED, JobStatus.FAILED,
)  # fmt: skip
LOG = "".join(f"line {number}\n" for number in range(30))


def details(status: JobStatus, **more: Any) -> JobDetails:
    return JobDetails(type="SUBMISSION", status=status, entrypoint="", **more)


class FakeServer:
    """A job server with prepared responses.

    Args:
        responses: one for each request for the job's state; the last one is repeated. An exception is raised.
        streams: one for each connection to the log: pieces of the log and exceptions.
        log: the whole log.
        on_submit: called when the job is submitted, in place of the job.
    """

    def __init__(
        self,
        responses: Sequence[JobDetails | Exception],
        streams: Sequence[Sequence[str | Exception]] = (),
        log: str = "",
        on_submit: Callable[[], object] = lambda: None,
        jobs: Sequence[JobDetails] = (),
    ) -> None:
        self.responses, self.streams, self.log, self.on_submit = list(responses), list(streams), log, on_submit
        self.jobs, self.submitted, self.stopped = list(jobs), list[dict[str, Any]](), list[str]()

    def list_jobs(self) -> list[JobDetails]:
        return self.jobs

    def submit_job(self, **request: Any) -> str:
        self.submitted.append(request)
        self.on_submit()
        return str(request["submission_id"])

    def get_job_info(self, job_id: str) -> JobDetails:
        if self.stopped:
            return details(STOPPED)
        response = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
        if isinstance(response, Exception):
            raise response
        return response

    def get_job_logs(self, job_id: str) -> str:
        return self.log

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        for piece in self.streams.pop(0) if self.streams else ():
            await asyncio.sleep(0)
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def stop_job(self, job_id: str) -> bool:
        self.stopped.append(job_id)
        return True

    def get_address(self) -> str:
        return "http://127.0.0.1:8265"


def follow(server: FakeServer, patience_s: float = 5.0) -> JobDetails:
    return Submission(server, "job-1", patience_s=patience_s, poll_s=0.005).follow()


# --- following ---


@st.composite
def dropped_streams(draw: st.DrawFn) -> list[list[str | Exception]]:
    """Connections that send the log from its beginning, in any pieces, and end anywhere."""
    streams: list[list[str | Exception]] = []
    for _ in range(draw(st.integers(0, 4))):
        end = draw(st.integers(0, len(LOG)))
        cuts = sorted({0, end, *draw(st.lists(st.integers(0, end), max_size=5))})
        pieces: list[str | Exception] = [LOG[a:b] for a, b in itertools.pairwise(cuts)]
        streams.append([*pieces, *draw(st.sampled_from([[], [ConnectionError("gone")], [RuntimeError("1006")]]))])
    return streams


@given(streams=dropped_streams(), polls=st.integers(1, 12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_log_is_shown_completely_and_once(
    streams: list[list[str | Exception]], polls: int, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    responses: list[JobDetails | Exception] = [details(RUNNING)] * polls
    responses[polls // 2] = ConnectionError("no route")
    assert follow(FakeServer([*responses, details(SUCCEEDED)], streams, LOG)).status == SUCCEEDED
    assert capfd.readouterr().err == LOG


def test_a_silent_log_connection_is_replaced(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submission, "_LOG_TIMEOUT_S", 0.05)
    opened = []

    class HalfOpen(FakeServer):
        async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
            opened.append(job_id)
            yield LOG[: 7 * len(opened)]
            await asyncio.sleep(60)

        def get_job_info(self, job_id: str) -> JobDetails:
            return details(SUCCEEDED if len(opened) > 2 else RUNNING)

    follow(HalfOpen([], log=LOG))
    assert len(opened) >= 3
    assert capfd.readouterr().err == LOG


def test_a_cluster_that_does_not_respond_is_lost_after_the_limit() -> None:
    with pytest.raises(LostConnectionError, match=r"no response about job job-1 for .* s: no route"):
        follow(FakeServer([details(RUNNING), ConnectionError("no route")]), patience_s=0.05)


@pytest.mark.parametrize(
    ("responses", "cause"), [([], "the submission did not arrive"), ([details(RUNNING)], "it was restarted")]
)
def test_a_job_that_the_cluster_does_not_know_is_not_waited_for(responses: list[JobDetails], cause: str) -> None:
    unknown = RuntimeError("Request failed with status code 404: Job job-1 does not exist.")
    with pytest.raises(UnknownJobError, match=f"the cluster does not know job job-1: {cause}"):
        follow(FakeServer([*responses, unknown]), patience_s=0.05)


def test_a_job_that_arrives_late_is_followed() -> None:
    unknown = RuntimeError("Request failed with status code 404: Job job-1 does not exist.")
    assert follow(FakeServer([unknown, unknown, details(SUCCEEDED)])).status == SUCCEEDED


def test_a_missing_log_does_not_hide_the_exit_code(caplog: pytest.LogCaptureFixture) -> None:
    class NoLog(FakeServer):
        def get_job_logs(self, job_id: str) -> str:
            raise RuntimeError("Request failed with status code 500")

    assert follow(NoLog([details(FAILED, driver_exit_code=3)])).driver_exit_code == 3
    assert "the end of the job's log is not available" in caplog.text


# --- submitting ---


def test_a_running_job_is_followed_and_not_submitted_twice() -> None:
    metadata = {"catalog_uri": "s3://b/c", "fingerprint": "f"}
    ended = details(STOPPED, submission_id="ended", metadata=metadata)
    other = details(RUNNING, submission_id="other", metadata={**metadata, "fingerprint": "g"})
    driver = details(RUNNING, submission_id=None, metadata=metadata)
    running = details(RUNNING, submission_id="running", metadata={**metadata, "job_name": "x"})
    server = FakeServer([], jobs=[ended, other, driver, running])
    assert submit_job(server, "python", metadata) == "running"
    assert not server.submitted
    server.jobs.pop()
    assert submit_job(server, "python", metadata) == server.submitted[0]["submission_id"]
    assert server.submitted[0]["metadata"] == metadata


def test_a_lost_response_keeps_the_submission_id_and_a_rejection_is_an_input_error() -> None:
    def lost() -> None:
        raise requests.ConnectionError("reset by peer")

    def rejected() -> None:
        raise RuntimeError("Request failed with status code 400")

    server = FakeServer([], on_submit=lost)
    assert submit_job(server, "python", {}) == server.submitted[0]["submission_id"]
    with pytest.raises(InputError, match="status code 400"):
        submit_job(FakeServer([], on_submit=rejected), "python", {})


def test_a_folder_too_large_for_a_proxy_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rejected() -> None:
        raise RuntimeError("Request failed with status code 413: Request Entity Too Large")

    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.jpg").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"a proxy before it, accepts less\. Largest file: /images/1.jpg"):
        submit_job(FakeServer([], on_submit=rejected), "python", {})


@pytest.mark.parametrize("address", [None, "127.0.0.1:8265", "ray://127.0.0.1:10001", "auto"])
def test_an_address_must_be_a_url(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="give the URL of the cluster's dashboard"):
        connect(address)


@contextlib.contextmanager
def http_server(status: int, body: bytes, token: str | None = None) -> Iterator[str]:
    """A server with one response; if it has a token, only to requests with this token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.headers.get("Authorization")
            self.send_response(status if token is None or sent == f"Bearer {token}" else 403 if sent else 401)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "remedy"),
    [
        (404, b"", "no Ray cluster responds"),
        (200, b"<html>", "no Ray cluster responds"),
        (500, b"{}", "no Ray cluster responds"),
        (200, b"{}", "is not a Ray cluster"),
    ],
)
def test_another_server_is_an_input_error(
    status: int, body: bytes, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{free_port()}")
    with http_server(status, body) as url, pytest.raises(InputError, match=remedy) as caught:
        connect(url)
    assert caught.value.value == url  # the address of the argument, not of the environment


TOKEN_CASES = {
    "none": ({}, "requires a token: set RAY_AUTH_TOKEN to what `ray get-auth-token` prints on its head$"),
    "wrong": ({"RAY_AUTH_TOKEN": "b" * 64}, "has another token than RAY_AUTH_TOKEN: `ray get-auth-token` on its head"),
    "disabled": ({"RAY_AUTH_MODE": "disabled"}, "requires a token, but RAY_AUTH_MODE is disabled: unset it$"),
    "no file": ({"RAY_AUTH_TOKEN_PATH": "/nowhere"}, "the file that RAY_AUTH_TOKEN_PATH names cannot be read$"),
    "right": ({"RAY_AUTH_TOKEN": "a" * 64}, None),
    "of this machine": ({"HOME": "{home}"}, None),
    "mode without token": ({"RAY_AUTH_MODE": "token"}, "requires a token: set RAY_AUTH_TOKEN to what"),
}


@pytest.mark.parametrize("case", TOKEN_CASES)
def test_the_token_of_this_machine_is_used_and_what_is_missing_is_named(case: str, tmp_path: Path) -> None:
    variables, remedy = TOKEN_CASES[case]
    variables = {name: value.format(home=tmp_path / "home") for name, value in variables.items()}
    (tmp_path / "home" / ".ray").mkdir(parents=True)
    (tmp_path / "home" / ".ray" / "auth_token").write_text("a" * 64)
    script = "import sys\nfrom jobs.cluster_client import connect\ntry:\n    connect(sys.argv[1])\n"
    script += "except Exception as error:\n    print(error)\n"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    with http_server(200, b'{"ray_version": "2.60.0", "version": "4"}', "a" * 64) as url:
        process = subprocess.run(
            [sys.executable, "-c", script, url],
            env={**inherited, "HOME": str(tmp_path), **variables},
            cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    assert process.stderr == ""
    if remedy is None:
        assert process.stdout == ""
    else:
        assert re.search(remedy, process.stdout.strip()), process.stdout


def test_a_closed_port_is_an_input_error_and_the_environment_gives_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    with pytest.raises(InputError, match="no Ray cluster responds"):
        connect(f"http://127.0.0.1:{free_port()}")
    with http_server(200, b'{"ray_version": "2.60.0", "version": "4"}') as url:
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", url)
        assert connect(None).get_address() == url


def test_a_missing_job_server_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"install ray\[default\]"):
        connect("http://127.0.0.1:8265")


# --- the command ---


@pytest.fixture(scope="module")
def made(first_release: FinishedRelease) -> Path:
    """Output of a finished job."""
    return Path(first_release.config.output_uri)


def write_config(folder: Path, survey: SurveyFiles, model: SavedModel) -> None:
    text = CATALOG_TOML.format(output="out", checkpoint=model.uri, manifest=survey.manifest)
    (folder / "catalog.toml").write_text(text)


@pytest.fixture
def folder(tmp_path: Path, survey: SurveyFiles, saved_model: SavedModel, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working directory with a config whose `output_uri` is relative."""
    write_config(tmp_path, survey, saved_model)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Submission.__init__, "__defaults__", (0.05, 0.005))
    return tmp_path


def arguments(config: str = "catalog.toml", **more: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"config": config, "set": [], "address": None, "dry_run": False, **more})


def test_a_verified_catalog_is_a_success_and_is_not_submitted_again(folder: Path, made: Path) -> None:
    server = FakeServer(
        [details(PENDING), details(RUNNING), details(SUCCEEDED)],
        on_submit=lambda: shutil.copytree(made, "out", dirs_exist_ok=True),
    )
    summary = submit(arguments(), server)
    assert list(summary) == ["submission_id", "state", "catalog_uri", "rows", "failed", "flagged", "seconds"]
    assert (summary["state"], summary["rows"], summary["failed"]) == ("SUCCEEDED", 40, 4)
    assert summary["submission_id"] == server.submitted[0]["submission_id"]
    assert Path(summary["catalog_uri"]).is_relative_to(folder / "out")
    assert verify_catalog(summary["catalog_uri"]) == []
    again = submit(arguments(), server)
    assert len(server.submitted) == 1
    assert {**again, "seconds": 0} == {
        **summary, "seconds": 0, "submission_id": None, "state": "ALREADY_PUBLISHED",
    }  # fmt: skip


def test_relative_paths_of_the_config_are_valid_in_the_job(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeServer([details(STOPPED)])
    with pytest.raises(UnverifiedError):
        submit(arguments(set=["release=it's new", "release=v2"]), server)
    here = load_config(CatalogConfig, "catalog.toml", ["release=v2"])
    words = shlex.split(server.submitted[0]["entrypoint"])
    assert words[:4] == ["python", "-m", "jobs.build_catalog", "catalog.toml"]
    overrides = [word for flag, word in zip(words[4::2], words[5::2], strict=True) if flag == "--set"]
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copy("catalog.toml", elsewhere)
    monkeypatch.chdir(elsewhere)
    assert load_config(CatalogConfig, words[3], overrides) == here
    assert server.submitted[0]["runtime_env"]["working_dir"] == "."


def test_the_exit_code_of_a_dry_run_is_its_result(folder: Path) -> None:
    server = FakeServer([details(SUCCEEDED)])
    summary = submit(arguments(dry_run=True), server)
    assert (summary["state"], summary["catalog_uri"], summary["rows"]) == ("SUCCEEDED", None, None)
    assert shlex.split(server.submitted[0]["entrypoint"])[-1] == "--dry-run"
    with pytest.raises(UnverifiedError):
        submit(arguments(), FakeServer([details(SUCCEEDED)]))
    real = FakeServer([details(STOPPED)])
    with pytest.raises(UnverifiedError):
        submit(arguments(), real)
    assert "--dry-run" not in real.submitted[0]["entrypoint"]
    dry, run = server.submitted[0]["metadata"], real.submitted[0]["metadata"]
    assert not run.items() <= dry.items(), "a run must not follow a dry run"
    assert not dry.items() <= run.items()
    bad = FakeServer([details(FAILED, driver_exit_code=2, message="bad")])
    with pytest.raises(UnverifiedError) as caught:
        submit(arguments(dry_run=True), bad)
    assert caught.value.exit_code == command.BAD_INPUT


def tampered(made: Path, **changes: Any) -> None:
    shutil.copytree(made, "out", dirs_exist_ok=True)
    (file,) = Path("out").rglob("manifest.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def damaged(made: Path) -> None:
    shutil.copytree(made, "out", dirs_exist_ok=True)
    (file,) = Path("out").rglob("manifest.json")
    rows = file.parent / json.loads(file.read_text())["files"][0]["path"]
    rows.write_bytes(rows.read_bytes()[:-1])


def garbled(made: Path) -> None:
    shutil.copytree(made, "out", dirs_exist_ok=True)
    (file,) = Path("out").rglob("manifest.json")
    file.write_text("{")


@pytest.mark.parametrize(
    ("response", "job", "code", "message"),
    [
        (details(STOPPED), None, command.STOPPED, "the job was stopped. Run this again to resume it"),
        (
            details(FAILED, driver_exit_code=1, message="exit code 1, last available logs (20,000 chars):\nlog"),
            None,
            command.FAILED,
            "the job failed: exit code 1$",
        ),
        (details(FAILED, driver_exit_code=2, message="bad"), None, command.BAD_INPUT, "the job failed: bad"),
        (details(FAILED, driver_exit_code=3, message="gate"), None, command.GATE_FAILED, "the job failed: gate"),
        (details(FAILED, driver_exit_code=-9), None, command.FAILED, "the job failed"),
        (details(FAILED, message="Job supervisor actor died: x"), None, command.FAILED, "supervisor actor died"),
        (ConnectionError("no route"), None, command.LOST, "no route. The job may still run: `ray job logs --follow"),
        (RuntimeError("Job j does not exist"), None, command.LOST, "does not exist"),
        (details(SUCCEEDED), None, command.NO_CATALOG, "the job succeeded, but there is no catalog at"),
        (
            details(SUCCEEDED),
            lambda made: tampered(made, fingerprint="0123456789abcdef"),
            command.NO_CATALOG,
            "was made from another config: fingerprint 0123456789abcdef, not",
        ),
        (
            details(SUCCEEDED),
            lambda made: tampered(made, release="other"),
            command.NO_CATALOG,
            "was made from another config: release other, not made-up",
        ),
        (details(SUCCEEDED), damaged, command.GATE_FAILED, "does not verify: .*parquet"),
        (details(SUCCEEDED), garbled, command.GATE_FAILED, "manifest.json: is damaged"),
    ],
)
def test_each_failure_has_its_exit_code_and_message(
    folder: Path, made: Path, response: JobDetails | Exception, job: Any, code: int, message: str
) -> None:
    server = FakeServer([response], on_submit=(lambda: job(made)) if job else (lambda: None))
    with pytest.raises(UnverifiedError, match=message) as caught:
        submit(arguments(), server)
    assert caught.value.exit_code == code != 0
    summary = caught.value.summary
    assert summary["submission_id"] == server.submitted[0]["submission_id"]
    assert summary["state"] == (str(response.status) if isinstance(response, JobDetails) else None)
    assert [summary[name] for name in ("catalog_uri", "rows", "failed", "flagged")] == [None] * 4
    assert summary["seconds"] >= 0


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        ("nowhere.toml", [], "no such file"),
        ("catalog.toml", ["relase=x"], "did you mean release"),
        ("catalog.toml", ["checkpoint_uri=catalog.toml"], "not a galaxy_batch checkpoint"),
        ("catalog.toml", ["manifest.uri=nowhere.csv"], "no such file"),
        ("ignored.toml", [], "is excluded by .gitignore"),
        ("cluster/catalog.toml", [], "in a folder that is not uploaded"),
        ("../outside.toml", [], "only files in this folder are uploaded"),
    ],
)
def test_input_errors_are_raised_before_anything_is_submitted(
    folder: Path, config: str, overrides: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "checkout" / "cluster").mkdir(parents=True)
    for name in ("catalog.toml", "checkout/catalog.toml", "checkout/ignored.toml", "checkout/cluster/catalog.toml"):
        if name != "catalog.toml":
            shutil.copy("catalog.toml", name)
    shutil.copy("catalog.toml", "outside.toml")
    (folder / "checkout" / ".gitignore").write_text("ignored.toml\n")
    monkeypatch.chdir(folder / "checkout")
    server = FakeServer([])
    with pytest.raises(InputError, match=message):
        submit(arguments(config, set=overrides), server)
    assert not server.submitted


def test_the_help_lists_every_exit_code() -> None:
    assert command.__doc__
    table = re.findall(r"^    (\d+) ", command.__doc__, re.MULTILINE)
    codes = [
        command.FAILED, command.BAD_INPUT, command.GATE_FAILED, command.STOPPED, command.LOST, command.NO_CATALOG,
        command.LEFT_RUNNING,
    ]  # fmt: skip
    assert [int(code) for code in table] == [0, *codes]
    assert len(set(codes)) == len(codes)


# --- Ctrl-C, in processes of their own ---

_ENDLESS_JOB = """
import sys
from ray.job_submission import JobDetails
from jobs import submit

class Server:
    state = "RUNNING"

    def list_jobs(self):
        return []

    def submit_job(self, submission_id, **what):
        return submission_id

    def get_job_info(self, job_id):
        print("asked", file=sys.stderr, flush=True)
        return JobDetails(type="SUBMISSION", status=self.state, entrypoint="")

    def get_job_logs(self, job_id):
        return ""

    async def tail_job_logs(self, job_id):
        for piece in ():
            yield piece

    def stop_job(self, job_id):
        self.state = "STOPPED"

    def get_address(self):
        return "http://127.0.0.1:8265"

submit.connect = lambda address: Server()
sys.exit(submit.main())
"""


def interrupt(folder: Path, answer: bytes | None) -> tuple[int, str, str]:
    """Send SIGINT to a process that follows a job; return exit code, stdout and stderr.

    `answer` is typed at a terminal, an empty one is another SIGINT, and for None there is no terminal.
    """
    terminal, stdin = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _ENDLESS_JOB, "catalog.toml"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL if answer is None else stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if answer is None else stdin,
        text=True,
        start_new_session=True,
    )
    os.close(stdin)
    shown = ""

    def read() -> str:
        if process.stderr is not None:
            return process.stderr.readline()
        try:
            return os.read(terminal, 4096).decode()
        except OSError:  # the terminal's other end is closed
            return ""

    try:
        while "asked" not in shown:
            text = read()
            assert text, shown
            shown += text
        time.sleep(0.5)  # between two requests, so that asyncio does not print a harmless traceback
        process.send_signal(signal.SIGINT)
        while text := read():
            shown += text
            if "[y/N]" in text and answer:
                os.write(terminal, answer)
            elif "[y/N]" in text:
                process.send_signal(signal.SIGINT)
        stdout = process.communicate(timeout=30)[0]
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    return process.returncode, stdout, shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "code", "state", "message"),
    [
        (None, command.LEFT_RUNNING, None, "interrupted. The job may still run"),
        (b"", command.LEFT_RUNNING, None, "interrupted. The job may still run"),
        (b"y\n", command.STOPPED, "STOPPED", "the job was stopped"),
    ],
)
def test_ctrl_c_leaves_the_job_running_or_stops_it(
    folder: Path, answer: bytes | None, code: int, state: str | None, message: str
) -> None:
    returned, stdout, stderr = interrupt(folder, answer)
    assert returned == code, stderr
    assert message in stderr
    assert "Traceback" not in stderr
    summary = json.loads(stdout.splitlines()[-1])
    assert summary["state"] == state
    assert summary["submission_id"] in stderr
    assert ("[y/N]" in stderr) == (answer is not None)


# --- a real cluster ---


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


_TOKEN = secrets.token_hex(32)


def environment() -> dict[str, str]:
    """Environment of the cluster and its clients, without the RAY_ variables of this process."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    path = f"{Path(sys.executable).parent}:{inherited['PATH']}"  # `python` of the job is this interpreter
    return {**inherited, "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _TOKEN}


def request_json(url: str, data: bytes | None = None) -> Any:
    """Response of the cluster's dashboard."""
    request = urllib.request.Request(url, data, {"Authorization": f"Bearer {_TOKEN}"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


@pytest.fixture
def cluster() -> Iterator[str]:
    """URL of a local Ray cluster with two CPUs and a job server."""
    missing = [name for name in ("aiohttp_cors", "grpc", "opencensus", "virtualenv") if find_spec(name) is None]
    if missing:
        pytest.skip(f"ray[default] is not installed: its job server needs {', '.join(missing)}")
    port, agent, client, dashboard = (free_port() for _ in range(4))
    temporary = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # a socket's path must be short
    words = f"""start --head --block --num-cpus=2 --disable-usage-stats --include-dashboard=true
        --dashboard-host=127.0.0.1 --dashboard-port={dashboard} --dashboard-agent-listen-port={agent} --port={port}
        --ray-client-server-port={client} --temp-dir={temporary}"""
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", *words.split()],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{dashboard}"
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                request_json(f"{url}/api/jobs/")
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline, "the cluster did not start"
                time.sleep(0.5)
        yield url
    finally:
        process.terminate()  # stops its child processes
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(40)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def proxy_to(url: str) -> Iterator[tuple[str, Callable[[], int]]]:
    """Proxy of a server: its URL, and a function that closes all its connections and returns their number."""
    port, ends = int(url.rpartition(":")[2]), list[socket.socket]()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as server:
                ends.append(server)
                Thread(target=pump, args=(server, self.request), daemon=True).start()
                pump(self.request, server)
                ends.remove(server)

    def cut() -> int:
        now = list(ends)
        for end in now:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return len(now)

    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as proxy:
        Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_address[1]}", cut
        proxy.shutdown()


class Submitter:
    """`python -m jobs.submit` as a process."""

    def __init__(self, folder: Path, url: str, *overrides: str) -> None:
        words = [word for override in overrides for word in ("--set", override)]
        self._output = [folder.with_name(f"{name}-{time.monotonic_ns()}.txt") for name in ("stdout", "stderr")]
        with self._output[0].open("w") as stdout, self._output[1].open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobs.submit", "catalog.toml", "--address", url, *words],
                cwd=folder, env=environment(), stdout=stdout, stderr=stderr,
            )  # fmt: skip

    def end(self, timeout: float) -> tuple[int, dict[str, Any] | None, str]:
        """Exit code, summary and stderr."""
        try:
            self.process.wait(timeout)
        finally:
            self.process.kill()
        stdout, stderr = (file.read_text() for file in self._output)
        lines = stdout.splitlines()
        return self.process.returncode, json.loads(lines[-1]) if lines else None, stderr


def running(url: str) -> list[str]:
    jobs = request_json(f"{url}/api/jobs/")
    return [job["submission_id"] for job in jobs if job["status"] == "RUNNING" and job["submission_id"]]


def wait_for_job(url: str) -> str:
    deadline = time.monotonic() + 120
    while not (submission_ids := running(url)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return submission_ids[0]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_on_a_real_cluster(cluster: str, survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path) -> None:
    """Exit code 0 and a catalog although connections are cut repeatedly; other ends have their exit codes."""
    checkout = tmp_path / "checkout"
    for name in ("galaxy_batch", "jobs"):
        shutil.copytree(REPOSITORY / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    write_config(checkout, survey, saved_model)

    with proxy_to(cluster) as (url, cut):
        done, cuts = Submitter(checkout, url), 0
        wait_for_job(cluster)
        while done.process.poll() is None and running(cluster):
            time.sleep(1.5)
            cuts += cut()
        code, summary, stderr = done.end(120)
    assert (code, cuts > 3) == (0, True), stderr
    assert summary is not None
    assert (summary["state"], summary["rows"], summary["failed"]) == ("SUCCEEDED", 40, 4)
    assert Path(summary["catalog_uri"]).is_relative_to(checkout / "out")
    assert verify_catalog(summary["catalog_uri"]) == []
    lines = [line for line in stderr.splitlines() if "40 of 40 galaxies" in line or '"catalog_uri"' in line]
    assert len(lines) == 2, stderr  # lines of the job's log, each once

    code, summary, stderr = Submitter(checkout, cluster, "release=gate", "max_failed_fraction=0.01").end(240)
    assert (code, summary and summary["state"]) == (command.GATE_FAILED, "FAILED"), stderr

    before = len(request_json(f"{cluster}/api/jobs/"))
    code, summary, stderr = Submitter(checkout, cluster, "checkpoint_uri=catalog.toml").end(120)
    assert (code, summary) == (command.BAD_INPUT, None), stderr
    assert len(request_json(f"{cluster}/api/jobs/")) == before

    stopped = Submitter(checkout, cluster, "release=stopped")
    assert request_json(f"{cluster}/api/jobs/{wait_for_job(cluster)}/stop", b"")["stopped"]
    code, summary, stderr = stopped.end(120)
    assert (code, summary and summary["state"]) == (command.STOPPED, "STOPPED"), stderr
