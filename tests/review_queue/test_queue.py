"""The folder of a queue: written, read, and damaged."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.review_queue.queue import QUEUE, ReviewQueue, queue_schema, read_queue, verdict_names, write_queue


@pytest.fixture
def queue(tmp_path: Path) -> ReviewQueue:
    schema = queue_schema(pa.int64(), ["smooth", "featured"])
    rows = pa.Table.from_pylist([{"position": 1, "object_id": 2**62 + 1, "inclusion_probability": 0.5}], schema)
    record = {"name": "first", "classes": ["smooth", "featured"], "verdicts": ["smooth", "featured", "artifact"],
              "rows": 1}  # fmt: skip
    return ReviewQueue(str(tmp_path / "first"), record, rows)


def test_a_queue_is_read_as_it_was_written(queue: ReviewQueue) -> None:
    write_queue(queue)
    again = read_queue(queue.uri)
    assert again == queue
    assert again is not None
    assert again.rows.schema.equals(queue.rows.schema)
    assert json.loads((Path(queue.uri) / QUEUE).read_text())["format"] == 1


def test_without_a_record_there_is_no_queue(queue: ReviewQueue) -> None:
    write_queue(queue)
    (Path(queue.uri) / QUEUE).unlink()
    assert read_queue(queue.uri) is None
    assert read_queue(f"{queue.uri}/nowhere") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 2}', "its format is 2; this version reads format 1"),
        ('{"format": 1, "name": "a", "classes": [], "verdicts": [], "rows": 7}', "1 rows, but queue.json says 7"),
        ('{"format": 1, "rows": 1}', "is damaged"),
    ],
)
def test_a_damaged_queue_is_named(queue: ReviewQueue, content: str, message: str) -> None:
    write_queue(queue)
    (Path(queue.uri) / QUEUE).write_text(content)
    with pytest.raises(InputError, match=f"name = .*{message}"):
        read_queue(queue.uri, "name")


def test_verdicts_are_the_classes_and_two_more() -> None:
    assert verdict_names(["smooth", "featured"]) == ["smooth", "featured", "artifact", "unsure"]
    assert verdict_names(["smooth", "artifact"]) == ["smooth", "artifact", "unsure"]
    with pytest.raises(InputError, match="'unsure': a class of this catalog"):
        verdict_names(["smooth", "unsure"])
