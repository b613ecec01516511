"""HEALPix pixels of rows, and the division of the sky into files (Górski et al. 2005, ApJ 622, 759; nested scheme).

A row's *key* is its pixel of order 29; the twelve base pixels have the keys below 12 · 4^29. Rows without a position
get keys in a thirteenth base pixel that is not on the sky, evenly distributed by their ids. So the same code sorts,
counts and divides all rows, and limits the size of the files without positions too.

A *tile* is a pixel of any order that becomes one file of the catalog.
"""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from astropy.coordinates import angular_separation
from astropy_healpix import healpix_to_lonlat, lonlat_to_healpix

from galaxy_batch.ids import id_hashes

__all__ = [
    "BASE_PIXELS",
    "DEEPEST_TILE",
    "Tile",
    "cells_of",
    "coarser",
    "cut",
    "empty_histogram",
    "pixels_at",
    "row_keys",
    "separation_arcsec",
]

_ORDER = 29
BASE_PIXELS = 12
"""Number of pixels of order 0 on the sky; also the number of the base pixel of rows without a position."""
DEEPEST_TILE = 10
"""Order of the smallest tiles, 3.4 arcminutes wide, and of the histogram that defines the tiles."""
_CELL_SHIFT = 2 * (_ORDER - DEEPEST_TILE)


@dataclass(frozen=True)
class Tile:
    """A pixel of the nested scheme, and the number of rows in it."""

    order: int
    pixel: int
    rows: int

    @property
    def on_sky(self) -> bool:
        """False for tiles of rows without a position."""
        return self.pixel < BASE_PIXELS << 2 * self.order

    @property
    def first_key(self) -> int:
        """The lowest key in the tile."""
        return self.pixel << 2 * (_ORDER - self.order)

    @property
    def last_key(self) -> int:
        """The highest key in the tile."""
        return ((self.pixel + 1) << 2 * (_ORDER - self.order)) - 1


def pixels_at(
    ra_deg: npt.NDArray[np.float64], dec_deg: npt.NDArray[np.float64], order: int = _ORDER
) -> npt.NDArray[np.int64]:
    """Nested pixel of each ICRS position, ``(N,)``."""
    pixels = lonlat_to_healpix(ra_deg * u.deg, dec_deg * u.deg, 2**order, order="nested")
    return np.asarray(pixels, np.int64)


def separation_arcsec(
    pixels: npt.NDArray[np.int64], ra_deg: npt.NDArray[np.float64], dec_deg: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Distance of each position from the centre of its pixel of order 29 (0.4 milliarcseconds wide), ``(N,)``."""
    lon, lat = healpix_to_lonlat(pixels, 2**_ORDER, order="nested")
    radians = angular_separation(lon.to_value("rad"), lat.to_value("rad"), np.radians(ra_deg), np.radians(dec_deg))
    return np.asarray(np.degrees(radians) * 3600)


def row_keys(rows: pa.Table) -> npt.NDArray[np.int64]:
    """The key of each row, ``(N,)``. Reads `_healpix_29`, `object_id`."""
    pixels = rows["_healpix_29"]
    if not pixels.null_count:
        return np.asarray(pixels.to_numpy(), np.int64)
    nowhere = (BASE_PIXELS << 2 * _ORDER) + (id_hashes(rows["object_id"]) >> np.uint64(6)).astype(np.int64)
    return np.where(pixels.is_null().to_numpy(), nowhere, pixels.fill_null(0).to_numpy())


def cells_of(keys: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The non-empty cells of the histogram, sorted, and their numbers of rows: both ``(cells,)``."""
    cells, counts = np.unique(keys >> _CELL_SHIFT, return_counts=True)
    return cells.astype(np.int32), counts.astype(np.int32)


def empty_histogram() -> npt.NDArray[np.int64]:
    """Zero rows in each of the 13 · 4^10 cells: 109 MB of address space, of which only used pages need memory."""
    return np.zeros((BASE_PIXELS + 1) << 2 * DEEPEST_TILE, np.int64)


def coarser(histogram: npt.NDArray[np.int64] | npt.NDArray[np.int32], orders: int) -> npt.NDArray[np.int64]:
    """The histogram at a lower order: `orders` fewer, 4^orders cells summed into one."""
    return np.asarray(histogram.reshape(-1, 1 << 2 * orders).sum(axis=1, dtype=np.int64))


def cut(histogram: npt.NDArray[np.int64], max_rows: int) -> list[Tile]:
    """Divide the sky into the largest tiles with at most `max_rows` rows; sorted by key, without empty tiles.

    Args:
        histogram: rows in each cell of order 10, as in `empty_histogram`.
        max_rows: exceeded only by tiles of order 10, the resolution of the histogram.
    """
    levels = [histogram]
    for _ in range(DEEPEST_TILE):
        levels.append(coarser(levels[-1], 1))
    tiles: list[Tile] = []
    pixels = np.arange(BASE_PIXELS + 1)
    for order, level in enumerate(reversed(levels)):
        rows = level[pixels]
        whole = (rows <= max_rows) | (order == DEEPEST_TILE)
        tiles += [Tile(order, int(p), int(n)) for p, n in zip(pixels[whole], rows[whole], strict=True) if n]
        pixels = (4 * pixels[~whole][:, None] + np.arange(4)).ravel()
    return sorted(tiles, key=lambda tile: tile.first_key)
