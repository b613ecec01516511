"""Example rows of a release, and their cutouts."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.config import ClassifyConfig, ManifestConfig, ReportConfig
from galaxy_batch.cutouts.fetch import hash_image
from galaxy_batch.release_page.examples import Example, fetch_tiles
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.storage.files import parquet_bytes
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.release import changed_manifest, page_of
from tests.support.skies import publish_rows, sky_rows, with_columns


class Surveyed:
    """A catalog of the synthetic survey's objects, with the hashes of their cutouts."""

    def __init__(self, folder: Path, survey: SurveyFiles) -> None:
        lines = survey.manifest.read_text().splitlines()[1:]
        self.ids = [int(line.split(",")[0]) for line in lines][:28]  # the others have defects
        rows = sky_rows(28)
        confidence = np.linspace(0.61, 0.99, 28)
        hashes = [hash_image((survey.images / f"{i}.jpg").read_bytes()) for i in self.ids]
        rows = with_columns(
            rows, object_id=self.ids, predicted_class=["smooth", "featured"] * 14, confidence=confidence,
            p_smooth=confidence, p_featured=1 - confidence, status=["ok"] * 28, error=[None] * 28, image_hash=hashes,
            review_flags=[0] * 28, needs_review=[False] * 28,
        )  # fmt: skip
        self.catalog = publish_rows(folder, rows)
        self.source = ManifestConfig(uri=str(survey.manifest), uri_template="images/{object_id}.jpg")
        changed_manifest(self.catalog, self.describe)

    def describe(self, manifest: dict[str, Any]) -> None:
        manifest["config"]["manifest"] = {"uri": self.source.uri, "uri_template": self.source.uri_template}
        manifest["config"]["classify"] = {"chunk_rows": ClassifyConfig().chunk_rows}
        manifest["checkpoint"] = {"spec": {"crop_fraction": 0.75}, "accuracy": 0.9, "ece": 0.02}


@pytest.fixture(scope="module")
def surveyed(survey: SurveyFiles, tmp_path_factory: pytest.TempPathFactory) -> Surveyed:
    return Surveyed(tmp_path_factory.mktemp("surveyed"), survey)


def test_cutouts_are_fetched_again(surveyed: Surveyed) -> None:
    html, shown = page_of(surveyed.catalog)
    pictures = re.findall(
        r'<img src="data:image/jpeg;base64,[^"]+" alt="Cutout of (\d+): (smooth|featured) ([\d.]+)"', html
    )
    assert 4 <= len(pictures) <= 16
    order = {object_id: number for number, object_id in enumerate(surveyed.ids)}
    for object_id, name, confidence in pictures:
        number = order[int(object_id)]
        assert name == ("smooth", "featured")[number % 2]
        assert float(confidence) == pytest.approx(np.linspace(0.61, 0.99, 28)[number], abs=0.006)
    assert "changed since the run" not in shown.text
    assert "accuracy of the checkpoint was 90.0%" in shown.text


def test_missing_and_changed_cutouts_say_so(surveyed: Surveyed, survey: SurveyFiles, tmp_path: Path) -> None:
    uris = [str(survey.images / f"{surveyed.ids[0]}.jpg")] * 14 + [str(tmp_path / "gone.jpg")] * 13
    table = pa.table({"object_id": surveyed.ids[:27], "file": uris})
    (tmp_path / "moved.parquet").write_bytes(parquet_bytes(table))
    source = ManifestConfig(uri=str(tmp_path / "moved.parquet"), image_column="file")
    _, shown = page_of(surveyed.catalog, source=source, config=ReportConfig(cutouts=14))
    assert "changed since the run" in shown.text
    assert "missing" in shown.text
    nowhere = ManifestConfig(uri=str(tmp_path / "no.parquet"), image_column="file")
    _, shown = page_of(surveyed.catalog, source=nowhere)
    assert "img" not in shown.tags
    assert "the source of the cutouts cannot be read" in shown.text


def test_no_examples_need_no_survey() -> None:
    assert fetch_tiles([], {}) == {}


def test_flags_are_named() -> None:
    both = int(ReviewFlag.BLANK | ReviewFlag.AUDIT)
    assert Example(1, "smooth", 0.9, both, "ok", None, 3).flags == "BLANK, AUDIT"
