"""Exports of Label Studio, JSON and JSON-MIN; the former as its own SDK reads them."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.verdicts.config import ImportConfig
from galaxy_batch.verdicts.label_studio import LabelStudioReader
from galaxy_batch.verdicts.records import Answer, HashedStream, Problem, parse_time
from galaxy_batch.verdicts.words import Words
from tests.support.verdict_files import VERDICTS, annotation, answer_or_problem, labelled_task

ID = "1237648720693755918"
DATA = {"image": "/data/1.jpg", "object_id": ID, "predicted_class": "featured", "queue": "first"}


def reader_with(**settings: Any) -> LabelStudioReader:
    return LabelStudioReader(Words(VERDICTS, {}), ImportConfig("c", ("f",), **settings))


def read(content: Any, **settings: Any) -> list[Answer | Problem]:
    reader, text = reader_with(**settings), content if isinstance(content, str) else json.dumps(content)
    records = list(reader.records(HashedStream(io.BytesIO(text.encode()))))
    assert [number for number, _ in records] == list(range(1, len(records) + 1))
    return [answer_or_problem(reader, record) for _, record in records]


def test_annotations_of_several_people() -> None:
    by = {"id": 4, "email": "ben@x.example", "first_name": "Ben"}
    tasks = [
        labelled_task(DATA, annotation(["Smooth"]), annotation(["featured"], by), annotation([], was_cancelled=True)),
        labelled_task({**DATA, "object_id": int(ID) + 1}, annotation(["unsure"], {"id": 5})),
        labelled_task(DATA),
    ]
    time = parse_time("2026-11-20T11:00:00Z")
    assert read(tasks) == [
        Answer(ID, "smooth", "label-studio-3", time, "first"),
        Answer(ID, "featured", "ben@x.example", time, "first"),
        Problem.CANCELLED,
        Answer(str(int(ID) + 1), "unsure", "label-studio-5", time, "first"),
    ]


def test_the_minimal_form() -> None:
    one = {**DATA, "id": 1, "verdict": "smooth", "annotator": 3, "annotation_id": 11,
           "created_at": "2026-11-20T10:00:00Z", "updated_at": "2026-11-20T11:00:00Z", "lead_time": 4.2}  # fmt: skip
    time = parse_time("2026-11-20T11:00:00Z")
    assert read([one]) == [Answer(ID, "smooth", "label-studio-3", time, "first")]
    other = {**one, "kind": {"choices": ["artifact"]}}
    del other["verdict"]
    assert read([other]) == [Problem.NO_ANSWER], "the predicted class, a field of the task, is no verdict"
    assert read([other], task="kind") == [Answer(ID, "artifact", "label-studio-3", time, "first")]


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (labelled_task({"image": "x"}, annotation(["smooth"])), Problem.UNREADABLE),
        (labelled_task(DATA, annotation([])), Problem.NO_ANSWER),
        (labelled_task(DATA, annotation(["smooth", "featured"])), Problem.SEVERAL_ANSWERS),
        (labelled_task(DATA, annotation(["round"])), Problem.UNKNOWN_VERDICT),
        (labelled_task(DATA, {"id": 1}), Problem.UNREADABLE),
        (labelled_task(DATA, annotation(["smooth"], result=None)), Problem.UNREADABLE),
        (5, Problem.UNREADABLE),
    ],
)
def test_annotations_without_a_verdict(task: Any, problem: Problem) -> None:
    assert read([task]) == [problem]


def test_one_of_several_controls() -> None:
    both = annotation(["smooth"])
    both["result"] = [*both["result"], {"from_name": "bar", "type": "choices", "value": {"choices": ["unsure"]}},
                      {"from_name": "box", "type": "rectanglelabels", "value": {"rectanglelabels": ["x"]}}]  # fmt: skip
    assert read([labelled_task(DATA, both)]) == [Problem.SEVERAL_ANSWERS]
    (answer,) = read([labelled_task(DATA, both)], task="verdict")
    assert isinstance(answer, Answer)
    assert answer.verdict == "smooth"


@pytest.mark.parametrize("text", ['[{"id": 1, "data": {', '[{"id": 1}', '[{"id": 1}, nonsense]'])
def test_a_file_that_is_not_complete_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not complete"):
        read(text)


def test_one_task_alone_and_floats() -> None:
    task = json.dumps(labelled_task({**DATA, "object_id": 0}, annotation(["smooth"])))
    (answer,) = read(task.replace('"object_id": 0', '"object_id": 1.23765E+18'))
    assert isinstance(answer, Answer)
    assert answer.object_text == "1.23765E+18"
    assert read("[]") == []


def test_pictures_within_tasks_are_not_kept() -> None:
    task = labelled_task({**DATA, "image": f"data:image/jpeg;base64,{'A' * 1000}"}, annotation(["round"]))
    text = json.dumps([task, {**task["data"], "id": 2, "verdict": "round"}])
    records = [content for _, content in reader_with().records(HashedStream(io.BytesIO(text.encode())))]
    assert [record["data"]["image"] for record in records] == ["data:image/jpeg;base64"] * 2


def test_nothing_that_names_a_person_is_kept() -> None:
    by = {"id": 4, "email": "ben@x.example", "first_name": "Ben"}
    content = {"data": DATA, "annotation": {**annotation(["round"], by), "updated_by": by}}
    kept = reader_with().without_names(content, lambda name: "somebody")
    assert "ben" not in json.dumps(kept).lower()
    assert kept["annotation"]["completed_by"] == "somebody"
    assert kept["annotation"]["result"] == content["annotation"]["result"]


def test_the_sdk_makes_the_minimal_form_that_is_read(tmp_path: Path) -> None:
    converter = pytest.importorskip("label_studio_sdk.converter.converter")
    config = (
        '<View><Image name="image" value="$image"/><Choices name="verdict" toName="image">'
        '<Choice value="smooth"/><Choice value="featured"/></Choices></View>'
    )
    tasks = [labelled_task(DATA, annotation(["smooth"])), labelled_task(DATA, annotation(["featured"], 4))]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    converter.Converter(config, str(tmp_path)).convert_to_json_min(
        str(tmp_path / "tasks.json"), str(tmp_path / "out"), is_dir=False
    )
    (written,) = (tmp_path / "out").glob("*.json")
    answers = read(written.read_text())
    assert [(one.verdict, one.reviewer) for one in answers if isinstance(one, Answer)] == [
        ("smooth", "label-studio-3"), ("featured", "label-studio-4"),
    ]  # fmt: skip
