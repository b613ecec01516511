import shutil
from pathlib import Path

import pytest

from galaxy_batch.synthetic.survey import SurveyFiles
from jobs.build_catalog import build_release
from jobs.classify_folder import folder_config
from tests.support.models import SavedModel


def test_the_catalog_is_named_after_the_folder_and_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = folder_config(f"{tmp_path}/My cutouts/", True, ["max_failed_fraction=0.5"])
    assert (config.release, config.output_uri) == ("My-cutouts", f"{tmp_path}/My-cutouts_catalog")
    assert (config.manifest.uri, config.manifest.recursive) == (f"{tmp_path}/My cutouts", True)
    assert (config.checkpoint_uri, config.max_failed_fraction) == ("builtin:gz2-smooth-featured", 0.5)
    assert folder_config(f"{tmp_path}/dr7/*.jpg", False, []).output_uri == f"{tmp_path}/dr7_catalog"
    assert folder_config(f"{tmp_path}/images_gz2.zip", False, []).output_uri == f"{tmp_path}/images_gz2_catalog"
    monkeypatch.chdir(tmp_path)
    for uri in ("s3://bucket/run/dr7", "https://host/dr7.zip"):
        config = folder_config(uri, False, [])
        assert (config.release, config.output_uri) == ("dr7", f"{tmp_path}/dr7_catalog")
    assert folder_config("dr7", False, ["output_uri=elsewhere"]).output_uri == f"{tmp_path}/elsewhere"


def test_a_dry_run_classifies_a_sample(survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path) -> None:
    shutil.copytree(survey.images, tmp_path / "cutouts")
    overrides = [f"checkpoint_uri={saved_model.uri}", "runtime.engine=torch", "max_failed_fraction=1"]
    config = folder_config(str(tmp_path / "cutouts"), False, overrides)
    summary = build_release(config, dry_run=True)
    assert summary["rows"] == len(list(survey.images.iterdir()))
    assert summary["sample"]["status_counts"]["ok"] > 0
    assert not (tmp_path / "cutouts_catalog").exists()
