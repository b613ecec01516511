"""Cutouts per second from local tiles, by `tiles.cut` and by what else there is: a loop of Cutout2D, and astrocut.

Every method gives all objects of a tile in three bands as float32 pixels, and opens the files of a tile again for each
tile. The rates are of all cores, one process each.
"""

import importlib.util
import multiprocessing
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.wcs import WCS
from PIL import Image

from galaxy_batch.tiles.cut import cut_bands
from galaxy_batch.tiles.tile_image import open_tile

__all__ = ["CASES", "METHODS", "TileSet", "tile_rates", "write_tiles"]

BANDS = ("i", "r", "g")
SCALE_ARCSEC = 0.262
_FEW = 20  # objects for astrocut, which opens the files for each: its rate does not depend on their number
CASES = {"64 px": (64, 64), "128 px": (128, 128), "150 px to 224 px": (150, 224), "300 px to 224 px": (300, 224)}
"""Side of a cutout in pixels of the tile, and in its own."""


@dataclass(frozen=True)
class TileSet:
    """One tile in three bands, and the objects on it."""

    files: Sequence[str]
    ra: npt.NDArray[np.float64]
    dec: npt.NDArray[np.float64]


def write_tiles(folder: Path, side_px: int, objects: int, seed: int = 0) -> TileSet:
    """Write one tile of noise in three bands, as plain FITS with a TAN WCS, north up; objects lie anywhere on it."""
    rng = np.random.default_rng(seed)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ("RA---TAN", "DEC--TAN"), (150.0 + seed, 2.0)
    wcs.wcs.crpix = [side_px / 2 + 0.5] * 2
    wcs.wcs.cdelt = -SCALE_ARCSEC / 3600, SCALE_ARCSEC / 3600
    files = [folder / f"tile-{seed}-{band}.fits" for band in BANDS]
    for file in files:
        noise = rng.normal(0, 0.02, (side_px, side_px)).astype(np.float32)
        fits.PrimaryHDU(noise, wcs.to_header()).writeto(file)
    ra, dec = wcs.all_pix2world(*rng.uniform(0, side_px - 1, (2, objects)), 0)
    return TileSet([str(file) for file in files], ra, dec)


def cut_by_bands(tile: TileSet, side_px: int, size_px: int) -> int:
    """`tiles.cut.cut_bands`, along the axes of the tile: resampled to `size_px`, the object in the very centre."""
    with ExitStack() as stack:
        bands = [stack.enter_context(open_tile(file, 1 << 30)) for file in tile.files]
        side_arcsec = side_px * SCALE_ARCSEC
        return sum(len(some) for some, _ in cut_bands(bands, tile.ra, tile.dec, side_arcsec, size_px, north_up=False))


def cut_by_cutout2d(tile: TileSet, side_px: int, size_px: int) -> int:
    """A loop of `Cutout2D` over images in memory maps, whole pixels; `Image.resize` where the sizes differ."""
    positions = SkyCoord(tile.ra, tile.dec, unit="deg")
    with ExitStack() as stack:
        images = [stack.enter_context(fits.open(file))[0] for file in tile.files]
        grids = [WCS(image.header) for image in images]
        for position in positions:
            for image, wcs in zip(images, grids, strict=True):
                cutout = Cutout2D(image.data, position, (side_px, side_px), wcs, mode="partial", fill_value=np.nan)
                _resized(cutout.data, size_px)
    return len(positions)


def cut_by_astrocut(tile: TileSet, side_px: int, size_px: int) -> int:
    """A loop of `astrocut.FITSCutout`, which opens the three files for each object; then as for Cutout2D."""
    from astrocut import FITSCutout

    positions = SkyCoord(tile.ra, tile.dec, unit="deg")
    for position in positions:
        cutouts = FITSCutout(tile.files, position, [side_px, side_px] * units.pixel).hdu_cutouts_by_file
        for (cutout,) in cutouts.values():
            _resized(cutout.data, size_px)
    return len(positions)


METHODS: dict[str, Callable[[TileSet, int, int], int]] = {
    "tiles.cut": cut_by_bands,
    "Cutout2D": cut_by_cutout2d,
    "astrocut": cut_by_astrocut,
}


def tile_rates(folder: Path, cores: int, side_px: int, objects: int, rounds: int) -> dict[str, float]:
    """Rates of all methods for all cases: cutouts per second, each of three bands; astrocut where it is installed.

    Per second of CPU time, which for files in the page cache is that of an idle machine. The methods take turns, and
    the fastest round of each counts.

    Args:
        folder: for the tiles.
        cores: number of processes, each with a tile of its own; their rates are added.
        side_px: of a tile.
        objects: on a tile.
        rounds: number of times that each method cuts all objects of a tile.
    """
    tiles = [write_tiles(folder, side_px, objects, seed) for seed in range(cores)]
    rates = {}
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        for case, (cutout_px, size_px) in CASES.items():
            arguments = [(tile, cutout_px, size_px, rounds) for tile in tiles]
            of_processes = list(pool.map(_best_rates, *zip(*arguments, strict=True)))
            for name in of_processes[0]:
                rates[f"{name}, {case}"] = round(sum(best[name] for best in of_processes), 1)
    return rates


def _best_rates(tile: TileSet, cutout_px: int, size_px: int, rounds: int) -> dict[str, float]:
    few = TileSet(tile.files, tile.ra[:_FEW], tile.dec[:_FEW])
    names = [name for name in METHODS if name != "astrocut" or importlib.util.find_spec("astrocut")]
    best = dict.fromkeys(names, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            METHODS[name](few, cutout_px, size_px)  # imports, and reads the files for the first time
        for _ in range(rounds):
            for name in names:
                started = time.process_time()
                done = METHODS[name](few if name == "astrocut" else tile, cutout_px, size_px)
                best[name] = max(best[name], done / (time.process_time() - started))
    return best


def _resized(pixels: npt.NDArray[np.float32], size_px: int) -> npt.NDArray[np.float32]:
    native = np.asarray(pixels, np.float32)
    if len(native) == size_px:
        return native
    return np.asarray(Image.fromarray(native).resize((size_px, size_px), Image.Resampling.BILINEAR))
