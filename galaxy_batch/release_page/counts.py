"""Counts of a release, from one pass over the catalog's files.

One row group of the counted columns is in memory at a time. What is kept does not grow with the catalog: tens of
megabytes of sky cells, kilobytes of other counts, and the locations of the sampled rows.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.catalog.read_files import row_groups
from galaxy_batch.decision_tree import Question
from galaxy_batch.release_page.answers import AnswerCounts
from galaxy_batch.release_page.sampling import GroupSampler, RowLocation
from galaxy_batch.rows import ReviewFlag, Status
from galaxy_batch.runtime.progress import with_progress
from galaxy_batch.sky.healpix import BASE_PIXELS

__all__ = ["BINS", "SHOWN_FLAGS", "SKY_ORDER", "ReleaseCounts", "count_release", "mapped_class"]

BINS = 200
"""Equal bins of confidence from 0 to 1."""
SKY_ORDER = 9
"""HEALPix order of the counted sky cells, 7 arcminutes wide."""
_NO_GALAXY = (ReviewFlag.REPEATED_IMAGE, ReviewFlag.BLANK)
SHOWN_FLAGS = (
    *_NO_GALAXY,
    *(f for f in ReviewFlag if f.about_cutout and f not in (*_NO_GALAXY, ReviewFlag.UNREADABLE)),
)
"""Flags on the cutout of a classified row; a row with several is sampled for the first of them."""

_COLUMNS = ["predicted_class", "confidence", "review_flags", "status", "_healpix_29"]
_NOT_ON_CUTOUT = sum(flag for flag in ReviewFlag if not flag.about_cutout)
_FAILURES = [str(status) for status in Status if status != Status.OK]

Ints = npt.NDArray[np.int64]


@dataclass
class ReleaseCounts:
    """Counts of a release; arrays by class are in the order of the checkpoint's classes."""

    classes: tuple[str, ...]
    seed: int
    """Of the sample."""
    sample_rows: int
    """Rows sampled of each kind."""
    questions: tuple[Question, ...] = ()
    """Of the decision tree, in the catalog."""
    rows: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    masks: Counter[int] = field(default_factory=Counter)
    """Rows by value of `review_flags`."""

    def __post_init__(self) -> None:
        shape = (len(self.classes), BINS)
        self.classified: Ints = np.zeros(shape, np.int64)
        """Classified rows by class and bin of confidence."""
        self.confidence_sum = np.zeros(shape)
        """Sum of their confidences."""
        self.unflagged: Ints = np.zeros(shape, np.int64)
        """Classified rows without a review flag."""
        self.unflagged_sum = np.zeros(shape)
        """Sum of their confidences."""
        self.clean: Ints = np.zeros(shape, np.int64)
        """Classified rows without a flag on the cutout."""
        cells = BASE_PIXELS << 2 * SKY_ORDER
        self.sky = np.zeros(cells, np.int32)
        """Rows in each sky cell."""
        self.sky_classified = np.zeros(cells, np.int32)
        """Classified rows whose cutout is neither blank nor repeated."""
        self.sky_of_class = np.zeros(cells, np.int32)
        """Those of `mapped_class`."""
        groups = shape[0] * (BINS + len(SHOWN_FLAGS)) + len(_FAILURES)
        self.sampler = GroupSampler(groups, self.sample_rows, self.seed)
        self.answers = AnswerCounts(self.questions, self.sample_rows)

    def flagged(self, flag: ReviewFlag | None = None, alone: bool = False) -> int:
        """Rows with this flag, or with any flag; `alone`: and with no other."""
        if flag is None:
            return sum(count for mask, count in self.masks.items() if mask)
        return sum(count for mask, count in self.masks.items() if mask & flag and not (alone and mask != flag))

    @property
    def failed(self) -> int:
        """Rows without a class."""
        return self.rows - int(self.classified.sum())

    def confident_of(self, label: int) -> list[RowLocation]:
        """Sample of the most confident tenth of a class, of the clean rows."""
        return self._from_tenth(label, range(BINS - 1, -1, -1))

    def uncertain_of(self, label: int) -> list[RowLocation]:
        """Sample of the least confident tenth of a class, of the clean rows."""
        shown = set(self.confident_of(label))
        return [location for location in self._from_tenth(label, range(BINS)) if location not in shown]

    def flagged_of(self, label: int) -> list[RowLocation]:
        """Sample of the rows of a class with a flag on the cutout, from each flag in turn."""
        first = len(self.classes) * BINS + label * len(SHOWN_FLAGS)
        by_flag = [self.sampler.sample([first + number]) for number in range(len(SHOWN_FLAGS))]
        turns = [rows[turn] for turn in range(self.sample_rows) for rows in by_flag if turn < len(rows)]
        return turns[: self.sample_rows]

    def failed_of(self, status: str) -> list[RowLocation]:
        """Sample of the rows with a status that is not ok."""
        first = len(self.classes) * (BINS + len(SHOWN_FLAGS))
        return self.sampler.sample([first + _FAILURES.index(status)])

    def _from_tenth(self, label: int, bins: range) -> list[RowLocation]:
        """Sample of as many bins, in this order, as it takes for a tenth of the class."""
        wanted, rows, groups = math.ceil(self.clean[label].sum() / 10), 0, []
        for number in bins:
            if rows >= wanted:
                break
            rows += int(self.clean[label, number])
            groups.append(label * BINS + number)
        return self.sampler.sample(groups)

    def add(self, rows: pa.Table, file: int, row_group: int) -> None:
        """Count a row group. Reads the columns of `count_release`."""
        labels = pc.index_in(rows["predicted_class"], value_set=pa.array(self.classes, pa.string()))
        label = labels.fill_null(-1).to_numpy().astype(np.int64)
        flags = rows["review_flags"].to_numpy()
        self.rows += len(rows)
        self.statuses.update({e["values"]: e["counts"] for e in pc.value_counts(rows["status"]).to_pylist()})
        masks, counts = np.unique(flags, return_counts=True)
        self.masks.update(dict(zip(masks.tolist(), counts.tolist(), strict=True)))
        classified, unflagged, flagged_cutout = label >= 0, flags == 0, (flags & ~_NOT_ON_CUTOUT) != 0
        confidence = rows["confidence"].fill_null(0).to_numpy().astype(np.float64)
        group = label * BINS + np.clip((confidence * BINS).astype(np.int64), 0, BINS - 1)
        for where, counted, summed in (
            (classified, self.classified, self.confidence_sum),
            (classified & unflagged, self.unflagged, self.unflagged_sum),
            (classified & ~flagged_cutout, self.clean, None),
        ):
            counted += _by_group(group[where], None, counted.shape)  # noqa: PLW2901 - adds to the array itself
            if summed is not None:
                summed += _by_group(group[where], confidence[where], summed.shape)  # noqa: PLW2901
        self._add_sky(rows["_healpix_29"], label, classified & ((flags & sum(_NO_GALAXY)) == 0))
        clean = classified & ~flagged_cutout
        self.answers.add(rows, clean, file, row_group)
        group = np.where(clean, group, -1)
        self._add_to_sample(group, label, flags, rows["status"], (file, row_group))

    def _add_sky(self, pixels: pa.ChunkedArray, label: Ints, classified: npt.NDArray[np.bool_]) -> None:
        placed = pixels.is_valid().to_numpy()
        cells = pixels.drop_null().to_numpy().astype(np.int64) >> 2 * (29 - SKY_ORDER)
        classified, of_class = classified[placed], label[placed] == self.classes.index(mapped_class(self.classes))
        for sky, where in (
            (self.sky, slice(None)),
            (self.sky_classified, classified),
            (self.sky_of_class, classified & of_class),
        ):
            occupied, counts = np.unique(cells[where], return_counts=True)
            sky[occupied] += counts.astype(np.int32)

    def _add_to_sample(
        self, group: Ints, label: Ints, flags: npt.NDArray[np.int32], status: pa.ChunkedArray, location: tuple[int, int]
    ) -> None:
        """Offer the rows to the sampler, each in the group of its class and confidence, flag, or status."""
        first = len(self.classes) * BINS
        for number, flag in reversed(list(enumerate(SHOWN_FLAGS))):
            where = (label >= 0) & ((flags & flag) != 0)
            group = np.where(where, first + label * len(SHOWN_FLAGS) + number, group)
        first += len(self.classes) * len(SHOWN_FLAGS)
        failure = pc.index_in(status, value_set=pa.array(_FAILURES)).fill_null(-1).to_numpy().astype(np.int64)
        self.sampler.add(np.where(failure >= 0, first + failure, group), *location)


def _by_group(group: Ints, weights: npt.NDArray[np.float64] | None, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return np.bincount(group, weights, math.prod(shape)).reshape(shape)


def mapped_class(classes: tuple[str, ...]) -> str:
    """The class whose share is mapped on the sky: `featured`, or else the last class."""
    return "featured" if "featured" in classes else classes[-1]


def count_release(catalog_uri: str, manifest: CatalogManifest, sample_rows: int, seed: int) -> ReleaseCounts:
    """Count a published catalog, file by file.

    Args:
        catalog_uri: its folder.
        manifest: of the catalog.
        sample_rows: rows to sample of each kind, for the contact sheets.
        seed: of the sample.

    Reads `predicted_class`, `confidence`, `review_flags`, `status`, `_healpix_29`, and the fractions of the questions.
    """
    counts = ReleaseCounts(manifest.classes, seed, sample_rows, manifest.questions)
    columns = [*_COLUMNS, *counts.answers.columns]
    files = with_progress(manifest.files, "counting", manifest.rows, lambda file: file.rows)
    for number, entry in enumerate(files):
        for row_group, rows in row_groups(catalog_uri, entry, columns):
            counts.add(rows, number, row_group)
    return counts
