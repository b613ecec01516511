import io

import numpy as np
from astropy.io import fits

from galaxy_batch.config import RgbConfig, TilesConfig
from galaxy_batch.cutouts.decode import decode
from galaxy_batch.cutouts.fetch import hash_image
from galaxy_batch.cutouts.fits import decode_fits
from galaxy_batch.tiles.cubes import Cubes


def test_a_cube_is_decoded_like_any_fits_cutout() -> None:
    rng = np.random.default_rng(2)
    pixels = rng.normal(0.1, 0.3, (3, 4, 33, 33)).astype(np.float32)
    pixels[0, 1, 5, 6] = np.nan
    cubes = Cubes(4, 33)
    for band in range(3):
        cubes.set_band(np.array([2, 0, 3]), band, pixels[band, [2, 0, 3]])
    usable = np.array([True, False, True, True])
    column = cubes.column(usable)
    column.validate(full=True)
    assert column.is_null().to_pylist() == [False, True, False, False]
    for row in (0, 2, 3):
        content = column[row].as_py()
        with fits.open(io.BytesIO(content), memmap=False) as file:
            file.verify("exception")
            assert np.array_equal(file[0].data[:, ::-1], pixels[:, row], equal_nan=True)
        rgb = RgbConfig()
        assert np.array_equal(decode(content, 10_000, rgb), decode_fits(content, 10_000, rgb))
        assert cubes.hashes(np.array([row])) == [hash_image(content)]
        templates = ("*r", "*g", "*b")
        assert len(content) == TilesConfig(templates, side_arcsec=1.0, size_px=33).cutout_bytes
    assert len(set(cubes.hashes(np.array([0, 2, 3])))) == 3


def test_all_rows_or_none() -> None:
    cubes = Cubes(2, 16)
    assert cubes.column(np.array([True, True])).null_count == 0
    assert cubes.column(np.array([False, False])).null_count == 2
    assert len(Cubes(0, 16).column(np.array([], bool))) == 0
