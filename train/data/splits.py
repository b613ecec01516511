"""Assignment of galaxies to training, calibration and test set."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from train.config import SplitConfig

__all__ = ["Split", "split_galaxies"]


@dataclass(frozen=True)
class Split:
    """Row numbers ``(n,)`` of each part, in the order of the table."""

    train: npt.NDArray[np.int64]
    calibration: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def split_galaxies(ids: pa.ChunkedArray, config: SplitConfig) -> Split:
    """Split by a hash of the id alone.

    A galaxy's part does not depend on the other rows, their order or the vote threshold, so a test galaxy of one run
    is never a training galaxy of another with the same seed. Class fractions agree between parts to within sampling
    noise.
    """
    fold = (_uniform(ids, f"test {config.seed:011d}") * config.folds).astype(np.int64)
    calibration = _uniform(ids, f"cali {config.seed:011d}") < config.calibration_fraction
    test = fold == config.fold
    return Split(
        train=np.flatnonzero(~test & ~calibration),
        calibration=np.flatnonzero(~test & calibration),
        test=np.flatnonzero(test),
    )


def _uniform(ids: pa.ChunkedArray, key: str) -> npt.NDArray[np.float64]:
    """A number in [0, 1) per id; `key` is the 16-character hash key."""
    hashes = pd.util.hash_array(ids.cast(pa.string()).to_numpy().astype(object), hash_key=key)
    return np.asarray((hashes >> np.uint64(11)).astype(np.float64) / 2.0**53)
