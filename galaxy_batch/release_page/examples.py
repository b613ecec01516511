"""Example rows of a release: read from the catalog, their cutouts fetched again from the survey.

A missing cutout is a blank tile with the reason; no error here fails the page.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np
import pyarrow as pa
import simplejpeg

from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.config import ClassifyConfig, ManifestConfig
from galaxy_batch.cutouts.decode import decode
from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.cutouts.resize import resize
from galaxy_batch.errors import GalaxyBatchError
from galaxy_batch.inputs.manifest import find_objects
from galaxy_batch.release_page.sampling import RowLocation
from galaxy_batch.report.page import Tile
from galaxy_batch.rows import IMAGE_BYTES, UnusableCutout, flag_names
from galaxy_batch.settings import parse_config
from galaxy_batch.storage.files import join, open_parquet

__all__ = ["Example", "fetch_tiles", "read_examples"]

logger = logging.getLogger(__name__)

_COLUMNS = ["object_id", "predicted_class", "confidence", "review_flags", "status", "error", "image_hash"]
_SIDE_PX = 132
_QUALITY = 88


@dataclass(frozen=True)
class Example:
    """A row on a contact sheet."""

    object_id: int | str
    predicted_class: str | None
    confidence: float | None
    review_flags: int
    status: str
    error: str | None
    image_hash: int | None

    @property
    def flags(self) -> str:
        """Names of its flags."""
        return ", ".join(flag_names(self.review_flags))


def read_examples(
    catalog_uri: str, manifest: CatalogManifest, locations: Sequence[RowLocation]
) -> dict[RowLocation, Example]:
    """The rows at these locations of a catalog, read one row group at a time.

    Args:
        catalog_uri: its folder.
        manifest: of the catalog.
        locations: where the rows are.
    """
    examples: dict[RowLocation, Example] = {}
    for (file, group), rows in groupby(sorted(locations), key=itemgetter(0, 1)):
        wanted = list(rows)
        with open_parquet(join(catalog_uri, manifest.files[file].path)) as parquet:
            table = parquet.read_row_group(group, _COLUMNS).take([location.row for location in wanted])
        examples |= {location: Example(**row) for location, row in zip(wanted, table.to_pylist(), strict=True)}
    return examples


def fetch_tiles(
    examples: Sequence[Example], manifest: CatalogManifest, source: ManifestConfig | None = None
) -> dict[int | str, Tile]:
    """The cutout of each row, cropped as the network sees it, by object id.

    Args:
        examples: the rows.
        manifest: of the catalog.
        source: where the cutouts are; by default as the catalog's own config says.
    """
    if not examples:
        return {}
    try:
        settings = manifest.config
        source = source or parse_config(ManifestConfig, settings["manifest"])
        limits = parse_config(ClassifyConfig, settings["classify"])
        crop = float(manifest.checkpoint["spec"]["crop_fraction"])
        rows = find_objects(source, pa.array([example.object_id for example in examples]))
        fetched = fetch_cutouts(rows, limits.max_image_bytes)
    except (GalaxyBatchError, OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        message = str(error) if isinstance(error, GalaxyBatchError) else type(error).__name__
        logger.warning("no cutouts on the release page: %s", message)
        reason = "the source of the cutouts cannot be read"
        return {example.object_id: _tile(example, None, reason) for example in examples}
    columns = ("object_id", IMAGE_BYTES, "image_hash", "status")
    by_id = {row[0]: row[1:] for row in zip(*(fetched[name].to_pylist() for name in columns), strict=True)}
    tiles = {}
    for example in examples:
        content, image_hash, status = by_id.get(example.object_id, (None, None, "no longer in the manifest"))
        picture, reason = (None, status) if content is None else _thumbnail(content, limits, crop)
        changed = content is not None and image_hash != example.image_hash
        tiles[example.object_id] = _tile(example, picture, reason, changed)
    return tiles


def _thumbnail(content: bytes, limits: ClassifyConfig, crop_fraction: float) -> tuple[bytes | None, str]:
    """A small JPEG, or None and the reason."""
    try:
        pixels = resize(decode(content, limits.max_image_pixels, limits.rgb), _SIDE_PX, crop_fraction)
    except UnusableCutout as bad:
        return None, str(bad.status)
    picture: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels.transpose(1, 2, 0)), _QUALITY, "RGB")
    return picture, ""


def _tile(example: Example, picture: bytes | None, reason: str, changed: bool = False) -> Tile:
    prediction = "no class" if example.confidence is None else f"{example.predicted_class} {example.confidence:.2f}"
    lines = [prediction, str(example.object_id)]
    if example.flags:
        lines.append(example.flags)
    if changed:
        lines.append("the cutout has changed since the run")
    return Tile(picture, f"Cutout of {example.object_id}: {prediction}", tuple(lines), reason)
