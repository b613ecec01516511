"""The tiles of a survey: their files, and where each is on the sky.

A table of tiles says so itself, or the header of each tile does. Headers are read once: what they say is remembered in
Parquet files of a few hundred tiles each, named by what they were read from, so that a run that is resumed, and the
next run, read only those of new tiles.
"""

import dataclasses
import hashlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from galaxy_batch.config import ManifestConfig, TilesConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.columns import check_columns, wanted_columns
from galaxy_batch.inputs.files import is_parquet, manifest_files, manifest_folder
from galaxy_batch.inputs.image_uris import image_uris, template_columns
from galaxy_batch.inputs.parquet import open_parquet_table
from galaxy_batch.inputs.positions import degrees
from galaxy_batch.inputs.tables import read_table
from galaxy_batch.rows import Status, UnusableCutout
from galaxy_batch.sky.healpix import pixels_at
from galaxy_batch.storage.files import join, parquet_bytes, read_bytes, without_secrets, write_atomically
from galaxy_batch.storage.threads import map_in_threads
from galaxy_batch.tiles.footprint import Footprint, Footprints, rectangle, wcs_footprint
from galaxy_batch.tiles.listing import TileFiles, list_tiles
from galaxy_batch.tiles.tile_image import read_header

__all__ = ["TileTable", "open_tile_table"]

logger = logging.getLogger(__name__)

_REMEMBERED = 512  # tiles whose headers are remembered in one file
_ORDER = 10  # of the HEALPix pixels by which tiles are sorted, so that neighbours are in one chunk
_SHOWN = 5
_FIELDS = [field.name for field in dataclasses.fields(Footprint)]


