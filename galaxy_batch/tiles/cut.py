"""Cut objects out of a tile: positions to pixels, read once, resample with the flux conserved.

The WCS, with all distortions that astropy knows, gives the position of each object and, by finite differences, the
affine map between the sky and the pixels around it. Within a cutout this map stands for the WCS: over 2 arcminutes of a
survey's tile it is exact to 0.05 pixels.

A pixel of the cutout is the mean of the tile over its area where it is larger than a pixel of the tile, and the linear
interpolation at its centre where it is smaller, times the ratio of their areas: the flux of a source stays what it was.
Where the axes of the cutout are those of the tile, the weights are products of one along each axis, and a few objects
at a time are resampled by products with sparse matrices, faster than by `Image.resize`; otherwise one by one by Pillow.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy import units
from astropy.coordinates import FK5, ICRS, SkyCoord
from astropy.wcs.utils import wcs_to_celestial_frame
from PIL import Image
from scipy.sparse import csr_array

from galaxy_batch.rows import Status, UnusableCutout
from galaxy_batch.tiles.tile_image import TileImage

__all__ = ["Cut", "cut_band", "cut_bands"]

Floats = npt.NDArray[np.float64]
Cutouts = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
Boxes = npt.NDArray[np.int64]

_BATCH = 64  # objects that are close to each other in the order of the tile's rows, and are sorted by size
_CACHED_PIXELS = 1 << 20  # of all steps of a batch: 4 MB, a processor's cache; twice as many are a quarter slower
_HELD_BYTES = 64 << 20  # of rows of a tile in memory at a time; more where one batch needs more
_DENSE = 0.5  # share of the rows' bytes that the objects need, from which all of them are read
_ALIGNED_PX = 0.1  # of a cutout's pixel: smaller displacements by rotation and shear are neglected
_LEAST_WEIGHT = 0.5  # of a pixel that has a value: share of its area that lies on pixels with values
_ROUND_TRIP_PX = 0.05  # error of the inverse of a distortion
_FINEST = 4  # pixels of the tile per pixel of the cutout: twice as many are first averaged to blocks


@dataclass(frozen=True)
class Cut:
    """Cutouts of some objects from one band of one tile."""

    pixels: Cutouts
    """``(n, size_px, size_px)``, the top row first: flux per pixel of the cutout, in the unit that the tile has per
    pixel of its own (SDSS, Legacy Surveys: nanomaggies); nan where the tile has no data. Perhaps not contiguous."""
    area_ratio: Floats
    """``(n,)``: area of a pixel of the cutout in pixels of the tile. `pixels / area_ratio` is the surface brightness in
    the unit of the tile, which does not depend on the scale of the cutout."""
    empty_fraction: Floats
    """``(n,)``: share of the pixels that are nan."""


def cut_band(
    tile: TileImage, ra: npt.ArrayLike, dec: npt.ArrayLike, side_arcsec: npt.ArrayLike, size_px: int, north_up: bool
) -> Cut:
    """Cut objects out of one band of one tile.

    Args:
        tile: open.
        ra: ``(n,)`` right ascension of the centres, deg, ICRS.
        dec: ``(n,)`` declination.
        side_arcsec: ``(n,)`` or one for all: side of the cutouts on the sky.
        size_px: side of the cutouts in pixels.
        north_up: whether the top of a cutout is north and its left east. Otherwise its rows and columns are those of
            the tile: the highest row of the FITS image on top, as viewers show it, and as `cutouts.fits` does.

    The centre of a cutout, between its middle pixels where their number is even, is the object's position.

    Raises:
        UnusableCutout: as `TileImage.read`.
    """
    count = np.size(ra)
    pixels = np.full((count, size_px, size_px), np.nan, np.float32)
    ratio, empty = np.empty(count), np.empty(count)
    for indices, (cut,) in cut_bands([tile], ra, dec, side_arcsec, size_px, north_up):
        pixels[indices], ratio[indices], empty[indices] = cut.pixels, cut.area_ratio, cut.empty_fraction
    return Cut(pixels, ratio, empty)


def cut_bands(
    tiles: Sequence[TileImage],
    ra: npt.ArrayLike,
    dec: npt.ArrayLike,
    side_arcsec: npt.ArrayLike,
    size_px: int,
    north_up: bool,
    batch: int = _BATCH,
) -> Iterator[tuple[Indices, list[Cut]]]:
    """Cut objects out of all bands of one tile, some at a time: the indices of the objects, and one `Cut` per band.

    Each tile is read once, from its first row to its last, and of a large one only some rows are in memory: the memory
    does not depend on the number of objects. Arguments and errors are those of `cut_band`.

    Args:
        tiles: one per band; pixel scales, orientations and shapes may differ.
        ra: as for `cut_band`.
        dec: as for `cut_band`.
        side_arcsec: as for `cut_band`.
        size_px: as for `cut_band`.
        north_up: as for `cut_band`.
        batch: largest number of objects at a time; there are fewer of large ones, as the processor's cache holds.
    """
    columns = (np.atleast_1d(np.asarray(column, np.float64)) for column in (ra, dec, side_arcsec))
    lon, lat, side = np.broadcast_arrays(*columns)
    bands: list[_Band] = []
    for tile in tiles:
        grid = _Grid(tile, lon, lat, side, size_px, north_up)
        bands.append(_Band(tile, next((band.grid for band in bands if band.grid == grid), grid)))
    for neighbours in _neighbours(bands[0].grid.boxes, tiles[0].shape[1]):
        for band in bands:
            band.hold(neighbours)
        for indices in _batches(neighbours, bands[0].grid, batch):
            yield indices, [band.cut(indices) for band in bands]


def _neighbours(boxes: Boxes, width: int) -> Iterator[Indices]:
    """Objects in the order of the tile's rows, in groups that fit into memory with their rows, each sorted by size."""
    order = np.argsort(boxes[:, 0], kind="stable")
    while len(order):
        last_rows = np.maximum.accumulate(boxes[order[:_BATCH], 1])
        count = max(1, int(np.searchsorted(last_rows, boxes[order[0], 0] + _HELD_BYTES // (4 * width), "right")))
        group, order = order[:count], order[count:]
        yield group[np.argsort(boxes[group, 1] - boxes[group, 0], kind="stable")]


def _batches(neighbours: Indices, grid: "_Grid", batch: int) -> Iterator[Indices]:
    """Objects in batches whose windows, cutouts and what is between them fit into the processor's cache."""
    top, bottom, left, right = grid.boxes[neighbours].T
    heights, widths = bottom - top, right - left
    pixels = heights * widths + 2 * grid.size_px * widths + grid.size_px**2
    while len(neighbours):
        count = max(1, min(batch, int(_CACHED_PIXELS // pixels[0])))
        yield neighbours[:count]
        neighbours, pixels = neighbours[count:], pixels[count:]


class _Grid:
    """Where the pixels of all cutouts lie on the pixels of a tile; the bands of a survey often share it."""

    def __init__(self, tile: TileImage, ra: Floats, dec: Floats, side_arcsec: Floats, size_px: int, north_up: bool):
        self.size_px, self.shape = size_px, tile.shape
        centres, sky_to_pixel = _local_maps(tile, ra, dec, side_arcsec)
        pitch = (side_arcsec / size_px)[:, None, None]  # of a cutout's pixels, arcsec
        if north_up:
            maps = sky_to_pixel * np.array([-1.0, -1.0]) * pitch  # columns run west, rows south
        else:
            scales = np.linalg.norm(_inverse(sky_to_pixel), axis=1)  # arcsec per pixel along x and along y
            maps = pitch * np.array([[1.0, 0.0], [0.0, -1.0]]) / scales[:, :, None]
        area = np.abs(_determinant(maps))
        usable = np.isfinite(centres).all(1) & np.isfinite(maps).all((1, 2)) & (area > 0) & (side_arcsec > 0)
        centres[~usable], maps[~usable], area[~usable] = -1e9, np.eye(2), 1.0  # far outside
        self.centres, self.area_ratio = centres, area
        """Position ``(n, 2)``: x, y, from 0 at the centre of the first pixel."""
        self.maps = maps
        """``(n, 2, 2)``: step in x, y of the tile per column and per row of the cutout."""
        self.boxes = _boxes(centres, maps, size_px, tile.shape)
        """``(n, 4)``: y0, y1, x0, x1 of the part of the tile that is needed; empty where the cutout is outside."""
        self.inside = (self.boxes[:, 1] > self.boxes[:, 0]) & (self.boxes[:, 3] > self.boxes[:, 2])
        limit = _ALIGNED_PX * np.sqrt(area) / (size_px / 2)
        off = np.abs(maps)
        self.straight = self.inside & (np.maximum(off[:, 0, 1], off[:, 1, 0]) <= limit)
        """``(n,)``: whether the columns of the cutout run along x, and its rows along y."""
        self.crossed = self.inside & ~self.straight & (np.maximum(off[:, 0, 0], off[:, 1, 1]) <= limit)
        """``(n,)``: whether the columns of the cutout run along y, and its rows along x."""
        self._last: tuple[bytes, _Weights] | None = None

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Grid)
            and self.shape == other.shape
            and np.array_equal(self.centres, other.centres)
            and np.array_equal(self.maps, other.maps)
        )

    __hash__ = None  # type: ignore[assignment]

    def weights(self, indices: Indices, crossed: bool) -> "_Weights":
        """Weights of objects that are all `straight` or all `crossed`; those of the last call are kept."""
        key = indices.tobytes()
        if self._last is None or self._last[0] != key:
            self._last = key, _Weights(self, indices, crossed)
        return self._last[1]


class _Weights:
    """Weights of the tile's pixels in cutouts whose axes are those of the tile: a matrix for each axis.

    The windows of the objects lie one below the other. `down` resamples their columns; what comes out is turned, window
    by window, and `across` resamples what were their rows.
    """

    def __init__(self, grid: _Grid, indices: Indices, crossed: bool) -> None:
        boxes = grid.boxes[indices]
        self.crossed = crossed
        self.starts = np.concatenate([[0], np.cumsum(boxes[:, 1] - boxes[:, 0])])
        self.breadth = int((boxes[:, 3] - boxes[:, 2]).max())
        self.down, self.outside_down = _weights(grid, indices, 1, int(not crossed), self.starts)
        starts = np.arange(len(indices) + 1) * self.breadth
        self.across, self.outside_across = _weights(grid, indices, 0, int(crossed), starts, grid.area_ratio[indices])
        self.cut_off = np.concatenate([self.outside_down, self.outside_across], axis=1).any(axis=1)
        """``(n,)``: whether part of the cutout is outside the tile."""

    def resampled(self, stacked: Cutouts) -> Cutouts:
        """Flux ``(n, size, size)`` of windows that lie one below the other; nan outside the tile."""
        count = len(self.starts) - 1
        once = (self.down @ stacked).reshape(count, -1, self.breadth)
        size = once.shape[1]
        turned = np.ascontiguousarray(once.transpose(0, 2, 1)).reshape(-1, size)
        result: Cutouts = (self.across @ turned).reshape(count, size, size)
        for number in np.flatnonzero(self.cut_off).tolist():
            result[number, self.outside_across[number]] = np.nan
            result[number, :, self.outside_down[number]] = np.nan
        return result if self.crossed else result.transpose(0, 2, 1)


def _weights(
    grid: _Grid, indices: Indices, axis: int, side: int, starts: Indices, factors: Floats | None = None
) -> tuple[csr_array, npt.NDArray[np.bool_]]:
    """Weights of the tile's pixels along one axis, for columns (`side` 0) or rows (1) of some cutouts.

    Args:
        grid: of the tile.
        indices: ``(n,)`` of the objects.
        axis: of the tile.
        side: of the cutouts.
        starts: ``(n + 1,)`` where their windows start, and where the last one ends, one after the other.
        factors: ``(n,)`` by which the weights of each object are multiplied.

    Returns a matrix ``(n * size_px, pixels of all windows)``, and ``(n, size_px)``: whether a pixel is outside.
    """
    size, limit = grid.size_px, grid.shape[1 - axis]
    step = grid.maps[indices, axis, side]
    width = np.maximum(np.abs(step), 1.0)[:, None]  # of the tile that is averaged; 1 is linear interpolation
    low = grid.centres[indices, axis][:, None] - width / 2 + step[:, None] * (np.arange(size) - (size - 1) / 2)
    first = np.floor(low + 0.5)  # the pixel in which the average begins
    weights = np.empty((len(indices), size, math.ceil(width.max()) + 1), np.float32)
    weights[:, :, 0] = of_first = (first + 0.5 - low).astype(np.float32)
    width = width.astype(np.float32)
    for tap in range(1, weights.shape[2]):
        np.minimum(np.maximum(width - of_first - np.float32(tap - 1), 0), 1, out=weights[:, :, tap])
    columns = first.astype(np.int32)[:, :, None] + np.arange(weights.shape[2], dtype=np.int32)
    window = grid.boxes[indices][:, (2, 3) if axis == 0 else (0, 1)].astype(np.int32)[:, :, None, None]
    outside = np.zeros((len(indices), size), bool)
    crosses = (first.min(1) < 0) | (first.max(1) + weights.shape[2] > limit)
    if crosses.any():
        some, shown = columns[crosses], weights[crosses]
        shown *= (some >= 0) & (some < limit)
        total = shown.sum(2) / width[crosses]
        outside[crosses] = total < _LEAST_WEIGHT - 1e-6
        weights[crosses] = shown / np.where(outside[crosses], np.inf, total)[:, :, None]
        columns[crosses] = np.clip(some, window[crosses, 0], window[crosses, 1] - 1)
    scale = (1 if factors is None else factors) / width[:, 0]
    if (scale != 1).any():
        weights *= scale.astype(np.float32)[:, None, None]
    columns += starts[:-1, None, None].astype(np.int32) - window[:, 0]
    rows = np.arange(len(indices) * size + 1, dtype=np.int32) * np.int32(weights.shape[2])
    matrix = csr_array((weights.ravel(), columns.ravel(), rows), shape=(len(rows) - 1, int(starts[-1])))
    return matrix, outside


class _Band:
    """One tile, and where the cutouts lie on it."""

    def __init__(self, tile: TileImage, grid: _Grid) -> None:
        self.tile, self.grid = tile, grid
        self._is_dense = _is_dense(grid.boxes[grid.inside], tile)

    def hold(self, indices: Indices) -> None:
        """Read the rows that these objects need, where the objects on the tile need most of its rows."""
        boxes = self.grid.boxes[indices][self.grid.inside[indices]]
        if not self._is_dense or not len(boxes):
            return
        height, width = self.tile.shape
        first, last = int(boxes[:, 0].min()), int(boxes[:, 1].max())
        first -= first % self.tile.block_shape[0]
        last = min(height, max(last, first + _HELD_BYTES // (4 * width)))
        if self.tile.in_pieces and 4 * height * width <= _HELD_BYTES:
            first, last = 0, height
        try:
            self.tile.hold(first, last)
        except UnusableCutout as bad:
            if bad.status == Status.UNREACHABLE:
                raise
            self._is_dense = False  # the part that a cutout needs may be good

    def cut(self, indices: Indices) -> Cut:
        """Cutouts of some of the objects."""
        grid, count = self.grid, len(indices)
        area, straight, crossed = grid.area_ratio[indices], grid.straight[indices], grid.crossed[indices]
        if straight.all() or crossed.all():
            pixels, complete = self._resample_aligned(indices, bool(crossed[0]))
        else:
            pixels, complete = np.full((count, grid.size_px, grid.size_px), np.nan, np.float32), np.zeros(count, bool)
            for chosen in (straight, crossed):
                if chosen.any():
                    pixels[chosen], complete[chosen] = self._resample_aligned(indices[chosen], bool(crossed[chosen][0]))
            for row in np.flatnonzero(grid.inside[indices] & ~straight & ~crossed):
                pixels[row] = self._resample_rotated(indices[row])
        empty = np.zeros(count)
        if not complete.all():
            empty[~complete] = np.isnan(pixels[~complete]).mean((1, 2))
        return Cut(pixels, area, empty)

    def _resample_aligned(self, indices: Indices, crossed: bool) -> tuple[Cutouts, npt.NDArray[np.bool_]]:
        """Flux of objects whose axes are those of the tile, and ``(n,)``: whether surely none is nan."""
        weights = self.grid.weights(indices, crossed)
        starts = weights.starts.tolist()
        stacked = np.empty((starts[-1], weights.breadth), np.float32)
        for box, start, end in zip(self.grid.boxes[indices].tolist(), starts, starts[1:], strict=False):
            window = self.tile.view(*box)
            stacked[start:end, : window.shape[1]] = window
            if window.shape[1] < weights.breadth:
                stacked[start:end, window.shape[1] :] = 0
        finite = np.isfinite(stacked)
        if finite.all():
            resampled = weights.resampled(stacked)
            return resampled, np.logical_not(weights.cut_off)
        resampled = weights.resampled(np.where(finite, stacked, np.float32(0)))
        holed = np.array([not finite[start:end].all() for start, end in itertools.pairwise(starts)])
        share = weights.resampled(finite.astype(np.float32))[holed]
        resampled[holed] = _with_holes(resampled[holed], share / self.grid.area_ratio[indices][holed, None, None])
        return resampled, np.zeros(len(indices), bool)

    def _resample_rotated(self, index: np.intp) -> Cutouts:
        """Flux of one object, by linear interpolation at about as many points as the tile has pixels."""
        y0, y1, x0, x1 = self.grid.boxes[index].tolist()
        window = self.tile.read(y0, y1, x0, x1)
        finite = np.isfinite(window)
        scale = float(np.sqrt(self.grid.area_ratio[index]))
        reduced = max(1, int(scale / _FINEST))
        corner = (self.grid.centres[index] + 0.5 - np.array([x0, y0])) / reduced  # the object, from the window's corner
        points = max(1, math.ceil(scale / reduced - 0.25))
        fine = self.grid.maps[index] / reduced / points
        start = corner - fine @ np.full(2, self.grid.size_px * points / 2)

        def resampled(values: Cutouts) -> Cutouts:
            image = Image.fromarray(values)
            if reduced > 1:
                image = image.reduce(reduced)
            size, data = (self.grid.size_px * points,) * 2, (*fine[0], start[0], *fine[1], start[1])
            image = image.transform(size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
            return np.asarray(image.reduce(points) if points > 1 else image)

        values = resampled(window if finite.all() else np.where(finite, window, np.float32(0)))
        reach = np.abs(self.grid.maps[index]).sum(1) * self.grid.size_px / 2
        low, high = self.grid.centres[index] - reach, self.grid.centres[index] + reach
        if not finite.all() or (low < -0.5).any() or (high > np.array(self.grid.shape[::-1]) - 0.5).any():
            values = _with_holes(values, resampled(finite.astype(np.float32)))
        return values * np.float32(self.grid.area_ratio[index])


def _with_holes(values: Cutouts, share: npt.NDArray[Any]) -> Cutouts:
    """Means over the pixels with values, nan where these are few; `share` is their share of the weights."""
    means = values / np.maximum(share, 1e-3).astype(np.float32)
    return np.where(share >= _LEAST_WEIGHT, means, np.float32(np.nan))


def _local_maps(tile: TileImage, ra: Floats, dec: Floats, side_arcsec: Floats) -> tuple[Floats, Floats]:
    """Pixels ``(n, 2)`` of positions, and ``(n, 2, 2)``: step in x, y per arcsec to the east and to the north.

    By differences over half a side, with vectors in space: poles and RA 0 are no special cases.
    """
    count = len(ra)
    a, d = np.radians(ra), np.radians(dec)
    centre = np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])
    east = np.stack([-np.sin(a), np.cos(a), np.zeros(count)])
    north = np.stack([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)])
    step = np.radians(side_arcsec / 4 / 3600)
    vectors = [centre, centre + step * east, centre - step * east, centre + step * north, centre - step * north]
    x, y, z = np.concatenate(vectors, axis=1)
    pixels = _sky_to_pixel(tile, np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y))))
    middle, e, w, n, s = pixels.reshape(5, count, 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        maps = np.stack([e - w, n - s], axis=2) / (side_arcsec / 2)[:, None, None]
    return middle, maps


def _sky_to_pixel(tile: TileImage, ra: Floats, dec: Floats) -> Floats:
    """Pixels ``(n, 2)``, from 0, of ICRS positions; nan where the projection has none."""
    wcs = tile.wcs
    frame = wcs_to_celestial_frame(wcs)
    if not (
        isinstance(frame, ICRS) or (isinstance(frame, FK5) and frame.equinox.jyear == 2000)
    ):  # equal to 0.04 arcsec
        sky = SkyCoord(ra, dec, unit="deg").transform_to(frame).spherical
        ra, dec = sky.lon.to_value(units.deg), sky.lat.to_value(units.deg)
    world = np.empty((len(ra), 2))
    world[:, wcs.wcs.lng], world[:, wcs.wcs.lat] = ra, dec
    pixels = np.asarray(wcs.all_world2pix(world, 0, quiet=True), np.float64)
    back = wcs.all_pix2world(pixels, 0) - world  # beyond the range of a distortion the inverse may give any pixel
    back[:, wcs.wcs.lng] = (back[:, wcs.wcs.lng] + 180) % 360 - 180
    back[:, wcs.wcs.lng] *= np.cos(np.radians(world[:, wcs.wcs.lat]))
    pixels[~(np.hypot(*back.T) * 3600 <= _ROUND_TRIP_PX * tile.pixel_scale_arcsec)] = np.nan
    return pixels


def _boxes(centres: Floats, maps: Floats, size_px: int, shape: tuple[int, int]) -> Boxes:
    half = np.abs(maps).sum(2) * size_px / 2 + 2  # of the bounding box, along x and along y; 2 for the interpolation
    limits = np.array([shape[1], shape[0]])
    low = np.clip(np.floor(centres - half), 0, limits).astype(np.int64)
    high = np.clip(np.ceil(centres + half) + 1, 0, limits).astype(np.int64)
    return np.stack([low[:, 1], high[:, 1], low[:, 0], high[:, 0]], axis=1)


def _is_dense(boxes: Boxes, tile: TileImage) -> bool:
    """Whether reading the boxes one by one would read about as much as all rows from the first box to the last."""
    if not len(boxes):
        return False
    height, width = tile.block_shape
    rows = (-(-boxes[:, 1] // height) - boxes[:, 0] // height) * height
    columns = (-(-boxes[:, 3] // width) - boxes[:, 2] // width) * width
    span = (boxes[:, 1].max() - boxes[:, 0].min()) * tile.shape[1]
    return bool((rows * columns).sum() >= _DENSE * span)


def _determinant(maps: Floats) -> Floats:
    return maps[:, 0, 0] * maps[:, 1, 1] - maps[:, 0, 1] * maps[:, 1, 0]


def _inverse(maps: Floats) -> Floats:
    adjugate = np.stack([maps[:, 1, 1], -maps[:, 0, 1], -maps[:, 1, 0], maps[:, 0, 0]], axis=1).reshape(-1, 2, 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        inverse: Floats = adjugate / _determinant(maps)[:, None, None]
    return inverse
