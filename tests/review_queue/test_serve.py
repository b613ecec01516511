"""A queue on a server of this machine: verdicts become files; other sites, paths and queues are refused."""

import csv
import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.review_queue.page import queue_identity
from galaxy_batch.review_queue.queue import ReviewQueue
from galaxy_batch.review_queue.serve import COLUMNS, QueueServer, VerdictFiles
from tests.support.queues import publish_with_cutouts
from tests.support.repository import REPOSITORY
from tests.support.review_pages import FIRST_ID, chromium, review_page
from tests.support.skies import sky_rows

NOON = "2026-11-26T12:00:00Z"


@pytest.fixture
def queue(tmp_path: Path) -> ReviewQueue:
    return review_page(tmp_path / "first")


@contextmanager
def serving(queue: ReviewQueue, port: int = 0) -> Iterator[QueueServer]:
    server = QueueServer(queue, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(server: QueueServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    if body is not None:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Origin": server.address.rstrip("/"), **headers}
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def row(
    place: int = 0, verdict: str = "smooth", reviewer: str = "Ada", time: str = NOON, shown: Any = False
) -> dict[str, Any]:
    return {"object_id": str(FIRST_ID + place), "reviewer": reviewer, "verdict": verdict, "time": time, "shown": shown}


def posted(server: QueueServer, *rows: Any, **headers: str) -> tuple[int, bytes]:
    return ask(server, "POST", "/verdicts", {"identity": server.identity, "verdicts": list(rows)}, **headers)


def lines(queue: ReviewQueue, name: str) -> list[dict[str, str]]:
    with (Path(queue.uri) / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_verdicts_become_files_of_their_reviewers(queue: ReviewQueue) -> None:
    with serving(queue) as server:
        assert posted(server, row(3), row(1, "featured", shown=True), row(1, "unsure", 'B, "ü"')) == (
            200,
            b'{"taken": 3}',
        )
        assert posted(server, row(3, "artifact", time="2026-11-26T13:00:00Z"))[0] == 200
        assert posted(server, row(3, "unsure", time="2026-11-26T11:00:00Z"))[0] == 200  # older: ignored
        state = json.loads(ask(server, "GET", "/verdicts")[1])
    assert state["identity"] == queue_identity(queue)
    assert len(state["verdicts"]) == 3
    names = sorted(path.name for path in Path(queue.uri).glob("verdicts-*"))
    assert len(names) == 2
    assert names[0].startswith("verdicts-ada-")
    content = lines(queue, names[0])
    assert tuple(content[0]) == COLUMNS
    assert [(line["object_id"], line["verdict"], line["position"], line["prediction_shown"]) for line in content] == [
        (str(FIRST_ID + 1), "featured", "2", "yes"),
        (str(FIRST_ID + 3), "artifact", "4", "no"),
    ]
    assert lines(queue, names[1])[0]["reviewer"] == 'B, "ü"'


def test_verdicts_are_there_after_a_restart_and_can_be_taken_back(queue: ReviewQueue) -> None:
    with serving(queue) as server:
        posted(server, row(), row(1))
    with serving(queue) as server:
        posted(server, row(1, ""))
        assert json.loads(ask(server, "GET", "/verdicts")[1])["verdicts"] == [row(), row(1, "")]
    (name,) = (path.name for path in Path(queue.uri).glob("verdicts-*"))
    assert [line["object_id"] for line in lines(queue, name)] == [str(FIRST_ID)]


@pytest.mark.parametrize(
    ("names", "distinct"), [(["ada", "Ada", "a d a", "ADA!"], 4), (["", "unnamed", "../../x", "ü", "é"], 5)]
)
def test_reviewers_never_share_a_file(queue: ReviewQueue, names: list[str], distinct: int) -> None:
    files = VerdictFiles(queue)
    files.add([row(reviewer=name) for name in names])
    written = list(Path(queue.uri).glob("verdicts-*.csv"))
    assert len(written) == distinct
    assert {lines(queue, path.name)[0]["reviewer"] for path in written} == set(names)


def test_verdicts_of_many_threads_are_all_there(queue: ReviewQueue) -> None:
    files = VerdictFiles(queue)
    threads = [threading.Thread(target=files.add, args=([row(place)],)) for place in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (path,) = Path(queue.uri).glob("verdicts-*.csv")
    assert len(lines(queue, path.name)) == 12


def test_the_page_and_the_pictures_and_nothing_else(queue: ReviewQueue) -> None:
    secret = Path(queue.uri).parent / "secret.jpg"
    secret.write_bytes(b"secret")
    (Path(queue.uri) / "pictures" / "000" / "00003.jpg").symlink_to(secret)  # the queue does not name it
    with serving(queue) as server:
        assert ask(server, "GET", "/")[1] == (Path(queue.uri) / "index.html").read_bytes()
        assert ask(server, "GET", "/pictures/000/00001.jpg?x=1")[1].startswith(b"\xff\xd8")
        assert ask(server, "HEAD", "/index.html") == (200, b"")
        paths = ("/queue.parquet", "/queue.json", "/../secret.jpg", "/pictures/../../secret.jpg", "//etc/passwd",
                 "/pictures/000/00003.jpg", "/pictures/000/%2e%2e/%2e%2e/%2e%2e/secret.jpg", "/pictures/")  # fmt: skip
        assert {ask(server, "GET", path)[0] for path in paths} == {404}


def test_other_sites_are_refused(queue: ReviewQueue) -> None:
    with serving(queue) as server:
        port = server.server_address[1]
        assert server.server_address[0] == "127.0.0.1"
        assert ask(server, "GET", "/verdicts", Host=f"evil.example:{port}")[0] == 421
        assert posted(server, row(), Host=f"evil.example:{port}", Origin=f"http://evil.example:{port}")[0] == 421
        assert posted(server, row(), Origin="https://evil.example")[0] == 403
        assert posted(server, row(), Origin="null")[0] == 403
        assert posted(server, row(), Content_Type="text/plain")[0] == 415
        assert ask(server, "PUT", "/verdicts", {})[0] == 501
        assert posted(server, row(), Host=f"localhost:{port}", Origin=f"http://localhost:{port}")[0] == 200


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(99), "is not in this queue"),
        (row(verdict="spiral"), "is none of smooth, featured, artifact, unsure"),
        (row(time="today"), "time must be like"),
        (row(shown="no"), "time must be like"),
        (row(reviewer="x" * 81), "at most 80"),
        (row(reviewer="a\nb"), "at most 80"),
        ({**row(), "object_id": FIRST_ID}, "is not in this queue"),
        ({"object_id": "1"}, "a verdict has"),
        ("text", "a verdict has"),
    ],
)
def test_what_is_no_verdict_is_refused_as_a_whole(queue: ReviewQueue, bad: Any, message: str) -> None:
    with serving(queue) as server:
        status, reason = posted(server, row(), bad)
        assert (status, message in reason.decode()) == (400, True)
        assert server.files.rows() == []


def test_what_is_no_request_is_refused(queue: ReviewQueue) -> None:
    with serving(queue) as server:
        assert ask(server, "POST", "/verdicts", b"{")[0] == 400
        assert ask(server, "POST", "/verdicts", b"[" * 100_000)[0] == 400
        assert ask(server, "POST", "/verdicts", b"\xff")[0] == 400
        assert ask(server, "POST", "/verdicts", {"identity": server.identity, "verdicts": 3})[0] == 400
        assert ask(server, "POST", "/verdicts", {"identity": "another", "verdicts": []})[0] == 409
        assert ask(server, "POST", "/elsewhere", {})[0] == 404
        assert ask(server, "POST", "/verdicts", b"", Content_Length="9999999")[0] == 413
        assert ask(server, "GET", "/")[0] == 200


def test_what_cannot_be_served(queue: ReviewQueue, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only a queue in a local folder"):
        QueueServer(ReviewQueue("memory://review/first", queue.record, queue.rows))
    with serving(queue) as server, pytest.raises(InputError, match=r"port = .*give another"):
        QueueServer(queue, server.server_address[1])
    file = Path(queue.uri) / "verdicts-other.csv"
    for content in (
        "object_id,verdict\n1,smooth\n",
        f"{','.join(COLUMNS)}\n{FIRST_ID},smooth,,{NOON},second,DR1,abcd1234,1,no\n",
    ):
        file.write_text(content)
        with pytest.raises(InputError, match=r"verdicts-other.csv.*another queue: move this file"):
            VerdictFiles(queue)


def test_the_job_serves_a_queue_until_it_is_interrupted(tmp_path: Path) -> None:
    catalog = publish_with_cutouts(tmp_path, sky_rows(30, seed=8))
    command = [sys.executable, "-m", "jobs.review_queue", str(catalog), "--name", "first", "--serve", "--port", "0"]
    missing = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)
    assert missing.returncode == 2
    assert "name = 'first': there is no queue" in missing.stderr
    with subprocess.Popen(
        [*command, "--uniform", "5"], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as job:
        assert job.stderr is not None
        line = next(line for line in job.stderr if "review at" in line)
        port = int(line.partition("127.0.0.1:")[2].partition("/")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/verdicts")
        assert json.loads(connection.getresponse().read())["verdicts"] == []
        job.send_signal(signal.SIGINT)
        stdout, stderr = job.communicate(timeout=30)
    assert (job.returncode, "stopped: 0 verdicts" in stderr) == (0, True)
    assert json.loads(stdout)["page_uri"] == str(catalog.parent / "review" / "first" / "index.html")


def test_the_page_sends_verdicts_and_sends_again(queue: ReviewQueue) -> None:
    with chromium() as browser:
        page = browser.new_context().new_page()
        page.clock.install()
        with serving(queue) as server:
            port = server.server_address[1]
            posted(server, row(5, reviewer=""))
            page.goto(server.address)
            page.wait_for_selector("#progress-text:has-text('1 of 12')")  # what the server has
            page.keyboard.press("f")
            page.keyboard.press("s")
            page.keyboard.press("z")
            _until(lambda: len(lines(queue, "verdicts-unnamed.csv")) == 2)
        page.keyboard.press("u")
        page.wait_for_selector("#notices:has-text('1 verdict is kept in this browser, and will be sent again')")
        with serving(queue, port):
            page.clock.fast_forward(6000)
            _until(lambda: len(lines(queue, "verdicts-unnamed.csv")) == 3)
            page.wait_for_function("document.getElementById('notices').textContent === ''")
            Path(queue.uri, "verdicts-unnamed.csv").unlink()
        with serving(queue, port):
            page.goto(f"http://127.0.0.1:{port}/")  # the browser has kept them, and the new server has none
            _until(
                lambda: (
                    Path(queue.uri, "verdicts-unnamed.csv").exists() and len(lines(queue, "verdicts-unnamed.csv")) == 3
                )
            )
    assert [line["verdict"] for line in lines(queue, "verdicts-unnamed.csv")] == ["featured", "unsure", "smooth"]


def _until(condition: Any, seconds: float = 10) -> None:
    pause = threading.Event()
    for _ in range(int(seconds * 50)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("not in time")
