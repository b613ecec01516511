"""A catalog with embeddings of the simulated survey, by a tiny network."""

from pathlib import Path

import pytest

from galaxy_batch.pipeline import classify_release
from galaxy_batch.plan import plan_release
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.configs import catalog_config
from tests.support.models import SavedModel, with_embedding


@pytest.fixture(scope="session")
def survey_catalog(survey: SurveyFiles, saved_model: SavedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty galaxies with their cutouts."""
    folder = tmp_path_factory.mktemp("similar")
    model = with_embedding(saved_model, folder / "model.safetensors", 8)
    config = catalog_config(survey, model, folder / "out", classify={"chunk_rows": 100, "embedding": 8})
    return Path(classify_release(plan_release(config), on_ray=False)["catalog_uri"])
