"""Catalogs to share: simulated rows, and one with its checkpoint."""

import dataclasses
from pathlib import Path

import pytest

from galaxy_batch.pipeline import classify_release
from galaxy_batch.plan import plan_release
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.configs import catalog_config
from tests.support.hub_server import hub  # noqa: F401 - fixture
from tests.support.models import SavedModel
from tests.support.skies import publish_rows, sky_rows, with_embeddings


@pytest.fixture(scope="session")
def sky_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of 400 rows all over the sky, with embeddings; 5% have no position. Its checkpoint is nowhere."""
    rows = with_embeddings(sky_rows(400, seed=17, without_position=0.05))
    return publish_rows(tmp_path_factory.mktemp("sky-to-share"), rows, max_rows=60)


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with embeddings, a margin cache and an index."""
    rows = with_embeddings(sky_rows(400, seed=18, without_position=0.05))
    folder = tmp_path_factory.mktemp("collection-to-share")
    return publish_rows(folder, rows, max_rows=60, margin_arcsec=10, index=True)


@pytest.fixture(scope="session")
def classified(survey: SurveyFiles, saved_model: SavedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalog of a small survey on this machine, whose checkpoint is there."""
    one_chunk = {"classify": {"chunk_rows": 100}, "runtime": {"num_cpus": 1, "engine": "torch"}}
    config = catalog_config(survey, saved_model, tmp_path_factory.mktemp("to-share"), **one_chunk)
    config = dataclasses.replace(config, manifest=dataclasses.replace(config.manifest, keep_image_uri=True))
    plan = plan_release(config)
    classify_release(plan, on_ray=False)
    return Path(plan.layout.catalog)
