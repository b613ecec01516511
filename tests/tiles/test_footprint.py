"""Which tile a position lies in, against pixel coordinates of the whole WCS; at the poles and at RA 0."""

import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from galaxy_batch.rows import UnusableCutout
from galaxy_batch.tiles.footprint import MARGIN_PX, Footprints, rectangle, wcs_footprint

SHAPE = (600, 800)  # height, width


def wcs_at(ra: float, dec: float, angle: float = 0.0, scale: float = 1.0, **keywords: object) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [ra, dec]
    wcs.wcs.crpix = [250.0, 330.0]  # not the centre
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = np.array([[-cos, sin], [sin, cos]]) * scale / 3600
    for name, value in keywords.items():
        setattr(wcs.wcs, name, value)
    return wcs


def depths(wcs: WCS, ra: np.ndarray, dec: np.ndarray, scale: float) -> np.ndarray:
    """Distance from the edge in arcseconds, by the WCS itself; nothing for the other half of the sky."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, y = wcs.all_world2pix(ra, dec, 0)
    inside = np.min([x + 0.5, SHAPE[1] - 0.5 - x, y + 0.5, SHAPE[0] - 0.5 - y], axis=0)
    centre = SkyCoord(*wcs.wcs.crval, unit="deg")
    near = centre.separation(SkyCoord(ra, dec, unit="deg")).deg < 5
    return np.where(near & np.isfinite(inside), inside, -np.inf) * scale


@pytest.mark.parametrize("centre", [(0.02, 0.0), (359.95, -33.0), (120.0, 89.95), (7.0, -89.9), (181.0, 60.0)])
def test_a_position_belongs_to_the_tile_in_which_it_lies_furthest_from_the_edge(centre: tuple[float, float]) -> None:
    rng = np.random.default_rng(8)
    tiles = []
    for number in range(6):
        place = SkyCoord(*centre, unit="deg").directional_offset_by(number * 60 * u.deg, 0.08 * (number > 0) * u.deg)
        scale = (1.0, 0.4)[number % 2]
        tiles.append((wcs_at(place.ra.deg, place.dec.deg, 35.0 * number, scale), scale))
    around = SkyCoord(*centre, unit="deg").directional_offset_by(
        rng.uniform(0, 360, 3000) * u.deg, np.sqrt(rng.uniform(0, 0.3**2, 3000)) * u.deg
    )
    ra, dec = around.ra.deg, around.dec.deg
    footprints = Footprints([wcs_footprint(wcs, SHAPE) for wcs, _ in tiles])
    owners = footprints.owners(ra, dec, np.ones(len(tiles), bool))
    expected = np.stack([depths(wcs, ra, dec, scale) for wcs, scale in tiles])
    best = expected.max(axis=0)
    assert (best > 0).sum() > 300
    chosen = np.where(owners < 0, -np.inf, expected[owners, np.arange(len(ra))])
    clear = best > 1.0
    np.testing.assert_allclose(chosen[clear], best[clear], atol=0.1)
    assert (owners[best < -(MARGIN_PX + 1)] == -1).all()


def test_tiles_with_all_bands_are_preferred_and_rows_without_position_have_none() -> None:
    both = Footprints([rectangle(10, 0, 1, 1), rectangle(10.3, 0, 1, 1)])
    ra, dec = np.array([10.0, 10.3, 10.7, 10.0, np.nan]), np.array([0.0, 0.0, 0.0, 5.0, np.nan])
    assert both.owners(ra, dec, np.array([True, True])).tolist() == [0, 1, 1, -1, -1]
    assert both.owners(ra, dec, np.array([True, False])).tolist() == [0, 0, 1, -1, -1]
    assert both.owners(ra, dec, np.array([False, True])).tolist() == [1, 1, 1, -1, -1]
    assert Footprints([]).owners(ra, dec, np.zeros(0, bool)).tolist() == [-1] * 5


def test_frames_other_than_icrs_are_converted() -> None:
    galactic = wcs_at(30.0, 20.0, ctype=["GLON-TAN", "GLAT-TAN"])
    place = wcs_footprint(galactic, SHAPE)
    x, y = (SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2
    expected = galactic.pixel_to_world(x, y).icrs
    assert SkyCoord(place.ra_deg, place.dec_deg, unit="deg").separation(expected).arcsec < 0.01


@pytest.mark.parametrize("scale", [2000.0, 1e9])
def test_an_image_of_much_of_the_sky_is_no_tile(scale: float) -> None:
    with pytest.raises(UnusableCutout, match="the WCS in the header"):
        wcs_footprint(wcs_at(10.0, 10.0, scale=scale), SHAPE)


def test_ten_thousand_tiles() -> None:
    """Neighbouring tiles that overlap; the owner is the tile with the nearest centre."""
    ra, dec = (axis.ravel() for axis in np.meshgrid(np.arange(100) * 0.2, np.arange(-50, 50) * 0.2))
    footprints = Footprints([rectangle(a, d, 0.25, 0.25) for a, d in zip(ra.tolist(), dec.tolist(), strict=True)])
    rng = np.random.default_rng(1)
    a, d = rng.uniform(0.1, 19.7, 50_000), rng.uniform(-9.8, 9.6, 50_000)
    owners = footprints.owners(a, d, np.ones(len(ra), bool))
    assert (owners >= 0).all()
    assert np.abs(d - dec[owners]).max() <= 0.101
    assert (np.abs(a - ra[owners]) * np.cos(np.radians(d))).max() <= 0.126
