"""The page of a release: from a published catalog, without Ray or a model."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.catalog.layout import MANIFEST
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.config import ReportConfig
from galaxy_batch.errors import InputError
from galaxy_batch.release_page.page import write_release_page
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.settings import parse_config
from jobs.release_report import ReleaseReportConfig
from tests.conftest import REPOSITORY
from tests.support.html_pages import Page
from tests.support.skies import publish_rows, sky_rows

SECTIONS = [
    "Classes",
    "The sky",
    "Accuracy to expect",
    "Review",
    "Galaxies",
    "How to query it",
    "How it was made",
]
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


def replaced(rows: pa.Table, **columns: Any) -> pa.Table:
    for name, values in columns.items():
        place, kind = rows.column_names.index(name), rows.schema.field(name).type
        rows = rows.set_column(place, name, pa.array(values, kind))
    return rows


def changed_manifest(catalog: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((catalog / MANIFEST).read_text())
    change(manifest)
    (catalog / MANIFEST).write_text(json.dumps(manifest))


def page_of(catalog: Path, **keywords: Any) -> tuple[str, Page]:
    report = keywords.pop("config", ReportConfig(cutouts=4))
    uri = write_release_page(str(catalog), str(catalog.parent / "report"), report, **keywords)
    assert uri == str(catalog.parent / "report" / "index.html")
    html = Path(uri).read_text()
    shown = Page(html)
    assert re.findall(r"<h2[^>]*>([^<]+)</h2>", html) == SECTIONS
    assert all(source.startswith(("data:image/", "#")) for source in shown.sources)
    assert not {"script", "link", "iframe", "object"} & set(shown.tags)
    assert html.count("<img ") == len(re.findall(r'<img [^>]*alt="[^"]+"', html))
    assert html.count("<svg ") == len(re.findall(r'<svg [^>]*aria-label="[^"]+"', html))
    assert not re.search(r"\bnan\b|None|\binf\b", shown.text)
    return html, shown


def test_the_page_says_what_the_catalog_has(tmp_path: Path) -> None:
    catalog = publish_rows(tmp_path, sky_rows(3000, lost=0.1))
    manifest = json.loads((catalog / MANIFEST).read_text())
    html, shown = page_of(catalog, run={"steady_rate_per_s": 123.4, "step_seconds": {"classify": 5.5}})
    assert "3,000" in shown.text
    assert f"{manifest['without_position']:,} of 3,000 rows have no position" in shown.text
    for name, count in manifest["class_counts"].items():
        assert f"{name}{count:,}" in shown.text
    assert f"{manifest['flag_counts']['REPEATED_IMAGE']:,}" in shown.text
    assert html.count("<svg ") == 5  # classes, confidence, two maps, review
    for words in (manifest["run_id"], manifest["fingerprint"], manifest["model_id"], "123.4", "audit_fraction"):
        assert words in shown.text
    assert f"FROM '{catalog}/**/*.parquet'" in shown.text
    assert verify_catalog(str(catalog)) == []  # the page is beside the catalog, not in it


def test_what_data_says_is_only_text(tmp_path: Path) -> None:
    rows = sky_rows(60, text_ids=True)
    ids = [f"{HOSTILE}{number}" for number in range(60)]
    failed = rows["predicted_class"].is_null().to_numpy().copy()
    failed[:9] = True
    rows = replaced(
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


def test_no_row_has_a_class(tmp_path: Path) -> None:
    rows = sky_rows(50)
    nothing = [None] * 50
    rows = replaced(
        rows, predicted_class=nothing, confidence=nothing, p_smooth=nothing, p_featured=nothing, image_hash=nothing,
        status=["missing"] * 50, error=["no such file"] * 50, review_flags=[int(ReviewFlag.UNREADABLE)] * 50,
    )  # fmt: skip
    _, shown = page_of(publish_rows(tmp_path, rows))
    assert "No row has a class, so there is nothing to expect." in shown.text
    assert "50 missing" in shown.text
    assert "No row with a position has a class" in shown.text


def test_no_row_has_a_position(tmp_path: Path) -> None:
    _, shown = page_of(publish_rows(tmp_path, sky_rows(50, lost=2.0)))
    assert "No row has a position, so there is no map." in shown.text


def test_a_class_without_galaxies_and_no_contact_sheet(tmp_path: Path) -> None:
    rows = sky_rows(200)
    smooth = rows["predicted_class"].is_valid().to_numpy()
    rows = replaced(rows, predicted_class=np.where(smooth, "smooth", None))
    catalog = publish_rows(tmp_path, rows)
    _, shown = page_of(catalog, config=ReportConfig(cutouts=0))
    assert "featured00.0%0" in shown.text
    assert "featured: 0" in shown.text
    assert shown.tags.count("img") == 0


def test_the_job_makes_the_same_page_again(tmp_path: Path) -> None:
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


def test_a_place_without_a_catalog_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing is published there"):
        write_release_page(str(tmp_path), str(tmp_path / "report"), ReportConfig())
    assert parse_config(ReleaseReportConfig, {"catalog_uri": "a"}).manifest is None
