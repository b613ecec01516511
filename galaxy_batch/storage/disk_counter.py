"""How often each of very many 64-bit values occurs, counted on disk: memory does not grow with their number."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

__all__ = ["DiskCounter"]

_AT_ONCE = 4_000_000  # values that are counted in memory at a time: 36 MB, and as much again to sort them
_MOST_SHARES = 1024
_ENTRY = np.dtype([("value", np.uint64), ("mark", np.bool_)])


class DiskCounter:
    """Values with a mark each, kept in a temporary folder of 9 bytes a value until it is left.

    ::

        with DiskCounter(expected=1_000_000) as tally:
            tally.add(values, marks)
            for values, counts, marked in tally.counts():
                ...

    Args:
        expected: about how many values will come; a wrong guess costs memory, not truth.
    """

    def __init__(self, expected: int) -> None:
        self.shares = max(1, min(_MOST_SHARES, expected // _AT_ONCE + 1))
        self._folder = tempfile.TemporaryDirectory(prefix="tally-")

    def __enter__(self) -> "DiskCounter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def add(self, values: npt.NDArray[np.uint64], marks: npt.NDArray[np.bool_] | None = None) -> None:
        """Take in values that are evenly spread over 64 bits, ``(N,)``, and their marks."""
        entries = np.empty(len(values), _ENTRY)
        entries["value"] = values
        entries["mark"] = False if marks is None else marks
        if self.shares == 1:
            self._append(0, entries)
            return
        share = (values >> np.uint64(32)) * np.uint64(self.shares) >> np.uint64(32)
        entries = entries[np.argsort(share, kind="stable")]
        ends = np.cumsum(np.bincount(share.astype(np.int64), minlength=self.shares))
        for number, part in enumerate(np.split(entries, ends[:-1])):
            self._append(number, part)

    def counts(self) -> Iterator[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Share by share, each value once: the values, how often each came, and how often with its mark set."""
        for number in range(self.shares):
            path = self._path(number)
            if path.exists():
                entries = np.fromfile(path, _ENTRY)
                values, places, counts = np.unique(entries["value"], return_inverse=True, return_counts=True)
                marked = np.bincount(places, weights=entries["mark"], minlength=len(values)).astype(np.int64)
                yield values, counts.astype(np.int64), marked

    def repeated(self) -> npt.NDArray[np.uint64]:
        """The values that came more than once, each once."""
        none = np.empty(0, np.uint64)
        return np.concatenate([none, *(values[counts > 1] for values, counts, _ in self.counts())])

    def _append(self, share: int, entries: npt.NDArray[np.void]) -> None:
        if len(entries):
            with self._path(share).open("ab") as file:
                entries.tofile(file)

    def _path(self, share: int) -> Path:
        return Path(self._folder.name, f"{share:04d}")
