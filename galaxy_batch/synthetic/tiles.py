"""A simulated survey of tiles: the galaxies of a survey on one field of the sky, in overlapping FITS images.

Each galaxy is the image that ``rendering`` makes a JPEG of, with its PSF, noise and neighbours, so that a cutout from
the tiles can be compared with that JPEG. The field is centred on RA 0, and the sky level steps by a little where tiles
meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
from astropy.io import fits
from astropy.wcs import WCS

from galaxy_batch.synthetic.galaxies import PIXEL_SCALE_ARCSEC, draw_galaxy
from galaxy_batch.synthetic.rendering import (
    LUPTON_Q,
    LUPTON_STRETCH,
    SKY_NOISE_NANOMAGGIES,
    WHITE_BALANCE,
    observe,
)
from galaxy_batch.synthetic.survey import object_ids

__all__ = ["TILE_BANDS", "TILE_RGB", "TileSurveyFiles", "write_tile_survey"]

TILE_BANDS = ("i", "r", "g")
"""Bands of the tiles that are red, green, blue."""
TILE_RGB: dict[str, Any] = {
    "scale": [round(float(value), 3) for value in WHITE_BALANCE[::-1]],
    "minimum": -0.005,
    "stretch": LUPTON_STRETCH,
    "q": LUPTON_Q,
}
"""Settings of ``[classify.rgb]`` that draw the tiles as ``rendering`` does."""
_BORDER_PX = 8  # of a galaxy's image beyond its frame
_CENTRE_DEG = (0.0, 30.0)
_SEAM_NANOMAGGIES = 0.0005  # standard deviation of the sky level of a tile
_R90_OF_FRAME = 1 / 8.48  # frames of Galaxy Zoo 2 are 424 px of 0.02 x petroR90_r
_TILES = 3  # random stream; galaxies, rendering and survey use others


@dataclass(frozen=True)
class TileSurveyFiles:
    """Files of a written survey."""

    manifest: Path
    """CSV: ``object_id``, ``ra``, ``dec``, ``petroR90_r`` in arcseconds."""
    tiles: Path
    """Folder of ``<tile>-<band>.fits`` in nanomaggies."""
    table: Path
    """CSV of the tiles: ``tile``, ``ra``, ``dec`` of the centre."""
    templates: tuple[str, ...]
    """``band_templates`` with a wildcard."""
    tile_deg: float
    """Width and height of a tile."""


def write_tile_survey(
    folder: str | Path, galaxies: int, seed: int, tile_px: int = 1024, overlap_px: int = 320
) -> TileSurveyFiles:
    """Write the tiles and tables of a survey under the local ``folder``.

    Args:
        folder: created where it is missing.
        galaxies: number of galaxies, which are placed side by side.
        seed: of the survey; galaxy ``index`` is the one that ``render(index, seed)`` draws.
        tile_px: side of a tile.
        overlap_px: by which neighbours overlap; frames of galaxies have up to 278 pixels.
    """
    files = TileSurveyFiles(
        Path(folder, "objects.csv"),
        Path(folder, "tiles"),
        Path(folder, "tiles.csv"),
        tuple(f"tiles/*-{band}.fits" for band in TILE_BANDS),
        tile_px * PIXEL_SCALE_ARCSEC / 3600,
    )
    files.tiles.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((seed, 0, _TILES))
    drawn = [draw_galaxy(index, seed) for index in range(galaxies)]
    sides = np.array([galaxy.side_px for galaxy in drawn], np.int64)
    corners, count = _places(sides + 2 * _BORDER_PX, tile_px, overlap_px)
    step, side = tile_px - overlap_px, (tile_px - overlap_px) * count + overlap_px
    sky = rng.standard_normal((3, side, side), np.float32) * SKY_NOISE_NANOMAGGIES[:, None, None].astype(np.float32)
    for index, (galaxy, (x, y)) in enumerate(zip(drawn, corners.tolist(), strict=True)):
        image = observe(galaxy, index, seed, _BORDER_PX)[:, ::-1]  # the bottom row first
        sky[:, y : y + image.shape[1], x : x + image.shape[2]] = image
    wcs = _wcs(side)
    centres = corners + (sides[:, None] + 2 * _BORDER_PX - 1) / 2
    ra, dec = (np.asarray(axis) for axis in wcs.all_pix2world(*centres.T, 0))
    columns = {"object_id": object_ids(np.arange(galaxies), seed), "ra": ra % 360, "dec": dec}
    columns["petroR90_r"] = sides * PIXEL_SCALE_ARCSEC * _R90_OF_FRAME
    pacsv.write_csv(pa.table(columns), files.manifest)
    rows = []
    for number in range(count**2):
        x, y = number % count * step, number // count * step
        name = f"field{number:03d}"
        image = sky[:, y : y + tile_px, x : x + tile_px] + rng.normal(0, _SEAM_NANOMAGGIES, (3, 1, 1))
        own = _shifted(wcs, x, y)
        for band, pixels in zip(reversed(TILE_BANDS), image.astype(np.float32), strict=True):
            _write(files.tiles / f"{name}-{band}.fits", pixels, own, band)
        rows.append((name, *own.all_pix2world((tile_px - 1) / 2, (tile_px - 1) / 2, 0)))
    names, ras, decs = zip(*rows, strict=True)
    table = {"tile": names, "ra": np.array(ras, float) % 360, "dec": np.array(decs, float)}
    pacsv.write_csv(pa.table(table), files.table)
    return files


def _places(sides: npt.NDArray[np.int64], tile_px: int, overlap_px: int) -> tuple[npt.NDArray[np.int64], int]:
    """Corners ``(N, 2)``, x and y, of squares side by side in rows, and the tiles along each axis that hold them."""
    count = 1
    while True:
        width = (tile_px - overlap_px) * count + overlap_px
        x = y = height = 0
        corners = []
        for side in sides.tolist():
            if x + side > width:
                x, y, height = 0, y + height, 0
            corners.append((x, y))
            x, height = x + side, max(height, side)
        if y + height <= width:
            return np.array(corners, np.int64).reshape(-1, 2), count
        count += 1


def _wcs(side: int) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = _CENTRE_DEG, [(side + 1) / 2] * 2
    wcs.wcs.cdelt = [-PIXEL_SCALE_ARCSEC / 3600, PIXEL_SCALE_ARCSEC / 3600]
    wcs.wcs.radesys = "ICRS"
    return wcs


def _shifted(wcs: WCS, x: int, y: int) -> WCS:
    own = wcs.deepcopy()
    own.wcs.crpix = own.wcs.crpix - np.array([x, y])
    return own


def _write(path: Path, pixels: npt.NDArray[Any], wcs: WCS, band: str) -> None:
    header = wcs.to_header()
    header["FILTER"], header["BUNIT"] = band, "nanomaggy"
    fits.PrimaryHDU(pixels, header).writeto(path, overwrite=True)
