"""How often each of very many 64-bit values occurs, counted on disk: memory does not grow with their number."""

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["DiskCounter"]

_BUCKET_VALUES = 4_000_000  # counted in memory at a time: 36 MB, and the same again to sort them
_MAX_BUCKETS = 1024
_ENTRY = np.dtype([("value", np.uint64), ("mark", np.bool_)])


class DiskCounter(AbstractContextManager["DiskCounter"]):
    """Counts of values, each with an optional mark; a temporary folder holds 9 bytes per value.

    ::

        with DiskCounter(expected=1_000_000) as counter:
            counter.add(values, marks)
            for values, counts, marked in counter.counts():
                ...

    Args:
        expected: approximate number of values; it sets how many buckets (files) they are divided into.
    """

    def __init__(self, expected: int) -> None:
        self.buckets = max(1, min(_MAX_BUCKETS, expected // _BUCKET_VALUES + 1))
        self._folder = tempfile.TemporaryDirectory(prefix="counter-")

    def __exit__(self, *exception: object) -> None:
        self._folder.cleanup()

    def add(self, values: npt.NDArray[np.uint64], marks: npt.NDArray[np.bool_] | None = None) -> None:
        """Add values that are evenly distributed over 64 bits, ``(N,)``, and their marks."""
        entries = np.empty(len(values), _ENTRY)
        entries["value"] = values
        entries["mark"] = False if marks is None else marks
        bucket = (values >> np.uint64(32)) * np.uint64(self.buckets) >> np.uint64(32)
        entries = entries[np.argsort(bucket, kind="stable")]
        sizes = np.bincount(bucket.astype(np.int64), minlength=self.buckets)
        for number, part in enumerate(np.split(entries, np.cumsum(sizes)[:-1])):
            if len(part):
                with self._path(number).open("ab") as file:
                    part.tofile(file)

    def counts(self) -> Iterator[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Per bucket: its distinct values, how often each was added, and how often with its mark set."""
        for path in filter(Path.exists, map(self._path, range(self.buckets))):
            entries = np.fromfile(path, _ENTRY)
            values, inverse, counts = np.unique(entries["value"], return_inverse=True, return_counts=True)
            marked = np.bincount(inverse, weights=entries["mark"], minlength=len(values)).astype(np.int64)
            yield values, counts.astype(np.int64), marked

    def repeated(self) -> npt.NDArray[np.uint64]:
        """The values that were added more than once, each once."""
        none = np.empty(0, np.uint64)
        return np.concatenate([none, *(values[counts > 1] for values, counts, _ in self.counts())])

    def _path(self, bucket: int) -> Path:
        return Path(self._folder.name, f"{bucket:04d}")
