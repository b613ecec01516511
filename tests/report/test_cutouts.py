from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.config import ManifestConfig
from galaxy_batch.cutouts.fetch import hash_image
from galaxy_batch.report.cutouts import fetch_examples
from galaxy_batch.rows import UnusableCutout
from galaxy_batch.storage.files import parquet_bytes
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.skies import manifest_with

CHECKPOINT = {"spec": {"crop_fraction": 0.75}}


def test_cutouts_are_those_of_the_survey(survey: SurveyFiles) -> None:
    source = {"uri": str(survey.manifest), "uri_template": "images/{object_id}.jpg"}
    manifest = manifest_with(config={"manifest": source, "classify": {}}, checkpoint=CHECKPOINT)
    object_id = int(survey.manifest.read_text().splitlines()[1].split(",")[0])
    file = survey.images / f"{object_id}.jpg"
    for wanted in (object_id, str(object_id)):
        cutouts = fetch_examples([wanted, type(wanted)(5)], manifest)
        cutout = cutouts[str(object_id)]
        assert (cutout.content, cutout.uris) == (file.read_bytes(), (str(file),))
        assert cutout.image_hash == hash_image(file.read_bytes())
        assert cutout.pixels(32).shape == (3, 32, 32)
        assert (cutout.picture("it").content or b"").startswith(b"\xff\xd8")
        assert cutouts["5"].picture("no").reason == "no longer in the manifest"


def test_what_cannot_be_shown_has_a_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = manifest_with(config={"classify": {}}, checkpoint=CHECKPOINT)
    table = pa.table({"object_id": ["a", "b"], "image": pa.array([b"no image", None], pa.binary())})
    (tmp_path / "images.parquet").write_bytes(parquet_bytes(table))
    cutouts = fetch_examples(
        ["a", "b"], manifest, ManifestConfig(str(tmp_path / "images.parquet"), image_column="image")
    )
    assert [(cutout.picture("").reason, cutout.uris) for cutout in cutouts.values()] == [
        ("unreadable", ()),
        ("missing", ()),
    ]
    with pytest.raises(UnusableCutout):
        cutouts["a"].pixels(8)
    nowhere = fetch_examples(
        np.array(["a"]).tolist(), manifest, ManifestConfig(str(tmp_path / "no.csv"), image_column="i")
    )
    assert nowhere["a"].picture("").reason == "the source of the cutouts cannot be read"
    assert "no cutouts on the page" in caplog.text
    assert fetch_examples([], manifest) == {}
