"""Cut objects out of a tile: positions to pixels, read once, resample with the flux conserved.

The WCS, with all distortions that astropy knows, gives the position of each object and, by finite differences, the
affine map between the sky and the pixels around it. Within a cutout this map stands for the WCS: over 2 arcminutes of a
survey's tile it is exact to 0.05 pixels.

A pixel of the cutout is the mean of the tile over its area where it is larger than a pixel of the tile, and the linear
interpolation at its centre where it is smaller, times the ratio of their areas: the flux of a source stays what it was.
Where the axes of the cutout are those of the tile, the weights are products of one along each axis, and a few objects
at a time are resampled by products with sparse matrices, faster than by `Image.resize`; otherwise one by one by Pillow.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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

_BATCH = 64  # objects that are read and resampled at a time
_GROUP = 8  # objects in one sparse matrix: their windows stay in the processor's cache
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
    pixel of its own (SDSS, Legacy Surveys: nanomaggies); nan where the tile has no data."""
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
) -> Iterator[tuple[npt.NDArray[np.intp], list[Cut]]]:
    """Cut objects out of all bands of one tile, a batch at a time: the indices of the objects, and one `Cut` per band.

    Each tile is read once, from its first row to its last, and of a large one only some rows are in memory: the memory
    does not depend on the number of objects. Arguments and errors are those of `cut_band`.

    Args:
        tiles: one per band; pixel scales, orientations and shapes may differ.
        ra: as for `cut_band`.
        dec: as for `cut_band`.
        side_arcsec: as for `cut_band`.
        size_px: as for `cut_band`.
        north_up: as for `cut_band`.
        batch: number of objects.
    """
    columns = (np.atleast_1d(np.asarray(column, np.float64)) for column in (ra, dec, side_arcsec))
    lon, lat, side = np.broadcast_arrays(*columns)
    plans = [_Plan(tile, lon, lat, side, size_px, north_up) for tile in tiles]
    order = np.argsort(plans[0].boxes[:, 0], kind="stable")
    for start in range(0, len(order), batch):
        indices = order[start : start + batch]
        yield indices, [plan.cut(indices) for plan in plans]


