"""Questions as data: the published trees and tables, and what follows from the answers."""

import csv
import dataclasses
import gzip
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from galaxy_batch.decision_tree import (
    GALAXY_ZOO_2,
    VOTE_COLUMNS,
    Answer,
    Question,
    answer_fractions,
    asked_fractions,
    known_questions,
    split_answers,
)
from galaxy_batch.errors import InputError

NAMES = [question.name for question in GALAXY_ZOO_2]
# Questions by Galaxy Zoo 2 task, and the task that each answer leads to (Willett et al. 2013, table 2).
TABLE_2 = {
    1: [7, 2, None], 2: [9, 3], 3: [4, 4], 4: [10, 5], 5: [6, 6, 6, 6], 6: [8, None], 7: [6, 6, 6],
    8: [None] * 7, 9: [6, 6, 6], 10: [11, 11, 11], 11: [5] * 6,
}  # fmt: skip


def random_fractions(questions: tuple[Question, ...], galaxies: int = 50, seed: int = 0) -> dict[str, np.ndarray]:
    answers = sum(len(question.answers) for question in questions)
    return answer_fractions(questions, np.random.default_rng(seed).lognormal(0, 1, (galaxies, answers)))


def paths_to(name: str, questions: tuple[Question, ...]) -> list[list[tuple[str, int]]]:
    """Every sequence of answers from the first question to this one."""
    by_name, complete = {question.name: question for question in questions}, []
    open_paths: list[tuple[str, list[tuple[str, int]]]] = [(questions[0].name, [])]
    while open_paths:
        at, path = open_paths.pop()
        if at == name:
            complete.append(path)
            continue
        for place, answer in enumerate(by_name[at].answers):
            if answer.next is not None:
                open_paths.append((answer.next, [*path, (at, place)]))
    return complete


def test_the_tree_is_that_of_the_paper() -> None:
    for task, after in TABLE_2.items():
        following = [None if n is None else NAMES[n - 1] for n in after]
        assert [answer.next for answer in GALAXY_ZOO_2[task - 1].answers] == following
    assert sum(len(question.answers) for question in GALAXY_ZOO_2) == 37


def test_names_are_part_of_column_names() -> None:
    columns = [n for q in GALAXY_ZOO_2 for n in (q.asked_column, *q.fraction_columns, *q.dirichlet_columns)]
    assert all(re.fullmatch("[a-z][a-z0-9_]*", column) for column in columns)
    assert len(set(columns)) == len(columns) == 11 + 2 * 37
    assert GALAXY_ZOO_2[1].fraction_columns == ("disk_edge_on_yes_fraction", "disk_edge_on_no_fraction")
    assert (GALAXY_ZOO_2[1].asked_column, GALAXY_ZOO_2[1].title) == ("disk_edge_on_asked_fraction", "disk edge on")


def test_every_table_has_a_column_for_each_answer() -> None:
    for table, columns in VOTE_COLUMNS.items():
        for question in GALAXY_ZOO_2:
            if not (table == "galaxy-datasets" and question.name == "odd_feature"):
                assert len(columns[question.name]) == len(question.answers)
    assert VOTE_COLUMNS["kaggle"]["spiral_arm_count"][-1] == "Class11.6"
    assert VOTE_COLUMNS["galaxy-datasets"]["bulge_size"][1] == "bulge-size-gz2_just-noticeable"


def test_the_columns_are_those_of_the_published_tables(sky: Path) -> None:
    with (sky / "gz2" / "training_solutions.csv").open() as file:
        kaggle = next(csv.reader(file))
    of_kaggle = [column for columns in VOTE_COLUMNS["kaggle"].values() for column in columns]
    assert [column for column in of_kaggle if column in kaggle] == kaggle[1:]
    with gzip.open(sky / "catalogs" / "gz2_table5_stripe82_coadd2.csv.gz", "rt") as file:
        willett = next(csv.reader(file))
    counts = [column for column in willett if re.fullmatch(r"t\d.*_a\d.*_count", column)]
    assert counts == [column for columns in VOTE_COLUMNS["gz2"].values() for column in columns]


