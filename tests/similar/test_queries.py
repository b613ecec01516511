"""A cutout is classified as the catalog's own were."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.errors import InputError
from galaxy_batch.similar.config import SimilarConfig
from galaxy_batch.similar.queries import queries_of
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.jobs import CallJob
from tests.support.models import SavedModel


def good_cutout(survey: SurveyFiles) -> Path:
    return next(file for file in sorted(survey.images.iterdir()) if int(file.stem) not in survey.defects)


def test_a_cutout_of_the_catalog_finds_its_own_row(
    survey_catalog: Path, survey: SurveyFiles, tmp_path: Path, call_job: CallJob
) -> None:
    image = good_cutout(survey)
    output = tmp_path / "table.parquet"
    ended = call_job("find_similar", str(survey_catalog), "--image", str(image), "--to", str(output))
    assert ended.code == 0, ended.log
    first = pq.read_table(output).to_pylist()[0]
    assert (first["query"], first["rank"], first["object_id"]) == (image.name, 1, int(image.stem))
    assert first["distance"] < 1e-3
    page = Path(json.loads(ended.stdout.splitlines()[-1])["report_uri"]).read_text()
    assert page.count('<img src="data:image/jpeg') > 5


def test_an_embedding_equals_that_of_the_catalog(survey_catalog: Path, survey: SurveyFiles) -> None:
    image, manifest = good_cutout(survey), require_manifest(str(survey_catalog))
    (by_id,) = queries_of(SimilarConfig(str(survey_catalog), (image.stem,)), manifest)
    (by_image,) = queries_of(SimilarConfig(str(survey_catalog), image_uri=str(image)), manifest)
    assert by_id.name == int(image.stem)
    assert by_image.place is None
    np.testing.assert_allclose(by_image.embedding, by_id.embedding, rtol=2e-3, atol=1e-3)


def test_what_cannot_be_classified(
    survey_catalog: Path, survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path
) -> None:
    manifest = require_manifest(str(survey_catalog))
    text = tmp_path / "text.jpg"
    text.write_text("not an image")
    for uri, message in ((text, "unreadable: "), (tmp_path / "no.jpg", "no such file"), (tmp_path, "no such file")):
        with pytest.raises(InputError, match=message):
            queries_of(SimilarConfig(str(survey_catalog), image_uri=str(uri)), manifest)
    image = str(good_cutout(survey))
    with pytest.raises(InputError, match="is not the checkpoint of the catalog"):
        queries_of(SimilarConfig(str(survey_catalog), image_uri=image, checkpoint_uri=saved_model.uri), manifest)
    moved = tmp_path / "moved.safetensors"
    shutil.copy(str(manifest.config["checkpoint_uri"]), moved)
    assert queries_of(SimilarConfig(str(survey_catalog), image_uri=image, checkpoint_uri=str(moved)), manifest)
