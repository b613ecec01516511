"""Attention maps of the galaxies in a queue: where their class comes from, in cells of 8 px, for the page."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.config import ClassifyConfig
from galaxy_batch.cutouts.decode import decode
from galaxy_batch.cutouts.resize import Pixels, resize
from galaxy_batch.errors import InputError
from galaxy_batch.model.checkpoint import CheckpointFile, read_checkpoint
from galaxy_batch.review_queue.queue import ReviewQueue
from galaxy_batch.rows import UnusableCutout
from galaxy_batch.runtime.progress import with_progress
from galaxy_batch.settings import parse_config
from galaxy_batch.storage.files import join, read_bytes

__all__ = ["AttentionMaps", "attention_maps", "catalog_checkpoint"]

logger = logging.getLogger(__name__)

_BATCH = 32


@dataclass(frozen=True)
class AttentionMaps:
    """Maps of the galaxies of a queue, for the class that was predicted."""

    cells: int
    """Side of a map."""
    crop_fraction: float
    """Share of the picture's shorter side that the map covers: the central square that the network sees."""
    maps: Mapping[int, bytes]
    """By position: ``(cells, cells)`` uint8, row by row; 255 is the largest value of the galaxy. They are square roots,
    which show weak parts too."""


def catalog_checkpoint(manifest: CatalogManifest, checkpoint_uri: str | None) -> CheckpointFile:
    """The checkpoint that a catalog was made with.

    Args:
        manifest: of the catalog.
        checkpoint_uri: where it is; by default as the catalog's own config says.

    Raises:
        InputError: there is no checkpoint, or it is another one.
    """
    uri = checkpoint_uri or str(manifest.config.get("checkpoint_uri", ""))
    file = read_checkpoint(uri)
    if file.checkpoint.checkpoint_id != manifest.model_id:
        remedy = f"is checkpoint {file.checkpoint.checkpoint_id}, the catalog was made with {manifest.model_id}"
        raise InputError("checkpoint_uri", uri, f"{remedy}: give that one, or no attention")
    return file


def attention_maps(queue: ReviewQueue, manifest: CatalogManifest, file: CheckpointFile) -> AttentionMaps | None:
    """`fine_grad_cam` of each galaxy with a picture and a class; None for a network without a feature map.

    Each takes a forward and a backward pass.

    Args:
        queue: with its pictures, which show the whole cutouts.
        manifest: of its catalog.
        file: the catalog's checkpoint.
    """
    import torch  # noqa: PLC0415 - torch and timm take seconds

    from galaxy_batch.model.grad_cam import fine_grad_cam  # noqa: PLC0415
    from galaxy_batch.model.saved_model import load_model  # noqa: PLC0415

    model, spec = load_model(file), file.checkpoint.spec
    rows = queue.rows.filter(pc.and_(queue.rows["picture"].is_valid(), queue.rows["predicted_class"].is_valid()))
    maps: dict[int, bytes] = {}
    cells = 0
    wanted = rows.select(["position", "picture", "predicted_class"]).to_pylist()
    batches = [wanted[first : first + _BATCH] for first in range(0, len(wanted), _BATCH)]
    for batch in with_progress(batches, "attention", len(rows)):
        cutouts = dict(_pixels(queue.uri, batch, manifest, spec.size_px, spec.crop_fraction))
        if not cutouts:
            continue
        classes = [spec.classes.index(row["predicted_class"]) for row in batch if row["position"] in cutouts]
        values = fine_grad_cam(model, torch.from_numpy(np.stack(list(cutouts.values()))), np.array(classes))
        if values is None:
            logger.warning("no attention maps: %s has no feature map", spec.architecture)
            return None
        cells = values.shape[-1]
        scaled = (255 * values.sqrt()).round().to(torch.uint8).numpy()
        maps |= {position: one.tobytes() for position, one in zip(cutouts, scaled, strict=True)}
    return AttentionMaps(cells, spec.crop_fraction, maps)


def _pixels(
    folder_uri: str, rows: Sequence[dict[str, Any]], manifest: CatalogManifest, size_px: int, crop_fraction: float
) -> Iterator[tuple[int, Pixels]]:
    """Position and network input of the pictures that can be read."""
    limits = parse_config(ClassifyConfig, manifest.config.get("classify", {}))
    for row in rows:
        try:
            content = read_bytes(join(folder_uri, row["picture"]))
            yield row["position"], resize(decode(content, limits.max_image_pixels), size_px, crop_fraction)
        except (UnusableCutout, FileNotFoundError) as error:
            logger.warning("no attention map for %s: %s", row["picture"], error)
