import pytest

from galaxy_batch.verdicts.page_csv import PageReader
from galaxy_batch.verdicts.records import Answer, Problem, parse_time
from galaxy_batch.verdicts.words import Words
from tests.support.skies import MODEL_ID, RELEASE
from tests.support.verdict_files import VERDICTS, answer_or_problem, page_row

READER = PageReader(Words(VERDICTS, {}))


def test_a_line_of_the_page() -> None:
    answer = READER.answer(page_row("1237648720693755918", "smooth", " Anna ", 5, queue="first"))
    assert answer == Answer(
        "1237648720693755918", "smooth", "Anna", parse_time("2026-11-26T18:00:05Z"), "first", RELEASE, MODEL_ID
    )
    assert READER.answer({"object_id": "5", "verdict": "unsure"}) == Answer("5", "unsure", "")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (page_row("5", ""), Problem.NO_ANSWER),
        (page_row("5", "banana"), Problem.UNKNOWN_VERDICT),
    ],
)
def test_lines_without_a_verdict(content: dict[str, object], problem: Problem) -> None:
    assert answer_or_problem(READER, content) == problem


def test_a_pseudonym_takes_the_place_of_the_name() -> None:
    kept = READER.without_names(page_row("5", "smooth", "Anna"), str.upper)
    assert kept["reviewer"] == "ANNA"
    assert READER.without_names(page_row("5", "smooth", ""), str.upper)["reviewer"] == ""
