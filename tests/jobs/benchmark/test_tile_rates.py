"""Cutouts per second from tiles, by all methods."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from jobs.benchmark.tile_rates import CASES, METHODS, tile_rates, write_tiles


def test_a_tile_has_three_bands_and_objects(tmp_path: Path) -> None:
    tile = write_tiles(tmp_path, side_px=128, objects=5, seed=3)
    images = [fits.getdata(file) for file in tile.files]
    assert [image.shape for image in images] == [(128, 128)] * 3
    assert not np.array_equal(images[0], images[1])
    assert len(tile.ra) == len(tile.dec) == 5


@pytest.mark.parametrize("name", METHODS)
def test_every_method_cuts_all_objects(tmp_path: Path, name: str) -> None:
    if name == "astrocut" and not importlib.util.find_spec("astrocut"):
        pytest.skip("astrocut is not installed")
    tile = write_tiles(tmp_path, side_px=128, objects=5)
    for side_px, size_px in ((32, 32), (20, 32)):
        assert METHODS[name](tile, side_px, size_px) == 5


def test_rates_are_of_every_method_and_case(tmp_path: Path) -> None:
    rates = tile_rates(tmp_path, cores=1, side_px=400, objects=3, rounds=1)
    installed = [name for name in METHODS if name != "astrocut" or importlib.util.find_spec("astrocut")]
    assert rates.keys() == {f"{name}, {case}" for name in installed for case in CASES}
    assert min(rates.values()) > 0
