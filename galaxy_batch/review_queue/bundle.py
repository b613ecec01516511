"""The pictures of a queue: cutouts fetched from the survey again, as files that browsers show as the model saw them.

JPEG and PNG files are copied, without their metadata: an EXIF orientation or a colour profile would change what a
browser shows, and the model ignores both. Other formats, what browsers would show differently (CMYK, transparency), and
pictures above a size become JPEG. FITS and multi-band cutouts are drawn as in training and inference.
"""

import itertools
import logging
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import simplejpeg
from PIL import Image

from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.config import ClassifyConfig, ManifestConfig, RuntimeConfig
from galaxy_batch.cutouts.decode import Pixels, decode
from galaxy_batch.errors import GalaxyBatchError
from galaxy_batch.inputs.manifest import find_object_batches
from galaxy_batch.report.cutouts import remembered_tiles
from galaxy_batch.review_queue.config import ReviewQueueConfig
from galaxy_batch.rows import IMAGE_BYTES, Status, UnusableCutout
from galaxy_batch.runtime.progress import with_progress
from galaxy_batch.settings import parse_config
from galaxy_batch.storage.files import join, list_names, write_atomically
from galaxy_batch.storage.threads import map_in_threads
from galaxy_batch.tiles.cutouts import read_cutouts
from galaxy_batch.tiles.grouping import with_tiles

__all__ = ["CHANGED", "PICTURES", "add_pictures", "encode_picture", "picture_within"]

logger = logging.getLogger(__name__)

CHANGED = "the cutout has changed since the catalog was made"
"""`picture_error` of a galaxy that has a picture."""

PICTURES = "pictures"
"""Folder below the queue's."""

_FOLDER_ROWS = 1000
_FETCHED_ROWS = 64  # at a time
_QUALITY, _LOW_QUALITY = 92, 80
_JPEG_START, _PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_SCAN, _ADOBE = 0xDA, 0xEE  # markers of a JPEG
_METADATA = range(0xE1, 0xF0)
_GREY, _RGB, _PALETTE = 0, 2, 3  # colour types of PNG
_NAME = re.compile(r"(\d+)(-changed)?\.(jpg|png)")


class _UnreadableManifestError(Exception):
    """No further cutout can be fetched."""


@dataclass(frozen=True)
class _Picture:
    """The picture of one row, or why there is none."""

    path: str | None
    error: str | None


def add_pictures(rows: pa.Table, folder_uri: str, config: ReviewQueueConfig, manifest: CatalogManifest) -> pa.Table:
    """Fetch and write the pictures that are not in the folder yet; a cutout that cannot be had is an error of its row.

    Args:
        rows: of the queue, as `queue_schema`.
        folder_uri: of the queue.
        config: the size of pictures, and where the cutouts are.
        manifest: of the catalog.

    Reads `position`, `object_id`, `image_hash`. Replaces `picture`, `picture_error`.
    """
    pictures = _present(folder_uri, len(rows))
    positions = rows["position"].to_pylist()
    wanted = rows.filter(pa.array([position not in pictures for position in positions], pa.bool_()))
    if len(wanted):
        pictures |= _new_pictures(wanted, folder_uri, config, manifest)
    gone = _Picture(None, "no longer in the manifest")
    complete = [pictures.get(position, gone) for position in positions]
    for name, values in (("picture", [p.path for p in complete]), ("picture_error", [p.error for p in complete])):
        place = rows.column_names.index(name)
        rows = rows.set_column(place, rows.schema.field(name), pa.array(values, pa.string()))
    return rows


