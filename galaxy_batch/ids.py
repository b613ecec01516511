"""Hashes and checksums of object ids: to distribute ids, find duplicates and compare sets of ids."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

__all__ = ["id_hashes", "ids_checksum"]


def id_hashes(ids: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each id, ``(N,)``: the same in every process, evenly distributed for any ids.

    Args:
        ids: int64 or string, without nulls. Different integers have different hashes.
    """
    values = ids.to_numpy()
    return pd.util.hash_array(values if pa.types.is_integer(ids.type) else values.astype(object))


def ids_checksum(hashes: npt.NDArray[np.uint64]) -> int:
    """Sum of the hashes modulo 2^64: independent of their order, and different for different sets of ids.

    The checksum of a union of two sets is the sum of their checksums modulo 2^64.
    """
    return int(hashes.sum(dtype=np.uint64))
