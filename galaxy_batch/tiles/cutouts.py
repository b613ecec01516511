"""The stage that cuts the cutouts of a chunk from the tiles of the survey, in place of fetching them."""

import contextlib
import posixpath
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from galaxy_batch.config import ManifestConfig, TilesConfig
from galaxy_batch.cutouts.bands import BANDS
from galaxy_batch.cutouts.fetch import NO_IMAGE, fetch_cutouts
from galaxy_batch.errors import without_secrets
from galaxy_batch.rows import EMPTY_FRACTION, IMAGE_BYTES, IMAGE_URI, NO_URI, SIDE_ARCSEC, Status, UnusableCutout
from galaxy_batch.tiles.cubes import Cubes
from galaxy_batch.tiles.cut import Cut, cut_bands
from galaxy_batch.tiles.tile_image import TileImage, open_tile

__all__ = ["NO_TILE_FILE", "cut_from_tiles", "read_cutouts"]

Rows = npt.NDArray[np.int64]

NO_TILE_FILE = "no such file"
"""End of the error of a `missing` row whose tile may exist later; other rows are missing for good."""
_AT_A_TIME = 2  # tiles: one is read while another one is cut
_BATCH = 32  # cutouts of three bands as floats in memory at a time, of each tile


def read_cutouts(rows: pa.Table, config: ManifestConfig, max_bytes: int, requests_per_host: int) -> pa.Table:
    """The cutouts of a chunk: fetched from where the manifest says, or cut from tiles; see the two functions.

    Args:
        rows: a chunk of the manifest, grouped by tile where there are tiles.
        config: of the manifest.
        max_bytes: largest encoded cutout.
        requests_per_host: largest number of simultaneous requests to one http(s) host.
    """
    if config.tiles is None:
        return fetch_cutouts(rows, max_bytes, requests_per_host)
    return cut_from_tiles(rows, config.tiles, requests_per_host)


def cut_from_tiles(rows: pa.Table, tiles: TilesConfig, requests_per_host: int = _AT_A_TIME) -> pa.Table:
    """Cut every cutout of a chunk from the three files of its tile; every row is kept.

    Each tile is opened once, and the next one is read meanwhile. What is wrong with a tile costs its own objects only.

    Args:
        rows: a chunk whose rows are grouped by tile.
        tiles: how cutouts are cut.
        requests_per_host: most tiles at a time, so that http(s) hosts get at most as many simultaneous requests.

    Reads `_image_uri`, `_side_arcsec`, `ra`, `dec`.
    Adds `_image_bytes` (a FITS cube of the three bands), `status`, `error`, `image_hash`, `empty_fraction`.
    Drops `_image_uri`, `_side_arcsec`.
    """
    chunk = _Chunk(rows, tiles)
    with ThreadPoolExecutor(min(_AT_A_TIME, requests_per_host)) as pool:
        for _ in pool.map(chunk.cut_tile, *zip(*_tiles_of(rows, chunk), strict=True)):
            pass
    usable = np.array([status == Status.OK for status in chunk.statuses], bool)
    added = {
        "image_hash": pa.array(chunk.hashes, pa.int64()),
        "status": pa.array([str(status) for status in chunk.statuses], pa.string()),
        "error": pa.array(chunk.errors, pa.string()),
        EMPTY_FRACTION.name: pa.array(chunk.empty, mask=np.isnan(chunk.empty)),
        IMAGE_BYTES: chunk.cubes.column(usable),
    }
    rows = rows.drop_columns([IMAGE_URI, SIDE_ARCSEC])
    for name, column in added.items():
        rows = rows.append_column(name, column)
    return rows


