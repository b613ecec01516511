"""What FITS images are made of (FITS Standard 4.0): blocks, types of pixels, and headers."""

from collections.abc import Sequence

__all__ = ["BLOCK_BYTES", "PIXEL_TYPES", "image_header", "padded", "whole_blocks"]

BLOCK_BYTES = 2880
"""Headers and data fill whole blocks (section 3)."""
PIXEL_TYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
"""numpy's names of the types of pixels, by BITPIX (section 4.4.1.1)."""


def whole_blocks(size: int) -> int:
    """Size in bytes of the blocks that are needed for `size` bytes; also the start of the first block from there on."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def padded(content: bytes, fill: bytes = b"\0") -> bytes:
    """The content, filled up to whole blocks."""
    return content.ljust(whole_blocks(len(content)), fill)


def image_header(shape: Sequence[int], bitpix: int, is_extension: bool = False) -> bytes:
    """The header of an image without WCS, in whole blocks.

    Args:
        shape: as of an array, e.g. ``(height, width)``; ``()`` is a header without data.
        bitpix: type of the pixels, see `PIXEL_TYPES`.
        is_extension: whether other images come before it in the file.
    """
    axes = {f"NAXIS{number}": length for number, length in enumerate(reversed(shape), 1)}
    cards = {"BITPIX": bitpix, "NAXIS": len(shape), **axes, **({"PCOUNT": 0, "GCOUNT": 1} if is_extension else {})}
    first = "XTENSION= 'IMAGE   '" if is_extension else f"SIMPLE  = {'T':>20}"
    texts = [first, *(f"{name:<8}= {value:>20}" for name, value in cards.items()), "END"]
    return padded("".join(f"{text:<80}" for text in texts).encode(), b" ")
