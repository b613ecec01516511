import dataclasses
import json
import re
import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.compare.config import CompareConfig
from galaxy_batch.compare.gates import Gates
from galaxy_batch.errors import GateError, InputError
from galaxy_batch.synthetic.survey import SurveyFiles
from jobs.arguments import CommandLine
from jobs.command import run_job
from jobs.compare_catalogs import compare
from tests.support.html_pages import Page
from tests.support.release import changed_manifest
from tests.support.repository import REPOSITORY
from tests.support.row_changes import failing, flipped, with_magnitudes
from tests.support.skies import publish_rows, sky_rows, with_columns

CONFIG = REPOSITORY / "jobs" / "configs" / "compare_releases.toml"
GATES = [field.name for field in dataclasses.fields(Gates)]


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return with_magnitudes(sky_rows(3000, seed=8, without_position=0.02))


@pytest.fixture(scope="module")
def old(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_rows(tmp_path_factory.mktemp("old"), rows)


@pytest.fixture(scope="module")
def new(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_rows(tmp_path_factory.mktemp("new"), flipped(rows, np.arange(3000) % 10 == 0))


def settings(**values: object) -> list[str]:
    return [f"{key}={value}" for key, value in values.items()]


def arguments(old: Path, new: Path, output: Path, *more: str) -> Namespace:
    return Namespace(config=str(CONFIG), set=[*settings(old_uri=old, new_uri=new, output_uri=output), *more])


def test_the_page_and_the_json_agree(old: Path, new: Path, tmp_path: Path) -> None:
    more = ('bin_columns=["r"]', "min_cell_rows=30", "gates.max_flip_rate=0.2")
    summary = compare(arguments(old, new, tmp_path, *more))
    assert summary["gates_crossed"] == []
    content = json.loads(Path(summary["comparison_uri"]).read_text())
    assert content["flip_rate"] == summary["flip_rate"] == content["flipped"] / content["compared"]
    assert 0.09 < summary["flip_rate"] < 0.11
    html = Path(summary["report_uri"]).read_text()
    assert f"{content['flipped']:,} of {content['compared']:,} objects" in html
    for flip in content["flips"]:
        assert flip["old_id"] in html
    shown = Page(html)
    assert shown.headings == ["Gates", "Matched objects", "Class changes", "Confidence and probabilities",
                              "Class shares", "Failures and flags"]  # fmt: skip
    assert len(shown.figures) == 4
    others = {source for source in shown.sources if not source.startswith(("data:image/png", "#"))}
    assert others <= set(shown.links)
    assert "No gate is crossed" in html
    assert content["bin_mixes"][0]["groups"][0] in shown.words


def test_changed_galaxies_are_shown_with_their_cutouts(survey: SurveyFiles, tmp_path: Path) -> None:
    """All cutouts have moved from one folder to another, in which one of them is another picture."""
    ids = [int(line.split(",")[0]) for line in survey.manifest.read_text().splitlines()[1:13]]
    rows = sky_rows(12)
    rows = with_columns(
        rows, object_id=ids, predicted_class=["smooth", "featured"] * 6, confidence=[0.9] * 12, status=["ok"] * 12,
        p_smooth=[0.9, 0.1] * 6, p_featured=[0.1, 0.9] * 6, error=[None] * 12,
    )  # fmt: skip
    shutil.copytree(survey.images, tmp_path / "images")
    shutil.copy(survey.images / f"{ids[11]}.jpg", tmp_path / "images" / f"{ids[0]}.jpg")
    shutil.copy(survey.manifest, tmp_path / "objects.csv")
    marks = np.arange(12) < 3
    catalogs = {"old": (rows, survey.manifest), "new": (flipped(rows, marks), tmp_path / "objects.csv")}
    uris = []
    for name, (table, uri) in catalogs.items():
        catalog = publish_rows(tmp_path / name, table)
        source = {"uri": str(uri), "uri_template": "images/{object_id}.jpg"}
        changed_manifest(catalog, lambda m, source=source: m["config"].update(manifest=source, classify={}))
        changed_manifest(catalog, lambda m: m["checkpoint"].update(spec={"crop_fraction": 0.75}))
        uris.append(catalog)
    compare(arguments(*uris, tmp_path / "out", *(f"gates.{gate}=inf" for gate in GATES)))
    html = (tmp_path / "out" / "index.html").read_text()
    shown = Page(html)
    assert set(re.findall(r'<span class="id">(\d+)</span>', html)) == {str(i) for i in ids[:3]}
    assert shown.tags.count("img") == 4
    assert html.count('<figure class="pair">') == 1
    files = {name for name in shown.links if not name.startswith("https://")}
    assert f"../images/{ids[0]}.jpg" in files
    assert all((tmp_path / "out" / name).is_file() for name in files)
    assert len(files) == 4
    assert sum("skyserver" in name for name in shown.links) == 3


def test_a_crossed_gate_fails_after_the_page_is_written(old: Path, new: Path, tmp_path: Path) -> None:
    with pytest.raises(GateError, match="gates crossed: max_flip_rate") as caught:
        compare(arguments(old, new, tmp_path))
    assert caught.value.summary["gates_crossed"] == ["max_flip_rate"]
    assert "Crossed: max_flip_rate." in Path(caught.value.summary["report_uri"]).read_text()


def test_catalogs_with_nothing_in_common_have_a_page(old: Path, tmp_path: Path) -> None:
    other = publish_rows(tmp_path / "other", sky_rows(40, seed=9, first=9000, without_position=1.0))
    with pytest.raises(GateError) as caught:
        compare(arguments(old, other, tmp_path / "out"))
    assert caught.value.summary["flip_rate"] is None
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["flip_rate"] is None
    assert "no matched object has a class in both" in (tmp_path / "out" / "index.html").read_text()


def test_a_catalog_without_classes_has_a_page(old: Path, rows: pa.Table, tmp_path: Path) -> None:
    dark = publish_rows(tmp_path / "dark", failing(rows, np.ones(3000, np.bool_)))
    with pytest.raises(GateError) as caught:
        compare(arguments(old, dark, tmp_path / "out", 'bin_columns=["r"]'))
    assert {"max_failed_rate_increase", "max_psi", "max_class_share_change"} <= set(
        caught.value.summary["gates_crossed"]
    )
    assert (tmp_path / "out" / "index.html").is_file()


def test_the_job_exits_with_3_and_a_summary_line(
    old: Path, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    words = [w for s in settings(old_uri=old, new_uri=new, output_uri=tmp_path) for w in ("--set", s)]
    monkeypatch.setattr("sys.argv", ["compare_catalogs", str(CONFIG), *words])
    assert run_job(CommandLine("", CompareConfig, places={"old_uri": "OLD", "new_uri": "NEW"}), compare) == 3
    assert "gate crossed: max_flip_rate: 0.09" in caplog.text
    assert "Traceback" not in caplog.text
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"old_uri", "new_uri", "matched", "flip_rate", "gates_crossed", "report_uri"} <= summary.keys()
    assert (summary["matched"], summary["gates_crossed"]) == (3000, ["max_flip_rate"])


def test_an_unwritable_output_is_a_config_error(old: Path) -> None:
    with pytest.raises(InputError, match="output_uri"):
        compare(arguments(old, old, Path("/proc/nowhere")))