class _Plan:
    """Where the pixels of all cutouts from one tile lie on it."""

    def __init__(self, tile: TileImage, ra: Floats, dec: Floats, side_arcsec: Floats, size_px: int, north_up: bool):
        self.tile, self.size_px = tile, size_px
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
        self.dense = _is_dense(self.boxes, tile)

    def cut(self, indices: npt.NDArray[np.intp]) -> Cut:
        """Cutouts of some of the objects."""
        boxes = self.boxes[indices]
        inside = (boxes[:, 1] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 2])
        pixels = np.full((len(indices), self.size_px, self.size_px), np.nan, np.float32)
        if self.dense and inside.any():
            self._hold(boxes[inside])
        half = self.size_px / 2
        maps = self.maps[indices]
        straight = np.abs(maps[:, [0, 1], [1, 0]]).max(1) * half <= _ALIGNED_PX * np.sqrt(self.area_ratio[indices])
        crossed = np.abs(maps[:, [0, 1], [0, 1]]).max(1) * half <= _ALIGNED_PX * np.sqrt(self.area_ratio[indices])
        heights = boxes[:, 1] - boxes[:, 0]
        for axes, chosen in (((0, 1), straight & inside), ((1, 0), crossed & inside & ~straight)):
            rows = np.flatnonzero(chosen)
            rows = rows[np.argsort(heights[rows], kind="stable")]  # windows of similar size in one matrix
            for start in range(0, len(rows), _GROUP):
                group = rows[start : start + _GROUP]
                pixels[group] = self._resample_aligned(indices[group], axes)
        for row in np.flatnonzero(inside & ~straight & ~crossed):
            pixels[row] = self._resample_rotated(indices[row])
        pixels *= self.area_ratio[indices, None, None].astype(np.float32)
        return Cut(pixels, self.area_ratio[indices], np.isnan(pixels).mean((1, 2)))

    def _hold(self, boxes: npt.NDArray[np.int64]) -> None:
        height, width = self.tile.shape
        first, last = int(boxes[:, 0].min()), int(boxes[:, 1].max())
        block = self.tile.block_shape[0]
        first -= first % block
        try:
            self.tile.hold(first, min(height, max(last, first + _HELD_BYTES // (4 * width))))
        except UnusableCutout as bad:
            if bad.status == Status.UNREACHABLE:
                raise
            self.dense = False  # the part that a cutout needs may be good

    def _resample_aligned(self, indices: npt.NDArray[np.intp], axes: tuple[int, int]) -> Cutouts:
        """Surface brightness of objects whose columns and rows run along the tile's `axes` (0 is x, 1 is y)."""
        boxes, count = self.boxes[indices], len(indices)
        windows = [self.tile.read(*box) for box in boxes.tolist()]
        if axes == (0, 1):
            windows = [window.T for window in windows]  # along the columns of the cutout, then along its rows
        lengths = np.array([window.shape for window in windows])
        ends = np.concatenate([[0], np.cumsum(lengths[:, 0])])
        stacked = np.zeros((ends[-1], lengths[:, 1].max()), np.float32)
        for window, start in zip(windows, ends, strict=False):
            stacked[start : start + len(window), : window.shape[1]] = window
        across, outside_across = self._weights(indices, axes[0], 0, ends)
        down, outside_down = self._weights(indices, axes[1], 1, np.arange(count + 1) * stacked.shape[1])
        finite = np.isfinite(stacked)
        resampled = _twice(across, down, stacked if finite.all() else np.where(finite, stacked, np.float32(0)), count)
        if not finite.all():
            share = _twice(across, down, finite.astype(np.float32), count)
            resampled = np.where(share >= _LEAST_WEIGHT, resampled / np.maximum(share, 1e-3), np.float32(np.nan))
        if outside_across.any() or outside_down.any():
            resampled[outside_down[:, :, None] | outside_across[:, None, :]] = np.nan
        return resampled

    def _weights(
        self, indices: npt.NDArray[np.intp], axis: int, side: int, starts: npt.NDArray[np.int64]
    ) -> tuple[csr_array, npt.NDArray[np.bool_]]:
        """Weights of the tile's pixels along one axis, for columns (`side` 0) or rows (1) of some cutouts.

        Args:
            indices: ``(n,)`` of the objects.
            axis: of the tile.
            side: of the cutouts.
            starts: ``(n + 1,)`` where their windows start, and where the last one ends, one after the other.

        Returns a matrix ``(n * size_px, pixels of all windows)``, and ``(n, size_px)``: whether a pixel is outside.
        """
        size, count = self.size_px, len(indices)
        step = self.maps[indices, axis, side]
        width = np.maximum(np.abs(step), 1.0)[:, None]  # of the tile that is averaged; 1 is linear interpolation
        centre = self.centres[indices, axis][:, None] + step[:, None] * (np.arange(size) - (size - 1) / 2)
        first = np.floor(centre - width / 2 + 0.5)
        taps = first[:, :, None] + np.arange(int(np.ceil(width.max())) + 1)
        low = np.maximum(taps - 0.5, (centre - width / 2)[:, :, None])
        high = np.minimum(taps + 0.5, (centre + width / 2)[:, :, None])
        limit = self.tile.shape[1 - axis]
        weights = np.clip(high - low, 0, None) * ((taps >= 0) & (taps < limit)) / width[:, :, None]
        total = weights.sum(2)
        outside = total < _LEAST_WEIGHT - 1e-6
        weights /= np.where(outside, np.inf, total)[:, :, None]
        window = self.boxes[indices][:, (2, 3) if axis == 0 else (0, 1)][:, :, None, None]
        columns = np.clip(taps, window[:, 0], window[:, 1] - 1) - window[:, 0] + starts[:-1, None, None]
        rows = np.arange(count * size + 1, dtype=np.int32) * np.int32(columns.shape[2])
        parts = (weights.ravel().astype(np.float32), columns.ravel().astype(np.int32), rows)
        return csr_array(parts, shape=(count * size, int(starts[-1]))), outside

    def _resample_rotated(self, index: np.intp) -> Cutouts:
        """Surface brightness of one object, by linear interpolation at about as many points as the tile has pixels."""
        y0, y1, x0, x1 = self.boxes[index].tolist()
        window = self.tile.read(y0, y1, x0, x1)
        finite = np.isfinite(window)
        scale = float(np.sqrt(self.area_ratio[index]))
        reduced = max(1, int(scale / _FINEST))
        corner = self.centres[index] + 0.5 - np.array([x0, y0])  # of the object, from the corner of the window
        matrix, corner = self.maps[index] / reduced, corner / reduced
        points = max(1, math.ceil(scale / reduced - 0.25))

        def resampled(values: Cutouts) -> Cutouts:
            image = Image.fromarray(values)
            if reduced > 1:
                image = image.reduce(reduced)
            fine = matrix / points
            start = corner - fine @ np.full(2, self.size_px * points / 2)
            data = (*fine[0], start[0], *fine[1], start[1])
            image = image.transform(
                (self.size_px * points,) * 2, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR
            )
            return np.asarray(image.reduce(points) if points > 1 else image)

        values = resampled(window if finite.all() else np.where(finite, window, np.float32(0)))
        share = resampled(finite.astype(np.float32))
        return np.where(share >= _LEAST_WEIGHT, values / np.maximum(share, 1e-3), np.float32(np.nan))


def _twice(across: csr_array, down: csr_array, stacked: Cutouts, count: int) -> Cutouts:
    """Resample windows along their first axis, then along the other: ``(n, size, size)``, rows first."""
    columns = (across @ stacked).reshape(count, -1, stacked.shape[1])
    turned = np.ascontiguousarray(columns.transpose(0, 2, 1)).reshape(-1, columns.shape[1])
    result: Cutouts = (down @ turned).reshape(count, columns.shape[1], columns.shape[1])
    return result


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


def _boxes(centres: Floats, maps: Floats, size_px: int, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    half = np.abs(maps).sum(2) * size_px / 2 + 2  # of the bounding box, along x and along y; 2 for the interpolation
    limits = np.array([shape[1], shape[0]])
    low = np.clip(np.floor(centres - half), 0, limits).astype(np.int64)
    high = np.clip(np.ceil(centres + half) + 1, 0, limits).astype(np.int64)
    return np.stack([low[:, 1], high[:, 1], low[:, 0], high[:, 0]], axis=1)


def _is_dense(boxes: npt.NDArray[np.int64], tile: TileImage) -> bool:
    """Whether reading the boxes one by one would read about as much as all rows from the first box to the last."""
    boxes = boxes[(boxes[:, 1] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 2])]
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
