import json
import math
from typing import Any

import fsspec
import pytest

from galaxy_batch.storage.files import read_bytes
from tests.support.html_pages import Page
from tests.support.training import run_of
from train.evaluate.question_scores import QuestionScore, QuestionScores
from train.report.question_section import question_values
from train.report.report import write_report

SCORES = QuestionScores(
    questions=(
        QuestionScore("disk_edge_on", 321, 0.1234, 0.0678, 0.701, 0.948),
        QuestionScore("odd_feature", 0, math.nan, math.nan, math.nan, math.nan),
    ),
    galaxies=1605, rmse=0.0987, coverage_68=0.694, coverage_95=0.951,
)  # fmt: skip


def test_each_question_is_a_row() -> None:
    assert question_values(SCORES)["question_rows"] == [
        ["disk edge on", "321", "0.123", "6.8%", "70.1%", "94.8%"],
        ["odd feature", "0", "–", "–", "–", "–"],
        ["all", "1,605", "–", "–", "69.4%", "95.1%"],
    ]


def test_the_report_has_the_section_and_the_metrics() -> None:
    uri = write_report(run_of(question_scores=SCORES), "memory://questions/report", grad_cam_limit=2)
    page = Page(read_bytes(uri).decode())
    assert page.headings.index("Decision tree") == page.headings.index("Review") + 1
    assert "the root mean square error is 0.099" in page.words
    assert "winner reached 0.075 over 37 columns with 61,578 training galaxies" in page.words
    assert "at least 10 volunteers" in page.words
    metrics = json.loads(read_bytes("memory://questions/report/metrics.json"))
    assert metrics["questions"]["rmse"] == 0.0987
    assert metrics["questions"]["questions"][0]["name"] == "disk_edge_on"
    assert metrics["questions"]["questions"][1]["rmse"] is None


def test_a_run_without_questions_has_no_section() -> None:
    uri = write_report(run_of(), "memory://questions/without", grad_cam_limit=2)
    assert "Decision tree" not in Page(read_bytes(uri).decode()).headings
    assert json.loads(read_bytes("memory://questions/without/metrics.json"))["questions"] is None


@pytest.fixture(scope="module", autouse=True)
def _clean_memory() -> Any:
    yield
    fsspec.filesystem("memory").rm("/questions", recursive=True)
