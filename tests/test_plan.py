from pathlib import Path

import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.plan import plan_release
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.configs import catalog_config
from tests.support.models import SavedModel


def test_flags_that_a_checkpoint_cannot_set_are_named(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    plan = plan_release(catalog_config(survey, saved_model, tmp_path))
    limits = plan.review_limits
    assert (limits.min_confidence, limits.max_unfamiliarity, limits.max_instability) == (0.6, None, None)
    assert "no row will be UNFAMILIAR" in caplog.text
    assert "no row will be UNSTABLE: one view per cutout" in caplog.text
    for name, remedy in (("max_unfamiliarity", "train it again"), ("max_instability", "stability_views")):
        with pytest.raises(InputError, match=remedy):
            plan_release(catalog_config(survey, saved_model, tmp_path, review={name: 0.4}))
    caplog.clear()
    plan_release(catalog_config(survey, saved_model, tmp_path, classify={"stability_views": 2}))
    assert "neither the checkpoint nor review.max_instability gives a limit" in caplog.text


def test_an_output_that_cannot_be_written_is_explained(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="output_uri"):
        plan_release(catalog_config(survey, saved_model, tmp_path / "file" / "out"))


@pytest.mark.parametrize("keep", [False, True])
def test_the_record_of_a_run_has_no_credentials(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path, keep: bool
) -> None:
    bands = [f"https://me:s3cret@a.org/{{object_id}}?band={band}&token=s3cret" for band in "irg"]
    manifest = {"uri": str(survey.manifest), "band_templates": bands, "keep_image_uri": keep}
    plan = plan_release(catalog_config(survey, saved_model, tmp_path, manifest=manifest))
    shown = plan.shown_config["manifest"]["band_templates"]
    assert list(shown) == [f"https://a.org/{{object_id}}{f'?band={band}' if keep else ''}" for band in "irg"]
    assert "s3cret" not in str(plan.shown_config)
