"""Catalogs whose cutouts are files, for review queues; and queues."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import simplejpeg

from galaxy_batch.catalog.manifest import MANIFEST
from galaxy_batch.cutouts.fetch import hash_image
from galaxy_batch.review_queue.config import ReviewQueueConfig
from galaxy_batch.review_queue.queue import ReviewQueue, queue_uri, read_queue
from galaxy_batch.review_queue.review_queue import make_queue
from tests.support.skies import publish_rows, with_columns


def small_jpeg(number: int, side_px: int = 40) -> bytes:
    """A noisy JPEG; another number gives another one."""
    pixels = np.random.default_rng(number % 2**32).integers(0, 255, (side_px, side_px, 3), np.uint8)
    content: bytes = simplejpeg.encode_jpeg(pixels, 80, "RGB")
    return content


def publish_with_cutouts(
    folder: Path, rows: pa.Table, contents: Mapping[Any, bytes] | None = None, ending: str = "jpg"
) -> Path:
    """Publish rows and write a cutout for each that has an image; the folder of the catalog.

    Args:
        folder: gets `cutouts` and the catalog.
        rows: their image hashes are replaced.
        contents: files by id; small JPEGs for the others.
        ending: of the files.
    """
    cutouts = folder / "cutouts"
    cutouts.mkdir(parents=True)
    hashes: list[int | None] = []
    for number, row in enumerate(rows.select(["object_id", "status"]).to_pylist()):
        content = (contents or {}).get(row["object_id"]) or small_jpeg(number)
        if row["status"] == "ok":
            (cutouts / f"{row['object_id']}.{ending}").write_bytes(content)
        hashes.append(hash_image(content) if row["status"] == "ok" else None)
    rows = with_columns(rows, image_hash=hashes)
    catalog = publish_rows(folder / "release", rows)
    integers = pa.types.is_integer(rows.schema.field("object_id").type)
    manifest = json.loads((catalog / MANIFEST).read_text())
    manifest["config"]["manifest"] = {"uri": str(cutouts), "integer_ids": integers}
    (catalog / MANIFEST).write_text(json.dumps(manifest))
    return catalog


def new_queue(catalog: Path | str, **settings: Any) -> ReviewQueue:
    """Make a queue, and read it."""
    config = ReviewQueueConfig(str(catalog), **settings)
    make_queue(config)
    queue = read_queue(queue_uri(config.catalog_uri, config.name))
    assert queue is not None
    return queue
