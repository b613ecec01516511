"""Cones, compared with a search of all positions."""

import numpy as np
import numpy.typing as npt
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from galaxy_batch.sky.cone import Cone
from galaxy_batch.sky.healpix import pixels_at
from tests.support.skies import even_positions

COUNT = 4000
CONES = [
    Cone(0, 90, 3), Cone(123, 89.9, 1), Cone(200, -90, 10), Cone(0, 0, 5), Cone(359.95, 0.05, 2), Cone(360, 40, 6),
    Cone(45, 41.8103149, 4), Cone(10, 20, 0.2), Cone(10, 20, 170), Cone(77, -3, 180), Cone(0, 0, 0), Cone(30, -60, 90),
]  # fmt: skip


@pytest.fixture(scope="module")
def positions() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Uniform on the sphere, with a clump around each cone's centre."""
    rng = np.random.default_rng(5)
    ra, dec = even_positions(COUNT, rng)
    for number, cone in enumerate(CONES):
        near = slice(100 + 200 * number, 300 + 200 * number)
        angles, away = rng.uniform(0, 360, 200) * u.deg, rng.uniform(0, 2 * cone.radius_deg, 200) % 180 * u.deg
        clump = SkyCoord(cone.ra * u.deg, cone.dec * u.deg).directional_offset_by(angles, away)
        ra[near], dec[near] = clump.ra.deg, clump.dec.deg
    return ra, dec


@pytest.mark.parametrize("cone", CONES, ids=str)
def test_a_cone_contains_the_positions_within_its_radius(
    cone: Cone, positions: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
) -> None:
    ra, dec = positions
    apart = SkyCoord(ra * u.deg, dec * u.deg).separation(SkyCoord(cone.ra * u.deg, cone.dec * u.deg)).deg
    assert np.array_equal(cone.contains(ra, dec), apart <= cone.radius_deg)


@pytest.mark.parametrize("order", [0, 1, 3, 6, 10])
@pytest.mark.parametrize("cone", CONES, ids=str)
def test_rows_in_a_cone_are_within_the_key_range_of_their_pixel(
    cone: Cone, order: int, positions: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
) -> None:
    ra, dec = positions
    inside = cone.contains(ra, dec)
    keys = pixels_at(ra, dec)[inside]
    pixels = np.unique(pixels_at(ra, dec, order))
    lowest, highest = cone.keys_within(order, pixels)
    row_pixel = np.searchsorted(pixels, keys >> 2 * (29 - order))
    assert (lowest[row_pixel] <= keys).all()
    assert (keys <= highest[row_pixel]).all()
    overlap = lowest <= highest
    first = pixels << 2 * (29 - order)
    assert (lowest[overlap] >= first[overlap]).all()
    assert (highest[overlap] < first[overlap] + (1 << 2 * (29 - order))).all()


@pytest.mark.parametrize(("radius_deg", "most"), [(0.001, 1), (2, 4), (20, 60)])
def test_few_pixels_overlap_a_small_cone(radius_deg: float, most: int) -> None:
    """Of order 3, where a pixel is 7.3 degrees wide."""
    lowest, highest = Cone(100, 30, radius_deg).keys_within(3, np.arange(12 * 4**3))
    area = np.pi * (radius_deg + 7.4) ** 2 / 53.7  # pixels whose centre is within a pixel's width of the cone
    overlap = int((lowest <= highest).sum())
    assert 1 <= overlap <= most
    assert overlap <= max(area, 4)


@settings(max_examples=60, deadline=None)
@given(
    ra=st.floats(0, 360), dec=st.floats(-90, 90), radius_deg=st.floats(0, 180), order=st.integers(0, 12),
    away=st.floats(0, 1), angle=st.floats(0, 360),
)  # fmt: skip
def test_positions_in_a_cone_are_in_pixels_that_overlap_it(
    ra: float, dec: float, radius_deg: float, order: int, away: float, angle: float
) -> None:
    cone = Cone(ra, dec, radius_deg)
    sky = SkyCoord(ra * u.deg, dec * u.deg).directional_offset_by(angle * u.deg, away * radius_deg * u.deg)
    position = np.array([sky.ra.deg]), np.array([sky.dec.deg])
    if not cone.contains(*position).all():  # on the rim: rounding decides
        return
    lowest, highest = cone.keys_within(order, pixels_at(*position, order))
    key = pixels_at(*position)
    assert lowest[0] <= key[0] <= highest[0]
