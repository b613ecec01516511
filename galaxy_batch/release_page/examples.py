"""Single rows of a release to look at: read from the catalog, their cutouts fetched again from their survey.

A picture that cannot be had is a blank tile that says why; nothing here makes a page fail.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import simplejpeg

from galaxy_batch.config import ClassifyConfig, ManifestConfig
from galaxy_batch.cutouts.decode import decode, resize
from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.errors import GalaxyBatchError
from galaxy_batch.inputs.manifest import find_objects
from galaxy_batch.release_page.counts import Place
from galaxy_batch.report.page import Tile
from galaxy_batch.rows import IMAGE_BYTES, ReviewFlag, UnusableCutout
from galaxy_batch.settings import parse_config
from galaxy_batch.storage.files import join, open_parquet

__all__ = ["Example", "fetch_tiles", "read_examples"]

logger = logging.getLogger(__name__)

_COLUMNS = ["object_id", "predicted_class", "confidence", "review_flags", "status", "error", "image_hash"]
_SIDE_PX = 132
_QUALITY = 88


@dataclass(frozen=True)
class Example:
    """What a contact sheet says of a row."""

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
        return ", ".join(str(flag.name) for flag in ReviewFlag if self.review_flags & flag)


def read_examples(catalog_uri: str, manifest: Mapping[str, Any], places: Sequence[Place]) -> dict[Place, Example]:
    """The rows at some places of a catalog, a row group at a time.

    Args:
        catalog_uri: its folder.
        manifest: the content of its `manifest.json`.
        places: where the rows are.
    """
    found = {}
    for file in sorted({place.file for place in places}):
        with open_parquet(join(catalog_uri, manifest["files"][file]["path"])) as parquet:
            for group in sorted({place.row_group for place in places if place.file == file}):
                wanted = [place for place in places if (place.file, place.row_group) == (file, group)]
                rows = parquet.read_row_group(group, _COLUMNS).take([place.row for place in wanted])
                for place, row in zip(wanted, rows.to_pylist(), strict=True):
                    found[place] = Example(**row)
    return found


def fetch_tiles(
    examples: Sequence[Example], manifest: Mapping[str, Any], source: ManifestConfig | None = None
) -> dict[int | str, Tile]:
    """A picture of each row, as the network saw it, by object id.

    Args:
        examples: the rows.
        manifest: the content of the catalog's `manifest.json`.
        source: where the cutouts are; as the catalog's own config says, when not given.
    """
    if not examples:
        return {}
    try:
        settings = manifest["config"]
        source = source or parse_config(ManifestConfig, settings["manifest"])
        limits = parse_config(ClassifyConfig, settings["classify"])
        crop = float(manifest["checkpoint"]["spec"]["crop_fraction"])
        rows = find_objects(source, pa.array([example.object_id for example in examples]))
        fetched = fetch_cutouts(rows, limits.max_image_bytes)
    except (GalaxyBatchError, OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        said = str(error) if isinstance(error, GalaxyBatchError) else type(error).__name__
        logger.warning("no cutouts on the page of the release: %s", said)
        reason = "the source of the cutouts cannot be read"
        return {example.object_id: _tile(example, None, reason) for example in examples}
    columns = ("object_id", IMAGE_BYTES, "image_hash", "status")
    answers = {row[0]: row[1:] for row in zip(*(fetched[name].to_pylist() for name in columns), strict=True)}
    tiles = {}
    for example in examples:
        content, image_hash, status = answers.get(example.object_id, (None, None, "not in the manifest any more"))
        picture, reason = (None, status) if content is None else _thumbnail(content, limits, crop)
        changed = content is not None and image_hash != example.image_hash
        tiles[example.object_id] = _tile(example, picture, reason, changed)
    return tiles


def _thumbnail(content: bytes, limits: ClassifyConfig, crop_fraction: float) -> tuple[bytes | None, str]:
    """A small JPEG; or why there is none."""
    try:
        pixels = resize(decode(content, limits.max_image_pixels, limits.rgb), _SIDE_PX, crop_fraction)
    except UnusableCutout as bad:
        return None, str(bad.status)
    picture: bytes = simplejpeg.encode_jpeg(pixels.permute(1, 2, 0).contiguous().numpy(), _QUALITY, "RGB")
    return picture, ""


def _tile(example: Example, picture: bytes | None, reason: str, changed: bool = False) -> Tile:
    said = "no class" if example.confidence is None else f"{example.predicted_class} {example.confidence:.2f}"
    lines = [said, str(example.object_id)]
    if example.flags:
        lines.append(example.flags)
    if changed:
        lines.append("the cutout has changed since")
    return Tile(picture, f"Cutout of {example.object_id}: {said}", tuple(lines), reason)
