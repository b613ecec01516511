import numpy as np
import pytest
from astropy.io.fits import Header

from galaxy_batch.cutouts.fits_scaling import FitsScaling


def test_missing_integers_are_nan() -> None:
    scaling = FitsScaling.of(Header({"BITPIX": 16, "BSCALE": 0.5, "BZERO": 10.0, "BLANK": -1}))
    values = scaling.values(np.array([-1, 0, 4], ">i2"))
    assert np.isnan(values[0])
    assert values[1:].tolist() == [10.0, 12.0]


def test_floats_have_no_blank() -> None:
    scaling = FitsScaling.of(Header({"BITPIX": -32, "BLANK": 0}))
    assert scaling == FitsScaling()
    assert scaling.values(np.array([0.0, 1.5], ">f4")).tolist() == [0.0, 1.5]


def test_a_card_that_is_no_number() -> None:
    with pytest.raises(ValueError, match="abc"):
        FitsScaling.of(Header({"BITPIX": 16, "BZERO": "abc"}))
