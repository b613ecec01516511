"""Pixels of the training galaxies: fetched, decoded and resized exactly as in the catalog job.

Where they exceed `_MAX_BYTES`, they are in a temporary file that is mapped into memory and has no name.
"""

import logging
import math
import os
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from galaxy_batch.config import ClassifyConfig, RgbConfig
from galaxy_batch.cutouts.decode import decode
from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.cutouts.resize import Pixels, resize
from galaxy_batch.errors import InputError
from galaxy_batch.rows import IMAGE_BYTES, UnusableCutout
from galaxy_batch.runtime.progress import with_progress

__all__ = ["TrainingCutouts", "load_cutouts"]

logger = logging.getLogger(__name__)

_FETCH_BATCH = 1024
_LIMITS = ClassifyConfig()
_MAX_BYTES = 4 << 30  # of pixels in memory; more are in a file that the system reads when they are used


@dataclass(frozen=True)
class TrainingCutouts:
    """Pixels of the galaxies that have a usable cutout."""

    pixels: torch.Tensor
    """``(N, 3, size_px, size_px)`` uint8; may be mapped from a file."""
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

    Raises:
        InputError: the pixels need a file, and `TMPDIR` has no room for it.
    """
    pixels = _empty_pixels((len(galaxies), 3, size_px, size_px))
    rows: list[int] = []
    unusable: Counter[str] = Counter()

    def decode_one(content: bytes | None) -> Pixels | UnusableCutout | None:
        try:
            return (
                None
                if content is None
                else resize(decode(content, _LIMITS.max_image_pixels, rgb), size_px, crop_fraction)
            )
        except UnusableCutout as bad:
            return bad

    with ThreadPoolExecutor(threads) as pool:
        starts = range(0, len(galaxies), _FETCH_BATCH)
        for start in with_progress(
            starts, "loading cutouts", len(galaxies), lambda start: min(_FETCH_BATCH, len(galaxies) - start)
        ):
            chunk = fetch_cutouts(galaxies.slice(start, _FETCH_BATCH), _LIMITS.max_image_bytes)
            decoded = pool.map(decode_one, chunk[IMAGE_BYTES].to_pylist())
            for row, (status, result) in enumerate(zip(chunk["status"].to_pylist(), decoded, strict=True), start):
                if isinstance(result, np.ndarray):
                    pixels[len(rows)] = torch.from_numpy(result)
                    rows.append(row)
                else:
                    unusable[status if result is None else str(result.status)] += 1
    if unusable:
        logger.warning("excluded, no usable cutout: %s", dict(unusable))
    return TrainingCutouts(pixels[: len(rows)], np.array(rows, np.int64), dict(unusable))


def _empty_pixels(shape: tuple[int, int, int, int]) -> torch.Tensor:
    """A uint8 tensor in memory, or in a temporary file where it is large."""
    size = math.prod(shape)
    if size <= _MAX_BYTES:
        return torch.empty(shape, dtype=torch.uint8)
    folder = tempfile.gettempdir()
    logger.info("%.1f GB of pixels are kept in a file in %s", size / 1e9, folder)
    with tempfile.NamedTemporaryFile(prefix="gb-pixels-") as file:  # the mapping outlives the name
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk would end the process when a page is written
        except OSError as error:
            remedy = f"cannot hold a file of {size / 1e9:.1f} GB for the pixels ({error.strerror}): set TMPDIR"
            raise InputError("TMPDIR", folder, remedy) from None
        return torch.from_file(file.name, shared=True, size=size, dtype=torch.uint8).view(shape)
