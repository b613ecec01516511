import numpy as np
import pytest
from astropy_healpix import healpix_to_lonlat
from matplotlib import colormaps
from matplotlib.colors import Normalize

from galaxy_batch.report.figures import embed
from galaxy_batch.report.sky_map import SkyRegion, _raster, draw_sky, order_for, region_for
from galaxy_batch.sky.healpix import pixels_at
from tests.support.skies import even_positions

ORDER = 3
CELLS = 12 * 4**ORDER
GREYS = (colormaps["gray"], Normalize(0, 1))
REGIONS = [
    SkyRegion(), SkyRegion(0.0), SkyRegion(0.0, 0.0, 20.0), SkyRegion(200.0, 90.0, 5.0), SkyRegion(359.9, -89.5, 3.0),
    SkyRegion(10.0, 60.0, 34.0),
]  # fmt: skip


def raster(values: np.ndarray, region: SkyRegion, masked: np.ndarray | None = None) -> np.ndarray:
    """Colours of the map as 8 bits, north up."""
    return np.rint(255 * _raster(values, masked, region.wcs(), GREYS))[::-1].astype(int)


def pixel_of(cell: int, region: SkyRegion) -> tuple[int, int]:
    """Row and column of a cell's centre, north up."""
    wcs = region.wcs()
    ra, dec = (angle.to_value("deg") for angle in healpix_to_lonlat(cell, 2**ORDER, order="nested"))
    x, y = wcs.world_to_pixel_values(ra, dec)
    return wcs.pixel_shape[1] - 1 - round(float(y)), round(float(x))


def cell_at(ra: float, dec: float) -> int:
    return int(pixels_at(np.array([ra]), np.array([dec]), ORDER)[0])


def cells_at(ra: list[float], dec: list[float], order: int = 9) -> np.ndarray:
    return np.bincount(pixels_at(np.array(ra), np.array(dec), order), minlength=12 * 4**order).astype(np.int32)


@pytest.mark.parametrize("region", REGIONS, ids=str)
def test_equal_cells_have_equal_areas(region: SkyRegion) -> None:
    order = 1 if region.radius_deg is None else 6
    wcs = region.wcs()
    width, height = wcs.pixel_shape
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(width), np.arange(height)))
    ra, dec = wcs.pixel_to_world_values(x, y)
    on_sky = np.isfinite(ra)
    cells, counts = np.unique(pixels_at(ra[on_sky], dec[on_sky], order), return_counts=True)
    edge = (np.minimum(x, y) < 8) | (x > width - 9) | (y > height - 9)
    cut = set() if order == 1 else set(pixels_at(ra[edge & on_sky], dec[edge & on_sky], order).tolist())
    area = counts[[cell not in cut for cell in cells.tolist()]] * (region.width / width) ** 2
    assert len(area) >= 4
    assert area.mean() == pytest.approx(4 * np.pi / (12 * 4**order), rel=0.01)
    assert area.std() < (0.01 if order == 1 else 0.12) * area.mean()


def test_a_cell_has_its_colour_at_its_position() -> None:
    whole, values, masked = SkyRegion(), np.full(CELLS, np.nan), np.zeros(CELLS, bool)
    east, west, pole = cell_at(270, 1), cell_at(90, 1), cell_at(180, 88)
    values[east], values[pole], masked[west] = 1.0, 0.0, True
    image = raster(values, whole, masked)
    assert image.shape == (500, 1000, 4)
    assert image[pixel_of(east, whole)].tolist() == [255, 255, 255, 255]
    assert image[pixel_of(west, whole)].tolist() == [178, 178, 178, 255]
    assert image[pixel_of(pole, whole)].tolist() == [0, 0, 0, 255]
    assert 200 < pixel_of(east, whole)[1] < 300  # RA 270 is left of RA 180
    assert pixel_of(pole, whole)[0] < 20
    assert image[250, 500, 3] == image[1, 1, 3] == 0
    assert (image[..., 3] > 0).sum() == pytest.approx(3 * np.pi / 4 * 500_000 / CELLS, rel=0.05)  # three cells


@pytest.mark.parametrize("dec", [-90.0, 0.0, 90.0])
def test_a_patch_over_a_pole_or_the_meridian_is_whole(dec: float) -> None:
    region = SkyRegion(0.0, dec, 15.0)
    assert (raster(np.ones(CELLS), region)[..., 3] == 255).all()
    for ra in (3.0, 357.0):
        values, cell = np.full(CELLS, np.nan), cell_at(ra, dec - 5 * np.sign(dec))
        values[cell] = 1.0
        row, column = pixel_of(cell, region)
        assert raster(values, region)[row, column].tolist() == [255] * 4
        assert (column < 500) == (ra == 3.0)


def test_the_map_has_degrees_and_a_colour_bar() -> None:
    html = embed(lambda width: draw_sky(width, np.full(CELLS, 0.5), SkyRegion(0.0), GREYS, "share of <x>"), "", "sky")
    assert all(f">{words}<" in html for words in ("330°", "30°", "60°", "−60°", "0°", "share of &lt;x&gt;", "1.0"))
    html = embed(lambda width: draw_sky(width, np.ones(CELLS), SkyRegion(10, 20, 5), GREYS, ""), "")
    assert all(f">{words}<" in html for words in ("RA", "Dec", "10°", "20°"))


def test_the_order_follows_the_density_and_the_size_of_the_map() -> None:
    rows = np.zeros(12 * 4**9, np.int32)
    whole = SkyRegion()
    assert order_for(rows, 10, whole) == 0
    rows[:] = 1
    assert order_for(rows, 500, whole) == 4  # 1,024 rows in a cell
    assert order_for(rows, 1e9, whole) == 0
    assert order_for(rows, 2, whole) == 5  # smaller cells would be invisible
    assert order_for(rows, 2, SkyRegion(0.0, 0.0, 2.0)) == 8
    few = np.zeros_like(rows)
    few[::100_000] = 1
    assert order_for(few, 1, whole) > order_for(few, 2, whole)


def test_a_small_survey_is_drawn_as_a_patch() -> None:
    for ra, dec in ((0.0, 0.0), (359.9, 45.0), (77.0, 90.0), (10.0, -90.0)):
        region = region_for(cells_at([ra, ra + 0.5, ra - 0.5], [dec, dec, min(dec, 90)]))
        assert region.radius_deg is not None
        assert 0.4 < region.radius_deg < 2 or abs(dec) == 90
        pixels = region.wcs().world_to_pixel_values([ra + 0.5, ra - 0.5], [dec, dec])
        assert all((axis >= 0).all() and (axis < 1000).all() for axis in pixels)
    assert region_for(cells_at([10, 190], [0, 0])).radius_deg is None


def test_the_whole_sky_is_cut_where_there_are_fewer_rows() -> None:
    assert region_for(cells_at([170, 190, 180, 90], [0, 10, 60, 0])) == SkyRegion(180.0)
    assert region_for(cells_at([350, 10, 5, 90, 200], [0, 10, 60, 0, 0])) == SkyRegion(0.0)
    assert region_for(np.zeros(12 * 4**9, np.int32)) == SkyRegion(180.0)
    ra, dec = even_positions(5000, np.random.default_rng(0))
    assert region_for(cells_at(ra.tolist(), dec.tolist())).radius_deg is None
