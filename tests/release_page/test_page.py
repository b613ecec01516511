"""The release page, made from a published catalog without Ray or a model."""

import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from galaxy_batch.catalog.manifest import MANIFEST
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.config import ReportConfig
from galaxy_batch.errors import InputError
from galaxy_batch.release_page.page import write_release_page
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.settings import parse_config
from jobs.release_report import ReleaseReportConfig
from tests.support.release import changed_manifest, page_of
from tests.support.repository import REPOSITORY
from tests.support.skies import publish_rows, sky_rows, with_columns
from tests.support.votes import FEW_QUESTIONS, with_votes

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


def test_the_page_has_the_numbers_of_the_catalog(tmp_path: Path) -> None:
    catalog = publish_rows(tmp_path, sky_rows(3000, without_position=0.1))
    manifest = json.loads((catalog / MANIFEST).read_text())
    _, shown = page_of(catalog, run={"steady_rate_per_s": 123.4, "step_seconds": {"classify": 5.5}})
    assert "3,000" in shown.text
    assert f"{manifest['without_position']:,} of 3,000 rows have no position" in shown.text
    for name, count in manifest["class_counts"].items():
        assert f"{name}{count:,}" in shown.text
    assert f"{manifest['flag_counts']['REPEATED_IMAGE']:,}" in shown.text
    assert [label.split(" ")[0] for label in shown.figures] == ["Histograms", "Map", "Map", "Expected"]
    for words in (manifest["run_id"], manifest["fingerprint"], manifest["model_id"], "123.4", "audit_fraction"):
        assert words in shown.text
    assert f"FROM '{catalog}/**/*.parquet'" in shown.text
    assert verify_catalog(str(catalog)) == []  # the page is beside the catalog, not in it


def test_the_page_has_the_decision_tree(tmp_path: Path) -> None:
    rows = with_votes(sky_rows(400), concentrations=True)
    catalog = publish_rows(tmp_path, rows)
    html, shown = page_of(catalog, config=ReportConfig(cutouts=2))
    (asked,) = duckdb.sql(
        "SELECT count(*), avg(disk_edge_on_yes_fraction), count(*) FILTER (disk_edge_on_yes_fraction >= 0.5)"
        f" FROM '{catalog}/**/*.parquet' WHERE disk_edge_on_asked_fraction >= 0.5"
    ).fetchall()
    assert f"{asked[0]:,} galaxies by fraction of each answer" in shown.words
    assert f"yes{asked[1]:.1%}{asked[2]:,}{asked[2] / asked[0]:.1%}" in shown.text.replace("\n", "")
    strongest = duckdb.sql(
        f"SELECT object_id, disk_edge_on_yes_fraction FROM '{catalog}/**/*.parquet' WHERE disk_edge_on_asked_fraction "
        ">= 0.5 AND review_flags & 60 = 0 ORDER BY 2 DESC LIMIT 2"
    ).fetchall()
    sheet = html.partition("<h4>Disk edge on: yes</h4>")[2].partition("<h4>")[0]
    for object_id, fraction in strongest:
        assert f"yes {fraction:.2f}" in sheet
        assert str(object_id) in sheet
    assert sum(label.startswith("Distributions of the fractions") for label in shown.figures) == len(FEW_QUESTIONS)
    for words in ("Expected share of the volunteers who are asked: disk edge on", "disk_edge_on_yes_dirichlet"):
        assert words in shown.text
    assert "spec.questionssmooth_or_featured, disk_edge_on, something_odd, how_rounded" in shown.text.replace("\n", "")


def test_a_question_that_nobody_is_asked(tmp_path: Path) -> None:
    rows = with_votes(sky_rows(60))
    asked = rows["disk_edge_on_asked_fraction"].to_pandas() * 0.4
    _, shown = page_of(publish_rows(tmp_path, with_columns(rows, disk_edge_on_asked_fraction=asked)))
    assert "No galaxy counts for this question." in shown.text


def test_hostile_text_is_escaped(tmp_path: Path) -> None:
    rows = sky_rows(60, text_ids=True)
    ids = [f"{HOSTILE}{number}" for number in range(60)]
    failed = rows["predicted_class"].is_null().to_numpy().copy()
    failed[:9] = True
    rows = with_columns(
        rows,
        object_id=ids,
        predicted_class=np.where(failed, None, rows["predicted_class"].to_numpy()),
        confidence=[None if bad else c for bad, c in zip(failed, rows["confidence"].to_pylist(), strict=True)],
        status=np.where(failed, "missing", "ok").tolist(),
        error=[f"no {HOSTILE}" if bad else None for bad in failed],
    )
    catalog = publish_rows(tmp_path / "a'b", rows)

    def hostile(manifest: dict[str, Any]) -> None:
        manifest["config"]["manifest"] = {"uri": HOSTILE, HOSTILE: HOSTILE}
        manifest["release"] = manifest["survey"] = HOSTILE
        manifest["versions"] = {HOSTILE: HOSTILE}

    changed_manifest(catalog, hostile)
    html, shown = page_of(catalog)
    assert "<script" not in html
    assert "img" not in shown.tags
    assert HOSTILE in shown.text
    assert f"no {HOSTILE}" in shown.text
    assert "a''b" in shown.text  # in SQL


