"""Example rows of a release, and their cutouts."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.config import ClassifyConfig, ManifestConfig, ReportConfig
from galaxy_batch.cutouts.fetch import hash_image
from galaxy_batch.model.checkpoint import Checkpoint
from galaxy_batch.model.engines.choose import converted_network
from galaxy_batch.model.network import build_model
from galaxy_batch.model.saved_model import save_checkpoint
from galaxy_batch.model.spec import RANDOM, ModelSpec
from galaxy_batch.release_page.examples import Example
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.storage.files import parquet_bytes
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.release import changed_manifest, page_of
from tests.support.skies import publish_rows, read_catalog, sky_rows, with_columns

HALF = (0.5, 0.5, 0.5)


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


def test_every_example_has_its_id_and_links(surveyed: Surveyed) -> None:
    links = {"page": "https://a.org/?at={ra},{dec}"}
    html, shown = page_of(surveyed.catalog, config=ReportConfig(cutouts=4, links=links))
    ids = re.findall(r'<span class="id">(\d+)</span>', html)
    rows = {row["object_id"]: row for row in read_catalog(surveyed.catalog).to_pylist()}
    assert len(ids) >= 8
    for object_id in ids:
        row = rows[int(object_id)]
        assert f"https://a.org/?at={row['ra']:.6f},{row['dec']:.6f}" in shown.links
        (cutout,) = (link for link in shown.links if link.endswith(f"/{object_id}.jpg"))
        assert (surveyed.catalog.parent / "report" / cutout).is_file()


def test_flags_are_named_and_explained_where_the_model_sets_them() -> None:
    def with_flags(flags: int) -> Example:
        return Example(1, None, None, "smooth", 0.9, flags, "ok", None, 3)

    assert with_flags(ReviewFlag.BLANK | ReviewFlag.AUDIT).flags == "BLANK, AUDIT"
    explained = (ReviewFlag.LOW_CONFIDENCE, ReviewFlag.UNFAMILIAR, ReviewFlag.UNSTABLE)
    assert [flag for flag in ReviewFlag if with_flags(flag).is_explained] == list(explained)
    assert not with_flags(ReviewFlag.LOW_CONFIDENCE | ReviewFlag.REPEATED_IMAGE).is_explained


def test_grad_cam_of_flagged_examples(
    surveyed: Surveyed, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_model(ModelSpec("test_efficientnet", ("smooth", "featured"), 64, 0.75, HALF, HALF), RANDOM)
    checkpoint = save_checkpoint(
        str(tmp_path / "model.safetensors"), Checkpoint(model.spec, 1.0, 0.9, {}, accuracy=0.9, ece=0.02), model
    )
    uri = str(tmp_path / "model.safetensors")
    rows = read_catalog(surveyed.catalog).drop_columns(["release", "model_id"])
    flags = np.where(rows["confidence"].to_numpy() < 0.7, int(ReviewFlag.LOW_CONFIDENCE), 0)
    catalog = publish_rows(tmp_path / "flagged", with_columns(rows, review_flags=flags, needs_review=flags != 0))

    def of_checkpoint(manifest: dict[str, Any]) -> None:
        surveyed.describe(manifest)
        manifest["checkpoint"]["spec"]["size_px"] = 64
        manifest["model_id"] = checkpoint.checkpoint_id

    changed_manifest(catalog, of_checkpoint)
    html, shown = page_of(catalog, checkpoint_uri=uri)
    low = html.count("<br>LOW_CONFIDENCE<br>")
    assert html.count('alt="Grad-CAM of ') == html.count('<figure class="pair">') == low > 0
    assert "The second picture is a Grad-CAM map" in shown.words
    converted_network(uri, 1)  # keeps it
    with monkeypatch.context() as without_torch:
        without_torch.setattr("galaxy_batch.model.saved_model.load_model", lambda _: pytest.fail("torch was used"))
        assert page_of(catalog, checkpoint_uri=uri)[0].count('alt="Grad-CAM of ') == low
    changed_manifest(catalog, lambda manifest: manifest.update(model_id="0" * 16))
    for broken in (uri, str(tmp_path / "gone.safetensors")):
        html, _ = page_of(catalog, checkpoint_uri=broken)
        assert "Grad-CAM" not in html
        assert "no Grad-CAM on the page" in caplog.text
        assert "Traceback" not in caplog.text
        caplog.clear()
    without = ReportConfig(cutouts=4, grad_cam=False)
    assert page_of(catalog, checkpoint_uri=uri, config=without)[0] == html
