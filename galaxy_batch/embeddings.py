"""Embeddings as columns of tables: float16 vectors, packed for sorting and joins, and as lists for readers."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = [
    "HALF_MAX",
    "embedding_lists",
    "embedding_type",
    "embedding_values",
    "packed_embeddings",
    "unpacked_embeddings",
]

HALF_MAX = float(np.finfo(np.float16).max)
"""Largest float16; larger values are clipped to it."""

Halves = npt.NDArray[np.float16]
Mask = npt.NDArray[np.bool_]


def packed_embeddings(values: npt.NDArray[np.floating], missing: Mask) -> pa.FixedSizeBinaryArray:
    """Embeddings ``(N, size)`` as float16 in bytes, which Arrow can sort and join; null where they are missing."""
    halves = np.ascontiguousarray(np.clip(values, -HALF_MAX, HALF_MAX), np.float16)
    validity = pa.array(~missing).buffers()[1]
    buffers = [validity, pa.py_buffer(halves)]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(2 * values.shape[1]), len(values), buffers)


def unpacked_embeddings(column: pa.ChunkedArray) -> tuple[Halves, Mask]:
    """The embeddings ``(N, size)`` that `packed_embeddings` has packed, and where they are missing, ``(N,)``."""
    size = column.type.byte_width // 2
    missing = column.is_null().to_numpy()
    pieces = [
        np.frombuffer(piece.buffers()[1], np.float16, len(piece) * size, 2 * piece.offset * size)
        for piece in column.chunks
        if len(piece)
    ]
    return np.concatenate([np.empty(0, np.float16), *pieces]).reshape(-1, size), missing


def embedding_type(size: int) -> pa.DataType:
    """The type of a list of `size` numbers in float16, none of which is null."""
    return pa.list_(pa.field("element", pa.float16(), nullable=False), size)


def embedding_lists(column: pa.ChunkedArray) -> pa.FixedSizeListArray:
    """Packed embeddings as lists; null where they are missing."""
    values, missing = unpacked_embeddings(column)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(values.reshape(-1)), type=embedding_type(values.shape[1]), mask=pa.array(missing)
    )


def embedding_values(column: pa.ChunkedArray) -> tuple[Halves, Mask]:
    """The embeddings ``(N, size)`` of a column of lists, and where they are missing, ``(N,)``; there they are anything.

    Raises:
        ValueError: the column has another type.
    """
    kind = column.type
    if not pa.types.is_fixed_size_list(kind) or kind.value_type != pa.float16():
        raise ValueError(f"embeddings are {kind}, not lists of float16 of one size")
    size = kind.list_size
    pieces = [piece.values.to_numpy(zero_copy_only=False)[piece.offset * size :][: len(piece) * size]
              for piece in column.chunks]  # fmt: skip
    values = np.concatenate([np.empty(0, np.float16), *pieces]).reshape(-1, size)
    return values, column.is_null().to_numpy()
