"""A small survey of tiles, shared by the tests of cutting from tiles."""

import pytest

from galaxy_batch.synthetic.tiles import TileSurveyFiles, write_tile_survey
from tests.support.tile_surveys import GALAXIES


@pytest.fixture(scope="session")
def tile_survey(tmp_path_factory: pytest.TempPathFactory) -> TileSurveyFiles:
    """24 galaxies in four overlapping tiles around RA 0. Tests that change tiles change copies."""
    return write_tile_survey(tmp_path_factory.mktemp("tiles"), GALAXIES, seed=5, tile_px=700, overlap_px=300)
