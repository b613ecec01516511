"""The pixels to learn from: fetched, decoded and resized exactly as the catalog job does it."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from galaxy_batch.config import ClassifyConfig, RgbConfig
from galaxy_batch.cutouts.decode import decode, resize
from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.rows import IMAGE_BYTES, UnusableCutout

__all__ = ["TrainingCutouts", "load_cutouts"]

logger = logging.getLogger(__name__)

_FETCHED_AT_ONCE = 1024
_LIMITS = ClassifyConfig()


@dataclass(frozen=True)
class TrainingCutouts:
    """Pixels of the galaxies that have any."""

    pixels: torch.Tensor
    """``(N, 3, size_px, size_px)`` uint8."""
    rows: npt.NDArray[np.int64]
    """``(N,)``: the row of the galaxy table that each belongs to."""
    unusable: dict[str, int]
    """How many galaxies have no pixels, by status."""


def load_cutouts(
    galaxies: pa.Table, size_px: int, crop_fraction: float, threads: int, rgb: RgbConfig = _LIMITS.rgb
) -> TrainingCutouts:
    """Load every cutout of a table; those that cannot be used are counted and left out.

    Args:
        galaxies: rows with `_image_uri` or `_image_bytes`.
        size_px: as in `ModelSpec`.
        crop_fraction: as in `ModelSpec`.
        threads: how many decode at a time.
        rgb: how FITS cutouts are drawn.
    """
    pixels = torch.empty((len(galaxies), 3, size_px, size_px), dtype=torch.uint8)
    rows: list[int] = []
    unusable: dict[str, int] = {}

    def one(content: bytes) -> torch.Tensor | UnusableCutout:
        try:
            return resize(decode(content, _LIMITS.max_image_pixels, rgb), size_px, crop_fraction)
        except UnusableCutout as bad:
            return bad

    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(galaxies), _FETCHED_AT_ONCE):
            chunk = fetch_cutouts(galaxies.slice(start, _FETCHED_AT_ONCE), _LIMITS.max_image_bytes)
            statuses, contents = chunk["status"].to_pylist(), chunk[IMAGE_BYTES].to_pylist()
            decoded = pool.map(lambda content: None if content is None else one(content), contents)
            for row, (status, result) in enumerate(zip(statuses, decoded, strict=True), start):
                if isinstance(result, torch.Tensor):
                    pixels[len(rows)] = result
                    rows.append(row)
                else:
                    kind = status if result is None else str(result.status)
                    unusable[kind] = unusable.get(kind, 0) + 1
    if unusable:
        logger.warning("left out, without a usable cutout: %s", unusable)
    return TrainingCutouts(pixels[: len(rows)], np.array(rows, np.int64), unusable)
