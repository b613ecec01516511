"""Headers as astropy reads and writes them."""

import io

import numpy as np
import pytest
from astropy.io import fits

from galaxy_batch.fits_format import BLOCK_BYTES, PIXEL_TYPES, image_header, padded, whole_blocks


@pytest.mark.parametrize("bitpix", PIXEL_TYPES)
@pytest.mark.parametrize("shape", [(3, 4, 5), (7, 11), (2000, 1)])
def test_an_image_is_read_as_it_was_written(shape: tuple[int, ...], bitpix: int) -> None:
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(PIXEL_TYPES[bitpix])
    content = image_header(shape, bitpix) + padded(pixels.tobytes())
    content += image_header(shape, bitpix, is_extension=True) + padded(pixels[::-1].tobytes())
    assert len(content) % BLOCK_BYTES == 0
    with fits.open(io.BytesIO(content), memmap=False) as hdus:
        hdus.verify("exception")
        assert np.array_equal(hdus[0].data, pixels)
        assert np.array_equal(hdus[1].data, pixels[::-1])
        assert len(hdus) == 2


def test_a_header_without_data() -> None:
    with fits.open(io.BytesIO(image_header((), 8))) as hdus:
        hdus.verify("exception")
        assert hdus[0].data is None


def test_whole_blocks() -> None:
    assert [whole_blocks(size) for size in (0, 1, 2880, 2881)] == [0, 2880, 2880, 5760]