class _Chunk:
    """The cutouts of a chunk while they are cut: what is known of each row."""

    def __init__(self, rows: pa.Table, tiles: TilesConfig) -> None:
        self.tiles = tiles
        self.ra, self.dec, self.side = (rows[name].to_numpy() for name in ("ra", "dec", SIDE_ARCSEC))
        self.cubes = Cubes(len(rows), tiles.size_px)
        self.statuses = [Status.OK] * len(rows)
        self.errors: list[str | None] = [None] * len(rows)
        self.hashes: list[int | None] = [None] * len(rows)
        self.empty = np.full(len(rows), np.nan, np.float32)

    def fail(self, rows: Rows, status: Status, reason: str) -> None:
        """Rows without a cutout."""
        for row in rows.tolist():
            self.statuses[row], self.errors[row] = status, reason

    def cut_tile(self, uris: tuple[str | None, ...], rows: Rows) -> None:
        """Cut all rows of one tile; the first band that fails gives the status."""
        tile = _shown(next(filter(None, uris)))
        files = [_shown(uri) if uri else f"the tile of {tile}" for uri in uris]
        names = [f"{band} band of {file}" for band, file in zip(BANDS, files, strict=True)]
        with contextlib.ExitStack() as stack:
            bands = []
            for name, uri in zip(names, uris, strict=True):
                try:
                    bands.append(stack.enter_context(_opened(uri, self.tiles.max_tile_bytes)))
                except UnusableCutout as bad:
                    self.fail(rows, bad.status, f"{name}: {bad.reason}")
                    return
            self._cut_opened(bands, names, rows)

    def _cut_opened(self, bands: list[TileImage], names: list[str], rows: Rows) -> None:
        left = np.ones(len(rows), bool)
        try:
            for some, cuts in self._cuts(bands, rows):
                self._keep(rows[some], cuts, names[0])
                left[some] = False
        except UnusableCutout as bad:
            if bad.status == Status.UNREACHABLE:  # for each of the others, one would wait again
                self.fail(rows[left], bad.status, f"{names[0]}, or another band: {bad.reason}")
                return
            for row in rows[left]:  # part of a tile may be good
                self._cut_alone(bands, names, np.array([row]))

    def _cut_alone(self, bands: list[TileImage], names: list[str], row: Rows) -> None:
        """Cut one row of a tile that is damaged somewhere, band by band."""
        cuts = []
        for band, name in zip(bands, names, strict=True):
            try:
                cuts += [cut for _, (cut,) in self._cuts([band], row)]
            except UnusableCutout as bad:
                self.fail(row, bad.status, f"{name}: {bad.reason}")
                return
        self._keep(row, cuts, names[0])

    def _cuts(self, bands: list[TileImage], rows: Rows) -> Iterator[tuple[Rows, list[Cut]]]:
        """`cut_bands` of some rows; whatever goes wrong is an `UnusableCutout`."""
        places = self.ra[rows], self.dec[rows], self.side[rows]
        try:
            yield from cut_bands(bands, *places, self.tiles.size_px, self.tiles.north_up, batch=_BATCH)
        except UnusableCutout:
            raise
        except Exception as error:  # noqa: BLE001 - a hostile header may do anything to the WCS; only this tile fails
            raise UnusableCutout(Status.UNREADABLE, f"{type(error).__name__}: {error}") from None

    def _keep(self, rows: Rows, cuts: list[Cut], name: str) -> None:
        """Store the cutouts of some rows.

        Their values are surface brightness, which does not depend on the scale of the cutout: that of a pixel of the
        tile's red band.
        """
        empty = np.array([cut.empty_fraction for cut in cuts])
        outside = empty.min(axis=0) >= 1
        self.fail(rows[outside], Status.MISSING, f"outside its tile, or where that has no data: {name}")
        self.empty[rows] = empty.max(axis=0)
        for band, cut in enumerate(cuts):
            pixels = cut.pixels / cuts[0].area_ratio.astype(np.float32)[:, None, None]
            self.cubes.set_band(rows, band, pixels)
        inside = rows[~outside]
        for row, value in zip(inside.tolist(), self.cubes.hashes(inside), strict=True):
            self.hashes[row] = value


@contextlib.contextmanager
def _opened(uri: str | None, max_bytes: int) -> Iterator[TileImage]:
    if uri is None:
        raise UnusableCutout(Status.MISSING, "there is no file of this band among those that are listed")
    with open_tile(uri, max_bytes) as tile:
        yield tile


def _tiles_of(rows: pa.Table, chunk: _Chunk) -> Iterator[tuple[tuple[str | None, ...], Rows]]:
    """The files of each tile, and its rows that can be cut; the others get their status here."""
    by_tile: dict[tuple[str | None, ...], list[int]] = {}
    nowhere, unsized, unnamed, refused = (list[int]() for _ in range(4))
    for row, uris in enumerate(rows[IMAGE_URI].to_pylist()):
        if np.isnan(chunk.ra[row]):
            nowhere.append(row)
        elif uris is None or not any(uris):
            (unnamed if uris is not None and NO_URI in uris else refused).append(row)
        elif np.isnan(chunk.side[row]):
            unsized.append(row)
        else:
            by_tile.setdefault(tuple(uris), []).append(row)
    outside = (Status.MISSING, "outside every tile")
    unsafe = (Status.REFUSED, "no URI, or one that contains '..' or control characters")
    for failed, status, reason in (
        (nowhere, Status.MISSING, "no position at which a cutout could be cut"),
        (unsized, Status.MISSING, f"no size: {chunk.tiles.size_column} has no number above 0"),
        (unnamed, Status.MISSING, NO_IMAGE),
        (refused, *(outside if chunk.tiles.are_listed else unsafe)),
    ):
        chunk.fail(np.array(failed, np.int64), status, reason)
    for uris, members in by_tile.items():
        yield uris, np.array(members, np.int64)


def _shown(uri: Any) -> str:
    return posixpath.basename(without_secrets(str(uri)).rstrip("/"))
