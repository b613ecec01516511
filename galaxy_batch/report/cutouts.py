"""Cutouts of galaxies on pages, fetched again from the survey. A cutout that is missing is a reason; nothing raises."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from galaxy_batch.catalog.layout import Layout
from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.config import ClassifyConfig, ManifestConfig
from galaxy_batch.cutouts.decode import decode
from galaxy_batch.cutouts.resize import Pixels, resize
from galaxy_batch.errors import GalaxyBatchError
from galaxy_batch.inputs.manifest import find_objects
from galaxy_batch.report.page import Picture
from galaxy_batch.report.pictures import cutout_picture
from galaxy_batch.rows import IMAGE_BYTES, IMAGE_URI, UnusableCutout
from galaxy_batch.settings import parse_config
from galaxy_batch.storage.files import CONCURRENT_READS, list_names
from galaxy_batch.tiles.cutouts import read_cutouts
from galaxy_batch.tiles.grouping import with_tiles

__all__ = ["Cutout", "fetch_examples", "remembered_tiles"]

logger = logging.getLogger(__name__)

_SIDE_PX = 160


@dataclass(frozen=True)
class Cutout:
    """The cutout of one galaxy as the survey has it now."""

    content: bytes | None = None
    """Encoded; None where it could not be read."""
    reason: str = ""
    """Why there is none."""
    image_hash: int | None = None
    uris: tuple[str | None, ...] = ()
    """Of its file or files; empty where the manifest has the images."""
    limits: ClassifyConfig | None = None
    crop_fraction: float = 1.0

    def pixels(self, side_px: int) -> Pixels:
        """Pixels ``(3, side_px, side_px)``, cropped as the network sees them.

        Raises:
            UnusableCutout: it cannot be decoded.
        """
        limits = self.limits or ClassifyConfig()
        return resize(decode(self.content or b"", limits.max_image_pixels, limits.rgb), side_px, self.crop_fraction)

    def picture(self, alt: str) -> Picture:
        """A small JPEG, or the reason why there is none."""
        if self.content is None:
            return Picture(None, alt, self.reason)
        try:
            return cutout_picture(self.pixels(_SIDE_PX), alt)
        except UnusableCutout as bad:
            return Picture(None, alt, str(bad.status))


def fetch_examples(
    object_ids: Sequence[int | str], manifest: CatalogManifest, source: ManifestConfig | None = None
) -> dict[str, Cutout]:
    """The cutouts of some rows of a catalog, by object id as text.

    Args:
        object_ids: of the rows.
        manifest: of the catalog.
        source: where the cutouts are; by default as the catalog's own config says.
    """
    if not object_ids:
        return {}
    try:
        limits = parse_config(ClassifyConfig, manifest.config["classify"])
        crop = float(manifest.checkpoint["spec"]["crop_fraction"])
        source = source or parse_config(ManifestConfig, manifest.config["manifest"])
        rows = with_tiles(find_objects(source, pa.array(object_ids)), source, remembered_tiles(manifest))
        fetched = read_cutouts(rows, source, limits.max_image_bytes, CONCURRENT_READS)
    except (GalaxyBatchError, OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        message = str(error) if isinstance(error, GalaxyBatchError) else type(error).__name__
        logger.warning("no cutouts on the page: %s", message)
        return {str(object_id): Cutout(reason="the source of the cutouts cannot be read") for object_id in object_ids}
    uris = rows[IMAGE_URI].to_pylist() if IMAGE_URI in rows.column_names else [()] * len(rows)
    columns = [fetched[name].to_pylist() for name in ("object_id", IMAGE_BYTES, "status", "image_hash")]
    cutouts = {
        str(object_id): Cutout(content, status, image_hash, _as_tuple(uri), limits, crop)
        for object_id, content, status, image_hash, uri in zip(*columns, uris, strict=True)
    }
    gone = Cutout(reason="no longer in the manifest")
    return {str(object_id): cutouts.get(str(object_id), gone) for object_id in object_ids}


def remembered_tiles(manifest: CatalogManifest) -> str | None:
    """Where the run that made a catalog has remembered the headers of its tiles; None where that is not there."""
    folder = Layout(str(manifest.config.get("output_uri", "")), manifest.release, manifest.model_id, "").tiles
    return folder if list_names(folder) else None


def _as_tuple(uri: Any) -> tuple[str | None, ...]:
    return (uri,) if isinstance(uri, str) else tuple(uri or ())
