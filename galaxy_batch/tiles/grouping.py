"""A manifest of positions, with its rows grouped by tile, so that the tiles of a chunk are opened once."""

import hashlib
import json
import logging
from dataclasses import asdict, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.config import ManifestConfig, TilesConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.columns import check_kept_names, kept_columns
from galaxy_batch.inputs.image_uris import published_locations
from galaxy_batch.inputs.manifest import Chunk, Manifest, divide_rows, open_manifest, read_chunk, rows_stream
from galaxy_batch.rows import CHUNK, EMPTY_FRACTION, IMAGE_URI, IMAGE_URI_COLUMN, column_metadata
from galaxy_batch.tiles.tile_table import TileTable, open_tile_table

__all__ = ["group_by_tile", "open_by_tile", "with_tiles"]

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 128 << 20  # of encoded cutouts; Ray divides a block above 192 MB, and a chunk must be one block
_BLOCK_ROWS = 1 << 20  # that are read, and whose tiles are looked up, at a time
_NOT_OF_VALUES = ("table", "band_templates", "max_tile_bytes")  # settings that change no value, or by the URIs only
_BETWEEN = "\0"  # the URIs of the three bands
_URIS = pa.list_(pa.string())


def open_by_tile(config: ManifestConfig, chunk_rows: int, memory_uri: str | None) -> Manifest:
    """Open and check a manifest, with its rows grouped by tile where there are tiles; see the two functions.

    Raises:
        InputError: as `open_manifest` and `group_by_tile`.
    """
    manifest = open_manifest(config, chunk_rows if config.tiles is None else _BLOCK_ROWS)
    return group_by_tile(manifest, config, chunk_rows, memory_uri)


def group_by_tile(manifest: Manifest, config: ManifestConfig, chunk_rows: int, memory_uri: str | None) -> Manifest:
    """The manifest with its rows sorted by tile and divided into chunks again; as it is without tiles in the config.

    The rows are in memory, with about 250 bytes each, and stored in the chunks with 50. A chunk holds whole tiles where
    they fit, at most `chunk_rows` rows, and at most 128 MiB of encoded cutouts.

    Args:
        manifest: opened and checked.
        config: of the manifest.
        chunk_rows: most rows of a chunk.
        memory_uri: folder where the headers of tiles are remembered; None remembers nothing.

    Raises:
        InputError: the tiles cannot be used, a kept column has the name of one that tiles add, or no object lies in a
            tile.
    """
    tiles = config.tiles
    if tiles is None:
        return manifest
    check_kept_names(kept_columns(config), [EMPTY_FRACTION.name])
    try:
        table = open_tile_table(config, memory_uri)
    except OSError as error:
        remedy = f"cannot be read, or their headers remembered: {error}"
        raise InputError("manifest.tiles.band_templates", tiles.band_templates, remedy) from None
    rows = pa.concat_tables([read_chunk(chunk.as_table(), config) for chunk in manifest.chunks]).drop_columns([CHUNK])
    rows, uris, owners = _placed(rows, table)
    _log(owners, table, tiles)
    last = np.where(owners < 0, len(uris), owners)  # rows outside every tile come last
    order = np.argsort(last, kind="stable")
    rows, owners = rows.combine_chunks().take(pa.array(order)), owners[order]
    limit = max(1, min(chunk_rows, _CHUNK_BYTES // tiles.cutout_bytes))
    chunks: list[Chunk] = []
    for start, count in divide_rows(np.unique(last, return_counts=True)[1].tolist(), limit):
        owner = owners[start : start + count]
        some = _with_uris(rows.slice(start, count), uris.take(pa.array(owner, mask=owner < 0)))
        chunks.append(Chunk(len(chunks), count, config.uri, inline=rows_stream(some, "zstd")))
    field = pa.field(EMPTY_FRACTION.name, EMPTY_FRACTION.type, metadata=column_metadata(EMPTY_FRACTION))
    content_id = _content_id(manifest, tiles, table)
    return replace(manifest, chunks=tuple(chunks), content_id=content_id, kept=(*manifest.kept, field))


def with_tiles(rows: pa.Table, config: ManifestConfig, memory_uri: str | None) -> pa.Table:
    """Some rows of a manifest with the URIs of their tiles, for `cut_from_tiles`; as they are without tiles.

    Args:
        rows: as `find_objects` reads them.
        config: of the manifest.
        memory_uri: as in `group_by_tile`.
    """
    if config.tiles is None or not config.tiles.are_listed:
        return rows
    rows, uris, owners = _placed(rows, open_tile_table(config, memory_uri))
    return _with_uris(rows, uris.take(pa.array(owners, mask=owners < 0)))


def _placed(rows: pa.Table, table: TileTable | None) -> tuple[pa.Table, pa.Array, npt.NDArray[np.int64]]:
    """The rows without URIs, the URIs of each tile, and the number of each row's tile, -1 outside all."""
    if table is None:
        names = rows[IMAGE_URI].combine_chunks()
        joined = pc.binary_join(names, _BETWEEN)  # null where one of them is
        codes = joined.dictionary_encode()
        order = np.argsort(codes.dictionary.to_numpy(zero_copy_only=False).astype(str), kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        numbers = pc.fill_null(codes.indices, -1).to_numpy(zero_copy_only=False)
        owners = np.where(numbers < 0, -1, rank[numbers]) if len(rank) else np.full(len(rows), -1, np.int64)
        uris = pc.split_pattern(codes.dictionary.take(pa.array(order)), _BETWEEN).cast(_URIS)
        return rows.drop_columns([IMAGE_URI]), uris, owners
    ra, dec = (rows[name].to_numpy() for name in ("ra", "dec"))
    blocks = [table.owners(ra[s : s + _BLOCK_ROWS], dec[s : s + _BLOCK_ROWS]) for s in range(0, len(ra), _BLOCK_ROWS)]
    uris = pa.array([list(tile.uris) for tile in table.files], _URIS)
    return rows, uris, np.concatenate(blocks) if blocks else np.empty(0, np.int64)


def _with_uris(rows: pa.Table, uris: pa.Array) -> pa.Table:
    """The rows with the files of their tiles."""
    if IMAGE_URI_COLUMN.name in rows.column_names:
        locations = pc.if_else(uris.is_null(), None, published_locations(uris, len(rows)))
        place = rows.column_names.index(IMAGE_URI_COLUMN.name)
        rows = rows.set_column(place, IMAGE_URI_COLUMN.name, locations)
    return rows.append_column(IMAGE_URI, uris)


def _log(owners: npt.NDArray[np.int64], table: TileTable | None, tiles: TilesConfig) -> None:
    """Log how many objects are in tiles.

    Raises:
        InputError: none.
    """
    outside, used = int((owners < 0).sum()), len(np.unique(owners[owners >= 0]))
    if table is not None and outside == len(owners):
        remedy = f"no object lies in one of the {len(table.files)} tiles: are these the tiles of this survey?"
        raise InputError("manifest.tiles.band_templates", tiles.band_templates, remedy)
    logger.info("%s objects in %s tiles", f"{len(owners) - outside:,}", f"{used:,}")
    if outside:
        logger.warning("%s of %s objects are in no tile", f"{outside:,}", f"{len(owners):,}")


def _content_id(manifest: Manifest, tiles: TilesConfig, table: TileTable | None) -> str:
    settings = {name: value for name, value in asdict(tiles).items() if name not in _NOT_OF_VALUES}
    made_from = [manifest.content_id, None if table is None else table.content_id, settings]
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
