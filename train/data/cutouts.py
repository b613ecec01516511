"""Pixels of the training galaxies: fetched, decoded and resized exactly as in the catalog job."""

import logging
from collections import Counter
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

_FETCH_BATCH = 1024
_LIMITS = ClassifyConfig()


@dataclass(frozen=True)
class TrainingCutouts:
    """Pixels of the galaxies that have a usable cutout."""

    pixels: torch.Tensor
    """``(N, 3, size_px, size_px)`` uint8."""
    rows: npt.NDArray[np.int64]
    """``(N,)``: row of each galaxy in the galaxy table."""
    unusable: dict[str, int]
    """Number of galaxies without a usable cutout, by status."""


def load_cutouts(
    galaxies: pa.Table, size_px: int, crop_fraction: float, threads: int, rgb: RgbConfig = _LIMITS.rgb
) -> TrainingCutouts:
    """Load the cutouts of a table; unusable ones are counted and left out.

    Args:
        galaxies: rows with `_image_uri` or `_image_bytes`.
        size_px: as in `ModelSpec`.
        crop_fraction: as in `ModelSpec`.
        threads: number of decoding threads.
        rgb: rendering of FITS bands to RGB.
    """
    pixels = torch.empty((len(galaxies), 3, size_px, size_px), dtype=torch.uint8)
    rows: list[int] = []
    unusable: Counter[str] = Counter()

    def decode_one(content: bytes | None) -> torch.Tensor | UnusableCutout | None:
        try:
            return (
                None
                if content is None
                else resize(decode(content, _LIMITS.max_image_pixels, rgb), size_px, crop_fraction)
            )
        except UnusableCutout as bad:
            return bad

    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(galaxies), _FETCH_BATCH):
            chunk = fetch_cutouts(galaxies.slice(start, _FETCH_BATCH), _LIMITS.max_image_bytes)
            decoded = pool.map(decode_one, chunk[IMAGE_BYTES].to_pylist())
            for row, (status, result) in enumerate(zip(chunk["status"].to_pylist(), decoded, strict=True), start):
                if isinstance(result, torch.Tensor):
                    pixels[len(rows)] = result
                    rows.append(row)
                else:
                    unusable[status if result is None else str(result.status)] += 1
    if unusable:
        logger.warning("excluded, no usable cutout: %s", dict(unusable))
    return TrainingCutouts(pixels[: len(rows)], np.array(rows, np.int64), dict(unusable))
