"""The folder of a queue: written, read, and damaged."""

import dataclasses
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


def _record(**entries: object) -> str:
    return json.dumps({"format": 1, "name": "first", "classes": ["smooth", "featured"], "verdicts": [], "rows": 1,
                       **entries})  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 2}', "its format is 2; this version reads format 1"),
        ('{"format": 1, "name": "a", "classes": [], "verdicts": [], "rows": 7}', "1 rows, but queue.json says 7"),
        ('{"format": 1, "rows": 1}', "is damaged"),
        (_record(catalog=3), "is damaged: catalog in queue.json"),
        (_record(settings=[]), "is damaged: settings in queue.json"),
        (_record(links=3), "is damaged: links in queue.json"),
        (_record(draws=3), "is damaged: draws in queue.json"),
        (_record(draws=[{"reason": "uniform"}]), "is damaged: draws in queue.json"),
    ],
)
def test_a_damaged_queue_is_named(queue: ReviewQueue, content: str, message: str) -> None:
    write_queue(queue)
    (Path(queue.uri) / QUEUE).write_text(content)
    with pytest.raises(InputError, match=f"name = .*{message}"):
        read_queue(queue.uri, "name")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("inclusion_probability", None, "no column inclusion_probability of type double"),
        ("inclusion_probability", pa.array(["x"]), "no column inclusion_probability of type double"),
        ("inclusion_probability", pa.array([None], pa.float64()), "an inclusion probability is not in"),
        ("inclusion_probability", pa.array([0.0]), "an inclusion probability is not in"),
        ("object_id", pa.array([1.5]), "no column object_id of type string"),
    ],
)
def test_a_damaged_table_is_named(queue: ReviewQueue, name: str, values: pa.Array | None, message: str) -> None:
    rows = queue.rows.drop_columns([name]) if values is None else queue.rows.set_column(
        queue.rows.column_names.index(name), name, values
    )  # fmt: skip
    write_queue(dataclasses.replace(queue, rows=rows))
    with pytest.raises(InputError, match=f"is damaged: .*{message}"):
        read_queue(queue.uri)


def test_a_table_with_an_object_twice_is_damaged(queue: ReviewQueue) -> None:
    twice = pa.concat_tables([queue.rows, queue.rows])
    write_queue(ReviewQueue(queue.uri, {**queue.record, "rows": 2}, twice))
    with pytest.raises(InputError, match="has an object twice"):
        read_queue(queue.uri)


def test_verdicts_are_the_classes_and_two_more() -> None:
    assert verdict_names(["smooth", "featured"]) == ["smooth", "featured", "artifact", "unsure"]
    assert verdict_names(["smooth", "artifact"]) == ["smooth", "artifact", "unsure"]
    with pytest.raises(InputError, match="'unsure': a class of this catalog"):
        verdict_names(["smooth", "unsure"])
