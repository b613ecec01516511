"""`review_queue` from the command line: the folder, the same command again, and errors before anything is written."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from galaxy_batch.review_queue.queue import read_queue
from tests.support.jobs import CallJob
from tests.support.skies import CLASSES, MODEL_ID, publish_rows, read_catalog, sky_rows

ROWS = 600


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return sky_rows(ROWS, seed=8, without_position=0.1)


@pytest.fixture(scope="module")
def catalog(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_rows(tmp_path_factory.mktemp("sky") / "release", rows, max_rows=100)


def test_the_job_writes_a_queue_beside_the_catalog(catalog: Path, call_job: CallJob) -> None:
    ended = call_job("review_queue", str(catalog), "--name", "first", "--uniform", "50", "--flags", "UNFAMILIAR")
    assert ended.code == 0, ended.log
    summary = json.loads(ended.stdout.splitlines()[-1])
    assert summary["queue_uri"] == str(catalog.parent / "review" / "first")
    queue = read_queue(summary["queue_uri"])
    assert queue is not None
    assert queue.verdicts == (*CLASSES, "artifact", "unsure")
    assert queue.record["catalog"]["model_id"] == MODEL_ID
    assert queue.rows["position"].to_pylist() == list(range(1, summary["rows"] + 1))
    published = {row["object_id"]: row for row in read_catalog(catalog).to_pylist()}
    for row in queue.rows.to_pylist():
        of_catalog = published[row["object_id"]]
        assert of_catalog["status"] == "ok"
        for name in ("predicted_class", "confidence", "p_smooth", "review_flags", "ra", "dec", "image_hash"):
            assert row[name] == of_catalog[name]
