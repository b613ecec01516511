"""Tiles as surveys publish them: names, headers and extensions after their data models, pixels of the test's own."""

import bz2
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

__all__ = ["celestial_wcs", "legacy_brick", "save_tile", "sdss_frame", "sky_of"]

SDSS_SCALE_ARCSEC, LEGACY_SCALE_ARCSEC = 0.396, 0.262


def celestial_wcs(
    shape: tuple[int, int],
    scale_arcsec: float = LEGACY_SCALE_ARCSEC,
    rotation_deg: float = 0.0,
    mirrored: bool = False,
    centre: tuple[float, float] = (150.0, 2.0),
    projection: str = "TAN",
) -> WCS:
    """WCS of an image with its centre at `centre`; north is `rotation_deg` to the left of its top, east to the left."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = f"RA---{projection}", f"DEC--{projection}"
    wcs.wcs.crval = centre
    wcs.wcs.crpix = (shape[1] + 1) / 2, (shape[0] + 1) / 2
    cos, sin = np.cos(np.radians(rotation_deg)), np.sin(np.radians(rotation_deg))
    columns = np.diag([1.0 if mirrored else -1.0, 1.0])
    wcs.wcs.cd = scale_arcsec / 3600 * columns @ np.array([[cos, sin], [-sin, cos]])
    wcs.array_shape = shape
    return wcs


def sky_of(wcs: WCS, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """ra, dec of pixels, which count from 0."""
    ra, dec = wcs.all_pix2world(np.atleast_1d(x).astype(float), np.atleast_1d(y).astype(float), 0)
    return ra, dec


def save_tile(path: Path, pixels: np.ndarray, wcs: WCS, **cards: Any) -> str:
    """A plain FITS file of one image; its URI."""
    header = wcs.to_header(relax=True)
    header.update(cards)
    fits.PrimaryHDU(pixels, header).writeto(path)
    return str(path)


def sdss_frame(folder: Path, pixels: np.ndarray, wcs: WCS, band: str = "r") -> str:
    """`frame-r-RRRRRR-C-FFFF.fits.bz2`: image, calibration vector, sky and astrometry.

    dr17.sdss.org/datamodel/files/BOSS_PHOTOOBJ/frames/RERUN/RUN/CAMCOL/frame.html
    """
    header = fits.Header()
    header["RUN"], header["FRAME"], header["CAMCOL"], header["FILTER"] = 1737, 47, 5, band
    header["BUNIT"] = ("nanomaggy", "1 nanomaggy = 3.631e-6 Jy")
    header["RADECSYS"] = ("ICRS", "International Celestial Ref. System")  # deprecated, and what the files have
    header["EQUINOX"] = 2000.0
    for axis in (1, 2):
        header[f"CTYPE{axis}"], header[f"CUNIT{axis}"] = wcs.wcs.ctype[axis - 1], "deg"
        header[f"CRPIX{axis}"], header[f"CRVAL{axis}"] = wcs.wcs.crpix[axis - 1], wcs.wcs.crval[axis - 1]
        for other in (1, 2):
            header[f"CD{axis}_{other}"] = wcs.wcs.cd[axis - 1, other - 1]
    header["NMGY"] = (0.00463552, "Calibration factor [nMgy per count]")
    sky = Table({"ALLSKY": np.zeros((1, 192, 256), np.float32), "XINTERP": np.zeros((1, pixels.shape[1]), np.float32)})
    hdus = [
        fits.PrimaryHDU(pixels.astype(np.float32), header),
        fits.ImageHDU(np.ones(pixels.shape[1], np.float32)),
        fits.BinTableHDU(sky),
        fits.BinTableHDU(Table({"MU0": [0.0], "NU0": [0.0]})),
    ]
    sink = io.BytesIO()
    fits.HDUList(hdus).writeto(sink)
    path = folder / f"frame-{band}-001737-5-0047.fits.bz2"
    path.write_bytes(bz2.compress(sink.getvalue()))
    return str(path)


def legacy_brick(folder: Path, pixels: np.ndarray, wcs: WCS, band: str = "r", brick: str = "1500p020") -> str:
    """`legacysurvey-BRICK-image-r.fits.fz`: an empty primary, and the image in pieces of 100 x 100 pixels.

    legacysurvey.org/dr10/files; compressed as by legacypipe: RICE, levels of 1e-4 nanomaggies, zeros stay exact.
    """
    primary = fits.PrimaryHDU()
    primary.header["SURVEY"], primary.header["BRICKNAM"], primary.header["FILTER"] = "DECaLS", brick, band
    header = wcs.to_header()
    header["BRICKNAM"], header["FILTER"], header["BUNIT"], header["IMTYPE"] = brick, band, "nanomaggy", "image"
    image = fits.CompImageHDU(
        pixels.astype(np.float32),
        header,
        compression_type="RICE_1",
        tile_shape=(100, 100),
        quantize_level=-1e-4,
        quantize_method=2,
        dither_seed=1,
    )
    path = folder / f"legacysurvey-{brick}-image-{band}.fits.fz"
    fits.HDUList([primary, image]).writeto(path)
    return str(path)
