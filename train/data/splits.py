"""Which galaxies train, calibrate and test."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from train.config import SplitConfig

__all__ = ["Split", "split_galaxies"]


@dataclass(frozen=True)
class Split:
    """Row numbers of each part, ``(n,)`` each, in the table's order."""

    train: npt.NDArray[np.int64]
    calibration: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def split_galaxies(ids: pa.ChunkedArray, config: SplitConfig) -> Split:
    """Split by a hash of each galaxy's id, and nothing else.

    A galaxy is on the same side whatever else is in the table, in whatever order, at whatever vote threshold;
    so a test galaxy of one run never trains in another with the same seed. The classes are as frequent in each
    part as in the whole, to within the noise of drawing.
    """
    fold = (_uniform(ids, f"test {config.seed:011d}") * config.folds).astype(np.int64)
    calibrates = _uniform(ids, f"cali {config.seed:011d}") < config.calibration_fraction
    test = fold == config.fold
    return Split(
        train=np.flatnonzero(~test & ~calibrates),
        calibration=np.flatnonzero(~test & calibrates),
        test=np.flatnonzero(test),
    )


def _uniform(ids: pa.ChunkedArray, key: str) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each id; `key` is the 16-character hash key."""
    hashes = pd.util.hash_array(ids.cast(pa.string()).to_numpy().astype(object), hash_key=key)
    return np.asarray((hashes >> np.uint64(11)).astype(np.float64) / 2.0**53)
