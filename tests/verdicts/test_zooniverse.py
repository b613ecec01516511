"""Lines of classification exports, in the forms that Panoptes and its two classifiers write."""

import json
from typing import Any

import pytest

from galaxy_batch.verdicts.config import ImportConfig
from galaxy_batch.verdicts.records import Answer, Problem, parse_time
from galaxy_batch.verdicts.words import Words
from galaxy_batch.verdicts.zooniverse import ZooniverseReader
from tests.support.verdict_files import FEATURES, RETIRED, VERDICTS, answer_or_problem, classification

ID = "1237648720693755918"


def reader_with(**settings: Any) -> ZooniverseReader:
    answers = {"Features or disk": "featured", "1": "featured", "4f5c1b": "smooth"}
    return ZooniverseReader(Words(VERDICTS, answers), ImportConfig("c", ("f",), **settings))


def verdict_of(value: Any, **settings: Any) -> str | Problem:
    annotations = value if isinstance(value, list) and value and "task" in value[0] else None
    line = classification(ID, value, **({"annotations": annotations} if annotations else {}))
    answer = answer_or_problem(reader_with(**settings), {name: str(field) for name, field in line.items()})
    return answer.verdict if isinstance(answer, Answer) else answer


def test_a_classification() -> None:
    subject = {"retired": RETIRED, "#object_id": ID, "#queue": "first", "!release": "dr7", "//model_id": "abc"}
    line = {**classification(ID, FEATURES, "Mike", subject=subject), "user_id": "290475"}
    assert reader_with().answer(line) == Answer(
        ID, "featured", "Mike", parse_time("2026-11-20T10:44:42Z"), "first", "dr7", "abc"
    )


@pytest.mark.parametrize("retired", [None, RETIRED])
@pytest.mark.parametrize("given", [ID, int(ID)])
def test_subjects_of_running_and_retired_workflows(retired: Any, given: Any) -> None:
    line = classification(ID, "Smooth", "not-logged-in-0a1b2c3d", subject={"retired": retired, "object_id": given})
    answer = reader_with().answer(line)
    assert (answer.object_text, answer.verdict, answer.reviewer) == (ID, "smooth", "not-logged-in-0a1b2c3d")


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (1, "featured"),
        (["Smooth"], "smooth"),
        (["Smooth", "smooth"], "smooth"),
        (["Smooth", FEATURES], Problem.SEVERAL_ANSWERS),
        ([{"choice": "SMOOTH", "answers": {"HOWMANY": "1"}, "filters": {}}], "smooth"),
        ([{"choice": "SMOOTH"}, {"choice": "UNSURE"}], Problem.SEVERAL_ANSWERS),
        ([{"value": "4f5c1b", "option": True}], "smooth"),
        ([{"select_label": "Kind", "label": "Smooth", "value": "0b", "option": True}], "smooth"),
        ({"selection": 1, "option": True}, "featured"),
        (None, Problem.NO_ANSWER),
        ([], Problem.NO_ANSWER),
        ("", Problem.NO_ANSWER),
        ("Spiral", Problem.UNKNOWN_VERDICT),
        ([{"x": 1.5, "y": 2.5, "tool": 0, "details": []}], Problem.NO_ANSWER),
    ],
)
def test_answers_to_one_task(value: Any, verdict: str | Problem) -> None:
    assert verdict_of(value) == verdict


def test_the_first_task_with_an_answer_or_the_one_that_is_named() -> None:
    tree = [
        {"task": "T9", "task_label": "Comment", "value": None},
        {"task": "T0", "task_label": "Smooth?", "value": "Smooth"},
        {"task": "T1", "task_label": "Odd?", "value": "artifact"},
    ]
    assert verdict_of(tree) == "smooth"
    assert verdict_of(tree, task="T1") == "artifact"
    assert verdict_of(tree, task="T5") == Problem.NO_ANSWER
    combined = [{"task": "T7", "task_label": None, "value": tree}]
    assert verdict_of(combined) == "smooth"
    assert verdict_of(combined, task="T1") == "artifact"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"annotations": "[{"}, Problem.UNREADABLE),
        ({"annotations": '"Smooth"'}, Problem.UNREADABLE),
        ({"annotations": "[]"}, Problem.NO_ANSWER),
        ({"subject_data": "{}"}, Problem.UNREADABLE),
        ({"subject_data": json.dumps({"1": {"retired": None}, "2": {"retired": None}})}, Problem.UNREADABLE),
        ({"subject_data": json.dumps({"1": {"Filename": "1.jpg"}})}, Problem.UNREADABLE),
        ({"subject_data": "[1]"}, Problem.UNREADABLE),
        ({"workflow_id": "77"}, Problem.OTHER_WORKFLOW),
    ],
)
def test_classifications_without_a_verdict(fields: dict[str, str], problem: Problem) -> None:
    line = classification(ID, "Smooth", workflow_id="6122")
    assert answer_or_problem(reader_with(workflows=("6122",)), {**line, **fields}) == problem


def test_an_id_that_became_a_float_is_shown_as_it_is() -> None:
    line = {**classification(ID, "Smooth"), "subject_data": '{"99": {"object_id": 1.23765E+18}}'}
    assert reader_with().answer(line).object_text == "1.23765E+18"


def test_nothing_that_names_a_person_is_kept() -> None:
    kept = reader_with().without_names(classification(ID, "Smooth", "Mike"), lambda name: f"<{name.upper()}>")
    assert kept["user_name"] == "<MIKE>"
    text = json.dumps(kept)
    assert not any(private in text for private in ("Mike", "2c61707e96c97a759840", "Mozilla", "e69d40c9"))
    assert kept["annotations"] == classification(ID, "Smooth")["annotations"]
