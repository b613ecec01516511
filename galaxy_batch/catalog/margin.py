"""Which rows are in the margin of which HEALPix pixel: rows outside a pixel, and within a distance of its border.

A crossmatch reads one pixel of the right catalog at a time, and its margin beside it, so that no pair is lost at the
border. A *margin pixel* is a pixel of the order of `margin_order`; it is at least the margin wide. So all places within
the margin of a row are in its margin pixel or one of the eight around it. A row is in the margin of every tile that one
of these eight is in. Rows up to twice the width of a margin pixel away are in it as well, as in `hats-import`.

Parts of the sky without a file have a margin too: the other catalog may have objects there, next to a row of ours.
"""

import numpy as np
import numpy.typing as npt
from astropy_healpix import neighbours

from galaxy_batch.sky.healpix import DEEPEST_TILE, Tile

__all__ = ["MAX_MARGIN_ARCSEC", "SkyDivision", "margin_order", "margin_rows"]

Integers = npt.NDArray[np.int64]

_ORDER = 29
_BASE_PIXEL_ARCSEC = 58.6323 * 3600  # square root of the area of a base pixel
_BITS_OF_X = 0x1555_5555_5555_5555
_NARROWEST = 2.0  # a pixel's mean width, in units of its smallest one, rounded up
MAX_MARGIN_ARCSEC = 60.0
"""Above this, a margin pixel would be larger than the smallest tile."""


class SkyDivision:
    """The whole sky divided into the tiles of a catalog and the largest pixels that have none of its rows."""

    def __init__(self, tiles: list[Tile]) -> None:
        """Args: tiles: those on the sky, in any order; none within another."""
        ordered = sorted(tiles, key=lambda tile: tile.first_key)
        self.first = np.array([tile.first_key for tile in ordered], np.int64)
        self.last = np.array([tile.last_key for tile in ordered], np.int64)
        self.orders = np.array([tile.order for tile in ordered], np.int64)

    def orders_at(self, keys: Integers) -> Integers:
        """The order of the pixel of the division that each key, a pixel of order 29, is in; ``(N,)``."""
        place = np.searchsorted(self.first, keys, "right") - 1
        orders = np.full(len(keys), -1, np.int64)
        if len(self.first):
            inside = (place >= 0) & (self.last[place] >= keys)
            orders[inside] = self.orders[place[inside]]
        for order in range(DEEPEST_TILE + 1):
            rest = np.flatnonzero(orders < 0)
            shift = 2 * (_ORDER - order)
            low = (keys[rest] >> shift) << shift
            begin = np.searchsorted(self.last, low, "left")
            end = np.searchsorted(self.first, low + (1 << shift), "left")
            orders[rest[begin == end]] = order
        return orders


def margin_order(margin_arcsec: float) -> int:
    """The highest order whose pixels are nowhere narrower than the margin."""
    return min(_ORDER, int(np.log2(_BASE_PIXEL_ARCSEC / (_NARROWEST * margin_arcsec))))


def margin_rows(keys: Integers, sky: SkyDivision, margin_arcsec: float) -> tuple[Integers, Integers, Integers]:
    """The rows that are in margins: number of the row, first key and order of the pixel in whose margin it is.

    All are ``(M,)``, sorted by the row; a row at a corner is in several margins.

    Args:
        keys: pixels of order 29, ``(N,)``.
        sky: how it is divided.
        margin_arcsec: the smallest distance that the margins must cover; at most `MAX_MARGIN_ARCSEC`.
    """
    order = margin_order(margin_arcsec)
    shift = 2 * (_ORDER - order)
    near_border = np.flatnonzero(_touch_border(keys >> shift, order, sky.orders_at(keys)))
    pixels, row_pixel = np.unique(keys[near_border] >> shift, return_inverse=True)
    around = np.asarray(neighbours(pixels, 2**order, order="nested"), np.int64).T
    places = np.repeat(np.arange(len(pixels)), around.shape[1] if len(pixels) else 0)
    near = around.ravel()
    places, near = places[near >= 0], near[near >= 0]
    own = _first_keys(pixels << shift, sky)
    orders = sky.orders_at(near << shift)
    first = _within(near << shift, orders)
    other = first != own[places]
    pairs = np.unique(np.stack([places[other], first[other], orders[other]], axis=1), axis=0)
    begin = np.searchsorted(pairs[:, 0], np.arange(len(pixels) + 1))
    times = np.diff(begin)[row_pixel]
    rows = np.repeat(np.arange(len(near_border)), times)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
    chosen = begin[row_pixel[rows]] + within
    return near_border[rows], pairs[chosen, 1], pairs[chosen, 2]


def _touch_border(pixels: Integers, order: int, tile_orders: Integers) -> npt.NDArray[np.bool_]:
    """Whether pixels lie at the border of their tile: the bits of x or of y, which alternate, are all 0 or all 1."""
    within = (1 << 2 * (order - tile_orders)) - 1
    x, y = within & _BITS_OF_X, within & ~_BITS_OF_X
    return np.asarray((pixels & x == 0) | (pixels & x == x) | (pixels & y == 0) | (pixels & y == y))


def _first_keys(keys: Integers, sky: SkyDivision) -> Integers:
    return _within(keys, sky.orders_at(keys))


def _within(keys: Integers, orders: Integers) -> Integers:
    """The first key of the pixel of each order that the key is in."""
    shifts = 2 * (_ORDER - orders)
    return (keys >> shifts) << shifts