def test_the_volunteers_of_the_published_table_follow_the_tree(sky: Path) -> None:
    """The votes for a question are at most those for the answers that lead to it, in nearly every galaxy."""
    columns = VOTE_COLUMNS["gz2"]
    with gzip.open(sky / "catalogs" / "gz2_table5_stripe82_coadd2.csv.gz", "rt") as file:
        rows = list(itertools.islice(csv.DictReader(file), 3000))
    leading: dict[str, list[str]] = {}
    for question in GALAXY_ZOO_2:
        for answer, column in zip(question.answers, columns[question.name], strict=True):
            if answer.next is not None:
                leading.setdefault(answer.next, []).append(column)
    for name, before in leading.items():
        asked = np.array([sum(float(row[column]) for column in columns[name]) for row in rows])
        led = np.array([sum(float(row[column]) for column in before) for row in rows])
        assert np.mean(np.abs(asked - led) <= 1) > 0.95, name


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["smooth_or_featured", "ring"], "no such question"),
        (["disk_edge_on"], "every volunteer starts at smooth_or_featured"),
        (["smooth_or_featured", "bar"], "disk_edge_on decides whether bar is asked"),
        (["smooth_or_featured", "odd_feature"], "something_odd decides whether odd_feature is asked"),
        (["smooth_or_featured", "disk_edge_on", "spiral_winding"], "has_spiral_arms decides whether spiral_winding"),
    ],
)
def test_questions_whose_share_asked_is_unknown_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        known_questions(names)
    assert caught.value.field == "labels.questions"


def test_questions_left_out_are_skipped() -> None:
    few = known_questions(["odd_feature", "smooth_or_featured", "something_odd", "disk_edge_on"])
    assert [question.name for question in few] == ["smooth_or_featured", "disk_edge_on", "something_odd", "odd_feature"]
    assert [[answer.next for answer in question.answers] for question in few[:3]] == [
        ["something_odd", "disk_edge_on", None], ["something_odd", "something_odd"], ["odd_feature", None]
    ]  # fmt: skip
    assert known_questions(NAMES) == GALAXY_ZOO_2
    assert known_questions([]) == ()


def test_questions_are_kept_in_json() -> None:
    written = json.loads(json.dumps([dataclasses.asdict(question) for question in GALAXY_ZOO_2]))
    assert tuple(map(Question.from_json, written)) == GALAXY_ZOO_2
    with pytest.raises(KeyError):
        Question.from_json({"name": "bar"})


def test_fractions_are_the_means_of_the_distributions() -> None:
    questions = known_questions(["smooth_or_featured", "disk_edge_on"])
    values = np.array([[1.0, 2.0, 1.0, 30.0, 10.0]])
    assert {name: part.tolist() for name, part in split_answers(questions, values).items()} == {
        "smooth_or_featured": [[1.0, 2.0, 1.0]], "disk_edge_on": [[30.0, 10.0]]
    }  # fmt: skip
    fractions = answer_fractions(questions, values)
    assert fractions["smooth_or_featured"].tolist() == [[0.25, 0.5, 0.25]]
    assert fractions["disk_edge_on"].tolist() == [[0.75, 0.25]]
    assert {name: share.tolist() for name, share in asked_fractions(questions, fractions).items()} == {
        "smooth_or_featured": [1.0], "disk_edge_on": [0.5]
    }  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [NAMES, NAMES[:2], ["smooth_or_featured", "disk_edge_on", "something_odd", "how_rounded", "odd_feature"]],
    ids=len,
)
def test_the_share_asked_is_the_sum_over_all_paths(names: list[str]) -> None:
    questions = known_questions(names)
    fractions = random_fractions(questions)
    asked = asked_fractions(questions, fractions)
    assert list(asked) == [question.name for question in questions]
    for question in questions:
        paths = paths_to(question.name, questions)
        products = [np.prod([fractions[name][:, place] for name, place in path] or [np.ones(50)], 0) for path in paths]
        assert np.allclose(asked[question.name], np.sum(products, axis=0), atol=1e-12)
        assert asked[question.name].max() <= 1


def test_a_question_to_which_nothing_leads_is_not_asked() -> None:
    questions = (Question("a", (Answer("yes"), Answer("no"))), Question("b", (Answer("yes"), Answer("no"))))
    assert asked_fractions(questions, random_fractions(questions))["b"].tolist() == [0] * 50


def test_rounding_gives_no_share_above_one() -> None:
    questions = known_questions(NAMES)
    fractions = {name: part.astype(np.float32) for name, part in random_fractions(questions, 20_000).items()}
    fractions["smooth_or_featured"][:, 2] = 0
    fractions["smooth_or_featured"][:, :2] /= fractions["smooth_or_featured"][:, :2].sum(axis=1, keepdims=True)
    asked = asked_fractions(questions, fractions)["something_odd"]
    assert asked.dtype == np.float32
    assert asked.max() == 1