def encode_picture(content: bytes, limits: ClassifyConfig, side_px: int) -> tuple[bytes, str]:
    """An encoded cutout as a file that browsers show as the model sees it before resizing, and its ending.

    Args:
        content: as stored by the survey.
        limits: largest image, and how FITS bands are drawn.
        side_px: longest side; larger cutouts are scaled down.

    Raises:
        UnusableCutout: it cannot be decoded.
    """
    pixels = decode(content, limits.max_image_pixels, limits.rgb)
    if max(pixels.shape[1:]) <= side_px:
        for ending, plain in (("jpg", _plain_jpeg(content)), ("png", _plain_png(content))):
            if plain is not None and _shows(plain, pixels, limits):
                return plain, ending
    return _jpeg(_scaled(pixels, side_px)), "jpg"


def picture_within(content: bytes, max_bytes: int) -> bytes:
    """A picture of at most this many bytes: the same where it is small enough, else a JPEG, scaled down if need be.

    Args:
        content: as `encode_picture` makes it.
        max_bytes: at least a few thousand.

    Raises:
        UnusableCutout: it cannot be decoded.
    """
    if len(content) <= max_bytes:
        return content
    pixels = decode(content, ClassifyConfig().max_image_pixels)
    side_px = max(pixels.shape[1:])
    for quality in (_QUALITY, _LOW_QUALITY):
        content = _jpeg(pixels, quality)
        if len(content) <= max_bytes:
            return content
    while len(content) > max_bytes and side_px > 1:
        side_px = max(1, int(side_px * 0.8))
        content = _jpeg(_scaled(pixels, side_px), _LOW_QUALITY)
    return content


def _new_pictures(
    rows: pa.Table, folder_uri: str, config: ReviewQueueConfig, manifest: CatalogManifest
) -> dict[int, _Picture]:
    """Pictures of rows, by position; without those that the survey's manifest does not have."""
    by_id = {
        object_id: (position, image_hash)
        for object_id, position, image_hash in zip(
            *(rows[name].to_pylist() for name in ("object_id", "position", "image_hash")), strict=True
        )
    }
    limits = parse_config(ClassifyConfig, manifest.config.get("classify", {}))

    def write(fetched: dict[str, Any]) -> tuple[int, _Picture]:
        position, image_hash = by_id[fetched["object_id"]]
        if fetched["status"] != Status.OK:
            return position, _Picture(None, f"{fetched['status']}: {fetched['error']}")
        try:
            content, ending = encode_picture(fetched[IMAGE_BYTES], limits, config.picture_px)
        except UnusableCutout as bad:
            return position, _Picture(None, f"{bad.status}: {bad}")
        changed = fetched["image_hash"] != image_hash
        path = f"{_folder(position)}/{position:05d}{'-changed' if changed else ''}.{ending}"
        write_atomically(join(folder_uri, path), content)
        return position, _Picture(path, CHANGED if changed else None)

    pictures: dict[int, _Picture] = {}
    try:
        batches = _objects(config.manifest, manifest, rows["object_id"])
        for source, batch in with_progress(batches, "fetching cutouts", len(rows), lambda each: len(each[1])):
            fetched = read_cutouts(batch, source, limits.max_image_bytes, RuntimeConfig().requests_per_host)
            names = ["object_id", "status", "error", "image_hash", IMAGE_BYTES]
            pictures |= dict(map_in_threads(write, fetched.select(names).to_pylist()))
    except _UnreadableManifestError as error:
        logger.warning("%s; give its location in [manifest] and run the same command again", error)
        rest = set(rows["position"].to_pylist()) - pictures.keys()
        pictures |= dict.fromkeys(rest, _Picture(None, str(error)))
    return pictures