@dataclass(frozen=True)
class TileTable:
    """The tiles of a survey whose position on the sky is known, sorted along the sky."""

    files: tuple[TileFiles, ...]
    footprints: Footprints
    content_id: str
    """Hash of the files and footprints: another one where a tile is added or changed."""
    unknown: tuple[str, ...] = ()
    """Tiles of which no header can be used, and why: their objects are outside every tile."""

    def owners(self, ra_deg: npt.NDArray[np.float64], dec_deg: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """The tile of each position, see `Footprints.owners`; tiles with all three bands are preferred."""
        complete = np.array([None not in tile.uris for tile in self.files], bool)
        return self.footprints.owners(ra_deg, dec_deg, complete)


def open_tile_table(config: ManifestConfig, memory_uri: str | None) -> TileTable | None:
    """List the tiles of a survey; None where the manifest's rows name their tiles.

    Args:
        config: with tiles.
        memory_uri: folder where headers are remembered; None remembers nothing.

    Raises:
        InputError: there are no tiles, the table cannot be used, or a store does not respond.
    """
    tiles = config.tiles
    if tiles is None or not tiles.are_listed:
        return None
    if tiles.table is None:
        files, footprints = list_tiles(tiles.band_templates, manifest_folder(config.uri)), None
    else:
        files, footprints = _from_table(tiles, tiles.table)
    described = footprints if footprints is not None else _from_headers(files, memory_uri, config.names_http)
    unknown = [
        f"{without_secrets(next(filter(None, tile.uris), ''))}: {reason}"
        for tile, reason in zip(files, described, strict=True)
        if isinstance(reason, str)
    ]
    if unknown:
        shown = "; ".join(unknown[:_SHOWN])
        logger.warning("%d tiles are not used, because their headers cannot be: %s", len(unknown), shown)
    known = [(tile, place) for tile, place in zip(files, described, strict=True) if isinstance(place, Footprint)]
    if not known:
        more = f": {unknown[0]}" if unknown else ""
        raise InputError("manifest.tiles.band_templates", tiles.band_templates, f"there are no usable tiles{more}")
    pixels = pixels_at(np.array([p.ra_deg for _, p in known]), np.array([p.dec_deg for _, p in known]), _ORDER)
    order = np.argsort(pixels, kind="stable")
    chosen = [known[number] for number in order]
    content = hashlib.sha256(repr([(tile, place) for tile, place in chosen]).encode()).hexdigest()[:16]
    return TileTable(
        tuple(tile for tile, _ in chosen), Footprints([place for _, place in chosen]), content, tuple(unknown)
    )


def _from_table(tiles: TilesConfig, uri: str) -> tuple[list[TileFiles], list[Footprint] | None]:
    """The files of the tiles of a table, and their footprints where it has positions."""
    about = ManifestConfig(uri, "", tiles.ra_column, tiles.dec_column, band_templates=tiles.band_templates)
    try:
        about = dataclasses.replace(about, id_column=template_columns(about)[0])
        files = manifest_files(uri)
        table = pa.concat_tables([_read(file, about) for file in files])
        uris = image_uris(table, about, manifest_folder(uri)).to_pylist()
        ra, dec = degrees(table, about)
    except InputError as error:
        field = error.field.removeprefix("manifest.")
        field = {"uri": "table", "id_column": "band_templates"}.get(field, field)
        raise InputError(f"manifest.tiles.{field}", error.value, error.remedy) from None
    except pa.ArrowInvalid as error:
        raise InputError("manifest.tiles.table", uri, f"its files have columns of different types: {error}") from None
    listed = [TileFiles(tuple(bands), "") for bands in uris]
    unsafe = sum(None in tile.uris for tile in listed)
    if unsafe:
        remedy = f"{unsafe} rows have no value for a column of band_templates, or one with '..' or control characters"
        raise InputError("manifest.tiles.table", uri, remedy)
    if len(set(listed)) < len(listed):
        remedy = "several rows of the table give the same files: name all columns that tell tiles apart"
        raise InputError("manifest.tiles.band_templates", tiles.band_templates, remedy)
    if tiles.ra_column is None or tiles.width_deg is None or tiles.height_deg is None:
        return listed, None
    usable = np.isfinite(ra) & (np.abs(dec) <= 90)
    if not usable.all():
        remedy = f"{(~usable).sum()} tiles have no position (the first is row {int(np.argmin(usable)) + 1})"
        raise InputError("manifest.tiles.ra_column", tiles.ra_column, remedy)
    size = tiles.width_deg, tiles.height_deg
    return listed, [rectangle(a % 360, d, *size) for a, d in zip(ra.tolist(), dec.tolist(), strict=True)]


def _read(uri: str, about: ManifestConfig) -> pa.Table:
    if not is_parquet(uri):
        return read_table(uri, about)
    with open_parquet_table(uri) as parquet:
        check_columns(parquet.schema.names, about, uri)
        return parquet.read(range(len(parquet.group_rows)), wanted_columns(about))


def _from_headers(files: Sequence[TileFiles], memory_uri: str | None, over_http: bool) -> list[Footprint | str]:
    """The footprint of each tile, or why it has none; of an http(s) host, one request at a time."""
    footprints: list[Footprint | str] = []
    for start in range(0, len(files), _REMEMBERED):
        some = files[start : start + _REMEMBERED]
        mark = hashlib.sha256(repr(some).encode()).hexdigest()[:16]
        place = None if memory_uri is None else join(memory_uri, f"headers-{mark}.parquet")
        remembered = None if place is None else _recall(place)
        if remembered is None:
            remembered = list(map(_described, some)) if over_http else map_in_threads(_described, some)
            if place is not None:
                write_atomically(place, _as_parquet(remembered))
            logger.info("headers of %s of %s tiles are read", f"{start + len(some):,}", f"{len(files):,}")
        footprints += remembered
    return footprints


def _described(tile: TileFiles) -> Footprint | str:
    """The footprint of a tile by the first of its bands whose header can be used, else what is wrong with the last.

    Raises:
        InputError: the store does not respond: without this tile, the others would be divided differently.
    """
    reason = "no file"
    for uri in filter(None, tile.uris):
        try:
            header = read_header(uri)
            return wcs_footprint(header.wcs, header.shape)
        except UnusableCutout as bad:
            if bad.status == Status.UNREACHABLE:
                remedy = f"the header cannot be read: {bad.reason}; run again when the store responds"
                raise InputError("manifest.tiles.band_templates", uri, remedy) from None
            reason = f"{bad.status}: {bad.reason}"
    return reason


def _as_parquet(footprints: Sequence[Footprint | str]) -> bytes:
    rows = [{"reason": f} if isinstance(f, str) else {**dataclasses.asdict(f), "reason": None} for f in footprints]
    kinds = {name: pa.list_(pa.float64()) if name == "matrix" else pa.float64() for name in _FIELDS}
    return parquet_bytes(pa.Table.from_pylist(rows, schema=pa.schema({**kinds, "reason": pa.string()})))


def _recall(uri: str) -> list[Footprint | str] | None:
    """What was remembered; None where nothing was."""
    try:
        content = read_bytes(uri)
    except (FileNotFoundError, NotADirectoryError):
        return None
    rows = pq.read_table(io.BytesIO(content)).to_pylist()
    return [
        row["reason"] or Footprint(**{**{name: row[name] for name in _FIELDS}, "matrix": tuple(row["matrix"])})
        for row in rows
    ]
