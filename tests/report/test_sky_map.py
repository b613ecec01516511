import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from astropy_healpix import healpix_to_lonlat
from PIL import Image

from galaxy_batch.report.projections import Lambert, Mollweide, Projection
from galaxy_batch.report.sky_map import Ramp, draw_sky, order_for
from galaxy_batch.sky.healpix import pixels_at

RAMP = Ramp(0.0, 1.0, ((0, 0, 0), (255, 255, 255)), ((0.5, "half"),), "share of <x>")
ORDER = 3
CELLS = 12 * 4**ORDER


def picture(drawing: str) -> Image.Image:
    (source,) = re.findall(r'href="data:image/png;base64,([^"]+)"', drawing)
    return Image.open(io.BytesIO(base64.b64decode(source)))


def place_of(cell: int, projection: Projection) -> tuple[int, int]:
    """Column and row of a cell's centre in the picture, RA to the left and north up."""
    ra, dec = (np.array([angle.to_value("deg")]) for angle in healpix_to_lonlat(cell, 2**ORDER, order="nested"))
    (x,), (y,) = projection.forward(ra, dec)
    side = 1000 / projection.width
    return int(500 - x * side), int(1000 * projection.height / projection.width / 2 - y * side)


def cell_at(ra: float, dec: float) -> int:
    return int(pixels_at(np.array([ra]), np.array([dec]), ORDER)[0])


def test_a_cell_has_its_colour_where_astronomers_look_for_it() -> None:
    whole, values, masked = Mollweide(180.0), np.full(CELLS, np.nan), np.zeros(CELLS, bool)
    east, west, pole = cell_at(270, 1), cell_at(90, 1), cell_at(180, 88)
    values[east], values[pole], masked[west] = 1.0, 0.0, True
    drawing = draw_sky(values, masked, RAMP, whole, "a map of <x>")
    assert ElementTree.fromstring(drawing).attrib["aria-label"] == "a map of <x>"
    image = picture(drawing)
    assert image.size == (1000, 500)
    assert image.getpixel(place_of(east, whole)) == (255, 255, 255, 255)
    assert image.getpixel(place_of(west, whole)) == (205, 205, 205, 255)
    assert image.getpixel(place_of(pole, whole)) == (0, 0, 0, 255)
    assert 200 < place_of(east, whole)[0] < 300  # RA 270 is left of RA 180
    assert place_of(pole, whole)[1] < 20  # north is up
    assert image.getpixel((500, 250))[3] == 0  # nothing there
    assert image.getpixel((1, 1))[3] == 0  # off the sky
    shown = np.asarray(image)[..., 3] > 0
    assert shown.sum() == pytest.approx(3 * np.pi / 4 * 500_000 / CELLS, rel=0.05)  # three cells, each with its area


@pytest.mark.parametrize("dec", [-90.0, 0.0, 90.0])
def test_a_patch_over_a_pole_or_the_meridian_is_whole(dec: float) -> None:
    projection = Lambert(0.0, dec, 15.0)
    full = picture(draw_sky(np.ones(CELLS), np.zeros(CELLS, bool), RAMP, projection, ""))
    shown = np.asarray(full)[..., 3] > 0
    assert shown.mean() == pytest.approx(np.pi / 4, rel=0.01)
    for ra in (3.0, 357.0):
        values, towards = np.full(CELLS, np.nan), dec - 5 * np.sign(dec)
        values[cell_at(ra, towards)] = 1.0
        image = picture(draw_sky(values, np.zeros(CELLS, bool), RAMP, projection, ""))
        column, row = place_of(cell_at(ra, towards), projection)
        assert image.getpixel((column, row)) == (255, 255, 255, 255)
        assert (column < 500) == (ra == 3.0)


def test_the_drawing_has_numbers_on_it_and_nothing_from_elsewhere() -> None:
    drawing = draw_sky(np.full(CELLS, 0.5), np.zeros(CELLS, bool), RAMP, Mollweide(0.0), "")
    words = [element.text for element in ElementTree.fromstring(drawing).iter() if element.tag.endswith("text")]
    assert {"half", "share of <x>", "330°", "30°", "+60°", "−60°", "0°"} <= set(words)
    assert "nan" not in drawing
    assert not re.search(r'(href|src)="(?!data:)', drawing)


def test_values_beyond_the_ramp_have_its_last_colour() -> None:
    assert RAMP.paint(np.array([-9.0, 0.5, 9.0])).tolist() == [[0, 0, 0], [128, 128, 128], [255, 255, 255]]


def test_the_order_follows_the_density_and_the_size_of_the_drawing() -> None:
    rows = np.zeros(12 * 4**9, np.int32)
    whole = Mollweide()
    assert order_for(rows, 10, whole) == 0
    rows[:] = 1
    assert order_for(rows, 500, whole) == 4  # 1,024 galaxies in a cell
    assert order_for(rows, 1e9, whole) == 0
    assert order_for(rows, 2, whole) == 5  # smaller cells could not be seen
    assert order_for(rows, 2, Lambert(0.0, 0.0, 2.0)) == 8
    few = np.zeros_like(rows)
    few[::100_000] = 1
    assert order_for(few, 1, whole) > order_for(few, 2, whole)
