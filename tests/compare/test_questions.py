"""Changes of vote fractions, compared with pandas."""

import json
from pathlib import Path

import numpy as np
import pytest

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.compare.compare import compare_catalogs
from galaxy_batch.compare.config import CompareConfig
from galaxy_batch.compare.page import write_comparison
from galaxy_batch.compare.questions import common_questions, question_change, read_fractions
from galaxy_batch.decision_tree import known_questions
from galaxy_batch.errors import InputError
from galaxy_batch.settings import parse_config
from tests.support.html_pages import Page
from tests.support.skies import publish_rows, read_catalog, sky_rows
from tests.support.votes import FEW_QUESTIONS, with_votes

TWO = known_questions(["smooth_or_featured", "disk_edge_on"])


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The new one lacks two questions and the first hundred rows, and has other votes."""
    rows = sky_rows(1200, seed=8)
    old = publish_rows(tmp_path_factory.mktemp("old"), with_votes(rows, FEW_QUESTIONS, seed=1))
    new = publish_rows(tmp_path_factory.mktemp("new"), with_votes(rows.slice(100), TWO, seed=2, concentrations=True))
    return old, new


def config(old: Path, new: Path, output: Path | str = "unused") -> CompareConfig:
    values = {"old_uri": str(old), "new_uri": str(new), "output_uri": str(output), "min_cell_rows": 30}
    return parse_config(CompareConfig, values)


def test_the_changes_are_those_of_pandas(catalogs: tuple[Path, Path]) -> None:
    result = compare_catalogs(config(*catalogs))
    assert [question.name for question in result.questions] == ["smooth_or_featured", "disk_edge_on"]
    old, new = (read_catalog(catalog).to_pandas().set_index("object_id") for catalog in catalogs)
    both = old.add_suffix("_old").join(new.add_suffix("_new"), how="inner")
    for question, change in zip(TWO, result.questions, strict=True):
        asked = question.asked_column
        counted = [frame[frame[asked] >= 0.5] for frame in (old, new)]
        matched = both[(both[f"{asked}_old"] >= 0.5) & (both[f"{asked}_new"] >= 0.5)]
        assert (change.old_rows, change.new_rows) == (len(counted[0]), len(counted[1]))
        assert change.matched == len(matched) > 50
        everywhere = zip([asked], [change.asked], [(old, new)], [both], strict=True)
        answers = zip(question.fraction_columns, change.answers.values(), [counted] * 9, [matched] * 9, strict=False)
        for column, fraction, frames, pairs in [*everywhere, *answers]:
            difference = (pairs[f"{column}_new"] - pairs[f"{column}_old"]).astype(float)
            assert fraction.old_mean == pytest.approx(frames[0][column].astype(float).mean())
            assert fraction.new_mean == pytest.approx(frames[1][column].astype(float).mean())
            assert fraction.mean_change == pytest.approx(difference.mean(), abs=1e-7)
            assert fraction.rms_change == pytest.approx(np.sqrt((difference**2).mean()), abs=1e-7)
        assert list(change.answers) == [answer.name for answer in question.answers]


def test_page_and_json_have_them(catalogs: tuple[Path, Path], tmp_path: Path) -> None:
    settings = config(*catalogs, tmp_path)
    result = compare_catalogs(settings)
    json_uri, page_uri = write_comparison(result, settings)
    first = json.loads(Path(json_uri).read_text())["questions"][0]
    assert first.keys() == {"name", "asked", "old_rows", "new_rows", "matched", "answers"}
    assert first["answers"]["smooth"]["old_mean"] == result.questions[0].answers["smooth"].old_mean
    shown = Page(Path(page_uri).read_text())
    assert "Decision tree" in shown.headings
    assert f"featured or disk{first['answers']['featured_or_disk']['old_mean']:.1%}" in shown.text.replace("\n", "")
    assert f"{first['matched']:,} matched objects in both" in shown.words
    assert "Bulge size" not in shown.text


def test_the_same_catalog_has_no_change(catalogs: tuple[Path, Path]) -> None:
    for question in compare_catalogs(config(catalogs[0], catalogs[0])).questions:
        for change in (question.asked, *question.answers.values()):
            assert (change.mean_change, change.rms_change) == (0, 0)


def test_catalogs_without_common_questions(catalogs: tuple[Path, Path], tmp_path: Path) -> None:
    without = publish_rows(tmp_path / "without", sky_rows(1200, seed=8))
    settings = config(catalogs[0], without, tmp_path)
    result = compare_catalogs(settings)
    assert result.questions == []
    assert "Decision tree" not in Page(Path(write_comparison(result, settings)[1]).read_text()).headings


def test_only_answers_of_both_are_compared(catalogs: tuple[Path, Path]) -> None:
    old, new = (require_manifest(str(catalog)) for catalog in catalogs)
    fewer = [{**question, "answers": question["answers"][:2]} for question in new.checkpoint["spec"]["questions"]]
    new.checkpoint["spec"]["questions"] = fewer
    assert [(question.name, names) for question, names in common_questions(old, new)] == [
        ("smooth_or_featured", ["smooth", "featured_or_disk"]), ("disk_edge_on", ["yes", "no"])
    ]  # fmt: skip


def test_no_rows_have_no_means() -> None:
    nothing = np.full((2, 3), np.nan, np.float32)
    change = question_change("bar", ["yes"], (nothing, nothing), (np.arange(3), np.arange(3)))
    assert (change.old_rows, change.new_rows, change.matched) == (0, 0, 0)
    assert np.isnan([change.asked.old_mean, change.answers["yes"].rms_change]).all()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    catalog = publish_rows(tmp_path, with_votes(sky_rows(50)))
    manifest = require_manifest(str(catalog))
    (catalog / manifest.files[0].path).unlink()
    with pytest.raises(InputError, match="is missing: verify the catalog"):
        read_fractions("old_uri", str(catalog), manifest, FEW_QUESTIONS[0], ["smooth"])


def test_null_is_nan(tmp_path: Path) -> None:
    rows = with_votes(sky_rows(300))
    catalog = publish_rows(tmp_path, rows)
    values = read_fractions("old_uri", str(catalog), require_manifest(str(catalog)), FEW_QUESTIONS[1], ["no", "yes"])
    assert values.shape == (3, 300)
    assert np.isnan(values).any(axis=0).sum() == rows["predicted_class"].null_count > 0
    assert np.nanmax(np.abs(values[1] + values[2] - 1)) < 1e-6
