"""Upload to a stand-in of Zooniverse that fails: every subject once, with its picture, whatever dies."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from galaxy_batch.errors import GateError, InputError
from galaxy_batch.review_queue.queue import ReviewQueue
from galaxy_batch.review_queue.zooniverse import subject_fields, write_subject_set
from galaxy_batch.review_queue.zooniverse_upload import upload_subjects
from tests.support.files import contents_of
from tests.support.jobs import CallJob
from tests.support.panoptes_server import PASSWORD, PROJECT, PanoptesServer
from tests.support.queues import new_queue, publish_with_cutouts
from tests.support.repository import REPOSITORY
from tests.support.skies import sky_rows

SUBJECTS = 100


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("galaxy_batch.storage.retries.FIRST_WAIT_S", 0.001)


@pytest.fixture(scope="module")
def shared_queue(tmp_path_factory: pytest.TempPathFactory) -> ReviewQueue:
    catalog = publish_with_cutouts(tmp_path_factory.mktemp("sky"), sky_rows(200, seed=1))
    queue = new_queue(catalog, uniform=SUBJECTS, name="first-look")
    write_subject_set(queue)
    return queue


@pytest.fixture
def queue(shared_queue: ReviewQueue) -> ReviewQueue:
    """A queue that was never uploaded."""
    (Path(shared_queue.uri) / "zooniverse" / "upload.json").unlink(missing_ok=True)
    return shared_queue


def check_complete(server: PanoptesServer, queue: ReviewQueue, without: int = 0) -> dict[str, Any]:
    """Every object once, in one set, with its picture and its fields."""
    state = server.state()
    assert len(state["sets"]) == 1
    (created,) = state["sets"].values()
    assert created["display_name"] == queue.name
    assert created["links"] == {"project": str(PROJECT)}
    linked = server.linked()
    assert Counter(linked).most_common(1)[0][1] == 1
    assert len(linked) == len(queue.rows) - without
    rows = {str(row["object_id"]): row for row in queue.rows.to_pylist()}
    for _, subject in state["members"]:
        fields = state["subjects"][subject]["metadata"]
        assert fields == subject_fields(queue, rows[fields["object_id"]])
        picture = Path(queue.uri, "zooniverse", fields["image"])
        assert state["media"][subject] == picture.stat().st_size
    return state


def test_an_upload_and_another_one_that_has_nothing_to_do(panoptes: PanoptesServer, queue: ReviewQueue) -> None:
    summary = upload_subjects(queue, PROJECT)
    state = check_complete(panoptes, queue)
    assert len(state["subjects"]) == SUBJECTS
    (number,) = state["sets"]
    assert summary == {
        "project": PROJECT, "subject_set": number, "subjects": SUBJECTS, "uploaded": SUBJECTS, "failed": 0,
    }  # fmt: skip
    assert upload_subjects(queue, PROJECT) == {**summary, "uploaded": 0}
    (Path(queue.uri) / "zooniverse" / "upload.json").unlink()  # on another machine
    assert upload_subjects(queue, PROJECT) == {**summary, "uploaded": 0}
    assert panoptes.state()["subjects"] == state["subjects"]


def test_errors_dropped_connections_and_lost_responses(panoptes: PanoptesServer, queue: ReviewQueue) -> None:
    panoptes.fail(share=0.2)
    with contextlib.suppress(GateError):  # five attempts in a row may fail
        upload_subjects(queue, PROJECT)
    failed = panoptes.state()["failed"]
    assert failed > 20
    panoptes.fail()
    assert upload_subjects(queue, PROJECT)["subjects"] == SUBJECTS
    check_complete(panoptes, queue)


_UPLOAD = """
import sys
from galaxy_batch.review_queue.queue import read_queue
from galaxy_batch.review_queue.zooniverse_upload import upload_subjects
from galaxy_batch.storage import retries
retries.FIRST_WAIT_S = 0.001
upload_subjects(read_queue(sys.argv[1]), int(sys.argv[2]))
"""


def test_killed_at_5_58_and_64_percent(panoptes: PanoptesServer, queue: ReviewQueue) -> None:
    panoptes.fail(share=0.05, slow_s=0.02)
    for percent in (5, 58, 64):
        with subprocess.Popen([sys.executable, "-c", _UPLOAD, queue.uri, str(PROJECT)], cwd=REPOSITORY) as run:
            while len(panoptes.state()["members"]) < percent * SUBJECTS / 100:
                assert run.poll() is None
                time.sleep(0.01)
            if percent == 58:  # in the middle of a batch
                created = len(panoptes.state()["subjects"])
                while len(panoptes.state()["subjects"]) < created + 5:
                    time.sleep(0.005)
            os.kill(run.pid, signal.SIGKILL)
        assert len(set(panoptes.linked())) == len(panoptes.linked()) < SUBJECTS
    panoptes.fail()
    assert upload_subjects(queue, PROJECT)["subjects"] == SUBJECTS
    state = check_complete(panoptes, queue)
    assert len(state["subjects"]) <= SUBJECTS + 3 * 20 + state["failed"]


def test_subjects_that_were_uploaded_and_not_linked_are_linked(panoptes: PanoptesServer, queue: ReviewQueue) -> None:
    panoptes.fail(always={"/links/subjects": "500"})
    with pytest.raises(GateError, match="0 of 100 subjects are in the set") as stopped:
        upload_subjects(queue, PROJECT)
    assert stopped.value.summary["subjects"] == 0
    created = panoptes.state()["subjects"]
    assert len(created) == 20
    panoptes.fail()
    assert upload_subjects(queue, PROJECT)["subjects"] == SUBJECTS
    state = check_complete(panoptes, queue)
    assert created.keys() <= {subject for _, subject in state["members"]}
    assert len(state["subjects"]) == SUBJECTS


def test_broken_pictures_are_left_out_and_counted(
    panoptes: PanoptesServer, queue: ReviewQueue, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = sorted((Path(queue.uri) / "zooniverse").glob("*.jpg"))[:3]
    contents = [picture.read_bytes() for picture in pictures]
    try:
        pictures[0].unlink()
        pictures[1].write_bytes(b"<html>not found</html>")
        pictures[2].write_bytes(b"\xff\xd8\xffrefused")
        summary = upload_subjects(queue, PROJECT)
    finally:
        for picture, content in zip(pictures, contents, strict=True):
            picture.write_bytes(content)
    assert (summary["subjects"], summary["failed"]) == (SUBJECTS - 3, 3)
    assert "neither JPEG nor PNG" in caplog.text
    assert "refused: HTTP status 415" in caplog.text
    check_complete(panoptes, queue, without=3)
    assert upload_subjects(queue, PROJECT)["uploaded"] == 3


def test_where_zooniverse_does_not_respond(panoptes: PanoptesServer, queue: ReviewQueue) -> None:
    panoptes.fail(always={"/media/": "504"})
    with pytest.raises(GateError, match=r"Zooniverse: 504 Server Error.*run the same command again") as stopped:
        upload_subjects(queue, PROJECT)
    assert "127.0.0.1" not in str(stopped.value)
    assert panoptes.linked() == []


def test_the_command_and_its_secrets(
    panoptes: PanoptesServer, queue: ReviewQueue, call_job: CallJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Path(queue.uri).parent.parent / "catalog"
    command = ("review_queue", str(catalog), "--uniform", str(SUBJECTS), "--name", "first-look", "--upload")
    monkeypatch.setenv("PANOPTES_PASSWORD", "wrong")
    refused = call_job(*command, str(PROJECT))
    assert refused.code == 2
    assert "cannot sign in to Zooniverse: Invalid email or password." in refused.log
    monkeypatch.setenv("PANOPTES_PASSWORD", PASSWORD)
    other = call_job(*command, "77")
    assert other.code == 2
    assert "upload = 77: no such project, or no access to it" in other.log
    ended = call_job(*command, str(PROJECT))
    assert ended.code == 0, ended.log
    summary = json.loads(ended.stdout.splitlines()[-1])
    assert summary["upload"]["subjects"] == summary["zooniverse"]["subjects"] == SUBJECTS
    everything = [ended.log, ended.stdout, refused.log, *map(str, contents_of(catalog.parent).values())]
    assert not any(secret in text for secret in (PASSWORD, "secret-bearer") for text in everything)
    monkeypatch.delenv("PANOPTES_USERNAME")
    without = call_job(*command, str(PROJECT))
    assert without.code == 2
    assert "set the environment variables PANOPTES_USERNAME and PANOPTES_PASSWORD" in without.log


def test_another_set_of_this_name_is_not_touched(panoptes: PanoptesServer, queue: ReviewQueue) -> None:
    upload_subjects(queue, PROJECT)
    record = {**queue.record, "created": "2020-01-01T00:00:00Z"}
    with pytest.raises(InputError, match="another subject set of this name"):
        upload_subjects(ReviewQueue(queue.uri, record, queue.rows), PROJECT)
    assert len(panoptes.state()["members"]) == SUBJECTS
