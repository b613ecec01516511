from pathlib import Path

import numpy as np
import pyarrow.csv as pacsv
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from galaxy_batch.config import CatalogConfig
from galaxy_batch.settings import load_config
from galaxy_batch.synthetic.galaxies import draw_galaxy
from galaxy_batch.synthetic.rendering import observe
from galaxy_batch.synthetic.survey import object_ids
from galaxy_batch.synthetic.tiles import TILE_RGB, TileSurveyFiles, write_tile_survey
from tests.support.repository import REPOSITORY

SEED, GALAXIES = 3, 8


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TileSurveyFiles:
    return write_tile_survey(tmp_path_factory.mktemp("survey"), GALAXIES, SEED, tile_px=500, overlap_px=300)


def test_each_galaxy_is_where_the_table_says(files: TileSurveyFiles) -> None:
    table = pacsv.read_csv(files.manifest)
    assert table["object_id"].to_pylist() == object_ids(np.arange(GALAXIES), SEED).tolist()
    placed = 0
    for path in sorted(files.tiles.glob("*-r.fits")):
        with fits.open(path) as hdus:
            wcs, pixels = WCS(hdus[0].header), hdus[0].data
        assert pixels.shape == (500, 500)
        for index, (ra, dec) in enumerate(zip(table["ra"].to_pylist(), table["dec"].to_pylist(), strict=True)):
            galaxy = draw_galaxy(index, SEED)
            x, y = (float(axis) for axis in wcs.all_world2pix(ra, dec, 0))
            half = galaxy.side_px // 2
            left, bottom = round(x - half + 0.5), round(y - half + 0.5)
            if min(left, bottom) >= 0 and max(left, bottom) + galaxy.side_px <= 500:
                placed += 1
                window = pixels[bottom : bottom + galaxy.side_px, left : left + galaxy.side_px]
                seam = window - observe(galaxy, index, SEED)[1, ::-1]
                assert np.ptp(seam) < 1e-3
                assert abs(np.median(seam)) < 0.003
    assert placed >= GALAXIES  # some in several tiles


def test_the_field_contains_ra_0_and_its_tiles_overlap(files: TileSurveyFiles) -> None:
    tiles = pacsv.read_csv(files.table)
    assert len(tiles) == len(list(files.tiles.glob("*-g.fits"))) > 1
    ra = pacsv.read_csv(files.manifest)["ra"].to_numpy()
    assert (ra < 1).any()
    assert (ra > 359).any()
    assert files.tile_deg == pytest.approx(500 * 0.396 / 3600)


def test_the_same_survey_gives_the_same_bytes(files: TileSurveyFiles, tmp_path: Path) -> None:
    again = write_tile_survey(tmp_path, GALAXIES, SEED, tile_px=500, overlap_px=300)
    assert again.manifest.read_bytes() == files.manifest.read_bytes()
    for path in files.tiles.iterdir():
        assert (again.tiles / path.name).read_bytes() == path.read_bytes()


def test_the_config_of_simulated_tiles_draws_them_as_the_simulation_does() -> None:
    config = load_config(CatalogConfig, REPOSITORY / "jobs" / "configs" / "tiles_simulated.toml")
    rgb = config.classify.rgb
    assert {**TILE_RGB, "scale": tuple(TILE_RGB["scale"])} == {name: getattr(rgb, name) for name in TILE_RGB}
    assert config.manifest.tiles is not None
    assert config.manifest.tiles.size_column == "petroR90_r"
