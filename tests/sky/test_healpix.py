"""Keys and tiles, compared with a brute-force search and with astropy."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy_healpix import HEALPix
from hypothesis import given, settings
from hypothesis import strategies as st

from galaxy_batch.sky.healpix import (
    BASE_PIXELS,
    DEEPEST_TILE,
    Tile,
    cells_of,
    coarser,
    cut,
    empty_histogram,
    pixels_at,
    row_keys,
    separation_arcsec,
)
from tests.support.skies import even_positions, sky_rows

BEYOND = BASE_PIXELS << 58


def histogram_of(keys: np.ndarray) -> np.ndarray:
    histogram = empty_histogram()
    cells, counts = cells_of(keys)
    histogram[cells] += counts
    return histogram


def test_pixels_equal_those_of_astropy_and_are_nested() -> None:
    ra, dec = even_positions(2000, np.random.default_rng(1))
    pixels = pixels_at(ra, dec)
    grid = HEALPix(2**7, order="nested")
    assert np.array_equal(pixels >> 2 * (29 - 7), grid.lonlat_to_healpix(ra * u.deg, dec * u.deg))
    assert np.array_equal(pixels_at(ra, dec, 7), pixels >> 2 * (29 - 7))


def test_positions_are_near_the_centre_of_their_pixel_only() -> None:
    ra, dec = even_positions(2000, np.random.default_rng(2))
    pixels = pixels_at(ra, dec)
    assert separation_arcsec(pixels, ra, dec).max() < 0.0005
    assert separation_arcsec(pixels, ra, np.clip(dec + 0.01 / 3600, -90, 90))[8:].min() > 0.005


def test_rows_without_a_position_have_keys_beyond_the_sky() -> None:
    rows = sky_rows(5000, seed=3, without_position=0.5)
    keys = row_keys(rows)
    no_position = rows["_healpix_29"].is_null().to_numpy()
    assert np.array_equal(keys[~no_position], rows["_healpix_29"].drop_null().to_numpy())
    assert keys[no_position].min() >= BEYOND
    assert keys[no_position].max() < BEYOND + (1 << 58)
    quarters = np.bincount((keys[no_position] - BEYOND) >> 56, minlength=4)
    assert quarters.min() > 0.2 * no_position.sum()
    order = np.random.default_rng(0).permutation(len(rows))
    assert np.array_equal(row_keys(rows.take(pa.array(order))), keys[order])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 400), max_rows=st.integers(1, 60), clumps=st.booleans())
def test_tiles_are_the_largest_within_the_row_limit(seed: int, count: int, max_rows: int, clumps: bool) -> None:
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, BEYOND + (1 << 58), count)
    if clumps:  # many in one cell of the deepest order
        keys[: count // 2] = (keys[0] >> 38 << 38) + rng.integers(0, 1 << 38, count // 2)
    tiles = cut(histogram_of(keys), max_rows)
    assert [tile.first_key for tile in tiles] == sorted(tile.first_key for tile in tiles)
    for tile in tiles:
        inside = (keys >= tile.first_key) & (keys <= tile.last_key)
        assert inside.sum() == tile.rows > 0
        assert tile.rows <= max_rows or tile.order == DEEPEST_TILE
        if tile.order:
            parent = Tile(tile.order - 1, tile.pixel // 4, 0)
            assert ((keys >= parent.first_key) & (keys <= parent.last_key)).sum() > max_rows
    for one, other in pairwise(tiles):
        assert one.last_key < other.first_key
    assert sum(tile.rows for tile in tiles) == count


def test_tiles_of_rows_without_a_position_are_not_on_the_sky() -> None:
    assert [tile.on_sky for tile in cut(histogram_of(np.array([0, BEYOND - 1, BEYOND, BEYOND + (1 << 57)])), 1)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert cut(empty_histogram(), 5) == []


def test_a_coarser_histogram_counts_the_same_rows() -> None:
    keys = np.random.default_rng(4).integers(0, BEYOND, 1000)
    coarse = coarser(histogram_of(keys), 4)
    assert coarse.shape == (13 * 4**6,)
    assert np.array_equal(coarse, np.bincount(keys >> 46, minlength=13 * 4**6))


@pytest.mark.parametrize("order", [0, 3, 10])
def test_keys_of_a_tile_are_the_children_of_its_pixel(order: int) -> None:
    tile = Tile(order, 7, 0)
    assert tile.first_key >> 2 * (29 - order) == 7 == tile.last_key >> 2 * (29 - order)
    assert (tile.first_key - 1) >> 2 * (29 - order) == 6
    assert (tile.last_key + 1) >> 2 * (29 - order) == 8