def _objects(
    source: ManifestConfig | None, manifest: CatalogManifest, ids: pa.ChunkedArray
) -> Iterator[tuple[ManifestConfig, pa.Table]]:
    """The rows of the survey's manifest with these ids, a few at a time, and the config of that manifest."""
    try:
        source = source or parse_config(ManifestConfig, manifest.config["manifest"])
        tables = find_object_batches(source, ids.combine_chunks())
        if source.tiles is not None:
            tables = iter([with_tiles(pa.concat_tables(tables), source, remembered_tiles(manifest))])
        for table in _of_size(tables):
            yield source, table
    except (GalaxyBatchError, OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        reason = str(error) if isinstance(error, GalaxyBatchError) else type(error).__name__
        raise _UnreadableManifestError(f"the survey's manifest cannot be read: {reason}") from None


def _present(folder_uri: str, count: int) -> dict[int, _Picture]:
    """The pictures that an earlier run has written, by position."""
    folders = list(dict.fromkeys(_folder(position) for position in range(1, count + 1)))
    pictures = {}
    for folder, names in zip(
        folders, map_in_threads(lambda name: list_names(join(folder_uri, name)), folders), strict=True
    ):
        for match in filter(None, map(_NAME.fullmatch, names)):
            pictures[int(match[1])] = _Picture(f"{folder}/{match[0]}", CHANGED if match[2] else None)
    return pictures


def _folder(position: int) -> str:
    return f"{PICTURES}/{position // _FOLDER_ROWS:03d}"


def _of_size(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of tables in tables of at most `_FETCHED_ROWS`, filled up from the next one."""
    held: list[pa.Table] = []
    for table in itertools.chain(tables, [None]):
        if table is not None and len(table):
            held.append(table)
        while held and (table is None or sum(map(len, held)) >= _FETCHED_ROWS):
            rows = pa.concat_tables(held)
            yield rows.slice(0, _FETCHED_ROWS)
            held = [rows.slice(_FETCHED_ROWS)] if len(rows) > _FETCHED_ROWS else []


def _shows(plain: bytes, pixels: Pixels, limits: ClassifyConfig) -> bool:
    """Whether a file without its metadata still has these pixels."""
    try:
        return np.array_equal(decode(plain, limits.max_image_pixels), pixels)
    except UnusableCutout:
        return False


def _scaled(pixels: Pixels, side_px: int) -> Pixels:
    height, width = pixels.shape[1:]
    if max(height, width) <= side_px:
        return pixels
    size = tuple(max(1, round(side * side_px / max(height, width))) for side in (width, height))
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS)).transpose(2, 0, 1)


def _plain_jpeg(content: bytes) -> bytes | None:
    """A JPEG in YCbCr or grey without EXIF, colour profile and other metadata; None for anything else (ITU-T T.81)."""
    if not content.startswith(_JPEG_START):
        return None
    try:
        if simplejpeg.decode_jpeg_header(content)[2] not in ("YCbCr", "Gray"):
            return None
        kept, place = [content[:2]], 2
        while content[place + 1] != _SCAN:
            (size,) = struct.unpack_from(">H", content, place + 2)
            if content[place] != 0xFF:
                return None
            if content[place + 1] not in _METADATA or content[place + 1] == _ADOBE:  # Adobe's gives the colour space
                kept.append(content[place : place + 2 + size])
            place += 2 + size
    except (ValueError, IndexError, struct.error):
        return None
    return b"".join([*kept, content[place:]])


def _plain_png(content: bytes) -> bytes | None:
    """An opaque PNG without gamma, colour profile, EXIF and animation; None for anything else (ISO/IEC 15948)."""
    if not content.startswith(_PNG_START):
        return None
    kept, place = [_PNG_START], len(_PNG_START)
    while place + 12 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, place)
        chunk = content[place : place + 12 + size]
        if kind == b"tRNS" or (kind == b"IHDR" and chunk[17] not in (_GREY, _RGB, _PALETTE)):
            return None
        if kind[:1].isupper():  # critical: needed for the pixels
            kept.append(chunk)
        place += len(chunk)
    return b"".join(kept)


def _jpeg(pixels: Pixels, quality: int = _QUALITY) -> bytes:
    """Pixels ``(3, height, width)`` as JPEG."""
    image = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    content: bytes = simplejpeg.encode_jpeg(image, quality, "RGB", colorsubsampling="444")
    return content
