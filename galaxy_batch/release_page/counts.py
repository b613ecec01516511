"""What the page of a release shows, counted in one walk over the catalog's files.

One row group is held at a time, of the few columns that are counted. What is kept does not grow with the catalog: tens
of megabytes for the sky, kilobytes for the rest, and a few rows drawn by lot for the contact sheets.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.release_page.sampling import GroupSampler
from galaxy_batch.rows import ReviewFlag, Status
from galaxy_batch.sky.healpix import BASE_PIXELS
from galaxy_batch.storage.files import join, open_parquet

__all__ = ["BINS", "SHOWN_FLAGS", "SKY_ORDER", "Place", "ReleaseCounts", "count_release", "mapped_class", "share"]

BINS = 200
"""Of confidence, equal ones from 0 to 1."""
SKY_ORDER = 9
"""Of the cells of the sky that are counted, 7 arcminutes wide."""
SHOWN_FLAGS = (ReviewFlag.REPEATED_IMAGE, ReviewFlag.BLANK, ReviewFlag.UNFAMILIAR, ReviewFlag.UNSTABLE)
"""Flags of rows with a class that say something of the cutout; a row with several is drawn for the first of them."""

_COLUMNS = ["predicted_class", "confidence", "review_flags", "status", "_healpix_29"]
_SPOILED = int(ReviewFlag.REPEATED_IMAGE | ReviewFlag.BLANK)
_ASIDE = int(ReviewFlag.LOW_CONFIDENCE | ReviewFlag.NO_POSITION | ReviewFlag.AUDIT)
_FAILURES = [str(status) for status in Status if status != Status.OK]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Place:
    """Where a row of a catalog is."""

    file: int
    """Of the manifest's `files`."""
    row_group: int
    row: int


