"""Crop and scale cutouts to the network's input size: the same pixels in training and inference, without torch.

Bilinear, with antialiasing, in two passes (along rows, then along columns) that each round to uint8. The sums are exact
in integers, with 16-bit weights, so that the result equals torch's `interpolate` of uint8 images to the last bit.
"""

import functools

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

__all__ = ["Pixels", "resize"]

Pixels = npt.NDArray[np.uint8]
"""uint8 of shape ``(3, height, width)``: red, green, blue."""

_WEIGHT_BITS, _MAX_PRECISION = 15, 22


def resize(pixels: Pixels, size_px: int | None, crop_fraction: float) -> Pixels:
    """Crop the central square and scale it to ``(3, size_px, size_px)``.

    Args:
        pixels: ``(3, height, width)``.
        size_px: side of the network's input; None keeps the cropped square's size.
        crop_fraction: side of the cropped square, as a fraction of the shorter side.
    """
    height, width = pixels.shape[-2:]
    side = max(1, round(crop_fraction * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(pixels[:, top : top + side, left : left + side])
    if size_px is None or side == size_px:
        return square
    rows = _scaled(square.transpose(2, 0, 1), size_px)
    return np.ascontiguousarray(_scaled(rows.transpose(2, 1, 0), size_px).transpose(1, 0, 2))


def _scaled(pixels: Pixels, size_px: int) -> Pixels:
    """Scale the first of three axes."""
    side, *others = pixels.shape
    weights, precision = _weights(side, size_px)
    sums: npt.NDArray[np.int32] = weights @ pixels.astype(np.int32, order="C").reshape(side, -1)
    sums += 1 << (precision - 1)  # rounds
    sums >>= precision
    return sums.astype(np.uint8).reshape(size_px, *others)


@functools.lru_cache(16)
def _weights(side: int, size_px: int) -> tuple[csr_array, int]:
    """Weights ``(size_px, side)`` as whole numbers, and the bits by which a sum is shifted to the right."""
    scale = side / size_px
    reach = max(scale, 1.0)  # of the triangle of weights, on each side, in pixels
    starts, rows = [], []
    for row in range(size_px):
        centre = scale * (row + 0.5)
        start, stop = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), side)
        triangle = [max(0.0, 1 - abs((pixel - centre + 0.5) / reach)) for pixel in range(start, stop)]
        starts.append(start)
        rows.append([weight / sum(triangle) for weight in triangle])
    largest = max(max(row) for row in rows)
    fitting = (bits for bits in range(_MAX_PRECISION) if int(0.5 + largest * (2 << bits)) >= 1 << _WEIGHT_BITS)
    precision = next(fitting, _MAX_PRECISION)
    values = [int(0.5 + weight * (1 << precision)) for row in rows for weight in row]
    columns = [start + place for start, row in zip(starts, rows, strict=True) for place in range(len(row))]
    ends = np.cumsum([0, *map(len, rows)])
    parts = (np.array(values, np.int32), np.array(columns, np.int32), ends.astype(np.int32))
    return csr_array(parts, shape=(size_px, side)), precision