def test_a_catalog_without_classes_has_a_page(tmp_path: Path) -> None:
    rows = sky_rows(50)
    nothing = [None] * 50
    rows = with_columns(
        rows, predicted_class=nothing, confidence=nothing, p_smooth=nothing, p_featured=nothing, image_hash=nothing,
        status=["missing"] * 50, error=["no such file"] * 50, review_flags=[int(ReviewFlag.UNREADABLE)] * 50,
    )  # fmt: skip
    _, shown = page_of(publish_rows(tmp_path, rows))
    assert "No row has a class, so no accuracy can be estimated." in shown.text
    assert "50 missing" in shown.text
    assert "No row with a position has a class" in shown.text


def test_a_catalog_without_positions_has_a_page(tmp_path: Path) -> None:
    _, shown = page_of(publish_rows(tmp_path, sky_rows(50, without_position=2.0)))
    assert "No row has a position, so there is no map." in shown.text


def test_an_empty_class_and_no_contact_sheet(tmp_path: Path) -> None:
    rows = sky_rows(200)
    smooth = rows["predicted_class"].is_valid().to_numpy()
    rows = with_columns(rows, predicted_class=np.where(smooth, "smooth", None))
    catalog = publish_rows(tmp_path, rows)
    _, shown = page_of(catalog, config=ReportConfig(cutouts=0))
    assert "featured00.0%0" in shown.text
    assert any("featured: 0" in label for label in shown.figures)
    assert shown.tags.count("img") == 0


def test_the_job_makes_the_same_page(tmp_path: Path) -> None:
    catalog = publish_rows(tmp_path, sky_rows(100))
    first, _ = page_of(catalog, config=ReportConfig(cutouts=2))
    (tmp_path / "again.toml").write_text(f"catalog_uri = {str(catalog)!r}\n[report]\ncutouts = 2\n")
    report = f"report_uri={tmp_path / 'again'}"
    done = subprocess.run(
        [sys.executable, "-m", "jobs.release_report", str(tmp_path / "again.toml"), "--set", report],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary == {"catalog_uri": str(catalog), "report_uri": str(tmp_path / "again" / "index.html")}
    assert Path(summary["report_uri"]).read_text() == first


def test_a_folder_without_a_catalog_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no catalog is published there"):
        write_release_page(str(tmp_path), str(tmp_path / "report"), ReportConfig())
    assert parse_config(ReleaseReportConfig, {"catalog_uri": "a"}).manifest is None


def test_expected_accuracy_is_shown_with_its_condition(tmp_path: Path) -> None:
    catalog = publish_rows(tmp_path, sky_rows(300))
    changed_manifest(
        catalog,
        lambda manifest: manifest["checkpoint"].update(
            accuracy=0.9, ece=0.03, training={"galaxies_per_split": {"calibration": 258}}
        ),
    )
    _, shown = page_of(catalog)
    assert "for galaxies like the calibration sample" in shown.words
    assert "258 calibration galaxies set its temperature" in shown.words
    assert "not the expected accuracy" not in shown.words


@pytest.mark.parametrize(
    ("ece", "unfamiliar", "reason"), [(0.22, 0, "error is 0.220"), (0.03, 0.3, "% of the galaxies are unlike")]
)
def test_expected_accuracy_is_not_shown_where_it_does_not_hold(
    tmp_path: Path, ece: float, unfamiliar: float, reason: str
) -> None:
    rows = sky_rows(400)
    flags = rows["review_flags"].to_numpy().copy()
    classified = np.flatnonzero(rows["predicted_class"].is_valid().to_numpy())
    flags &= ~int(ReviewFlag.UNFAMILIAR)
    flags[classified[: round(unfamiliar * len(classified))]] |= int(ReviewFlag.UNFAMILIAR)
    catalog = publish_rows(tmp_path, with_columns(rows, review_flags=flags))
    changed_manifest(catalog, lambda manifest: manifest["checkpoint"].update(accuracy=0.9, ece=ece))
    _, shown = page_of(catalog)
    assert "The mean confidence is not the expected accuracy here: " in shown.words
    assert reason in shown.words
    assert "Expected accuracyunknown" in shown.words
    assert not any(label.startswith("Expected accuracy") for label in shown.figures)


def test_the_queries_on_the_page_run(tmp_path: Path) -> None:
    html, _ = page_of(publish_rows(tmp_path, sky_rows(300)))
    queries = re.findall(r"<pre><code>(.*?)</code></pre>", html, re.DOTALL)[0]
    for query in unescape(queries.replace("<wbr>", "")).split(";"):
        if query.strip():
            assert duckdb.sql(query).fetchall()
