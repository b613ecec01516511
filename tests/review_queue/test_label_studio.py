"""Label Studio tasks, validated by its own SDK."""

import base64
import json
from pathlib import Path

import pytest
from label_studio_sdk.label_interface import LabelInterface

from galaxy_batch.review_queue import label_studio
from galaxy_batch.review_queue.label_studio import write_tasks
from galaxy_batch.review_queue.queue import ReviewQueue
from tests.support.queues import new_queue, publish_with_cutouts
from tests.support.skies import MODEL_ID, RELEASE, sky_rows


@pytest.fixture
def queue(tmp_path: Path) -> ReviewQueue:
    rows = sky_rows(100, seed=1)
    ids = rows.filter(rows["predicted_class"].is_valid())["object_id"].to_pylist()
    catalog = publish_with_cutouts(tmp_path, rows)
    (tmp_path / "cutouts" / f"{ids[0]}.jpg").write_bytes(b"broken")
    return new_queue(catalog, uniform=1000)


def test_label_studio_accepts_interface_tasks_and_predictions(queue: ReviewQueue) -> None:
    summary = write_tasks(queue)
    interface = LabelInterface(Path(summary["config_uri"]).read_text())
    interface.validate()
    (uri,) = summary["tasks_uris"]
    assert uri == f"{queue.uri}/label_studio/tasks.json"
    tasks = json.loads(Path(uri).read_text())
    shown = queue.rows.filter(queue.rows["picture"].is_valid()).to_pylist()
    assert (summary["tasks"], summary["left_out"]) == (len(tasks), 1) == (len(shown), 1)
    assert interface.get_control("verdict").labels == list(queue.verdicts)
    for task, row in zip(tasks, shown, strict=True):
        assert interface.validate_task({"data": task["data"]})  # with predictions, version 2.0.19 raises TypeError
        assert interface.validate_prediction(task["predictions"][0])
        start, _, encoded = task["data"].pop("image").partition(",")
        assert start == "data:image/jpeg;base64"
        assert base64.b64decode(encoded) == Path(queue.uri, row["picture"]).read_bytes()
        assert task["data"] == {
            "object_id": str(row["object_id"]), "queue": "queue", "release": RELEASE, "model_id": MODEL_ID,
            "position": row["position"],
        }  # fmt: skip
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == MODEL_ID
        assert prediction["score"] == pytest.approx(row["confidence"], abs=1e-6)
        assert prediction["result"][0]["value"] == {"choices": [row["predicted_class"]]}
    prediction["result"][0]["value"] = {"choices": ["spiral"]}
    assert not interface.validate_prediction(prediction)


def test_many_tasks_are_divided_into_files(queue: ReviewQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = json.loads(Path(write_tasks(queue)["tasks_uris"][0]).read_text())
    monkeypatch.setattr(label_studio, "_MAX_FILE_BYTES", 60_000)
    summary = write_tasks(queue)
    assert len(summary["tasks_uris"]) > 1
    assert all(Path(uri).stat().st_size < 61_000 for uri in summary["tasks_uris"])
    assert [task for uri in summary["tasks_uris"] for task in json.loads(Path(uri).read_text())] == whole


def test_many_verdicts_and_markup_in_their_names(queue: ReviewQueue) -> None:
    names = [*(f"class {number}" for number in range(12)), 'a "<b>" & c']
    queue.record["verdicts"] = names
    interface = LabelInterface(Path(write_tasks(queue)["config_uri"]).read_text())
    assert interface.get_control("verdict").labels == names
