"""Margins of HEALPix pixels, against distances to many points of each pixel's border."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord, search_around_sky

from galaxy_batch.catalog.margin import MAX_MARGIN_ARCSEC, SkyDivision, margin_order, margin_rows
from galaxy_batch.sky.healpix import DEEPEST_TILE, cells_of, cut, empty_histogram, pixels_at


def test_margin_pixels_are_not_larger_than_tiles() -> None:
    assert margin_order(MAX_MARGIN_ARCSEC) >= DEEPEST_TILE
    assert margin_order(10) == 13


@pytest.mark.parametrize("margin_arcsec", [10.0, 60.0])
@pytest.mark.parametrize(("ra", "dec"), [(0, 90), (0, 0), (45, 41.8), (200, -89.9), (90, 41.81), (315, -41.81)])
def test_every_pair_across_a_border_is_in_a_margin(ra: float, dec: float, margin_arcsec: float) -> None:
    """Places of another catalog, within the margin of a row and in another pixel, also where the catalog is empty."""
    rng = np.random.default_rng(5)
    centre = SkyCoord(ra * u.deg, dec * u.deg)
    rows = centre.directional_offset_by(rng.uniform(0, 360, 4000) * u.deg, 0.4 * np.sqrt(rng.random(4000)) * u.deg)
    keys = pixels_at(rows.ra.deg, rows.dec.deg)
    histogram = empty_histogram()
    cells, counts = cells_of(keys)
    histogram[cells] += counts
    sky = SkyDivision(cut(histogram, 40))
    near = rows[:2000].directional_offset_by(
        rng.uniform(0, 360, 2000) * u.deg, margin_arcsec * np.sqrt(rng.random(2000)) * u.arcsec
    )
    ours, theirs, _, _ = search_around_sky(rows, near, margin_arcsec * u.arcsec)
    their_keys = pixels_at(near.ra.deg, near.dec.deg)

    def first_keys(of: np.ndarray) -> np.ndarray:
        shift = 2 * (29 - sky.orders_at(of))
        return (of >> shift) << shift

    own, other = first_keys(keys), first_keys(their_keys)
    across = own[ours] != other[theirs]
    wanted = set(zip(ours[across].tolist(), other[theirs][across].tolist(), strict=True))
    row, first, order = margin_rows(keys, sky, margin_arcsec)
    found = set(zip(row.tolist(), first.tolist(), strict=True))
    assert len(wanted) > 20
    assert wanted <= found
    assert len(found) == len(row) <= 8 * len(keys)
    assert not set(zip(range(len(keys)), own.tolist(), strict=True)) & found
    assert np.array_equal(order, sky.orders_at(first))


def test_a_catalog_without_tiles_has_no_margin() -> None:
    sky = SkyDivision([])
    assert [len(part) for part in margin_rows(np.empty(0, np.int64), sky, 10.0)] == [0, 0, 0]
    assert sky.orders_at(np.array([0, 5 << 58])).tolist() == [0, 0]
