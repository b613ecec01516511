"""The page of similar galaxies has their cutouts, ids and links."""

from pathlib import Path

import pytest

from galaxy_batch.similar import page as similar_page
from galaxy_batch.similar.config import SimilarConfig
from galaxy_batch.similar.similar import find_similar
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.html_pages import Page


def test_cutouts_ids_and_links(survey_catalog: Path, survey: SurveyFiles, tmp_path: Path) -> None:
    asked = [file.stem for file in sorted(survey.images.iterdir()) if int(file.stem) not in survey.defects][:2]
    summary = find_similar(SimilarConfig(str(survey_catalog), tuple(asked), k=4, report_uri=str(tmp_path)))
    html = Path(summary["report_uri"]).read_text()
    shown = Page(html)
    assert shown.headings == asked
    assert html.count('<img src="data:image/jpeg') == 10
    assert shown.text.count("distance 0.") == 8
    assert "1: distance" in shown.text
    assert "further" not in shown.text
    assert not {"script", "link", "iframe", "object"} & set(shown.tags)
    assert any(f"images/{asked[0]}.jpg" in link for link in shown.links)


def test_a_page_is_not_endless(survey_catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                               survey: SurveyFiles) -> None:  # fmt: skip
    monkeypatch.setattr(similar_page, "_MAX_CUTOUTS", 6)
    asked = [file.stem for file in sorted(survey.images.iterdir()) if int(file.stem) not in survey.defects][:2]
    summary = find_similar(SimilarConfig(str(survey_catalog), tuple(asked), k=20, report_uri=str(tmp_path)))
    assert summary["rows"] == 40
    shown = Page(Path(summary["report_uri"]).read_text())
    assert shown.headings == asked[:1]
    assert "1 further galaxy" in shown.text
    assert "5: distance" in shown.text
    assert "6: distance" not in shown.text
