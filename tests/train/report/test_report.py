import dataclasses
import json
import re
from typing import Any

import fsspec
import pytest

from galaxy_batch.storage.files import list_names, read_bytes
from tests.support.html_pages import Page
from tests.support.training import part_of, run_of
from train.evaluate.evaluation import evaluate
from train.evaluate.grad_cam_metrics import GradCamGroup, GradCamMetrics
from train.evaluate.metrics import held_out_metrics
from train.evaluate.results import TrainingRun
from train.report.figures import ReportFigures
from train.report.grad_cam_section import grad_cam_verdict
from train.report.report import write_report
from train.report.review_section import review_values

SECTIONS = [
    "Data",
    "Training",
    "Accuracy",
    "Calibration",
    "Review",
    "Grad-CAM",
    "Most confident errors",
    "Provenance",
]


def report_of(run: TrainingRun, name: str) -> tuple[str, dict[str, Any], list[str]]:
    uri = write_report(run, f"memory://report/{name}", grad_cam_limit=12)
    assert uri == f"memory://report/{name}/index.html"
    folder = f"memory://report/{name}"
    return read_bytes(uri).decode(), json.loads(read_bytes(f"{folder}/metrics.json")), list_names(folder)


@pytest.fixture(scope="module")
def written() -> tuple[str, dict[str, Any], list[str]]:
    return report_of(run_of(), "plain")


def test_page_is_self_contained_with_every_section(written: tuple[str, dict[str, Any], list[str]]) -> None:
    html, _, names = written
    page = Page(html)
    assert page.headings == SECTIONS
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in page.sources)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert len(page.figures) == sum(name.endswith(".png") for name in names) == 6
    assert {"index.html", "metrics.json", "coverage.png", "learning_curves.png"} <= set(names)


def test_headline_agrees_with_the_metrics(written: tuple[str, dict[str, Any], list[str]]) -> None:
    html, metrics, _ = written
    text = Page(html).words
    assert metrics["test"]["accuracy"] == 19 / 24
    assert "always “smooth”: 50.0%" in text
    assert "Calibration galaxies16set the temperature and the review limits" in text
    assert "79.2%" in text
    low, high = metrics["test"]["accuracy_interval"]
    assert f"{100 * low:.1f}–{100 * high:.1f}%" in text
    low, high = metrics["test"]["ece_interval"]
    assert low <= metrics["test"]["ece"] <= high
    assert "Only 24 test galaxies" in text
    assert any("Only 24 test galaxies" in warning for warning in metrics["warnings"])
    assert metrics["checkpoint_id"] == "feedbeef"
    assert "feedbeef" in text
    assert metrics["unusable"] == {"missing": 2}
    assert sum(metrics["split"]["test"].values()) == 24
    assert metrics["test"]["review"]["kept"] + round(24 * metrics["test"]["review"]["reviewed_share"]) == 24
    assert [target["accuracy"] for target in metrics["test"]["review_for_accuracy"]] == [0.95, 0.98]


def test_data_is_escaped_and_secrets_stay_out(
    written: tuple[str, dict[str, Any], list[str]],
) -> None:
    html, metrics, _ = written
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "secret" not in html
    assert "sig=abc" not in html
    assert "secret" not in json.dumps(metrics)


def test_three_classes_of_which_one_is_never_predicted() -> None:
    run = run_of(("smooth", "featured", "artifact"), galaxies=12, wrong=0)
    test = run.parts["test"]
    test.logits[:, 2] = -9
    run = dataclasses.replace(run, evaluation=evaluate(test.logits, test.labels, 1.5, 0.95))
    html, metrics, names = report_of(run, "three")
    assert metrics["test"]["classes"]["artifact"]["precision"] is None
    assert metrics["test"]["classes"]["artifact"]["recall"] == 0
    assert "Predicted “artifact”, correct" in Page(html).text
    assert "metrics.json" in names
    assert not re.search(r"\bnan\b", Page(html).text)


def test_no_errors_no_calibration_logits_no_epochs() -> None:
    run = run_of(galaxies=10, wrong=0, epochs=())
    run = dataclasses.replace(run, parts={**run.parts, "calibration": part_of(8, 2, 0, seed=4, with_logits=False)})
    html, metrics, _ = report_of(run, "perfect")
    text = Page(html).text
    assert "No prediction on the test galaxies is wrong" in text
    assert "Too few predictions to compare" in text
    assert "No epochs were run" in text
    assert metrics["test"]["median_confidence"]["wrong"] is None
    assert metrics["test"]["review_for_accuracy"][0]["foresight"] is None
    assert not re.search(r"\bnan\b", text)


def test_an_accuracy_out_of_reach() -> None:
    run = run_of(galaxies=20, wrong=20)
    assert all(cost.test_threshold is None for cost in held_out_metrics(run).review_costs)
    rows = review_values(held_out_metrics(run), ReportFigures())["cost_rows"]
    assert ["95%, test galaxies", "not reached", "–", "–", "–", "–"] in rows


@pytest.mark.parametrize(
    ("inside", "ratio", "words"),
    [
        ((-0.1, 0.1), (-1, 1), "No significant difference"),
        ((0.1, 0.2), (0.1, 1), "wrong predictions lie less on the galaxy"),
        ((-0.2, -0.1), (-2, -1), "wrong predictions lie more on the galaxy"),
        ((-0.1, 0.1), (0.1, 1), "less concentrated on the galaxy for its size"),
        ((0.1, 0.2), (-1, 1), "galaxies are smaller"),
        ((0.1, 0.2), (-2, -1), "galaxies are smaller"),
    ],
)
def test_grad_cam_verdict_follows_the_intervals(
    inside: tuple[float, float], ratio: tuple[float, float], words: str
) -> None:
    groups = {"all": (GradCamGroup(200, 0.6, 0.3, 2.0), GradCamGroup(40, 0.5, 0.2, 1.9))}
    verdict = grad_cam_verdict(GradCamMetrics(240, groups, sum(inside) / 2, inside, sum(ratio) / 2, ratio))
    assert words in verdict
    assert "0.60 for correct and 0.50 for wrong" in verdict
    few = {"all": (GradCamGroup(200, 0.6, 0.3, 2.0), GradCamGroup(9, 0.5, 0.2, 1.9))}
    assert "Too few predictions" in grad_cam_verdict(GradCamMetrics(209, few, 0.1, inside, 0.1, ratio))


@pytest.fixture(scope="module", autouse=True)
def _clean_memory() -> Any:
    yield
    fsspec.filesystem("memory").rm("/report", recursive=True)
