"""Samples of the rows of many groups, from one pass over the rows: random rows, or the first by a value."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["GroupSampler", "RowLocation"]

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[Any]


class RowLocation(NamedTuple):
    """Where a row of a catalog is; `file` is the position in the manifest's `files`."""

    file: int
    row_group: int
    row: int


class GroupSampler:
    """Keeps the rows with the lowest keys of each group.

    Keys are random numbers, so that every row of a group is equally likely, or given.

    The lowest keys of several groups together are among the lowest of each, so a union of groups can be sampled
    afterwards.
    """

    def __init__(self, groups: int, size: int, seed: int, key_type: type[np.float64 | np.uint64] = np.float64) -> None:
        self.size, self.seed = size, seed
        self._group: Ints = np.empty(0, np.int64)
        self._key: Keys = np.empty(0, key_type)
        self._location: Ints = np.empty((0, 3), np.int64)
        highest = np.inf if key_type is np.float64 else np.iinfo(np.uint64).max
        self._highest: Keys = np.full(groups, highest, key_type)

    def add(self, group: Ints, file: int, row_group: int, keys: Keys | None = None) -> None:
        """Offer the rows of a row group: their groups ``(N,)``, negative for none, and keys in place of random ones."""
        if keys is None:
            keys = np.random.default_rng((self.seed, file, row_group)).random(len(group))
        rows = np.flatnonzero(group >= 0)
        rows = rows[keys[rows] < self._highest[group[rows]]]
        if not len(rows) or not self.size:
            return
        locations = np.stack([np.full(len(rows), file), np.full(len(rows), row_group), rows], axis=1)
        groups, numbers = np.concatenate([self._group, group[rows]]), np.concatenate([self._key, keys[rows]])
        order = np.lexsort((numbers, groups))
        groups, numbers = groups[order], numbers[order]
        begins = np.flatnonzero(np.diff(groups, prepend=-1))
        sizes = np.diff(begins, append=len(groups))
        held = np.arange(len(groups)) - np.repeat(begins, sizes) < self.size
        self._group, self._key = groups[held], numbers[held]
        self._location = np.concatenate([self._location, locations])[order][held]
        full = sizes >= self.size
        self._highest[groups[begins[full]]] = numbers[begins[full] + self.size - 1]

    def sample(self, groups: Sequence[int]) -> list[RowLocation]:
        """The first `size` rows by key of these groups together, fewer where there are fewer."""
        return list(self.keys(groups))

    def keys(self, groups: Sequence[int]) -> dict[RowLocation, float]:
        """The same rows with their keys, in order."""
        among = np.flatnonzero(np.isin(self._group, list(groups)))
        chosen = among[np.argsort(self._key[among], kind="stable")][: self.size]
        locations = [RowLocation(*row) for row in self._location[chosen].tolist()]
        return dict(zip(locations, self._key[chosen].tolist(), strict=True))