@dataclass
class ReleaseCounts:
    """Counts of a release; arrays by class are in the order of the checkpoint's classes."""

    classes: tuple[str, ...]
    seed: int
    """Of the lot."""
    drawn: int
    """Rows drawn of each kind."""
    rows: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    masks: Counter[int] = field(default_factory=Counter)
    """Rows by value of review_flags."""

    def __post_init__(self) -> None:
        shape = (len(self.classes), BINS)
        self.confident: Ints = np.zeros(shape, np.int64)
        """Rows with a class, by class and bin of confidence; and the sum of their confidences."""
        self.confidence_sum = np.zeros(shape)
        self.kept: Ints = np.zeros(shape, np.int64)
        """Of these the rows that need no review."""
        self.kept_sum = np.zeros(shape)
        self.plain: Ints = np.zeros(shape, np.int64)
        """Of the rows with a class those whose cutout no flag doubts."""
        cells = BASE_PIXELS << 2 * SKY_ORDER
        self.sky = np.zeros(cells, np.int32)
        """Rows in each cell of the sky."""
        self.sky_judged = np.zeros(cells, np.int32)
        """Of these the ones with a class, of a cutout that is neither blank nor repeated."""
        self.sky_mapped = np.zeros(cells, np.int32)
        """Of these the ones of `mapped_class`."""
        self.lot = GroupSampler(shape[0] * (BINS + len(SHOWN_FLAGS)) + len(_FAILURES), self.drawn, self.seed)

    def flagged(self, flag: ReviewFlag | None = None, alone: bool = False) -> int:
        """Rows that have a flag, or any flag; or have no other."""
        if flag is None:
            return sum(count for mask, count in self.masks.items() if mask)
        return sum(count for mask, count in self.masks.items() if mask & flag and not (alone and mask != flag))

    @property
    def failed(self) -> int:
        """Rows without a class."""
        return self.rows - int(self.confident.sum())

    def confident_of(self, label: int) -> list[Place]:
        """Rows drawn from the most confident tenth of a class, of those whose cutout no flag doubts."""
        return self._from_tenth(label, range(BINS - 1, -1, -1))

    def uncertain_of(self, label: int) -> list[Place]:
        """Rows drawn from the least confident tenth of a class, of those whose cutout no flag doubts."""
        shown = set(self.confident_of(label))
        return [place for place in self._from_tenth(label, range(BINS)) if place not in shown]

    def flagged_of(self, label: int) -> list[Place]:
        """Rows of a class drawn from those whose cutout a flag doubts, in turn from each flag."""
        first = len(self.classes) * BINS + label * len(SHOWN_FLAGS)
        by_flag = [self.lot.of([first + place]) for place in range(len(SHOWN_FLAGS))]
        turns = [rows[turn] for turn in range(self.drawn) for rows in by_flag if turn < len(rows)]
        return [Place(*row) for row in turns[: self.drawn]]

    def failed_of(self, status: str) -> list[Place]:
        """Rows drawn from those with a status that is not ok."""
        first = len(self.classes) * (BINS + len(SHOWN_FLAGS))
        return [Place(*row) for row in self.lot.of([first + _FAILURES.index(status)])]

    def _from_tenth(self, label: int, bins: range) -> list[Place]:
        """From as many bins, in this order, as it takes for a tenth of the class."""
        wanted, have, taken = math.ceil(self.plain[label].sum() / 10), 0, []
        for place in bins:
            if have >= wanted:
                break
            have += int(self.plain[label, place])
            taken.append(label * BINS + place)
        return [Place(*row) for row in self.lot.of(taken)]

    def add(self, rows: pa.Table, file: int, row_group: int) -> None:
        """Count a row group. Reads the columns of `count_release`."""
        labels = pc.index_in(rows["predicted_class"], value_set=pa.array(self.classes, pa.string()))
        label = labels.fill_null(-1).to_numpy().astype(np.int64)
        flags = rows["review_flags"].to_numpy()
        self.rows += len(rows)
        self.statuses.update({e["values"]: e["counts"] for e in pc.value_counts(rows["status"]).to_pylist()})
        masks, counts = np.unique(flags, return_counts=True)
        self.masks.update(dict(zip(masks.tolist(), counts.tolist(), strict=True)))
        has = label >= 0
        confidence = rows["confidence"].fill_null(0).to_numpy().astype(np.float64)
        group = label * BINS + np.clip((confidence * BINS).astype(np.int64), 0, BINS - 1)
        doubted = (flags & ~_ASIDE) != 0
        for where, counted in ((has, self.confident), (has & (flags == 0), self.kept), (has & ~doubted, self.plain)):
            counted += _by_group(group[where], None, counted.shape)  # noqa: PLW2901 - adds to the array itself
        for where, summed in ((has, self.confidence_sum), (has & (flags == 0), self.kept_sum)):
            summed += _by_group(group[where], confidence[where], summed.shape)  # noqa: PLW2901
        self._add_sky(rows["_healpix_29"], label, has & ((flags & _SPOILED) == 0))
        self._draw(np.where(has & ~doubted, group, -1), label, flags, rows["status"], (file, row_group))

    def _add_sky(self, pixels: pa.ChunkedArray, label: Ints, judged: npt.NDArray[np.bool_]) -> None:
        placed = pixels.is_valid().to_numpy()
        cells = pixels.drop_null().to_numpy().astype(np.int64) >> 2 * (29 - SKY_ORDER)
        judged, mapped = judged[placed], label[placed] == self.classes.index(mapped_class(self.classes))
        for sky, where in ((self.sky, slice(None)), (self.sky_judged, judged), (self.sky_mapped, judged & mapped)):
            found, counts = np.unique(cells[where], return_counts=True)
            sky[found] += counts.astype(np.int32)

    def _draw(
        self, group: Ints, label: Ints, flags: npt.NDArray[np.int32], status: pa.ChunkedArray, place: tuple[int, int]
    ) -> None:
        """Let the rows take part in the lot: each in the group of its class and confidence, flag, or status."""
        first = len(self.classes) * BINS
        for number, flag in reversed(list(enumerate(SHOWN_FLAGS))):
            where = (label >= 0) & ((flags & flag) != 0)
            group = np.where(where, first + label * len(SHOWN_FLAGS) + number, group)
        first += len(self.classes) * len(SHOWN_FLAGS)
        failure = pc.index_in(status, value_set=pa.array(_FAILURES)).fill_null(-1).to_numpy().astype(np.int64)
        self.lot.add(np.where(failure >= 0, first + failure, group), *place)


def _by_group(group: Ints, weights: npt.NDArray[np.float64] | None, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return np.bincount(group, weights, math.prod(shape)).reshape(shape)


def share(part: float, whole: float) -> float:
    """A part of a whole; nan of nothing."""
    return float(part / whole) if whole else math.nan


def mapped_class(classes: tuple[str, ...]) -> str:
    """The class whose share is drawn on the sky: `featured`, or the last where no class is called so."""
    return "featured" if "featured" in classes else classes[-1]


def count_release(catalog_uri: str, manifest: Mapping[str, Any], drawn: int, seed: int) -> ReleaseCounts:
    """Count a published catalog, file by file.

    Args:
        catalog_uri: its folder.
        manifest: the content of its `manifest.json`.
        drawn: rows to draw of each kind, for the contact sheets.
        seed: another seed draws other rows.

    Reads `predicted_class`, `confidence`, `review_flags`, `status`, `_healpix_29`.
    """
    counts = ReleaseCounts(tuple(manifest["classes"]), seed, drawn)
    for number, entry in enumerate(manifest["files"]):
        with open_parquet(join(catalog_uri, entry["path"])) as parquet:
            for row_group in range(parquet.num_row_groups):
                counts.add(parquet.read_row_group(row_group, _COLUMNS), number, row_group)
    return counts
