"""Object ids as 64-bit numbers: to spread them, to look for doubles, and to tell one set of ids from another."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

__all__ = ["id_hashes", "ids_checksum"]


def id_hashes(ids: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each id, ``(N,)``: the same in every process, and evenly spread whatever the ids look like.

    Args:
        ids: int64 or string, without nulls. Two integers never have the same hash.
    """
    values = ids.to_numpy()
    return pd.util.hash_array(values if pa.types.is_integer(ids.type) else values.astype(object))


def ids_checksum(hashes: npt.NDArray[np.uint64]) -> int:
    """Sum of ids' hashes modulo 2^64: another set of as many ids has another sum, whatever their order.

    The sums of two sets add up, modulo 2^64, to that of both together.
    """
    return int(hashes.sum(dtype=np.uint64))
