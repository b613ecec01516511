"""Drawing lots: a few rows of each of many groups, evenly at random, from rows that are seen once."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["GroupSampler"]

Ints = npt.NDArray[np.int64]


class GroupSampler:
    """The rows with the lowest lots of each group; every row of a group has the same chance.

    Since each row's lot is its own, the lowest of several groups together are among the lowest of each: a union of
    groups can be drawn from afterwards.
    """

    def __init__(self, groups: int, drawn: int, seed: int) -> None:
        self.drawn, self.seed = drawn, seed
        self._group: Ints = np.empty(0, np.int64)
        self._lot = np.empty(0)
        self._place: Ints = np.empty((0, 3), np.int64)
        self._highest = np.full(groups, np.inf)

    def add(self, group: Ints, file: int, row_group: int) -> None:
        """Let rows take part: their groups ``(N,)``, negative for none, and where they are."""
        lot = np.random.default_rng((self.seed, file, row_group)).random(len(group))
        rows = np.flatnonzero(group >= 0)
        rows = rows[lot[rows] < self._highest[group[rows]]]
        if not len(rows) or not self.drawn:
            return
        places = np.stack([np.full(len(rows), file), np.full(len(rows), row_group), rows], axis=1)
        groups, lots = np.concatenate([self._group, group[rows]]), np.concatenate([self._lot, lot[rows]])
        order = np.lexsort((lots, groups))
        groups, lots = groups[order], lots[order]
        begins = np.flatnonzero(np.diff(groups, prepend=-1))
        sizes = np.diff(begins, append=len(groups))
        held = np.arange(len(groups)) - np.repeat(begins, sizes) < self.drawn
        self._group, self._lot = groups[held], lots[held]
        self._place = np.concatenate([self._place, places])[order][held]
        full = sizes >= self.drawn
        self._highest[groups[begins[full]]] = lots[begins[full] + self.drawn - 1]

    def of(self, groups: Sequence[int]) -> list[tuple[int, int, int]]:
        """File, row group and row of the rows drawn from some groups together, in the order of their lots."""
        among = np.flatnonzero(np.isin(self._group, list(groups)))
        chosen = among[np.argsort(self._lot[among], kind="stable")][: self.drawn]
        return [(int(f), int(g), int(r)) for f, g, r in self._place[chosen]]
