"""`review_queue` from the command line: the folder, the same command again, kills, stores, errors."""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.errors import InputError
from galaxy_batch.review_queue.config import ReviewQueueConfig
from galaxy_batch.review_queue.queue import QUEUE, read_queue
from galaxy_batch.review_queue.review_queue import make_queue
from tests.support.files import contents_of
from tests.support.jobs import CallJob
from tests.support.queues import new_queue, publish_with_cutouts
from tests.support.release import changed_manifest
from tests.support.repository import REPOSITORY
from tests.support.s3_server import S3
from tests.support.skies import CLASSES, MODEL_ID, read_catalog, sky_rows

ROWS = 300


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return sky_rows(ROWS, seed=8, without_position=0.1)


@pytest.fixture(scope="module")
def shared_catalog(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_with_cutouts(tmp_path_factory.mktemp("sky"), rows)


@pytest.fixture
def catalog(shared_catalog: Path) -> Path:
    """A catalog without queues."""
    subprocess.run(["rm", "-rf", str(shared_catalog.parent / "review")], check=True)
    return shared_catalog


def test_the_job_writes_a_queue_beside_the_catalog(catalog: Path, call_job: CallJob) -> None:
    command = ("--name", "first", "--uniform", "50", "--flags", "UNFAMILIAR,LOW_CONFIDENCE", "--audit", "--seed", "3")
    ended = call_job("review_queue", str(catalog), *command, "--where", "confidence < 0.52 and p_smooth > 0.5")
    assert ended.code == 0, ended.log
    summary = json.loads(ended.stdout.splitlines()[-1])
    assert summary["queue_uri"] == str(catalog.parent / "review" / "first")
    assert summary["pictures"] == summary["rows"]
    queue = read_queue(summary["queue_uri"])
    assert queue is not None
    assert queue.verdicts == (*CLASSES, "artifact", "unsure")
    assert queue.record["catalog"]["model_id"] == MODEL_ID
    assert queue.record["seed"] == 3
    assert queue.rows["position"].to_pylist() == list(range(1, summary["rows"] + 1))
    assert {"uniform", "AUDIT", "where", "UNFAMILIAR"} <= {
        name for reason in queue.rows["reason"].to_pylist() for name in reason.split("; ")
    }
    published = {row["object_id"]: row for row in read_catalog(catalog).to_pylist()}
    for row in queue.rows.to_pylist():
        of_catalog = published[row["object_id"]]
        assert of_catalog["status"] == "ok"
        for name in ("predicted_class", "confidence", "p_smooth", "review_flags", "ra", "dec", "image_hash"):
            assert row[name] == of_catalog[name]
        assert (Path(queue.uri) / row["picture"]).is_file()
    assert not (Path(queue.uri) / "unfinished.json").exists()
    assert verify_catalog(str(catalog)) == []


def test_the_log_says_what_comes_next(catalog: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    queue = new_queue(catalog, uniform=5)
    assert f"open {queue.uri}/index.html in a browser" in caplog.text
    assert f"python -m jobs.import_verdicts {catalog} --from verdicts.csv" in caplog.text


def test_the_order_does_not_reveal_the_reason_unless_asked_for(catalog: Path) -> None:
    shuffled = new_queue(catalog, name="a", flags=("UNFAMILIAR",), uniform=100).rows["reason"].to_pylist()
    grouped = (
        new_queue(catalog, name="b", flags=("UNFAMILIAR",), uniform=100, order="reason").rows["reason"].to_pylist()
    )
    assert grouped == sorted(shuffled)
    changes = sum(one != other for one, other in itertools.pairwise(shuffled))
    assert changes > 3 * len(set(shuffled))


def test_the_same_command_again_changes_nothing_and_another_is_refused(catalog: Path, call_job: CallJob) -> None:
    command = ("review_queue", str(catalog), "--uniform", "20")
    assert call_job(*command).code == 0
    before = contents_of(catalog.parent / "review")
    again = call_job(*command)
    assert again.code == 0
    assert contents_of(catalog.parent / "review") == before
    other = call_job(*command, "--seed", "1")
    assert other.code == 2
    assert "another queue has this name (seed differs), and verdicts may belong to it" in other.log
    assert contents_of(catalog.parent / "review") == before
    assert call_job(*command, "--seed", "1", "--name", "second").code == 0


def test_the_queue_of_another_catalog_is_refused(catalog: Path, rows: pa.Table, tmp_path: Path) -> None:
    other = publish_with_cutouts(tmp_path, rows)
    new_queue(other, uniform=5)
    changed_manifest(other, lambda manifest: manifest.update(run_id="20270101T000000Z-00000000"))
    with pytest.raises(InputError, match="run_id differs"):
        new_queue(other, uniform=5)


def test_a_queue_from_before_a_setting_was_added_is_the_same_queue(catalog: Path) -> None:
    queue = new_queue(catalog, uniform=5)
    record = json.loads((Path(queue.uri) / QUEUE).read_text())
    for name in ("confidence_edges", "order"):
        del record["settings"][name]
    (Path(queue.uri) / QUEUE).write_text(json.dumps(record))
    assert new_queue(catalog, uniform=5).rows == queue.rows
    with pytest.raises(InputError, match=r"\(order differs\)"):
        new_queue(catalog, uniform=5, order="reason")


def test_a_queue_that_is_there_is_written_for_other_tools_without_its_draws(catalog: Path, call_job: CallJob) -> None:
    missing = call_job("review_queue", str(catalog), "--label-studio")
    assert missing.code == 2
    assert "there is no queue" in missing.log
    queue = new_queue(catalog, uniform=5)
    ended = call_job("review_queue", str(catalog), "--label-studio", "--zooniverse")
    assert ended.code == 0, ended.log
    summary = json.loads(ended.stdout.splitlines()[-1])
    assert summary["rows"] == summary["label_studio"]["tasks"] == summary["zooniverse"]["subjects"] == 5
    assert new_queue(catalog, uniform=5).rows == queue.rows


def test_missing_pictures_are_fetched_when_the_command_is_run_again(rows: pa.Table, tmp_path: Path) -> None:
    catalog = publish_with_cutouts(tmp_path, rows)
    (tmp_path / "cutouts").rename(tmp_path / "moved")
    queue = new_queue(catalog, uniform=30)
    assert queue.record["pictures"] == 0
    assert set(queue.rows["picture"].to_pylist()) == {None}
    assert "the survey's manifest cannot be read" in queue.rows["picture_error"][0].as_py()
    (tmp_path / "moved").rename(tmp_path / "cutouts")
    again = new_queue(catalog, uniform=30)
    assert again.record == {**queue.record, "pictures": 30}
    assert again.rows.drop_columns(["picture", "picture_error"]) == queue.rows.drop_columns(
        ["picture", "picture_error"]
    )
    assert again.rows["picture_error"].null_count == 30


_SLOW = """
import os, sys, time
from galaxy_batch.review_queue import bundle
from galaxy_batch.review_queue.config import ReviewQueueConfig
from galaxy_batch.review_queue.review_queue import make_queue
bundle._FETCHED_ROWS = 5
write = bundle.write_atomically
def write_slowly(uri, content):
    write(uri, content)
    os.write(1, f"{uri}\\n".encode())
    time.sleep(0.05)
bundle.write_atomically = write_slowly
make_queue(ReviewQueueConfig(sys.argv[1], uniform=120))
"""


def test_a_killed_run_goes_on_where_it_was(catalog: Path) -> None:
    expected = new_queue(catalog, name="undisturbed", uniform=120)
    folder = catalog.parent / "review" / "queue"
    with subprocess.Popen([sys.executable, "-c", _SLOW, str(catalog)], cwd=REPOSITORY, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        written = [Path(run.stdout.readline().decode().strip()) for _ in range(40)]
        os.kill(run.pid, signal.SIGKILL)
    assert not (folder / QUEUE).exists()
    times = {path: path.stat().st_mtime_ns for path in written}
    assert len(times) == 40
    queue = new_queue(catalog, uniform=120)
    assert queue.rows == expected.rows
    assert {path: path.stat().st_mtime_ns for path in written} == times
    assert contents_of(folder / "pictures") == contents_of(catalog.parent / "review" / "undisturbed" / "pictures")


def test_pictures_of_another_unfinished_queue_are_removed(catalog: Path) -> None:
    folder = catalog.parent / "review" / "queue"
    new_queue(catalog, uniform=20, seed=1)
    (folder / QUEUE).unlink()
    queue = new_queue(catalog, uniform=20, seed=2)
    assert len(list(folder.rglob("*.jpg"))) == 20
    expected = new_queue(catalog, name="undisturbed", uniform=20, seed=2)
    assert queue.rows == expected.rows
    assert contents_of(folder / "pictures") == contents_of(Path(expected.uri) / "pictures")


def test_on_an_object_store_that_fails_now_and_then(catalog: Path, rows: pa.Table, s3: S3) -> None:
    for path, content in contents_of(catalog).items():
        s3.put(f"out/catalog/{path}", content)
    s3.proxy.sprinkle("catalog", ["500", "reset"], 0.2, seed=1)
    s3.proxy.sprinkle("review", ["500", "reset"], 0.2, seed=2, method="PUT")
    queue = new_queue(f"{s3.uri}/out/catalog", uniform=40)
    assert queue.uri == f"{s3.uri}/out/review/queue"
    local = new_queue(catalog, uniform=40)
    assert queue.rows == local.rows
    assert (
        s3.get(f"out/review/queue/{queue.rows['picture'][7].as_py()}")
        == (Path(local.uri) / local.rows["picture"][7].as_py()).read_bytes()
    )
    written = len(s3.proxy.requests)
    new_queue(f"{s3.uri}/out/catalog", uniform=40)
    assert "PUT" not in [request.method for request in s3.proxy.requests[written:]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nothing is drawn: give at least one of flags, where, least_confident"),
        ({"uniform": 5, "name": "../catalog"}, "name = '../catalog': use letters"),
        ({"uniform": 5, "name": "a/b"}, "name = 'a/b': use letters"),
        ({"uniform": 5, "name": "verdicts"}, "is the folder of the verdicts"),
        ({"uniform": 5, "flags_rows": 5}, "flags_rows = 5: needs flags"),
        ({"uniform": 5, "where_rows": 5}, "where_rows = 5: needs where"),
        ({"stratified": 5, "confidence_edges": (0.8, 0.6)}, "must ascend"),
        ({"uniform": 5, "links": {"x": "javascript:alert(1)"}}, "must be an http"),
        ({"flags": ("NEW",)}, "no such flag"),
        ({"uniform": 100, "max_rows": 50}, "more galaxies are drawn"),
    ],
)
def test_what_cannot_be_a_queue(catalog: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_queue(ReviewQueueConfig(str(catalog), **settings))
    assert not (catalog.parent / "review").exists()


def test_without_a_catalog(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no catalog is published there"):
        make_queue(ReviewQueueConfig(str(tmp_path), uniform=5))
    assert list(tmp_path.iterdir()) == []
