import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from galaxy_batch.compare.config import CompareConfig
from galaxy_batch.errors import GateError
from jobs.arguments import CommandLine, Shortcut
from jobs.command import run_job
from jobs.compare_catalogs import compare
from tests.support.html_pages import Page
from tests.support.series import OLD_MODEL, OTHER_MODEL, add_catalog, publish_series
from tests.support.skies import sky_rows

HEADINGS = ["Catalogs", "From one release to the next", "Class mix", "Failures and flags", "Confidence"]
KEYS = ["series_uri", "order", "releases", "models", "catalogs", "steps", "skipped", "not_compared"]
CATALOG_KEYS = [
    "catalog_uri", "release", "model_id", "created", "rows", "failed", "failed_share", "failed_interval", "flagged",
    "flagged_share", "flagged_interval", "without_position", "status_counts", "class_counts", "class_shares",
    "flag_counts", "confidence",
]  # fmt: skip
STEP_KEYS = [
    "old", "new", "changed", "matched", "only_old", "only_new", "compared", "flipped", "flip_rate", "flip_interval",
    "psi", "ks", "mean_change", "class_share_change", "failed_rate_increase", "flagged_rate_increase", "gates_crossed",
]  # fmt: skip
SUMMARY_KEYS = [
    "series_uri", "releases", "models", "catalogs", "skipped", "not_compared", "newest_uri", "gates_crossed",
    "report_uri", "comparison_uri",
]  # fmt: skip


def job(folder: Path, output: Path, *more: str) -> dict[str, Any]:
    return compare(Namespace(config=None, set=[f"series_uri={folder}", f"output_uri={output}", *more]))


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = publish_series(tmp_path_factory.mktemp("series"))
    return job(folder, tmp_path_factory.mktemp("out"), "gates.max_flip_rate=0.2")


def test_the_page_and_the_json_agree(summary: dict[str, Any]) -> None:
    content = json.loads(Path(summary["comparison_uri"]).read_text())
    assert list(summary) == SUMMARY_KEYS
    assert list(content) == KEYS
    assert {tuple(catalog) for catalog in content["catalogs"]} == {tuple(CATALOG_KEYS)}
    assert {tuple(step) for step in content["steps"]} == {tuple(STEP_KEYS)}
    assert (summary["releases"], summary["models"], summary["catalogs"], summary["skipped"]) == (3, 2, 4, 2)
    assert summary["newest_uri"] == content["catalogs"][3]["catalog_uri"]
    assert summary["gates_crossed"] == []
    html = Path(summary["report_uri"]).read_text()
    shown = Page(html)
    assert shown.headings == [*HEADINGS, "Skipped"]
    assert len(shown.figures) == 5
    assert not {"script", "link", "iframe", "object"} & set(shown.tags)
    for catalog in content["catalogs"]:
        assert f"{catalog['rows']:,}" in shown.words
        assert f"{catalog['class_shares']['featured']:.1%}" in shown.words
        assert f"{catalog['confidence']['median']:.3f}" in shown.words
    for step in content["steps"]:
        assert f"{step['flip_rate']:.1%}" in shown.words
    assert "max_failed_rate_increase" in shown.text  # dr9 -> dr10, which is not the newest step
    assert "crosses gates" not in shown.text
    assert "its last run: failed" in shown.text
    assert not [word for word in ("nan", "None", "inf") if word in shown.words]


def test_gates_of_the_newest_catalog_decide(tmp_path: Path) -> None:
    folder = publish_series(tmp_path / "catalogs", count=600)
    with pytest.raises(GateError, match="gates crossed by the newest catalog: max_flip_rate") as crossed:
        job(folder, tmp_path / "out")
    assert crossed.value.summary["gates_crossed"] == ["max_flip_rate"]
    assert "The newest catalog crosses gates: max_flip_rate." in Path(crossed.value.summary["report_uri"]).read_text()


def test_one_catalog_is_a_series(tmp_path: Path) -> None:
    add_catalog(tmp_path / "c", "dr8", OLD_MODEL, "", sky_rows(80))
    shown = Page(Path(job(tmp_path / "c", tmp_path / "out")["report_uri"]).read_text())
    assert shown.headings == HEADINGS
    assert len(shown.figures) == 4
    assert "nothing to compare" in shown.text
    assert OTHER_MODEL not in shown.text


def test_text_of_catalogs_is_escaped(tmp_path: Path) -> None:
    add_catalog(tmp_path / "c", "<b>dr1", OLD_MODEL, "2025<i>", sky_rows(80))
    html = Path(job(tmp_path / "c", tmp_path / "out")["report_uri"]).read_text()
    assert "<b>dr1" not in html
    assert "<i>" not in html
    assert "&lt;b&gt;dr1" in html


def test_the_command_takes_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_catalog(tmp_path / "c", "dr8", OLD_MODEL, "2025-01-01", sky_rows(80))
    places = {"old_uri": "OLD", "new_uri": "NEW"}
    to = Shortcut(("FOLDER",), ("output_uri",), "folder")
    line = CommandLine("", CompareConfig, places=places, other_places={"series_uri": "CATALOGS"}, shortcuts={"to": to})
    monkeypatch.setattr(sys, "argv", ["compare_catalogs", str(tmp_path / "c"), "--to", str(tmp_path / "out")])
    assert run_job(line, compare) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["catalogs"] == 1
    monkeypatch.setattr(sys, "argv", ["compare_catalogs", str(tmp_path / "none"), "--to", str(tmp_path / "out")])
    assert run_job(line, compare) == 2
    monkeypatch.setattr(sys, "argv", ["compare_catalogs", "a", "b", "c", "--to", "out"])
    with pytest.raises(SystemExit):
        run_job(line, compare)
    assert "give OLD NEW or CATALOGS or CONFIG.toml, not 3 arguments" in capsys.readouterr().err


def test_a_newest_catalog_that_no_gate_judges_fails_the_job(tmp_path: Path) -> None:
    for number, release in enumerate("abc"):
        catalog = add_catalog(tmp_path / "catalogs", release, OLD_MODEL, f"202{number}-01-01", sky_rows(60))
    next(catalog.glob("dataset/Norder=*/**/*.parquet")).unlink()
    with pytest.raises(GateError, match=r"the newest catalog cannot be compared: c, .* is missing") as failed:
        job(tmp_path / "catalogs", tmp_path / "out")
    assert Path(failed.value.summary["report_uri"]).exists()
